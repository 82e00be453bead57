"""Checkpoints in files, also those of TensorFlow; use it as ``ss.checkpoint``."""

from ps_protocol.tensorflow_files.checkpoint import TensorFlowCheckpoint, open_tensorflow
from worker_client.checkpoints.tensorflow import write_tensorflow

__all__ = ["TensorFlowCheckpoint", "open_tensorflow", "write_tensorflow"]
