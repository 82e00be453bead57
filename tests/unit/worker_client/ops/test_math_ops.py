"""Arithmetic, comparison and reduction: the values are NumPy's, the names and dtypes TensorFlow's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from worker_client.graph.operation import Tensor
from worker_client.ops import math_ops as ops
from worker_client.ops.constant_ops import constant, placeholder
from worker_client.scopes.variable_scope import get_variable, variable_scope
from worker_client.sessions.session import Session

X = np.array([[0.5, 2.0], [3.0, 4.0]], np.float32)
Y = np.array([[1.0, 2.0], [-3.0, 0.25]], np.float32)


@pytest.mark.parametrize(
    ("function", "reference", "name"),
    [
        (ops.add, np.add, "Add"),
        (ops.subtract, np.subtract, "Sub"),
        (ops.multiply, np.multiply, "Mul"),
        (ops.divide, np.divide, "truediv"),
        (ops.floordiv, np.floor_divide, "floordiv"),
        (ops.mod, np.remainder, "FloorMod"),
        (ops.maximum, np.maximum, "Maximum"),
        (ops.minimum, np.minimum, "Minimum"),
        (ops.pow, np.power, "Pow"),
        (ops.matmul, np.matmul, "MatMul"),
        (ops.greater, np.greater, "Greater"),
        (ops.greater_equal, np.greater_equal, "GreaterEqual"),
        (ops.less, np.less, "Less"),
        (ops.less_equal, np.less_equal, "LessEqual"),
        (ops.equal, np.equal, "Equal"),
        (ops.not_equal, np.not_equal, "NotEqual"),
    ],
)
def test_functions_of_two(
    session: Session, function: Callable[..., Any], reference: Callable[..., Any], name: str
) -> None:
    result = function(constant(X), Y)
    value = reference(X, Y)
    assert (result.name, result.dtype, result.shape) == (f"{name}:0", value.dtype, value.shape)
    np.testing.assert_array_equal(session.run(result), value)
    assert function(X, Y, name="other").op.name == "other"


@pytest.mark.parametrize(
    ("function", "reference", "name"),
    [
        (ops.abs, np.abs, "Abs"),
        (ops.negative, np.negative, "Neg"),
        (ops.square, np.square, "Square"),
        (ops.sqrt, np.sqrt, "Sqrt"),
        (ops.exp, np.exp, "Exp"),
        (ops.log, np.log, "Log"),
        (ops.tanh, np.tanh, "Tanh"),
        (ops.sigmoid, lambda x: 1 / (1 + np.exp(-x)), "Sigmoid"),
        (ops.l2_loss, lambda x: np.sum(x * x) / 2, "L2Loss"),
    ],
)
def test_functions_of_one(
    session: Session, function: Callable[..., Any], reference: Callable[..., Any], name: str
) -> None:
    result = function(constant(X))
    assert (result.name, result.dtype) == (f"{name}:0", np.float32)
    np.testing.assert_allclose(session.run(result), reference(X), rtol=1e-6)
    assert function(X, name="other").op.name == "other"


def test_logic(session: Session) -> None:
    x, y = constant([True, True, False]), [True, False, False]
    results = [ops.logical_and(x, y), ops.logical_or(x, y), ops.logical_xor(x, y), ops.logical_not(x)]
    assert [each.op.name for each in results] == ["LogicalAnd", "LogicalOr", "LogicalXor", "LogicalNot_1"]
    values = [[True, False, False], [True, True, False], [False, True, False], [False, False, True]]
    assert [each.tolist() for each in session.run(results)] == values


def test_infinities_make_no_warnings(session: Session) -> None:
    assert session.run(ops.log(0.0)) == -np.inf
    assert np.isnan(session.run(ops.sqrt(-1.0)))
    np.testing.assert_array_equal(session.run(ops.sigmoid([-1000.0, 1000.0])), [0, 1])


def test_operands_of_different_dtypes_are_refused(session: Session) -> None:
    with pytest.raises(TypeError, match=r"AddV2 needs .* Const:0 \(float32\) and Const_1:0 \(float64\)"):
        ops.add(constant(1.0), constant(np.float64(1)))
    assert ops.add(constant(1.0), 1).dtype == np.float32
    assert ops.add(1, constant(np.float64(1))).dtype == np.float64


class TestMatmul:
    def test_matrices_can_be_transposed_first(self, session: Session) -> None:
        np.testing.assert_array_equal(session.run(ops.matmul(X, Y, transpose_a=True)), X.T @ Y)
        np.testing.assert_array_equal(session.run(ops.matmul(X, Y, transpose_b=True)), X @ Y.T)
        turned = np.array([[1j, 2]])
        np.testing.assert_array_equal(session.run(ops.matmul(turned, turned, adjoint_b=True)), [[5]])

    def test_shapes(self, session: Session) -> None:
        batch = placeholder(np.float32, [None, 4])
        assert str(ops.matmul(batch, np.ones((4, 3), np.float32)).shape) == "(?, 3)"
        with pytest.raises(ValueError, match="two dimensions"):
            ops.matmul(X, [1.0, 2.0])
        with pytest.raises(ValueError, match="already transposed"):
            ops.matmul(X, Y, transpose_a=True, adjoint_a=True)


class TestAddN:
    def test_sums(self, session: Session) -> None:
        total = ops.add_n([X, Y, X])
        assert total.op.name == "AddN"
        np.testing.assert_array_equal(session.run(total), X + Y + X)
        alone = constant(1.0)
        assert ops.add_n([alone]) is alone
        assert ops.add_n([alone], name="sum").op.name == "sum"

    def test_it_does_not_broadcast(self, session: Session) -> None:
        with pytest.raises(ValueError, match="should be the same"):
            ops.add_n([X, 1.0])
        with pytest.raises(ValueError, match="at least one"):
            ops.add_n([])


@pytest.mark.parametrize(
    ("function", "reference", "name"),
    [
        (ops.reduce_sum, np.sum, "Sum"),
        (ops.reduce_mean, np.mean, "Mean"),
        (ops.reduce_max, np.max, "Max"),
        (ops.reduce_min, np.min, "Min"),
        (ops.reduce_prod, np.prod, "Prod"),
    ],
)
class TestReductions:
    def test_values(
        self, session: Session, function: Callable[..., Any], reference: Callable[..., Any], name: str
    ) -> None:
        tensor = constant(X)
        assert function(tensor).op.name == name
        for axis in (None, 0, -1, [0], [0, 1]):
            for keepdims in (False, True):
                numpys_axis = tuple(axis) if isinstance(axis, list) else axis
                result, value = function(tensor, axis, keepdims), reference(X, axis=numpys_axis, keepdims=keepdims)
                assert (result.shape, result.dtype) == (value.shape, np.float32)
                np.testing.assert_allclose(session.run(result), value)

    def test_older_names_of_arguments(
        self, session: Session, function: Callable[..., Any], reference: Callable[..., Any], name: str
    ) -> None:
        result = function(X, reduction_indices=1, keep_dims=True)
        np.testing.assert_allclose(session.run(result), reference(X, axis=1, keepdims=True))
        with pytest.raises(ValueError, match=f"{name}: axis and reduction_indices mean the same"):
            function(X, axis=1, reduction_indices=1)
        with pytest.raises(ValueError, match="keepdims and keep_dims mean the same"):
            function(X, keepdims=False, keep_dims=False)

    def test_the_dtype_stays(
        self, session: Session, function: Callable[..., Any], reference: Callable[..., Any], name: str
    ) -> None:
        result = function(constant([[3, -1], [5, -4]]), axis=1)
        assert result.dtype == np.int32
        value = np.trunc(reference(np.array([[3, -1], [5, -4]]), axis=1))
        np.testing.assert_array_equal(session.run(result), value)

    def test_an_axis_that_is_not_there(
        self, session: Session, function: Callable[..., Any], reference: Callable[..., Any], name: str
    ) -> None:
        with pytest.raises(ValueError, match=f"{name} of .*axis 2"):
            function(X, axis=2)


def test_truth_values_are_reduced(session: Session) -> None:
    tensor = constant([[True, False], [True, True]])
    every, some = ops.reduce_all(tensor, axis=1), ops.reduce_any(tensor)
    assert (every.op.name, some.op.name) == ("All", "Any")
    assert session.run(every).tolist() == [False, True]
    assert session.run(some)


def test_reductions_take_the_names_that_tensorflow_takes(session: Session) -> None:
    """Over all dimensions: a constant for the dimensions, or for a scalar their number and range."""
    with variable_scope("scope"):
        ops.reduce_sum(get_variable("matrix", [2, 2]))
        ops.reduce_sum(get_variable("scalar", []), name="total")
        ops.reduce_sum(get_variable("vector", [3]), axis=0)
    made = [op.name for op in session.graph.get_operations() if op.name.count("/") == 1]
    assert [name for name in made if not name.startswith(("scope/matrix", "scope/scalar", "scope/vector"))] == [
        "scope/Const",
        "scope/Sum",
        "scope/Rank",
        "scope/range",
        "scope/total",
        "scope/Sum_1",
    ]


def test_a_shape_that_is_not_known_is_reduced_in_the_session(session: Session) -> None:
    tensor = placeholder(np.float32)
    total = ops.reduce_sum(tensor)
    assert isinstance(total, Tensor)
    assert session.run(total, {tensor: X}) == X.sum()
    assert str(ops.reduce_sum(placeholder(np.float32, [None, 3]), axis=1).shape) == "(?,)"
