from __future__ import annotations

import math
from collections.abc import Mapping

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from ps_protocol.dtype_traits import float_limits
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.initial_values.random_draws import Layers, random_draw
from ps_protocol.initial_values.random_stream import WordStream
from ps_protocol.initializer_spec import (
    Distribution,
    FanMode,
    RandomNormalKind,
    RandomUniformKind,
    TruncatedNormalKind,
    VarianceScalingKind,
)
from ps_protocol.operations import Array, PartitionSlice, VariableSpec

LAST_WORD = 2**64 - 1
FLOAT_TYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn]

RandomKind = RandomUniformKind | RandomNormalKind | TruncatedNormalKind | VarianceScalingKind


def variable(dtype: npt.DTypeLike, shape: tuple[int, ...] = (4,)) -> VariableSpec:
    return VariableSpec("scope/w", np.dtype(dtype), shape)


def layers(words: Mapping[int, list[int]]) -> Layers:
    return lambda layer: np.array(words[layer], dtype=np.uint64)


def drawn(spec: VariableSpec, kind: RandomKind, *words: int) -> Array:
    return random_draw(spec, kind)(layers({0: list(words)})).astype(spec.dtype)


class TestUniformFloats:
    @pytest.mark.parametrize("dtype", FLOAT_TYPES)
    @pytest.mark.parametrize(("minval", "maxval"), [(0.0, 1.0), (-1.0, 1.0), (-3.0, -0.1), (0.1, 0.3), (2.0, 3.0)])
    def test_rounding_leads_neither_to_maxval_nor_below_minval(
        self, dtype: npt.DTypeLike, minval: float, maxval: float
    ) -> None:
        values = drawn(variable(dtype), RandomUniformKind(minval, maxval), 0, 1 << 40, LAST_WORD - 5000, LAST_WORD)
        assert all(minval <= float(value) < maxval for value in values)

    @pytest.mark.parametrize("dtype", FLOAT_TYPES)
    def test_the_greatest_value_is_the_last_before_maxval(self, dtype: npt.DTypeLike) -> None:
        greatest = drawn(variable(dtype), RandomUniformKind(0.0, 1.0), LAST_WORD)[0]
        assert np.nextafter(greatest, np.array(2.0).astype(dtype)) == np.array(1.0).astype(dtype)

    def test_the_whole_range_of_a_type_may_be_asked_for(self) -> None:
        least, greatest = float_limits(np.dtype(np.float16))
        values = drawn(variable(np.float16), RandomUniformKind(least, greatest), 0, LAST_WORD)
        assert np.isfinite(values).all()

    @pytest.mark.parametrize(
        ("minval", "maxval"),
        [
            (1.0, 1.0),
            (1.0, 0.0),
            (math.nan, 1.0),
            (0.0, math.inf),
            (-1e308, 1e308),  # the difference is infinite
            (0.0, 1e39),  # more than a float32
            (1.00000001, 1.00000002),  # no float32 between them
        ],
    )
    def test_bounds_that_make_no_sense_are_refused(self, minval: float, maxval: float) -> None:
        with pytest.raises(InvalidArgumentError, match="variable scope/w "):
            random_draw(variable(np.float32), RandomUniformKind(minval, maxval))


class TestUniformIntegers:
    def test_words_that_would_favour_some_numbers_are_drawn_again(self) -> None:
        draw = random_draw(variable(np.int32), RandomUniformKind(10, 13))  # 2**64 % 3 == 1: one word too many
        numbers = draw(layers({0: [LAST_WORD, 5, LAST_WORD], 1: [7, 0, LAST_WORD], 2: [0, 0, 8]}))
        assert numbers.tolist() == [10 + 7 % 3, 10 + 5 % 3, 10 + 8 % 3]

    def test_no_word_is_refused_where_all_numbers_are_equally_likely(self) -> None:
        draw = random_draw(variable(np.uint8), RandomUniformKind(0, 256))
        assert draw(layers({0: [LAST_WORD, 0, 257]})).tolist() == [255, 0, 1]

    @pytest.mark.parametrize(
        ("dtype", "minval", "maxval"),
        [(np.int64, -(2.0**63), 2.0**63), (np.uint64, 0.0, 2.0**64), (np.int8, -128.0, 128.0)],
    )
    def test_the_whole_range_of_a_type_is_reached(self, dtype: npt.DTypeLike, minval: float, maxval: float) -> None:
        values = drawn(variable(dtype), RandomUniformKind(minval, maxval), 0, LAST_WORD)
        assert values.tolist() == [int(minval), int(maxval) - 1]

    def test_negative_and_positive_numbers_are_equally_frequent(self) -> None:
        stream = WordStream("w", 1)
        numbers = random_draw(variable(np.int32), RandomUniformKind(-3, 4))(
            lambda layer: stream.words(0, 70_000, layer)
        )
        values, counts = np.unique(numbers, return_counts=True)
        assert values.tolist() == list(range(-3, 4))
        assert np.abs(counts - 10_000).max() < 500

    @pytest.mark.parametrize(
        ("minval", "maxval", "reason"),
        [
            (0.5, 3.0, "integers as bounds"),
            (0.0, math.nan, "integers as bounds"),
            (0.0, math.inf, "integers as bounds"),
            (3.0, 3.0, "greater than"),
            (-1.0, 3.0, "range of uint8"),
            (0.0, 257.0, "range of uint8"),
        ],
    )
    def test_bounds_that_make_no_sense_are_refused(self, minval: float, maxval: float, reason: str) -> None:
        with pytest.raises(InvalidArgumentError, match=f"variable scope/w .*{reason}"):
            random_draw(variable(np.uint8), RandomUniformKind(minval, maxval))


class TestNormal:
    @pytest.mark.parametrize("kind", [RandomNormalKind(3.0, 0.0), TruncatedNormalKind(3.0, 0.0)])
    def test_without_deviation_all_values_are_the_mean(self, kind: RandomKind) -> None:
        assert drawn(variable(np.float32), kind, 0, 1 << 63, LAST_WORD).tolist() == [3.0, 3.0, 3.0]

    def test_truncated_values_stay_within_two_standard_deviations(self) -> None:
        values = drawn(variable(np.float64), TruncatedNormalKind(10.0, 0.5), 0, LAST_WORD)
        np.testing.assert_allclose(values, [9.0, 11.0], rtol=1e-13)
        assert (np.abs(values - 10.0) <= 1.0).all()

    @pytest.mark.parametrize(
        "kind",
        [
            RandomNormalKind(0.0, -1.0),
            RandomNormalKind(math.nan, 1.0),
            RandomNormalKind(0.0, math.inf),
            RandomNormalKind(0.0, 8000.0),  # 8.2 deviations are more than a float16
            TruncatedNormalKind(0.0, -1.0),
            TruncatedNormalKind(0.0, 33_000.0),
        ],
    )
    def test_parameters_that_make_no_sense_are_refused(self, kind: RandomKind) -> None:
        with pytest.raises(InvalidArgumentError, match="variable scope/w "):
            random_draw(variable(np.float16), kind)

    def test_as_far_as_a_type_reaches_its_values_are_finite(self) -> None:
        values = drawn(variable(np.float16), RandomNormalKind(0.0, 7900.0), 0, LAST_WORD)
        assert np.isfinite(values).all()


def limit_of(shape: tuple[int, ...], mode: FanMode, scale: float = 1.0) -> float:
    """The greatest value that uniform variance scaling gives."""
    kind = VarianceScalingKind(scale, mode, Distribution.UNIFORM)
    return float(drawn(variable(np.float64, shape), kind, LAST_WORD)[0])


class TestVarianceScaling:
    @pytest.mark.parametrize(
        ("shape", "fan_in", "fan_out"),
        [
            ((), 1, 1),
            ((5,), 5, 5),
            ((3, 7), 3, 7),
            ((3, 3, 8, 16), 72, 144),
            ((5, 8, 16), 40, 80),
            ((2, 3, 4, 8, 16), 192, 384),
            ((0, 7), 1, 7),  # an empty variable counts one input
        ],
    )
    def test_fans_are_those_of_tensorflow(self, shape: tuple[int, ...], fan_in: int, fan_out: int) -> None:
        assert limit_of(shape, FanMode.FAN_IN) == pytest.approx(math.sqrt(3 / fan_in))
        assert limit_of(shape, FanMode.FAN_OUT) == pytest.approx(math.sqrt(3 / fan_out))

    def test_the_average_of_the_fans(self) -> None:
        assert limit_of((3, 7), FanMode.FAN_AVG) == pytest.approx(math.sqrt(6 / (3 + 7)))

    def test_scale_multiplies_the_variance(self) -> None:
        assert limit_of((3, 7), FanMode.FAN_IN, scale=2.0) == pytest.approx(math.sqrt(6 / 3))

    def test_a_part_is_scaled_as_its_whole(self) -> None:
        part = VariableSpec("w/part_0", np.dtype(np.float64), (2, 7), PartitionSlice("w", (300, 7), (0, 0)))
        kind = VarianceScalingKind(1.0, FanMode.FAN_IN, Distribution.UNIFORM)
        assert drawn(part, kind, LAST_WORD)[0] == pytest.approx(math.sqrt(3 / 300))

    @pytest.mark.parametrize("distribution", Distribution)
    def test_the_standard_deviation_does_not_depend_on_the_distribution(self, distribution: Distribution) -> None:
        draw = random_draw(variable(np.float64, (50, 3)), VarianceScalingKind(2.0, FanMode.FAN_IN, distribution))
        numbers = draw(lambda layer: WordStream("w", 1).words(0, 200_000, layer))
        assert numbers.std() == pytest.approx(math.sqrt(2 / 50), rel=0.01)

    @pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
    def test_scales_that_make_no_sense_are_refused(self, scale: float) -> None:
        with pytest.raises(InvalidArgumentError, match=r"variable scope/w .*scale"):
            random_draw(variable(np.float32), VarianceScalingKind(scale, FanMode.FAN_IN, Distribution.UNIFORM))


@pytest.mark.parametrize("dtype", [np.int32, np.bool_, np.complex64, "S4"])
@pytest.mark.parametrize(
    "kind",
    [
        RandomNormalKind(0, 1),
        TruncatedNormalKind(0, 1),
        VarianceScalingKind(1, FanMode.FAN_AVG, Distribution.TRUNCATED_NORMAL),
    ],
)
def test_only_floats_have_a_normal_distribution(dtype: npt.DTypeLike, kind: RandomKind) -> None:
    name = np.dtype(dtype).name
    with pytest.raises(InvalidArgumentError, match=f"variable scope/w .*floats, not {name}; use random_uniform"):
        random_draw(variable(dtype), kind)


@pytest.mark.parametrize("dtype", [np.bool_, np.complex64, "S4"])
def test_only_floats_and_integers_are_uniform(dtype: npt.DTypeLike) -> None:
    with pytest.raises(InvalidArgumentError, match=r"variable scope/w .*makes floats"):
        random_draw(variable(dtype), RandomUniformKind(0, 1))


def test_a_float_type_without_sign_or_zero_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="float8_e8m0fnu"):
        random_draw(variable(ml_dtypes.float8_e8m0fnu), RandomNormalKind(0, 1))
