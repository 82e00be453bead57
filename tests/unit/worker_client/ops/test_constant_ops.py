"""Functions that make tensors: values, dtypes, shapes, names, in a graph and outside of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import InvalidArgumentError
from worker_client.graph.graph import Graph
from worker_client.ops import constant_ops as ops
from worker_client.ops.math_ops import add
from worker_client.scopes.variable_scope import get_variable
from worker_client.sessions.session import Session
from worker_client.values.dtypes import float64, int64, string


@pytest.fixture
def _eager() -> Iterator[None]:
    with Graph(lambda definition: definition).as_default():
        yield


class TestConstant:
    @pytest.mark.parametrize(
        ("value", "dtype"),
        [
            (1, np.int32),
            (1 << 40, np.int64),
            (0.5, np.float32),
            ([1, 2.5], np.float32),
            (True, np.bool_),
            (1j, np.complex128),
            (np.float64(0.5), np.float64),
            (np.arange(3), np.int64),
        ],
    )
    def test_dtypes(self, session: Session, value: Any, dtype: Any) -> None:
        tensor = ops.constant(value)
        assert tensor.dtype == dtype
        assert tensor.shape == np.shape(value)
        result = session.run(tensor)
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, value)

    def test_a_dtype_may_be_asked_for(self, session: Session) -> None:
        assert ops.constant(1, float64).dtype == np.float64
        assert ops.constant("abc", str).dtype == string
        with pytest.raises(TypeError, match=r"counts: 1.5 is not int32"):
            ops.constant(1.5, np.int32, name="counts")
        with pytest.raises(ValueError, match="range"):
            ops.constant(300, np.uint8)

    def test_a_shape_is_filled_with_the_last_element(self, session: Session) -> None:
        np.testing.assert_array_equal(session.run(ops.constant([1, 2], shape=[2, 2])), [[1, 2], [2, 2]])
        np.testing.assert_array_equal(session.run(ops.constant(5.0, shape=[3])), [5, 5, 5])
        with pytest.raises(ValueError, match="3 elements cannot fill"):
            ops.constant([1, 2, 3], shape=[2])
        np.testing.assert_array_equal(session.run(ops.constant([], shape=[2])), [0, 0])
        with pytest.raises(TypeError, match=r"shape \[2\], expected is \[4\]"):
            ops.constant([1, 2], shape=[4], verify_shape=True)

    def test_names(self, session: Session) -> None:
        assert [ops.constant(1).name, ops.constant(1).name] == ["Const:0", "Const_1:0"]
        assert ops.constant(1, name="one").op.type == "Const"

    def test_it_belongs_to_the_graph(self, session: Session) -> None:
        value = np.ones(2)
        tensor = ops.constant(value)
        value[:] = 7
        session.run(tensor)[:] = 8
        np.testing.assert_array_equal(session.run(tensor), [1, 1])

    def test_a_deferred_tensor_is_none(self, session: Session) -> None:
        with pytest.raises(TypeError, match="known now"):
            ops.constant(ops.constant(1))


class TestPlaceholder:
    def test_it_has_the_value_that_is_fed(self, session: Session) -> None:
        tensor = ops.placeholder(np.float32, [None, 2])
        assert (tensor.name, str(tensor.shape)) == ("Placeholder:0", "(?, 2)")
        np.testing.assert_array_equal(session.run(tensor + 1, {tensor: [[1, 2]]}), [[2, 3]])
        with pytest.raises(InvalidArgumentError, match="Placeholder has no value"):
            session.run(tensor)

    def test_one_with_a_default_need_not_be_fed(self, session: Session) -> None:
        tensor = ops.placeholder_with_default([1.0, 2.0], [None])
        assert (tensor.op.name, str(tensor.shape)) == ("PlaceholderWithDefault", "(?,)")
        np.testing.assert_array_equal(session.run(tensor), [1, 2])
        np.testing.assert_array_equal(session.run(tensor, {tensor: [3]}), [3])
        with pytest.raises(ValueError, match="default has the shape"):
            ops.placeholder_with_default([1.0], [2])

    @pytest.mark.usefixtures("_eager")
    def test_it_needs_a_graph_that_runs(self) -> None:
        with pytest.raises(RuntimeError, match="session"):
            ops.placeholder(np.float32)


class TestConversion:
    def test_what_is_a_tensor_stays_one(self, session: Session) -> None:
        tensor, variable = ops.constant(1.0), get_variable("v", [2])
        assert ops.convert_to_tensor(tensor) is tensor
        assert ops.convert_to_tensor(variable) is variable.value()
        with pytest.raises(ValueError, match=r"Const:0 is float32, asked for is int32"):
            ops.convert_to_tensor(tensor, np.int32)

    def test_constants(self, session: Session) -> None:
        assert ops.convert_to_tensor([1, 2], name="pair").op.name == "pair"
        assert ops.convert_to_tensor(1, dtype_hint=np.float32).dtype == np.float32
        assert ops.convert_to_tensor(0.5, preferred_dtype=np.int32).dtype == np.float32

    def test_a_list_of_tensors_is_packed(self, session: Session) -> None:
        packed = ops.convert_to_tensor([ops.constant(1.0), 2.0])
        assert packed.op.name == "packed"
        np.testing.assert_array_equal(session.run(packed), [1, 2])

    def test_identity(self, session: Session) -> None:
        same = ops.identity([1.0, 2.0])
        assert same.op.name == "Identity"
        np.testing.assert_array_equal(session.run(same), [1, 2])


class TestFilled:
    def test_values_and_names(self, session: Session) -> None:
        for tensor, value, name in (
            (ops.zeros([2, 3]), np.zeros((2, 3), np.float32), "zeros"),
            (ops.ones(4, np.int64), np.ones(4, np.int64), "ones"),
            (ops.zeros([], bool), np.zeros((), bool), "zeros_1"),
            (ops.fill([2], 7), np.full(2, 7, np.int32), "Fill"),
            (ops.zeros_like([1, 2]), np.zeros(2, np.int32), "zeros_like"),
            (ops.ones_like([1, 2], np.float64), np.ones(2), "ones_like"),
        ):
            assert (tensor.op.name, tensor.dtype, tensor.shape) == (name, value.dtype, value.shape)
            np.testing.assert_array_equal(session.run(tensor), value)

    def test_the_shape_may_be_a_tensor(self, session: Session) -> None:
        sizes = ops.placeholder(np.int32, [2])
        assert str(ops.zeros(sizes).shape) == "(?, ?)"
        assert session.run(ops.zeros(sizes), {sizes: [2, 3]}).shape == (2, 3)
        mixed = ops.ones([sizes[0], 4])
        assert str(mixed.shape) == "(?, 4)"
        assert session.run(mixed, {sizes: [2, 3]}).shape == (2, 4)

    def test_one_element_fills(self, session: Session) -> None:
        with pytest.raises(ValueError, match="its rank should be 0"):
            ops.fill([2], [1, 2])


class TestRange:
    def test_values(self, session: Session) -> None:
        for tensor, value in (
            (ops.range(3), np.arange(3, dtype=np.int32)),
            (ops.range(2, 8, 3), np.arange(2, 8, 3, dtype=np.int32)),
            (ops.range(0, 1, 0.25), np.arange(0, 1, 0.25, dtype=np.float32)),
            (ops.range(3, dtype=int64), np.arange(3)),
        ):
            assert (tensor.dtype, tensor.shape) == (value.dtype, value.shape)
            np.testing.assert_array_equal(session.run(tensor), value)
        assert ops.range(1).op.name == "range_4"

    def test_limits_may_be_tensors(self, session: Session) -> None:
        tensor = ops.range(1, ops.constant(4))
        assert (str(tensor.shape), tensor.dtype) == ("(3,)", np.int32)
        np.testing.assert_array_equal(session.run(tensor), [1, 2, 3])


class TestOneHot:
    def test_values(self, session: Session) -> None:
        tensor = ops.one_hot([0, 2, -1, 3], 3)
        assert (tensor.op.name, tensor.dtype, tensor.shape) == ("one_hot", np.float32, [4, 3])
        np.testing.assert_array_equal(session.run(tensor), [[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]])

    def test_the_values_and_the_axis_may_be_given(self, session: Session) -> None:
        tensor = ops.one_hot([1], 2, on_value=5, off_value=-1, axis=0)
        assert tensor.dtype == np.int32
        np.testing.assert_array_equal(session.run(tensor), [[-1], [5]])

    def test_the_depth_may_be_a_tensor(self, session: Session) -> None:
        tensor = ops.one_hot([1], ops.constant(2), dtype=bool)
        assert str(tensor.shape) == "(1, 2)"
        np.testing.assert_array_equal(session.run(tensor), [[False, True]])


class TestFacts:
    def test_known_ones_are_constants(self, session: Session) -> None:
        tensor = ops.constant([[1, 2, 3]])
        facts = [ops.shape(tensor), ops.size(tensor), ops.rank(tensor)]
        assert [(fact.op.name, fact.op.type, fact.dtype) for fact in facts] == [
            ("Shape", "Const", np.int32),
            ("Size", "Const", np.int32),
            ("Rank", "Const", np.int32),
        ]
        np.testing.assert_array_equal(session.run(facts[0]), [1, 3])
        assert session.run(facts[1:]) == [3, 2]

    def test_others_are_found_out_in_the_session(self, session: Session) -> None:
        tensor = ops.placeholder(np.float32)
        facts = [ops.shape(tensor, out_type=int64), ops.size(tensor), ops.rank(tensor)]
        assert [str(fact.shape) for fact in facts] == ["(?,)", "()", "()"]
        shape, size, rank = session.run(facts, {tensor: np.ones((2, 3))})
        assert (shape.tolist(), shape.dtype, size, rank) == ([2, 3], np.int64, 6, 2)
        assert ops.shape(ops.placeholder(np.float32, [None, 2])).shape == [2]


@pytest.mark.usefixtures("_eager")
def test_outside_of_a_deferred_graph_all_is_at_once() -> None:
    for result, value in (
        (ops.constant([1.0, 2.0]), np.array([1, 2], np.float32)),
        (ops.zeros([2]), np.zeros(2, np.float32)),
        (ops.shape(np.ones((2, 3))), np.array([2, 3], np.int32)),
        (ops.range(3), np.arange(3, dtype=np.int32)),
        (add(1, 2), np.int32(3)),
    ):
        assert result.dtype == value.dtype
        np.testing.assert_array_equal(result, value)
