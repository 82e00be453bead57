"""Checkpoints where they lie, without a cluster: ``ss.checkpoint.list(path)``, ``show``, ``verify``, ``pin`` and so on.

``ss.save`` makes them, ``ss.restore`` brings them back. ``open_tensorflow`` and ``write_tensorflow`` are for the files
that TensorFlow saves.
"""

from ps_protocol.checkpoints.retention import Retention
from ps_protocol.tensorflow_files.checkpoint import TensorFlowCheckpoint, open_tensorflow
from worker_client.checkpoints.inspection import CheckpointEntry, CheckpointVariable
from worker_client.checkpoints.inspection import clean_checkpoints as clean
from worker_client.checkpoints.inspection import list_checkpoints as list  # noqa: A004 - as ss.checkpoint.list
from worker_client.checkpoints.inspection import pin_checkpoint as pin
from worker_client.checkpoints.inspection import show_checkpoint as show
from worker_client.checkpoints.inspection import unpin_checkpoint as unpin
from worker_client.checkpoints.inspection import verify_checkpoint as verify
from worker_client.checkpoints.periodic import PeriodicSaves
from worker_client.checkpoints.report import Outcome, RestoredVariable, RestoreReport, SavedCheckpoint
from worker_client.checkpoints.tensorflow import write_tensorflow

__all__ = [
    "CheckpointEntry",
    "CheckpointVariable",
    "Outcome",
    "PeriodicSaves",
    "RestoreReport",
    "RestoredVariable",
    "Retention",
    "SavedCheckpoint",
    "TensorFlowCheckpoint",
    "clean",
    "list",
    "open_tensorflow",
    "pin",
    "show",
    "unpin",
    "verify",
    "write_tensorflow",
]
