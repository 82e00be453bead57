"""Checkpoints where they lie, without a cluster: ``ss.checkpoint.list(path)``, ``show``, ``verify``, ``clean``.

``ss.save`` makes them, ``ss.restore`` brings them back. ``open_tensorflow`` and ``write_tensorflow`` are for the files
that TensorFlow saves.
"""

from ps_protocol.tensorflow_files.checkpoint import TensorFlowCheckpoint, open_tensorflow
from worker_client.checkpoints.inspection import CheckpointEntry, CheckpointVariable
from worker_client.checkpoints.inspection import clean_checkpoints as clean
from worker_client.checkpoints.inspection import list_checkpoints as list  # noqa: A004 - as ss.checkpoint.list
from worker_client.checkpoints.inspection import show_checkpoint as show
from worker_client.checkpoints.inspection import verify_checkpoint as verify
from worker_client.checkpoints.report import Outcome, RestoredVariable, RestoreReport, SavedCheckpoint
from worker_client.checkpoints.tensorflow import write_tensorflow

__all__ = [
    "CheckpointEntry",
    "CheckpointVariable",
    "Outcome",
    "RestoreReport",
    "RestoredVariable",
    "SavedCheckpoint",
    "TensorFlowCheckpoint",
    "clean",
    "list",
    "open_tensorflow",
    "show",
    "verify",
    "write_tensorflow",
]
