"""Averages that follow variables on the ps; expected values are those of TensorFlow 1's formula."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import DTypeMismatchError, FailedPreconditionError, InvalidArgumentError, PermissionDeniedError
from tests.unit.worker_client.clusters import TIMEOUT_S, InProcessCluster
from worker_client.client import Client
from worker_client.initializers import Constant, zeros_initializer
from worker_client.scopes.variable_scope import get_variable
from worker_client.train import ExponentialMovingAverage
from worker_client.variables.partitioners import fixed_size_partitioner

VALUE = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def variables(client: Client) -> list[Any]:
    """One on each ps task, and two that are cut over both."""
    del client
    made = [get_variable(name, VALUE.shape, initializer=Constant(VALUE)) for name in ("a", "b")]
    for axis in (0, 1):
        partitioner = fixed_size_partitioner(2, axis=axis)
        made.append(get_variable(f"cut_{axis}", VALUE.shape, initializer=Constant(VALUE), partitioner=partitioner))
    return made


def test_averages_follow_their_variables(variables: list[Any]) -> None:
    averages = ExponentialMovingAverage(0.75)
    assert averages.average(variables[0]) is None
    averages.apply(variables)
    for each in variables:
        np.testing.assert_array_equal(averages.average(each).numpy(), VALUE)
        each.assign(VALUE + 4)
    averages.apply(variables)
    for each in variables:
        np.testing.assert_array_equal(averages.average(each).numpy(), VALUE + 1)
        np.testing.assert_array_equal(each.numpy(), VALUE + 4)
    assert averages.average(variables[0]).version == 2


def test_they_have_a_name(variables: list[Any], client: Client) -> None:
    averages = ExponentialMovingAverage(0.9, name="ema")
    averages.apply(variables)
    for each in variables:
        assert averages.average(each).whole_spec.name == averages.average_name(each) == f"{each.whole_spec.name}/ema"
        entry = next(entry for entry in client.variables() if entry.name == averages.average_name(each))
        assert (entry.slot_of, entry.shape) == (each.whole_spec.name, (4, 3))
        assert len(entry.parts) == (2 if each.whole_spec.name.startswith("cut") else 0)


def test_new_averages_move_faster(variables: list[Any]) -> None:
    steps = get_variable("steps", [], np.int64, initializer=zeros_initializer())
    averages = ExponentialMovingAverage(0.999, num_updates=steps)
    averages.apply(variables)
    steps.assign(8)
    variables[0].assign(VALUE + 4)
    averages.apply(variables)
    np.testing.assert_allclose(averages.average(variables[0]).numpy(), VALUE + 2, rtol=1e-6)  # (1 + 8) / (10 + 8)


def test_averages_that_begin_at_zero_are_corrected(variables: list[Any], client: Client) -> None:
    averages = ExponentialMovingAverage(0.9, zero_debias=True)
    for _ in range(3):
        averages.apply(variables)
        for each in variables:
            np.testing.assert_allclose(averages.average(each).numpy(), VALUE, rtol=1e-5)
    name = "a/ExponentialMovingAverage"
    assert client.variable(f"{name}/local_step").numpy() == 3
    np.testing.assert_allclose(client.variable(f"{name}/biased").numpy(), VALUE * (1 - 0.9**3), rtol=1e-5)


def test_it_is_one_exchange_for_each_ps_task(variables: list[Any], cluster: InProcessCluster) -> None:
    averages = ExponentialMovingAverage(0.9)
    averages.apply(variables)
    before = cluster.batches()
    averages.apply(variables)
    assert [after - old for after, old in zip(cluster.batches(), before, strict=True)] == [1, 1]


def test_without_waiting_they_move_in_order(variables: list[Any]) -> None:
    averages = ExponentialMovingAverage(0.5)
    v = variables[0]
    first = averages.apply([v], wait=False)
    v.assign(VALUE + 2, wait=False)
    second = averages.apply([v], wait=False)
    for done in (first, second):
        assert done.result(TIMEOUT_S) is None
    np.testing.assert_array_equal(averages.average(v).numpy(), VALUE + 1)


def test_another_worker_goes_on_with_them(variables: list[Any], cluster: InProcessCluster) -> None:
    ExponentialMovingAverage(0.5).apply(variables)
    other = ExponentialMovingAverage(0.5)
    v = cluster.client(1).variable("a")
    v.assign(VALUE + 2)
    other.apply([v])
    np.testing.assert_array_equal(other.average(v).numpy(), VALUE + 1)


def test_another_worker_with_another_decay_is_refused_naming_both(
    variables: list[Any], cluster: InProcessCluster
) -> None:
    ExponentialMovingAverage(0.5).apply(variables)
    v = cluster.client(1).variable("a")
    v.assign(VALUE + 2)
    with pytest.raises(InvalidArgumentError, match=r"variable a already has .*decay 0\.5 .* with .*decay 0\.75"):
        ExponentialMovingAverage(0.75).apply([v])
    other = ExponentialMovingAverage(0.5)
    other.apply([v])
    np.testing.assert_array_equal(other.average(v).numpy(), VALUE + 1)


def test_a_first_time_that_fails_is_a_first_time_again(cluster: InProcessCluster) -> None:
    with cluster.client(initialize=False):
        v = get_variable("late", [3], initializer=Constant(np.ones(3)))
        averages = ExponentialMovingAverage(0.5)
        for wait in (True, False):
            with pytest.raises(FailedPreconditionError, match=r"variable late .*has not been initialised"):
                averages.apply([v]) if wait else averages.apply([v], wait=False).result(TIMEOUT_S)
        v.initialize()
        averages.apply([v])
        np.testing.assert_array_equal(averages.average(v).numpy(), np.ones(3))


@pytest.mark.parametrize("copier", [lambda each: pickle.loads(pickle.dumps(each)), copy.deepcopy, copy.copy])
def test_a_copy_has_the_settings_and_finds_the_averages(variables: list[Any], copier: Callable[[Any], Any]) -> None:
    averages = ExponentialMovingAverage(0.75, name="ema")
    averages.apply(variables)
    other = copier(averages)
    variables[0].assign(VALUE + 4)
    other.apply(variables[:1])
    np.testing.assert_array_equal(averages.average(variables[0]).numpy(), VALUE + 1)
    assert other._lock is not averages._lock


def test_what_is_refused(variables: list[Any], cluster: InProcessCluster) -> None:
    with pytest.raises(InvalidArgumentError, match=r"decay of ExponentialMovingAverage is 1\.5"):
        ExponentialMovingAverage(1.5)
    averages = ExponentialMovingAverage(0.5)
    count = get_variable("count", [], np.int64, initializer=zeros_initializer())
    with pytest.raises(DTypeMismatchError, match=r"variable count .*no moving average"):
        averages.apply([*variables, count])
    with pytest.raises(InvalidArgumentError, match="given no variables"):
        averages.apply([])
    with pytest.raises(InvalidArgumentError, match=r"client\.variable\('a'\)"):
        averages.apply(["a"])  # type: ignore[list-item]
    observer = cluster.client(1, observer=True)
    with pytest.raises(PermissionDeniedError):
        averages.apply([observer.variable("a")])
    assert [each.name for each in observer.variables() if each.slot_of] == []
