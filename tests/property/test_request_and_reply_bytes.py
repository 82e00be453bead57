"""Headers made and read by hand are those that protobuf makes and reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.codec import message_codec
from ps_protocol.codec.fast import request_bytes
from ps_protocol.codec.fast.bounded_table import BoundedTable
from ps_protocol.codec.fast.reply_bytes import encode_answer, parse_reply
from ps_protocol.codec.fast.request_bytes import parse_request
from ps_protocol.errors import InvalidArgumentError, NotFoundError, ShardscopeError
from ps_protocol.operations import (
    Apply,
    Array,
    Batch,
    BatchReply,
    CountUpTo,
    Declare,
    Describe,
    Gather,
    PsOperation,
    Read,
    Reply,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
    WireDType,
)
from ps_protocol.shared_objects import Act, Look
from ps_protocol.v1 import batch_pb2

CLIENT, STORE = UUID(int=1), UUID(int=2)
NAMES = st.sampled_from(["a", "layer/weights", "ä" * 90])
SEQUENCES = st.sampled_from([1, 127, 128, 16_384, 2**63, 2**64 - 1])
DTYPES: st.SearchStrategy[np.dtype[Any]] = st.sampled_from(
    [np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int32), np.dtype(">f4")]
)
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    array = np.arange(27).astype(draw(DTYPES))[: draw(st.integers(0, 27))]
    shape = draw(SHAPES)
    size = int(np.prod(shape))
    values = np.resize(array, size).reshape(shape) if array.size else np.zeros(shape, array.dtype)
    return values.T if draw(st.booleans()) else values


EVENTS = st.binary(max_size=9).map(lambda data: np.frombuffer(data, np.uint8))


@st.composite
def operations(draw: st.DrawFn) -> PsOperation:
    name = draw(NAMES)
    match draw(st.integers(0, 9)):
        case 0:
            return Update(name, draw(st.sampled_from(UpdateRule)), draw(arrays()))
        case 1:
            return Read(name, draw(st.none() | st.integers(0, 5)), draw(st.sampled_from(WireDType)))
        case 2:
            rows = np.arange(draw(st.integers(0, 3)), dtype=draw(st.sampled_from([np.int32, np.int64])))
            return Gather(name, rows, draw(st.integers(1, 3)))
        case 3:
            rule = draw(st.sampled_from(ScatterRule))
            return Scatter(name, rule, np.zeros(2, np.int64), draw(arrays()), draw(st.integers(1, 2)))
        case 4:
            return Describe(name)
        case 5:
            return CountUpTo(name, draw(st.integers(0, 9)))
        case 6:
            slots = tuple(draw(st.lists(NAMES, max_size=2)))
            operands = tuple(draw(st.lists(arrays(), max_size=2)))
            return Apply(
                name, "momentum", slots, draw(NAMES), operands, np.arange(draw(st.integers(0, 2)), dtype=float)
            )
        case 7:
            return Act(name, draw(NAMES), draw(EVENTS), tuple(draw(st.lists(arrays(), max_size=2))))
        case 8:
            return Look(name, draw(NAMES), draw(EVENTS), draw(st.integers(0, 5000)) / 1000)
        case _:
            return Declare(VariableSpec(name, np.dtype(np.float32), (2,)))


BATCHES = st.builds(
    lambda sequence, operations: Batch(CLIENT, STORE, sequence, tuple(operations)),
    SEQUENCES,
    st.lists(operations(), min_size=1, max_size=3),
).map(lambda batch: batch if batch.mutates else Batch(CLIENT, STORE, 0, batch.operations))


def described(value: object) -> object:
    """A batch or reply with its arrays as something that compares."""
    if isinstance(value, np.ndarray):
        return value.dtype.newbyteorder("="), value.shape, value.tobytes()
    if isinstance(value, tuple):
        return tuple(described(each) for each in value)
    if isinstance(value, ShardscopeError):
        return type(value), value.message, value.variable
    if hasattr(value, "__dataclass_fields__"):
        names = [name for name in value.__dataclass_fields__ if name != "checksum"]  # which is made on the way
        return type(value), *(described(getattr(value, name)) for name in names)
    return value


SIZES = (0, 1, 5, 1000, 2000, 5000, 30_000)  # in elements of 4 bytes, around the limits of the checksum


@given(st.lists(st.sampled_from(SIZES), min_size=1, max_size=3), st.data())
def test_the_checksum_of_a_batch_does_not_depend_on_how_it_is_sent(sizes: list[int], data: st.DataObject) -> None:
    tensors = [np.arange(size, dtype=np.float32) for size in sizes]
    updates = tuple([Update(f"v{size}", UpdateRule.ASSIGN_ADD, tensor) for size, tensor in enumerate(tensors)])
    batch = Batch(CLIENT, STORE, data.draw(SEQUENCES.filter(bool)), updates)
    checksums = set()
    for _ in range(2):  # the second time the header is known
        for names_client in (False, True):
            header, parts = request_bytes.encode_request(batch, names_client=names_client)
            head = parse_request(header, CLIENT)
            checksums.add(head.batch(parts).checksum)
            checksums.add(head.batch_of(memoryview(b"".join(parts))).checksum)
    assert len(checksums) == 1
    assert 0 not in checksums
    # another name, another rule, another element near an end
    others = [replace(updates[0], name="other"), replace(updates[0], rule=UpdateRule.ASSIGN_SUB)]
    if tensors[0].size:
        changed = tensors[0].copy()
        changed[data.draw(st.sampled_from([0, -1]))] += 1
        others.append(replace(updates[0], value=changed))
    for other in others:
        header, parts = request_bytes.encode_request(
            replace(batch, operations=(other, *updates[1:])), names_client=False
        )
        assert parse_request(header, CLIENT).batch(parts).checksum not in checksums


def test_a_batch_that_only_reads_has_no_checksum() -> None:
    for _ in range(2):
        header, _ = request_bytes.encode_request(Batch(CLIENT, STORE, 0, (Read("w"),)), names_client=False)
        assert parse_request(header, CLIENT).batch(()).checksum == 0


@given(BATCHES, st.integers(1, 3))
def test_requests(batch: Batch, times: int) -> None:
    message, buffers = message_codec.encode_batch(batch)
    message.client_incarnation = b""
    for _ in range(times):  # what was kept from the first is used for the next
        header, parts = request_bytes.encode_request(batch, names_client=False)
        assert header == message.SerializeToString()
        assert [bytes(part) for part in parts] == [bytes(buffer) for buffer in buffers]
        data = memoryview(bytearray(b"".join(parts)))
        decoded = parse_request(header, CLIENT).batch_of(data)
        message.client_incarnation = CLIENT.bytes
        assert described(decoded) == described(message_codec.MessageRequest(message).batch_of(data))
        message.client_incarnation = b""


def test_numbers_without_elements_may_be_announced() -> None:
    """As clients did that did not leave them out."""
    gradient = np.arange(3, dtype=np.float32)
    steps = [Apply(name, "momentum", (), "", (gradient + at,), np.empty(0)) for at, name in enumerate("ab")]
    batch = Batch(CLIENT, STORE, 1, tuple(steps))
    message, buffers = message_codec.encode_batch(batch)
    for operation in message.operations:
        operation.apply.numbers.dtype = "float64"
        operation.apply.numbers.shape.append(0)
    data = memoryview(bytearray(b"".join(buffers)))
    for _ in range(2):
        decoded = parse_request(message.SerializeToString(), CLIENT).batch_of(data)
        assert described(decoded) == described(batch)


@given(BATCHES)
def test_requests_that_name_their_client(batch: Batch) -> None:
    header, parts = request_bytes.encode_request(batch, names_client=True)
    assert batch_pb2.BatchRequest.FromString(header).client_incarnation == CLIENT.bytes
    data = memoryview(b"".join(parts))
    for _ in range(2):
        assert parse_request(header, UUID(int=9)).batch_of(data).client == CLIENT


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    version = draw(st.sampled_from([0, 1, 300, 2**64 - 1]))
    match draw(st.integers(0, 4)):
        case 0:
            return NotFoundError("there is none", variable="a")
        case 1:
            return Result(version, draw(st.booleans()))
        case 2:
            return Result(version, True, None, VariableSpec("a", np.dtype(np.float32), (2,)))
        case _:
            return Result(version, True, draw(arrays()))


@given(st.lists(replies(), min_size=1, max_size=3), st.integers(1, 3))
def test_replies(answers: list[Reply], times: int) -> None:
    reply, asked = BatchReply(tuple(answers)), [Read("a")] * len(answers)
    message, buffers = message_codec.encode_reply(reply, asked)
    for _ in range(times):
        header, parts = encode_answer(reply, asked)
        assert header == message.SerializeToString()
        data = memoryview(b"".join(parts))
        assert data == b"".join(buffers)
        expected = described(message_codec.reply_head(message).reply(parts))
        head = parse_reply(header, asked)
        assert head.layouts == message_codec.reply_head(message).layouts
        assert len(head.answered) == len(head.layouts)
        assert described(head.reply_of(data)) == expected
        assert described(head.reply(parts)) == expected


@given(st.lists(replies(), min_size=1, max_size=3))
def test_replies_into_the_callers_arrays(answers: list[Reply]) -> None:
    reply = BatchReply(tuple(answers))
    header, parts = encode_answer(reply, [Read("a")] * len(answers))
    expected = described(message_codec.reply_head(message_codec.encode_reply(reply)[0]).reply(parts))
    for is_end_to_end in (False, True):
        tensors = [each.tensor if isinstance(each, Result) else None for each in answers]
        outs = [None if each is None else np.empty(each.shape, each.dtype.newbyteorder("=")) for each in tensors]
        head = parse_reply(header, [Read("a", out=out) for out in outs])
        decoded = head.reply_of(memoryview(b"".join(parts))) if is_end_to_end else head.reply(parts)
        assert described(decoded) == expected
        for result, out in zip(decoded.replies, outs, strict=True):
            assert out is None or (isinstance(result, Result) and result.tensor is out)


@given(st.binary(max_size=40), st.integers(1, 2))
def test_a_reply_of_garbage_is_read_as_protobuf_would(header: bytes, count: int) -> None:
    asked = [Read("a")] * count
    try:
        message = batch_pb2.BatchReply.FromString(header)
        expected = described(message_codec.reply_head(message).reply_of(memoryview(b"")))
        if len(message.replies) != count:
            raise InvalidArgumentError("not the answer to this")  # noqa: TRY301 - as the rest of what is malformed
    except (DecodeError, InvalidArgumentError):
        with pytest.raises(InvalidArgumentError):
            parse_reply(header, asked).reply_of(memoryview(b""))
        return
    assert described(parse_reply(header, asked).reply_of(memoryview(b""))) == expected


def test_tensors_that_are_not_those_of_the_header_are_refused() -> None:
    header, _ = encode_answer(BatchReply((Result(1, True, np.zeros(2, np.float32)),)), [Read("a")])
    head = parse_reply(header, [Read("a")])
    for data in (b"", bytes(4), bytes(12)):
        with pytest.raises(InvalidArgumentError):
            head.reply_of(memoryview(data))
        with pytest.raises(InvalidArgumentError):
            head.reply([data])
    with pytest.raises(InvalidArgumentError):
        head.reply([])


@given(st.binary(max_size=60), st.binary(max_size=8))
def test_garbage_is_answered_as_protobuf_would(header: bytes, data: bytes) -> None:
    try:
        message = batch_pb2.BatchRequest.FromString(header)
    except DecodeError:
        with pytest.raises(DecodeError):
            parse_request(header, CLIENT).batch_of(memoryview(data))
        return
    message.client_incarnation = message.client_incarnation or CLIENT.bytes
    try:
        expected = message_codec.MessageRequest(message).batch_of(memoryview(data))
    except InvalidArgumentError:
        with pytest.raises(InvalidArgumentError):
            parse_request(header, CLIENT).batch_of(memoryview(data))
        return
    assert described(parse_request(header, CLIENT).batch_of(memoryview(data))) == described(expected)


def test_a_header_is_not_mistaken_for_one_with_other_tensors() -> None:
    update = Update("mistaken", UpdateRule.ASSIGN, np.zeros(2, np.float32))
    header, _ = request_bytes.encode_request(Batch(CLIENT, STORE, 1, (update,)), names_client=False)
    parse_request(header, CLIENT).batch_of(memoryview(bytes(8)))
    with pytest.raises(InvalidArgumentError):
        parse_request(header, CLIENT).batch_of(memoryview(bytes(4)))


def test_a_kept_header_still_needs_its_sequence() -> None:
    update = Update("unnumbered", UpdateRule.ASSIGN, np.zeros((), np.float32))
    header, _ = request_bytes.encode_request(Batch(CLIENT, STORE, 1, (update,)), names_client=False)
    parse_request(header, CLIENT).batch_of(memoryview(bytes(4)))
    with pytest.raises(InvalidArgumentError, match="sequence 0"):
        parse_request(header[2:], CLIENT).batch_of(memoryview(bytes(4)))


def test_of_a_sequence_that_is_there_twice_the_last_counts() -> None:
    update = Update("twice", UpdateRule.ASSIGN, np.zeros((), np.float32))
    header, _ = request_bytes.encode_request(Batch(CLIENT, STORE, 7, (update,)), names_client=False)
    doubled = header + b"\x10\x07"
    for first in (7, 8):
        decoded = parse_request(b"\x10" + bytes([first]) + doubled[2:], CLIENT).batch_of(memoryview(bytes(4)))
        assert decoded.sequence == 7


def test_tables_forget_but_do_not_grow() -> None:
    table: BoundedTable[int] = BoundedTable(limit_bytes=100)
    for index in range(25):
        table.put(index, index, 10)
        assert table.used_bytes <= 100
    assert table.get(24) == 24
    assert table.get(0) is None
    table.put(24, 99, 10)
    assert (table.get(24), table.used_bytes) == (24, 50)


def test_many_operations_in_small_headers_count_by_what_is_made_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: BoundedTable[request_bytes._Template] = BoundedTable(limit_bytes=100_000)
    monkeypatch.setattr(request_bytes, "_templates", kept)
    for index in range(20):
        batch = Batch(CLIENT, UUID(int=index), 0, (Read("a"),) * 100)
        header, _ = request_bytes.encode_request(batch, names_client=False)
        assert len(header) < 1000
        assert parse_request(header, CLIENT).batch_of(memoryview(b"")) == batch
        assert 50_000 < kept.used_bytes <= 100_000
        assert kept.get(header) is not None


def test_a_read_that_names_a_version_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: BoundedTable[request_bytes._Template] = BoundedTable()
    monkeypatch.setattr(request_bytes, "_templates", kept)
    for version in range(3):
        batch = Batch(CLIENT, STORE, 0, (Read("a", unless_version=version),))
        header, _ = request_bytes.encode_request(batch, names_client=False)
        assert parse_request(header, CLIENT).batch_of(memoryview(b"")) == batch
    assert kept.used_bytes == 0


def test_what_else_a_reply_says_behind_its_tensor_is_not_passed_over() -> None:
    message, buffers = message_codec.encode_reply(BatchReply((Result(1, True, np.zeros(2, np.float32)),)))
    answer = message.replies[0].SerializeToString() + b"\x10\x05"  # the version once more: the last one counts
    header = b"\x0a" + bytes([len(answer)]) + answer
    data = memoryview(b"".join(buffers))
    (result,) = parse_reply(header, [Read("a")]).reply_of(data).replies
    assert isinstance(result, Result)
    assert result.version == 5
