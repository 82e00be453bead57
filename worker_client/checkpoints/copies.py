"""Writes checkpoints in other forms, from those of any form: ``ss.checkpoint.export`` and ``import_from``.

All goes from a mapping of names to tensors that are read piece by piece to a writer of the form, so that no more of the
values is in memory than some MiB of one, or the rows of one that are larger, or its text.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, SupportsIndex, TypeAlias

from ps_protocol.checkpoints.locations import open_store
from ps_protocol.checkpoints.store import check_name, store_errors
from ps_protocol.checkpoints.urls import absolute
from ps_protocol.errors import InvalidArgumentError, InvalidValueError
from ps_protocol.tensor_files import safetensors
from ps_protocol.tensor_files.new_files import check_free
from ps_protocol.tensor_files.npz import write_npz
from ps_protocol.tensor_files.safetensors_writer import write_safetensors
from ps_protocol.tensor_files.stored_tensor import StoredTensor
from ps_protocol.tensorflow_files.bundle import index_path
from ps_protocol.tensorflow_files.bundle_writer import new_checkpoint
from worker_client.checkpoints.contents import ShardscopeCheckpoint
from worker_client.checkpoints.name_patterns import selected
from worker_client.checkpoints.new_checkpoint import write_checkpoint
from worker_client.checkpoints.opening import check_form, open_checkpoint, variables_of
from worker_client.checkpoints.other_slots import slots_of_tensorflow, without_slots
from worker_client.checkpoints.report import CopiedCheckpoint, ShowProgress
from worker_client.checkpoints.saving import default_name
from worker_client.checkpoints.state import note_newest
from worker_client.graph.naming import check_variable_name

_Tensors: TypeAlias = Mapping[str, StoredTensor]
_Done: TypeAlias = Callable[[int], None]

_NO_VALUE: Final = "it had no value when it was saved"
_SLOT: Final = "slots of optimizers; slots=True, in a shell --slots, takes them too"
_SLOT_OF_OTHERS: Final = "by its name a slot of an optimizer, whose settings are not in such files: it begins anew"

_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)(i?)b?", re.IGNORECASE | re.ASCII)
_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True, slots=True)
class _Target:
    """What an export writes to, and how.

    Attributes:
        path: Where.
        is_folder: Whether that is a folder, or was given with a slash at its end.
        shard_bytes: Most bytes in one file.
        overwrite: Whether what is there is replaced.
        done: Called with the bytes of each piece.
    """

    path: Path
    is_folder: bool
    shard_bytes: int | None
    overwrite: bool
    done: _Done


def _write_tensorflow(target: _Target, tensors: _Tensors) -> Path:
    if target.is_folder:  # the files would be beside it
        raise InvalidArgumentError(
            f"{target.path} is a folder; give the prefix of the files in it, as {target.path / 'model.ckpt'}"
        )
    check_free([index_path(target.path)], overwrite=target.overwrite)
    note = note_newest(target.path)
    with new_checkpoint(target.path) as writer:
        for name, tensor in tensors.items():
            writer.add_stored(name, tensor)
            target.done(tensor.nbytes)
    note()
    return target.path


def _write_safetensors(target: _Target, tensors: _Tensors, metadata: Mapping[str, str] | None = None) -> Path:
    path = target.path
    if not path.name.endswith(safetensors.SUFFIX):
        path /= f"model{safetensors.SUFFIX}"
    written = write_safetensors(
        path,
        tensors,
        shard_bytes=target.shard_bytes,
        metadata=metadata,
        overwrite=target.overwrite,
        done=target.done,
    )
    return written[-1]


def _write_pytorch(target: _Target, tensors: _Tensors) -> Path:
    return _write_safetensors(target, tensors, {"format": "pt"})


def _write_npz(target: _Target, tensors: _Tensors) -> Path:
    if target.is_folder:
        raise InvalidArgumentError(f"{target.path} is a folder; give the file in it, as {target.path / 'model.npz'}")
    return write_npz(target.path, tensors, overwrite=target.overwrite, done=target.done)[0]


WRITERS: Final[Mapping[str, Callable[[_Target, _Tensors], Path]]] = {
    "tensorflow": _write_tensorflow,
    "safetensors": _write_safetensors,
    "pytorch": _write_pytorch,
    "npz": _write_npz,
}
"""What writes each form, and returns what is to be opened."""


def export_checkpoint(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    format: str,  # noqa: A002 - as users say it
    names: Mapping[str, str] | None = None,
    slots: bool | None = None,
    shard_size: int | str | None = None,
    overwrite: bool = False,
    show_progress: ShowProgress | None = None,
) -> CopiedCheckpoint:
    """Writes what is in a checkpoint in another form, without a cluster. Partitioned variables are whole ones there.

        ss.checkpoint.export("/shared/run-7", "exported/model.ckpt-7", format="tensorflow")
        ss.checkpoint.export("/shared/run-7", "exported", format="pytorch", names={"*": "model/*"}, shard_size="5GB")

    It is there, whole and on disk, when this returns; after an error it is not there. For "tensorflow" the file
    "checkpoint" beside it then says that it is the newest, as after a saver's ``save``.

    Args:
        source: A checkpoint of any form; see ``open``.
        target: Where to: for "tensorflow" the prefix of its files; for "safetensors" and "pytorch" a file
            "*.safetensors", or a folder for "model.safetensors" in it; for "npz" a file. Folders are made.
        format: "tensorflow"; "safetensors"; "pytorch", which is safetensors with a state_dict's names, "layer.weights"
            for "layer/weights"; or "npz".
        names: For names that are wanted, those in the source, as ``{"encoder/*": "model/encoder/*"}``; all if not
            given.
        slots: Whether slots that optimizers keep beside variables are exported too; if not given, for "tensorflow"
            only.
        shard_size: Most bytes in one file of safetensors, as a number or as "5GB" (10 to the 9th) or "5GiB"; what is
            more goes to several with an index, "model.safetensors.index.json". No limit if not given.
        overwrite: Whether what is there already is replaced.
        show_progress: Called now and then, with the bytes written and those of all.

    Returns:
        What was written, and what was left out and why.

    Raises:
        NotFoundError: There is no such checkpoint.
        InvalidArgumentError: The form is unknown; a pattern of ``names`` fits nothing; or the prefix of files of
            TensorFlow's is a folder.
        AlreadyExistsError: There is something at the target.
        DTypeMismatchError: The form has no such elements.
        DataLossError: The source is damaged.
        FailedPreconditionError: Not all parts of a variable are in the source.
        ShardscopeError: A file cannot be written.
    """
    write = WRITERS[check_form(format, WRITERS)]
    if "://" in os.fspath(target):
        raise InvalidArgumentError(f"checkpoints are exported to a path here; {os.fspath(target)} is a URL")
    shard_bytes = None if shard_size is None else _size_bytes(shard_size)
    if shard_bytes is not None and write not in (_write_safetensors, _write_pytorch):
        raise InvalidArgumentError(f"shard_size is for safetensors and pytorch; {format} is written without a limit")
    with open_checkpoint(source) as checkpoint:
        with_slots = format == "tensorflow" if slots is None else slots
        left_out: dict[str, str] = {}
        tensors = {}
        for name, tensor in variables_of(checkpoint).items():
            if tensor.slot_of and not with_slots:
                left_out[name] = _SLOT
            elif not tensor.has_value:
                left_out[name] = _NO_VALUE
            else:
                tensors[name] = tensor
        wanted = _chosen(tensors, names, left_out)
        if format == "pytorch":
            wanted = _respelled(wanted, "/", ".")
        _check_all(wanted)
        is_folder = os.fspath(target).endswith("/") or Path(target).is_dir()
        done = _counted(wanted, show_progress)
        path = write(_Target(Path(target), is_folder, shard_bytes, overwrite, done), wanted)
    return CopiedCheckpoint(os.fspath(path), format, tuple(wanted), _size_of(wanted), left_out)


def import_checkpoint(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 - as users say it
    name: str | None = None,
    step: SupportsIndex | None = None,
    names: Mapping[str, str] | None = None,
    show_progress: ShowProgress | None = None,
) -> CopiedCheckpoint:
    """Makes a checkpoint of Shardscope's from one of another form, without a cluster.

        ss.checkpoint.import_from("model.ckpt-1000", "/shared/imported", names={"encoder/*": "bert/encoder/*"})
        ss.restore("/shared/imported")                              # on any number of ps tasks

    It is there, whole and on disk, when this returns; after an error it is not there. Tensors become variables as they
    are; what looks like a slot of an optimizer of ``ss.train`` is left out. What TensorFlow 1's optimizers keep are
    variables, as they are in its programs: these go on with them.

    Args:
        source: A checkpoint of TensorFlow's, safetensors or npz; see ``open``.
        folder: As for ``save``: the checkpoint is a folder in it.
        format: Of the source; found out if not given. "pytorch" is safetensors whose names are made into those of
            scopes, "layer.weights" into "layer/weights".
        name: Of the checkpoint; by default "step-000000100" of the step, or the time.
        step: Training step that it belongs to.
        names: For names of variables, those in the source, as ``{"encoder/*": "model.encoder.*"}``; all if not given.
        show_progress: Called now and then, with the bytes written and those of all.

    Returns:
        What was written, and what was left out and why.

    Raises:
        NotFoundError: There is no such checkpoint.
        InvalidArgumentError: It is one of Shardscope's; a name cannot be one of a variable; a pattern of ``names`` fits
            nothing; or the form is unknown.
        AlreadyExistsError: There is a checkpoint of the name.
        DTypeMismatchError: A variable cannot have such elements.
        DataLossError: The source is damaged.
        FailedPreconditionError: The folder cannot be written.
    """
    number = None if step is None else operator.index(step)
    if (number or 0) < 0:
        raise InvalidArgumentError(f"step is {step}; it cannot be less than 0")
    store, own_name = open_store(absolute(folder)), check_name(name or default_name(number))
    with open_checkpoint(source, format=format) as checkpoint:
        if isinstance(checkpoint, ShardscopeCheckpoint):
            raise InvalidArgumentError(
                f"{os.fspath(source)} is a checkpoint of Shardscope's already: restore it, with names= for other names"
            )
        tensors = variables_of(checkpoint)
        if format == "pytorch" and names is None:
            tensors = _respelled(tensors, ".", "/")
        plain, slots = without_slots(tensors)
        left_out = dict.fromkeys(slots, _SLOT_OF_OTHERS)
        wanted = _chosen(plain, names, left_out)
        _check_all(wanted)
        for each in wanted:
            _check_variable(each)
        done = _counted(wanted, show_progress)
        with store_errors("this process"):
            write_checkpoint(store, own_name, wanted, step=number, done=done)
    return CopiedCheckpoint(
        f"{store.path}/{own_name}",
        "shardscope",
        tuple(wanted),
        _size_of(wanted),
        left_out,
        tuple(slots_of_tensorflow(wanted)),
    )


def _respelled(tensors: dict[str, StoredTensor], sign: str, other: str) -> dict[str, StoredTensor]:
    """Returns tensors with another sign between the parts of their names."""
    found: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        key = name.replace(sign, other)
        if key in found:
            raise InvalidValueError(
                f"{found[key].name!r} and {name!r} would both be called {key!r}; say in names= what they are to be "
                f"called, in a shell --names"
            )
        found[key] = tensor
    return found


def _chosen(
    tensors: dict[str, StoredTensor], names: Mapping[str, str] | None, left_out: dict[str, str]
) -> dict[str, StoredTensor]:
    """Returns the tensors that are wanted by the names that they are to have; slots go with their variables."""
    if names is None:
        return tensors
    plain = [name for name, tensor in tensors.items() if tensor.slot_of not in tensors]
    wanted = {target: tensors[source] for target, source in selected(names, plain).items()}
    targets: dict[str, list[str]] = {}
    for target, tensor in wanted.items():
        targets.setdefault(tensor.name, []).append(target)
    for name, tensor in tensors.items():
        if tensor.slot_of in tensors and name.startswith(f"{tensor.slot_of}/"):
            for target in targets.get(tensor.slot_of, []):
                wanted[target + name.removeprefix(tensor.slot_of)] = tensor
    used = {id(tensor) for tensor in wanted.values()}
    left_out.update({name: "it was not asked for" for name, tensor in tensors.items() if id(tensor) not in used})
    return wanted


def _check_all(tensors: _Tensors) -> None:
    """Raises the error of the first tensor that cannot be read, before anything is written."""
    for tensor in tensors.values():
        if tensor.problem is not None:
            raise tensor.problem
        tensor.check_size()


def _check_variable(name: str) -> None:
    try:
        check_variable_name(name, "")
    except ValueError as error:
        raise InvalidArgumentError(
            f"{error}; say in names= what it is to be called, or which others are wanted", variable=name
        ) from error


def _counted(tensors: _Tensors, show: ShowProgress | None) -> _Done:
    total, so_far = _size_of(tensors), 0

    def done(size_bytes: int) -> None:
        nonlocal so_far
        so_far += size_bytes
        if show is not None:
            show(so_far, total)

    return done


def _size_of(tensors: _Tensors) -> int:
    return sum([tensor.nbytes for tensor in tensors.values()])


def _size_bytes(given: int | str | Any) -> int:
    text = str(given)
    match = _SIZE.fullmatch(text)
    size = 0 if match is None else int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].upper()])
    if size < 1:
        raise InvalidArgumentError(f"{given!r} is no size of files; give bytes, or as in 5GB or 500MiB")
    return size
