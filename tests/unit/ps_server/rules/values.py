"""Dtypes of all kinds of numbers, and specs of arrays."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from ps_protocol.operations import Array, VariableSpec

NUMBERS: list[Any] = [
    np.int8,
    np.int32,
    np.int64,
    np.uint8,
    np.uint64,
    np.float16,
    np.float32,
    np.float64,
    np.complex64,
    np.complex128,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
    ml_dtypes.int4,
    ml_dtypes.uint4,
]


def spec_of(value: Array, name: str = "scope/w") -> VariableSpec:
    return VariableSpec(name, value.dtype, value.shape)
