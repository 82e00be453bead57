"""What a client fetches of a save, in the place of a folder: the bytes of the part, then those of its entry."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from uuid import UUID

from ps_protocol.checkpoints.manifest import SavedPart, encode_part
from ps_protocol.checkpoints.service import MAX_PIECE_BYTES
from ps_protocol.checkpoints.store import PartWriter
from ps_protocol.errors import FailedPreconditionError


class FetchedPart(PartWriter):
    """Keeps what was written until it was fetched. One thread at a time.

    Attributes:
        part_bytes: Size of the part; 0 before it was begun.
    """

    def __init__(self) -> None:
        self.part_bytes = 0
        self._first = 0
        self._kept = bytearray()

    # -- where a part is written --------------------------------------------------------------

    def begin(self, name: str, save: UUID, mark: str) -> Sequence[str]:  # noqa: ARG002 - it is of one save
        return [mark]

    def part_writer(self, name: str, save: UUID, file: str, size_bytes: int) -> PartWriter:  # noqa: ARG002 - likewise
        self.part_bytes = size_bytes
        return self

    def note_part(self, name: str, save: UUID, part: SavedPart) -> None:  # noqa: ARG002 - likewise
        self._kept += encode_part(part)

    def discard(self, name: str, save: UUID) -> None:  # noqa: ARG002 - likewise
        self._kept.clear()

    def write(self, data: memoryview | bytes, crc: int = 0) -> int:
        self._kept += data
        return zlib.crc32(data, crc)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Nothing is open."""

    # -- where it is fetched ------------------------------------------------------------------

    def drop_before(self, offset: int) -> None:
        """Drops what the client has.

        Raises:
            FailedPreconditionError: It asks for what was dropped, or for what comes later.
        """
        count = offset - self._first
        if not 0 <= count <= len(self._kept):
            raise FailedPreconditionError(
                f"the bytes from {offset} on are asked for, but there are those from {self._first} on; save again"
            )
        del self._kept[:count]
        self._first = offset

    @property
    def has_piece(self) -> bool:
        """Whether a whole piece is there."""
        return len(self._kept) >= MAX_PIECE_BYTES

    def piece(self) -> tuple[bytes, bool]:
        """The next bytes, and whether they are all that is there."""
        return bytes(self._kept[:MAX_PIECE_BYTES]), len(self._kept) <= MAX_PIECE_BYTES
