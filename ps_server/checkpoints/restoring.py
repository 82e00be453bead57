"""One restore on one ps task: reads what the task is to have beside what it has, then puts it in its place."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final
from uuid import UUID

import numpy as np

from ps_protocol.checkpoints.boxes import CheckedValue, fill
from ps_protocol.checkpoints.manifest import CheckpointManifest
from ps_protocol.checkpoints.service import CheckpointPath, Progress, Target, names_sha256
from ps_protocol.checkpoints.store import (
    CheckpointStore,
    RangeReader,
    check_part,
    checksum,
    damaged,
    not_shared,
    parse_manifest,
)
from ps_protocol.codec.tensor_codec import bytes_of
from ps_protocol.errors import AbortedError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from ps_protocol.fault_points import fault_point
from ps_protocol.operations import Array
from ps_protocol.service_types import Placement
from ps_server.core.parameter_server import ParameterServer
from ps_server.log.restore_mark import RestoreMark
from ps_server.store.spec_checks import check_spec
from ps_server.store.stored_variable import VariableImage

_TURN_S: Final = 0.5


class Restore:
    """A restore. Thread-safe.

    Args:
        core: The task.
        restore: Identity of the restore.
        store: Where the checkpoint is; None if the client supplies the values.
        path: Likewise.
        manifest_crc32: Of the manifest that the client has planned with.

    Raises:
        FailedPreconditionError: The checkpoint is not there, is another one, or is damaged.
    """

    def __init__(
        self,
        core: ParameterServer,
        restore: UUID,
        store: CheckpointStore | None,
        path: CheckpointPath,
        manifest_crc32: int,
    ):
        self._core = core
        self._restore = restore
        self.path: Final = path
        self._lock = threading.Lock()  # guards: all below
        self._targets: list[Target] = []
        self._staged: set[str] = set()  # their names
        self._placements: dict[str, Placement] = {}  # by the names of their variables
        self._images: list[VariableImage] = []
        self._counted_bytes = 0
        self._done_bytes = 0
        self._turns: Iterator[int] | None = None
        self._has_switched = False
        self._is_ended = False
        self._supplied: Array | None = None  # the value that is being supplied
        self._done_of_supplied = 0
        self._readers: list[RangeReader] = []
        self._manifest = None if store is None else _manifest(store, path, manifest_crc32, core.task)
        if self._manifest is None or store is None:
            return
        with contextlib.ExitStack() as opened:
            for part in self._manifest.parts:
                self._readers.append(check_part(store, path.name, part))
                opened.callback(self._readers[-1].close)
            opened.pop_all()

    def stage(self, targets: Sequence[Target], placements: Sequence[Placement]) -> None:
        """Notes what the task is to have, and counts its memory; what was noted before under a name stays."""
        with self._lock:
            self._check_wanted()
            for target in targets:
                if target.spec.name in self._staged:
                    continue  # the call was repeated
                check_spec(target.spec)
                self._check_sources(target)
                self._core.state.parts.store.variables.take_memory(target.spec)
                self._counted_bytes += target.spec.size_bytes
                self._targets.append(target)
                self._staged.add(target.spec.name)
            self._placements.update({each.spec.name: each for each in placements})

    def fill(self, timeout_s: float) -> Progress:
        """Reads for a moment."""
        with self._lock:
            if self._manifest is None:
                self._skip()
            elif self._turns is None:
                self._turns = self._filled(self._manifest)
            until_s = time.monotonic() + min(_TURN_S, timeout_s / 2)
            for count in self._turns or ():
                self._done_bytes += count
                if time.monotonic() >= until_s:
                    break
            is_done = len(self._images) == len(self._targets)
            total_bytes = sum([each.spec.size_bytes for each in self._targets if each.sources])
            return Progress(self._done_bytes, total_bytes, is_done)

    def supply(self, index: int, offset: int, content: bytes) -> None:
        """Takes some bytes of a value; see ``CheckpointService.supply``."""
        with self._lock:
            self._skip()
            if index < len(self._images):
                return  # the call was repeated
            target = self._targets[index] if index == len(self._images) < len(self._targets) else None
            if target is None or self._manifest is not None:
                raise FailedPreconditionError(f"the value {index} is not the next one to be supplied; restore again")
            if self._supplied is None:
                self._supplied = np.empty(target.spec.shape, target.spec.dtype)
            there = bytes_of(self._supplied)
            if offset > self._done_of_supplied or offset + len(content) > len(there):
                raise FailedPreconditionError(
                    f"variable {target.spec}: the bytes from {offset} on are given, but those from "
                    f"{self._done_of_supplied} on are missing; restore again",
                    variable=target.spec.name,
                )
            there[offset : offset + len(content)] = content
            self._done_bytes += max(0, offset + len(content) - self._done_of_supplied)
            self._done_of_supplied = max(self._done_of_supplied, offset + len(content))
            if self._done_of_supplied == len(there):
                self._images.append(VariableImage(target.spec, self._supplied, target.version, target.declared))
                self._supplied, self._done_of_supplied = None, 0

    def _skip(self) -> None:
        """Notes the next variables, as long as there is nothing to supply for them."""
        while self._supplied is None and len(self._images) < len(self._targets):
            target = self._targets[len(self._images)]
            if target.sources and target.spec.size_bytes:
                return
            value = np.empty(target.spec.shape, target.spec.dtype) if target.sources else None
            self._images.append(VariableImage(target.spec, value, target.version, target.declared))

    def prepare(self, expected: bytes, lease_s: float, timeout_s: float) -> None:
        """Holds updates back, and makes sure that nothing was declared since the restore was planned."""
        with self._lock:
            self._check_wanted()
            if len(self._images) != len(self._targets):
                raise FailedPreconditionError(
                    f"of {len(self._targets)} variables only {len(self._images)} have been read; fill them first"
                )
            self._core.admission.hold(self._restore, lease_s, timeout_s)
            names = self._core.state.parts.store.variables.names()
            if names_sha256(names) != expected:
                self._core.admission.release(self._restore)
                newest = names[-1] if names else ""
                raise AbortedError(
                    f"variables were declared while the checkpoint {self.path} was being read, {newest} among them; "
                    f"nothing was changed, restore again"
                    if newest
                    else f"the variables were lost while the checkpoint {self.path} was being read; restore again",
                    variable=newest,
                )
            fault_point("restore.prepared")

    def switch(self, timeout_s: float) -> None:
        """Puts what was read in the place of what is there."""
        with self._lock:
            if self._has_switched:
                return
            if not self._core.admission.is_held_by(self._restore):
                raise FailedPreconditionError(
                    f"updates are no longer held back for restoring {self.path}, so that nothing was changed on this "
                    f"task; restore again"
                )
            fault_point("restore.before_switch")
            mark = RestoreMark(self._restore, str(self.path), is_complete=False)
            try:
                self._core.state.switch(self._images, mark, list(self._placements.values()), timeout_s)
            finally:
                if self._core.state.parts.restored is mark:  # also if it is not known to be safe yet
                    self._has_switched, self._counted_bytes, self._images = True, 0, []
            fault_point("restore.switched")
        self._core.admission.release(self._restore)

    def give_up(self) -> None:
        """Drops what was read."""
        self._core.admission.release(self._restore)
        with self._lock:
            self._is_ended = True
            self._core.admission.release(self._restore)  # what was taken meanwhile
            for reader in self._readers:
                reader.close()
            self._images, self._turns = [], None
            self._core.state.parts.store.variables.memory.give_back(self._counted_bytes)
            self._counted_bytes = 0

    def _check_wanted(self) -> None:
        if self._is_ended:  # nobody would let go what it takes
            raise FailedPreconditionError(f"the restore of {self.path} was given up; restore again")

    def _filled(self, manifest: CheckpointManifest) -> Iterator[int]:
        """Reads one target after the other, and yields the bytes of each."""
        while len(self._images) < len(self._targets):
            target = self._targets[len(self._images)]
            value = None
            if target.sources:
                value = np.empty(target.spec.shape, target.spec.dtype)
                for source in target.sources:
                    part = manifest.parts[source.part]
                    saved = part.variables[source.index]
                    where = f"{self.path}/{part.file}"
                    checked = CheckedValue(self._readers[source.part], saved, where)
                    fault_point("restore.read")
                    fill(value, target.spec, saved.spec, checked.read_into)
            self._images.append(VariableImage(target.spec, value, target.version, target.declared))
            yield 0 if value is None else value.nbytes
        self._turns = None

    def _check_sources(self, target: Target) -> None:
        if self._manifest is None:
            return
        parts = self._manifest.parts
        for source in target.sources:
            if source.part >= len(parts) or source.index >= len(parts[source.part].variables):
                raise InvalidArgumentError(
                    f"variable {target.spec.name} is to be read from a place that the checkpoint does not have",
                    variable=target.spec.name,
                )
            saved = parts[source.part].variables[source.index]
            if not saved.initialized or saved.spec.dtype != target.spec.dtype:
                raise InvalidArgumentError(
                    f"variable {target.spec} cannot be read from the saved {saved.spec}", variable=target.spec.name
                )
            if len(saved.spec.shape) != len(target.spec.shape):
                raise InvalidArgumentError(
                    f"variable {target.spec} cannot be read from the saved {saved.spec}: they have another number of "
                    f"dimensions",
                    variable=target.spec.name,
                )


def _manifest(store: CheckpointStore, path: CheckpointPath, crc: int, task: str) -> CheckpointManifest:
    try:
        data = store.manifest_bytes(path.name)
    except NotFoundError as error:
        raise not_shared(path.store, [task]) from error
    if checksum(data) != crc:
        raise damaged(f"{path}/manifest.json", "it is not the one that ps:0 has read")
    return parse_manifest(data, str(path))
