"""Slots of optimizers as variables, and constraints."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, NotFoundError
from tests.unit.worker_client.clusters import InProcessCluster
from tests.unit.worker_client.optimizers.conftest import VALUE, variable_of
from worker_client import train
from worker_client.client import Client
from worker_client.initializers import zeros_initializer
from worker_client.scopes.variable_scope import get_variable
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.variable import Variable

GRADIENT = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


def test_slots_are_variables_like_theirs(w: Any) -> None:
    adam = train.Adam(0.1)
    assert adam.slot_names() == ["m", "v"]
    slots = adam.slots(w)
    assert list(slots) == ["m", "v", "step"]
    adam.apply_gradients([(GRADIENT, w)])
    np.testing.assert_allclose(slots["m"].numpy(), 0.1 * GRADIENT, rtol=1e-6)
    np.testing.assert_allclose(adam.get_slot(w, "v").numpy(), 0.001 * GRADIENT**2, rtol=1e-4)
    assert adam.get_slot(w, "step").numpy() == 1
    assert type(slots["m"]) is type(w)
    assert slots["m"].whole_spec.name == "w/Adam/m"
    if isinstance(w, PartitionedVariable):
        assert slots["m"].axis == w.axis
        assert [part.ps_task for part in slots["m"]] == [part.ps_task for part in w]


def test_a_slot_can_be_set(w: Any) -> None:
    optimizer = train.Momentum(1.0, 0.5)
    optimizer.get_slot(w, "momentum").assign(np.ones((4, 3)))
    optimizer.apply_gradients([(np.zeros((4, 3)), w)])
    np.testing.assert_allclose(w.numpy(), VALUE - 0.5, rtol=1e-6)


def test_a_slot_that_is_not_there(w: Any) -> None:
    with pytest.raises(NotFoundError, match="Adam has no slot 'momentum' of variable w; it has m, v, step"):
        train.Adam().get_slot(w, "momentum")


def test_rules_without_slots_have_a_step(w: Any) -> None:
    optimizer = train.GradientDescent(0.1)
    assert optimizer.slot_names() == []
    assert list(optimizer.slots(w)) == ["step"]


def test_a_slot_of_one_number_a_row(w: Any) -> None:
    optimizer = train.RowWiseAdagrad(0.1)
    (name,) = optimizer.slot_names()
    slot = optimizer.get_slot(w, name)
    if isinstance(w, PartitionedVariable) and w.axis == 1:
        assert [part.shape for part in slot] == [(4,), (4,)], "each part has its own for the same rows"
    else:
        assert tuple(slot.shape) == (4,)
        np.testing.assert_allclose(slot.numpy(), np.full(4, 0.1), rtol=1e-6)
    optimizer.apply_gradients([(GRADIENT, w)])


def test_slots_of_sixteen_bits(w: Any, client: Client) -> None:
    adam = train.Adam(0.1, slot_dtype="bfloat16")
    assert adam.get_slot(w, "m").dtype == ml_dtypes.bfloat16
    for _ in range(3):
        adam.apply_gradients([(GRADIENT, w)])
    other = variable_of("whole", "exact")
    exact = train.Adam(0.1)
    for _ in range(3):
        exact.apply_gradients([(GRADIENT, other)])
    np.testing.assert_allclose(w.numpy(), other.numpy(), atol=0.02)
    del client


@pytest.mark.usefixtures("client")
def test_slots_beside_sixteen_bits_have_thirty_two() -> None:
    w = variable_of("whole", dtype=ml_dtypes.bfloat16)
    adam = train.Adam(0.1)
    assert adam.get_slot(w, "m").dtype == np.float32
    adam.apply_gradients([(GRADIENT, w)])
    np.testing.assert_allclose(w.numpy().astype(np.float32), VALUE - 0.1 * np.sign(GRADIENT), rtol=1e-2, atol=2e-2)


def test_what_cannot_be_trained_has_no_slots(client: Client) -> None:
    count = get_variable("count", [3], np.int64, initializer=zeros_initializer())
    with pytest.raises(DTypeMismatchError, match=r"variable count .*cannot be trained"):
        train.Adam().slots(count)
    assert len(client.variables()) == 1


def test_asking_for_slots_declares_them_once(w: Any, cluster: InProcessCluster) -> None:
    adam = train.Adam()
    adam.slots(w)
    before = cluster.batches()
    adam.slots(w)
    assert cluster.batches() == before
    assert isinstance(adam.get_slot(w, "step"), Variable)


# -- constraints --------------------------------------------------------------------------------


def test_a_constraint_holds_after_each_step(w: Any) -> None:
    axis = 0 if isinstance(w, PartitionedVariable) and w.axis == 1 else 1
    optimizer = train.GradientDescent(1.0, constraint=("max_norm", 2.0, axis))
    optimizer.apply_gradients([(GRADIENT, w)])
    free = VALUE - GRADIENT
    norms = np.linalg.norm(free, axis=axis, keepdims=True)
    np.testing.assert_allclose(w.numpy(), free * np.minimum(norms, 2) / (1e-7 + norms), rtol=1e-5)


def test_nothing_becomes_negative(w: Any) -> None:
    train.GradientDescent(10.0, constraint="non_negative").apply_gradients([(np.abs(GRADIENT), w)])
    np.testing.assert_allclose(w.numpy(), np.maximum(VALUE - 10 * np.abs(GRADIENT), 0), atol=1e-5)


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("positive", "there is no constraint 'positive'; choose one of non_negative"),
        (("max_norm", -1.0), "max_value of the constraint max_norm is -1"),
        (("max_norm", 2.0, 0.5), r"axis of the constraint max_norm is 0\.5"),
        (("max_norm", 2.0, 1, 3), r"the constraint is \('max_norm', 2\.0, 1, 3\); give its name"),
        (3, "the constraint is 3; give its name"),
    ],
)
def test_a_constraint_is_checked_when_the_optimizer_is_made(constraint: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        train.Adam(constraint=constraint)


def test_a_constraint_that_does_not_suit_the_variable_is_refused_before_anything_is_declared(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match=r"variable vector .*axis of the constraint unit_norm is 1"):
        train.Adam(constraint=("unit_norm", 1)).slots(variable_of("whole", "vector", [1.0, 2.0]))
    with pytest.raises(
        InvalidArgumentError, match=r"variable table is cut along axis 0, along which .* unit_norm takes"
    ):
        train.Adam(constraint="unit_norm").slots(variable_of("cut by rows", "table"))
    assert not [each for each in client.variables() if each.slot_of]


# -- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: train.Adam(beta1=1.5), r"beta1 of the rule adam is 1\.5"),
        (lambda: train.Adam(name=""), "the name of an optimizer is ''"),
        (lambda: train.Adam(name="/a"), "the name of an optimizer is '/a'"),
        (lambda: train.Adam(on_nonfinite="ignore"), "on_nonfinite is 'ignore'"),  # type: ignore[arg-type]
        (lambda: train.Adagrad(0.1, sparse="tf2"), "tf2"),  # type: ignore[arg-type]
        (lambda: train.Adagrad(0.1, slot_dtype="int8"), "Adagrad: slot_dtype is int8; slots are of floats"),
    ],
    ids=["setting", "no name", "name", "on_nonfinite", "sparse", "slot_dtype"],
)
def test_settings_are_checked_when_the_optimizer_is_made(made: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        made()


def test_it_says_what_it_is() -> None:
    assert repr(train.Adam(0.25, name="Mine")) == "<Adam 'Mine' learning_rate=0.25>"
    warm = train.LinearWarmup(0.5, 4, then=train.PiecewiseConstant([2], [0.5, 0.25]))
    assert repr(train.Adam(warm)) == (
        "<Adam 'Adam' learning_rate=linear_warmup(learning_rate=0.5, warmup_steps=4.0, start_learning_rate=0.0, "
        "then=piecewise(2.0, 0.5, 0.25))>"
    )
    assert (
        repr(train.ExponentialMovingAverage(0.5)) == "<ExponentialMovingAverage 'ExponentialMovingAverage' decay=0.5>"
    )
