from __future__ import annotations

import struct
from uuid import UUID

import pytest

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.sockets.frames import (
    ANSWER_BYTES,
    HELLO_BYTES,
    MAX_HEADER_BYTES,
    MAX_LOCATIONS,
    MAX_TIMEOUT_MS,
    PREFIX_BYTES,
    REASONS,
    TICKET_BYTES,
    FrameKind,
    FramePrefix,
    SocketHello,
    Verdict,
    encode_answer,
    encode_hello,
    encode_prefix,
    milliseconds,
    parse_answer,
    parse_hello,
    parse_prefix,
)

CLIENT = UUID(int=0x0102030405060708090A0B0C0D0E0F10)
TICKET = bytes(range(TICKET_BYTES))
FORMAT = "<HBBIQII"


def test_a_prefix_has_the_bytes_that_the_protocol_says() -> None:
    prefix = encode_prefix(
        FrameKind.REQUEST, header_bytes=5, buffer_bytes=2**40, timeout_ms=1500, flags=3, num_locations=7
    )
    assert prefix == bytes.fromhex("5350 01 03 05000000 0000000000010000 dc050000 07000000")
    assert len(prefix) == PREFIX_BYTES == 24


def test_a_prefix_is_found_at_an_offset() -> None:
    data = b"rest" + encode_prefix(FrameKind.ERROR, header_bytes=9)
    assert parse_prefix(data, 4) == FramePrefix(FrameKind.ERROR, 0, 9, 0, 0, 0)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ((0x5054, 1, 0, 0, 0, 0, 0), "no frame"),
        ((0x5053, 0, 0, 0, 0, 0, 0), "no frame"),
        ((0x5053, 99, 0, 0, 0, 0, 0), "no frame"),
        ((0x5053, 1, 0, MAX_HEADER_BYTES + 1, 0, 0, 0), "header of"),
        ((0x5053, 1, 0, 0, 2**63, 0, 0), "beyond any memory"),
        ((0x5053, 1, 0, 0, 0, MAX_TIMEOUT_MS + 1, 0), "ms"),
        ((0x5053, 1, 0, 0, 0, 0, MAX_LOCATIONS + 1), "places in shared memory"),
    ],
)
def test_a_prefix_that_announces_too_much_is_refused(fields: tuple[int, ...], says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        parse_prefix(struct.pack(FORMAT, *fields))


def test_the_largest_announcements_are_accepted() -> None:
    largest = struct.pack(FORMAT, 0x5053, 1, 255, MAX_HEADER_BYTES, 2**63 - 1, MAX_TIMEOUT_MS, MAX_LOCATIONS)
    assert parse_prefix(largest).buffer_bytes == 2**63 - 1


def test_a_header_that_is_too_large_is_not_sent() -> None:
    with pytest.raises(InvalidArgumentError, match="fewer operations"):
        encode_prefix(FrameKind.REQUEST, header_bytes=MAX_HEADER_BYTES + 1)


@pytest.mark.parametrize(("timeout_s", "expected"), [(0.0, 1), (-3.0, 1), (1.5, 1500), (1e9, MAX_TIMEOUT_MS)])
def test_timeouts_stay_in_their_range(timeout_s: float, expected: int) -> None:
    assert milliseconds(timeout_s) == expected


def test_a_hello_shows_client_and_ticket() -> None:
    hello = encode_hello(CLIENT, TICKET)
    assert hello == b"\x89SHDSCP\n" + b"\x01\0\0\0" + CLIENT.bytes + TICKET + bytes(4)
    assert len(hello) == HELLO_BYTES == 64
    assert parse_hello(hello) == SocketHello(CLIENT, TICKET, 1, checks_tensors=False)


def test_a_hello_of_version_2_may_ask_for_checksums_of_tensors() -> None:
    hello = encode_hello(CLIENT, TICKET, version=2, checks_tensors=True)
    assert hello == b"\x89SHDSCP\n" + b"\x02\0\0\0" + CLIENT.bytes + TICKET + b"\x01\0\0\0"
    assert parse_hello(hello) == SocketHello(CLIENT, TICKET, 2, checks_tensors=True)
    assert encode_answer(Verdict.ACCEPTED, 2) == b"\x89SHDSCP\n" + b"\x02\0\0\0" + bytes(4)


def test_a_ticket_of_another_size_is_not_sent() -> None:
    with pytest.raises(InvalidArgumentError, match="31 bytes"):
        encode_hello(CLIENT, TICKET[1:])


@pytest.mark.parametrize(
    ("hello", "verdict"),
    [
        (b"", Verdict.MALFORMED),
        (bytes(HELLO_BYTES), Verdict.MALFORMED),
        (b"GET / HTTP/1.1\r\n".ljust(HELLO_BYTES), Verdict.MALFORMED),
        (b"\x89SHDSCP\n\x03\0\0\0".ljust(HELLO_BYTES, b"\0"), Verdict.WRONG_VERSION),
    ],
)
def test_a_hello_that_is_none_is_told_apart(hello: bytes, verdict: Verdict) -> None:
    assert parse_hello(hello) is verdict


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_travels_and_is_explained(verdict: Verdict) -> None:
    answer = encode_answer(verdict)
    assert len(answer) == ANSWER_BYTES == 16
    assert parse_answer(answer) is verdict
    assert REASONS[verdict]


@pytest.mark.parametrize(
    "answer", [b"", bytes(16), b"HTTP/1.1 400 Bad", encode_answer(Verdict.ACCEPTED)[:12] + b"\xff" * 4]
)
def test_an_answer_that_is_none_is_refused(answer: bytes) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_answer(answer)
