from __future__ import annotations

import numpy as np
import pytest

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.initial_values.variable_layout import (
    Cut,
    Stretch,
    check_layout,
    cuts,
    full_name,
    full_shape,
    stretches,
    subject,
)
from ps_protocol.operations import PartitionSlice, VariableSpec

FLOAT32 = np.dtype(np.float32)
PART = VariableSpec("w/part_1", FLOAT32, (2, 3), PartitionSlice("w", (6, 3), (2, 0)))


def test_a_part_knows_its_whole() -> None:
    assert (full_name(PART), full_shape(PART)) == ("w", (6, 3))
    assert cuts(PART) == [Cut(6, 2, 2), Cut(3, 3, 0)]


def test_a_whole_is_its_own_whole() -> None:
    whole = VariableSpec("w", FLOAT32, (6, 3))
    assert (full_name(whole), full_shape(whole)) == ("w", (6, 3))
    assert cuts(whole) == [Cut(6, 6, 0), Cut(3, 3, 0)]


def test_messages_name_the_variable_if_it_has_a_name() -> None:
    assert subject(PART) == "variable w/part_1 (float32[2, 3])"
    assert subject(VariableSpec("", FLOAT32, (2,))) == "a value of float32[2]"


@pytest.mark.parametrize(
    "spec",
    [
        VariableSpec("w", FLOAT32, (-1,)),
        VariableSpec("w", FLOAT32, (2, 3), PartitionSlice("w", (6,), (0,))),
        VariableSpec("w", FLOAT32, (2, 3), PartitionSlice("w", (6, 3), (0,))),
        VariableSpec("w", FLOAT32, (2, 3), PartitionSlice("w", (6, 3), (5, 0))),
        VariableSpec("w", FLOAT32, (2, 3), PartitionSlice("w", (6, 3), (-1, 0))),
        VariableSpec("w", FLOAT32, (2**62,)),
        VariableSpec("w", FLOAT32, (1, 1), PartitionSlice("w", (2**40, 2**40), (0, 0))),
        VariableSpec("w", np.dtype("S"), (2,)),
        VariableSpec("w", np.dtype("O"), (2,)),
    ],
)
def test_what_cannot_exist_is_refused(spec: VariableSpec) -> None:
    with pytest.raises(InvalidArgumentError):
        check_layout(spec)


def test_the_refusal_names_the_variable() -> None:
    with pytest.raises(InvalidArgumentError, match="variable scope/w ") as caught:
        check_layout(VariableSpec("scope/w", np.dtype("S"), (2,)))
    assert caught.value.variable == "scope/w"


def test_a_whole_is_one_stretch_after_the_other() -> None:
    assert list(stretches([Cut(3, 3, 0), Cut(4, 4, 0)], limit=5)) == [
        Stretch(0, 1, 12, 5),
        Stretch(5, 1, 12, 5),
        Stretch(10, 1, 12, 2),
    ]


def test_a_cut_along_the_first_dimension_is_contiguous() -> None:
    assert list(stretches([Cut(9, 2, 3), Cut(4, 4, 0)], limit=100)) == [Stretch(12, 1, 36, 8)]


def test_a_cut_along_the_last_dimension_comes_in_groups_of_rows() -> None:
    assert list(stretches([Cut(5, 5, 0), Cut(10, 3, 4)], limit=25)) == [
        Stretch(4, 2, 10, 3),
        Stretch(24, 2, 10, 3),
        Stretch(44, 1, 10, 3),
    ]


def test_rows_that_span_more_than_the_limit_come_one_by_one() -> None:
    assert list(stretches([Cut(2, 2, 0), Cut(100, 7, 50)], limit=4)) == [
        Stretch(50, 1, 100, 4),
        Stretch(54, 1, 100, 3),
        Stretch(150, 1, 100, 4),
        Stretch(154, 1, 100, 3),
    ]


def test_a_cut_in_the_middle_does_not_fall_apart() -> None:
    assert len(list(stretches([Cut(1000, 1000, 0), Cut(4, 1, 2), Cut(8, 8, 0)], limit=8192))) == 4


def test_a_scalar_is_one_element_and_an_empty_part_none() -> None:
    assert list(stretches([], limit=8)) == [Stretch(0, 1, 1, 1)]
    assert list(stretches([Cut(3, 0, 3), Cut(2, 2, 0)], limit=8)) == []
