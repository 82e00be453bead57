"""Operations that only put others in order."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from worker_client.graph.blocks import device
from worker_client.graph.graph import Graph
from worker_client.ops import control_flow as ops
from worker_client.ops.constant_ops import constant
from worker_client.scopes.variable_scope import get_variable
from worker_client.sessions.session import Session


def test_a_group_runs_all(session: Session) -> None:
    variables = [get_variable(name, initializer=np.float32(1)) for name in "ab"]
    everything = ops.group(*[each.initializer for each in variables])
    assert (everything.name, everything.type) == ("group_deps", "NoOp")
    session.run(everything)
    updates = ops.group([variables[0].assign_add(1)], variables[1].assign_add(2).op, name="step")
    assert updates.name == "step"
    session.run([updates])
    assert session.run(variables) == [2, 3]


def test_a_group_gathers_on_each_device_first(session: Session) -> None:
    made = []
    for task in (1, 0):
        with device(f"/job:ps/task:{task}"):
            made.append(constant(task))
    both = ops.group(*made)
    names = [(each.name, each.device) for each in both.control_inputs]
    assert names == [("group_deps/NoOp", "/job:ps/task:0"), ("group_deps/NoOp_1", "/job:ps/task:1")]
    assert (both.name, both.device) == ("group_deps", "")
    assert ops.group(made[0]).device == "/job:ps/task:1"


def test_an_empty_group_is_nothing(session: Session) -> None:
    assert ops.group().control_inputs == []
    assert ops.no_op().name == "NoOp"
    with pytest.raises(TypeError, match="neither an operation"):
        ops.group(1)


def test_control_dependencies_are_those_of_the_default_graph(session: Session) -> None:
    variable = get_variable("v", initializer=np.float32(1))
    session.run(variable.initializer)
    with ops.control_dependencies([variable.assign_add(1)]):
        after = variable.read_value()
    assert session.run(after) == 2
    with ops.control_dependencies([after]), ops.control_dependencies(None):
        assert constant(1).op.control_inputs == []


def test_a_tuple_waits_for_all(session: Session) -> None:
    variable = get_variable("v", initializer=np.float32(1))
    session.run(variable.initializer)
    first, nothing, second = ops.tuple([constant(5), None, constant(6)], control_inputs=[variable.assign_add(1)])
    assert nothing is None
    assert first is not None
    assert second is not None
    assert (first.op.name, second.op.name) == ("tuple/control_dependency", "tuple/control_dependency_1")
    assert session.run([first]) == [5]
    assert session.run(variable) == 2
    with pytest.raises(ValueError, match="at least one"):
        ops.tuple([None])


def test_outside_of_a_deferred_graph_futures_are_waited_for() -> None:
    done: Future[int] = Future()
    done.set_result(1)
    failed: Future[int] = Future()
    failed.set_exception(ArithmeticError("the update"))
    called: list[Any] = []
    with Graph(lambda definition: definition).as_default():
        with ops.control_dependencies([done, lambda: called.append(1), 7]):
            assert called == [1]
        with pytest.raises(ArithmeticError, match="the update"), ops.control_dependencies([failed]):
            pass
