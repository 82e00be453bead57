"""Looks at checkpoints where they lie, without a cluster."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from ps_protocol.checkpoints.boxes import CheckedValue
from ps_protocol.checkpoints.locations import locate, open_store
from ps_protocol.checkpoints.manifest import BLOCK_BYTES, MANIFEST_FILE, CheckpointManifest
from ps_protocol.checkpoints.store import DEAD_S, CheckpointStore, check_part, read_manifest, store_errors
from ps_protocol.checkpoints.urls import absolute, is_url
from ps_protocol.dtype_traits import dtype_name
from ps_protocol.errors import InvalidArgumentError, NotFoundError, ShardscopeError
from ps_protocol.tensor_files.safetensors import SafetensorsCheckpoint
from ps_protocol.tensor_files.stored_tensor import StoredTensors
from worker_client.checkpoints.contents import ShardscopeCheckpoint
from worker_client.checkpoints.counts import Counts, counts_of
from worker_client.checkpoints.opening import open_checkpoint
from worker_client.checkpoints.report import ShowProgress

_PIECE_BYTES: Final = BLOCK_BYTES
_BAR: Final = "worker_client.checkpoints.progress_bar"  # imports rich


@dataclass(frozen=True, slots=True)
class CheckpointEntry:
    """A checkpoint in a folder of them.

    Attributes:
        name: Its name.
        path: Its folder, or its URL.
        saved_at_s: When it was saved, in seconds since the epoch.
        step: The training step that it was saved with; None if there was none.
        num_parts: Of ps tasks that have written it.
        num_variables: Without slots; a partitioned one is one. Of another form all tensors.
        num_slots: That optimizers keep beside variables; a slot of a partitioned variable is one.
        size_bytes: Of its parts, the files that have the values. Of another form that of the values.
        metrics: Numbers that it was saved with, by name.
        is_pinned: Whether it stays, whatever retention there is.
        problem: Why it cannot be used, as far as the manifest tells; empty if nothing is known.
        form: "Shardscope"; of what ``verify`` has checked also "TensorFlow", "safetensors" or "npz".
        unread: Tensors of another form that only other programs can read, so that their values were not checked.
    """

    name: str
    path: str
    saved_at_s: float = 0.0
    step: int | None = None
    num_parts: int = 0
    num_variables: int = 0
    num_slots: int = 0
    size_bytes: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_pinned: bool = False
    problem: str = ""
    form: str = ShardscopeCheckpoint.form
    unread: tuple[str, ...] = ()

    @property
    def has_checksums(self) -> bool:
        """Whether its form has checksums of values."""
        return self.form != SafetensorsCheckpoint.form

    @property
    def counts(self) -> Counts:
        """The numbers of variables and slots."""
        return Counts(self.num_variables, self.num_slots)


@dataclass(frozen=True, slots=True)
class CheckpointVariable:
    """A variable in a checkpoint, or a part of one.

    Attributes:
        name: Full name.
        dtype: Of its elements.
        shape: Of the value.
        task: The ps task that had it.
        version: Updates applied to it.
        initialized: Whether it had a value.
        slot_of: Of a slot that an optimizer keeps beside a variable, that variable's full name; else empty.
        size_bytes: Of the value.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    task: str
    version: int
    initialized: bool
    slot_of: str
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.name}  {dtype_name(self.dtype)} {list(self.shape)}  {self.task}"


def list_checkpoints(path: str | os.PathLike[str]) -> list[CheckpointEntry]:
    """Lists the checkpoints of a folder or URL, oldest first; those that are still being saved are not among them."""
    store = open_store(absolute(path))
    entries = []
    for name in store.names():
        with contextlib.suppress(NotFoundError):  # it was removed at this very moment
            entries.append(_entry(store, name))
    return entries


def look_at_checkpoint(path: str | os.PathLike[str]) -> CheckpointEntry:
    """Returns what is known of a checkpoint, or of the newest of a folder.

    Args:
        path: Its folder or URL, or one of checkpoints.

    Raises:
        NotFoundError: There is none.
    """
    return _entry(*locate(absolute(path)))


def show_checkpoint(path: str | os.PathLike[str]) -> list[CheckpointVariable]:
    """Returns the variables of a checkpoint by name; only its manifest is read.

    Args:
        path: Its folder or URL, or one of checkpoints, of which the newest is taken.

    Raises:
        NotFoundError: There is none.
        FailedPreconditionError: Its manifest was changed, or a newer version wrote it.
    """
    store, name = locate(absolute(path))
    found = [
        CheckpointVariable(
            each.spec.name,
            each.spec.dtype,
            each.spec.shape,
            part.task,
            each.version,
            each.initialized,
            each.spec.slot_of,
            each.spec.size_bytes if each.initialized else 0,
        )
        for part in read_manifest(store, name).parts
        for each in part.variables
    ]
    return sorted(found, key=lambda each: each.name)


def pin_checkpoint(path: str | os.PathLike[str]) -> CheckpointEntry:
    """Has a checkpoint stay when older ones are removed.

    Args:
        path: Its folder, or one of checkpoints, of which the newest is taken.

    Raises:
        NotFoundError: There is none.
        InvalidArgumentError: It is of another form.
        FailedPreconditionError: Nothing can be written there.
    """
    return _pinned(path, is_pinned=True)


def unpin_checkpoint(path: str | os.PathLike[str]) -> CheckpointEntry:
    """Has a checkpoint removed like others; arguments and errors as of ``pin``."""
    return _pinned(path, is_pinned=False)


def _pinned(path: str | os.PathLike[str], *, is_pinned: bool) -> CheckpointEntry:
    try:
        store, name = locate(absolute(path))
    except NotFoundError:
        _refuse_other_form(path)
        raise
    with store_errors("this client"):
        store.pin(name, is_pinned=is_pinned)
    return _entry(store, name)


def _refuse_other_form(path: str | os.PathLike[str]) -> None:
    """Raises the error for a checkpoint of another form, which cannot be pinned; does nothing if there is none."""
    if is_url(os.fspath(path)):
        return
    try:
        with open_checkpoint(path) as checkpoint:
            form = checkpoint.form
    except ShardscopeError:
        return
    raise InvalidArgumentError(
        f"{os.fspath(path)} is a checkpoint of the form {form}, and pins are for Shardscope's. Copy it to where no "
        f"saver removes it; or make one of Shardscope's of it, and pin that: shardscope checkpoint import"
    )


def verify_checkpoint(
    path: str | os.PathLike[str], *, show_progress: ShowProgress | bool | None = None
) -> CheckpointEntry:
    """Reads a whole checkpoint of any form, and checks its sizes and all its checksums.

    Those are, beside Shardscope's, TensorFlow's of each tensor and of its index, and an npz file's of each array.
    Safetensors have none: there it is whether all files and tensors are there, in their sizes.

    Args:
        path: What ``open`` takes: a folder or URL of checkpoints stands for the newest of them.
        show_progress: Called now and then, with the bytes read and those of all; or True for a bar on standard error,
            if that is a terminal.

    Raises:
        NotFoundError: There is none.
        FailedPreconditionError: A file is missing, was cut off or was changed; the message says which and where.
        DataLossError: The same of a checkpoint of another form.
        OSError: It cannot be read.
    """
    if isinstance(show_progress, bool):
        with importlib.import_module(_BAR).progress_shown("checking", show_progress) as show:
            return verify_checkpoint(path, show_progress=show)
    with open_checkpoint(path) as checkpoint:
        if not isinstance(checkpoint, ShardscopeCheckpoint):
            return _verify_tensors(checkpoint, show_progress)
    store, name = locate(checkpoint.path)
    manifest = read_manifest(store, name)
    piece, done_bytes = np.empty(_PIECE_BYTES, np.uint8).data, 0
    for part in manifest.parts:
        reader = check_part(store, name, part)
        try:
            for saved in part.variables:
                value = CheckedValue(reader, saved, f"{store.path}/{name}/{part.file}")
                size_bytes = saved.spec.size_bytes if saved.initialized else 0
                for start in range(0, size_bytes, _PIECE_BYTES):
                    length = min(_PIECE_BYTES, size_bytes - start)
                    value.read_into(piece[:length], start)
                    done_bytes += length
                    if show_progress is not None:
                        show_progress(done_bytes, manifest.size_bytes)
        finally:
            reader.close()
    return _of_manifest(store, name, manifest)


def _verify_tensors(checkpoint: StoredTensors, show_progress: ShowProgress | None) -> CheckpointEntry:
    size_bytes, done_bytes = sum([tensor.nbytes for tensor in checkpoint.values()]), 0
    unread = []
    for name, tensor in checkpoint.items():
        tensor.verify()
        if tensor.problem is not None:
            unread.append(name)
        done_bytes += tensor.nbytes
        if show_progress is not None:
            show_progress(done_bytes, size_bytes)
    return CheckpointEntry(
        Path(checkpoint.path).name,
        checkpoint.path,
        num_variables=len(checkpoint),
        size_bytes=size_bytes,
        form=checkpoint.form,
        unread=tuple(unread),
    )


def clean_checkpoints(path: str | os.PathLike[str], *, older_than_s: float = DEAD_S) -> list[str]:
    """Removes what saves that were killed have left behind in a folder or at a URL, as later saves there do.

    Args:
        path: That was given to ``save``.
        older_than_s: Seconds for which it must not have changed. If they are too few, what a save that is under way has
            written is removed as well, and that save fails.

    Returns:
        The names of what was removed, as ".step-000000100.<save>.tmp".

    Raises:
        OSError: It cannot be removed.
    """
    if not older_than_s > 0:
        raise InvalidArgumentError(f"older_than_s is {older_than_s}; it has to be more than 0")
    return open_store(absolute(path)).clean(time.time() - older_than_s)


def _entry(store: CheckpointStore, name: str) -> CheckpointEntry:
    try:
        return _of_manifest(store, name, read_manifest(store, name))
    except NotFoundError:
        raise
    except ShardscopeError as error:
        problem = error.message
    except PermissionError as error:
        problem = f"{MANIFEST_FILE}: {error.strerror}"
    return CheckpointEntry(name, f"{store.path}/{name}", problem=problem)


def _of_manifest(store: CheckpointStore, name: str, manifest: CheckpointManifest) -> CheckpointEntry:
    counts = counts_of([each.spec for part in manifest.parts for each in part.variables])
    return CheckpointEntry(
        name,
        f"{store.path}/{name}",
        manifest.saved_at_s,
        manifest.step,
        len(manifest.parts),
        counts.variables,
        counts.slots,
        manifest.size_bytes,
        manifest.metrics,
        store.is_pinned(name),
    )
