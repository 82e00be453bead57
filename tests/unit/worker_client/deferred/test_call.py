"""Calls of NumPy functions that wait for a session, and what is known about their results before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from worker_client.deferred.call import call, deferred_call, is_deferred, tensor_or_none
from worker_client.graph.graph import Graph
from worker_client.ops.array_ops import reshape
from worker_client.ops.constant_ops import constant, placeholder
from worker_client.scopes.variable_scope import get_variable
from worker_client.sessions.session import Session
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.partitioners import fixed_size_partitioner


def partitioned() -> Any:
    value = np.arange(15, dtype=np.float32).reshape(5, 3)
    return get_variable(
        "w",
        [5, 3],
        initializer=lambda shape, dtype, partition_info: value[
            partition_info.var_offset[0] : partition_info.var_offset[0] + shape[0]
        ],
        partitioner=fixed_size_partitioner(2),
    )


def test_a_call_becomes_an_operation_with_a_name_and_a_kernel(session: Session) -> None:
    total = deferred_call(np.sum, [constant([1.0, 2.0])], op_type="Sum", name="total")
    assert (total.name, total.op.type, str(total.shape), total.dtype.name) == ("total:0", "Sum", "()", "float32")
    assert session.run(total) == 3


def test_tensors_are_found_in_lists_dictionaries_and_slices(session: Session) -> None:
    one, two = constant([1.0]), constant([2.0])
    stacked = deferred_call(np.concatenate, [[one, (two), one]], {"axis": constant(0)}, op_type="Concat")
    part = stacked[constant(1) :]
    np.testing.assert_array_equal(session.run(part), [2, 1])
    assert stacked.shape == [3]
    assert part.shape == [2]


def test_arrays_are_copied_when_the_operation_is_made(session: Session) -> None:
    array = np.ones(3, np.float32)
    doubled = constant([1.0, 1.0, 1.0]) + array
    array[:] = 7
    np.testing.assert_array_equal(session.run(doubled), [2, 2, 2])


def test_outside_of_a_deferred_graph_a_call_is_made_at_once(session: Session) -> None:
    assert is_deferred(call(np.add, [1, 2], op_type="Add"))
    with Graph(lambda definition: definition).as_default():
        assert call(np.add, [1, 2], op_type="Add") == 3


class TestPartitionedVariables:
    def test_a_deferred_one_counts_as_a_tensor(self, session: Session) -> None:
        variable = partitioned()
        assert isinstance(variable, PartitionedVariable)
        assert is_deferred(variable)
        tensor = tensor_or_none(variable)
        assert tensor is not None
        assert tensor.shape == [5, 3]
        session.run([part.initializer for part in variable])
        np.testing.assert_array_equal(session.run(tensor), np.arange(15).reshape(5, 3))

    def test_it_can_be_an_operand(self, session: Session) -> None:
        variable = partitioned()
        total = constant(np.ones((5, 3), np.float32)) + variable
        session.run([part.initializer for part in variable])
        np.testing.assert_array_equal(session.run(total), np.arange(15).reshape(5, 3) + 1)

    def test_one_of_other_variables_is_not_read(self) -> None:
        class Unreadable:
            shape = (2,)

        whole = PartitionedVariable("w", [2], np.float32, [Unreadable()], [1])
        assert tensor_or_none(whole) is None
        assert not is_deferred(whole)


def shown(tensor: Any) -> str:
    return str(tensor.shape)


class TestInference:
    def test_sizes_that_are_not_known_pass_through(self, session: Session) -> None:
        batch = placeholder(np.float32, [None, 4])
        product = batch @ constant(np.ones((4, 3), np.float32))
        assert shown(product) == "(?, 3)"
        assert shown(batch + batch) == "(?, 4)"
        assert shown(np.transpose(batch)) == "(4, ?)"
        assert shown(np.mean(batch, axis=0)) == "(4,)"

    def test_large_tensors_are_not_computed(self, session: Session) -> None:
        large = placeholder(np.float32, [None, 1 << 20, 1 << 10])
        assert shown(np.exp(large)) == "(?, 1048576, 1024)"
        assert shown(large @ np.ones((1 << 10, 5))) == "(?, 1048576, 5)"
        assert shown(large[:, :100]) == "(?, 100, 1024)"
        assert shown(np.sum(large, axis=1)) == "(?, 1024)"

    def test_constants_that_depend_on_the_size_are_not_mistaken(self, session: Session) -> None:
        row = placeholder(np.float32, [1 << 15])
        assert shown(np.diag(row[:200], k=100)) == "(300, 300)"
        assert shown(row[-20:]) == "(20,)"
        assert shown(np.pad(placeholder(np.float32, [1 << 40]), 1 << 10)) == "<unknown>"

    def test_sizes_that_depend_on_values_are_not_known(self, session: Session) -> None:
        numbers = constant([1.0, 0.0, 2.0])
        assert shown(np.argwhere(numbers)) == "(?, 1)"
        assert shown(numbers[numbers > 1]) == "(?,)"
        np.testing.assert_array_equal(session.run(numbers[numbers > 1]), [2])

    def test_an_unknown_size_may_have_to_be_a_known_one(self, session: Session) -> None:
        total = placeholder(np.float32, [None, 4]) + constant(np.ones((3, 4), np.float32))
        assert total.shape.ndims == 2
        assert (placeholder(np.float32) + 1).shape.ndims is None
        less = placeholder(np.float32, [None, None]) < np.ones((3, 4))
        assert (less.dtype, less.shape.ndims) == (np.bool_, 2)

    def test_shapes_that_do_not_fit_are_named(self, session: Session) -> None:
        with pytest.raises(ValueError, match=r"add of a:0 \(float32\[2\]\) and b:0 \(float32\[3\]\)"):
            constant([1.0, 2.0], name="a") + constant([1.0, 2.0, 3.0], name="b")
        with pytest.raises(ValueError, match=r"matmul of .*20000, 64.* and .*63, 2"):
            placeholder(np.float32, [20_000, 64]) @ placeholder(np.float32, [63, 2])

    def test_a_function_that_the_dtype_has_not_is_refused(self, session: Session) -> None:
        with pytest.raises(TypeError, match=r"BitwiseAnd and/BitwiseAnd: x is a:0 \(float32\); it takes int16"):
            np.bitwise_and(constant([1.0, 2.0], name="a"), 1.0)

    def test_stand_ins_may_be_singular(self, session: Session) -> None:
        inverse = np.linalg.inv(constant(np.diag([2.0, 4.0]).astype(np.float32)))
        assert inverse.dtype == np.float32
        np.testing.assert_allclose(session.run(inverse), np.diag([0.5, 0.25]))

    def test_a_shape_may_be_found_out_from_a_tensor_of_zero_rows(self, session: Session) -> None:
        assert shown(reshape(placeholder(np.float32, [0, 4]), [2, -1])) == "(2, 0)"

    def test_functions_with_several_results_are_refused(self, session: Session) -> None:
        with pytest.raises(TypeError, match="several arrays"):
            np.split(constant([1.0, 2.0]), 2)
