from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ps_protocol.dtype_traits import float_limits, integer_limits
from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, OutOfRangeError, ShapeMismatchError
from ps_protocol.operations import Array, UpdateRule, VariableSpec
from ps_server.rules.update_rules import apply_update, check_count, check_update, count_up_to
from tests.unit.ps_server.rules.values import NUMBERS, spec_of


def update(value: Array, rule: UpdateRule, operand: Array) -> None:
    check_update(spec_of(value), rule, operand)
    apply_update(value, rule, operand)


# -- whole values -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NUMBERS)
def test_assigns_adds_and_subtracts(dtype: Any) -> None:
    value = np.array([[1, 2], [3, 1]]).astype(dtype)
    operand = np.array([[2, 1], [1, 1]]).astype(dtype)
    update(value, UpdateRule.ASSIGN_ADD, operand)
    assert value.astype(np.complex128).tolist() == [[3, 3], [4, 2]]
    update(value, UpdateRule.ASSIGN_SUB, operand)
    assert value.astype(np.complex128).tolist() == [[1, 2], [3, 1]]
    update(value, UpdateRule.ASSIGN, operand)
    assert value.astype(np.complex128).tolist() == [[2, 1], [1, 1]]
    assert not np.shares_memory(value, operand)


def test_a_scalar_is_added_everywhere() -> None:
    value = np.zeros((2, 3), np.float32)
    update(value, UpdateRule.ASSIGN_ADD, np.array(1.5, np.float32))
    update(value, UpdateRule.ASSIGN_SUB, np.array(0.5, np.float32))
    assert value.tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
def test_any_shape_can_be_updated(shape: tuple[int, ...]) -> None:
    value = np.zeros(shape, np.float32)
    update(value, UpdateRule.ASSIGN_ADD, np.ones(shape, np.float32))
    assert value.tolist() == np.ones(shape).tolist()


def test_operands_need_not_be_contiguous_or_writable() -> None:
    value = np.zeros((3, 2), np.float32)
    operand = np.arange(12, dtype=np.float32).reshape(4, 3)[::2].T
    operand.flags.writeable = False
    update(value, UpdateRule.ASSIGN_ADD, operand)
    assert value.tolist() == operand.tolist()


def test_integers_wrap_around() -> None:
    value = np.array([127, -128], np.int8)
    update(value, UpdateRule.ASSIGN_ADD, np.array(1, np.int8))
    assert value.tolist() == [-128, -127]
    scalar = np.array(2**31 - 1, np.int32)
    update(scalar, UpdateRule.ASSIGN_ADD, np.array(1, np.int32))
    assert scalar == -(2**31)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16, np.complex64])
def test_floats_overflow_without_a_warning(dtype: Any) -> None:
    limit = float_limits(np.dtype(dtype))[1] if dtype is not np.complex64 else float(np.finfo(np.float32).max)
    value = np.array([limit, limit]).astype(dtype)
    update(value, UpdateRule.ASSIGN_ADD, value.copy())
    assert np.isinf(value).all()
    update(value, UpdateRule.ASSIGN_SUB, value.copy())
    assert np.isnan(value).all()


@pytest.mark.parametrize("dtype", [np.bool_, "S4"])
@pytest.mark.parametrize("rule", [UpdateRule.ASSIGN_ADD, UpdateRule.ASSIGN_SUB])
def test_what_is_no_number_can_only_be_assigned(dtype: Any, rule: UpdateRule) -> None:
    value = np.zeros(2, dtype)
    with pytest.raises(InvalidArgumentError, match=f"scope/w.*no {rule.name.lower()}.*use assign"):
        update(value, rule, np.ones(2).astype(dtype))
    operand = np.array([True, False]).astype(dtype)
    update(value, UpdateRule.ASSIGN, operand)
    assert value.tolist() == operand.tolist()


@pytest.mark.parametrize("rule", list(UpdateRule))
def test_another_dtype_is_refused_and_both_are_named(rule: UpdateRule) -> None:
    value = np.ones(2, np.float32)
    with pytest.raises(DTypeMismatchError, match=r"scope/w.*float32.*float64") as refused:
        update(value, rule, np.ones(2, np.float64))
    assert refused.value.variable == "scope/w"
    assert value.tolist() == [1, 1]


def test_foreign_byte_order_is_refused_by_name() -> None:
    with pytest.raises(DTypeMismatchError, match="float32 in foreign byte order"):
        update(np.ones(2, np.float32), UpdateRule.ASSIGN, np.ones(2, ">f4"))


@pytest.mark.parametrize("rule", list(UpdateRule))
@pytest.mark.parametrize("shape", [(3,), (2, 1), (1,)])
def test_another_shape_is_refused_and_both_are_named(rule: UpdateRule, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeMismatchError) as refused:
        update(np.ones(2, np.float32), rule, np.ones(shape, np.float32))
    assert str(list(shape)) in str(refused.value)
    assert "[2]" in str(refused.value)


def test_a_scalar_cannot_be_assigned_to_a_vector() -> None:
    with pytest.raises(ShapeMismatchError):
        update(np.ones(2, np.float32), UpdateRule.ASSIGN, np.array(1, np.float32))


# -- counting -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint64, ml_dtypes.int4, ml_dtypes.uint4])
def test_counts_in_every_integer_dtype_up_to_its_greatest_value(dtype: Any) -> None:
    _, greatest = integer_limits(np.dtype(dtype))
    value = np.array(greatest - 2, np.dtype(dtype))
    spec = spec_of(value)
    check_count(spec, greatest)
    assert [int(count_up_to(spec, value, greatest)) for _ in range(2)] == [greatest - 2, greatest - 1]
    with pytest.raises(OutOfRangeError, match=rf"scope/w .* is {greatest} and has reached the limit {greatest}"):
        count_up_to(spec, value, greatest)
    assert int(value) == greatest
    with pytest.raises(InvalidArgumentError, match=rf"scope/w .* cannot count up to {greatest + 1}"):
        check_count(spec, greatest + 1)


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, "S3", np.complex64, ml_dtypes.bfloat16])
def test_only_integers_count(dtype: Any) -> None:
    with pytest.raises(DTypeMismatchError, match=r"scope/w .*holds no integers"):
        check_count(VariableSpec("scope/w", np.dtype(dtype), ()), 3)


@pytest.mark.parametrize("shape", [(1,), (2, 2), (0,)])
def test_only_scalars_count(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeMismatchError, match=r"scope/w .*not a scalar"):
        check_count(VariableSpec("scope/w", np.dtype(np.int32), shape), 3)
