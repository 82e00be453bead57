"""What every transport does with a call of a named function: a step of an optimizer, or a reduction."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ps_protocol.errors import (
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ShapeMismatchError,
    ShardscopeError,
)
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec, ValueKind
from ps_protocol.operations import (
    Apply,
    Array,
    Declare,
    Describe,
    Read,
    Reduce,
    Replace,
    Result,
    Update,
    UpdateRule,
    VariableSpec,
    Verdict,
)
from ps_protocol.optimizer_constraints import ConstraintSpec
from ps_protocol.optimizer_schedules import ScheduleSpec, schedule_spec
from ps_protocol.optimizer_spec import OnNonfinite, OptimizerSpec, SparseMode
from tests.contract.conftest import TIMEOUT_S, Conversation, Task, value_of

FLOAT, COUNT = np.dtype(np.float32), np.dtype(np.int64)
W = VariableSpec("w", FLOAT, (4, 2))
SLOT = VariableSpec("w/m", FLOAT, (4, 2), slot_of="w")
MOMENTUM = OptimizerSpec("momentum", (0.5, 0.5, 0.0), SparseMode.LAZY)
STEP = VariableSpec("w/step", COUNT, (), slot_of="w", optimizer=MOMENTUM)
ZERO = InitializerSpec(ConstantKind(0.0))
AS_DECLARED = np.full(3, math.nan)
GRADIENT = np.arange(8, dtype=FLOAT).reshape(4, 2)


def declared(talk: Conversation, optimizer: OptimizerSpec = MOMENTUM, initial: InitializerSpec = ZERO) -> None:
    for spec in (W, SLOT, replace(STEP, optimizer=optimizer)):
        talk.run(Declare(spec, initial if spec is W else ZERO))


def step(
    *operands: Array, function: str = "momentum", numbers: Array = AS_DECLARED, state: str = "w/step", slot: str = "w/m"
) -> Apply:
    return Apply("w", function, (slot,), state, operands, numbers)


def test_a_step_changes_the_variable_its_slots_and_the_count(talk: Conversation) -> None:
    declared(talk)
    assert talk.run(step(GRADIENT)) == Result(1, True)
    assert talk.run(step(GRADIENT)) == Result(2, True)
    np.testing.assert_array_equal(value_of(talk, "w"), -0.5 * (GRADIENT + 1.5 * GRADIENT))
    np.testing.assert_array_equal(value_of(talk, "w/m"), 1.5 * GRADIENT)
    assert value_of(talk, "w/step") == 2
    assert [talk.run(Describe(name)).version for name in ("w", "w/m", "w/step")] == [2, 2, 2]


def test_rows_that_come_again_are_added_up_first(talk: Conversation) -> None:
    declared(talk)
    ones = np.ones((3, 2), FLOAT)
    talk.run(step(np.array([2, 0, 2]), ones))
    np.testing.assert_array_equal(value_of(talk, "w/m"), [[1, 1], [0, 0], [2, 2], [0, 0]])
    np.testing.assert_array_equal(value_of(talk, "w"), [[-0.5, -0.5], [0, 0], [-1, -1], [0, 0]])


def test_a_step_without_rows_counts(talk: Conversation) -> None:
    declared(talk)
    talk.run(step(np.empty(0, np.int32), np.empty((0, 2), FLOAT)))
    assert value_of(talk, "w/step") == 1
    np.testing.assert_array_equal(value_of(talk, "w"), np.zeros((4, 2)))


def test_numbers_that_are_sent_count_instead_of_the_declared_ones(talk: Conversation) -> None:
    declared(talk)
    talk.run(step(GRADIENT, numbers=np.array([2.0, math.nan, math.nan])))
    np.testing.assert_array_equal(value_of(talk, "w"), -2 * GRADIENT)


def test_without_numbers_all_is_as_declared(talk: Conversation) -> None:
    rate = schedule_spec("exponential", {"learning_rate": 1.0, "decay_steps": 1.0, "decay_rate": 0.5})
    declared(talk, replace(MOMENTUM, schedule=rate))
    for _ in range(2):
        talk.run(step(GRADIENT, numbers=np.empty(0)))
    np.testing.assert_array_equal(value_of(talk, "w"), -GRADIENT - 0.5 * 1.5 * GRADIENT)
    with pytest.raises(InvalidArgumentError, match="momentum has 3 settings, but 0 were sent"):
        talk.run(step(GRADIENT, numbers=np.empty(0), state=""))


def test_without_a_count_the_numbers_say_all(talk: Conversation) -> None:
    declared(talk)
    talk.run(step(GRADIENT, state="", numbers=np.array([1.0, 0.0, 0.0])))
    np.testing.assert_array_equal(value_of(talk, "w"), -GRADIENT)
    assert value_of(talk, "w/step") == 0


def test_a_schedule_goes_by_the_count_of_steps(talk: Conversation) -> None:
    halved = schedule_spec("exponential", {"learning_rate": 1.0, "decay_steps": 1.0, "decay_rate": 0.5})
    declared(talk, replace(MOMENTUM, numbers=(0.0, 0.0, 0.0), schedule=halved))
    for _ in range(3):
        talk.run(step(GRADIENT))
    np.testing.assert_array_equal(value_of(talk, "w"), -(1 + 0.5 + 0.25) * GRADIENT)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_refused(talk: Conversation, bad: float) -> None:
    declared(talk)
    gradient = GRADIENT.copy()
    gradient[1, 1] = bad
    with pytest.raises(
        InvalidArgumentError, match=rf"variable w .*1 of the 8 .*{bad} at \[1, 1\].*nothing was changed"
    ):
        talk.run(step(gradient))
    assert [talk.run(Describe(name)).version for name in ("w", "w/m", "w/step")] == [0, 0, 0]
    status = talk.service.status(timeout_s=TIMEOUT_S)
    assert (status.steps_skipped, status.steps_refused) == (0, 1)


def test_or_it_is_skipped(talk: Conversation) -> None:
    declared(talk, replace(MOMENTUM, on_nonfinite=OnNonfinite.SKIP))
    assert talk.run(step(GRADIENT)).verdict is Verdict.APPLIED
    skipped = talk.run(step(np.full((4, 2), math.nan, FLOAT)))
    assert (skipped.verdict, skipped.version) == (Verdict.SKIPPED, 1)
    assert value_of(talk, "w/step") == 1
    status = talk.service.status(timeout_s=TIMEOUT_S)
    assert (status.steps_skipped, status.steps_refused) == (1, 0)


def test_or_it_is_applied(talk: Conversation) -> None:
    declared(talk, replace(MOMENTUM, on_nonfinite=OnNonfinite.APPLY))
    assert talk.run(step(np.full((4, 2), math.nan, FLOAT))).verdict is Verdict.APPLIED
    assert np.isnan(value_of(talk, "w")).all()


def test_an_optimizer_that_is_declared_otherwise_is_refused_naming_both(talk: Conversation) -> None:
    declared(talk)
    other = replace(STEP, optimizer=replace(MOMENTUM, numbers=(0.5, 0.75, 0.0)))
    with pytest.raises(InvalidArgumentError, match=r"momentum=0\.5.*declared here with.*momentum=0\.75") as refused:
        talk.run(Declare(other))
    assert refused.value.variable == "w"
    talk.run(Declare(STEP))


BAD: dict[str, tuple[Apply, type[ShardscopeError], str]] = {
    "dtype": (step(GRADIENT.astype(np.float64)), DTypeMismatchError, "variable w .*float64"),
    "shape": (step(GRADIENT[:2]), ShapeMismatchError, r"has the shape \[2, 2\]; variable w .* needs \[4, 2\]"),
    "row width": (step(np.array([0]), np.ones((1, 3), FLOAT)), ShapeMismatchError, r"needs \[1, 2\]"),
    "row": (step(np.array([4]), np.ones((1, 2), FLOAT)), InvalidArgumentError, r"outside .*\[0, 4\).* of variable w"),
    "dtype of rows": (step(np.array([0.0]), np.ones((1, 2), FLOAT)), DTypeMismatchError, "int32 or int64"),
    "rows in two dimensions": (step(np.array([[0]]), np.ones((1, 1, 2), FLOAT)), ShapeMismatchError, "one dimension"),
    "no operands": (step(), InvalidArgumentError, "takes a gradient"),
    "function": (step(GRADIENT, function="mementum"), NotFoundError, "knows no function 'mementum'.* momentum"),
    "another function": (
        step(GRADIENT, function="adam"),
        FailedPreconditionError,
        "declared for momentum, not for adam",
    ),
    "slot": (step(GRADIENT, slot="w/n"), NotFoundError, "variable w: .*w/n, which does not exist"),
    "slot itself": (step(GRADIENT, slot="w"), InvalidArgumentError, "variable w: momentum .* with w twice"),
    "state": (step(GRADIENT, state="w/m"), FailedPreconditionError, "w/m does not count the steps"),
    "no state": (step(GRADIENT, state="w/n"), NotFoundError, "w/n, which does not exist"),
    "numbers": (
        step(GRADIENT, numbers=np.ones(2)),
        InvalidArgumentError,
        "variable w.* has 3 settings, but 2 were sent",
    ),
    "number": (
        step(GRADIENT, numbers=np.array([math.inf, math.nan, math.nan])),
        InvalidArgumentError,
        "variable w.*learning_rate .*is inf",
    ),
    "numbers missing": (step(GRADIENT, state=""), InvalidArgumentError, "variable w.*learning_rate .*is nan"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_done_changes_nothing(talk: Conversation, what: str) -> None:
    operation, error, message = BAD[what]
    declared(talk)
    with pytest.raises(error, match=message) as refused:
        talk.run(operation)
    assert refused.value.variable == "w"
    assert refused.value.task == "ps:0"
    assert [talk.run(Describe(name)).version for name in ("w", "w/m", "w/step")] == [0, 0, 0]


def test_only_floats_are_trained(talk: Conversation) -> None:
    for spec in (VariableSpec("w", COUNT, (4, 2)), SLOT, STEP):
        talk.run(Declare(spec, ZERO))
    with pytest.raises(InvalidArgumentError, match=r"variable w .*cannot be trained"):
        talk.run(step(GRADIENT.astype(np.int64)))


@pytest.mark.parametrize("missing", ["w", "w/m", "w/step"])
def test_all_must_be_initialized(talk: Conversation, missing: str) -> None:
    for spec in (W, SLOT, STEP):
        talk.run(Declare(spec, None if spec.name == missing else ZERO))
    with pytest.raises(FailedPreconditionError, match=f"variable {missing} .*has not been initialised"):
        talk.run(step(GRADIENT))
    for name in {"w", "w/m", "w/step"} - {missing}:
        assert talk.run(Describe(name)).version == 0


@pytest.mark.parametrize("count", [-1, -5, 2**63 - 1])
def test_a_count_that_is_none_changes_nothing(talk: Conversation, count: int) -> None:
    declared(talk)
    talk.run(Update("w/step", UpdateRule.ASSIGN, np.array(count)))
    with pytest.raises(FailedPreconditionError, match=rf"variable w: w/step counts {count} steps.*nothing was changed"):
        talk.run(step(GRADIENT))
    assert not value_of(talk, "w").any()
    assert not value_of(talk, "w/m").any()
    assert value_of(talk, "w/step") == count
    assert [talk.run(Describe(name)).version for name in ("w", "w/m", "w/step")] == [0, 0, 1]


def test_a_value_that_is_held_does_not_change(ps: Task) -> None:
    talk = ps.conversation()
    large = VariableSpec("w", FLOAT, (1000, 50))
    zeros = InitializerSpec(ValueKind(np.zeros(large.shape, FLOAT)))
    for spec in (large, replace(SLOT, shape=large.shape), STEP):
        talk.run(Declare(spec, zeros if spec is large else ZERO))
    before = talk.run(Read("w", view=True)).tensor
    assert before is not None
    talk.run(step(np.ones(large.shape, FLOAT)))
    np.testing.assert_array_equal(before, np.zeros(large.shape))
    np.testing.assert_array_equal(value_of(talk, "w"), np.full(large.shape, -0.5))


def test_it_counts_once_however_often_it_is_sent(talk: Conversation) -> None:
    declared(talk)
    batch = talk.batch(step(GRADIENT))
    assert talk.send(batch) == talk.send(batch)
    assert value_of(talk, "w/step") == 1


# -- constraints ---------------------------------------------------------------------------------


def test_a_constraint_holds_after_each_step(talk: Conversation) -> None:
    longest = replace(MOMENTUM, constraint=ConstraintSpec("max_norm", (2.0, 1.0)))
    declared(talk, longest)
    talk.run(step(GRADIENT))
    value = -0.5 * GRADIENT
    norms = np.linalg.norm(value, axis=1, keepdims=True)
    np.testing.assert_allclose(value_of(talk, "w"), value * np.minimum(norms, 2) / (1e-7 + norms), rtol=1e-6)
    talk.run(step(np.array([3]), np.full((1, 2), 100, FLOAT)))
    np.testing.assert_allclose(np.linalg.norm(value_of(talk, "w"), axis=1)[2:], [2, 2], rtol=1e-6)


def test_a_constraint_that_does_not_suit_changes_nothing(talk: Conversation) -> None:
    declared(talk, replace(MOMENTUM, constraint=ConstraintSpec("max_norm", (2.0, 5.0))))
    with pytest.raises(InvalidArgumentError, match=r"variable w .*setting axis of the constraint max_norm is 5"):
        talk.run(step(GRADIENT))
    assert [talk.run(Describe(name)).version for name in ("w", "w/m", "w/step")] == [0, 0, 0]


# -- calls that come again -----------------------------------------------------------------------


def test_a_variable_may_get_another_shape_between_steps(talk: Conversation) -> None:
    declared(talk)
    talk.run(step(GRADIENT))
    talk.run(Replace("w", np.zeros((3, 2), FLOAT)))
    with pytest.raises(ShapeMismatchError, match=r"\[4, 2\].* needs \[3, 2\]"):
        talk.run(step(GRADIENT))
    with pytest.raises(FailedPreconditionError, match=r"momentum keeps momentum beside .* not float32\[4, 2\]"):
        talk.run(step(GRADIENT[:3]))
    talk.run(Replace("w/m", np.ones((3, 2), FLOAT)))
    assert talk.run(step(GRADIENT[:3])) == Result(3, True)
    np.testing.assert_array_equal(value_of(talk, "w"), -0.5 * (GRADIENT[:3] + 0.5))
    assert value_of(talk, "w/step") == 2


def test_a_count_may_become_none_between_steps(talk: Conversation) -> None:
    declared(talk)
    talk.run(step(GRADIENT))
    talk.run(Replace("w/step", np.zeros(2, COUNT)))
    with pytest.raises(FailedPreconditionError, match="w/step does not count the steps"):
        talk.run(step(GRADIENT))
    assert [talk.run(Describe(name)).version for name in ("w", "w/m", "w/step")] == [1, 1, 2]


def test_calls_in_turn_may_name_other_slots_and_numbers(talk: Conversation) -> None:
    declared(talk)
    talk.run(Declare(replace(SLOT, name="w/other"), ZERO))
    talk.run(Declare(replace(SLOT, name="w/narrow", shape=(4, 1)), ZERO))
    talk.run(step(GRADIENT))
    talk.run(step(GRADIENT, slot="w/other", numbers=np.array([0.25, 0.0, 0.0])))
    with pytest.raises(FailedPreconditionError, match=r"not float32\[4, 1\]"):
        talk.run(step(GRADIENT, slot="w/narrow"))
    talk.run(step(GRADIENT, numbers=np.array([1.0, 0.0, 0.0])))
    np.testing.assert_array_equal(value_of(talk, "w"), -(0.5 + 0.25 + 1.0) * GRADIENT)
    assert [talk.run(Describe(name)).version for name in ("w", "w/m", "w/other", "w/step")] == [3, 2, 1, 3]


def test_slots_are_those_of_the_numbers_of_each_call(talk: Conversation) -> None:
    talk.run(Declare(W, ZERO))
    for name in ("w/m", "w/v"):
        talk.run(Declare(replace(SLOT, name=name), ZERO))
    adam = np.array([0.1, 0.9, 0.99, 1e-8, 0.9, 0.99, 0.0])
    talk.run(Apply("w", "adam", ("w/m", "w/v"), "", (GRADIENT,), adam))
    unknown = np.where(adam == 0.99, math.nan, adam)
    unknown[2] = 0.99
    with pytest.raises(InvalidArgumentError, match="setting beta2_power of the rule adam is nan"):
        talk.run(Apply("w", "adam", ("w/m", "w/v"), "", (GRADIENT,), unknown))
    adam[-1] = 1.0
    with pytest.raises(FailedPreconditionError, match="adam keeps m, v, vhat beside variable w"):
        talk.run(Apply("w", "adam", ("w/m", "w/v"), "", (GRADIENT,), adam))
    assert talk.run(Describe("w")).version == 1


# -- moving averages -----------------------------------------------------------------------------


def test_an_average_follows_a_variable_that_is_only_read(talk: Conversation) -> None:
    declared(talk, initial=InitializerSpec(ValueKind(GRADIENT)))
    talk.run(Declare(VariableSpec("w/average", FLOAT, (4, 2), slot_of="w"), ZERO))
    move = Apply("w/average", "moving_average", ("w",), "", (), np.array([0.75, math.nan]))
    talk.run(move)
    np.testing.assert_array_equal(value_of(talk, "w/average"), GRADIENT / 4)
    talk.run(move)
    np.testing.assert_array_equal(value_of(talk, "w/average"), GRADIENT / 4 + 0.25 * (GRADIENT - GRADIENT / 4))
    talk.run(replace(move, numbers=np.array([0.999, 8.0])))  # (1 + 8) / (10 + 8) is less
    np.testing.assert_allclose(value_of(talk, "w/average"), GRADIENT * (1 + 0.4375) / 2, rtol=1e-6)
    assert [talk.run(Describe(name)).version for name in ("w", "w/average")] == [0, 3]
    np.testing.assert_array_equal(value_of(talk, "w"), GRADIENT)


def test_an_average_that_began_at_zero_is_told_so(talk: Conversation) -> None:
    declared(talk, initial=InitializerSpec(ValueKind(GRADIENT)))
    for name, dtype, shape in (("average", FLOAT, (4, 2)), ("biased", FLOAT, (4, 2)), ("count", COUNT, ())):
        talk.run(Declare(VariableSpec(name, dtype, shape), ZERO))
    move = Apply("average", "moving_average", ("biased", "count", "w"), "", (), np.array([0.75, math.nan]))
    for updates in (1, 2):
        talk.run(move)
        np.testing.assert_allclose(value_of(talk, "average"), GRADIENT, rtol=1e-6)
        np.testing.assert_allclose(value_of(talk, "biased"), GRADIENT * (1 - 0.75**updates), rtol=1e-6)
        assert value_of(talk, "count") == updates
    assert talk.run(Describe("w")).version == 0


@pytest.mark.parametrize(
    ("slots", "numbers", "message"),
    [
        (("w",), (2.0, math.nan), "decay of a moving average is 2"),
        (("w",), (0.5, -1.0), "number of updates of a moving average is -1"),
        (("w",), (0.5,), "average average .* 1 numbers"),
        (("w", "w/m"), (0.5, math.nan), "given 2 variables"),
        (("w/step",), (0.5, math.nan), "average average .* cannot follow w/step"),
        (("w/m", "w", "other"), (0.5, math.nan), "w .* cannot count its updates"),
    ],
)
def test_averages_are_refused(
    talk: Conversation, slots: tuple[str, ...], numbers: tuple[float, ...], message: str
) -> None:
    declared(talk)
    for name in ("average", "other"):
        talk.run(Declare(VariableSpec(name, FLOAT, (4, 2)), ZERO))
    with pytest.raises(ShardscopeError, match=message) as refused:
        talk.run(Apply("average", "moving_average", slots, "", (), np.array(numbers)))
    assert refused.value.variable == "average"
    assert talk.run(Describe("average")).version == 0


# -- reductions ---------------------------------------------------------------------------------


def reduced(talk: Conversation, function: str, *operands: Array, numbers: tuple[float, ...] = ()) -> Array:
    tensor = talk.run(Reduce("w", function, operands, np.array(numbers, np.float64))).tensor
    assert tensor is not None
    return tensor


def test_reductions(talk: Conversation) -> None:
    value = np.array([[3, -1], [4, 1], [-5, 9], [2, 6]], FLOAT)
    declared(talk, initial=InitializerSpec(ValueKind(value)))
    assert reduced(talk, "sum") == 19
    assert reduced(talk, "sum_of_squares") == (value**2).sum()
    assert reduced(talk, "dot", GRADIENT) == (value * GRADIENT).sum()
    assert reduced(talk, "max") == 9
    assert reduced(talk, "min") == -5
    indices, bits = reduced(talk, "top_k", numbers=(3,))
    assert indices.tolist() == [5, 7, 2]
    assert bits.view(np.float64).tolist() == [9, 6, 4]
    assert reduced(talk, "histogram", numbers=(2, -5, 9)).tolist() == [3, 5]


@pytest.mark.parametrize(
    ("function", "operands", "numbers", "message"),
    [
        ("sum", (), (1.0,), "takes 0 operands and 0 numbers"),
        ("dot", (GRADIENT[:1],), (), r"needs \[4, 2\]"),
        ("top_k", (), (9.0,), "asked for 9 elements; it has 8"),
        ("histogram", (), (2.0, 1.0, 1.0), "the lesser one first"),
        ("product", (), (), "knows no function 'product'"),
    ],
)
def test_reductions_are_refused_by_name(
    talk: Conversation, function: str, operands: tuple[Array, ...], numbers: tuple[float, ...], message: str
) -> None:
    declared(talk)
    with pytest.raises(ShardscopeError, match=message) as refused:
        reduced(talk, function, *operands, numbers=numbers)
    assert refused.value.variable == "w"


def test_a_reduction_needs_a_value(talk: Conversation) -> None:
    talk.run(Declare(W))
    with pytest.raises(FailedPreconditionError, match=r"variable w .*has not been initialised"):
        reduced(talk, "sum")
    talk.run(Update("w", UpdateRule.ASSIGN, GRADIENT))
    assert reduced(talk, "sum") == GRADIENT.sum()


@pytest.mark.parametrize(
    "numbers", [np.array([2], np.int64), np.array([2.0], np.float32), np.array(2.0)], ids=["int", "f4", "0-d"]
)
def test_numbers_that_are_no_doubles_are_refused(talk: Conversation, numbers: Array) -> None:
    declared(talk)
    for operation in (
        Reduce("w", "top_k", (), numbers),
        Apply("w", "gradient_descent", (), "", (GRADIENT,), numbers),
    ):
        with pytest.raises(InvalidArgumentError, match=r"numbers .*should be float64 of one dimension"):
            talk.run(operation)
    assert talk.run(Describe("w")).version == 0


@pytest.mark.parametrize(
    "optimizer",
    [
        OptimizerSpec("nonsense", (0.1,)),
        replace(MOMENTUM, schedule=ScheduleSpec("nonsense", (1.0,))),
        replace(MOMENTUM, schedule=ScheduleSpec("cosine", (0.1, -5.0, 0.0))),
        replace(MOMENTUM, numbers=(0.1,)),
        replace(MOMENTUM, constraint=ConstraintSpec("max_norm", (1.0,))),
    ],
    ids=["rule", "schedule", "steps of a schedule", "settings", "constraint"],
)
def test_a_declaration_that_makes_no_sense_is_refused_as_such(talk: Conversation, optimizer: OptimizerSpec) -> None:
    with pytest.raises(InvalidArgumentError, match="variable w cannot be trained by the optimizer"):
        declared(talk, optimizer)
