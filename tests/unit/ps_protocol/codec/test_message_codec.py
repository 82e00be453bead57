"""Typed values as messages: nothing is lost on the way, and what is malformed is refused by name."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from google.protobuf import text_format

from ps_protocol.codec import error_codec, message_codec
from ps_protocol.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    ShapeMismatchError,
    UnknownError,
)
from ps_protocol.initializer_spec import (
    ConstantKind,
    Distribution,
    FanMode,
    IdentityKind,
    InitializerKind,
    InitializerSpec,
    OrthogonalKind,
    RandomNormalKind,
    RandomUniformKind,
    TruncatedNormalKind,
    ValueKind,
    VarianceScalingKind,
)
from ps_protocol.operations import (
    Apply,
    Batch,
    BatchReply,
    CountUpTo,
    Declare,
    Describe,
    Gather,
    Initialize,
    PartitionSlice,
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
from ps_protocol.optimizer_constraints import ConstraintSpec
from ps_protocol.optimizer_schedules import ScheduleSpec
from ps_protocol.optimizer_spec import OnNonfinite, OptimizerSpec, SparseMode
from ps_protocol.shared_objects import OBJECT_DTYPE, Act, Look
from ps_protocol.training.round_messages import Decision, Part
from ps_protocol.training.round_operations import UNKNOWN, Commit, Stage, StagedStep
from ps_protocol.v1 import batch_pb2, errors_pb2, variable_pb2

CLIENT, STORE = UUID(int=1), UUID(int=2)
SPEC = VariableSpec("scope/w", np.dtype(np.float32), (2, 3))
PART = VariableSpec("w/part_1", np.dtype("S4"), (2, 3), PartitionSlice("w", (4, 3), (2, 0)))
FLOATS = np.arange(6, dtype=np.float32).reshape(2, 3)
ROWS = np.array([[1], [0]], np.int64)
OPTIMIZER = OptimizerSpec(
    "momentum",
    (0.1, 0.9, math.inf),
    SparseMode.CATCH_UP,
    OnNonfinite.SKIP,
    ScheduleSpec("linear_warmup", (0.1, 10.0, 0.0), ScheduleSpec("cosine", (0.1, 100.0, 0.0))),
    ConstraintSpec("max_norm", (2.0, 0.0)),
)
STEP = VariableSpec("w/Momentum/step", np.dtype(np.int64), (), None, "w", OPTIMIZER)
APPLY = Apply("w", "momentum", ("w/Momentum/momentum",), STEP.name, (ROWS[:, 0], FLOATS), np.array([0.1, np.nan, 0]))

KINDS: list[InitializerKind] = [
    ConstantKind(0.0),
    ConstantKind(-1.5),
    RandomUniformKind(-1.0, 1.0),
    RandomNormalKind(0.5, 2.0),
    TruncatedNormalKind(0.0, 0.1),
    VarianceScalingKind(2.0, FanMode.FAN_AVG, Distribution.UNTRUNCATED_NORMAL),
    OrthogonalKind(1.5),
    IdentityKind(3.0),
]
EVENT = np.frombuffer(b"{}", np.uint8)
STEPS = (
    StagedStep("w", "momentum", ("w/m",), "w/step", (ROWS[:, 0], FLOATS), np.array([0.1, np.nan, 0])),
    StagedStep("b", "sgd", (), "b/step", (FLOATS,), np.empty(0)),
)
STAGE = Stage("staged/1", "stamp", 1, 7, 5, 2, 3, STEPS)
OF_ROUNDS = (
    STAGE,
    Stage("staged/1", "stamp", 0, 1, 1, 0, 1, ()),
    Commit("stamp", Decision(5, (Part(0, 6, 5), Part(1, 7, 4))), ("staged/0", "staged/1"), ("w", "w/m", "w/step")),
    Commit("stamp", Decision(5, (Part(0, 6, 5),)), ("staged/0",), ("w",), means_of_present_rows=True),
    Commit("stamp", UNKNOWN, ("staged/0", "staged/1"), ("w",), decided_by="rounds"),
    replace(STAGE, packs_numbers=True),
)
ON_OBJECTS = (Act("w", "barrier", EVENT), Look("w", "barrier", EVENT), Look("w", "barrier", EVENT, 2.5))
OPERATIONS: list[PsOperation] = [
    Declare(SPEC),
    Declare(PART),
    Declare(STEP),
    *(Declare(SPEC, InitializerSpec(kind, seed)) for seed, kind in enumerate(KINDS)),
    Declare(SPEC, InitializerSpec(RandomNormalKind(0.0, 1.0), 7, seed_alone=True)),
    Initialize("w", InitializerSpec(ConstantKind(0.0))),
    Initialize("w", InitializerSpec(ConstantKind(1.0), -(2**63)), overwrite=True),
    Read("w"),
    Read("w", 0),
    Read("w", 2**64 - 1),
    CountUpTo("w", 0),
    CountUpTo("w", -(2**63)),
    CountUpTo("w", 2**63 - 1),
    Declare(VariableSpec("meeting", OBJECT_DTYPE, (), object_kind="barrier")),
    Describe("w"),
]


def batch_of(*operations: PsOperation) -> Batch:
    batch = Batch(CLIENT, STORE, 0, operations)
    return Batch(CLIENT, STORE, 1, operations) if batch.mutates else batch


def there_and_back(operation: PsOperation) -> Any:
    header, buffers = message_codec.encode_batch(batch_of(operation))
    received = batch_pb2.BatchRequest.FromString(header.SerializeToString())
    batch = message_codec.MessageRequest(received).batch([bytes(buffer) for buffer in buffers])
    assert (batch.client, batch.store, batch.sequence) == (CLIENT, STORE, int(batch.mutates))
    (decoded,) = batch.operations
    assert type(decoded) is type(operation)
    return decoded


class TestOperations:
    @pytest.mark.parametrize("operation", OF_ROUNDS, ids=lambda each: type(each).__name__)
    def test_of_rounds(self, operation: PsOperation) -> None:
        assert repr(there_and_back(operation)) == repr(operation)

    @pytest.mark.parametrize(
        ("operation", "message"),
        [
            (replace(STAGE, stamp=""), "in stage, the stamp, or the number of slots, is missing"),
            (replace(STAGE, slots=0), "in stage, the stamp, or the number of slots, is missing"),
            (replace(STAGE, steps=(replace(STEPS[0], operands=()),)), "a step lacks its variable, its count"),
            (replace(STAGE, steps=(replace(STEPS[0], state=""),)), "a step lacks its variable, its count"),
            (Commit("stamp", Decision(5, ()), (), ()), "in commit, it has no parts"),
            (Commit("stamp", UNKNOWN, (), (), decided_by="rounds"), "in commit, it has no parts"),
            (Commit("stamp", Decision(5, (Part(0, 6, 5),)), ("",), ()), "in commit, it has no parts, or a part lacks"),
        ],
    )
    def test_malformed_ones_of_rounds_are_refused(self, operation: PsOperation, message: str) -> None:
        with pytest.raises(InvalidArgumentError, match=message):
            there_and_back(operation)

    @pytest.mark.parametrize("operation", ON_OBJECTS, ids=str)
    def test_on_shared_objects(self, operation: PsOperation) -> None:
        assert repr(there_and_back(operation)) == repr(operation)

    @pytest.mark.parametrize(
        ("operation", "message"),
        [
            (Act("w", "", EVENT), "in act, the kind of the object is missing"),
            (Look("w", "", EVENT), "in look, the kind of the object is missing"),
            (Act("w", "barrier", np.zeros(2)), r"the event is float64\[2\]; it should be uint8 of one dimension"),
            (Look("w", "barrier", EVENT.reshape(1, -1)), r"the question is uint8\[1, 2\]; it should be uint8"),
        ],
        ids=str,
    )
    def test_malformed_ones_on_shared_objects_are_refused(self, operation: PsOperation, message: str) -> None:
        with pytest.raises(InvalidArgumentError, match=message):
            there_and_back(operation)

    @pytest.mark.parametrize("operation", OPERATIONS, ids=str)
    def test_without_tensors(self, operation: PsOperation) -> None:
        assert there_and_back(operation) == operation

    @pytest.mark.parametrize("rule", UpdateRule)
    def test_update(self, rule: UpdateRule) -> None:
        decoded = there_and_back(Update("w", rule, FLOATS))
        assert (decoded.name, decoded.rule) == ("w", rule)
        np.testing.assert_array_equal(decoded.value, FLOATS)

    @pytest.mark.parametrize("keeps_shape", [False, True])
    def test_replace(self, keeps_shape: bool) -> None:
        decoded = there_and_back(Replace("w", FLOATS, keeps_shape))
        assert (decoded.name, decoded.keeps_shape) == ("w", keeps_shape)
        np.testing.assert_array_equal(decoded.value, FLOATS)

    @pytest.mark.parametrize("rule", ScatterRule)
    def test_scatter(self, rule: ScatterRule) -> None:
        decoded = there_and_back(Scatter("w", rule, ROWS, FLOATS[:, None]))
        assert (decoded.name, decoded.rule, decoded.index_depth) == ("w", rule, 1)
        np.testing.assert_array_equal(decoded.indices, ROWS)
        np.testing.assert_array_equal(decoded.updates, FLOATS[:, None])

    def test_gather(self) -> None:
        decoded = there_and_back(Gather("w", ROWS))
        assert (decoded.name, decoded.index_depth) == ("w", 1)
        np.testing.assert_array_equal(decoded.indices, ROWS)

    def test_index_depth(self) -> None:
        assert there_and_back(Gather("w", ROWS, 3)).index_depth == 3
        assert there_and_back(Scatter("w", ScatterRule.ADD, ROWS, FLOATS, 2)).index_depth == 2

    def test_an_index_depth_that_is_not_given_is_1(self) -> None:
        batch = batch_of(Gather("w", ROWS), Scatter("w", ScatterRule.ADD, ROWS, FLOATS))
        request, buffers = message_codec.encode_batch(batch)
        request.operations[0].gather.ClearField("index_depth")
        request.operations[1].scatter.ClearField("index_depth")
        gather, scatter = message_codec.MessageRequest(request).batch(buffers).operations
        assert isinstance(gather, Gather)
        assert isinstance(scatter, Scatter)
        assert gather.index_depth == scatter.index_depth == 1

    @pytest.mark.parametrize("limit", [2**63, -(2**63) - 1])
    def test_a_limit_beyond_64_bits_cannot_be_sent(self, limit: int) -> None:
        with pytest.raises(InvalidArgumentError, match=r"^w: the limit .* has more than 64 bits"):
            encoded(CountUpTo("w", limit))

    @pytest.mark.parametrize("version", [-1, 2**64])
    def test_what_is_no_version_cannot_be_sent(self, version: int) -> None:
        with pytest.raises(InvalidArgumentError, match=rf"^w: {version} is no version"):
            encoded(Read("w", version))

    def test_declare_with_a_value(self) -> None:
        decoded = there_and_back(Declare(SPEC, InitializerSpec(ValueKind(FLOATS), 7)))
        assert (decoded.spec, decoded.initializer.seed) == (SPEC, 7)
        np.testing.assert_array_equal(decoded.initializer.kind.array, FLOATS)

    def test_initialize_with_a_value(self) -> None:
        decoded = there_and_back(Initialize("w", InitializerSpec(ValueKind(FLOATS)), overwrite=True))
        assert decoded.overwrite
        np.testing.assert_array_equal(decoded.initializer.kind.array, FLOATS)

    def test_every_kind_is_covered_here(self) -> None:
        kinds = {field.name for field in variable_pb2.Initializer.DESCRIPTOR.oneofs_by_name["kind"].fields}
        covered = {message.declare.initializer.WhichOneof("kind") for message in encoded(*OPERATIONS).operations}
        assert covered - {None} == kinds - {"value"}
        operations = {field.name for field in batch_pb2.Operation.DESCRIPTOR.oneofs_by_name["kind"].fields}
        tensors = encoded(
            Update("w", UpdateRule.ASSIGN, FLOATS),
            Replace("w", FLOATS),
            Scatter("w", ScatterRule.ADD, ROWS, FLOATS),
            Gather("w", ROWS),
            APPLY,
            Reduce("w", "dot", (FLOATS,), np.empty(0)),
            *ON_OBJECTS,
            *OF_ROUNDS,
        )
        covered_operations = {
            message.WhichOneof("kind") for message in (*encoded(*OPERATIONS).operations, *tensors.operations)
        }
        assert covered_operations == operations


def encoded(*operations: PsOperation) -> batch_pb2.BatchRequest:
    return message_codec.encode_batch(batch_of(*operations))[0]


class TestBatch:
    OPERATIONS = (
        Update("a", UpdateRule.ASSIGN, FLOATS),
        Read("b"),
        Declare(SPEC, InitializerSpec(ValueKind(np.ones((2, 3), np.float32)))),
        Scatter("c", ScatterRule.ADD, ROWS, np.zeros(2, np.float64)),
        Initialize("d", InitializerSpec(ValueKind(np.ones(4, np.int8)))),
        Gather("e", np.array(1, np.int32)),
    )

    def test_buffers_follow_the_order_of_the_headers(self) -> None:
        _, buffers = message_codec.encode_batch(batch_of(*self.OPERATIONS))
        assert [len(buffer) for buffer in buffers] == [24, 24, 16, 16, 4, 4]

    def test_layouts_tell_the_buffers_in_advance(self) -> None:
        header, buffers = message_codec.encode_batch(batch_of(*self.OPERATIONS))
        layouts = message_codec.MessageRequest(header).layouts
        assert [layout.size_bytes for layout in layouts] == [len(buffer) for buffer in buffers]
        assert [layout.shape for layout in layouts] == [(2, 3), (2, 3), (2, 1), (2,), (4,), ()]

    def test_tensors_are_views_on_both_ways(self) -> None:
        value = FLOATS.copy()
        header, buffers = message_codec.encode_batch(batch_of(Update("a", UpdateRule.ASSIGN, value)))
        (operation,) = message_codec.MessageRequest(header).batch(buffers).operations
        assert isinstance(operation, Update)
        value[0, 0] = 7
        assert operation.value[0, 0] == 7

    def test_names_the_variable_whose_tensor_cannot_be_sent(self) -> None:
        with pytest.raises(InvalidArgumentError, match=r"^scope/w: .*object") as caught:
            message_codec.encode_batch(batch_of(Update("scope/w", UpdateRule.ASSIGN, np.array([None]))))
        assert caught.value.variable == "scope/w"

    def test_may_be_empty(self) -> None:
        assert message_codec.MessageRequest(encoded()).batch([]) == batch_of()

    @pytest.mark.parametrize("number", [0, 1, 5, 7])
    def test_refuses_another_number_of_buffers(self, number: int) -> None:
        header, buffers = message_codec.encode_batch(batch_of(*self.OPERATIONS))
        with pytest.raises(InvalidArgumentError, match=f"{number} buffers"):
            message_codec.MessageRequest(header).batch(
                [*buffers, memoryview(b"")][:number] if number < 7 else [*buffers, b""]
            )


HEAD = 'client_incarnation: "0123456789abcdef" store_incarnation: "0123456789abcdef" '
SPEC_TEXT = 'name: "w" dtype: "float32" shape: [2, 3]'
FLOAT = 'dtype: "float32" shape: [3]'


def one(operation: str, sequence: int = 1) -> str:
    return f'{HEAD} sequence: {sequence} operations {{ name: "w" {operation} }}'


def declare(spec: str, initializer: str = "") -> str:
    return one(f"declare {{ spec {{ {spec} }} {initializer} }}")


def part(offset: str, whole: str = "[4, 3]", name: str = "whole") -> str:
    return declare(f'{SPEC_TEXT} slice {{ full_name: "{name}" full_shape: {whole} offset: {offset} }}')


MALFORMED = {
    "client incarnation missing": ("", "client incarnation has 0 bytes"),
    "client incarnation short": ('client_incarnation: "0123456789abcde"', "client incarnation has 15 bytes"),
    "store incarnation missing": ('client_incarnation: "0123456789abcdef"', "store incarnation has 0 bytes"),
    "mutation without a sequence": (one(f"update {{ rule: RULE_ASSIGN value {{ {FLOAT} }} }}", 0), "sequence 0"),
    "declaration without a sequence": (one(f"declare {{ spec {{ {SPEC_TEXT} }} }}", 0), "sequence 0"),
    "read with a sequence": (one("read {}", 5), "sequence 5"),
    "operation without a kind": (one(""), "^w: .*lacks its kind"),
    "operation without a name": (f"{HEAD} operations {{ read {{}} }}", "lacks the name"),
    "declare without a spec": (one("declare {}"), "^w: in declare, .*lacks the name"),
    "declare of another name": (declare('name: "v" dtype: "bool"'), "^w: in declare, .*'v'"),
    "spec without a dtype": (declare('name: "w"'), "lacks the dtype"),
    "spec with a negative size": (declare('name: "w" dtype: "bool" shape: -1'), "negative"),
    "part without a whole": (part("[0, 0]", name=""), "name of the whole"),
    "part with another rank of offset": (part("[0]"), "dimensions"),
    "part with another rank than the whole": (part("[0, 0]", whole="[4, 3, 1]"), "dimensions"),
    "part that ends outside": (part("[3, 0]"), "does not lie in 'whole'"),
    "part that begins outside": (part("[0, -1]"), "does not lie in 'whole'"),
    "part of an impossible whole": (part("[0, 0]", whole=f"[{2**62}, 3]"), "larger"),
    "initialize without an initializer": (one("initialize {}"), "initializer lacks its kind"),
    "initializer without a kind": (declare(SPEC_TEXT, "initializer {}"), "initializer lacks its kind"),
    "initializer without a mode": (
        declare(SPEC_TEXT, "initializer { variance_scaling { distribution: DISTRIBUTION_UNIFORM } }"),
        "mode .* is 0",
    ),
    "initializer with a new distribution": (
        declare(SPEC_TEXT, "initializer { variance_scaling { mode: FAN_MODE_FAN_IN distribution: 99 } }"),
        "distribution .* is 99",
    ),
    "initializer without its value": (declare(SPEC_TEXT, "initializer { value {} }"), "lacks the dtype"),
    "update without a rule": (one(f"update {{ value {{ {FLOAT} }} }}"), "^w: in update, the rule is 0"),
    "update without a value": (one("update { rule: RULE_ASSIGN }"), "lacks the dtype"),
    "update with an unknown dtype": (one('update { rule: RULE_ASSIGN value { dtype: "O" } }'), "'O' is unknown"),
    "update with a huge value": (
        one(f'update {{ rule: RULE_ASSIGN value {{ dtype: "int8" shape: [{2**62}, 2] }} }}'),
        "larger",
    ),
    "scatter with a new rule": (one("scatter { rule: 99 }"), "^w: in scatter, the rule is 99"),
    "scatter without indices": (one(f"scatter {{ rule: RULE_ADD updates {{ {FLOAT} }} }}"), "lacks the dtype"),
    "scatter without updates": (one(f"scatter {{ rule: RULE_ADD indices {{ {FLOAT} }} }}"), "lacks the dtype"),
    "gather without indices": (one("gather {}", 0), "lacks the dtype"),
    "count without a sequence": (one("count_up_to { limit: 3 }", 0), "sequence 0"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_refuses_a_malformed_batch_by_its_header_alone(case: str) -> None:
    text, reason = MALFORMED[case]
    header = text_format.Parse(text, batch_pb2.BatchRequest())
    with pytest.raises(InvalidArgumentError, match=reason):
        message_codec.MessageRequest(header)
    with pytest.raises(InvalidArgumentError, match=reason):
        message_codec.MessageRequest(header).batch([bytes(12), bytes(12)])


def test_accepts_what_the_malformed_batches_are_made_of() -> None:
    for text in (
        one(f"update {{ rule: RULE_ASSIGN value {{ {FLOAT} }} }}"),
        one("read {}", 0),
        declare(SPEC_TEXT),
        part("[2, 0]"),
    ):
        message_codec.MessageRequest(text_format.Parse(text, batch_pb2.BatchRequest()))


def test_refuses_a_buffer_of_the_wrong_size_by_the_variable_s_name() -> None:
    with pytest.raises(InvalidArgumentError, match=r"^w: in update, .*12 bytes, but its buffer has 11") as caught:
        message_codec.MessageRequest(encoded(Update("w", UpdateRule.ASSIGN, np.zeros(3, np.float32)))).batch(
            [bytes(11)]
        )
    assert caught.value.variable == "w"


class TestReply:
    REPLY = BatchReply(
        (
            Result(version=3, initialized=True),
            ShapeMismatchError("no", variable="w", task="ps:1"),
            Result(version=0, initialized=False, spec=PART),
            ResourceExhaustedError("full", retry_after_s=0.5),
        )
    )

    def test_keeps_results_and_errors_in_order(self) -> None:
        header, buffers = message_codec.encode_reply(self.REPLY)
        assert buffers == []
        received = batch_pb2.BatchReply.FromString(header.SerializeToString())
        replies = message_codec.reply_head(received).reply([]).replies
        assert (replies[0], replies[2]) == (self.REPLY.replies[0], self.REPLY.replies[2])
        for got, sent in ((replies[1], self.REPLY.replies[1]), (replies[3], self.REPLY.replies[3])):
            assert type(got) is type(sent)
            assert vars(got) == vars(sent)

    def test_carries_tensors_as_views(self) -> None:
        value = FLOATS.copy()
        reply = BatchReply((Result(1, True, tensor=value), Result(2**64 - 1, True, tensor=ROWS, spec=SPEC)))
        header, buffers = message_codec.encode_reply(reply)
        assert [layout.size_bytes for layout in message_codec.reply_head(header).layouts] == [24, 16]
        first, second = message_codec.reply_head(header).reply(buffers).replies
        assert isinstance(first, Result)
        assert isinstance(second, Result)
        assert first.tensor is not None
        assert second.tensor is not None
        value[0, 0] = 7
        np.testing.assert_array_equal(first.tensor, value)
        np.testing.assert_array_equal(second.tensor, ROWS)
        assert (second.version, second.spec) == (2**64 - 1, SPEC)

    def test_keeps_an_empty_tensor(self) -> None:
        header, buffers = message_codec.encode_reply(
            BatchReply((Result(1, True, tensor=np.zeros((0, 3), np.float32)),))
        )
        (result,) = message_codec.reply_head(header).reply([bytes(buffer) for buffer in buffers]).replies
        assert isinstance(result, Result)
        assert result.tensor is not None
        assert result.tensor.shape == (0, 3)

    @pytest.mark.parametrize("buffers", [[], [bytes(23)], [bytes(24), b""]])
    def test_refuses_buffers_that_do_not_fit(self, buffers: list[bytes]) -> None:
        header, _ = message_codec.encode_reply(BatchReply((Result(1, True, tensor=FLOATS),)))
        with pytest.raises(InvalidArgumentError, match="buffer"):
            message_codec.reply_head(header).reply(buffers)

    def test_refuses_a_tensor_beside_an_error(self) -> None:
        header, buffers = message_codec.encode_reply(BatchReply((Result(1, True, tensor=FLOATS),)))
        header.replies[0].error.message = "and an error"
        with pytest.raises(InvalidArgumentError, match="both"):
            message_codec.reply_head(header)
        with pytest.raises(InvalidArgumentError, match="both"):
            message_codec.reply_head(header).reply(buffers)

    def test_refuses_a_malformed_spec(self) -> None:
        header, _ = message_codec.encode_reply(BatchReply((Result(1, True, spec=SPEC),)))
        header.replies[0].spec.shape.append(-1)
        with pytest.raises(InvalidArgumentError, match="negative"):
            message_codec.reply_head(header).reply([])


class TestErrors:
    def test_keep_everything(self) -> None:
        error = AlreadyExistsError("taken", variable="w", task="ps:0", retryable=True, retry_after_s=1.5)
        decoded = error_codec.decode_error(error_codec.encode_error(error))
        assert type(decoded) is AlreadyExistsError
        assert vars(decoded) == vars(error)

    @pytest.mark.parametrize("code", [0, 99, -1])
    def test_of_a_code_that_is_not_known_are_unknown(self, code: int) -> None:
        message = errors_pb2.Error(code=errors_pb2.ErrorCode.ValueType(code), message="new", retryable=True)
        decoded = error_codec.decode_error(message)
        assert type(decoded) is UnknownError
        assert (decoded.message, decoded.retryable) == ("new", True)

    @pytest.mark.parametrize("pause_s", [float("nan"), float("inf"), -1.0])
    def test_have_a_pause_that_one_can_wait(self, pause_s: float) -> None:
        assert error_codec.decode_error(errors_pb2.Error(retry_after_s=pause_s)).retry_after_s == 0.0

    def test_may_hold_text_that_is_no_unicode(self) -> None:
        decoded = error_codec.decode_error(error_codec.encode_error(NotFoundError("file \udcff", variable="\ud800")))
        assert (decoded.message, decoded.variable) == (r"file \udcff", r"\ud800")
