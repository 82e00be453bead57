"""Conversion of what users pass: the kind of number is kept, or it is an error."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from ps_protocol.operations import VariableSpec
from worker_client.values.conversion import convert, keeps_kind, row_indices


def spec(dtype: npt.DTypeLike) -> VariableSpec:
    return VariableSpec("scope/v", np.dtype(dtype), (2,))


@pytest.mark.parametrize(
    ("source", "target", "kept"),
    [
        ("float64", "float32", True),
        ("int64", "float32", True),
        ("bool", "int32", True),
        ("int64", "int8", True),
        ("float32", "complex64", True),
        ("float64", ml_dtypes.bfloat16, True),
        (ml_dtypes.bfloat16, "float32", True),
        ("float32", "int32", False),
        ("int32", "bool", False),
        ("complex64", "float32", False),
        ("complex64", ml_dtypes.bfloat16, False),
        (ml_dtypes.bfloat16, "int32", False),
        ("S3", "S5", True),
        ("S5", "S3", False),
        ("U3", "S3", False),
        ("float32", "S4", False),
        ("S4", "float32", False),
        ("O", "float32", False),
    ],
)
def test_keeps_kind(source: Any, target: Any, kept: bool) -> None:
    assert keeps_kind(np.dtype(source), np.dtype(target)) is kept


def test_an_array_of_the_dtype_is_passed_through_unless_a_copy_is_asked_for() -> None:
    value = np.ones(2, np.float32)
    assert convert(value, spec("float32")) is value
    assert not np.shares_memory(convert(value, spec("float32"), copy=True), value)


def test_lists_and_wider_floats_are_converted() -> None:
    for value in ([1, 2], [1.0, 2.0], np.array([1.0, 2.0])):
        converted = convert(value, spec("float32"))
        assert converted.dtype == np.float32
        assert converted.tolist() == [1, 2]


def test_another_kind_of_number_is_refused_by_name() -> None:
    with pytest.raises(DTypeMismatchError, match=r"scope/v holds int32, the value is float64") as caught:
        convert([1.5, 2.5], spec("int32"))
    assert caught.value.variable == "scope/v"


@pytest.mark.parametrize("make", [list, np.array])
def test_integers_go_into_unsigned_variables_if_they_fit(make: Any) -> None:
    assert convert(make([1, 255]), spec("uint8")).tolist() == [1, 255]
    with pytest.raises(InvalidArgumentError, match=r"scope/v holds uint8.*out of its range"):
        convert(make([1, -1]), spec("uint8"))


def test_a_python_integer_beyond_the_range_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"scope/v holds int8.*out of its range"):
        convert(300, spec("int8"))


def test_text_that_does_not_fit_is_counted_in_its_own_letters() -> None:
    text = VariableSpec("scope/v", np.dtype("S4"), (1,))
    with pytest.raises(DTypeMismatchError, match=r"holds bytes of length 4, .* str of length 3; encode it"):
        convert(["abc"], text)
    with pytest.raises(DTypeMismatchError, match=r"holds bytes of length 4, .* bytes of length 5; convert it"):
        convert([b"abcde"], text)
    assert str(text) == "scope/v (S4[1])"


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_indices_keep_their_type(dtype: str) -> None:
    indices = np.array([[1, 0]], dtype)
    assert row_indices(indices, spec("float32")) is indices
    assert not np.shares_memory(row_indices(indices, spec("float32"), copy=True), indices)


@pytest.mark.parametrize("indices", [[], np.array([1], np.uint8), 1])
def test_other_integers_become_int64(indices: npt.ArrayLike) -> None:
    assert row_indices(indices, spec("float32")).dtype == np.int64


def test_indices_that_are_no_integers_are_refused() -> None:
    with pytest.raises(DTypeMismatchError, match=r"scope/v are float64"):
        row_indices([0.5], spec("float32"))
