"""Checkpoints where they lie, without a cluster: ``ss.checkpoint.list(path)``, ``show``, ``verify``, ``open``, ....

``ss.save`` makes them, ``ss.restore`` brings them back. ``export`` and ``import_from`` are for the forms of others:
TensorFlow's, safetensors as PyTorch's, npz. ``open_tensorflow`` and ``write_tensorflow`` are for the files that
TensorFlow saves.
"""

from ps_protocol.checkpoints.retention import Retention
from ps_protocol.tensor_files.stored_tensor import StoredTensor, StoredTensors
from ps_protocol.tensorflow_files.checkpoint import TensorFlowCheckpoint, open_tensorflow
from worker_client.checkpoints.comparison import CheckpointDiff, Difference, DifferentTensor
from worker_client.checkpoints.comparison import diff_checkpoints as diff
from worker_client.checkpoints.contents import ShardscopeCheckpoint
from worker_client.checkpoints.copies import export_checkpoint as export
from worker_client.checkpoints.copies import import_checkpoint as import_from
from worker_client.checkpoints.inspection import CheckpointEntry, CheckpointVariable
from worker_client.checkpoints.inspection import clean_checkpoints as clean
from worker_client.checkpoints.inspection import list_checkpoints as list  # noqa: A004 - as ss.checkpoint.list
from worker_client.checkpoints.inspection import pin_checkpoint as pin
from worker_client.checkpoints.inspection import show_checkpoint as show
from worker_client.checkpoints.inspection import unpin_checkpoint as unpin
from worker_client.checkpoints.inspection import verify_checkpoint as verify
from worker_client.checkpoints.opening import open_checkpoint as open  # noqa: A004 - as ss.checkpoint.open
from worker_client.checkpoints.periodic import PeriodicSaves
from worker_client.checkpoints.report import CopiedCheckpoint, Outcome, RestoredVariable, RestoreReport, SavedCheckpoint
from worker_client.checkpoints.tensorflow import write_tensorflow

__all__ = [
    "CheckpointDiff",
    "CheckpointEntry",
    "CheckpointVariable",
    "CopiedCheckpoint",
    "Difference",
    "DifferentTensor",
    "Outcome",
    "PeriodicSaves",
    "RestoreReport",
    "RestoredVariable",
    "Retention",
    "SavedCheckpoint",
    "ShardscopeCheckpoint",
    "StoredTensor",
    "StoredTensors",
    "TensorFlowCheckpoint",
    "clean",
    "diff",
    "export",
    "import_from",
    "list",
    "open",
    "open_tensorflow",
    "pin",
    "show",
    "unpin",
    "verify",
    "write_tensorflow",
]
