"""Lists of rows are merged as TensorFlow merges them, in any order; packed arrays come back as they were."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any

import hypothesis.extra.numpy as npst
import ml_dtypes
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.shared_objects import Array, Computed, packed, unpacked
from ps_server.objects.sparse_sums import merged, merged_by_heads

ROWS = st.lists(st.integers(-3, 12), max_size=8)
ASCENDING = st.sets(st.integers(-3, 40), max_size=8).map(sorted)
DTYPES = st.sampled_from([np.int32, np.int64, np.float16, np.float32, np.float64, ml_dtypes.bfloat16]).map(np.dtype)
ARRAYS = DTYPES.flatmap(
    lambda dtype: npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4).map(
        lambda shape: np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    )
)


def computed(sums: Computed) -> Array:
    out = np.full(sums.shape, np.nan, sums.dtype)
    sums.fill(out)
    return out


def _copy(array: Array, out: Array) -> None:
    out[...] = array


@given(ASCENDING, ASCENDING)
def test_lists_in_order_are_merged_alike_with_and_without_a_loop(first: list[int], second: list[int]) -> None:
    quick, slow = merged(np.array(first, np.int64), np.array(second, np.int64)), merged_by_heads(first, second)
    assert quick.rows.tolist() == slow.rows.tolist() == sorted({*first, *second})
    assert quick.first.tolist() == slow.first.tolist()
    assert quick.second.tolist() == slow.second.tolist()


@given(ROWS, ROWS)
def test_a_merge_keeps_every_row_and_its_sum(first: list[int], second: list[int]) -> None:
    merge = merged(np.array(first, np.int64), np.array(second, np.int64))
    values = np.arange(1.0, 1 + len(first)), np.arange(100.0, 100 + len(second))
    found: dict[int, float] = defaultdict(float)
    for row, value in zip(merge.rows.tolist(), computed(merge.sums(*values)).tolist(), strict=True):
        found[row] += value
    expected: dict[int, float] = defaultdict(float)
    for row, value in [*zip(first, values[0], strict=True), *zip(second, values[1], strict=True)]:
        expected[row] += value
    assert found == expected
    assert int(merge.counts(np.ones(len(first), np.int32)).sum()) == len(first) + len(second)


@given(st.dictionaries(st.text(max_size=3), st.integers(), max_size=3), st.lists(ARRAYS, max_size=3))
def test_packed_arrays_come_back(content: dict[str, Any], arrays: list[Array]) -> None:
    written = [Computed(each.dtype, each.shape, partial(_copy, each)) for each in arrays]
    data = packed(content, arrays)
    assert data.tobytes() == packed(content, written).tobytes()
    found, again = unpacked(data, "it")
    assert found == content
    assert [(each.dtype, each.shape, each.tolist()) for each in again] == [
        (each.dtype, each.shape, each.tolist()) for each in arrays
    ]


@given(st.binary(max_size=40))
def test_other_bytes_are_refused(data: bytes) -> None:
    try:
        unpacked(np.frombuffer(data, np.uint8), "it")
    except InvalidArgumentError as error:
        assert "it" in error.message  # noqa: PT017 - either is right
