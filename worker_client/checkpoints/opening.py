"""Opens a checkpoint of any form, by what is at a path."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from ps_protocol.checkpoints.locations import open_store
from ps_protocol.checkpoints.manifest import MANIFEST_FILE
from ps_protocol.checkpoints.urls import absolute, is_url
from ps_protocol.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnimplementedError,
)
from ps_protocol.tensor_files import npz, safetensors
from ps_protocol.tensor_files.checkpoint_file import local_path
from ps_protocol.tensor_files.stored_tensor import StoredTensor, StoredTensors
from ps_protocol.tensorflow_files.bundle import index_path
from ps_protocol.tensorflow_files.checkpoint import OBJECT_GRAPH_KEY, TensorFlowCheckpoint
from ps_protocol.tensorflow_files.state_file import STATE_FILE_NAME, read_state
from worker_client.checkpoints.contents import ShardscopeCheckpoint, open_shardscope

_Path: TypeAlias = str | os.PathLike[str]
_MOST_NAMED: Final = 5
_PICKLES: Final = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_PYTORCH_DATA: Final = "data.pkl"
_HDF5: Final = b"\x89H"
_KERAS_WEIGHTS: Final = "model.weights.h5"
_OF_SAVED_MODELS: Final = ("variables/variables.index", "variables.index")


def open_safetensors(path: _Path) -> StoredTensors:
    """Opens a safetensors file, an index of several, or a folder with either.

    Raises:
        NotFoundError: There is none.
        DataLossError: A file is damaged.
    """
    place = Path(path)
    found = safetensors.find_safetensors(place) if place.is_dir() else place
    if found is None:
        raise NotFoundError(f"the folder {place} has no file *{safetensors.SUFFIX}, and no *{safetensors.INDEX_SUFFIX}")
    return safetensors.SafetensorsCheckpoint(found)


FORMS: Final[Mapping[str, Callable[[_Path], StoredTensors]]] = {
    "shardscope": open_shardscope,
    "tensorflow": TensorFlowCheckpoint,
    "safetensors": open_safetensors,
    "pytorch": open_safetensors,
    "npz": npz.NpzCheckpoint,
}
"""What opens a checkpoint of each form."""


def open_checkpoint(path: _Path, *, format: str | None = None) -> StoredTensors:  # noqa: A002 - as users say it
    """Opens a checkpoint of any form, without a cluster.

        with ss.checkpoint.open("/shared/run-7") as checkpoint:
            for name, tensor in checkpoint.items():
                print(name, tensor.dtype, tensor.shape)
            some = checkpoint["embeddings"][1000:2000]

    Opening reads little, however large the checkpoint is; a tensor is read when it is asked for, and compared with its
    checksum where its form has one. Partitioned variables are whole ones here.

    Args:
        path: A checkpoint of Shardscope's, or a folder of them for the newest; what ``open_tensorflow`` takes; a
            safetensors file, an index of several, or a folder with either; an npz file.
        format: "shardscope", "tensorflow", "safetensors", "pytorch" or "npz"; found out if not given. "pytorch" is
            safetensors.

    Returns:
        A mapping of names to tensors, to be closed; in a ``with`` block it is closed at the end.

    Raises:
        NotFoundError: There is no checkpoint; says what was looked for.
        InvalidArgumentError: The form is unknown.
        DataLossError: A file is damaged, or ends too early.
        FailedPreconditionError: The manifest of a checkpoint of Shardscope's is damaged or newer.
        UnimplementedError: It has a form that only other programs can read.
    """
    if format is not None:
        return FORMS[check_form(format, FORMS)](path)
    if os.fspath(path).startswith("file://"):
        path = local_path(path)
    place = Path(path)
    if is_url(os.fspath(path)) or is_shardscope(place):
        return open_shardscope(path)
    if index_path(path).is_file():
        return TensorFlowCheckpoint(path)
    if place.is_dir():
        return _open_folder(place)
    if place.is_file():
        return _open_file(place)
    try:
        return TensorFlowCheckpoint(path)  # a pattern; or it says what is missing
    except NotFoundError as error:
        beside = open_store(absolute(place.parent)).names()
        if not beside:
            raise
        raise NotFoundError(f"{error.message}; {place.parent} has {', '.join(beside[-_MOST_NAMED:])}") from error


def open_saved(path: _Path) -> StoredTensors:
    """Opens what a saver has written: a checkpoint of Shardscope's, or of TensorFlow's; of a folder the newest in it.

    Raises:
        NotFoundError: There is none of that path.
        DataLossError: A file is damaged.
        FailedPreconditionError: The manifest of a checkpoint of Shardscope's is damaged or newer.
    """
    text = local_path(path)
    if is_shardscope(text):
        return open_shardscope(text)
    if Path(text).is_dir() and not index_path(text).is_file():
        return _open_folder(Path(text))
    return TensorFlowCheckpoint(path)


def check_form(form: str, known: Mapping[str, object]) -> str:
    """Returns the name of a form; InvalidArgumentError that lists those that are known if it is none."""
    if form not in known:
        raise InvalidArgumentError(f"{form!r} is no form of checkpoints; known are {', '.join(known)}")
    return form


def variables_of(checkpoint: StoredTensors) -> dict[str, StoredTensor]:
    """Returns the tensors of a checkpoint by the names of variables.

    Those are the keys; of objects of TensorFlow 2 their full names, each variable once, without what describes the
    objects.
    """
    if not isinstance(checkpoint, TensorFlowCheckpoint):
        return dict(checkpoint)
    by_key = {key: name for name, key in checkpoint.full_names.items()}
    others = {OBJECT_GRAPH_KEY, *checkpoint.copies}
    return {by_key.get(key, key): tensor for key, tensor in checkpoint.items() if key not in others}


def is_shardscope(path: _Path) -> bool:
    """Whether there is a checkpoint of Shardscope's at a path itself."""
    return Path(path, MANIFEST_FILE).is_file()


def newest_shardscope(directory: Path) -> Path | None:
    """Returns the checkpoint of Shardscope's that the file "checkpoint" of a directory names; None if it names none.

    Raises:
        DataLossError: The file is no such file.
        InvalidValueError: It names no newest checkpoint.
    """
    state = read_state(directory)
    if state is None:
        return None
    newest = Path(state.model_checkpoint_path)
    for path in (newest, directory / newest.name):  # where it is if the directory was moved
        if is_shardscope(path):
            return path
    return None


def _open_folder(folder: Path) -> StoredTensors:
    named = newest_shardscope(folder)
    if named is not None:
        return open_shardscope(named)
    try:  # first, as ``restore`` does, though what was exported may lie beside
        return ShardscopeCheckpoint(absolute(folder))
    except NotFoundError as error:
        not_found = error
    if (folder / STATE_FILE_NAME).is_file() or [each for each in _OF_SAVED_MODELS if (folder / each).is_file()]:
        return TensorFlowCheckpoint(folder)
    found = safetensors.find_safetensors(folder)
    if found is not None:
        return safetensors.SafetensorsCheckpoint(found)
    raise NotFoundError(
        f"the folder {folder} has no checkpoint: there is no {MANIFEST_FILE} of Shardscope's in it or in a folder "
        f"of it, no file {STATE_FILE_NAME!r} or variables of TensorFlow's, and no *{safetensors.SUFFIX}"
    ) from not_found


def _open_file(path: Path) -> StoredTensors:
    if path.name == MANIFEST_FILE:
        return open_shardscope(path.parent)
    if path.name.endswith((safetensors.SUFFIX, safetensors.INDEX_SUFFIX)):
        return safetensors.SafetensorsCheckpoint(path)
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except PermissionError as error:
        raise PermissionDeniedError(f"{path} may not be read by this user") from error
    if start in _PICKLES or _has_member(path, _PYTORCH_DATA):
        raise UnimplementedError(
            f"{path} is a pickle, which is read by running the code in it: not here. In PyTorch, save the state_dict "
            f"as safetensors: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        )
    if start == _HDF5 or _has_member(path, _KERAS_WEIGHTS):
        raise UnimplementedError(
            f"{path} is HDF5, as Keras saves models and weights, which is not read here. In Keras, write a SavedModel: "
            f"model.export('folder')"
        )
    if path.name.endswith(npz.SUFFIX) or zipfile.is_zipfile(path):
        return npz.NpzCheckpoint(path)
    try:
        return TensorFlowCheckpoint(path)
    except DataLossError as error:
        raise DataLossError(
            f"{path} has none of the forms that are known, which are {', '.join(FORMS)}; or it is damaged: "
            f"{error.message}"
        ) from error


def _has_member(path: Path, name: str) -> bool:
    """Whether a file is a zip archive with a member of a name, in whatever folder."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return bool([each for each in archive.namelist() if each.rpartition("/")[2] == name])
    except (zipfile.BadZipFile, OSError, ValueError):
        return False
