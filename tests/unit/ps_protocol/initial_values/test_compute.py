from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from ps_protocol.errors import (
    DTypeMismatchError,
    InvalidArgumentError,
    ResourceExhaustedError,
    ShapeMismatchError,
)
from ps_protocol.initial_values import compute as initial_values
from ps_protocol.initial_values.compute import check_initializer, initial_value
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
    ValueKind,
    VarianceScalingKind,
)
from ps_protocol.operations import Array, PartitionSlice, VariableSpec

GLOROT_UNIFORM = VarianceScalingKind(1.0, FanMode.FAN_AVG, Distribution.UNIFORM)
HE_NORMAL = VarianceScalingKind(2.0, FanMode.FAN_IN, Distribution.TRUNCATED_NORMAL)
RANDOM_KINDS: list[InitializerKind] = [
    RandomUniformKind(-1.0, 1.0),
    RandomNormalKind(0.0, 1.0),
    TruncatedNormalKind(0.0, 1.0),
    GLOROT_UNIFORM,
    HE_NORMAL,
]


def made(
    kind: InitializerKind,
    shape: tuple[int, ...] = (2, 2),
    dtype: npt.DTypeLike = np.float32,
    *,
    name: str = "conv1/weights",
    seed: int = 42,
) -> Array:
    return initial_value(VariableSpec(name, np.dtype(dtype), shape), InitializerSpec(kind, seed))


def part(
    kind: InitializerKind, full: tuple[int, ...], offset: tuple[int, ...], shape: tuple[int, ...], seed: int = 42
) -> Array:
    spec = VariableSpec(
        "conv1/weights/part_1", np.dtype(np.float32), shape, PartitionSlice("conv1/weights", full, offset)
    )
    return initial_value(spec, InitializerSpec(kind, seed))


class TestContract:
    """What every ps computes, now and in every later release."""

    @pytest.mark.parametrize(
        ("kind", "dtype", "expected"),
        [
            (RandomUniformKind(-1, 1), np.float64, [-0.6284817658346686, -0.7712307432605165, -0.5289836329852338]),
            (RandomNormalKind(0, 1), np.float64, [-0.8936330929552455, -1.2035352558494183, -0.7208263404931122]),
            (TruncatedNormalKind(0, 1), np.float64, [-0.8414170798356888, -1.1173131401453493, -0.6822430742621866]),
            (GLOROT_UNIFORM, np.float32, [-0.7697297930717468, -0.9445608854293823, -0.6478700041770935]),
            (HE_NORMAL, np.float32, [-0.9565626978874207, -1.270214319229126, -0.7756061553955078]),
            (RandomNormalKind(0, 1), ml_dtypes.bfloat16, [-0.89453125, -1.203125, -0.72265625]),
            (RandomNormalKind(0, 1), np.float16, [-0.8935546875, -1.203125, -0.720703125]),
            (RandomUniformKind(-100, 1000), np.int64, [880, 869, 572]),
            (RandomUniformKind(0, 256), np.uint8, [56, 245, 84]),
        ],
    )
    def test_values_are_frozen_to_the_last_bit(
        self, kind: InitializerKind, dtype: npt.DTypeLike, expected: list[float]
    ) -> None:
        assert made(kind, dtype=dtype).reshape(-1)[:3].astype(np.float64).tolist() == expected

    def test_orthogonal_values_are_frozen_up_to_rounding(self) -> None:
        expected = [[-0.7783472537994385, -0.6278339624404907], [-0.6278339624404907, 0.7783472537994385]]
        np.testing.assert_allclose(made(OrthogonalKind(1.0)), expected, rtol=1e-6)

    def test_elements_far_out_are_frozen_too(self) -> None:
        spec = VariableSpec("w/part_1", np.dtype(np.float64), (3,), PartitionSlice("conv1/weights", (2**40,), (2**39,)))
        expected = [1.3769287290957761, -0.41095450075553525, -0.7164184460859243]
        assert initial_value(spec, InitializerSpec(RandomNormalKind(0, 1), 42)).tolist() == expected

    def test_types_of_ml_dtypes_are_rounded_by_way_of_float32(self) -> None:
        a_little_more_than_half_way = 1.0 + 2.0**-8 + 2.0**-40  # between 1 and the next bfloat16; half way in float32
        value = made(RandomNormalKind(a_little_more_than_half_way, 0.0), dtype=ml_dtypes.bfloat16)
        assert value.astype(np.float64).tolist() == [[1.0, 1.0], [1.0, 1.0]]

    @pytest.mark.parametrize("kind", RANDOM_KINDS)
    def test_names_and_seeds_make_a_difference(self, kind: InitializerKind) -> None:
        values = [
            made(kind, (50,)),
            made(kind, (50,), name="conv2/weights"),
            made(kind, (50,), seed=43),
            made(kind, (50,), seed=-42),
        ]
        assert len({value.tobytes() for value in values}) == len(values)
        correlations = np.corrcoef(values) - np.eye(len(values))
        assert np.abs(correlations).max() < 0.5

    @pytest.mark.parametrize("kind", RANDOM_KINDS)
    def test_the_same_name_and_seed_make_none(self, kind: InitializerKind) -> None:
        np.testing.assert_array_equal(made(kind, (50,)), made(kind, (50,)))

    @pytest.mark.parametrize("kind", [RandomUniformKind(-1.0, 1.0), RandomNormalKind(0.0, 1.0), OrthogonalKind(1.0)])
    @pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
    def test_dtypes_agree_up_to_rounding(self, kind: InitializerKind, dtype: npt.DTypeLike) -> None:
        narrow = made(kind, (40, 50), dtype).astype(np.float64)
        np.testing.assert_allclose(narrow, made(kind, (40, 50), np.float64), rtol=2.0**-8, atol=1e-7)


class TestStatistics:
    SHAPE = (400, 500)

    def test_uniform(self) -> None:
        value = made(RandomUniformKind(2.0, 6.0), self.SHAPE)
        assert value.mean() == pytest.approx(4.0, abs=0.02)
        assert value.std() == pytest.approx(4.0 / math.sqrt(12.0), rel=0.01)
        assert value.min() >= 2.0
        assert value.max() < 6.0

    def test_normal(self) -> None:
        value = made(RandomNormalKind(1.0, 3.0), self.SHAPE)
        assert value.mean() == pytest.approx(1.0, abs=0.05)
        assert value.std() == pytest.approx(3.0, rel=0.01)
        assert np.mean(np.abs(value - 1.0) > 6.0) == pytest.approx(0.0455, abs=0.003)

    def test_truncated_normal(self) -> None:
        value = made(TruncatedNormalKind(1.0, 3.0), self.SHAPE)
        assert value.mean() == pytest.approx(1.0, abs=0.05)
        assert value.std() == pytest.approx(3.0 * 0.8796, rel=0.01)
        assert np.abs(value - 1.0).max() <= 6.0 + 1e-6

    @pytest.mark.parametrize(
        "kind", [GLOROT_UNIFORM, VarianceScalingKind(1.0, FanMode.FAN_AVG, Distribution.TRUNCATED_NORMAL)]
    )
    def test_variance_scaling(self, kind: InitializerKind) -> None:
        assert made(kind, self.SHAPE).std() == pytest.approx(math.sqrt(2 / sum(self.SHAPE)), rel=0.01)

    def test_neighbours_are_independent(self) -> None:
        value = made(RandomNormalKind(0.0, 1.0), self.SHAPE).reshape(-1)
        for distance in (1, 4, 500, 8192):
            assert abs(np.corrcoef(value[:-distance], value[distance:])[0, 1]) < 0.01


class TestParts:
    @pytest.mark.parametrize("kind", [*RANDOM_KINDS, ConstantKind(2.0), IdentityKind(3.0), OrthogonalKind(1.5)])
    @pytest.mark.parametrize(
        ("full", "offset", "shape"),
        [
            ((20_000, 3), (6_000, 0), (9_000, 3)),  # several blocks of one stretch
            ((2, 20_000), (0, 300), (2, 17_000)),  # rows longer than a block
            ((3_000, 7), (0, 2), (3_000, 3)),  # short rows
            ((100, 90), (37, 11), (50, 60)),  # cut along both
        ],
    )
    def test_a_part_has_the_elements_that_the_whole_has_there(
        self, kind: InitializerKind, full: tuple[int, int], offset: tuple[int, int], shape: tuple[int, int]
    ) -> None:
        rows, columns = (slice(start, start + size) for start, size in zip(offset, shape, strict=True))
        np.testing.assert_array_equal(part(kind, full, offset, shape), made(kind, full)[rows, columns])

    def test_drawing_again_does_not_depend_on_the_cut(self) -> None:
        kind = RandomUniformKind(-(2.0**62), 2.0**62 + 2.0**61)  # about a third of the words is refused
        whole = made(kind, (60, 50), np.int64)
        spec = VariableSpec("p", np.dtype(np.int64), (60, 20), PartitionSlice("conv1/weights", (60, 50), (0, 30)))
        np.testing.assert_array_equal(initial_value(spec, InitializerSpec(kind, 42)), whole[:, 30:])

    def test_a_part_is_made_without_the_whole(self) -> None:
        value = part(GLOROT_UNIFORM, (2**40, 8), (2**39, 0), (10, 8))
        assert value.shape == (10, 8)
        assert part(IdentityKind(1.0), (2**40, 2**20), (2**19, 2**19), (3, 3)).tolist() == np.eye(3).tolist()

    def test_blocks_are_not_part_of_the_contract(self, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = made(HE_NORMAL, (300, 70))
        monkeypatch.setattr(initial_values, "_BLOCK", 64)
        np.testing.assert_array_equal(made(HE_NORMAL, (300, 70)), expected)

    def test_a_part_outside_its_whole_is_refused(self) -> None:
        with pytest.raises(InvalidArgumentError, match="does not lie in its whole"):
            part(ConstantKind(0.0), (4, 4), (3, 0), (2, 4))

    def test_an_empty_part_is_empty(self) -> None:
        for kind in (*RANDOM_KINDS, ConstantKind(1.0), IdentityKind(1.0), OrthogonalKind(1.0)):
            assert part(kind, (4, 4), (4, 0), (0, 4)).shape == (0, 4)


class TestConstant:
    @pytest.mark.parametrize(
        ("value", "dtype", "expected"),
        [
            (0.0, np.float32, 0.0),
            (0.1, np.float32, np.float32(0.1)),
            (math.inf, np.float16, math.inf),
            (3.4028235e38, np.float32, np.finfo(np.float32).max),  # as it is usually written, a little too great
            (-7.0, np.int8, -7),
            (2.0**63, np.uint64, 2**63),
            (0.0, np.bool_, False),
            (1.0, np.bool_, True),
            (2.5, np.complex64, 2.5 + 0j),
            (0.0, "S8", b""),
            (1.5, ml_dtypes.bfloat16, 1.5),
            (-8.0, ml_dtypes.int4, -8),
            (448.0, ml_dtypes.float8_e4m3fn, 448.0),
        ],
    )
    def test_it_is_everywhere(self, value: float, dtype: npt.DTypeLike, expected: Any) -> None:
        result = made(ConstantKind(value), (2, 3), dtype)
        assert result.dtype == np.dtype(dtype)
        assert (result == expected).all()
        assert result.shape == (2, 3)

    def test_nan_and_negative_zero_stay(self) -> None:
        assert np.isnan(made(ConstantKind(math.nan))).all()
        assert np.signbit(made(ConstantKind(-0.0))).all()

    @pytest.mark.parametrize(
        ("value", "dtype"),
        [
            (0.5, np.int32),
            (300.0, np.uint8),
            (-1.0, np.uint8),
            (2.0**63, np.int64),
            (math.nan, np.int32),
            (math.inf, np.int32),
            (2.0, np.bool_),
            (1.0, "S8"),
            (1e39, np.float32),
            (1e39, np.complex64),
            (70_000.0, np.float16),
            (449.0, ml_dtypes.float8_e4m3fn),
            (math.inf, ml_dtypes.float8_e4m3fn),
            (0.0, ml_dtypes.float8_e8m0fnu),
        ],
    )
    def test_what_the_dtype_cannot_hold_is_refused(self, value: float, dtype: npt.DTypeLike) -> None:
        with pytest.raises(InvalidArgumentError, match=f"variable conv1/weights .*{np.dtype(dtype).name}"):
            made(ConstantKind(value), dtype=dtype)

    def test_scalars_and_empty_variables(self) -> None:
        assert made(ConstantKind(5.0), ()).shape == ()
        assert made(ConstantKind(5.0), (0, 3)).shape == (0, 3)


class TestIdentity:
    def test_a_matrix_need_not_be_square(self) -> None:
        np.testing.assert_array_equal(made(IdentityKind(2.0), (2, 3)), 2.0 * np.eye(2, 3))

    def test_it_suits_integers_if_the_gain_does(self) -> None:
        np.testing.assert_array_equal(made(IdentityKind(2.0), (3, 3), np.int32), 2 * np.eye(3, dtype=np.int32))
        with pytest.raises(InvalidArgumentError, match="gain"):
            made(IdentityKind(0.5), (3, 3), np.int32)

    @pytest.mark.parametrize("shape", [(), (3,), (3, 3, 3)])
    def test_only_matrices_have_one(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(InvalidArgumentError, match=r"variable conv1/weights .*two dimensions"):
            made(IdentityKind(1.0), shape)


class TestOrthogonal:
    @pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (2, 3, 4), (3, 3, 4, 50)])
    def test_rows_or_columns_are_orthogonal(self, shape: tuple[int, ...]) -> None:
        matrix = made(OrthogonalKind(2.0), shape, np.float64).reshape(-1, shape[-1])
        if matrix.shape[0] < matrix.shape[1]:
            matrix = matrix.T
        np.testing.assert_allclose(matrix.T @ matrix, 4.0 * np.eye(matrix.shape[1]), atol=1e-12)

    def test_signs_are_those_that_make_the_diagonal_of_r_positive(self) -> None:
        normal = made(RandomNormalKind(0.0, 1.0), (6, 4), np.float64)
        r = made(OrthogonalKind(1.0), (6, 4), np.float64).T @ normal
        assert (np.diagonal(r) > 0).all()
        np.testing.assert_allclose(np.tril(r, -1), 0.0, atol=1e-12)

    @pytest.mark.parametrize("shape", [(), (3,)])
    def test_a_vector_is_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(InvalidArgumentError, match=r"variable conv1/weights .*two dimensions"):
            made(OrthogonalKind(1.0), shape)

    @pytest.mark.parametrize("gain", [math.inf, math.nan, 1e39])
    def test_a_gain_beyond_the_dtype_is_refused(self, gain: float) -> None:
        with pytest.raises(InvalidArgumentError, match="variable conv1/weights "):
            made(OrthogonalKind(gain))

    def test_integers_are_refused(self) -> None:
        with pytest.raises(InvalidArgumentError, match="floats, not int32"):
            made(OrthogonalKind(1.0), dtype=np.int32)


class TestValue:
    def test_it_is_copied(self) -> None:
        given = np.arange(4, dtype=np.float32).reshape(2, 2)
        result = made(ValueKind(given))
        np.testing.assert_array_equal(result, given)
        assert not np.shares_memory(result, given)

    def test_a_copy_is_in_native_order_and_contiguous(self) -> None:
        result = made(ValueKind(np.arange(4, dtype=">f4").reshape(2, 2).T))
        assert result.flags.c_contiguous
        assert result.dtype.isnative
        assert result.tolist() == [[0.0, 2.0], [1.0, 3.0]]

    def test_another_shape_is_refused_with_both_sides(self) -> None:
        with pytest.raises(ShapeMismatchError, match=r"conv1/weights \(float32\[2, 2\]\).*shape \[4\]") as caught:
            made(ValueKind(np.zeros(4, np.float32)))
        assert caught.value.variable == "conv1/weights"

    def test_another_dtype_is_refused_with_both_sides(self) -> None:
        with pytest.raises(DTypeMismatchError, match=r"conv1/weights \(float32\[2, 2\]\).*float64") as caught:
            made(ValueKind(np.zeros((2, 2), np.float64)))
        assert caught.value.variable == "conv1/weights"


def test_a_check_finds_what_making_the_value_would_find() -> None:
    spec = VariableSpec("w", np.dtype(np.int32), (2**40,))
    check_initializer(spec, InitializerSpec(ConstantKind(1.0)))  # takes no memory
    with pytest.raises(InvalidArgumentError):
        check_initializer(spec, InitializerSpec(ConstantKind(0.5)))


def test_lack_of_memory_is_an_error_that_names_the_variable() -> None:
    with pytest.raises(ResourceExhaustedError, match=r"variable conv1/weights .*no memory") as caught:
        made(RandomNormalKind(0.0, 1.0), (2**58,))
    assert not caught.value.retryable


def test_an_error_names_each_variable_it_is_raised_for() -> None:
    for name in ("first", "second"):
        spec = VariableSpec(name, np.dtype(np.int32), (2,))
        with pytest.raises(InvalidArgumentError, match=name) as caught:
            check_initializer(spec, InitializerSpec(ConstantKind(0.25)))
        assert caught.value.variable == name


def test_parts_are_checked_where_they_lie() -> None:
    initializer = InitializerSpec(ConstantKind(1.0))
    inside, outside = (
        VariableSpec("part", np.dtype(np.float32), (2,), PartitionSlice("whole", (4,), (offset,))) for offset in (2, 3)
    )
    check_initializer(inside, initializer)
    with pytest.raises(InvalidArgumentError, match="does not lie in its whole"):
        check_initializer(outside, initializer)
