"""Products on the ps: what they compute, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from ps_protocol.operations import VariableSpec
from ps_server.rules.built_in_functions import BUILT_IN_FUNCTIONS
from ps_server.rules.functions import FunctionPlan, FunctionSubject


def plan(dtype: str, numbers: list[float]) -> FunctionPlan:
    multiply = BUILT_IN_FUNCTIONS.find("multiply", "power")
    prepared = multiply(FunctionSubject(VariableSpec("power", np.dtype(dtype), ()), (), None))
    return prepared((), np.array(numbers))


def test_the_factor_is_rounded_to_the_dtype() -> None:
    value = np.array(0.9, np.float32)
    plan("float32", [0.9]).apply(value, (), 0)
    assert value.dtype == np.float32
    assert value == np.float32(0.9) * np.float32(0.9)


def test_what_is_no_float_or_no_factor_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"power.*takes one number"):
        plan("float32", [0.5, 0.5])
    with pytest.raises((DTypeMismatchError, InvalidArgumentError), match="power"):
        plan("int64", [0.5])
