"""A stream in which bytes were lost, doubled or changed ends its connection; nothing of the frame is carried out."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import numpy as np
import pytest

from ps_protocol.codec import error_codec, message_codec
from ps_protocol.errors import UnavailableError
from ps_protocol.operations import Batch, Read, Update, UpdateRule
from ps_protocol.service_types import FastPathKind
from ps_protocol.sockets.frames import (
    ANSWER_BYTES,
    FLAG_CLOSING,
    SOCKET_PROTOCOL_VERSION,
    FrameKind,
    FramePrefix,
    Verdict,
    encode_hello,
    parse_answer,
)
from ps_protocol.sockets.framing import Framing
from ps_protocol.v1 import batch_pb2, errors_pb2
from tests.unit.ps_server.transport.socket_clients import Client, Ps, running_ps

SMALL, LARGE = 4, 50_000

START = 200
"""Bytes of a frame that have its header. No more is sent of one that is refused: what the ps leaves unread when it ends
a connection may take the reason with it."""


@pytest.fixture(params=[FastPathKind.TCP, FastPathKind.UNIX], ids=["tcp", "unix"])
def kind(request: pytest.FixtureRequest) -> FastPathKind:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def ps() -> Iterator[Ps]:
    with running_ps(checks_tensors=True) as running:
        for size in (SMALL, LARGE):
            running.declare(f"v{size}", size)
        yield running


class SealedClient:
    """A client of version 2 whose bytes a test changes on their way."""

    def __init__(self, ps: Ps, kind: FastPathKind, *, checks_tensors: bool = True):
        incarnation = uuid4()
        sock = ps.dial(kind)
        hello = encode_hello(
            incarnation, ps.ticket(incarnation), version=SOCKET_PROTOCOL_VERSION, checks_tensors=checks_tensors
        )
        sock.sendall(hello)
        answer = sock.recv(ANSWER_BYTES)
        assert parse_answer(answer) is Verdict.ACCEPTED
        assert answer[8] == SOCKET_PROTOCOL_VERSION
        self._client = Client(ps.core, sock, incarnation)
        self._framing = Framing(SOCKET_PROTOCOL_VERSION, checks_tensors=checks_tensors)

    def frame(self, *operations: Update | Read) -> bytes:
        """The next request."""
        batch: Batch = self._client.batch(*operations)
        message, buffers = message_codec.encode_batch(batch)
        header, data = message.SerializeToString(), b"".join(buffers)
        prefix = self._framing.prefix(
            FrameKind.REQUEST, header, buffers=[data], buffer_bytes=len(data), timeout_ms=20_000
        )
        return prefix + header + data

    def send(self, data: bytes) -> None:
        self._client.send(data)

    def receive(self) -> tuple[FramePrefix, bytes]:
        framing = self._framing
        prefix = framing.parse(self._client._exactly(framing.prefix_bytes))
        header = self._client._exactly(prefix.header_bytes)
        framing.check_header(header)
        framing.check_tensors([self._client._exactly(prefix.buffer_bytes)])
        return prefix, header

    def version(self) -> int:
        """Of the variable that the reply is about."""
        prefix, header = self.receive()
        assert prefix.kind is FrameKind.REPLY
        return batch_pb2.BatchReply.FromString(header).replies[0].version

    def refusal(self) -> str:
        """Why the ps ends the connection."""
        prefix, header = self.receive()
        assert (prefix.kind, prefix.flags) == (FrameKind.ERROR, FLAG_CLOSING)
        error = error_codec.decode_error(errors_pb2.Error.FromString(header))
        assert isinstance(error, UnavailableError)
        assert error.retryable
        assert self._client.is_ended()
        self._client.close()
        return error.message


def addition(size: int) -> Update:
    return Update(f"v{size}", UpdateRule.ASSIGN_ADD, np.ones(size, np.float32))


def version_of(ps: Ps, size: int) -> int:
    return next(each.version for each in ps.core.list_variables(timeout_s=1.0) if each.spec.name == f"v{size}")


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_whole_frames_are_answered(size: int, ps: Ps, kind: FastPathKind) -> None:
    client = SealedClient(ps, kind)
    frames = [client.frame(addition(size)), client.frame(Read(f"v{size}")), client.frame(addition(size))]
    client.send(b"".join(frames))
    assert [client.version() for _ in frames] == [1, 1, 2]
    client._client.close()


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_frame_that_comes_twice_is_not_answered_twice(size: int, ps: Ps, kind: FastPathKind) -> None:
    client = SealedClient(ps, kind)
    frame = client.frame(addition(size))
    client.send(frame + frame[:START])
    assert client.version() == 1
    assert "a frame has the number 1, and 2 was due" in client.refusal()
    assert version_of(ps, size) == 1


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_frame_that_is_missing_is_noticed(size: int, ps: Ps, kind: FastPathKind) -> None:
    client = SealedClient(ps, kind)
    client.frame(addition(size))
    client.send(client.frame(addition(size))[:START])
    assert "a frame has the number 2, and 1 was due" in client.refusal()
    assert version_of(ps, size) == 0


@pytest.mark.parametrize("repeated", [0, 14], ids=["missing", "doubled"])
def test_bytes_that_are_missing_or_doubled_are_noticed_with_the_next_frame(
    repeated: int, ps: Ps, kind: FastPathKind
) -> None:
    client = SealedClient(ps, kind, checks_tensors=False)
    frame = client.frame(addition(SMALL))
    client.send(frame[:-7] + frame[len(frame) - repeated :] + client.frame(addition(SMALL)))
    assert client.version() == 1  # without a checksum of its tensors
    assert "bytes of a connection were lost, doubled or changed" in client.refusal()
    assert version_of(ps, SMALL) == 1


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("place", ["header", "tensors"])
def test_a_changed_byte_is_noticed(place: str, size: int, ps: Ps, kind: FastPathKind) -> None:
    client = SealedClient(ps, kind)
    frame = bytearray(client.frame(addition(size)))
    frame[40 if place == "header" else -3] ^= 0x10
    client.send(bytes(frame)[: START if place == "header" else len(frame)])
    expected = "the checksum of frame 1 does not fit" if place == "header" else "the checksum of the tensors of frame 1"
    assert expected in client.refusal()
    assert version_of(ps, size) == 0


def test_a_client_may_do_without_checksums_of_tensors(ps: Ps, kind: FastPathKind) -> None:
    client = SealedClient(ps, kind, checks_tensors=False)
    frame = bytearray(client.frame(addition(SMALL)))
    frame[-3] ^= 0x10
    client.send(bytes(frame))
    assert client.version() == 1
    client._client.close()


@pytest.mark.parametrize("place", [4, 20], ids=["header", "locations"])
def test_a_changed_size_is_noticed_though_nothing_more_comes(place: int, ps: Ps, kind: FastPathKind) -> None:
    client = SealedClient(ps, kind, checks_tensors=False)
    frame = bytearray(client.frame(addition(SMALL)))
    frame[place + 1] ^= 0x40
    client.send(bytes(frame))
    assert "the checksum of the prefix of frame 1 does not fit" in client.refusal()
    assert version_of(ps, SMALL) == 0
