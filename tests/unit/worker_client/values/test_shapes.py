"""Shapes, known, half known and unknown."""

from __future__ import annotations

import copy
import operator
import pickle
from typing import Any, cast

import numpy as np
import pytest

from worker_client.graph.graph import Graph
from worker_client.scopes.creation import new_variable
from worker_client.scopes.variable_scope import get_variable
from worker_client.values.shapes import TensorShape
from worker_client.variables.partitioners import fixed_size_partitioner

UNKNOWN = TensorShape(None)


@pytest.mark.parametrize(
    ("given", "sizes"),
    [([2, 3], [2, 3]), ((2, None), [2, None]), (4, [4]), ([], []), ([np.int64(5)], [5]), (TensorShape([1]), [1])],
)
def test_what_a_shape_is_made_from(given: Any, sizes: list[int | None]) -> None:
    shape = TensorShape(given)
    assert shape.as_list() == sizes
    assert (shape.ndims, shape.rank) == (len(sizes), len(sizes))
    assert [dimension.value for dimension in shape.dims or []] == sizes
    assert [shape.size(axis) for axis in range(len(sizes))] == sizes


@pytest.mark.parametrize("given", ["ab", [2.5], ["2"], 1.0, [[2]]])
def test_sizes_that_are_no_integers_are_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError, match="integer"):
        TensorShape(given)


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        TensorShape([-1])


def test_a_known_shape_is_a_tuple() -> None:
    shape = TensorShape([2, 3])
    assert shape == (2, 3)
    assert shape == [2, 3]
    assert shape != (2, 4)
    assert hash(shape) == hash((2, 3))
    assert np.zeros(cast(Any, shape)).shape == (2, 3)
    assert (len(shape), shape[1], list(shape)) == (2, 3, [2, 3])
    assert shape[:1] == TensorShape([2])
    assert isinstance(shape[:1], TensorShape)


def test_iterating_gives_dimensions_as_programs_that_count_parameters_want_them() -> None:
    total = 1
    for dimension in TensorShape([2, 3]):
        total *= cast(Any, dimension).value
    assert (total, type(total)) == (6, int)
    assert [str(each) for each in TensorShape([2, None])] == ["2", "None"]
    assert [type(size) for size in TensorShape([2, None]).as_list()] == [int, type(None)]


def test_a_spec_has_plain_numbers_whatever_its_shape_was_made_of() -> None:
    with Graph().as_default():
        variable = new_variable(np.zeros([4, 2], np.float32), name="weights")
        initial = get_variable("rows", TensorShape([3, 2]), partitioner=fixed_size_partitioner(2))
    assert [type(size) for size in variable.spec.shape] == [int, int]
    for part in initial:
        assert {type(size) for size in (*part.spec.shape, *part.spec.slice.full_shape)} == {int}
    assert "Dimension" not in f"{variable.spec} {next(iter(initial)).spec}"


def test_an_unknown_shape_has_no_rank() -> None:
    assert (UNKNOWN.ndims, UNKNOWN.dims, UNKNOWN.num_elements()) == (None, None, None)
    assert not UNKNOWN
    for ask in (len, list, TensorShape.as_list, TensorShape.as_tuple):
        with pytest.raises(ValueError, match=r"rank|fully defined"):
            ask(UNKNOWN)


def test_an_unknown_shape_equals_only_its_like() -> None:
    assert TensorShape(None) == UNKNOWN
    assert hash(TensorShape(None)) == hash(UNKNOWN)
    assert UNKNOWN != ()
    assert TensorShape([]) != UNKNOWN
    assert TensorShape([])


def test_number_of_elements() -> None:
    assert TensorShape([2, 3]).num_elements() == 6
    assert TensorShape([]).num_elements() == 1
    assert TensorShape([2**40, 2**40]).num_elements() == 2**80
    assert TensorShape([2, None]).num_elements() is None


def test_as_tuple_needs_all_sizes() -> None:
    assert TensorShape([2, 3]).as_tuple() == (2, 3)
    with pytest.raises(ValueError, match=r"\[2, \?\]"):
        TensorShape([2, None]).as_tuple()


@pytest.mark.parametrize(
    ("one", "other", "merged"),
    [
        ([2, 3], [2, 3], (2, 3)),
        ([2, None], [None, 3], (2, 3)),
        ([2, None], [2, None], (2, None)),
        ([2], None, (2,)),
        (None, [2], (2,)),
        ([2], [3], None),
        ([2], [2, 2], None),
        ([], [1], None),
    ],
)
def test_shapes_that_one_tensor_can_have(one: Any, other: Any, merged: tuple[int | None, ...] | None) -> None:
    assert TensorShape(one).is_compatible_with(other) == (merged is not None)
    if merged is not None:
        assert TensorShape(one).merge_with(other) == merged
    else:
        with pytest.raises(ValueError, match="not compatible"):
            TensorShape(one).merge_with(other)


def test_two_unknown_shapes_merge_to_an_unknown_one() -> None:
    assert UNKNOWN.merge_with(None) == UNKNOWN


@pytest.mark.parametrize("shape", [UNKNOWN, TensorShape([2, None])])
def test_copies_are_equal(shape: TensorShape) -> None:
    assert copy.deepcopy(shape) == shape
    assert pickle.loads(pickle.dumps(shape)) == shape


def test_how_it_is_written() -> None:
    assert str(TensorShape([2, None])) == "(2, ?)"
    assert str(UNKNOWN) == "<unknown>"
    assert repr(TensorShape([2, None])) == "TensorShape([2, None])"
    assert repr(UNKNOWN) == "TensorShape(None)"


def test_a_shape_made_of_truth_values_is_one_of_integers() -> None:
    assert str(TensorShape([True, 7919])) == "(1, 7919)"
    assert str(TensorShape([1, 7919])) == "(1, 7919)"


def test_what_was_found_valid_does_not_make_valid_what_is_equal_to_it() -> None:
    TensorShape([3])
    with pytest.raises(TypeError, match="integer"):
        TensorShape([3.0])  # type: ignore[list-item]  # what is refused


class TestTensorFlowsMethods:
    SHAPE = TensorShape([4, None])

    def test_put_together(self) -> None:
        assert self.SHAPE.concatenate([2]).as_list() == [4, None, 2]
        assert operator.add(self.SHAPE, [2]).as_list() == [4, None, 2]
        assert operator.add([2], self.SHAPE).as_list() == [2, 4, None]
        assert self.SHAPE.concatenate(None) == UNKNOWN
        sizes: Any = [2]
        sizes += self.SHAPE  # as in TensorFlow 1, a shape and no longer a list
        assert sizes.as_list() == [2, 4, None]

    def test_ranks(self) -> None:
        assert self.SHAPE.with_rank(2) is self.SHAPE
        assert UNKNOWN.with_rank(2).as_list() == [None, None]
        assert self.SHAPE.with_rank_at_least(1).with_rank_at_most(3) is self.SHAPE
        self.SHAPE.assert_has_rank(2)
        self.SHAPE.assert_same_rank([1, 1])
        UNKNOWN.assert_has_rank(7)
        for refuse in (
            lambda: self.SHAPE.with_rank(3),
            lambda: self.SHAPE.with_rank_at_least(3),
            lambda: self.SHAPE.with_rank_at_most(1),
            lambda: self.SHAPE.assert_has_rank(3),
            lambda: self.SHAPE.assert_same_rank([1]),
            lambda: self.SHAPE.assert_is_compatible_with([5, 1]),
            self.SHAPE.assert_is_fully_defined,
        ):
            with pytest.raises(ValueError, match=r"4, \?|4, None"):
                refuse()

    def test_what_two_have_in_common(self) -> None:
        assert TensorShape([4, 2]).most_specific_compatible_shape([4, 3]).as_list() == [4, None]
        assert self.SHAPE.most_specific_compatible_shape([4]) == UNKNOWN

    def test_parts_of_an_unknown_one(self) -> None:
        assert UNKNOWN[1:] == UNKNOWN
        assert UNKNOWN[1:3].as_list() == [None, None]
        assert UNKNOWN[:-1] == UNKNOWN

    def test_two_ways_of_writing(self) -> None:
        assert [str(shape) for shape in (self.SHAPE, TensorShape([3]), TensorShape([]), UNKNOWN)] == [
            "(4, ?)",
            "(3,)",
            "()",
            "<unknown>",
        ]
        assert f"{self.SHAPE} {UNKNOWN}" == "[4, ?] <unknown>"
