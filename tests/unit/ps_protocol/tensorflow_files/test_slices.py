"""Keys of slices, and what slices cover."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps_protocol.errors import InvalidValueError
from ps_protocol.tensor_files.covering import cover_once
from ps_protocol.tensorflow_files.slices import TensorSlice


@pytest.mark.parametrize(
    ("place", "key"),
    [
        (TensorSlice((), ()), "0077000100"),
        (TensorSlice((0,), (None,)), "00770001" + "0101" + "80" + "7f"),
        (TensorSlice((63, 64), (1, 8191)), "00770001" + "0102" + "bf" + "81" + "c040" + "dfff"),
        (
            TensorSlice((8192, 2**40), (1, 2**62)),
            "00770001" + "0102" + "e02000" + "81" + "fd0000000000" + "ffc04000000000000000",
        ),
    ],
)
def test_keys_are_tensorflows_ordered_code(place: TensorSlice, key: str) -> None:
    assert place.key(b"w").hex() == key


def test_bytes_that_mean_something_in_a_key_are_marked() -> None:
    assert TensorSlice((), ()).key(b"a\0b\xffc").hex() == "00" + "61" + "00ff" + "62" + "ff00" + "63" + "0001" + "00"


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 2**62), min_size=2, max_size=8, unique=True))
def test_keys_are_in_the_order_of_places(starts: list[int]) -> None:
    keys = [TensorSlice((start,), (1,)).key(b"w") for start in sorted(starts)]
    assert keys == sorted(keys)


def test_a_part_says_the_length_of_each_range() -> None:
    part = TensorSlice.part([4, 3], [2, 0], [2, 3])
    assert part == TensorSlice((2, 0), (2, 3))
    assert TensorSlice.of(part.message()) == part
    assert TensorSlice.of(TensorSlice((0, 1), (None, 2)).message()) == TensorSlice((0, 1), (None, 2))
    for starts, lengths in (([3, 0], [2, 3]), ([-1, 0], [1, 3]), ([0], [4]), ([0, 0], [4]), ([0, 0], [-1, 3])):
        with pytest.raises(InvalidValueError, match=r"is not in a tensor of shape \[4, 3\]"):
            TensorSlice.part([4, 3], starts, lengths)


@settings(deadline=None, derandomize=True)
@given(st.data())
def test_parts_of_a_grid_cover_once_and_others_do_not(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=3))
    cuts = [sorted({0, size, *data.draw(st.lists(st.integers(0, size), max_size=2))}) for size in shape]
    ranges = [list(itertools.pairwise(each)) or [(0, 0)] for each in cuts]
    boxes = list(itertools.product(*ranges))
    order = data.draw(st.permutations(boxes))
    starts = [[low for low, _ in box] for box in order]
    shapes = [[high - low for low, high in box] for box in order]
    assert cover_once(shape, starts, shapes)
    if np.prod(shape):
        assert not cover_once(shape, starts[1:], shapes[1:])
        assert not cover_once(shape, [*starts, starts[0]], [*shapes, shapes[0]])


def test_parts_of_the_right_size_in_the_wrong_place_do_not_cover() -> None:
    assert not cover_once([4], [[0], [0]], [[2], [2]])
    assert not cover_once([4], [[0], [1]], [[2], [2]])
    assert not cover_once([2, 2], [[0, 0], [0, 0], [1, 1]], [[1, 2], [1, 1], [1, 1]])
    assert not cover_once([], [[], []], [[], []])
    assert not cover_once([], [], [])
    assert cover_once([], [[]], [[]])


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.data())
def test_any_parts_are_found_to_cover_as_when_each_element_is_counted(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    corners = st.tuples(*[st.integers(0, size - 1) for size in shape])
    boxes = data.draw(
        st.lists(st.tuples(corners, corners).map(lambda pair: np.sort(pair, axis=0)), min_size=1, max_size=5)
    )
    counts = np.zeros(shape, int)
    for low, last in boxes:
        counts[tuple([slice(first, end + 1) for first, end in zip(low, last, strict=True)])] += 1
    starts = [low.tolist() for low, _ in boxes]
    assert cover_once(shape, starts, [(last - low + 1).tolist() for low, last in boxes]) == bool(np.all(counts == 1))


def test_many_parts_are_compared_in_time_that_grows_as_they_do() -> None:
    """Each with each other they would be four billion pairs, which takes longer than a test may."""
    starts = [[row, column] for row in range(250) for column in range(250)]
    assert cover_once([250, 250], starts, [[1, 1]] * len(starts))
    assert not cover_once([250, 250], [*starts[1:], [249, 249]], [[1, 1]] * len(starts))


def test_parts_with_too_many_corners_are_refused() -> None:
    """Each halves what is left along another axis, as no program does."""
    for axes, is_covered in ((8, True), (30, False)):
        starts = [[1] * axis + [0] * (axes - axis) for axis in range(axes + 1)]
        shapes = [[1] * min(axis + 1, axes) + [2] * (axes - axis - 1) for axis in range(axes + 1)]
        assert cover_once([2] * axes, starts, shapes) == is_covered
