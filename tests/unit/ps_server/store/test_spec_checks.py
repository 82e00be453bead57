from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, ShapeMismatchError
from ps_protocol.operations import PartitionSlice, VariableSpec
from ps_server.store.spec_checks import MAX_NAME_LENGTH, check_agreement, check_spec

FLOAT = np.dtype(np.float32)
PART = VariableSpec("w/part_0", FLOAT, (2, 3), PartitionSlice("w", (4, 3), (2, 0)))


@pytest.mark.parametrize(
    "spec",
    [
        VariableSpec("w", FLOAT, ()),
        VariableSpec("w", np.dtype("S8"), (0, 3)),
        VariableSpec("w" * MAX_NAME_LENGTH, np.dtype(bool), (2**20,)),
        PART,
    ],
)
def test_accepts_what_can_be_held(spec: VariableSpec) -> None:
    check_spec(spec)


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME_LENGTH + 1)])
def test_refuses_impossible_names(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="name"):
        check_spec(VariableSpec(name, FLOAT, ()))


@pytest.mark.parametrize("dtype", [object, "U4", "M8[s]", "S0", [("a", "f4")]])
def test_refuses_dtypes_that_are_no_values(dtype: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="scope/w") as refused:
        check_spec(VariableSpec("scope/w", np.dtype(dtype), ()))
    assert refused.value.variable == "scope/w"


def test_refuses_foreign_byte_order() -> None:
    with pytest.raises(InvalidArgumentError, match="byte order"):
        check_spec(VariableSpec("w", np.dtype(">f4"), ()))


@pytest.mark.parametrize("shape", [(-1,), (2**62, 4), (1,) * 65])
def test_refuses_impossible_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="scope/w"):
        check_spec(VariableSpec("scope/w", FLOAT, shape))


@pytest.mark.parametrize(
    "part",
    [
        PartitionSlice("w", (4, 3), (3, 0)),
        PartitionSlice("w", (4, 3), (-1, 0)),
        PartitionSlice("w", (4,), (0,)),
        PartitionSlice("w", (4, 3), (0,)),
    ],
)
def test_refuses_parts_outside_the_whole(part: PartitionSlice) -> None:
    with pytest.raises(InvalidArgumentError, match="does not lie in it"):
        check_spec(VariableSpec("w/part_0", FLOAT, (2, 3), part))


def test_equal_specs_agree() -> None:
    check_agreement(PART, PART)
    check_agreement(PART, VariableSpec("w/part_0", FLOAT, (2, 3), PartitionSlice("w", (4, 3), (2, 0))))


def test_another_dtype_names_both_sides() -> None:
    with pytest.raises(DTypeMismatchError, match=r"scope/w already exists as float32\[2\].*int32\[2\]"):
        check_agreement(VariableSpec("scope/w", FLOAT, (2,)), VariableSpec("scope/w", np.dtype("i4"), (2,)))


def test_another_shape_names_both_sides() -> None:
    with pytest.raises(ShapeMismatchError, match=r"float32\[2\].*float32\[3, 1\]"):
        check_agreement(VariableSpec("w", FLOAT, (2,)), VariableSpec("w", FLOAT, (3, 1)))


def test_another_place_in_the_whole_names_both_sides() -> None:
    other = VariableSpec("w/part_0", FLOAT, (2, 3), PartitionSlice("w", (6, 3), (2, 0)))
    with pytest.raises(ShapeMismatchError, match=r"part at \[2, 0\] of w \[4, 3\].*w \[6, 3\]"):
        check_agreement(PART, other)
