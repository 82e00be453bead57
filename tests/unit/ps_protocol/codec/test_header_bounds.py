from __future__ import annotations

from uuid import UUID

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.codec.fast.request_bytes import encode_request, parse_request
from ps_protocol.codec.fast.varints import encode_varint
from ps_protocol.codec.header_bounds import SMALL_HEADER_BYTES, HeaderBounds, parts_of
from ps_protocol.errors import DeadlineExceededError, InvalidArgumentError, ResourceExhaustedError
from ps_protocol.operations import Batch, Read, Update, UpdateRule
from ps_protocol.v1 import batch_pb2

CLIENT, STORE = UUID(int=1), UUID(int=2)


def header_of(number: int, name: str = "variable") -> bytes:
    return encode_request(Batch(CLIENT, STORE, 0, (Read(name),) * number), names_client=True)[0]


def test_a_batch_at_the_limit_passes_and_one_above_it_is_refused() -> None:
    bounds = HeaderBounds(operations=5_000)
    assert bounds.decoded_bytes(header_of(5_000)) > 5_000 * 1_000
    with pytest.raises(ResourceExhaustedError, match=r"more than 5000 operations.*--max-operations") as refused:
        bounds.decoded_bytes(header_of(5_002))  # a batch that changes nothing has no sequence
    assert not refused.value.retryable


def test_a_header_that_is_too_large_is_refused() -> None:
    with pytest.raises(ResourceExhaustedError, match=r"may have 1000 here.*--max-header") as refused:
        HeaderBounds(header_bytes=1000).decoded_bytes(bytes(1001))
    assert not refused.value.retryable


def test_three_million_operations_are_refused_without_looking_at_them_all() -> None:
    field = batch_pb2.BatchRequest(operations=[batch_pb2.Operation()]).SerializeToString()
    with pytest.raises(ResourceExhaustedError, match="262144 operations"):
        HeaderBounds().decoded_bytes(field * 3_000_000 + b"\xff" * 10)


def test_fields_that_are_not_known_count_too() -> None:
    unknown = b"".join([b"\x78\x01", b"\xf9\x01" + bytes(8), b"\xfd\x01" + bytes(4), b"\xfa\x01\x81\x01" + bytes(129)])
    with pytest.raises(ResourceExhaustedError):
        HeaderBounds(operations=10).decoded_bytes(unknown * 4)
    assert HeaderBounds(operations=1000).decoded_bytes(unknown * 200)


def test_small_headers_are_not_counted() -> None:
    assert HeaderBounds().decoded_bytes(header_of(3)) == 0
    assert HeaderBounds().decoded_bytes(b"\xff" * SMALL_HEADER_BYTES) == 0


@given(st.binary(max_size=300))
def test_whatever_comes_is_counted_or_refused(tail: bytes) -> None:
    header = header_of(2_000) + tail
    bounds = HeaderBounds()
    try:
        batch_pb2.BatchRequest.FromString(header)
    except DecodeError:
        is_message = False
    else:
        is_message = True
    try:
        assert bounds.decoded_bytes(header)
    except InvalidArgumentError:
        # Groups are the one thing that protobuf skips and no version of the contract has.
        assert not is_message or any(byte & 7 in (3, 4) for byte in tail)


def test_cut_fields_are_refused() -> None:
    header = header_of(2_000)
    for cut in (
        header[:-1],
        header + b"\x12",
        header + b"\x10",
        header + b"\x11" + bytes(7),
        header + b"\x07",
    ):
        with pytest.raises(InvalidArgumentError, match="no BatchRequest"):
            HeaderBounds().decoded_bytes(cut)


def test_time_is_looked_at_while_a_header_is_decoded() -> None:
    looked = 0

    def check() -> None:
        nonlocal looked
        looked += 1
        if looked == 3:
            raise DeadlineExceededError("time ran out")

    with pytest.raises(DeadlineExceededError):
        parse_request(header_of(10_000), None, check)
    assert looked == 3


def test_time_is_looked_at_while_its_tensors_are_put_in_too() -> None:
    is_over = False

    def check() -> None:
        if is_over:
            raise DeadlineExceededError("time ran out")

    add = Update("variable", UpdateRule.ASSIGN_ADD, np.array(1, np.float32))
    header, buffers = encode_request(Batch(CLIENT, STORE, 1, (add,) * 10_000), names_client=True)
    head = parse_request(header, None, check)
    is_over = True
    with pytest.raises(DeadlineExceededError):
        head.batch(buffers)


def test_lengths_of_more_than_one_byte_are_skipped() -> None:
    long = header_of(1, "n" * 300)
    assert len(encode_varint(300)) == 2
    assert HeaderBounds(operations=100).decoded_bytes(long * 20)


@pytest.mark.parametrize("part_bytes", [1, 100, 5_000, 2**30])
def test_the_parts_of_a_header_are_messages_and_together_it(part_bytes: int) -> None:
    header = header_of(200, "variable" * 3)
    parts = parts_of(header, part_bytes)
    assert b"".join(parts) == header
    assert [part for part in parts if len(part) > max(part_bytes, 40)] == []
    operations = [batch_pb2.BatchRequest.FromString(part).operations for part in parts]
    assert sum(map(len, operations)) == 200
    assert (len(parts) == 1) is (part_bytes == 2**30)
