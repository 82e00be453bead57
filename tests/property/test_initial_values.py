"""However a variable is cut, its parts have the elements of the whole, for every kind and dtype."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.codec.tensor_codec import parse_dtype
from ps_protocol.initial_values.compute import initial_value
from ps_protocol.initial_values.variable_layout import Cut, stretches
from ps_protocol.initializer_spec import (
    ConstantKind,
    Distribution,
    FanMode,
    IdentityKind,
    InitializerKind,
    InitializerSpec,
    OrthogonalKind,
    RandomNormalKind,
    RandomUniformKind,
    TruncatedNormalKind,
    VarianceScalingKind,
)
from ps_protocol.operations import PartitionSlice, VariableSpec

FLOATS = ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn"]
INTEGERS = ["int64", "uint64", "int32", "uint8", "int4"]

variance_scaling = st.builds(VarianceScalingKind, st.just(2.0), st.sampled_from(FanMode), st.sampled_from(Distribution))
float_kinds: st.SearchStrategy[InitializerKind] = st.one_of(
    variance_scaling,
    st.sampled_from(
        [
            RandomUniformKind(-1.0, 2.0),
            RandomNormalKind(1.0, 2.0),
            TruncatedNormalKind(1.0, 2.0),
            OrthogonalKind(2.0),
            ConstantKind(0.5),
        ]
    ),
)
integer_kinds: st.SearchStrategy[InitializerKind] = st.sampled_from([RandomUniformKind(0.0, 7.0), ConstantKind(3.0)])
seeds = st.integers(-(2**63), 2**63 - 1)


@st.composite
def cut_shapes(draw: st.DrawFn, min_dimensions: int = 0) -> list[Cut]:
    """A cut of each dimension, the whole and nothing included."""
    found = []
    for full in draw(st.lists(st.integers(0, 6), min_size=min_dimensions, max_size=4)):
        start = draw(st.integers(0, full))
        found.append(Cut(full, draw(st.integers(0, full - start)), start))
    return found


def assert_part_is_of_whole(kind: InitializerKind, dtype: str, seed: int, cut: list[Cut]) -> None:
    for seed_alone in (False, True):
        assert_part_is_of_whole_from(InitializerSpec(kind, seed, seed_alone), dtype, cut)


def assert_part_is_of_whole_from(initializer: InitializerSpec, dtype: str, cut: list[Cut]) -> None:
    shape, full, offset = (tuple(sizes[field] for sizes in cut) for field in (1, 0, 2))
    whole = initial_value(VariableSpec("w", parse_dtype(dtype), full), initializer)
    part_spec = VariableSpec("w/part_0", parse_dtype(dtype), shape, PartitionSlice("w", full, offset))
    part = initial_value(part_spec, initializer)
    expected = whole[tuple(slice(each.start, each.start + each.size) for each in cut)]
    assert part.dtype == expected.dtype
    assert part.shape == expected.shape
    assert part.tobytes() == expected.tobytes()


@given(float_kinds, st.sampled_from(FLOATS), seeds, cut_shapes(min_dimensions=2))
def test_parts_of_floats_are_parts_of_the_whole(kind: InitializerKind, dtype: str, seed: int, cut: list[Cut]) -> None:
    assert_part_is_of_whole(kind, dtype, seed, cut)


@given(integer_kinds, st.sampled_from(INTEGERS), seeds, cut_shapes())
def test_parts_of_integers_are_parts_of_the_whole(kind: InitializerKind, dtype: str, seed: int, cut: list[Cut]) -> None:
    assert_part_is_of_whole(kind, dtype, seed, cut)


@given(st.sampled_from([*FLOATS, *INTEGERS]), cut_shapes(min_dimensions=2).map(lambda cut: cut[:2]))
def test_parts_of_identities_are_parts_of_the_whole(dtype: str, cut: list[Cut]) -> None:
    assert_part_is_of_whole(IdentityKind(2.0), dtype, 0, cut)


@given(
    st.sampled_from(FLOATS),
    st.floats(-100.0, 100.0),
    st.floats(0.01, 100.0),
    seeds,
)
def test_uniform_values_lie_in_their_range(dtype: str, minval: float, span: float, seed: int) -> None:
    spec = VariableSpec("w", parse_dtype(dtype), (50,))
    kind = RandomUniformKind(minval, minval + span + abs(minval))  # wide enough for an element of any of the dtypes
    values = initial_value(spec, InitializerSpec(kind, seed)).astype(np.float64)
    assert kind.minval <= values.min()
    assert values.max() < kind.maxval


@given(cut_shapes(), st.integers(1, 40))
def test_stretches_are_the_elements_of_a_part_in_order(cut: list[Cut], limit: int) -> None:
    full = tuple(each.full for each in cut)
    index = tuple(slice(each.start, each.start + each.size) for each in cut)
    expected = np.arange(math.prod(full)).reshape(full)[index].reshape(-1).tolist()
    found = []
    for stretch in stretches(cut, limit):
        found += [
            stretch.start + row * stretch.period + column
            for row in range(stretch.rows)
            for column in range(stretch.length)
        ]
        assert (stretch.rows * stretch.period if stretch.rows > 1 else stretch.length) <= limit
    assert found == expected


@given(float_kinds, seeds, st.text(min_size=1), st.text(min_size=1))
def test_with_a_seed_alone_the_name_does_not_count(kind: InitializerKind, seed: int, name: str, other: str) -> None:
    first, second = (
        initial_value(VariableSpec(each, np.dtype(np.float32), (3, 4)), InitializerSpec(kind, seed, seed_alone=True))
        for each in (name, other)
    )
    np.testing.assert_array_equal(first, second)
