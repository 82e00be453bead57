"""What every transport does with a batch."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import ml_dtypes
import numpy as np
import pytest

from ps_protocol.errors import (
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
    ResourceExhaustedError,
    ShapeMismatchError,
    ShardscopeError,
    StateLostError,
)
from ps_protocol.initial_values.compute import initial_value
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
    Array,
    Batch,
    CountUpTo,
    Declare,
    Describe,
    Gather,
    Initialize,
    PartitionSlice,
    PsOperation,
    Read,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
)
from tests.contract.conftest import TIMEOUT_S, Conversation, Task

ONES = InitializerSpec(ConstantKind(1.0))
LARGE_SHAPE = (3_000_000,)  # 12 MB: several chunks, beyond one message

KINDS: list[InitializerKind] = [
    ConstantKind(3.5),
    RandomUniformKind(-1.0, 2.0),
    RandomNormalKind(0.5, 2.0),
    TruncatedNormalKind(0.0, 1.0),
    VarianceScalingKind(2.0, FanMode.FAN_AVG, Distribution.TRUNCATED_NORMAL),
    OrthogonalKind(1.5),
    IdentityKind(2.0),
    ValueKind(np.arange(12, dtype=np.float32).reshape(4, 3)),
]


def spec(name: str = "scope/w", shape: tuple[int, ...] = (4, 3), dtype: Any = np.float32) -> VariableSpec:
    return VariableSpec(name, np.dtype(dtype), shape)


def floats(value: Any) -> Array:
    return np.array(value, np.float32)


def value_of(talk: Conversation, name: str = "scope/w") -> Array:
    tensor = talk.run(Read(name)).tensor
    assert tensor is not None
    return tensor


# -- one operation ------------------------------------------------------------------------------


def test_declares_updates_and_reads(talk: Conversation) -> None:
    assert talk.run(Declare(spec(), ONES)) == Result(0, True, None, spec())
    assert talk.run(Update("scope/w", UpdateRule.ASSIGN_ADD, floats(np.ones((4, 3))))) == Result(1, True)
    assert talk.run(Update("scope/w", UpdateRule.ASSIGN_SUB, floats(0.5))) == Result(2, True)
    read = talk.run(Read("scope/w"))
    assert (read.version, read.initialized, read.spec) == (2, True, None)
    assert read.tensor is not None
    np.testing.assert_array_equal(read.tensor, np.full((4, 3), 1.5, np.float32))
    assert talk.run(Describe("scope/w")) == Result(2, True, None, spec())


def test_a_read_holds_no_tensor_while_the_version_is_the_one_known(talk: Conversation) -> None:
    talk.run(Declare(spec(), ONES))
    assert talk.run(Read("scope/w", unless_version=0)) == Result(0, True)
    assert talk.run(Read("scope/w", unless_version=1)).tensor is not None
    talk.run(Update("scope/w", UpdateRule.ASSIGN_ADD, floats(1)))
    changed = talk.run(Read("scope/w", unless_version=0))
    assert changed.version == 1
    assert changed.tensor is not None
    assert (changed.tensor == 2).all()
    assert talk.run(Read("scope/w", unless_version=1)) == Result(1, True)


def test_a_known_version_does_not_stand_in_for_a_value(talk: Conversation) -> None:
    talk.run(Declare(spec()))
    with pytest.raises(FailedPreconditionError, match=r"scope/w.*not been initialised"):
        talk.run(Read("scope/w", unless_version=0))


def test_reads_with_and_without_a_tensor_go_in_one_batch(talk: Conversation) -> None:
    for name in ("a", "b", "c"):
        talk.run(Declare(spec(name, (2,)), ONES))
    talk.run(Update("b", UpdateRule.ASSIGN, floats([3, 4])))
    first, second, third = talk.replies(Read("a", 0), Read("b", 0), Read("c"))
    assert first == Result(0, True)
    assert isinstance(second, Result)
    assert isinstance(third, Result)
    assert second.tensor is not None
    assert third.tensor is not None
    assert (second.tensor.tolist(), third.tensor.tolist()) == ([3, 4], [1, 1])


def test_a_reply_is_the_receivers_to_change(talk: Conversation) -> None:
    talk.run(Declare(spec(), ONES))
    value_of(talk)[:] = 7
    assert (value_of(talk) == 1).all()


def test_a_declaration_without_initializer_leaves_it_uninitialised(talk: Conversation) -> None:
    assert talk.run(Declare(spec())) == Result(0, False, None, spec())
    with pytest.raises(FailedPreconditionError, match=r"scope/w.*not been initialised") as error:
        talk.run(Read("scope/w"))
    assert (error.value.variable, error.value.task) == ("scope/w", "ps:0")
    assert talk.run(Initialize("scope/w", ONES)) == Result(0, True)
    assert talk.run(Initialize("scope/w", InitializerSpec(ConstantKind(5.0)))) == Result(0, True)
    assert (value_of(talk) == 1).all()
    assert talk.run(Initialize("scope/w", InitializerSpec(ConstantKind(5.0)), overwrite=True)) == Result(1, True)
    assert (value_of(talk) == 5).all()


def test_assign_initialises(talk: Conversation) -> None:
    talk.run(Declare(spec(shape=(2,))))
    assert talk.run(Update("scope/w", UpdateRule.ASSIGN, floats([1, 2]))) == Result(1, True)
    assert value_of(talk).tolist() == [1, 2]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_initial_values_follow_from_name_and_seed(talk: Conversation, kind: InitializerKind) -> None:
    initializer = InitializerSpec(kind, seed=17)
    talk.run(Declare(spec(), initializer))
    np.testing.assert_array_equal(value_of(talk), initial_value(spec(), initializer))


def test_a_part_has_the_values_that_the_whole_has_there(talk: Conversation) -> None:
    initializer = InitializerSpec(RandomNormalKind(0.0, 1.0), seed=3)
    whole = initial_value(spec("scope/w", (4, 3)), initializer)
    part = VariableSpec("scope/w/part_1", np.dtype(np.float32), (2, 3), PartitionSlice("scope/w", (4, 3), (2, 0)))
    assert talk.run(Declare(part, initializer)).spec == part
    np.testing.assert_array_equal(value_of(talk, part.name), whole[2:])


@pytest.mark.parametrize(
    "dtype",
    [
        np.bool_,
        np.int8,
        np.uint64,
        np.float16,
        np.float64,
        np.complex64,
        "S5",
        ml_dtypes.bfloat16,
        ml_dtypes.float8_e4m3fn,
    ],
)
def test_every_dtype_passes(talk: Conversation, dtype: Any) -> None:
    for shape in ((), (0, 2), (3, 2)):
        name = f"scope/{len(shape)}_{math.prod(shape)}"
        value = np.ones(shape).astype(dtype)
        talk.run(Declare(spec(name, shape, dtype), InitializerSpec(ValueKind(value))))
        read = value_of(talk, name)
        assert (read.dtype, read.shape) == (value.dtype, shape)
        np.testing.assert_array_equal(read, value)
        talk.run(Update(name, UpdateRule.ASSIGN, np.zeros(shape).astype(dtype)))
        np.testing.assert_array_equal(value_of(talk, name), np.zeros(shape).astype(dtype))


def test_large_tensors_pass(talk: Conversation) -> None:
    delta = np.arange(LARGE_SHAPE[0], dtype=np.float32)
    talk.run(Declare(spec(shape=LARGE_SHAPE), ONES))
    assert talk.run(Update("scope/w", UpdateRule.ASSIGN_ADD, delta)) == Result(1, True)
    np.testing.assert_array_equal(value_of(talk), delta + 1)
    rows = np.arange(0, LARGE_SHAPE[0], 2)
    gathered = talk.run(Gather("scope/w", rows)).tensor
    assert gathered is not None
    np.testing.assert_array_equal(gathered, rows.astype(np.float32) + 1)


def test_operands_need_not_be_contiguous(talk: Conversation) -> None:
    talk.run(Declare(spec(shape=(2, 3)), ONES))
    talk.run(Update("scope/w", UpdateRule.ASSIGN_ADD, floats(np.arange(12).reshape(3, 4))[:, ::2].T))
    assert value_of(talk).tolist() == [[1, 5, 9], [3, 7, 11]]


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def unaligned(array: Array) -> Array:
    return np.frombuffer(b"\0" + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape)


@pytest.mark.parametrize(
    "delta",
    [
        np.broadcast_to(np.float32(2), (2, 3)),
        read_only(np.full((2, 3), 2, np.float32)),
        np.full((2, 3), 2, np.float32, order="F"),
        np.full((2, 3), 2, np.float32)[::-1, ::-1],
        unaligned(np.full((2, 3), 2, np.float32)),
    ],
    ids=["zero-strided", "read-only", "in Fortran's order", "reversed", "unaligned"],
)
def test_operands_may_lie_in_any_way(talk: Conversation, delta: Any) -> None:
    talk.run(Declare(spec(shape=(2, 3)), ONES))
    for rule in (UpdateRule.ASSIGN, UpdateRule.ASSIGN_ADD):
        talk.run(Update("scope/w", rule, delta))
    talk.run(Scatter("scope/w", ScatterRule.ADD, np.broadcast_to(np.int64(1), (2,)), delta))
    assert value_of(talk).tolist() == [[4, 4, 4], [8, 8, 8]]
    assert np.asarray(delta).tolist() == [[2, 2, 2], [2, 2, 2]]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (ScatterRule.UPDATE, [[2, 2], [1, 1], [3, 3]]),
        (ScatterRule.ADD, [[3, 3], [1, 1], [5, 5]]),
        (ScatterRule.SUB, [[-1, -1], [1, 1], [-3, -3]]),
        (ScatterRule.MUL, [[2, 2], [1, 1], [3, 3]]),
        (ScatterRule.DIV, [[0.5, 0.5], [1, 1], [1 / 3, 1 / 3]]),
        (ScatterRule.MIN, [[1, 1], [1, 1], [1, 1]]),
        (ScatterRule.MAX, [[2, 2], [1, 1], [3, 3]]),
    ],
)
def test_scatters_and_gathers(talk: Conversation, rule: ScatterRule, expected: list[list[float]]) -> None:
    talk.run(Declare(spec(shape=(3, 2)), ONES))
    rows = np.array([2, 0, 2], np.int32)
    updates = floats([[1, 1], [2, 2], [3, 3]])
    assert talk.run(Scatter("scope/w", rule, rows, updates)) == Result(1, True)
    np.testing.assert_array_equal(value_of(talk), floats(expected))
    gathered = talk.run(Gather("scope/w", np.array([[2], [0]]))).tensor
    assert gathered is not None
    np.testing.assert_array_equal(gathered, floats(expected)[[[2], [0]]])


def test_scatters_and_gathers_elements(talk: Conversation) -> None:
    talk.run(Declare(spec(shape=(2, 3)), ONES))
    elements = np.array([5, 0, 5])
    assert talk.run(Scatter("scope/w", ScatterRule.ADD, elements, floats([1, 2, 3]), index_depth=2)) == Result(1, True)
    assert value_of(talk).tolist() == [[3, 1, 1], [1, 1, 5]]
    gathered = talk.run(Gather("scope/w", elements, index_depth=2)).tensor
    assert gathered is not None
    assert gathered.tolist() == [5, 3, 5]
    with pytest.raises(InvalidArgumentError, match=r"scope/w .*2 dimensions"):
        talk.run(Gather("scope/w", elements, index_depth=3))


def test_counts_up_to_a_limit(talk: Conversation) -> None:
    talk.run(Declare(spec(shape=(), dtype=np.int64), InitializerSpec(ConstantKind(0.0))))
    for number in range(2):
        counted = talk.run(CountUpTo("scope/w", 2))
        assert counted.version == number + 1
        assert counted.tensor == number
    with pytest.raises(OutOfRangeError, match=r"scope/w .*limit 2") as error:
        talk.run(CountUpTo("scope/w", 2))
    assert (error.value.variable, error.value.task, error.value.retryable) == ("scope/w", "ps:0", False)
    assert value_of(talk) == 2


def test_a_count_that_is_sent_again_counts_once_and_has_the_same_answer(talk: Conversation) -> None:
    talk.run(Declare(spec(shape=(), dtype=np.int64), InitializerSpec(ConstantKind(0.0))))
    batch = talk.batch(CountUpTo("scope/w", 5))
    answers = [talk.send(batch).replies[0] for _ in range(2)]
    assert [isinstance(answer, Result) and answer.tensor == 0 for answer in answers] == [True, True]
    assert value_of(talk) == 1


# -- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "error_type", "part"),
    [
        (Declare(spec(shape=(4, 4))), ShapeMismatchError, "float32[4, 4]"),
        (Declare(spec(dtype=np.int32)), DTypeMismatchError, "int32"),
        (Update("scope/w", UpdateRule.ASSIGN, floats([1])), ShapeMismatchError, "[1]"),
        (Update("scope/w", UpdateRule.ASSIGN_ADD, np.ones((4, 3))), DTypeMismatchError, "float64"),
        (Scatter("scope/w", ScatterRule.ADD, np.array([4]), floats(1)), InvalidArgumentError, "row 4"),
        (Scatter("scope/w", ScatterRule.ADD, np.array([-1]), floats(1)), InvalidArgumentError, "row -1"),
        (Gather("scope/w", np.array([0, 9])), InvalidArgumentError, "row 9"),
        (Gather("scope/w", np.array([0.0])), DTypeMismatchError, "int32 or int64"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    talk: Conversation, operation: PsOperation, error_type: type[ShardscopeError], part: str
) -> None:
    talk.run(Declare(spec(), ONES))
    with pytest.raises(error_type) as error:
        talk.run(operation)
    assert type(error.value) is error_type
    assert "scope/w" in error.value.message
    assert part in error.value.message
    assert (error.value.variable, error.value.task, error.value.retryable) == ("scope/w", "ps:0", False)
    assert talk.run(Describe("scope/w")) == Result(0, True, None, spec())
    assert (value_of(talk) == 1).all()


def test_what_does_not_exist_is_not_found(talk: Conversation) -> None:
    for operation in (Read("scope/w"), Describe("scope/w"), Initialize("scope/w", ONES)):
        with pytest.raises(NotFoundError, match="scope/w"):
            talk.run(operation)


def test_the_memory_limit_is_kept_and_the_ps_goes_on(talk: Conversation) -> None:
    with pytest.raises(ResourceExhaustedError, match=r"scope/w.*--memory-limit") as error:
        talk.run(Declare(spec(shape=(2**30,)), ONES))
    assert not error.value.retryable
    talk.run(Declare(spec(), ONES))
    assert (value_of(talk) == 1).all()


def test_a_failed_declaration_leaves_nothing_behind(talk: Conversation) -> None:
    with pytest.raises(InvalidArgumentError):
        talk.run(Declare(spec(shape=(2,)), InitializerSpec(OrthogonalKind(1.0))))
    talk.run(Declare(spec(shape=(3,)), ONES))
    assert talk.service.status(timeout_s=TIMEOUT_S).num_variables == 1


# -- batches ------------------------------------------------------------------------------------


def test_operations_of_a_batch_are_carried_out_in_order_and_answered_one_by_one(talk: Conversation) -> None:
    replies = talk.replies(
        Declare(spec(shape=()), ONES),
        Update("scope/w", UpdateRule.ASSIGN_ADD, floats(1)),
        Read("scope/w"),
        Read("scope/v"),
        Update("scope/w", UpdateRule.ASSIGN_ADD, floats([1, 2])),
        Update("scope/w", UpdateRule.ASSIGN_ADD, floats(1)),
        Read("scope/w"),
    )
    assert [type(reply) for reply in replies] == [
        *(Result, Result, Result, NotFoundError, ShapeMismatchError, Result, Result)
    ]
    tensors = [reply.tensor for reply in replies if isinstance(reply, Result) and reply.tensor is not None]
    assert [float(tensor) for tensor in tensors] == [2, 3]


def test_a_batch_may_be_empty(talk: Conversation) -> None:
    assert talk.replies() == ()


def test_a_batch_of_many_declarations_is_one_exchange(talk: Conversation) -> None:
    specs = [spec(f"scope/w{index}", (2,)) for index in range(2_000)]
    replies = talk.replies(*(Declare(each, ONES) for each in specs))
    assert replies == tuple(Result(0, True, None, each) for each in specs)
    assert talk.service.status(timeout_s=TIMEOUT_S).batches == 1


# -- exactly once -------------------------------------------------------------------------------


def test_a_batch_sent_again_is_answered_alike_and_counts_once(talk: Conversation) -> None:
    talk.run(Declare(spec(shape=()), ONES))
    batch = talk.batch(
        Update("scope/w", UpdateRule.ASSIGN_ADD, floats(1)), Read("scope/w"), Read("scope/v"), Describe("scope/w")
    )
    for _ in range(3):
        updated, read, missing, described = talk.send(batch).replies
        assert updated == Result(1, True)
        assert isinstance(read, Result)
        assert read.tensor is not None
        assert read.tensor == 2
        read.tensor[...] = 0
        assert isinstance(missing, NotFoundError)
        assert described == Result(1, True, None, spec(shape=()))
    assert value_of(talk) == 2
    assert talk.service.status(timeout_s=TIMEOUT_S).duplicate_batches == 2


def test_a_large_answer_is_given_again(talk: Conversation) -> None:
    talk.run(Declare(spec(shape=LARGE_SHAPE), ONES))
    batch = talk.batch(Update("scope/w", UpdateRule.ASSIGN_ADD, floats(1)), Read("scope/w"))
    for _ in range(2):
        _, read = talk.send(batch).replies
        assert isinstance(read, Result)
        assert read.tensor is not None
        assert (read.tensor == 2).all()
        read.tensor[:] = 0
    assert (value_of(talk) == 2).all()


def test_a_number_that_was_overtaken_is_refused(talk: Conversation) -> None:
    talk.run(Declare(spec(shape=()), ONES))
    add = Update("scope/w", UpdateRule.ASSIGN_ADD, floats(1))
    talk.send(talk.batch(add, sequence=5))
    with pytest.raises(FailedPreconditionError, match="overtaken") as error:
        talk.send(talk.batch(add, sequence=4))
    assert (error.value.task, error.value.retryable) == ("ps:0", False)
    assert value_of(talk) == 2


def test_numbers_belong_to_the_client(ps: Task) -> None:
    first, second = ps.conversation("worker:0"), ps.conversation("worker:1")
    first.run(Declare(spec(shape=()), ONES))
    add = Update("scope/w", UpdateRule.ASSIGN_ADD, floats(1))
    first.send(first.batch(add, sequence=9))
    second.send(second.batch(add, sequence=9))
    assert value_of(first) == 3


@pytest.mark.parametrize(
    ("operation", "sequence"), [(Read("scope/w"), 3), (Update("scope/w", UpdateRule.ASSIGN, floats(1)), 0)]
)
def test_exactly_the_batches_that_change_something_are_numbered(
    talk: Conversation, operation: PsOperation, sequence: int
) -> None:
    with pytest.raises(InvalidArgumentError, match="sequence"):
        talk.send(talk.batch(operation, sequence=sequence))


def test_a_batch_for_another_store_is_recognised(talk: Conversation) -> None:
    talk.run(Declare(spec(shape=()), ONES))
    add = Update("scope/w", UpdateRule.ASSIGN_ADD, floats(1))
    with pytest.raises(StateLostError) as error:
        talk.send(Batch(talk.client, uuid4(), 2, (add,)))
    assert (error.value.task, error.value.retryable) == ("ps:0", False)
    assert value_of(talk) == 1


def test_a_client_is_known_from_hello_to_goodbye(talk: Conversation) -> None:
    stranger = Batch(uuid4(), talk.welcome.store, 0, (Describe("scope/w"),))
    with pytest.raises(FailedPreconditionError, match="has not said hello"):
        talk.send(stranger)
    again = talk.service.hello(talk.client, "worker:0", timeout_s=TIMEOUT_S)
    assert (again.task, again.store, again.job_seed) == ("ps:0", talk.welcome.store, talk.welcome.job_seed)
    talk.run(Declare(spec(), ONES))
    talk.service.goodbye(talk.client, timeout_s=TIMEOUT_S)
    for operation in (Describe("scope/w"), Declare(spec(), ONES)):
        with pytest.raises(FailedPreconditionError, match="said goodbye"):
            talk.run(operation)


# -- many clients -------------------------------------------------------------------------------


def test_additions_of_concurrent_clients_all_count(ps: Task) -> None:
    talks = [ps.conversation(f"worker:{index}") for index in range(4)]
    talks[0].run(Declare(spec(shape=(), dtype=np.int64), InitializerSpec(ConstantKind(0))))
    barrier = threading.Barrier(len(talks))

    def work(talk: Conversation) -> None:
        barrier.wait(TIMEOUT_S)
        for _ in range(50):
            batch = talk.batch(Update("scope/w", UpdateRule.ASSIGN_ADD, np.array(1)))
            talk.send(batch)
            talk.send(batch)  # as after a lost reply

    with ThreadPoolExecutor(len(talks)) as pool:
        for future in [pool.submit(work, talk) for talk in talks]:
            future.result(TIMEOUT_S)
    read = talks[0].run(Read("scope/w"))
    assert (read.version, int(read.tensor)) == (200, 200)  # type: ignore[arg-type]  # a reading has a tensor


def test_readers_never_see_half_an_update(ps: Task) -> None:
    writer, reader = ps.conversation("worker:0"), ps.conversation("worker:1")
    writer.run(Declare(spec(shape=(400_000,)), ONES))
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            writer.run(Update("scope/w", UpdateRule.ASSIGN_ADD, floats(1)))

    def read() -> None:
        for _ in range(30):
            value = value_of(reader)
            assert (value == value[0]).all()

    with ThreadPoolExecutor(2) as pool:
        writing, reading = pool.submit(write), pool.submit(read)
        try:
            reading.result(TIMEOUT_S)
        finally:
            done.set()
        writing.result(TIMEOUT_S)


def test_concurrent_declarations_make_one_variable(ps: Task) -> None:
    talks = [ps.conversation(f"worker:{index}") for index in range(4)]
    barrier = threading.Barrier(len(talks))
    initializer = InitializerSpec(RandomNormalKind(0.0, 1.0), seed=5)
    specs = [spec(f"scope/w{index}", (50,)) for index in range(20)]

    def declare(number: int) -> None:
        barrier.wait(TIMEOUT_S)
        for index in range(len(specs)):
            talks[number].run(Declare(specs[(index + 5 * number) % len(specs)], initializer))

    with ThreadPoolExecutor(len(talks)) as pool:
        for future in [pool.submit(declare, number) for number in range(len(talks))]:
            future.result(TIMEOUT_S)
    assert talks[0].service.status(timeout_s=TIMEOUT_S).num_variables == len(specs)
    for each in specs:
        np.testing.assert_array_equal(value_of(talks[0], each.name), initial_value(each, initializer))


CALLS_AFTER_ERRORS: list[Callable[[Conversation], object]] = [
    lambda talk: talk.run(Read("missing")),
    lambda talk: talk.send(talk.batch(Declare(spec(), ONES), sequence=0)),
    lambda talk: talk.send(Batch(uuid4(), uuid4(), 1, (Declare(spec(), ONES),))),
    lambda talk: talk.service.hello(talk.client, "x" * 1000, timeout_s=TIMEOUT_S),
]


@pytest.mark.parametrize("call", CALLS_AFTER_ERRORS)
def test_after_an_error_the_service_goes_on(talk: Conversation, call: Callable[[Conversation], object]) -> None:
    talk.run(Declare(spec(), ONES))
    with pytest.raises(ShardscopeError):
        call(talk)
    assert (value_of(talk) == 1).all()


@pytest.mark.parametrize("size", [4, 5000, 100_000])
def test_another_batch_under_the_same_number_is_refused(ps: Task, size: int) -> None:
    talk = ps.conversation()
    spec = VariableSpec("v", np.dtype(np.float32), (size,))
    talk.run(Declare(spec, InitializerSpec(ConstantKind(0.0))))
    ones, twos = np.ones(size, np.float32), np.full(size, 2, np.float32)
    for number in (2, 3):  # the second time the ps knows the header
        first = talk.batch(Update("v", UpdateRule.ASSIGN_ADD, ones))
        assert first.sequence == number
        (reply,) = talk.send(first).replies
        assert talk.send(first).replies == (reply,)
        others = [Update("v", UpdateRule.ASSIGN_ADD, twos), Update("v", UpdateRule.ASSIGN_SUB, ones)]
        for other in others if ps.transport != "core" else ():
            with pytest.raises(InvalidArgumentError, match=rf"the sequence {number} .* for another batch"):
                talk.send(talk.batch(other, sequence=number))
        np.testing.assert_array_equal(value_of(talk, "v"), (number - 1) * ones)
