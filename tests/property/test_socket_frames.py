"""Whatever comes over a socket, the ps answers or ends the connection, takes no memory for it and serves the others."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Gather, PsOperation, Read, Update, UpdateRule
from ps_protocol.sockets.frames import (
    HELLO_BYTES,
    MAX_HEADER_BYTES,
    MAX_LOCATIONS,
    MAX_TIMEOUT_MS,
    PREFIX_BYTES,
    TICKET_BYTES,
    FrameKind,
    Verdict,
    encode_hello,
    encode_prefix,
    parse_answer,
    parse_hello,
    parse_prefix,
)
from ps_protocol.sockets.stream import SCRATCH_BYTES, ConnectionEnded, SocketStream
from tests.unit.ps_server.transport.socket_clients import Ps, request, running_ps

prefixes = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(FrameKind),
        "header_bytes": st.integers(0, MAX_HEADER_BYTES),
        "buffer_bytes": st.integers(0, 2**63 - 1),
        "timeout_ms": st.integers(0, MAX_TIMEOUT_MS),
        "flags": st.integers(0, 255),
        "num_locations": st.integers(0, MAX_LOCATIONS),
    }
)


@given(prefixes, st.binary(max_size=40))
def test_prefixes_come_back_as_they_were(fields: dict[str, int], before: bytes) -> None:
    kind = FrameKind(fields.pop("kind"))
    data = before + encode_prefix(kind, **fields)
    assert parse_prefix(data, len(before))._asdict() == {"kind": kind, **fields}


@given(st.binary(min_size=PREFIX_BYTES, max_size=PREFIX_BYTES))
def test_any_bytes_are_a_prefix_or_refused(data: bytes) -> None:
    with contextlib.suppress(InvalidArgumentError):
        prefix = parse_prefix(data)
        assert prefix.header_bytes <= MAX_HEADER_BYTES
        fields = prefix._asdict()
        assert encode_prefix(fields.pop("kind"), **fields) == data


@given(st.binary(max_size=2 * HELLO_BYTES))
def test_any_bytes_are_a_hello_or_not(data: bytes) -> None:
    hello = parse_hello(data)
    if not isinstance(hello, Verdict):
        client, ticket, version, checks_tensors = hello
        assert encode_hello(client, ticket, version=version, checks_tensors=checks_tensors)[:60] == data[:60]


@given(st.binary(max_size=32))
def test_any_bytes_are_an_answer_or_refused(data: bytes) -> None:
    with contextlib.suppress(InvalidArgumentError):
        parse_answer(data)


@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "read_into", "read_large", "skip"]), st.integers(0, 3000)), max_size=12
    ),
    st.lists(st.integers(1, 5000), min_size=1, max_size=20),
)
def test_a_stream_is_read_in_pieces_of_any_size(reads: list[tuple[str, int]], writes: list[int]) -> None:
    wanted = sum(size for _, size in reads)
    data = np.random.default_rng(wanted).bytes(wanted)
    ours, theirs = socket.socketpair()
    stream = SocketStream(ours)
    stream.lend_scratch(memoryview(bytearray(3000)))
    stream.set_receive_timeout(20_000)
    with contextlib.closing(stream), theirs:
        sent = received = 0
        for write in writes:
            sent += theirs.send(data[sent : sent + write]) if sent < wanted else 0
        theirs.sendall(data[sent:])
        theirs.shutdown(socket.SHUT_WR)
        for method, size in reads:
            expected = data[received : received + size]
            received += size
            if method == "take":
                assert bytes(stream.take(size)) == expected
            elif method == "read_into":
                target = bytearray(size)
                stream.read_into(memoryview(target))
                assert target == expected
            elif method == "read_large":
                assert stream.read_large(size) == expected
            else:
                stream.skip(size)
        with pytest.raises(ConnectionEnded):
            stream.take(1)


# -- a live ps ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ps() -> Iterator[Ps]:
    threads = 4
    with running_ps(staging_limit_bytes=1024**2, stall_timeout_s=5.0, max_threads=threads) as ps:
        ps.declare("w", 4)
        ps.declare("large", 40_000)
        # Each starts a thread, so that none is started in the middle of a test.
        with contextlib.ExitStack() as first_clients:
            for _ in range(threads):
                first_clients.enter_context(contextlib.closing(ps.client())).run(Read("w"))
        yield ps


def mutated(frame: bytes, changes: list[tuple[int, int]], kept: float, extra: bytes) -> bytes:
    data = bytearray(frame)
    for position, value in changes:
        data[position % len(data)] = value
    return bytes(data[: int(kept * len(data))]) + extra


mutations = st.tuples(
    st.sampled_from(["read", "add", "add large", "gather"]),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
    st.sampled_from([1.0, 1.0, 0.5, 0.05]),
    st.binary(max_size=60),
)


@given(mutations)
def test_a_ps_survives_frames_that_were_tampered_with(
    ps: Ps, mutation: tuple[str, list[tuple[int, int]], float, bytes]
) -> None:
    which, changes, kept, extra = mutation
    operations: dict[str, PsOperation] = {
        "read": Read("w"),
        "add": Update("w", UpdateRule.ASSIGN_ADD, np.ones(4, np.float32)),
        "add large": Update("large", UpdateRule.ASSIGN_ADD, np.ones(40_000, np.float32)),
        "gather": Gather("w", np.array([1, 2, 3])),
    }
    with contextlib.closing(ps.client()) as client:
        with contextlib.suppress(OSError):  # the ps may end the connection before it has everything
            client.send(mutated(request(client.batch(operations[which])), changes, kept, extra))
            client.sock.shutdown(socket.SHUT_WR)
        assert client.is_ended()
    _assert_it_serves(ps)


@given(st.binary(max_size=2 * SCRATCH_BYTES))
def test_a_ps_survives_garbage_after_the_handshake(ps: Ps, garbage: bytes) -> None:
    with contextlib.closing(ps.client()) as client:
        with contextlib.suppress(OSError):
            client.send(garbage)
            client.sock.shutdown(socket.SHUT_WR)
        assert client.is_ended()
    _assert_it_serves(ps)


@given(st.binary(max_size=2 * HELLO_BYTES), st.booleans())
def test_a_ps_survives_garbage_instead_of_the_handshake(ps: Ps, garbage: bytes, is_close: bool) -> None:
    hello = encode_hello(uuid4(), bytes(TICKET_BYTES))
    with ps.dial() as sock, contextlib.suppress(OSError):
        sock.sendall(hello[: HELLO_BYTES - len(garbage)] + garbage if is_close else garbage)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1024):
            pass
    _assert_it_serves(ps)


def _assert_it_serves(ps: Ps) -> None:
    with contextlib.closing(ps.client()) as client:
        client.run(Read("w"))
    assert ps.staging.used_bytes == 0
