"""Checkpoints where they lie, without a cluster: ``ss.checkpoint.list(path)``, ``show``, ``verify``.

``ss.save`` makes them and ``ss.restore`` brings them back.
"""

from worker_client.checkpoints.inspection import CheckpointEntry, CheckpointVariable
from worker_client.checkpoints.inspection import list_checkpoints as list  # noqa: A004 - as ss.checkpoint.list
from worker_client.checkpoints.inspection import show_checkpoint as show
from worker_client.checkpoints.inspection import verify_checkpoint as verify
from worker_client.checkpoints.report import Outcome, RestoredVariable, RestoreReport, SavedCheckpoint

__all__ = [
    "CheckpointEntry",
    "CheckpointVariable",
    "Outcome",
    "RestoreReport",
    "RestoredVariable",
    "SavedCheckpoint",
    "list",
    "show",
    "verify",
]
