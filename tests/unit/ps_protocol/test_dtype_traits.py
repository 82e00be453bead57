from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from ps_protocol.dtype_traits import DTypeCategory, dtype_category, float_limits, integer_limits, is_ml_dtype
from ps_protocol.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("dtype", "category"),
    [
        (np.bool_, DTypeCategory.BOOL),
        (np.int8, DTypeCategory.INTEGER),
        (np.uint64, DTypeCategory.INTEGER),
        (ml_dtypes.int4, DTypeCategory.INTEGER),
        (ml_dtypes.uint4, DTypeCategory.INTEGER),
        (np.float16, DTypeCategory.FLOAT),
        (np.float64, DTypeCategory.FLOAT),
        (ml_dtypes.bfloat16, DTypeCategory.FLOAT),
        (ml_dtypes.float8_e4m3fn, DTypeCategory.FLOAT),
        (ml_dtypes.float8_e5m2, DTypeCategory.FLOAT),
        (np.complex64, DTypeCategory.COMPLEX),
        ("S7", DTypeCategory.BYTES),
    ],
)
def test_every_type_that_travels_has_a_category(dtype: npt.DTypeLike, category: DTypeCategory) -> None:
    assert dtype_category(np.dtype(dtype)) is category


@pytest.mark.parametrize("dtype", ["O", "U4", "M8[s]", "m8[s]", "V4", [("field", "f4")]])
def test_what_no_variable_can_hold_is_refused(dtype: npt.DTypeLike) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot hold"):
        dtype_category(np.dtype(dtype))


def test_limits_are_known_for_the_types_of_both_libraries() -> None:
    assert integer_limits(np.dtype(np.uint64)) == (0, 2**64 - 1)
    assert integer_limits(np.dtype(ml_dtypes.int4)) == (-8, 7)
    assert float_limits(np.dtype(np.float16)) == (-65504.0, 65504.0)
    assert float_limits(np.dtype(ml_dtypes.float8_e4m3fn)) == (-448.0, 448.0)


def test_a_type_is_known_by_its_library() -> None:
    assert is_ml_dtype(np.dtype(ml_dtypes.bfloat16))
    assert not is_ml_dtype(np.dtype(np.float16))
