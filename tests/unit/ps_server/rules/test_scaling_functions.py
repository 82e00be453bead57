"""Products on the ps: what they compute, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from ps_protocol.operations import VariableSpec
from ps_server.rules.built_in_functions import BUILT_IN_FUNCTIONS
from ps_server.rules.functions import FunctionCall


def call(dtype: str, numbers: list[float]) -> FunctionCall:
    return FunctionCall(VariableSpec("power", np.dtype(dtype), ()), (), (), np.array(numbers), None)


def test_the_factor_is_rounded_to_the_dtype() -> None:
    multiply = BUILT_IN_FUNCTIONS.find("multiply", "power")
    value = np.array(0.9, np.float32)
    multiply(call("float32", [0.9])).apply(value, (), 0)
    assert value.dtype == np.float32
    assert value == np.float32(0.9) * np.float32(0.9)


def test_what_is_no_float_or_no_factor_is_refused() -> None:
    multiply = BUILT_IN_FUNCTIONS.find("multiply", "power")
    with pytest.raises(InvalidArgumentError, match=r"power.*takes one number"):
        multiply(call("float32", [0.5, 0.5]))
    with pytest.raises((DTypeMismatchError, InvalidArgumentError), match="power"):
        multiply(call("int64", [0.5]))
