"""What a dtype can hold, for NumPy's own types and those of ml-dtypes alike."""

from __future__ import annotations

import enum
import re
from functools import lru_cache
from typing import Any, Final

import ml_dtypes
import numpy as np

from ps_protocol.errors import InvalidArgumentError


class DTypeCategory(enum.IntEnum):
    """Kinds of elements; a number of one kind can stand for one of a later kind."""

    BOOL = 1
    INTEGER = 2
    FLOAT = 3
    COMPLEX = 4
    BYTES = 5


TRAINABLE_DTYPES: Final = tuple(np.dtype(each) for each in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64))
"""Those of variables that optimizers change."""

NUMBERS: Final = frozenset({DTypeCategory.INTEGER, DTypeCategory.FLOAT, DTypeCategory.COMPLEX})
"""Elements that can be added."""

PLURALS: Final = {
    DTypeCategory.BOOL: "truth values",
    DTypeCategory.INTEGER: "integers",
    DTypeCategory.FLOAT: "floats",
    DTypeCategory.COMPLEX: "complex numbers",
    DTypeCategory.BYTES: "bytes",
}
"""What errors call elements."""

_CATEGORY_OF_NUMPY_KIND = {
    "b": DTypeCategory.BOOL,
    "i": DTypeCategory.INTEGER,
    "u": DTypeCategory.INTEGER,
    "f": DTypeCategory.FLOAT,
    "c": DTypeCategory.COMPLEX,
    "S": DTypeCategory.BYTES,
}
_CATEGORY_OF_ML_DTYPES_WORD = {
    "bfloat": DTypeCategory.FLOAT,
    "float": DTypeCategory.FLOAT,
    "int": DTypeCategory.INTEGER,
    "uint": DTypeCategory.INTEGER,
    "complex": DTypeCategory.COMPLEX,
    "bcomplex": DTypeCategory.COMPLEX,
}
_AFTER_FIRST_WORD = re.compile(r"[^a-z].*")


def is_ml_dtype(dtype: np.dtype[Any]) -> bool:
    """Whether ml-dtypes, not NumPy, defines the type."""
    return dtype.type.__module__ == "ml_dtypes"


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Returns NumPy's name of a dtype, as "float32"; of text "S16", with its length, which that counts in bits."""
    return dtype.str[1:] if dtype.kind in "SU" else dtype.name


@lru_cache(maxsize=256)
def dtype_category(dtype: np.dtype[Any]) -> DTypeCategory:
    """Returns the kind of a dtype's elements.

    Raises:
        InvalidArgumentError: It holds neither numbers nor truth values nor bytes.
    """
    if is_ml_dtype(dtype):  # to NumPy most of these are opaque: kind "V"
        category = _CATEGORY_OF_ML_DTYPES_WORD.get(_AFTER_FIRST_WORD.sub("", dtype.name))
    else:
        category = _CATEGORY_OF_NUMPY_KIND.get(dtype.kind)
    if category is None:
        raise InvalidArgumentError(f"a variable cannot hold {dtype}; use numbers, truth values or bytes")
    return category


@lru_cache(maxsize=256)
def is_number(dtype: np.dtype[Any]) -> bool:
    """Whether elements of this dtype can be added."""
    return dtype_category(dtype) in NUMBERS


@lru_cache(maxsize=256)
def integer_limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Returns the least and the greatest element of an integer dtype."""
    limits = ml_dtypes.iinfo(dtype)
    return int(limits.min), int(limits.max)


@lru_cache(maxsize=256)
def float_limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Returns the least and the greatest finite element of a float dtype; infinities if a double cannot hold them."""
    limits = ml_dtypes.finfo(dtype)
    return float(limits.min), float(limits.max)
