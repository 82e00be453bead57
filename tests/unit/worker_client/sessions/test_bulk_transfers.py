"""Operations that move values of variables themselves: they run behind what they wait for, also without outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from ps_protocol.errors import NotFoundError
from ps_protocol.operations import Read, Update, UpdateRule
from worker_client.connection.fanout import Routed, succeeded
from worker_client.graph.computation import BulkTransfer, VariableHome
from worker_client.graph.graph import Graph
from worker_client.graph.operation import OutputSpec
from worker_client.values.out_arrays import tensor_of


def test_it_reads_and_updates_behind_what_it_waits_for_and_before_what_waits_for_it(graph: Graph) -> None:
    variable = tf.get_variable("v", initializer=[1.0, 2.0])
    factor = tf.placeholder(tf.float32, [], name="factor")
    seen: list[Any] = []

    def multiply(home: VariableHome, factor: Any) -> tuple[Any, ...]:
        home.place([variable])
        task = home.route(variable)
        (reply,) = home.exchange([Routed(task, Read("v"))])
        value = tensor_of(succeeded(reply))
        seen.append(value.tolist())
        (reply,) = home.exchange([Routed(task, Update("v", UpdateRule.ASSIGN, value * factor))])
        succeeded(reply)
        return ()

    with graph.control_dependencies([variable.assign_add([1.0, 1.0])]):
        op = graph.create_op(
            "Multiply", [factor], name="multiply", computation=BulkTransfer(multiply, True, (variable.op.outputs[0],))
        )
    with graph.control_dependencies([op]):
        after = variable.read_value()
    assert [each.name for each in op.inputs] == ["v:0"]
    assert after.op.follows_update
    with tf.Session() as session:
        session.run(variable.initializer)
        assert session.run(after, {factor: 10.0}).tolist() == [20.0, 30.0]
        assert seen == [[2.0, 3.0]]
        assert session.run(op, {factor: 1.0}) is None
        assert seen[1:] == [[21.0, 31.0]]


def test_its_errors_are_those_of_the_run_and_name_the_operation(graph: Graph) -> None:
    def fail(home: VariableHome) -> tuple[Any, ...]:
        raise NotFoundError("nothing there")

    op = graph.create_op("Fail", name="fail", computation=BulkTransfer(fail))
    with tf.Session() as session, pytest.raises(NotFoundError, match="nothing there") as caught:
        session.run(op)
    assert caught.value.op is op


def test_it_may_have_outputs(graph: Graph) -> None:
    constant = tf.constant([1.0])
    op = graph.create_op(
        "Twice",
        [constant],
        [OutputSpec(constant.dtype.dtype, constant.shape)],
        name="twice",
        computation=BulkTransfer(lambda home, value: (np.asarray(value * 2),)),
    )
    with tf.Session() as session:
        assert session.run(op.outputs[0]).tolist() == [2.0]
