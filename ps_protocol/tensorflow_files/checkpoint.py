"""A checkpoint of TensorFlow's as a mapping from names to tensors that are read when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final

from google.protobuf.message import DecodeError

from ps_protocol.errors import DataLossError
from ps_protocol.tensor_files.stored_tensor import StoredTensor, StoredTensors
from ps_protocol.tensorflow_files import checkpoint_pb2
from ps_protocol.tensorflow_files.bundle import Bundle
from ps_protocol.tensorflow_files.places import find_checkpoint
from ps_protocol.tensorflow_files.version1 import Version1

OBJECT_GRAPH_KEY: Final = "_CHECKPOINTABLE_OBJECT_GRAPH"


class TensorFlowCheckpoint(StoredTensors):
    """An open checkpoint. Safe from many threads until it is closed.

    The keys are those that ``tf.train.list_variables`` lists. A checkpoint of TensorFlow 2 calls a variable by the way
    that leads to it, as "layer/kernel/.ATTRIBUTES/VARIABLE_VALUE"; its tensors are found by the full names of the
    variables as well, which ``full_names`` lists.

    What is read of a tensor is checked against its checksum, of some rows the first time with all that is beside them.

    Args:
        path: See ``open_tensorflow``.
        verify: See ``open_tensorflow``.

    Raises:
        NotFoundError: See ``open_tensorflow``.
        DataLossError: See ``open_tensorflow``.
        UnimplementedError: See ``open_tensorflow``.
    """

    form = "TensorFlow"

    def __init__(self, path: str | os.PathLike[str], verify: bool = True):
        found = find_checkpoint(path)
        self.path = os.fspath(path)
        self._files = Version1(found.files) if found.prefix is None else Bundle(found.prefix, verify)
        self._tensors: dict[str, StoredTensor] = {}  # so that what was checked is known the next time

    def __getitem__(self, name: str) -> StoredTensor:
        found = self._found(name)
        if found is None:
            keys = self.keys_of(name)
            raise KeyError(
                f"{name} is the full name of {len(keys)} variables, with the keys {', '.join(keys)}" if keys else name
            )
        return found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._found(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @cached_property
    def full_names(self) -> Mapping[str, str]:
        """The key of each variable of a TensorFlow 2 checkpoint by its full name, as "dense/kernel"; else empty.

        Where several variables have one full name, as those of two models made alike, it is that of none of them;
        ``keys_of`` lists them. Where all that have one name have one content too, they are the same variable: Keras 3
        exports each in two lists.

        Raises:
            DataLossError: What the checkpoint says of its objects is damaged.
        """
        return {name: keys[0] for name, keys in self._keys.items() if len(keys) == 1}

    def keys_of(self, full_name: str) -> Sequence[str]:
        """Returns the keys of all variables of a full name; raises as ``full_names``."""
        return self._keys.get(full_name, ())

    @cached_property
    def copies(self) -> frozenset[str]:
        """The keys of variables that are there under another key, which ``full_names`` has; raises as that."""
        return frozenset([key for keys in self._all_keys.values() for key in keys]) - {
            key for keys in self._keys.values() for key in keys
        }

    @cached_property
    def _keys(self) -> Mapping[str, Sequence[str]]:
        several = [keys for keys in self._all_keys.values() if len(keys) > 1]
        if not [keys for keys in several if not self._have_one_content(keys)]:
            return {name: keys[:1] for name, keys in self._all_keys.items()}
        return self._all_keys  # of two models, in which some variables may well have one content

    def _have_one_content(self, keys: Sequence[str]) -> bool:
        if not isinstance(self._files, Bundle):
            return False
        contents = {self._files.content_of(key) for key in keys}
        return len(contents) == 1 and None not in contents

    @cached_property
    def _all_keys(self) -> Mapping[str, Sequence[str]]:
        stored = self._stored(OBJECT_GRAPH_KEY)
        if stored is None or stored.dtype_name != "string" or stored.shape:
            return {}
        try:
            graph = checkpoint_pb2.ObjectGraph.FromString(stored.read().item())
        except DecodeError as error:
            raise DataLossError(f"the object graph of {self.path} cannot be read") from error
        found: dict[str, dict[str, None]] = {}
        for node in graph.nodes:
            for each in node.attributes:
                if each.full_name:
                    found.setdefault(each.full_name, {})[each.checkpoint_key] = None
        return {name: tuple(keys) for name, keys in found.items()}

    def close(self) -> None:
        self._files.close()

    @cached_property
    def _names(self) -> list[str]:
        return self._files.names()

    def _found(self, name: str) -> StoredTensor | None:
        found = self._stored(name)
        if found is None and name in self.full_names:
            found = self._stored(self.full_names[name])
        return found

    def _stored(self, name: str) -> StoredTensor | None:
        found = self._tensors.get(name)
        if found is None:
            fresh = self._files.tensor(name)
            if fresh is not None:
                found = self._tensors.setdefault(name, fresh)
        return found


def open_tensorflow(path: str | os.PathLike[str], *, verify: bool = True) -> TensorFlowCheckpoint:
    """Opens a checkpoint that TensorFlow 1 or 2 has written, without TensorFlow.

        with ss.checkpoint.open_tensorflow("model.ckpt-1000") as checkpoint:
            for name, tensor in checkpoint.items():
                print(name, tensor.dtype, tensor.shape)
            weights.assign(checkpoint["layer/weights"])
            some = checkpoint["embeddings"][1000:2000]

    Opening reads little, however large the checkpoint is; a tensor is read when it is asked for.

    Args:
        path: What ``Saver.save`` returned; or a directory with checkpoints, for the newest; the directory of a
            SavedModel; an index; a file of version 1, or a pattern of several, as "model.ckpt-?????-of-00002".
        verify: Whether all of a tensor is checked before the first rows of it are given out. Without, rows are read
            unchecked; tensors that are read as a whole are checked all the same.

    Returns:
        A mapping of names to tensors, to be closed; in a ``with`` block it is closed at the end.

    Raises:
        NotFoundError: There is no checkpoint; says what was looked for.
        DataLossError: A file is damaged, or ends too early.
        InvalidValueError: The file "checkpoint" of the directory names none.
        UnimplementedError: It has a form that only TensorFlow can read.
    """
    return TensorFlowCheckpoint(path, verify)
