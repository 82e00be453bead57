"""Constants take no part in a run unless they are asked for, fed or made to wait."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from worker_client.graph.operation import Operation
from worker_client.ops.constant_ops import constant, zeros
from worker_client.ops.math_ops import add
from worker_client.scopes.creation import new_variable
from worker_client.scopes.variable_scope import get_variable
from worker_client.sessions import plans
from worker_client.sessions.session import Session


def test_they_are_not_among_what_a_run_goes_through(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    gone_through: list[list[Operation]] = []
    ordered = plans.ordered

    def watched(targets: Any, fed: Any) -> dict[Operation, list[Operation]]:
        found = ordered(targets, fed)
        gone_through.append(list(found))
        return found

    monkeypatch.setattr(plans, "ordered", watched)
    assert session.run(add(constant(1.0), 2.0, name="total") * 3.0) == 9
    assert [[each.name for each in order] for order in gone_through] == [["total", "mul"]]


def test_they_can_be_fetched_and_fed(session: Session) -> None:
    total = add(constant([1.0], name="one"), 2.0, name="total")
    assert session.run("total/y:0") == 2
    assert session.run(total, {"total/y:0": 5.0}) == [6]
    assert session.run(total, {"one:0": [7.0]}) == [9]
    np.testing.assert_array_equal(session.run(zeros([3]) + 1.0), [1, 1, 1])


def test_what_a_session_returns_of_one_is_a_copy(session: Session) -> None:
    one = constant([1.0, 2.0])
    session.run(one)[0] = 5
    np.testing.assert_array_equal(session.run(one), [1, 2])


def test_one_that_waits_does_so(session: Session) -> None:
    variable = new_variable(1.0)
    session.run(variable.initializer)
    with session.graph.control_dependencies([variable.assign_add(1.0)]):
        late = constant(5.0) * 2.0
    assert session.run(late) == 10
    assert session.run(variable) == 2


def test_a_fed_initial_value_is_assigned(session: Session) -> None:
    given, described = new_variable([1.0, 2.0]), get_variable("described", [2])
    computed = new_variable(given * 2.0)
    session.run(
        [given.initializer, described.initializer], {given.initial_value: [3, 4], described.initial_value: [5, 6]}
    )
    assert [each.tolist() for each in session.run([given, described])] == [[3, 4], [5, 6]]
    session.run(computed.initializer, {computed.initial_value: [7, 8]})
    assert session.run(computed).tolist() == [7, 8]


def test_an_initial_value_is_what_the_initializer_assigns(session: Session) -> None:
    variable = get_variable("random", [3, 2])
    assert variable.initial_value.name == "random/Initializer/random_uniform:0"
    value = session.run(variable.initial_value)
    session.run(variable.initializer)
    np.testing.assert_array_equal(session.run(variable), value)
