from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

import ps_protocol.initializer_spec as kinds
from ps_protocol.errors import DTypeMismatchError, ShapeMismatchError
from ps_protocol.initial_values.compute import initial_value
from ps_protocol.operations import Array, PartitionSlice, VariableSpec
from worker_client import initializers
from worker_client.initializers.base import Initializer
from worker_client.initializers.standard import default_initializer, initializer_spec
from worker_client.values import dtypes
from worker_client.values.partition_info import PartitionInfo
from worker_client.variables import partitioners

JOB_SEED = 7
SIGNATURES = Path(__file__).parents[3] / "conformance" / "reference" / "api_signatures.txt"


def variable(dtype: npt.DTypeLike = np.float32, shape: tuple[int, ...] = (4,)) -> VariableSpec:
    return VariableSpec("scope/w", np.dtype(dtype), shape)


def part(offset: tuple[int, ...], shape: tuple[int, ...], full: tuple[int, ...]) -> VariableSpec:
    return VariableSpec("scope/w/part_1", np.dtype(np.float32), shape, PartitionSlice("scope/w", full, offset))


def kind_of(initializer: object, spec: VariableSpec | None = None) -> kinds.InitializerKind:
    return initializer_spec(initializer, spec or variable(), JOB_SEED).kind


def sent(initializer: object, spec: VariableSpec) -> Array:
    """The value that the worker has computed for the ps."""
    kind = kind_of(initializer, spec)
    assert isinstance(kind, kinds.ValueKind)
    assert kind.array.dtype == spec.dtype
    return kind.array


def recorded_signatures(section: str) -> dict[str, str]:
    text = SIGNATURES.read_text().split(f"## {section}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^(?:\w+\.)?(\w+)\((.*)\)$", text, re.MULTILINE))


class TestSignatures:
    @pytest.mark.parametrize(("name", "arguments"), recorded_signatures("initializers").items())
    def test_initializers_take_what_tensorflows_take(self, name: str, arguments: str) -> None:
        assert signature(getattr(initializers, name).__init__) == arguments

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [item for item in recorded_signatures("partitioners").items() if item[0].endswith("partitioner")],
    )
    def test_partitioners_take_what_tensorflows_take(self, name: str, arguments: str) -> None:
        assert signature(getattr(partitioners, name)) == arguments


def signature(function: Callable[..., Any]) -> str:
    parameters = inspect.signature(function).parameters.values()
    listed = ", ".join(str(each.replace(annotation=inspect.Parameter.empty)) for each in parameters)
    return listed.replace("tf.", "")


class TestDescriptions:
    """What an initializer tells the ps."""

    @pytest.mark.parametrize(
        ("initializer", "kind"),
        [
            (initializers.Zeros(), kinds.ConstantKind(0.0)),
            (initializers.Ones(), kinds.ConstantKind(1.0)),
            (initializers.Constant(0.25), kinds.ConstantKind(0.25)),
            (initializers.Constant(np.float32(0.1)), kinds.ConstantKind(float(np.float32(0.1)))),
            (initializers.RandomUniform(), kinds.RandomUniformKind(0.0, 1.0)),
            (initializers.RandomUniform(-2, 3), kinds.RandomUniformKind(-2.0, 3.0)),
            (initializers.RandomNormal(), kinds.RandomNormalKind(0.0, 1.0)),
            (initializers.RandomNormal(1, 2), kinds.RandomNormalKind(1.0, 2.0)),
            (initializers.TruncatedNormal(1, 2), kinds.TruncatedNormalKind(1.0, 2.0)),
            (
                initializers.VarianceScaling(),
                kinds.VarianceScalingKind(1.0, kinds.FanMode.FAN_IN, kinds.Distribution.TRUNCATED_NORMAL),
            ),
            (
                initializers.VarianceScaling(3, "fan_out", "Normal"),
                kinds.VarianceScalingKind(3.0, kinds.FanMode.FAN_OUT, kinds.Distribution.TRUNCATED_NORMAL),
            ),
            (
                initializers.VarianceScaling(3, "fan_avg", "untruncated_normal"),
                kinds.VarianceScalingKind(3.0, kinds.FanMode.FAN_AVG, kinds.Distribution.UNTRUNCATED_NORMAL),
            ),
            (
                initializers.glorot_uniform_initializer(),
                kinds.VarianceScalingKind(1.0, kinds.FanMode.FAN_AVG, kinds.Distribution.UNIFORM),
            ),
            (
                initializers.glorot_normal_initializer(),
                kinds.VarianceScalingKind(1.0, kinds.FanMode.FAN_AVG, kinds.Distribution.TRUNCATED_NORMAL),
            ),
            (
                initializers.he_uniform(),
                kinds.VarianceScalingKind(2.0, kinds.FanMode.FAN_IN, kinds.Distribution.UNIFORM),
            ),
            (
                initializers.he_normal(),
                kinds.VarianceScalingKind(2.0, kinds.FanMode.FAN_IN, kinds.Distribution.TRUNCATED_NORMAL),
            ),
            (
                initializers.lecun_uniform(),
                kinds.VarianceScalingKind(1.0, kinds.FanMode.FAN_IN, kinds.Distribution.UNIFORM),
            ),
            (
                initializers.lecun_normal(),
                kinds.VarianceScalingKind(1.0, kinds.FanMode.FAN_IN, kinds.Distribution.TRUNCATED_NORMAL),
            ),
            (initializers.Orthogonal(2), kinds.OrthogonalKind(2.0)),
            (initializers.Identity(2), kinds.IdentityKind(2.0)),
            (initializers.UniformUnitScaling(0.0), kinds.ConstantKind(0.0)),
        ],
    )
    def test_kinds(self, initializer: Initializer, kind: kinds.InitializerKind) -> None:
        assert kind_of(initializer, variable(shape=(5, 6))) == kind

    def test_unit_scaling_counts_the_inputs_of_the_whole(self) -> None:
        kind = kind_of(initializers.UniformUnitScaling(1.15), part((2, 0), (2, 7), (12, 7)))
        assert isinstance(kind, kinds.RandomUniformKind)
        assert (kind.minval, kind.maxval) == pytest.approx((-0.5 * 1.15, 0.5 * 1.15))

    def test_the_job_s_seed_counts_unless_there_is_another(self) -> None:
        assert initializer_spec(initializers.RandomNormal(), variable(), JOB_SEED).seed == JOB_SEED
        assert initializer_spec(initializers.RandomNormal(seed=5), variable(), JOB_SEED).seed == 5
        assert initializer_spec(initializers.he_normal(seed=0), variable(), JOB_SEED).seed == 0

    def test_with_a_seed_of_its_own_the_name_does_not_count(self) -> None:
        assert not initializer_spec(initializers.RandomNormal(), variable(), JOB_SEED).seed_alone
        assert initializer_spec(initializers.RandomNormal(seed=5), variable(), JOB_SEED).seed_alone
        assert initializer_spec(initializers.he_normal(seed=0), variable(), JOB_SEED).seed_alone

    @pytest.mark.parametrize(("seed", "travels_as"), [(2**63, -(2**63)), (2**64 + 3, 3), (np.int32(4), 4)])
    def test_a_seed_of_any_size_travels(self, seed: int, travels_as: int) -> None:
        assert initializer_spec(initializers.RandomNormal(seed=seed), variable(), JOB_SEED).seed == travels_as
        assert initializer_spec(initializers.RandomNormal(), variable(), seed).seed == travels_as

    @pytest.mark.parametrize(
        ("initializer", "spec"),
        [
            (initializers.Orthogonal(), variable(shape=(4,))),
            (initializers.Identity(), variable(shape=(4,))),
            (initializers.RandomNormal(), variable(np.int32)),
            (initializers.RandomNormal(stddev=-1.0), variable()),
            (initializers.RandomUniform(1.0, 0.0), variable()),
            (initializers.RandomUniform(0), variable(np.int32)),
            (initializers.RandomUniform(0, 2**63 - 1), variable(np.int64)),  # a double would make it 2**63
            (initializers.Constant(300), variable(np.int8)),
            (initializers.Ones(), variable("S4")),
        ],
    )
    def test_what_does_not_suit_the_variable_is_a_value_error_at_once(
        self, initializer: Initializer, spec: VariableSpec
    ) -> None:
        with pytest.raises(ValueError, match="variable scope/w"):
            initializer_spec(initializer, spec, JOB_SEED)

    @pytest.mark.parametrize(
        "arguments", [{"scale": 0.0}, {"scale": -1.0}, {"mode": "fan_inn"}, {"distribution": "poisson"}]
    )
    def test_variance_scaling_checks_its_arguments(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(arguments))):
            initializers.VarianceScaling(**arguments)

    @pytest.mark.parametrize(
        "initializer_type",
        [
            initializers.RandomNormal,
            initializers.TruncatedNormal,
            initializers.UniformUnitScaling,
            initializers.VarianceScaling,
            initializers.GlorotUniform,
            initializers.Orthogonal,
            initializers.Identity,
        ],
    )
    def test_some_are_of_floats_only(self, initializer_type: Callable[..., Initializer]) -> None:
        assert initializer_type(dtype="bfloat16").dtype == dtypes.bfloat16
        with pytest.raises(ValueError, match="int32"):
            initializer_type(dtype=np.int32)


class TestConstant:
    @pytest.mark.parametrize(
        ("value", "dtype"), [(0.5, np.int32), ([1, 2.5], np.int64), ("a", np.float32), (0.5, np.bool_), (1.0, "S4")]
    )
    def test_another_kind_of_elements_is_a_type_error_at_once(self, value: Any, dtype: Any) -> None:
        with pytest.raises(TypeError, match="scope/w") as caught:
            kind_of(initializers.Constant(value), variable(dtype))
        assert type(caught.value) is TypeError

    def test_a_list_fills_the_variable_and_its_last_element_the_rest(self) -> None:
        value = sent(initializers.Constant([0, 1, 2, 3]), variable(shape=(2, 3)))
        assert value.tolist() == [[0.0, 1.0, 2.0], [3.0, 3.0, 3.0]]

    def test_an_array_is_taken_in_c_order_whatever_its_shape(self) -> None:
        value = sent(initializers.Constant(np.arange(6).reshape(3, 2)), variable(np.int64, (2, 3)))
        assert value.tolist() == [[0, 1, 2], [3, 4, 5]]

    def test_a_part_gets_what_the_whole_would_have_there(self) -> None:
        initializer = initializers.Constant(list(range(9)))
        whole = sent(initializer, variable(shape=(3, 4)))
        assert sent(initializer, part((0, 1), (3, 2), (3, 4))).tolist() == whole[:, 1:3].tolist()
        assert sent(initializer, part((2, 0), (1, 4), (3, 4))).tolist() == [[8.0, 8.0, 8.0, 8.0]]

    def test_a_longer_list_is_an_error(self) -> None:
        with pytest.raises(ValueError, match=r"variable scope/w .*too many elements provided: 6 needed, 8 received"):
            kind_of(initializers.Constant(list(range(8))), variable(shape=(2, 3)))

    def test_a_list_without_elements_fills_nothing(self) -> None:
        with pytest.raises(ValueError, match="no elements"):
            kind_of(initializers.Constant([]), variable())
        assert sent(initializers.Constant([]), variable(shape=(0,))).shape == (0,)

    def test_its_shape_may_be_verified(self) -> None:
        initializer = initializers.Constant([[1, 2], [3, 4]], verify_shape=True)
        assert sent(initializer, variable(shape=(2, 2))).tolist() == [[1.0, 2.0], [3.0, 4.0]]
        with pytest.raises(TypeError, match=r"variable scope/w .*shape \[2, 2\], expected is \[4\]"):
            kind_of(initializer, variable(shape=(4,)))
        with pytest.raises(TypeError, match="expected is"):
            kind_of(initializers.Constant(1, verify_shape=True), variable(shape=(4,)))

    def test_its_shape_may_be_verified_in_a_call(self) -> None:
        with pytest.raises(TypeError, match="expected is"):
            initializers.Constant([1, 2, 3, 4])([2, 2], verify_shape=True)
        value = initializers.Constant([1, 2, 3, 4], verify_shape=True)([2, 2], verify_shape=False)
        assert value.tolist() == [[1.0, 2.0], [3.0, 4.0]]

    @pytest.mark.parametrize(
        ("value", "dtype"), [(2**53 + 1, np.int64), (2**64 - 1, np.uint64), (1 + 2j, np.complex64), (b"abc", "S4")]
    )
    def test_what_a_double_does_not_hold_is_sent_whole(self, value: Any, dtype: npt.DTypeLike) -> None:
        assert sent(initializers.Constant(value), variable(dtype, (2,))).tolist() == [value, value]

    def test_text_is_sent_as_utf_8(self) -> None:
        assert sent(initializers.Constant("größe"), variable("S8", (1,))).tolist() == ["größe".encode()]

    @pytest.mark.parametrize("value", [None, {"a": 1}, object()])
    def test_only_numbers_bytes_lists_and_arrays(self, value: Any) -> None:
        with pytest.raises(TypeError, match="a list or an array"):
            initializers.Constant(value)


class TestCalls:
    def test_shape_and_dtype(self) -> None:
        value = initializers.he_normal()([3, 3, 8, 16], dtype=dtypes.bfloat16)
        assert (value.shape, value.dtype) == ((3, 3, 8, 16), ml_dtypes.bfloat16)
        assert initializers.Zeros(dtype=np.int32)((2,)).dtype == np.int32
        assert initializers.Ones()([]).tolist() == 1.0

    def test_without_a_seed_each_call_draws_anew(self) -> None:
        initializer = initializers.RandomNormal()
        assert initializer([8]).tolist() != initializer([8]).tolist()

    def test_with_a_seed_each_call_draws_the_same(self) -> None:
        assert initializers.RandomNormal(seed=3)([8]).tolist() == initializers.RandomNormal(seed=3)([8]).tolist()

    @pytest.mark.parametrize(
        "initializer", [initializers.GlorotUniform(seed=1), initializers.Orthogonal(seed=1), initializers.Identity()]
    )
    def test_a_part_is_told_by_its_partition_info(self, initializer: Initializer) -> None:
        whole = initializer([6, 5])
        value = initializer([2, 5], partition_info=PartitionInfo([6, 5], [3, 0]))
        np.testing.assert_array_equal(value, whole[3:5])

    def test_misuse_is_a_value_error(self) -> None:
        with pytest.raises(ValueError, match="two dimensions"):
            initializers.Orthogonal()([4])

    def test_the_base_makes_nothing(self) -> None:
        with pytest.raises(NotImplementedError):
            Initializer()([4])


class TestConfig:
    @pytest.mark.parametrize(
        ("initializer", "config"),
        [
            (initializers.Zeros("int32"), {"dtype": "int32"}),
            (initializers.Ones(), {"dtype": "float32"}),
            (initializers.Constant([1, 2]), {"value": [1, 2], "dtype": "float32"}),
            (initializers.RandomUniform(1, 2, 3), {"minval": 1, "maxval": 2, "seed": 3, "dtype": "float32"}),
            (initializers.RandomNormal(1, 2, 3), {"mean": 1, "stddev": 2, "seed": 3, "dtype": "float32"}),
            (initializers.TruncatedNormal(1, 2, 3), {"mean": 1, "stddev": 2, "seed": 3, "dtype": "float32"}),
            (initializers.UniformUnitScaling(2.0), {"factor": 2.0, "seed": None, "dtype": "float32"}),
            (
                initializers.VarianceScaling(2.0, "fan_out", "UNIFORM"),
                {"scale": 2.0, "mode": "fan_out", "distribution": "uniform", "seed": None, "dtype": "float32"},
            ),
            (initializers.GlorotNormal(4, "float64"), {"seed": 4, "dtype": "float64"}),
            (initializers.Orthogonal(2.0, 3), {"gain": 2.0, "seed": 3, "dtype": "float32"}),
            (initializers.Identity(2.0), {"gain": 2.0, "dtype": "float32"}),
            (Initializer(), {}),
        ],
    )
    def test_the_same_initializer_comes_back(self, initializer: Initializer, config: dict[str, Any]) -> None:
        assert initializer.get_config() == config
        again = type(initializer).from_config(config)
        assert vars(again) == vars(initializer)


class TestWhatUsersGive:
    def test_a_class_is_called_first(self) -> None:
        assert kind_of(initializers.he_normal, variable(shape=(2, 2))) == kind_of(
            initializers.HeNormal(), variable(shape=(2, 2))
        )

    def test_nothing_means_the_default(self) -> None:
        assert kind_of(None) == kind_of(initializers.GlorotUniform())
        assert kind_of(None, variable(np.int32)) == kinds.ConstantKind(0.0)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
    def test_floats_are_glorot_uniform_by_default(self, dtype: str) -> None:
        assert isinstance(default_initializer(dtype), initializers.GlorotUniform)

    @pytest.mark.parametrize("dtype", ["int8", "uint64", "bool", "string", "S4"])
    def test_integers_bools_and_bytes_are_zeros_by_default(self, dtype: str) -> None:
        assert isinstance(default_initializer(dtype), initializers.Zeros)

    def test_anything_else_has_no_default(self) -> None:
        with pytest.raises(ValueError, match="variable scope/w of complex64 needs an initializer"):
            initializer_spec(None, variable(np.complex64), JOB_SEED)

    @pytest.mark.parametrize("value", [[23, 42], (23, 42), np.array([23, 42]), np.array([23.0, 42.0], np.float16)])
    def test_lists_and_arrays_are_sent(self, value: object) -> None:
        assert sent(value, variable(shape=(2,))).tolist() == [23.0, 42.0]

    def test_numbers_are_sent(self) -> None:
        assert sent(0.5, variable(shape=())).tolist() == 0.5

    def test_what_is_sent_no_longer_belongs_to_the_user(self) -> None:
        given = np.zeros(4, np.float32)
        assert not np.shares_memory(sent(given, variable()), given)

    def test_a_part_gets_its_part_of_an_array(self) -> None:
        whole = np.arange(12.0).reshape(3, 4)
        value = sent(whole, part((0, 1), (3, 2), (3, 4)))
        np.testing.assert_array_equal(value, whole[:, 1:3])
        assert value.flags.c_contiguous

    def test_another_shape_is_refused_with_both_sides(self) -> None:
        with pytest.raises(ShapeMismatchError, match=r"variable scope/w .*shape \[3\], expected is \[4\]"):
            kind_of([1, 2, 3])
        with pytest.raises(ShapeMismatchError, match=r"part_1 .*shape \[1, 4\], expected is \[3, 4\]"):
            kind_of(np.zeros((1, 4)), part((2, 0), (1, 4), (3, 4)))

    @pytest.mark.parametrize(
        ("value", "dtype"),
        [
            ([0.5], np.int32),
            ([1j], np.float32),
            ([1j], ml_dtypes.bfloat16),
            ([1], np.bool_),
            (["a"], np.float32),
            ([1.0], "S4"),
            ([b"long"], "S3"),
            ([object()], np.float32),
        ],
    )
    def test_another_kind_of_elements_is_refused(self, value: object, dtype: npt.DTypeLike) -> None:
        with pytest.raises(DTypeMismatchError, match="variable scope/w") as caught:
            kind_of(value, variable(dtype, (1,)))
        assert caught.value.variable == "scope/w"

    @pytest.mark.parametrize(
        ("value", "dtype"),
        [
            ([300], np.uint8),
            ([-1], np.uint64),
            ([2**64 - 1], np.int64),
            ([1e39], np.float32),
            ([70_000], np.float16),
            ([1e39], np.complex64),
        ],
    )
    def test_elements_out_of_range_are_refused(self, value: object, dtype: npt.DTypeLike) -> None:
        with pytest.raises(ValueError, match=r"variable scope/w .*out of the range"):
            kind_of(value, variable(dtype, (1,)))

    @pytest.mark.parametrize(
        ("value", "dtype"),
        [
            ([255], np.uint8),
            ([True], np.int8),
            ([math.inf], np.float16),
            ([2], np.complex64),
            ([2.5], ml_dtypes.bfloat16),
            ([b"ab"], "S4"),
            ([True], np.bool_),
        ],
    )
    def test_elements_that_keep_their_kind_are_converted(self, value: list[Any], dtype: npt.DTypeLike) -> None:
        assert sent(value, variable(dtype, (1,))).tolist() == value


class TestFunctions:
    def test_they_are_called_with_a_list_and_a_dtype(self) -> None:
        calls = []

        def initializer(shape: list[int], dtype: dtypes.DType) -> Array:
            calls.append((shape, dtype))
            return np.full(shape, 2.0)

        assert sent(initializer, variable(shape=(2, 3))).tolist() == [[2.0] * 3] * 2
        assert calls == [([2, 3], dtypes.float32)]
        assert calls[0][1].is_floating

    def test_functions_of_numpy_serve(self) -> None:
        assert sent(np.ones, variable(ml_dtypes.bfloat16, (2,))).tolist() == [1.0, 1.0]
        assert sent(np.zeros, variable(np.int64, (2,))).tolist() == [0, 0]

    def test_partition_info_goes_to_those_that_have_a_parameter_for_it(self) -> None:
        seen: list[object] = []

        def initializer(shape: list[int], dtype: object, partition_info: PartitionInfo | None = None) -> Array:
            seen.append(partition_info and (partition_info.full_shape, partition_info.var_offset))
            return np.zeros(shape)

        def without(shape: list[int], **keywords: object) -> Array:
            seen.append(list(keywords))
            return np.zeros(shape)

        for each in (initializer, without):
            kind_of(each, part((2, 0), (2, 4), (6, 4)))
            kind_of(each)
        assert seen == [([6, 4], [2, 0]), None, ["dtype"], ["dtype"]]

    def test_another_shape_is_refused(self) -> None:
        with pytest.raises(ShapeMismatchError, match=r"variable scope/w .*shape \[\], expected is \[4\]"):
            kind_of(lambda shape, dtype: 1.0)

    def test_an_error_inside_names_the_variable(self) -> None:
        def initializer(shape: list[int], dtype: object) -> Array:
            raise KeyError("mine")

        with pytest.raises(KeyError) as caught:
            kind_of(initializer)
        assert any("variable scope/w " in note for note in caught.value.__notes__)

    def test_a_subclass_with_a_call_of_its_own_is_called(self) -> None:
        class Doubled(initializers.Ones):
            def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Array:
                return 2 * super().__call__(shape, dtype, partition_info)

        assert sent(Doubled(), variable()).tolist() == [2.0] * 4
        assert sent(Doubled, variable()).tolist() == [2.0] * 4

    def test_a_subclass_of_the_base_is_called(self) -> None:
        class Twos(Initializer):
            def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Array:
                return np.full(shape, 2, dtype)

        assert sent(Twos(), variable()).tolist() == [2.0] * 4

    def test_a_subclass_that_describes_itself_is_not_called(self) -> None:
        class Threes(initializers.Ones):
            def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Array:
                raise AssertionError("called")

            def describe(self, _variable: VariableSpec, /) -> kinds.ConstantKind:
                return kinds.ConstantKind(3.0)

        assert kind_of(Threes()) == kinds.ConstantKind(3.0)


def test_what_is_described_can_be_computed() -> None:
    spec = variable(shape=(3, 4))
    for initializer in (
        initializers.he_normal(),
        initializers.Constant([1, 2, 3]),
        lambda shape, dtype: np.ones(shape),
    ):
        assert initial_value(spec, initializer_spec(initializer, spec, JOB_SEED)).shape == (3, 4)
