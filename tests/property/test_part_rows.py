"""Places in a variable that is cut fall on its parts: each on the one that has it, and all come together again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import VariableSpec
from worker_client.variables.part_rows import Cut


@st.composite
def cuts(draw: st.DrawFn) -> Cut:
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    axis = draw(st.integers(0, len(shape) - 1))
    sizes = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any))
    shape[axis] = sum(sizes)
    return Cut(VariableSpec("scope/v", np.dtype(np.float32), tuple(shape)), axis, tuple(sizes))


@st.composite
def cuts_and_places(draw: st.DrawFn) -> tuple[Cut, Any]:
    cut = draw(cuts())
    depth = draw(st.integers(1, len(cut.spec.shape)))
    place = st.tuples(*[st.integers(0, size - 1) for size in cut.spec.shape[:depth]])
    places = draw(st.lists(place, max_size=8))
    dtype = draw(st.sampled_from([np.int32, np.int64]))
    return cut, np.array(places, dtype).reshape(*draw(st.sampled_from([(len(places),), (1, len(places))])), depth)


@given(cuts_and_places())
def test_the_parts_have_together_what_the_whole_has(drawn: tuple[Cut, Any]) -> None:
    cut, places = drawn
    depth, shape = places.shape[-1], cut.spec.shape
    whole = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    parts = np.split(whole, np.cumsum(cut.sizes)[:-1], axis=cut.axis)
    flat = places.reshape(-1, depth)
    found = np.full((len(flat), *shape[depth:]), np.nan, np.float32)
    shares = cut.shares(places)
    for share in shares:
        found[share.selection] = parts[share.part][tuple(share.places.T)]
    np.testing.assert_array_equal(found, whole[tuple(flat.T)])
    assert [share.part for share in shares] == sorted({share.part for share in shares})
    if cut.axis < depth:
        assert sum(len(share.places) for share in shares) == len(flat)
        assert all(len(share.places) for share in shares) or len(shares) == 1


@given(cuts_and_places(), st.data())
def test_a_place_outside_is_refused_by_its_number(drawn: tuple[Cut, Any], data: st.DataObject) -> None:
    cut, places = drawn
    depth = places.shape[-1]
    wrong = np.zeros(depth, places.dtype)
    dimension = data.draw(st.integers(0, depth - 1))
    wrong[dimension] = data.draw(st.sampled_from([-1, cut.spec.shape[dimension]]))
    with_it = np.concatenate([places.reshape(-1, depth), wrong[np.newaxis]])
    named = f"row {wrong[0]}" if depth == 1 else f"index \\[{', '.join(map(str, wrong))}\\]"
    with pytest.raises(InvalidArgumentError, match=rf"{named} \(indices\[{places.size // depth}\]\) .*scope/v"):
        cut.shares(with_it)
