"""The tables that a kind of operation has to be in, and what a new kind needs: its rows, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any, get_args
from uuid import UUID

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from ps_protocol.codec import message_codec, operation_codec
from ps_protocol.codec.fast import request_bytes
from ps_protocol.codec.fast.request_bytes import KEYS
from ps_protocol.codec.operation_codec import CODECS, OperationCodec
from ps_protocol.codec.spec_codec import TakeTensor
from ps_protocol.codec.tensor_codec import encode_into
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec, ValueKind
from ps_protocol.operation_kinds import (
    KINDS,
    Logged,
    OperationKind,
    map_tensors,
    names_of,
    reply_bytes,
    tensor_bytes,
    tensors_of,
)
from ps_protocol.operations import (
    READ_ONLY,
    READS,
    Apply,
    Array,
    Batch,
    CountUpTo,
    Declare,
    Describe,
    Gather,
    Initialize,
    PsOperation,
    Read,
    Reduce,
    Replace,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_protocol.shared_objects import Act, Look
from ps_protocol.training.round_messages import Decision, Part
from ps_protocol.training.round_operations import Commit, Stage, StagedStep
from ps_protocol.v1 import batch_pb2, records_pb2
from ps_server.batches.handlers import HANDLERS, Resources
from ps_server.batches.runner import BatchRunner
from ps_server.log import record_codec
from ps_server.log.records import AppliedBatch
from ps_server.store.variable_store import VariableStore
from ps_server.transport.shared_memory.batches import with_private_operands
from tests.unit.ps_server.log.logged_tasks import TIMEOUT_S, Journal, Task
from worker_client.connection.pending_queue import Submission

FLOAT = np.dtype(np.float32)
SPEC = VariableSpec("w", FLOAT, (3, 2))
ROWS = np.array([0, 2])
VALUES = np.arange(6, dtype=FLOAT).reshape(3, 2)
EVENT = np.frombuffer(b'{"do": "arrive"}', np.uint8)
STEP = StagedStep("w", "momentum", ("w/m",), "w/step", (ROWS, VALUES[:2]), np.array([0.1, 0.9, 0.0]))
GIVEN = InitializerSpec(ValueKind(VALUES))
EXAMPLES: tuple[PsOperation, ...] = (
    Declare(SPEC, GIVEN),
    Initialize("w", GIVEN),
    Read("w"),
    Update("w", UpdateRule.ASSIGN, VALUES),
    Replace("w", VALUES[:2], keeps_shape=True),
    Scatter("w", ScatterRule.ADD, ROWS, VALUES[:2]),
    CountUpTo("w", 7),
    Apply("w", "momentum", ("w/m",), "w/step", (ROWS, VALUES[:2]), np.array([0.1, 0.9, 0.0])),
    Reduce("w", "dot", (VALUES,), np.empty(0)),
    Gather("w", ROWS),
    Act("w", "accumulator", EVENT, (VALUES,)),
    Look("w", "barrier", EVENT, 0.25),
    Stage("staged/1", "stamp", 1, 7, 5, 2, 3, (STEP, StagedStep("v", "sgd", (), "v/step", (VALUES,), np.empty(0)))),
    Commit("stamp", Decision(5, (Part(0, 6, 5), Part(1, 7, 5))), ("staged/0", "staged/1"), ("w", "w/m", "w/step")),
    Describe("w"),
)
UNION = frozenset(get_args(PsOperation))


def test_every_kind_has_a_row_messages_and_a_handler() -> None:
    assert frozenset(map(type, EXAMPLES)) == UNION
    assert frozenset(KINDS) == UNION
    assert frozenset(CODECS) == UNION
    assert frozenset(HANDLERS) == UNION
    assert frozenset(KEYS) <= UNION


def test_every_kind_of_the_contract_has_one_codec() -> None:
    of_contract = [field.name for field in batch_pb2.Operation.DESCRIPTOR.oneofs_by_name["kind"].fields]
    assert sorted(codec.field for codec in CODECS.values()) == sorted(of_contract)


def test_what_changes_nothing_is_logged_as_a_look() -> None:
    for kind, row in KINDS.items():
        assert (row.logged is Logged.AS_A_LOOK) is (kind in READ_ONLY), kind


@pytest.mark.parametrize(
    ("operation", "size_bytes"),
    [(Read("w"), VALUES.nbytes), (Gather("w", ROWS), VALUES[ROWS].nbytes), (Update("w", UpdateRule.ASSIGN, VALUES), 0)],
)
def test_the_room_for_a_reply_is_known_before(operation: PsOperation, size_bytes: int) -> None:
    assert reply_bytes(operation, SPEC) == size_bytes
    counter = VariableSpec("n", np.dtype(np.int64), ())
    assert reply_bytes(CountUpTo("n", 7), counter) == 8


def test_reads_are_the_kinds_whose_tensor_has_a_place() -> None:
    assert frozenset(READS) == {kind for kind in UNION if "out" in {field.name for field in fields(kind)}}
    for kind in READS:
        assert KINDS[kind].reply_bytes is not None
        assert kind in READ_ONLY


def test_all_variables_that_an_operation_works_on_are_known() -> None:
    names = {type(each): names_of([each]) for each in EXAMPLES}
    assert names.pop(Apply) == {"w", "w/m", "w/step"}
    assert names.pop(Stage) == {"staged/1", "stamp", "w", "w/m", "w/step", "v", "v/step"}
    assert names.pop(Commit) == {"stamp", "staged/0", "staged/1", "w", "w/m", "w/step"}
    assert set(map(frozenset, names.values())) == {frozenset({"w"})}


@pytest.mark.parametrize("operation", EXAMPLES, ids=lambda each: type(each).__name__)
def test_tensors_are_those_that_travel(operation: PsOperation) -> None:
    buffers: list[memoryview] = []
    operation_codec.encode_operation_into(batch_pb2.Operation(), operation, buffers)
    assert [each.nbytes for each in tensors_of(operation)] == [len(each) for each in buffers]
    assert tensor_bytes([operation, operation]) == 2 * sum(map(len, buffers))
    operand = KINDS[type(operation)].operand(operation)
    assert operand is None or any(operand is each for each in tensors_of(operation))
    assert operand is None or operand.dtype == FLOAT


@pytest.mark.parametrize("operation", EXAMPLES, ids=lambda each: type(each).__name__)
def test_tensors_are_mapped_and_the_rest_stays(operation: PsOperation) -> None:
    mapped = map_tensors(operation, lambda tensor: tensor + 1)
    assert type(mapped) is type(operation)
    for old, new in zip(tensors_of(operation), tensors_of(mapped), strict=True):
        np.testing.assert_array_equal(new, old + 1)
    back = map_tensors(mapped, lambda tensor: tensor - 1)
    assert repr(back) == repr(operation)


def test_without_a_value_nothing_is_mapped() -> None:
    for operation in (Declare(SPEC), Initialize("w", InitializerSpec(ConstantKind(1.0)))):
        assert tensors_of(operation) == ()
        assert map_tensors(operation, np.zeros_like) is operation
        assert KINDS[type(operation)].with_tensors(operation, ()) is operation


@dataclass(frozen=True, slots=True)
class Mix:
    """A kind of operation that there is not: half of the value, and half of another."""

    name: str
    value: Array


def _encode_mix(message: Any, mix: Mix, buffers: list[memoryview]) -> None:
    buffers.append(encode_into(message.value, mix.value))


def _decode_mix(name: str, message: Any, take: TakeTensor) -> Any:
    return Mix(name, take(message.value))


def _handle_mix(ps: Resources, mix: Mix, _deadline_s: float, _lend: bool, _take: bool) -> Result:
    tensor = ps.store.read(Read(mix.name)).tensor
    assert tensor is not None
    return ps.store.update(Update(mix.name, UpdateRule.ASSIGN, (tensor + mix.value) / 2))


def _contract_with_mix() -> dict[str, Any]:
    """The messages of batch.proto and records.proto, by name, as they would be with one more kind of operation."""
    pool = descriptor_pool.DescriptorPool()
    known: set[str] = set()

    def add(file: Any) -> None:
        if file.name in known:
            return
        known.add(file.name)
        for needed in file.dependencies:
            add(needed)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        if file.name == batch_pb2.DESCRIPTOR.name:
            mix = proto.message_type.add(name="Mix")
            mix.field.add(name="value", number=1, type=11, label=1, type_name=".ps_protocol.v1.TensorHeader")
            (operation,) = (each for each in proto.message_type if each.name == "Operation")
            operation.field.add(
                name="mix", number=100, type=11, label=1, type_name=".ps_protocol.v1.Mix", oneof_index=0
            )
        pool.Add(proto)

    add(records_pb2.DESCRIPTOR)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"ps_protocol.v1.{name}"))
        for name in ("BatchRequest", "BatchReply", "Operation", "OperationReply", "Record")
    }


@pytest.fixture
def _with_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of operation in its four places: the contract, the table of kinds, that of codecs and that of handlers."""
    messages = _contract_with_mix()
    monkeypatch.setattr(message_codec, "batch_pb2", SimpleNamespace(**messages))
    monkeypatch.setattr(record_codec, "records_pb2", SimpleNamespace(**messages))
    monkeypatch.setattr(request_bytes, "BatchRequest", messages["BatchRequest"])
    monkeypatch.setattr(request_bytes, "OperationMessage", messages["Operation"])
    kind = OperationKind(
        logged=Logged.AS_ITSELF,
        tensors=lambda mix: (mix.value,),
        with_tensors=lambda mix, tensors: Mix(mix.name, tensors[0]),  # type: ignore[arg-type, return-value]
        operand=lambda mix: mix.value,
    )
    monkeypatch.setitem(KINDS, Mix, kind)
    monkeypatch.setitem(CODECS, Mix, OperationCodec("mix", _encode_mix, _decode_mix))
    monkeypatch.setitem(operation_codec._DECODERS, "mix", _decode_mix)
    monkeypatch.setitem(HANDLERS, Mix, _handle_mix)


@pytest.mark.usefixtures("_with_mix")
class TestANewKind:
    MIX: Any = Mix("w", np.full((3, 2), 3, FLOAT))

    def test_travels(self) -> None:
        batch = Batch(UUID(int=1), UUID(int=2), 5, (self.MIX, Read("w")))
        for _ in range(2):  # what was kept from the first time is used for the second
            header, buffers = request_bytes.encode_request(batch, names_client=False)
            head = request_bytes.parse_request(header, batch.client)
            assert repr(head.batch_of(memoryview(b"".join(buffers)))) == repr(batch)
            assert repr(head.batch(buffers)) == repr(batch)

    def test_counts_as_it_says(self) -> None:
        assert Batch(UUID(int=1), UUID(int=2), 5, (self.MIX,)).mutates
        pending = Submission((self.MIX,), 0)
        assert not pending.is_mergeable
        assert pending.size_bytes == 24

    def test_its_operand_stays_in_shared_memory_unless_it_is_kept(self) -> None:
        batch = Batch(UUID(int=1), UUID(int=2), 5, (self.MIX,))
        for is_kept in (False, True):
            (safe,) = with_private_operands(batch, is_kept=is_kept).operations
            (tensor,) = tensors_of(safe)
            assert np.shares_memory(tensor, self.MIX.value) is not is_kept

    def test_is_carried_out(self) -> None:
        store = VariableStore()
        store.declare(Declare(SPEC, InitializerSpec(ConstantKind(1.0))), 1.0)
        runner = BatchRunner(store, task="ps:0", clock=lambda: 0.0)
        assert runner.run([self.MIX], 1.0).replies == (Result(1, True),)
        np.testing.assert_array_equal(store.read(Read("w")).tensor, np.full((3, 2), 2, FLOAT))

    def test_is_logged_and_carried_out_again(self) -> None:
        journal = Journal()
        task = Task(journal)
        task.hello()
        task.run(Declare(SPEC, InitializerSpec(ConstantKind(1.0))))
        assert task.result(self.MIX).version == 1
        task.log.close(TIMEOUT_S)
        written = []
        for logged in journal.records:
            header, buffers = record_codec.encode_record(logged)
            parsed = record_codec.parse_record(header.SerializeToString())
            written.append(record_codec.decode_record_of(parsed, memoryview(b"".join(buffers))))
        applied = written[-1].record
        assert isinstance(applied, AppliedBatch)
        assert repr(applied.operations) == repr((self.MIX,))
        journal.records = written
        after = Task(journal, client=task.client)
        assert after.value("w") == [[2.0, 2.0]] * 3
        after.log.close(TIMEOUT_S)
