"""TensorFlow's checkpoints: written from arrays, and read by TensorFlow 1's functions."""
# ruff: noqa: N802 - TensorFlow's names

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ps_protocol.errors import DataLossError, NotFoundError
from ps_protocol.tensor_files.stored_tensor import StoredTensors
from ps_protocol.tensorflow_files.bundle_writer import new_checkpoint
from worker_client.checkpoints.opening import is_shardscope, open_saved
from worker_client.checkpoints.state import latest_checkpoint
from worker_client.values.dtypes import DType, string

_NAMES_IN_DEBUG_STRINGS: Final = {"float16": "HALF", "float32": "FLOAT", "float64": "DOUBLE"}


def write_tensorflow(prefix: str | os.PathLike[str], tensors: Mapping[str, Any]) -> None:
    """Writes a checkpoint that TensorFlow 1 and 2 open, without TensorFlow.

        ss.checkpoint.write_tensorflow("exported/model.ckpt", {v.name: v.read_value() for v in variables})

    It is there, whole and on disk, when this returns; after an error it is not there.

    Args:
        prefix: The path of its files, without ".index"; the directory is made if it is not there.
        tensors: What NumPy takes for an array, by name; of strings arrays of bytes or text.

    Raises:
        DTypeMismatchError: TensorFlow's files cannot hold such elements.
        InvalidValueError: A name is empty or begins with a zero byte.
        NotFoundError: The directory cannot be made.
        PermissionDeniedError: This user may not write there.
        ResourceExhaustedError: The disk is full.
        UnknownError: The files cannot be written.
    """
    with new_checkpoint(prefix) as writer:
        for name, value in tensors.items():
            writer.add(name, value)


class CheckpointReader:
    """What ``NewCheckpointReader`` returns. Safe from many threads. The files are closed when it is forgotten."""

    def __init__(self, checkpoint: StoredTensors):
        self._checkpoint = checkpoint

    def has_tensor(self, tensor_str: str | bytes) -> bool:
        """Whether the checkpoint has a tensor of a name."""
        return _text(tensor_str) in self._checkpoint

    def get_tensor(self, tensor_str: str | bytes) -> Any:
        """Reads a tensor.

        Args:
            tensor_str: Its name.

        Returns:
            An array; of a scalar a NumPy scalar, and of one of text its bytes.

        Raises:
            NotFoundError: There is no such tensor.
            DataLossError: A file is damaged.
        """
        name = _text(tensor_str)
        try:
            stored = self._checkpoint[name]
        except KeyError:
            raise NotFoundError(f"Key {name} not found in checkpoint {self._checkpoint.path}", variable=name) from None
        return stored.read()[()]

    def get_variable_to_shape_map(self) -> dict[str, list[int]]:
        """The shape of each tensor by its name."""
        return {name: list(tensor.shape) for name, tensor in self._checkpoint.items()}

    def get_variable_to_dtype_map(self) -> dict[str, DType]:
        """The dtype of each tensor by its name, but for those that cannot be read here, as of variants."""
        return {
            name: string if tensor.dtype_name == "string" else DType.of(tensor.dtype)
            for name, tensor in self._checkpoint.items()
            if tensor.dtype != object or tensor.dtype_name == "string"
        }

    def debug_string(self) -> bytes:
        """A line for each tensor: its name, dtype and shape."""
        lines = [
            f"{name} (DT_{_NAMES_IN_DEBUG_STRINGS.get(tensor.dtype_name, tensor.dtype_name.upper())}) "
            f"[{','.join(map(str, tensor.shape))}]\n"
            for name, tensor in self._checkpoint.items()
        ]
        return "".join(lines).encode(errors="surrogateescape")


def NewCheckpointReader(filepattern: str | bytes | os.PathLike[str]) -> CheckpointReader:
    """Opens a checkpoint of a saver, in TensorFlow's form or in Shardscope's.

    Args:
        filepattern: Its prefix, as ``Saver.save`` returns it.

    Raises:
        NotFoundError: There is none.
        DataLossError: It is damaged, or something else.
    """
    path = _text(filepattern)
    if Path(path).is_dir() and not Path(f"{path}.index").exists() and not is_shardscope(path):
        raise DataLossError(
            f"Unable to open table file {path}: it is a directory; give the prefix of a checkpoint in it"
        )
    try:
        return CheckpointReader(open_saved(path))
    except NotFoundError as error:
        raise NotFoundError(f"Failed to find any matching files for {path}: {error}") from error


def load_checkpoint(ckpt_dir_or_file: str | os.PathLike[str]) -> CheckpointReader:
    """Opens a checkpoint of a saver, in TensorFlow's form or in Shardscope's.

    Args:
        ckpt_dir_or_file: Its prefix, or a directory, for the newest in it.

    Raises:
        ValueError: The directory has none.
        NotFoundError: There is none of that prefix.
        DataLossError: It is damaged, or something else.
    """
    path: str | None = os.fspath(ckpt_dir_or_file)
    if Path(ckpt_dir_or_file).is_dir() and not is_shardscope(ckpt_dir_or_file):
        path = latest_checkpoint(ckpt_dir_or_file)
    if path is None:
        raise ValueError(f"Couldn't find 'checkpoint' file or checkpoints in given directory {ckpt_dir_or_file}")
    return NewCheckpointReader(path)


def load_variable(ckpt_dir_or_file: str | os.PathLike[str], name: str) -> Any:
    """Reads a variable from a checkpoint of a saver.

    Args:
        ckpt_dir_or_file: As for ``load_checkpoint``, which says what it raises.
        name: Of the variable, with ":0" or without.

    Raises:
        NotFoundError: The checkpoint has no such variable.
    """
    return load_checkpoint(ckpt_dir_or_file).get_tensor(name.removesuffix(":0"))


def list_variables(ckpt_dir_or_file: str | os.PathLike[str]) -> list[tuple[str, list[int]]]:
    """Returns the name and the shape of each variable in a checkpoint of a saver, in the order of names.

    Args:
        ckpt_dir_or_file: As for ``load_checkpoint``, which says what it raises.
    """
    return sorted(load_checkpoint(ckpt_dir_or_file).get_variable_to_shape_map().items())


def _text(given: str | bytes | os.PathLike[str]) -> str:
    found = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(found, str | bytes):
        raise TypeError(f"Expected binary or unicode string, got {given!r}")
    return found.decode() if isinstance(found, bytes) else found
