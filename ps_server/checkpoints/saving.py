"""One save on one ps task: holds updates back for an image of the variables, then writes it in short turns."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.checkpoints.manifest import BLOCK_BYTES, SavedPart, SavedVariable, part_file
from ps_protocol.checkpoints.service import CheckpointPath, PartPiece, Progress
from ps_protocol.checkpoints.store import CheckpointStore, PartWriter
from ps_protocol.codec.tensor_codec import bytes_of
from ps_protocol.errors import FailedPreconditionError
from ps_protocol.fault_points import fault_point
from ps_protocol.files.safetensors_layout import values_layout
from ps_protocol.files.synced_files import SyncedWriter
from ps_protocol.operations import Array
from ps_protocol.training.round_operations import NOT_SAVED
from ps_server.checkpoints.fetching import FetchedPart
from ps_server.checkpoints.pace import PIECE_BYTES, Pace
from ps_server.core.parameter_server import ParameterServer
from ps_server.memory.byte_budget import readable_bytes
from ps_server.memory.second_values import PATIENCE_S
from ps_server.memory.spare_arrays import SMALL_BYTES
from ps_server.store.stored_variable import VariableImage

_TURN_S: Final = 0.5


class Save:
    """A save. Thread-safe.

    Args:
        core: The task.
        save: Identity of the save.
        store: Where the checkpoint will be.
        path: Likewise.
        index: Of the task.
        num_parts: One for each ps task.
        pace: When it rests.
    """

    def __init__(
        self,
        core: ParameterServer,
        save: UUID,
        store: CheckpointStore | FetchedPart,
        path: CheckpointPath,
        index: int,
        num_parts: int,
        *,
        pace: Pace | None = None,
    ):
        self.path: Final = path
        self._core = core
        self._save = save
        self._store = store
        self._file = part_file(index, num_parts)
        self._pace = pace or Pace(lambda: core.admission.num_batches)
        self._lock = threading.Lock()  # guards: all below
        # What the hold has found, until writing begins; None before. An update that gives the save up empties it
        # without the lock.
        self._images: Sequence[VariableImage] | None = None
        self._saved: list[SavedVariable] = []
        # Of the saved variables, by their index; without those that are written. An update that gives the save up
        # empties it without the lock.
        self._values: dict[int, Array] = {}
        self._is_given_up = False  # by an update
        self._is_ended = False
        self._failure: OSError | None = None  # of the store
        self._second_values = core.state.parts.store.second_values
        self._lent_bytes = 0
        self._position = 0
        self._turns: Iterator[int] | None = None
        self._done_bytes = 0
        self._total_bytes = 0
        self._is_done = False

    def begin(self) -> list[str]:
        """Leaves the task's mark where the checkpoint will be; returns the marks that are there."""
        return list(self._store.begin(self.path.name, self._save, self._core.task))

    def hold(self, lease_s: float, timeout_s: float) -> None:
        """Holds updates back and takes an image; see ``CheckpointService.hold``."""
        with self._lock:
            if self._is_ended:  # nobody would let go what it takes
                raise FailedPreconditionError("the save was given up before it had an image of the task; save again")
            was_held = self._core.admission.is_held_by(self._save)  # an answer was lost
            self._core.admission.hold(self._save, lease_s, timeout_s)
            fault_point("checkpoint.held")
            if self._images is None or not was_held:
                self._take_image()

    def _take_image(self) -> None:
        """Does no more than has to be done while updates wait; it takes as long as there are variables."""
        held = self._core.state.parts.store.variables.images()
        self._images = images = tuple([each for each in held if each.spec.object_kind not in NOT_SAVED])
        self._position = self._core.state.position
        lent = {
            each.spec.name: each.value.nbytes
            for each in images
            if each.value is not None and each.value.nbytes > SMALL_BYTES
        }
        self._lent_bytes = sum(lent.values())
        self._second_values.open(self._save, lent, self._drop_values)
        fault_point("checkpoint.imaged")

    def _use_image(self) -> None:
        """Makes entries of the image, and a value of each that can be given back alone."""
        images, self._images = self._images or (), ()
        self._saved = [
            SavedVariable(each.spec, each.version, each.value is not None, declared=each.declared) for each in images
        ]
        self._values = {index: each.value for index, each in enumerate(images) if each.value is not None}
        self._total_bytes = sum([each.nbytes for each in self._values.values()])
        if self._is_given_up:  # meanwhile
            self._drop_values()
        self._check_wanted()

    def _drop_values(self) -> None:
        self._is_given_up = True
        self._images = ()
        self._values.clear()

    def release(self) -> bool:
        """Lets updates go on; returns whether they were held until now."""
        return self._core.admission.release(self._save)

    def write(self, timeout_s: float) -> Progress:
        """Writes for a moment. After an error it only waits to be given up: other tasks may still write beside it."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            turns = self._begun(timeout_s)
            until_s = time.monotonic() + min(_TURN_S, timeout_s / 2)
            try:
                self._write_until(turns, until_s)
            except OSError as error:
                self._failure = error
                self._second_values.close(self._save)
                self._values.clear()
                raise
            return Progress(self._done_bytes, self._total_bytes, self._is_done)

    def _write_until(self, turns: Iterator[int], until_s: float) -> None:
        with self._pace.turn():
            for count in turns:
                self._done_bytes += count
                if time.monotonic() >= until_s:
                    break

    def fetch(self, offset: int, timeout_s: float) -> PartPiece:
        """Returns the next bytes of what would be written."""
        fetched = self._store
        if not isinstance(fetched, FetchedPart):
            raise FailedPreconditionError("this save writes to a folder; there is nothing to fetch")
        with self._lock:
            turns = self._begun(timeout_s)
            fetched.drop_before(offset)
            with self._pace.turn():
                while not fetched.has_piece and (count := next(turns, None)) is not None:
                    self._done_bytes += count
            content, is_all = fetched.piece()
            progress = Progress(self._done_bytes, self._total_bytes, self._is_done and is_all)
            return PartPiece(content, fetched.part_bytes, progress)

    def _begun(self, timeout_s: float) -> Iterator[int]:
        """With the lock held: what writes the part, in turns."""
        self._check_wanted()
        if self._turns is None:
            if self._images is None:
                raise FailedPreconditionError("the save has no image of the task yet; hold it first")
            # What the image has must be safe, or the checkpoint could have what the task loses in a crash.
            self._core.state.wait_for_all(timeout_s)
            self._use_image()
            self._turns = self._written()
        return self._turns

    def give_up(self) -> None:
        """Drops all that there is of it."""
        self._let_go()
        with self._lock:
            self._is_ended = True
            self._let_go()  # of what a hold has taken that was under way
            self._turns = None  # closes the file
            self._store.discard(self.path.name, self._save)

    def _let_go(self) -> None:
        self._core.admission.release(self._save)
        self._second_values.close(self._save)
        self._drop_values()

    def _written(self) -> Iterator[int]:
        """Writes the part, and yields the bytes of values after each few MiB; gives back each value when it can."""
        saved = self._saved
        with_value = [index for index, each in enumerate(saved) if each.initialized]
        number_of = {saved[index].spec.name: number for number, index in enumerate(with_value)}
        layout = values_layout([saved[index].spec for index in with_value], {"save": str(self._save)})
        name, save = self.path.name, self._save
        with self._store.part_writer(name, save, self._file, layout.size_bytes) as writer:
            header_crc = writer.write(layout.header)
            is_free = isinstance(writer, SyncedWriter)
            for number in self._wanted_first(layout.order, number_of) if is_free else layout.order:
                index = with_value[number]
                content = bytes_of(self._value(index))
                if isinstance(writer, SyncedWriter):
                    writer.move_to(layout.offsets[number])
                checksums = []
                for start in range(0, len(content), BLOCK_BYTES):
                    fault_point("checkpoint.write")
                    checksums.append(self._write_block(writer, content[start : start + BLOCK_BYTES]))
                    yield min(BLOCK_BYTES, len(content) - start)
                    self._check_wanted()
                del content
                self._second_values.wrote(self._save, saved[index].spec.name)
                saved[index] = replace(saved[index], offset=layout.offsets[number], checksums=tuple(checksums))
        self._second_values.close(self._save)
        part = SavedPart(
            self._file, self._core.task, layout.size_bytes, len(layout.header), header_crc, self._position, tuple(saved)
        )
        self._store.note_part(name, save, part)
        fault_point("checkpoint.part_written")
        self._is_done = True

    def _write_block(self, writer: PartWriter, block: memoryview) -> int:
        """Writes a few MiB; returns their CRC-32."""
        crc = 0
        for start in range(0, len(block), PIECE_BYTES):
            crc = writer.write(block[start : start + PIECE_BYTES], crc)
            self._pace.rest()
        return crc

    def _wanted_first(self, order: Iterable[int], number_of: Mapping[str, int]) -> Iterator[int]:
        """In which order to write values: before the others what updates wait for, or what has a second value."""
        begun: set[int] = set()
        for number in order:
            while number not in begun:
                wanted = self._second_values.wanted()
                next_number = number if wanted is None else number_of[wanted]
                begun.add(next_number)
                yield next_number

    def _value(self, index: int) -> Array:
        value = self._values.pop(index, None)
        self._check_wanted()
        assert value is not None
        return value

    @property
    def _faster(self) -> str:
        """Where a save would take less time; only in a folder is what updates wait for written before the rest."""
        return "a faster disk" if isinstance(self._store, FolderStore) else "a folder that the ps tasks share"

    def _check_wanted(self) -> None:
        if self._is_given_up:
            enough = readable_bytes(self._lent_bytes)
            raise FailedPreconditionError(
                f"the save was given up: updates had waited for {PATIENCE_S:.0f} s, or as long as they could, until it "
                f"has written the variables that they change. Start the ps with a larger --copy-limit, so that it "
                f"keeps more second values meanwhile ({enough} are enough for all variables), "
                f"or save to {self._faster}"
            )
