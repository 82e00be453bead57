"""Whatever a variable is cut into, the parts cover it once, and every partitioner keeps its bounds."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from worker_client.values.dtypes import float32
from worker_client.values.partition_info import PartitionInfo
from worker_client.variables.partitioners import (
    Partitioner,
    fixed_size_partitioner,
    min_max_variable_partitioner,
    partitions_of,
    parts,
    variable_axis_size_partitioner,
)

shapes = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@st.composite
def partitioned_shapes(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """A shape and how often each of its dimensions is cut."""
    shape = draw(shapes)
    axis = draw(st.integers(0, len(shape) - 1))
    partitions = [1] * len(shape)
    partitions[axis] = draw(st.integers(1, shape[axis]))
    return shape, partitions


@given(partitioned_shapes())
def test_parts_cover_the_whole_once_and_in_order(partitioned: tuple[list[int], list[int]]) -> None:
    shape, partitions = partitioned
    covered = np.zeros(shape, dtype=int)
    for number, (offset, size) in enumerate(parts(shape, partitions), start=1):
        covered[tuple(slice(start, start + length) for start, length in zip(offset, size, strict=True))] += number
    assert covered.min() >= 1
    axis = int(np.argmax(partitions))
    along = np.moveaxis(covered, axis, 0).reshape(shape[axis], -1)
    assert (np.diff(along, axis=0) >= 0).all()
    assert covered.max() == math.prod(partitions)


@given(partitioned_shapes())
def test_the_longer_parts_come_first_and_by_one_only(partitioned: tuple[list[int], list[int]]) -> None:
    shape, partitions = partitioned
    axis = int(np.argmax(partitions))
    lengths = [size[axis] for _, size in parts(shape, partitions)]
    assert sum(lengths) == shape[axis]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] - lengths[-1] <= 1


@given(partitioned_shapes())
def test_a_part_can_be_told_from_its_info(partitioned: tuple[list[int], list[int]]) -> None:
    shape, partitions = partitioned
    axis = int(np.argmax(partitions))
    for offset, size in parts(shape, partitions):
        info = PartitionInfo(shape, offset)
        assert info.single_offset(size) == offset[axis]
        assert info.single_slice_dim(size) == (axis if partitions[axis] > 1 else None)


def one_of_the_partitioners(number: int, size_bytes: int, axis: int) -> list[Partitioner]:
    return [
        fixed_size_partitioner(number, axis),
        variable_axis_size_partitioner(size_bytes, axis),
        variable_axis_size_partitioner(size_bytes, axis, max_shards=number),
        min_max_variable_partitioner(number, axis, size_bytes),
    ]


@given(shapes, st.integers(1, 12), st.integers(1, 500), st.data())
def test_every_answer_of_a_partitioner_can_be_carried_out(
    shape: list[int], number: int, size_bytes: int, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    for partitioner in one_of_the_partitioners(number, size_bytes, axis):
        partitions = partitions_of(partitioner, shape, float32, "w")
        assert all(each == 1 for index, each in enumerate(partitions) if index != axis % len(shape))
        assert len(list(parts(shape, partitions))) == partitions[axis] <= shape[axis]


@given(shapes, st.integers(1, 500))
def test_parts_by_size_are_small_enough_and_no_more_than_needed(shape: list[int], max_bytes: int) -> None:
    number = partitions_of(variable_axis_size_partitioner(max_bytes), shape, float32, "w")[0]
    row_bytes = 4 * math.prod(shape[1:])
    rows = math.ceil(shape[0] / number)
    assert rows * row_bytes <= max_bytes or rows == 1
    if number > 1:
        assert math.ceil(shape[0] / (number - 1)) * row_bytes > max_bytes


@given(shapes, st.integers(1, 12), st.integers(1, 500))
def test_parts_with_a_least_size_are_as_many_as_allowed(shape: list[int], max_partitions: int, min_bytes: int) -> None:
    number = partitions_of(min_max_variable_partitioner(max_partitions, 0, min_bytes), shape, float32, "w")[0]
    assert number == max(1, min(shape[0], max_partitions, math.ceil(4 * math.prod(shape) / min_bytes)))
