"""What operations tell: inputs with constants among them, control inputs as TensorFlow lists them, attributes."""

from __future__ import annotations

import numpy as np
import pytest

from worker_client.graph.graph import Graph
from worker_client.ops.array_ops import split
from worker_client.ops.constant_ops import constant, identity
from worker_client.ops.control_flow import no_op
from worker_client.ops.math_ops import add, reduce_sum
from worker_client.scopes.creation import new_variable
from worker_client.values.dtypes import DType, float32, int32

pytestmark = pytest.mark.usefixtures("graph")


def test_numbers_are_constants_among_the_inputs(graph: Graph) -> None:
    total = add(constant([1.0], name="one"), 3.0, name="total")
    assert [tensor.name for tensor in total.op.inputs] == ["one:0", "total/y:0"]
    assert total.op.node_def.input == ("one", "total/y")
    assert graph.get_operation_by_name("total/y").type == "Const"
    assert constant(1, name="total/y").name == "total/y_1:0"


def test_a_variable_is_an_input_of_what_accesses_it() -> None:
    variable = new_variable([1.0, 2.0], name="v")
    assign, rows = variable.assign([3.0, 4.0]).op, variable.sparse_read([0]).op
    assert [tensor.name for tensor in assign.inputs] == ["v:0", "Assign/value:0"]
    assert [tensor.name for tensor in rows.inputs] == ["v/read:0", "GatherV2/indices:0", "GatherV2/axis:0"]
    assert [tensor.name for tensor in variable.value().op.inputs] == ["v:0"]
    assert [tensor.name for tensor in variable.initializer.inputs] == ["v:0", "v/initial_value:0"]
    assert [tensor.name for tensor in rows.operands] == ["GatherV2/indices:0", "GatherV2/axis:0"]


def test_control_inputs_are_listed_where_no_input_waits_already() -> None:
    gate, other = constant(1.0, name="gate"), constant(2.0, name="other")
    with Graph.control_dependencies(gate.graph, [gate]):
        inside = identity(other)
        with_constant, of_gate, of_inside = inside + 1.0, identity(gate), identity(inside)
        nothing = no_op()
    assert inside.op.control_inputs == [gate.op]
    assert with_constant.op.control_inputs == of_gate.op.control_inputs == of_inside.op.control_inputs == []
    assert nothing.control_inputs == [gate.op]
    assert with_constant.op.waits_for == of_gate.op.waits_for == (gate.op,)
    assert [each.name for each in with_constant.op.inputs[1].op.control_inputs] == ["gate"]
    assert nothing.control_inputs + [other.op] == [gate.op, other.op]  # noqa: RUF005 - it is a list


def test_consumers() -> None:
    one = constant([1.0, 2.0], name="one")
    doubled, total = one + one, reduce_sum(one, 0)
    assert one.consumers() == [doubled.op, doubled.op, total.op]
    assert total.consumers() == []
    first, second = split(one, 2)
    last = identity(second)
    assert (first.consumers(), second.consumers()) == ([], [last.op])
    assert last.op.node_def.input == ("split:1",)


def test_attributes() -> None:
    variable = new_variable(np.zeros([2, 3], np.float32), name="v")
    assert variable.op.get_attr("dtype") == float32
    assert variable.op.get_attr("shape") == [2, 3]
    total = reduce_sum(variable, 1, keepdims=True).op
    assert (total.get_attr("T"), total.get_attr("Tidx"), total.get_attr("keep_dims")) == (float32, int32, True)
    assert isinstance(total.get_attr("T"), DType)
    assert variable.assign_add(np.ones([2, 3])).op.get_attr("_class") == [b"loc:@v"]
    with pytest.raises(ValueError, match="no attribute 'N'"):
        total.get_attr("N")


def test_outputs_are_a_list() -> None:
    one = constant(1.0)
    assert one.op.outputs == [one]
    assert one.op.values() == (one,)


@pytest.mark.parametrize(
    ("name", "error"), [("one:0", ValueError), (7, TypeError), (None, TypeError), ("two", KeyError), ("", KeyError)]
)
def test_an_operation_is_not_found(graph: Graph, name: str, error: type[Exception]) -> None:
    constant(1.0, name="one")
    with pytest.raises(error):
        graph.get_operation_by_name(name)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("one", ValueError),
        (7, TypeError),
        ("two:0", KeyError),
        ("one:1", KeyError),
        ("one:x", ValueError),
        ("a:b:0", ValueError),
    ],
)
def test_a_tensor_is_not_found(graph: Graph, name: str, error: type[Exception]) -> None:
    constant(1.0, name="one")
    with pytest.raises(error):
        graph.get_tensor_by_name(name)
