"""Operators and NumPy functions on deferred tensors: names, dtypes, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from worker_client.ops.constant_ops import constant, placeholder
from worker_client.scopes.variable_scope import get_variable
from worker_client.sessions.session import Session


@pytest.mark.parametrize(
    ("operator", "name"),
    [
        (lambda x: x + 2.0, "add"),
        (lambda x: 2.0 - x, "sub"),
        (lambda x: x * 2.0, "mul"),
        (lambda x: x / 2.0, "truediv"),
        (lambda x: x // 2.0, "floordiv"),
        (lambda x: x % 2.0, "mod"),
        (lambda x: x**2.0, "pow"),
        (lambda x: -x, "Neg"),
        (abs, "Abs"),
        (lambda x: x < 2.0, "Less"),
        (lambda x: x >= 2.0, "GreaterEqual"),
        (lambda x: x @ x, "matmul"),
        (lambda x: x[0], "strided_slice"),
    ],
)
def test_operators_are_numpys_with_tensorflows_names(
    session: Session, operator: Callable[[Any], Any], name: str
) -> None:
    value = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)
    result = operator(constant(value))
    assert result.op.name == name
    np.testing.assert_allclose(session.run(result), operator(value))
    assert result.dtype == operator(value).dtype
    assert result.shape == operator(value).shape


def test_any_numpy_function_can_wait(session: Session) -> None:
    value = np.array([3.0, 1.0, 2.0], np.float32)
    tensor = constant(value)
    for function in (np.sort, np.cumsum, np.tanh, np.cbrt, np.median, lambda x: np.add.reduce(x, axis=0)):
        np.testing.assert_allclose(session.run(function(tensor)), function(value))


class TestDtypes:
    def test_numbers_and_arrays_take_the_dtype_of_the_tensor(self, session: Session) -> None:
        tensor = constant([1.0, 2.0])
        for other in (1, 0.5, np.float64(0.5), np.array([1, 2]), [0.1, 0.2]):
            assert (tensor + other).dtype == np.float32
            assert (other - tensor).dtype == np.float32
        assert (constant(np.array([1.0])) * 0.5).dtype == np.float64
        assert (constant([1, 2]) / 2).dtype == np.float64

    @pytest.mark.parametrize("other", [np.float64, np.int32, np.int64, np.bool_])
    def test_tensors_of_other_dtypes_are_refused(self, session: Session, other: Any) -> None:
        one, two = constant([1.0], name="one"), constant(np.ones(1, other), name="two")
        with pytest.raises(TypeError, match=rf"AddV2 needs .* one:0 \(float32\) and two:0 \({np.dtype(other).name}\)"):
            one + two

    def test_a_number_of_another_kind_is_refused(self, session: Session) -> None:
        with pytest.raises(TypeError, match=r"Mul needs .* count:0 \(int32\) and 0.5"):
            constant([1, 2], name="count") * 0.5
        with pytest.raises(TypeError, match=r"AddV2 needs .* \(uint8\) and 300, which does not fit"):
            constant(np.ones(1, np.uint8)) + 300

    def test_a_ufunc_that_wants_several_dtypes_gets_them(self, session: Session) -> None:
        scaled = np.ldexp(constant([1.0, 2.0]), constant([1, 2]))
        np.testing.assert_array_equal(session.run(scaled), [2, 8])

    def test_lists_of_tensors_are_packed(self, session: Session) -> None:
        one, two = constant(1.0), constant(2.0)
        np.testing.assert_array_equal(session.run(np.add(constant([1.0, 1.0]), [one, two])), [2, 3])


class TestAugmentedAssignment:
    @pytest.mark.parametrize(
        ("statement", "expected"),
        [
            ("x += 1", 8),
            ("x -= 1", 6),
            ("x *= 2", 14),
            ("x /= 2", 3.5),
            ("x //= 2", 3),
            ("x %= 4", 3),
            ("x **= 2", 49),
        ],
    )
    def test_gives_the_name_to_a_new_tensor(self, session: Session, statement: str, expected: float) -> None:
        tensor = constant(7.0)
        names = {"x": tensor}
        exec(statement, names)
        assert names["x"] is not tensor
        assert session.run([tensor, names["x"]]) == [7, expected]


class TestRefusals:
    def test_changing_in_place(self, session: Session) -> None:
        tensor = constant([1.0])
        with pytest.raises(TypeError, match="in place"):
            np.add(tensor, 1, out=np.zeros(1))
        with pytest.raises(TypeError, match="in place"):
            np.add.at(tensor, [0], 1)

    def test_a_value_before_a_session_runs(self, session: Session) -> None:
        tensor: Any = placeholder(np.float32, [])
        for use in (bool, np.asarray, float):
            with pytest.raises(TypeError):
                use(tensor)
        with pytest.raises(TypeError, match="not iterable"):
            iter(tensor)


def test_equality_is_identity(session: Session) -> None:
    tensor = constant(1.0)
    assert tensor == tensor
    assert tensor != constant(1.0)
    assert {tensor: 1}[tensor] == 1


def test_variables_stand_for_their_value(session: Session) -> None:
    variable = get_variable("v", initializer=np.array([1.0, 2.0], np.float32))
    session.run(variable.initializer)
    np.testing.assert_array_equal(session.run(np.exp(variable) * 0 + variable), [1, 2])
    assert (variable + variable).op.name == "add_1"
