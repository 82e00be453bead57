from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator

import pytest

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
from ps_protocol.memory.segment_mapping import IS_SUPPORTED
from ps_protocol.sockets.frames import PREFIX_BYTES, FrameKind, encode_prefix, parse_prefix
from ps_protocol.sockets.framing import Framing
from tests.descriptors import open_descriptors, opened_since
from worker_client.transport.shared_memory import connection as segment_connection
from worker_client.transport.shared_memory.connection import SegmentConnection

pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="this system has no memfds")

SIZE_BYTES = 8192
TIMEOUT_S = 20.0
ALL_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class FakePs:
    """The other end, which has answered before it is asked."""

    def __init__(self, sock: socket.socket):
        self.sock = sock

    def asked(self) -> Region:
        prefix = parse_prefix(self.sock.recv(PREFIX_BYTES))
        assert prefix.kind is FrameKind.SEGMENT_REQUEST
        assert prefix.timeout_ms == TIMEOUT_S * 1000
        (region,) = decode_regions(self.sock.recv(REGION_BYTES))
        return region

    def give(self, region: Region, descriptors: list[int]) -> None:
        prefix = encode_prefix(FrameKind.SEGMENT_REPLY, header_bytes=0, num_locations=1)
        socket.send_fds(self.sock, [prefix + encode_regions([region])], descriptors)

    def refuse(self, error: ShardscopeError) -> None:
        header = error_codec.encode_error(error).SerializeToString()
        self.sock.sendall(encode_prefix(FrameKind.ERROR, header_bytes=len(header)) + header)


@pytest.fixture
def ends() -> Iterator[tuple[SegmentConnection, FakePs]]:
    mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    connection = SegmentConnection(mine, task="ps:0", framing=Framing())
    yield connection, FakePs(other)
    connection.close()
    other.close()


def _memory(size_bytes: int = SIZE_BYTES, seals: int = ALL_SEALS) -> int:
    descriptor = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, size_bytes)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = _memory()
    yield descriptor
    os.close(descriptor)


def test_a_segment_is_mapped_and_its_descriptor_closed(ends: tuple[SegmentConnection, FakePs], memory: int) -> None:
    connection, ps = ends
    ps.give(Region(3, 0, SIZE_BYTES), [memory])
    before = open_descriptors()
    segment = connection.request(SIZE_BYTES - 5, timeout_s=TIMEOUT_S)
    assert ps.asked() == Region(0, 0, SIZE_BYTES - 5)
    assert (segment.number, segment.size_bytes) == (3, SIZE_BYTES)
    segment.bytes_of(Region(3, 0, 4))[:] = b"mine"
    assert os.pread(memory, 4, 0) == b"mine"
    del segment
    assert not opened_since(before)


def test_a_segment_is_given_back(ends: tuple[SegmentConnection, FakePs]) -> None:
    connection, ps = ends
    ps.give(Region(3, 0, 0), [])
    connection.release(3, timeout_s=TIMEOUT_S)
    assert ps.asked() == Region(3, 0, 0)


def test_a_refusal_is_told_from_a_failure(ends: tuple[SegmentConnection, FakePs]) -> None:
    connection, ps = ends
    ps.refuse(ResourceExhaustedError("no memory is left to share", retryable=False))
    ps.refuse(InvalidArgumentError("that makes no sense"))
    with pytest.raises(ResourceExhaustedError, match="no memory is left") as raised:
        connection.request(1, timeout_s=TIMEOUT_S)
    assert not raised.value.retryable
    with pytest.raises(UnavailableError, match="that makes no sense"):
        connection.request(1, timeout_s=TIMEOUT_S)


@pytest.mark.parametrize(
    ("region", "num_descriptors", "seals", "size_bytes"),
    [
        (Region(3, 0, SIZE_BYTES), 0, ALL_SEALS, SIZE_BYTES),
        (Region(0, 0, SIZE_BYTES), 1, ALL_SEALS, SIZE_BYTES),
        (Region(3, 0, SIZE_BYTES - 1), 1, ALL_SEALS, SIZE_BYTES),
        (Region(3, 0, SIZE_BYTES), 1, 0, SIZE_BYTES),
        (Region(3, 0, SIZE_BYTES), 1, fcntl.F_SEAL_GROW, SIZE_BYTES),
        (Region(3, 0, SIZE_BYTES), 1, ALL_SEALS, SIZE_BYTES - 4096),
        (Region(3, 0, 2**63), 1, ALL_SEALS, SIZE_BYTES),
    ],
)
def test_memory_that_could_vanish_is_not_mapped(
    region: Region, num_descriptors: int, seals: int, size_bytes: int, ends: tuple[SegmentConnection, FakePs]
) -> None:
    connection, ps = ends
    descriptors = [_memory(size_bytes, seals) for _ in range(num_descriptors)]
    ps.give(region, descriptors)
    for each in descriptors:
        os.close(each)
    before = open_descriptors()
    with pytest.raises(InternalError):
        connection.request(SIZE_BYTES, timeout_s=TIMEOUT_S)
    assert not opened_since(before)


@pytest.mark.parametrize(
    "answer",
    [
        b"no frame at all, but long enough to be the beginning of one",
        encode_prefix(FrameKind.REPLY, header_bytes=0),
        encode_prefix(FrameKind.SEGMENT_REPLY, header_bytes=0, num_locations=2) + bytes(2 * REGION_BYTES),
        encode_prefix(FrameKind.ERROR, header_bytes=3) + b"\xff\xff\xff",
    ],
)
def test_an_answer_that_is_none_is_an_error(answer: bytes, ends: tuple[SegmentConnection, FakePs]) -> None:
    connection, ps = ends
    ps.sock.sendall(answer)
    with pytest.raises(InternalError, match="cannot be understood"):
        connection.request(1, timeout_s=TIMEOUT_S)


@pytest.mark.parametrize("num_bytes", [0, 1, PREFIX_BYTES, PREFIX_BYTES + 5])
def test_a_connection_that_ends_is_an_error(
    num_bytes: int, ends: tuple[SegmentConnection, FakePs], memory: int
) -> None:
    connection, ps = ends
    frame = encode_prefix(FrameKind.SEGMENT_REPLY, header_bytes=0, num_locations=1) + encode_regions(
        [Region(3, 0, SIZE_BYTES)]
    )
    if num_bytes:
        socket.send_fds(ps.sock, [frame[:num_bytes]], [memory])
    before = open_descriptors()
    ps.sock.shutdown(socket.SHUT_WR)
    with pytest.raises(UnavailableError, match="ps:0"):
        connection.request(1, timeout_s=TIMEOUT_S)
    assert not opened_since(before)


def test_a_ps_that_does_not_answer_is_waited_for_with_a_bound(ends: tuple[SegmentConnection, FakePs]) -> None:
    with pytest.raises(DeadlineExceededError, match="in time"):
        ends[0].request(1, timeout_s=0.01)


def test_a_process_that_cannot_map_more_does_without(
    ends: tuple[SegmentConnection, FakePs], memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, ps = ends
    ps.give(Region(3, 0, SIZE_BYTES), [memory])

    def fail(*_arguments: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(segment_connection, "MappedSegment", fail)
    ps.give(Region(3, 0, 0), [])
    before = open_descriptors()
    with pytest.raises(ResourceExhaustedError, match="cannot be mapped here"):
        connection.request(1, timeout_s=TIMEOUT_S)
    assert not opened_since(before)
    assert [ps.asked(), ps.asked()] == [Region(0, 0, 1), Region(3, 0, 0)]  # the ps need not keep what is of no use
