"""How the frames of one connection are told from damage: numbers and checksums, from version 2 of the protocol on.

TCP and Unix sockets lose and double no bytes. But a proxy, a library between, or a defect of either end may, and in a
stream of frames that look alike a reply would then be taken for another one's. So each frame carries a number and a
checksum of all that stands before its tensors, and if the ps asks for that, of the tensors. If it does not, that place
has a checksum of the prefix itself, so that nobody waits for a header of a size that was changed on the way. What does
not fit ends the connection; the client repeats on another one what was not answered.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final
from zlib import crc32

from ps_protocol.codec.tensor_codec import MAX_SIZE_BYTES, Buffer
from ps_protocol.errors import InvalidArgumentError, UnavailableError
from ps_protocol.sockets.frames import (
    FRAME_MAGIC,
    KINDS,
    MAX_HEADER_BYTES,
    MAX_LOCATIONS,
    MAX_TIMEOUT_MS,
    PREFIX_BYTES,
    FrameKind,
    FramePrefix,
    encode_prefix,
    parse_prefix,
)

_NUMBERED: Final = struct.Struct("<HBBIQIII")  # a prefix as in version 1, number
_CHECKSUM: Final = struct.Struct("<I")
_SEALED: Final = struct.Struct("<HBBIQIIIII")  # and two checksums
_NUMBERED_BYTES: Final = _NUMBERED.size
_CHECKED_BYTES: Final = _NUMBERED_BYTES + _CHECKSUM.size
_NONE: Final = 0
"""In the place of the checksum of a prefix, from one that does not send it."""

_MAX_NUMBER: Final = 0xFFFFFFFF

SEALED_PREFIX_BYTES: Final = _SEALED.size


class Framing:
    """Writes and checks the prefixes of one end of one connection. One thread reads and one writes at a time.

    Args:
        version: Of the protocol, as agreed in the handshake.
        checks_tensors: Whether the tensors have a checksum too.

    Attributes:
        prefix_bytes: Size of a prefix.
        checks_tensors: As given; never in version 1.
    """

    __slots__ = ("_checked", "_checksum", "_received", "_sent", "_tensors_checksum", "checks_tensors", "prefix_bytes")

    def __init__(self, version: int = 1, *, checks_tensors: bool = False):
        self.prefix_bytes: Final = PREFIX_BYTES if version == 1 else SEALED_PREFIX_BYTES
        self.checks_tensors: Final = checks_tensors and version > 1
        self._sent = 0
        self._received = 0
        # Of the frame that is being received:
        self._checked = b""
        self._checksum = 0
        self._tensors_checksum = 0

    # -- sent ---------------------------------------------------------------------------------

    def prefix(
        self,
        kind: FrameKind,
        header: bytes = b"",
        *,
        locations: bytes = b"",
        num_locations: int = 0,
        buffers: Sequence[Buffer] = (),
        buffer_bytes: int = 0,
        timeout_ms: int = 0,
        flags: int = 0,
        is_answer: bool = False,
    ) -> bytes:
        """Returns the prefix of the next frame.

        Args:
            kind: What the frame is.
            header: Of it.
            locations: Its places in shared memory.
            num_locations: How many they are.
            buffers: Its tensors.
            buffer_bytes: Their size.
            timeout_ms: As in ``FramePrefix``.
            flags: Likewise.
            is_answer: Whether it answers the frame that was received last, and so has its number.

        Raises:
            InvalidArgumentError: The header is too large to be sent.
        """
        header_bytes = len(header)
        if self.prefix_bytes == PREFIX_BYTES or header_bytes > MAX_HEADER_BYTES:
            return encode_prefix(
                kind,
                header_bytes=header_bytes,
                buffer_bytes=buffer_bytes,
                timeout_ms=timeout_ms,
                flags=flags,
                num_locations=num_locations,
            )
        if is_answer:
            number = self._received
        else:
            number = self._sent = self._sent + 1 & _MAX_NUMBER
        numbered = _NUMBERED.pack(
            FRAME_MAGIC, kind, flags, header_bytes, buffer_bytes, timeout_ms, num_locations, number
        )
        checked = numbered + _CHECKSUM.pack(_checksum_of(buffers) if self.checks_tensors else crc32(numbered))
        return checked + _CHECKSUM.pack(crc32(checked + header + locations))

    # -- received -----------------------------------------------------------------------------

    def parse(self, data: Buffer) -> FramePrefix:
        """Returns what a prefix says; ``check_header`` comes next, before anything in the frame is believed.

        Args:
            data: ``prefix_bytes`` bytes.

        Raises:
            InvalidArgumentError: In version 1: it is not a prefix, or announces more than may be sent.
            UnavailableError: Later: likewise, or it is not the frame that is due. The stream is damaged.
        """
        if self.prefix_bytes == PREFIX_BYTES:
            return parse_prefix(data)
        due = self._received = self._received + 1 & _MAX_NUMBER
        (
            magic,
            kind_number,
            flags,
            header_bytes,
            buffer_bytes,
            timeout_ms,
            num_locations,
            number,
            self._tensors_checksum,
            self._checksum,
        ) = _SEALED.unpack(data)
        kind = KINDS.get(kind_number)
        if (
            kind is None
            or magic != FRAME_MAGIC
            or header_bytes > MAX_HEADER_BYTES
            or buffer_bytes > MAX_SIZE_BYTES
            or timeout_ms > MAX_TIMEOUT_MS
            or num_locations > MAX_LOCATIONS
        ):
            try:
                parse_prefix(data)
            except InvalidArgumentError as error:
                raise _damaged(error.message) from error
        if number != due or kind is None:
            raise _damaged(f"a frame has the number {number}, and {due} was due")
        self._checked = bytes(data[:_CHECKED_BYTES])
        if not self.checks_tensors and self._tensors_checksum not in (crc32(self._checked[:_NUMBERED_BYTES]), _NONE):
            raise _damaged(f"the checksum of the prefix of frame {number} does not fit")
        return FramePrefix(kind, flags, header_bytes, buffer_bytes, timeout_ms, num_locations)

    def check_header(self, header: bytes, locations: bytes = b"") -> None:
        """Makes sure that prefix, header and locations of the frame are what was sent.

        Raises:
            UnavailableError: They are not.
        """
        if self.prefix_bytes != PREFIX_BYTES and crc32(self._checked + header + locations) != self._checksum:
            raise _damaged(f"the checksum of frame {self._received} does not fit")

    def check_tensors(self, buffers: Sequence[Buffer]) -> None:
        """Makes sure of its tensors likewise, if they have a checksum."""
        if self.checks_tensors and _checksum_of(buffers) != self._tensors_checksum:
            raise _damaged(f"the checksum of the tensors of frame {self._received} does not fit")


def _checksum_of(buffers: Sequence[Buffer]) -> int:
    checksum = 0
    for buffer in buffers:
        checksum = crc32(buffer, checksum)
    return checksum


def _damaged(what: str) -> UnavailableError:
    return UnavailableError(
        f"bytes of a connection were lost, doubled or changed: {what}; the connection ends, and what was not answered "
        f"is sent again on another one"
    )
