"""Tensors in lossy forms inside batches and replies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from ps_protocol.codec import message_codec, tensor_codec, wire_dtypes
from ps_protocol.codec.reply_targets import reply_buffers
from ps_protocol.codec.tensor_codec import TensorLayout
from ps_protocol.errors import InternalError, InvalidArgumentError, NotFoundError
from ps_protocol.operations import (
    Array,
    Batch,
    BatchReply,
    CountUpTo,
    Gather,
    PsOperation,
    Read,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    WireDType,
)
from ps_protocol.v1 import batch_pb2
from ps_protocol.v1.tensor_pb2 import TensorHeader

LOSSY = (WireDType.BFLOAT16, WireDType.FLOAT16, WireDType.INT8)
VALUES = np.linspace(-3, 4, 600, dtype=np.float32).reshape(2, 300)
FLOAT = np.dtype(np.float32)


def rounded(wire: WireDType, array: Array = VALUES) -> Array:
    decoded = np.empty_like(array)
    wire_dtypes.decode_into(wire, wire_dtypes.encode(wire, array), decoded)
    return decoded


def batch_of(*operations: PsOperation) -> Batch:
    batch = Batch(uuid4(), uuid4(), 0, operations)
    return Batch(batch.client, batch.store, int(batch.mutates), operations)


def sent(batch: Batch) -> tuple[batch_pb2.BatchRequest, list[bytes]]:
    header, buffers = message_codec.encode_batch(batch)
    return batch_pb2.BatchRequest.FromString(header.SerializeToString()), [bytes(each) for each in buffers]


@pytest.mark.parametrize("wire", LOSSY)
class TestTensors:
    def test_layout_has_the_size_of_the_form_and_the_shape_of_the_array(self, wire: WireDType) -> None:
        header, buffer = tensor_codec.encode(VALUES, wire)
        layout = tensor_codec.parse_header(header)
        assert layout == TensorLayout(FLOAT, (2, 300), wire_dtypes.encoded_bytes(wire, 600), wire)
        assert len(buffer) == layout.size_bytes
        assert (buffer.format, buffer.ndim) == ("B", 1)
        assert layout.decoded_bytes == VALUES.nbytes

    def test_room_is_made_for_the_bytes(self, wire: WireDType) -> None:
        header, encoded = tensor_codec.encode(VALUES, wire)
        _, buffer = tensor_codec.allocate(tensor_codec.parse_header(header))
        buffer[:] = encoded
        np.testing.assert_array_equal(tensor_codec.decode(header, buffer), rounded(wire))

    def test_decoded_is_an_array_of_its_own(self, wire: WireDType) -> None:
        header, encoded = tensor_codec.encode(VALUES, wire)
        decoded = tensor_codec.decode(header, bytes(encoded))
        assert (decoded.dtype, decoded.shape) == (FLOAT, (2, 300))
        assert decoded.flags.writeable

    def test_decoded_into_an_array_given(self, wire: WireDType) -> None:
        header, encoded = tensor_codec.encode(VALUES, wire)
        out = np.zeros((2, 300), FLOAT)
        assert tensor_codec.decode_as(tensor_codec.parse_header(header), encoded, out) is out
        np.testing.assert_array_equal(out, rounded(wire))

    def test_an_array_that_does_not_fit_is_refused(self, wire: WireDType) -> None:
        header, encoded = tensor_codec.encode(VALUES, wire)
        for out in (np.zeros((300, 2), FLOAT), np.zeros((2, 300)), np.zeros((300, 2), FLOAT).T):
            with pytest.raises(InternalError, match="out"):
                tensor_codec.decode_as(tensor_codec.parse_header(header), encoded, out)
            assert not out.any()

    def test_a_buffer_of_another_size_takes_no_memory(self, wire: WireDType) -> None:
        header = TensorHeader(dtype="float32", shape=[2**50], wire=int(wire))  # type: ignore[arg-type]  # the number
        with pytest.raises(InvalidArgumentError, match="its buffer has 12"):
            tensor_codec.decode(header, bytes(12))

    @pytest.mark.parametrize("dtype", ["int8", "int64", "float16", "bfloat16", "complex64", "bool", "S4"])
    def test_other_dtypes_are_refused(self, wire: WireDType, dtype: str) -> None:
        header = TensorHeader(dtype=dtype, shape=[2], wire=int(wire))  # type: ignore[arg-type]  # the number
        for refused in (lambda: tensor_codec.parse_header(header), lambda: tensor_codec.decode(header, bytes(4))):
            with pytest.raises(InvalidArgumentError, match="only float32 and float64 can"):
                refused()


def test_an_exact_tensor_needs_no_second_memory() -> None:
    header, _ = tensor_codec.encode(VALUES)
    assert tensor_codec.parse_header(header).decoded_bytes == 0
    assert header.wire == 0


@pytest.mark.parametrize("number", [4, 99, -1])
def test_an_unknown_form_is_refused(number: int) -> None:
    unknown: Any = number
    header = TensorHeader(dtype="float32", shape=[1], wire=unknown)
    for refused in (lambda: tensor_codec.parse_header(header), lambda: tensor_codec.decode(header, bytes(4))):
        with pytest.raises(InvalidArgumentError, match=f"wire dtype {number} is unknown.*int8 \\(3\\)"):
            refused()


@pytest.mark.parametrize("wire", LOSSY)
class TestBatches:
    def test_operations_keep_their_forms(self, wire: WireDType) -> None:
        rows = np.array([1, 0])
        batch = batch_of(
            Update("a", UpdateRule.ASSIGN_ADD, VALUES, wire),
            Scatter("b", ScatterRule.ADD, rows, VALUES, wire=wire),
            Read("c", 4, wire),
            Gather("d", rows, wire=wire),
            Update("e", UpdateRule.ASSIGN, VALUES),
        )
        header, buffers = sent(batch)
        assert [each.size_bytes for each in message_codec.MessageRequest(header).layouts] == [
            len(each) for each in buffers
        ]
        update, scatter, read, gather, exact = message_codec.MessageRequest(header).batch(buffers).operations
        assert isinstance(update, Update)
        assert isinstance(scatter, Scatter)
        assert isinstance(gather, Gather)
        assert isinstance(exact, Update)
        assert (update.wire, scatter.wire, gather.wire, exact.wire) == (wire, wire, wire, WireDType.EXACT)
        assert read == Read("c", 4, wire)
        np.testing.assert_array_equal(update.value, rounded(wire))
        np.testing.assert_array_equal(scatter.updates, rounded(wire))
        np.testing.assert_array_equal(scatter.indices, rows)
        np.testing.assert_array_equal(exact.value, VALUES)

    def test_encoded_again_it_is_the_same(self, wire: WireDType) -> None:
        header, buffers = sent(batch_of(Update("a", UpdateRule.ASSIGN_ADD, VALUES, wire)))
        assert sent(message_codec.MessageRequest(header).batch(buffers)) == (header, buffers)

    def test_bytes_that_are_known_are_not_made_again(self, wire: WireDType) -> None:
        encoded = wire_dtypes.encode(wire, VALUES)
        update = Update("a", UpdateRule.ASSIGN_ADD, rounded(wire), wire, encoded)
        _, (buffer,) = message_codec.encode_batch(batch_of(update))
        assert np.shares_memory(np.frombuffer(buffer, np.uint8), encoded)
        assert sent(batch_of(replace(update, encoded=None)))[1] == [bytes(buffer)]

    def test_an_integer_tensor_is_refused_before_anything_is_sent(self, wire: WireDType) -> None:
        with pytest.raises(InvalidArgumentError, match=r"step.*int64 tensor cannot travel") as caught:
            message_codec.encode_batch(batch_of(Update("step", UpdateRule.ASSIGN, np.arange(3), wire)))
        assert caught.value.variable == "step"

    def test_bad_bytes_are_refused_whole(self, wire: WireDType) -> None:
        header, buffers = sent(batch_of(Update("a", UpdateRule.ASSIGN, VALUES, wire)))
        with pytest.raises(InvalidArgumentError, match=r"a: in update, .*but its buffer has") as caught:
            message_codec.MessageRequest(header).batch([buffers[0][:-1]])
        assert caught.value.variable == "a"


def test_a_scale_that_no_block_has_is_refused() -> None:
    header, buffers = sent(batch_of(Update("a", UpdateRule.ASSIGN, VALUES, WireDType.INT8)))
    with pytest.raises(InvalidArgumentError, match="scale of block 0"):
        message_codec.MessageRequest(header).batch([np.float32(-1).tobytes() + buffers[0][4:]])


@pytest.mark.parametrize("kind", ["read", "gather"])
def test_an_unknown_form_asked_for_is_refused(kind: str) -> None:
    header, _ = sent(batch_of(Read("a") if kind == "read" else Gather("a", np.array([1]))))
    getattr(header.operations[0], kind).wire = 17
    with pytest.raises(InvalidArgumentError, match="wire dtype 17 is unknown"):
        message_codec.MessageRequest(header)


@pytest.mark.parametrize("wire", LOSSY)
class TestReplies:
    def test_tensors_travel_as_asked(self, wire: WireDType) -> None:
        operations = (Read("a", wire=wire), Read("b"), Gather("c", np.array([0, 1]), wire=wire))
        reply = BatchReply((Result(1, True, VALUES), Result(2, True, VALUES), Result(3, True, VALUES)))
        header, buffers = message_codec.encode_reply(reply, operations)
        size_bytes = wire_dtypes.encoded_bytes(wire, VALUES.size)
        assert [len(each) for each in buffers] == [size_bytes, VALUES.nbytes, size_bytes]
        first, second, third = message_codec.reply_head(header, operations).reply(buffers).replies
        assert isinstance(first, Result)
        assert isinstance(second, Result)
        assert isinstance(third, Result)
        assert (first.version, first.initialized, third.version) == (1, True, 3)
        np.testing.assert_array_equal(first.tensor, rounded(wire))
        np.testing.assert_array_equal(second.tensor, VALUES)
        np.testing.assert_array_equal(third.tensor, rounded(wire))

    def test_errors_and_replies_without_tensors_stay(self, wire: WireDType) -> None:
        operations = (Read("a", wire=wire), Read("b", 7, wire))
        header, buffers = message_codec.encode_reply(BatchReply((NotFoundError("no"), Result(7, True))), operations)
        error, same = message_codec.reply_head(header, operations).reply(buffers).replies
        assert isinstance(error, NotFoundError)
        assert same == Result(7, True)

    def test_a_value_that_has_no_such_form_is_an_error_of_its_operation(self, wire: WireDType) -> None:
        operations = (Read("step", wire=wire), Read("a"), CountUpTo("step", 9))
        reply = BatchReply(
            (Result(1, True, np.arange(3)), Result(2, True, VALUES), Result(1, True, np.int64(3) + np.zeros((), int)))
        )
        header, buffers = message_codec.encode_reply(reply, operations)
        refused, read, counted = message_codec.reply_head(header, operations).reply(buffers).replies
        assert isinstance(refused, InvalidArgumentError)
        assert refused.variable == "step"
        assert "int64 tensor cannot travel" in refused.message
        assert isinstance(read, Result)
        assert isinstance(counted, Result)

    def test_are_put_where_they_are_wanted(self, wire: WireDType) -> None:
        lossy, exact, copied = (np.zeros((2, 300), FLOAT) for _ in range(3))
        operations = (Read("a", wire=wire, out=lossy), Read("b", out=exact), Read("c"), Read("d", out=copied))
        header, sent_buffers = message_codec.encode_reply(BatchReply((Result(1, True, VALUES),) * 4), operations)
        head = message_codec.reply_head(header, operations)
        buffers = reply_buffers(head.layouts, head.targets)
        assert [len(each) for each in buffers] == [len(each) for each in sent_buffers]
        for buffer, data in zip(buffers, sent_buffers, strict=True):
            buffer[:] = data
        np.testing.assert_array_equal(exact, VALUES)  # received in its place
        buffers[3] = sent_buffers[3]  # from a transport that cannot do that
        copied[:] = 0
        tensors = [
            each.tensor
            for each in message_codec.reply_head(header, operations).reply(buffers).replies
            if isinstance(each, Result)
        ]
        assert tensors[0] is lossy
        assert tensors[1] is exact
        assert tensors[3] is copied
        np.testing.assert_array_equal(lossy, rounded(wire))
        np.testing.assert_array_equal(copied, VALUES)

    def test_that_do_not_fit_their_place_are_refused(self, wire: WireDType) -> None:
        for asked in (wire, WireDType.EXACT):
            operations = (Read("a", wire=asked, out=np.zeros(3, FLOAT)),)
            header, buffers = message_codec.encode_reply(BatchReply((Result(1, True, VALUES),)), operations)
            with pytest.raises(InternalError, match="out"):
                message_codec.reply_head(header, operations).reply(buffers)
