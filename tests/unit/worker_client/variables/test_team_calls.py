"""Calls of functions that a team has written itself, on whole and partitioned variables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, PermissionDeniedError
from ps_server.process.function_module import known_functions
from tests.unit.worker_client.clusters import TIMEOUT_S, InProcessCluster
from worker_client.client import Client
from worker_client.initializers import Constant
from worker_client.scopes.variable_scope import get_variable
from worker_client.variables.partitioners import fixed_size_partitioner

VALUE = np.arange(12, dtype=np.float32).reshape(4, 3)
WAYS = {"whole": None, "cut by rows": 0, "cut by columns": 1}
each_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
def cluster() -> Iterator[InProcessCluster]:
    with InProcessCluster(known_functions("tests.team_rules")) as cluster:
        yield cluster


def variable_of(way: str, name: str = "v", value: Any = VALUE) -> Any:
    axis = WAYS[way]
    partitioner = None if axis is None else fixed_size_partitioner(2, axis=axis)
    return get_variable(name, value.shape, initializer=Constant(value), partitioner=partitioner)


@pytest.fixture
def with_slot(client: Client) -> Any:
    """Makes a variable and a slot on the same ps tasks."""
    del client

    def made(way: str) -> tuple[Any, Any]:
        v = variable_of(way)
        if way == "whole":
            get_variable("between", [])
        return v, variable_of(way, "slot", 10 * VALUE)

    return made


@each_way
def test_a_value_and_its_slot_change(with_slot: Any, way: str) -> None:
    v, slot = with_slot(way)
    assert v.apply("swapped", 0.5, slots=(slot,)) is v
    np.testing.assert_array_equal(v.numpy(), 5 * VALUE)
    np.testing.assert_array_equal(slot.numpy(), VALUE)


@each_way
@pytest.mark.usefixtures("client")
def test_an_argument_of_the_shape_of_the_whole_is_cut(way: str) -> None:
    v = variable_of(way)
    v.apply("added", VALUE)
    v.apply("added", 1)
    v.apply("added", np.ones(1, np.float32))
    np.testing.assert_array_equal(v.numpy(), 2 * VALUE + 2)


@each_way
@pytest.mark.usefixtures("client")
def test_without_waiting_arguments_are_copied(way: str) -> None:
    v, argument = variable_of(way), VALUE.copy()
    done = v.apply("added", argument, wait=False)
    argument[:] = 99
    assert done.result(TIMEOUT_S) is v
    np.testing.assert_array_equal(v.numpy(), 2 * VALUE)


@pytest.mark.usefixtures("client")
def test_a_reduction_is_an_array_or_one_for_each_part() -> None:
    assert variable_of("whole").reduce("quantile", 0.5) == 5.5
    parts = variable_of("cut by rows", "cut").reduce("rows", np.array([1]))
    assert [part.tolist() for part in parts] == [[VALUE[1].tolist()], [VALUE[3].tolist()]]


@each_way
def test_it_is_one_exchange_for_each_ps_task(client: Client, cluster: InProcessCluster, way: str) -> None:
    v = variable_of(way)
    before = cluster.batches()
    v.apply("added", 1)
    v.reduce("quantile", 0.5)
    tasks = 1 if way == "whole" else 2
    assert sum(cluster.batches()) - sum(before) == 2 * tasks
    del client


@each_way
@pytest.mark.usefixtures("client")
def test_an_error_of_the_function_changes_nothing(way: str) -> None:
    v = variable_of(way)
    with pytest.raises(InvalidArgumentError, match=r"variable v.*the function 'raises' has raised TypeError"):
        v.apply("raises")
    np.testing.assert_array_equal(v.numpy(), VALUE)


@pytest.mark.usefixtures("client")
def test_what_is_refused_before_it_is_sent() -> None:
    v, elsewhere, cut = variable_of("whole"), variable_of("whole", "elsewhere"), variable_of("cut by rows", "cut")
    for slot in (elsewhere, cut):
        with pytest.raises(InvalidArgumentError, match=rf"{slot.whole_spec.name} cannot be a slot for variable v"):
            v.apply("swapped", 1, slots=(slot,))
    with pytest.raises(InvalidArgumentError, match=r"a slot for variable v is 'elsewhere'"):
        v.apply("swapped", 1, slots=("elsewhere",))
    with pytest.raises(DTypeMismatchError, match=r"argument 1 of added for variable v is 'one'"):
        v.apply("added", 1, "one")
    for number, way in enumerate(WAYS):
        v, masked = variable_of(way, f"v{number}"), np.ma.array(VALUE, mask=VALUE == 0)
        for wait in (True, False):
            with pytest.raises(DTypeMismatchError, match=rf"v{number}: argument 0 of added is masked"):
                v.apply("added", masked, wait=wait)
        np.testing.assert_array_equal(v.numpy(), VALUE)


def test_an_observer_only_looks(client: Client, cluster: InProcessCluster) -> None:
    with client.as_default():
        variable_of("whole")
    seen = cluster.client(1, observer=True).variable("v")
    assert seen.reduce("quantile", 0.5) == 5.5
    with pytest.raises(PermissionDeniedError, match="v"):
        seen.apply("added", 1)
