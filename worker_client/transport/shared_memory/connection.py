"""The connection from which a client gets its segments of shared memory, and with which they end."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from google.protobuf.message import DecodeError

from ps_protocol.codec import error_codec
from ps_protocol.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
    ShardscopeError,
    UnavailableError,
)
from ps_protocol.memory.regions import REGION_BYTES, Region, decode_regions, encode_regions
from ps_protocol.memory.segment_mapping import MappedSegment, is_size_sealed
from ps_protocol.sockets.frames import FrameKind, milliseconds
from ps_protocol.sockets.framing import Framing


class SegmentConnection:
    """A ``SegmentSource`` at the other end of a Unix socket. One thread at a time.

    Nothing else travels on it, so the segments outlive the connections of batches. After any error
    but ResourceExhaustedError it is broken.

    Args:
        sock: After the handshake; owned.
        task: The ps's name, as "ps:0", for the errors.
        framing: Of the connection.
    """

    def __init__(self, sock: socket.socket, *, task: str, framing: Framing):
        self._sock = sock
        self._task = task
        self._framing = framing

    def request(self, size_bytes: int, *, timeout_s: float) -> MappedSegment:
        """Returns a new segment of at least that size, mapped.

        Raises:
            ResourceExhaustedError: The ps has none to give, or this process cannot map it.
            UnavailableError: The connection broke.
            DeadlineExceededError: The ps did not answer in time.
            InternalError: The ps answered something else.
        """
        with self._asked(Region(0, 0, size_bytes), timeout_s) as (given, descriptors):
            if len(descriptors) != 1 or given.segment == 0 or given.size_bytes < size_bytes:
                raise InternalError(f"{self._task} gave {given} with {len(descriptors)} descriptors", task=self._task)
            _check_sealed(descriptors[0], given, self._task)
            try:
                segment = MappedSegment(given.segment, descriptors[0], given.size_bytes)
            except (OSError, MemoryError) as error:
                self.release(given.segment, timeout_s=timeout_s)  # the ps would keep it for this connection
                raise ResourceExhaustedError(
                    f"a segment of {given.size_bytes} bytes cannot be mapped here: {error}", retryable=False
                ) from error
        segment.prefault()
        return segment

    def release(self, number: int, *, timeout_s: float) -> None:
        """Gives a segment back to the ps; errors as for ``request``."""
        with self._asked(Region(number, 0, 0), timeout_s):
            pass

    def close(self) -> None:
        """Ends the connection, and with it all segments."""
        self._sock.close()

    @contextlib.contextmanager
    def _asked(self, asked: Region, timeout_s: float) -> Iterator[tuple[Region, list[int]]]:
        """Sends a request; gives the region of the answer, and the descriptors beside it until the block ends."""
        locations = encode_regions([asked])
        prefix = self._framing.prefix(
            FrameKind.SEGMENT_REQUEST, locations=locations, num_locations=1, timeout_ms=milliseconds(timeout_s)
        )
        descriptors: list[int] = []
        try:
            self._sock.settimeout(timeout_s)
            self._sock.sendall(prefix + locations)
            yield self._answer(descriptors), descriptors
        except TimeoutError as error:
            raise DeadlineExceededError(f"{self._task} gave no shared memory in time", task=self._task) from error
        except OSError as error:
            raise UnavailableError(
                f"the connection to {self._task} for shared memory broke: {error}", task=self._task
            ) from error
        except (InvalidArgumentError, DecodeError) as error:
            raise InternalError(
                f"what {self._task} answered to a request for shared memory cannot be understood: {error}",
                task=self._task,
            ) from error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _answer(self, descriptors: list[int]) -> Region:
        framing = self._framing
        data, received, _, _ = socket.recv_fds(self._sock, framing.prefix_bytes, 1, socket.MSG_CMSG_CLOEXEC)
        descriptors += received
        if not data:
            raise ConnectionError("the ps has closed it")
        prefix = framing.parse(data + self._exactly(framing.prefix_bytes - len(data)))
        if prefix.kind is FrameKind.ERROR:
            header = self._exactly(prefix.header_bytes)
            framing.check_header(header)
            raise self._refusal(header)
        if prefix.kind is not FrameKind.SEGMENT_REPLY or prefix.header_bytes or prefix.num_locations != 1:
            raise InvalidArgumentError(f"it is a frame of the kind {prefix.kind.name}")
        locations = self._exactly(REGION_BYTES)
        framing.check_header(b"", locations)
        return decode_regions(locations)[0]

    def _refusal(self, header: bytes) -> ShardscopeError:
        error = error_codec.parse_error(header)
        if isinstance(error, ResourceExhaustedError):
            return error
        return UnavailableError(f"{self._task} gives no shared memory: {error.message}", task=self._task)

    def _exactly(self, size_bytes: int) -> bytes:
        data = b""
        while len(data) < size_bytes:
            piece = self._sock.recv(size_bytes - len(data))
            if not piece:
                raise ConnectionError("the ps has closed it")
            data += piece
        return data


def _check_sealed(descriptor: int, given: Region, task: str) -> None:
    """Makes sure that the memory is there and stays: a process that touches lost memory dies."""
    if not is_size_sealed(descriptor) or os.fstat(descriptor).st_size < given.size_bytes:
        raise InternalError(f"{task} gave memory to share that can shrink", task=task)
