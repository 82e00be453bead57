from __future__ import annotations

import pytest

from ps_protocol.codec.fast.varints import decode_varint, encode_varint
from ps_protocol.v1 import batch_pb2


@pytest.mark.parametrize("number", [1, 127, 128, 300, 2**32 - 1, 2**35, 2**63, 2**64 - 1])
def test_numbers_are_written_as_protobuf_writes_them(number: int) -> None:
    data = encode_varint(number)
    assert batch_pb2.BatchRequest(sequence=number).SerializeToString() == b"\x10" + data
    assert decode_varint(b"\x10" + data + b"behind", 1) == (number, 1 + len(data))


def test_zero_has_a_byte() -> None:
    assert encode_varint(0) == b"\0"
    assert decode_varint(b"\0", 0) == (0, 1)


def test_a_number_may_be_longer_than_it_need_be() -> None:
    assert decode_varint(b"\x81\x80\x00", 0) == (1, 3)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9, b"\xff" * 9 + b"\x02", b"\x80" * 10 + b"\x01"])
def test_what_ends_early_or_is_too_large_is_no_number(data: bytes) -> None:
    assert decode_varint(data, 0) is None
    assert decode_varint(b"\x10" + data, 1) is None
