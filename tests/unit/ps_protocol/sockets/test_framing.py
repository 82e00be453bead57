"""Frames that are not those that were sent are not taken for others."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.errors import InvalidArgumentError, UnavailableError
from ps_protocol.sockets.frames import PREFIX_BYTES, FrameKind, FramePrefix, encode_prefix
from ps_protocol.sockets.framing import SEALED_PREFIX_BYTES, Framing

HEADER, LOCATIONS, TENSORS = b"header", bytes(24), [b"ab", b"", b"cdef"]
SAYS = FramePrefix(FrameKind.REQUEST, 4, 6, 6, 7, 1)


def sent(framing: Framing, *, is_answer: bool = False) -> bytes:
    """A whole frame."""
    prefix = framing.prefix(
        FrameKind.REQUEST,
        HEADER,
        locations=LOCATIONS,
        num_locations=1,
        buffers=TENSORS,
        buffer_bytes=6,
        timeout_ms=7,
        flags=4,
        is_answer=is_answer,
    )
    assert len(prefix) == framing.prefix_bytes
    return prefix + HEADER + LOCATIONS + b"".join(TENSORS)


def received(framing: Framing, frame: bytes) -> FramePrefix:
    """Takes a frame apart, as both ends do."""
    start = framing.prefix_bytes
    prefix = framing.parse(memoryview(frame)[:start])
    header_end = start + prefix.header_bytes
    end = header_end + 24 * prefix.num_locations
    framing.check_header(frame[start:header_end], frame[header_end:end])
    framing.check_tensors([frame[end : end + 3], memoryview(frame)[end + 3 : end + prefix.buffer_bytes]])
    return prefix


def test_version_1_is_as_it_was() -> None:
    near, far = Framing(1, checks_tensors=True), Framing()
    frame = sent(near)
    assert frame[:PREFIX_BYTES] == encode_prefix(
        FrameKind.REQUEST, header_bytes=6, buffer_bytes=6, timeout_ms=7, flags=4, num_locations=1
    )
    assert [received(far, frame), received(far, frame)] == [SAYS, SAYS]
    with pytest.raises(InvalidArgumentError, match="which is no frame"):
        far.parse(bytes(PREFIX_BYTES))


@pytest.mark.parametrize("checks_tensors", [False, True])
def test_frames_are_numbered_and_checked(checks_tensors: bool) -> None:
    near, far = (Framing(2, checks_tensors=checks_tensors) for _ in range(2))
    first, second, third = sent(near), sent(near), sent(near)
    assert len({first, second, third}) == 3
    assert [received(far, each) for each in (first, second, third)] == [SAYS] * 3


def test_the_layout_is_that_of_the_document() -> None:
    frame = sent(Framing(2, checks_tensors=True))
    assert SEALED_PREFIX_BYTES == 36
    assert frame[:24] == sent(Framing())[:24]
    assert frame[24:28] == b"\x01\0\0\0"
    assert int.from_bytes(frame[28:32], "little") == 0x4B8E39EF  # CRC-32 of b"abcdef"
    unasked = sent(Framing(2))
    assert int.from_bytes(unasked[28:32], "little") == crc32(unasked[:28])


def test_a_prefix_without_a_checksum_of_its_own_is_one_of_an_earlier_release() -> None:
    frame = sent(Framing(2))
    checked = frame[:28] + bytes(4)
    rest = frame[SEALED_PREFIX_BYTES:]
    seal = crc32(checked + HEADER + LOCATIONS).to_bytes(4, "little")
    assert received(Framing(2), checked + seal + rest) == SAYS


@pytest.mark.parametrize("position", [*range(2, 28)])
def test_a_prefix_that_was_changed_is_noticed_before_the_rest_has_come(position: int) -> None:
    prefix = bytearray(sent(Framing(2))[:SEALED_PREFIX_BYTES])
    prefix[position] ^= 1
    with pytest.raises(UnavailableError, match="bytes of a connection were"):
        Framing(2).parse(prefix)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_frame_that_is_doubled_or_missing_is_damage(missing: int) -> None:
    near, far = Framing(2), Framing(2)
    frames = [sent(near), sent(near), sent(near)]
    received(far, frames[0])
    with pytest.raises(UnavailableError, match=r"a frame has the number \d, and 2 was due"):
        received(far, frames[2 * missing])


def test_an_answer_has_the_number_of_what_it_answers() -> None:
    client, ps = Framing(2), Framing(2)
    for _ in range(2):
        received(ps, sent(client))
        answer = sent(ps, is_answer=True)
        assert received(client, answer) == SAYS
    with pytest.raises(UnavailableError, match=r"the number 2, and 3 was due"):
        received(client, answer)


@given(st.integers(0, SEALED_PREFIX_BYTES + 6 + 24 + 6 - 1), st.integers(1, 255), st.booleans())
def test_no_changed_byte_is_taken_for_what_was_sent(place: int, flip: int, checks_tensors: bool) -> None:
    near, far = (Framing(2, checks_tensors=checks_tensors) for _ in range(2))
    frame = bytearray(sent(near))
    frame[place] ^= flip
    padded = bytes(frame) + bytes(70_000)  # there is always more to come
    is_seen = checks_tensors or place < SEALED_PREFIX_BYTES + 6 + 24
    if is_seen and not 8 <= place < 16 and place not in range(20, 24):  # sizes may be beyond what is there
        with pytest.raises(UnavailableError):
            received(far, padded)
    elif not is_seen:
        assert received(far, padded) == SAYS


@given(st.binary(min_size=SEALED_PREFIX_BYTES, max_size=SEALED_PREFIX_BYTES))
def test_any_other_bytes_are_damage(data: bytes) -> None:
    with pytest.raises(UnavailableError, match="bytes of a connection were lost, doubled or changed"):
        Framing(2).parse(data)


def test_numbers_begin_anew() -> None:
    near, far = Framing(2), Framing(2)
    near._sent = far._received = 2**32 - 2
    for number in (2**32 - 1, 0, 1):
        frame = sent(near)
        assert int.from_bytes(frame[24:28], "little") == number
        assert received(far, frame) == SAYS
