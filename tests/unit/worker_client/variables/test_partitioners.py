from __future__ import annotations

from typing import Any

import pytest

from worker_client.values.dtypes import float32, float64, string
from worker_client.values.partition_info import PartitionInfo
from worker_client.variables.partitioners import (
    fixed_size_partitioner,
    min_max_variable_partitioner,
    partitions_of,
    parts,
    variable_axis_size_partitioner,
)


class TestFixedSize:
    @pytest.mark.parametrize(
        ("num_shards", "axis", "shape", "expected"),
        [
            (5, 0, [10, 10], [5, 1]),
            (2, 1, [10, 10], [1, 2]),
            (3, -1, [4, 5, 6], [1, 1, 3]),
            (7, 0, [3], [3]),
            (1, 0, [3], [1]),
        ],
    )
    def test_outcomes(self, num_shards: int, axis: int, shape: list[int], expected: list[int]) -> None:
        assert fixed_size_partitioner(num_shards, axis)(shape=shape, dtype=float32) == expected

    @pytest.mark.parametrize("axis", [2, -3])
    def test_an_axis_that_is_not_there(self, axis: int) -> None:
        with pytest.raises(ValueError, match=f"axis {axis}"):
            fixed_size_partitioner(2, axis)(shape=[4, 4], dtype=float32)


class TestVariableAxisSize:
    @pytest.mark.parametrize(
        ("arguments", "shape", "expected"),
        [
            # A column of [4, 8, 16, 32] along axis 1 takes 4 * 16 * 32 * 4 = 8,192 bytes.
            ({"max_shard_bytes": 4, "axis": 1}, [4, 8, 16, 32], [1, 8, 1, 1]),
            ({"max_shard_bytes": 8192, "axis": 1}, [4, 8, 16, 32], [1, 8, 1, 1]),
            ({"max_shard_bytes": 16_384, "axis": 1}, [4, 8, 16, 32], [1, 4, 1, 1]),
            ({"max_shard_bytes": 24_576, "axis": 1}, [4, 8, 16, 32], [1, 3, 1, 1]),
            ({"max_shard_bytes": 65_536, "axis": 1}, [4, 8, 16, 32], [1, 1, 1, 1]),
            ({"max_shard_bytes": 4, "axis": 1, "max_shards": 3}, [4, 8, 16, 32], [1, 3, 1, 1]),
            ({"max_shard_bytes": 65_536, "max_shards": 3}, [4, 8, 16, 32], [1, 1, 1, 1]),
            ({"max_shard_bytes": 4, "max_shards": 0}, [6], [6]),  # 0 is no limit
            ({"max_shard_bytes": 64}, [64], [4]),
            ({"max_shard_bytes": 16}, [3, 0], [1, 1]),  # nothing to cut
        ],
    )
    def test_outcomes(self, arguments: dict[str, Any], shape: list[int], expected: list[int]) -> None:
        assert variable_axis_size_partitioner(**arguments)(shape=shape, dtype=float32) == expected

    def test_the_size_of_elements_counts(self) -> None:
        partitioner = variable_axis_size_partitioner(64, bytes_per_string_element=8)
        assert partitioner(shape=[64], dtype=float64) == [8]
        assert partitioner(shape=[64], dtype="uint8") == [1]
        assert partitioner(shape=[64], dtype=string) == [8]
        assert partitioner(shape=[64], dtype="S4") == [4]

    @pytest.mark.parametrize(
        "arguments",
        [
            {"max_shard_bytes": 0},
            {"max_shard_bytes": 8, "bytes_per_string_element": 0},
            {"max_shard_bytes": 8, "max_shards": -1},
        ],
    )
    def test_sizes_must_be_positive(self, arguments: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="must be positive"):
            variable_axis_size_partitioner(**arguments)


class TestMinMax:
    @pytest.mark.parametrize(
        ("arguments", "shape", "expected"),
        [
            ({"max_partitions": 100}, [1024, 1024], [16, 1]),
            ({"max_partitions": 8}, [1024, 1024], [8, 1]),
            ({}, [1024, 1024], [1, 1]),
            ({"max_partitions": 100, "min_slice_size": 2 << 10}, [2048], [4]),
            ({"max_partitions": 100, "min_slice_size": 2 << 10}, [2049], [5]),
            ({"max_partitions": 3, "min_slice_size": 8}, [2, 6], [2, 1]),
            ({"max_partitions": 3, "min_slice_size": 8, "axis": 1}, [2, 6], [1, 3]),
            ({"max_partitions": 0}, [4], [1]),
            ({"max_partitions": 3, "min_slice_size": 8}, [0, 6], [1, 1]),
        ],
    )
    def test_outcomes(self, arguments: dict[str, int], shape: list[int], expected: list[int]) -> None:
        assert min_max_variable_partitioner(**arguments)(shape=shape, dtype=float32) == expected

    def test_a_string_is_taken_to_have_some_length(self) -> None:
        partitioner = min_max_variable_partitioner(100, 0, 64, bytes_per_string_element=32)
        assert partitioner(shape=[10], dtype=string) == [5]

    def test_an_axis_that_is_not_there(self) -> None:
        with pytest.raises(ValueError, match="axis 1"):
            min_max_variable_partitioner(3, 1)(shape=[4], dtype=float32)

    def test_sizes_must_be_positive(self) -> None:
        with pytest.raises(ValueError, match="must be positive"):
            min_max_variable_partitioner(3, min_slice_size=0)


class TestPartitionsOf:
    def test_the_partitioner_is_called_with_keywords(self) -> None:
        calls = []

        def partitioner(**keywords: object) -> list[int]:
            calls.append(keywords)
            return [2, 1]

        assert partitions_of(partitioner, (4, 3), float32, "w") == [2, 1]
        assert calls == [{"shape": [4, 3], "dtype": float32}]

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (2, "list"),
            ([2], "each dimension"),
            ([0, 1], "below 1"),
            ([2, 2], "only one dimension"),
        ],
    )
    def test_an_answer_that_cannot_be_carried_out(self, answer: Any, reason: str) -> None:
        with pytest.raises(ValueError, match=rf"variable scope/w .*{reason}"):
            partitions_of(lambda **_: answer, (4, 3), float32, "scope/w")

    @pytest.mark.parametrize("answer", ["21", [2.0, 1], [None, 1]])
    def test_an_answer_without_whole_numbers(self, answer: Any) -> None:
        with pytest.raises(TypeError, match=r"variable scope/w .*whole numbers"):
            partitions_of(lambda **_: answer, (4, 3), float32, "scope/w")

    @pytest.mark.parametrize(("shape", "reason"), [((4, None), "not fully known"), ((), "scalar")])
    def test_a_shape_that_cannot_be_cut(self, shape: tuple[int | None, ...], reason: str) -> None:
        with pytest.raises(ValueError, match=rf"variable scope/w .*{reason}"):
            partitions_of(fixed_size_partitioner(2), shape, float32, "scope/w")


class TestParts:
    @pytest.mark.parametrize(
        ("shape", "partitions", "expected"),
        [
            ([5, 2], [2, 1], [((0, 0), (3, 2)), ((3, 0), (2, 2))]),
            ([7, 3], [3, 1], [((0, 0), (3, 3)), ((3, 0), (2, 3)), ((5, 0), (2, 3))]),
            ([2, 6], [1, 4], [((0, 0), (2, 2)), ((0, 2), (2, 2)), ((0, 4), (2, 1)), ((0, 5), (2, 1))]),
            ([4], [1], [((0,), (4,))]),
            ([0, 3], [1, 1], [((0, 0), (0, 3))]),
        ],
    )
    def test_the_first_ones_take_what_is_left_over(
        self, shape: list[int], partitions: list[int], expected: list[tuple[tuple[int, ...], tuple[int, ...]]]
    ) -> None:
        assert list(parts(shape, partitions)) == expected

    def test_there_are_not_more_than_indices(self) -> None:
        with pytest.raises(ValueError, match=r"size 3 .* into 4 parts"):
            list(parts([3], [4]))


class TestPartitionInfo:
    def test_what_it_was_given(self) -> None:
        info = PartitionInfo([9, 3], [4, 0])
        assert (info.full_shape, info.var_offset) == ([9, 3], [4, 0])

    @pytest.mark.parametrize(
        ("full_shape", "var_offset", "shape", "axis", "offset"),
        [
            ([9, 3], [4, 0], [1, 3], 0, 4),
            ([9, 3], [0, 2], [9, 1], 1, 2),
            ([9, 3], [0, 0], [9, 3], None, 0),
        ],
    )
    def test_a_single_cut(
        self, full_shape: list[int], var_offset: list[int], shape: list[int], axis: int | None, offset: int
    ) -> None:
        info = PartitionInfo(full_shape, var_offset)
        assert info.single_slice_dim(shape) == axis
        assert info.single_offset(shape) == offset

    @pytest.mark.parametrize(("full_shape", "var_offset"), [(9, [0]), ("99", [0, 0]), ([9], 0), ([9], "0")])
    def test_only_sequences(self, full_shape: Any, var_offset: Any) -> None:
        with pytest.raises(TypeError, match="must be a sequence"):
            PartitionInfo(full_shape, var_offset)

    @pytest.mark.parametrize(("full_shape", "var_offset"), [([9], [0, 0]), ([9, 3], [9, 0]), ([9, 3], [-1, 0])])
    def test_the_offset_lies_in_the_whole(self, full_shape: list[int], var_offset: list[int]) -> None:
        with pytest.raises(ValueError, match="var_offset"):
            PartitionInfo(full_shape, var_offset)

    @pytest.mark.parametrize("shape", [[9], [6, 3], [2, 2]])
    def test_a_part_that_does_not_fit_or_is_cut_twice(self, shape: list[int]) -> None:
        with pytest.raises(ValueError, match="full_shape"):
            PartitionInfo([9, 3], [4, 0]).single_slice_dim(shape)

    def test_a_part_that_is_no_sequence(self) -> None:
        shape: Any = 5
        with pytest.raises(TypeError, match="shape must be a sequence"):
            PartitionInfo([9], [0]).single_slice_dim(shape)
