"""Dimensions: numbers as far as they are known, and TensorFlow 1's answers where they are not."""

from __future__ import annotations

import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from worker_client.values.dimension import Dimension, dimension_value
from worker_client.values.shapes import TensorShape, dimension_at_index

KNOWN: Any = Dimension(6)
UNKNOWN: Any = Dimension(None)


def test_a_known_one_is_a_number() -> None:
    assert issubclass(type(KNOWN), Dimension)
    assert (KNOWN.value, type(KNOWN.value), repr(KNOWN), str(KNOWN)) == (6, int, "Dimension(6)", "6")
    assert KNOWN == 6 == Dimension(np.int64(6))
    assert KNOWN != 7
    assert {6: "found"}[KNOWN] == "found"
    assert (np.zeros(KNOWN).shape, list(range(KNOWN))[-1]) == ((6,), 5)


def test_one_that_is_not_known_is_no_number() -> None:
    assert issubclass(type(UNKNOWN), Dimension)
    assert (UNKNOWN.value, repr(UNKNOWN), str(UNKNOWN), bool(UNKNOWN)) == (None, "Dimension(None)", "?", False)
    assert (UNKNOWN == 6, UNKNOWN != 6, UNKNOWN < 6, KNOWN == UNKNOWN, KNOWN >= UNKNOWN) == (None,) * 5
    with pytest.raises(TypeError):
        range(UNKNOWN)


@pytest.mark.parametrize("function", [operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod])
def test_arithmetic(function: Callable[..., Any]) -> None:
    for one, two in ((KNOWN, 4), (KNOWN, Dimension(4)), (6, Dimension(4))):
        result = function(one, two)
        assert (result.value, isinstance(result, Dimension)) == (function(6, 4), True)
    for one, two in ((KNOWN, UNKNOWN), (UNKNOWN, 4), (4, UNKNOWN), (UNKNOWN, UNKNOWN)):
        assert function(one, two).value is None


def test_other_arithmetic_is_that_of_numbers() -> None:
    assert (KNOWN / 4, KNOWN**2, 4 - KNOWN, KNOWN * 0.5) == (1.5, 36, -2, 3.0)


def test_what_fits() -> None:
    assert KNOWN.merge_with(None) is KNOWN
    assert UNKNOWN.merge_with(6) == 6
    assert UNKNOWN.is_compatible_with(KNOWN)
    with pytest.raises(ValueError, match=r"6.*7"):
        KNOWN.assert_is_compatible_with(7)


@pytest.mark.parametrize(("value", "error"), [("6", TypeError), (2.5, TypeError), (-1, ValueError)])
def test_what_is_no_size(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Dimension(value)


def test_they_travel() -> None:
    assert pickle.loads(pickle.dumps(KNOWN)) == 6
    assert pickle.loads(pickle.dumps(UNKNOWN)).value is None


def test_those_of_shapes() -> None:
    shape = TensorShape([6, None])
    assert [shape[0].value, shape[-1].value, dimension_at_index(shape, 1).value] == [6, None, None]
    assert TensorShape(None)[3].value is None
    assert TensorShape([shape[0] * 2, shape[1]]).as_list() == [12, None]
    assert [dimension_value(each) for each in (shape[0], shape[1], 4, None)] == [6, None, 4, None]
