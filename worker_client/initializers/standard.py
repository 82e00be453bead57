"""TensorFlow 1's initializers, and what else users give as one, described for the ps.

An initializer of this module describes itself (``spec``), and the ps computes the value from the variable's full name
and the job's seed; a ``seed`` of its own takes the place of both. Everything else (arrays, numbers, functions,
subclasses with a ``__call__`` of their own) is computed in the worker and sent as a value. Called directly, as
``he_normal()([3, 3, 8, 16])``, an initializer returns an array, with a seed the same one each time.

Signatures and formulas are TensorFlow 1's (``init_ops.py``). The names with a capital are the classes, those that
TensorFlow 1 offers at its top level are aliases at the end.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

import ps_protocol.initializer_spec as kinds
from ps_protocol.initial_values.variable_layout import full_shape, subject
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array, VariableSpec
from worker_client.initializers.arrays import called_value, part_value, repeated_value
from worker_client.initializers.base import DescribedInitializer, Initializer
from worker_client.values.conversion import keeps_kind
from worker_client.values.dtypes import DType, as_dtype, float32
from worker_client.values.partition_info import PartitionInfo, Shape

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "UniformUnitScaling",
    "VarianceScaling",
    "Zeros",
    "constant_initializer",
    "glorot_normal_initializer",
    "glorot_uniform_initializer",
    "he_normal",
    "he_uniform",
    "identity",
    "identity_initializer",
    "lecun_normal",
    "lecun_uniform",
    "ones_initializer",
    "orthogonal_initializer",
    "random_normal_initializer",
    "random_uniform_initializer",
    "truncated_normal_initializer",
    "uniform_unit_scaling_initializer",
    "variance_scaling_initializer",
    "zeros_initializer",
]


class Zeros(DescribedInitializer):
    """Zeros; False, or empty bytes."""

    op_name, op_type = "zeros", "Const"

    def __init__(self, dtype: npt.DTypeLike = float32):
        self.dtype = DType(as_dtype(dtype))

    def describe(self, _variable: VariableSpec, /) -> kinds.ConstantKind:
        return kinds.ConstantKind(0.0)

    def get_config(self) -> dict[str, Any]:
        return {"dtype": self.dtype.name}


class Ones(DescribedInitializer):
    """Ones, or True."""

    op_name, op_type = "ones", "Const"

    def __init__(self, dtype: npt.DTypeLike = float32):
        self.dtype = DType(as_dtype(dtype))

    def describe(self, _variable: VariableSpec, /) -> kinds.ConstantKind:
        return kinds.ConstantKind(1.0)

    def get_config(self) -> dict[str, Any]:
        return {"dtype": self.dtype.name}


class Constant(DescribedInitializer):
    """A number everywhere, or the elements of a list in C order, the last one repeated to the end.

    Of a partitioned variable the list fills the whole, not each part.

    Args:
        value: A number, bytes, or a list or array of them.
        dtype: Used if a call names none.
        verify_shape: Whether ``value`` must have the shape of the variable.

    Raises:
        TypeError: The value is none of these.
    """

    op_name, op_type, is_one_constant = "Const", "Const", True

    def __init__(self, value: npt.ArrayLike = 0, dtype: npt.DTypeLike = float32, verify_shape: bool = False):
        if not (np.isscalar(value) or isinstance(value, list | tuple | np.ndarray)):
            raise TypeError(f"the value of a constant must be a number, bytes, a list or an array, not {type(value)}")
        self.value = value
        self.dtype = DType(as_dtype(dtype))
        self._verify_shape = verify_shape

    def __call__(
        self,
        shape: Shape,
        dtype: npt.DTypeLike | None = None,
        partition_info: PartitionInfo | None = None,
        verify_shape: bool | None = None,
    ) -> Array:
        if verify_shape is None or verify_shape == self._verify_shape:
            return super().__call__(shape, dtype, partition_info)
        return Constant(self.value, self.dtype, verify_shape)(shape, dtype, partition_info)

    def describe(self, variable: VariableSpec, /) -> kinds.ConstantKind | kinds.ValueKind:
        if self._verify_shape and np.shape(self.value) != full_shape(variable):
            raise TypeError(
                f"{subject(variable)}: the constant has shape {list(np.shape(self.value))}, expected is "
                f"{list(full_shape(variable))}"
            )
        number = _double(self.value)
        if number is not None:
            return kinds.ConstantKind(number)
        return kinds.ValueKind(repeated_value(self.value, variable))

    def _description(self, variable: VariableSpec, job_seed: int) -> kinds.InitializerSpec:
        try:
            return super()._description(variable, job_seed)
        except (TypeError, ValueError) as error:
            raise_interrupt(error)
            given = np.asarray(self.value).dtype
            if given.kind not in "biufcSU" or keeps_kind(given, variable.dtype):
                raise
            raise TypeError(str(error)) from error  # TensorFlow 1's error, in place of our own kinds of it

    def get_config(self) -> dict[str, Any]:
        return {"value": self.value, "dtype": self.dtype.name}


class RandomUniform(DescribedInitializer):
    """Uniform in [minval, maxval).

    Args:
        minval: Least value.
        maxval: Upper bound; 1 for floats, to be given for integers.
        seed: Decides the numbers alone, instead of the job's seed and the variable's name.
        dtype: Used if a call names none.
    """

    op_name = "random_uniform"

    def __init__(
        self,
        minval: float = 0.0,
        maxval: float | None = None,
        seed: int | None = None,
        dtype: npt.DTypeLike = float32,
    ):
        self.minval = minval
        self.maxval = maxval
        self.seed = seed
        self.dtype = DType(as_dtype(dtype))

    def describe(self, variable: VariableSpec, /) -> kinds.RandomUniformKind:
        if self.maxval is None and DType(variable.dtype).is_integer:
            raise ValueError(f"{subject(variable)}: random_uniform of integers needs a maxval")
        minval, maxval = _double(self.minval), _double(1.0 if self.maxval is None else self.maxval)
        if minval is None or maxval is None:
            raise ValueError(
                f"{subject(variable)}: the bounds {self.minval} and {self.maxval} must be numbers that a double holds "
                f"exactly; take rounder ones, such as 2**63 for the upper"
            )
        return kinds.RandomUniformKind(minval, maxval)

    def get_config(self) -> dict[str, Any]:
        return {"minval": self.minval, "maxval": self.maxval, "seed": self.seed, "dtype": self.dtype.name}


class RandomNormal(DescribedInitializer):
    """Normal.

    Args:
        mean: Mean.
        stddev: Standard deviation.
        seed: Decides the numbers alone, instead of the job's seed and the variable's name.
        dtype: Used if a call names none; must be a float type.
    """

    op_name = "random_normal"

    def __init__(
        self,
        mean: float = 0.0,
        stddev: float = 1.0,
        seed: int | None = None,
        dtype: npt.DTypeLike = float32,
    ):
        self.mean = mean
        self.stddev = stddev
        self.seed = seed
        self.dtype = _float_dtype(dtype)

    def describe(self, _variable: VariableSpec, /) -> kinds.RandomNormalKind | kinds.TruncatedNormalKind:
        return kinds.RandomNormalKind(float(self.mean), float(self.stddev))

    def get_config(self) -> dict[str, Any]:
        return {"mean": self.mean, "stddev": self.stddev, "seed": self.seed, "dtype": self.dtype.name}


class TruncatedNormal(RandomNormal):
    """Normal, drawn again beyond two standard deviations from the mean; arguments as for ``RandomNormal``."""

    op_name = "truncated_normal"

    def describe(self, _variable: VariableSpec, /) -> kinds.TruncatedNormalKind:
        return kinds.TruncatedNormalKind(float(self.mean), float(self.stddev))


class UniformUnitScaling(DescribedInitializer):
    """Uniform so that the variance of inputs is kept: within sqrt(3 / inputs) times ``factor`` (arXiv:1412.6558).

    Args:
        factor: About 1.43 before a ReLU, 1.15 before a tanh.
        seed: Decides the numbers alone, instead of the job's seed and the variable's name.
        dtype: Used if a call names none; must be a float type.
    """

    op_name = "random_uniform"

    def __init__(self, factor: float = 1.0, seed: int | None = None, dtype: npt.DTypeLike = float32):
        self.factor = factor
        self.seed = seed
        self.dtype = _float_dtype(dtype)

    def describe(self, variable: VariableSpec, /) -> kinds.RandomUniformKind | kinds.ConstantKind:
        inputs = max(1, math.prod(full_shape(variable)[:-1]))
        limit = abs(math.sqrt(3 / inputs) * self.factor)
        return kinds.RandomUniformKind(-limit, limit) if limit else kinds.ConstantKind(0.0)

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor, "seed": self.seed, "dtype": self.dtype.name}


class VarianceScaling(DescribedInitializer):
    """Random with the variance ``scale / n``, n being the number of inputs, of outputs, or their average.

    Args:
        scale: Positive factor.
        mode: "fan_in", "fan_out" or "fan_avg".
        distribution: "truncated_normal" (also called "normal"), "untruncated_normal" or "uniform".
        seed: Decides the numbers alone, instead of the job's seed and the variable's name.
        dtype: Used if a call names none; must be a float type.

    Raises:
        ValueError: An argument is none of these.
    """

    @property
    def op_name(self) -> str:  # type: ignore[override]
        """Of the operation that stands for the value of a variable, as TensorFlow names it."""
        return {"uniform": "random_uniform", "untruncated_normal": "random_normal"}.get(
            self.distribution, "truncated_normal"
        )

    _MODES: ClassVar = {
        "fan_in": kinds.FanMode.FAN_IN,
        "fan_out": kinds.FanMode.FAN_OUT,
        "fan_avg": kinds.FanMode.FAN_AVG,
    }
    _DISTRIBUTIONS: ClassVar = {
        "uniform": kinds.Distribution.UNIFORM,
        "normal": kinds.Distribution.TRUNCATED_NORMAL,
        "truncated_normal": kinds.Distribution.TRUNCATED_NORMAL,
        "untruncated_normal": kinds.Distribution.UNTRUNCATED_NORMAL,
    }

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        dtype: npt.DTypeLike = float32,
    ):
        if scale <= 0:
            raise ValueError(f"scale is {scale}; it must be positive")
        if mode not in self._MODES:
            raise ValueError(f"mode is {mode!r}; it must be one of {', '.join(self._MODES)}")
        if distribution.lower() not in self._DISTRIBUTIONS:
            raise ValueError(f"distribution is {distribution!r}; it must be one of {', '.join(self._DISTRIBUTIONS)}")
        self.scale = scale
        self.mode = mode
        self.distribution = distribution.lower()
        self.seed = seed
        self.dtype = _float_dtype(dtype)

    def describe(self, _variable: VariableSpec, /) -> kinds.VarianceScalingKind:
        return kinds.VarianceScalingKind(
            float(self.scale), self._MODES[self.mode], self._DISTRIBUTIONS[self.distribution]
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "scale": self.scale,
            "mode": self.mode,
            "distribution": self.distribution,
            "seed": self.seed,
            "dtype": self.dtype.name,
        }


class _NamedScaling(VarianceScaling):
    """A variance scaling with a name of its own."""

    _ARGUMENTS: ClassVar[tuple[float, str, str]]

    def __init__(self, seed: int | None = None, dtype: npt.DTypeLike = float32):
        super().__init__(*self._ARGUMENTS, seed=seed, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed, "dtype": self.dtype.name}


class GlorotUniform(_NamedScaling):
    """Uniform within sqrt(6 / (inputs + outputs)), also called Xavier; TensorFlow 1's default for floats."""

    _ARGUMENTS = (1.0, "fan_avg", "uniform")


class GlorotNormal(_NamedScaling):
    """Truncated normal of variance 2 / (inputs + outputs), also called Xavier."""

    _ARGUMENTS = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_NamedScaling):
    """Uniform within sqrt(6 / inputs), for layers before a ReLU."""

    _ARGUMENTS = (2.0, "fan_in", "uniform")


class HeNormal(_NamedScaling):
    """Truncated normal of variance 2 / inputs, for layers before a ReLU."""

    _ARGUMENTS = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_NamedScaling):
    """Uniform within sqrt(3 / inputs)."""

    _ARGUMENTS = (1.0, "fan_in", "uniform")


class LecunNormal(_NamedScaling):
    """Truncated normal of variance 1 / inputs."""

    _ARGUMENTS = (1.0, "fan_in", "truncated_normal")


class Orthogonal(DescribedInitializer):
    """Orthogonal rows or columns, whichever are fewer; all dimensions but the last count as rows.

    Args:
        gain: Factor.
        seed: Decides the numbers alone, instead of the job's seed and the variable's name.
        dtype: Used if a call names none; must be a float type.
    """

    op_name, op_type = "mul_1", "Mul"

    def __init__(self, gain: float = 1.0, seed: int | None = None, dtype: npt.DTypeLike = float32):
        self.gain = gain
        self.seed = seed
        self.dtype = _float_dtype(dtype)

    def describe(self, _variable: VariableSpec, /) -> kinds.OrthogonalKind:
        return kinds.OrthogonalKind(float(self.gain))

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain, "seed": self.seed, "dtype": self.dtype.name}


class Identity(DescribedInitializer):
    """Ones on the main diagonal of a matrix, which need not be square.

    Args:
        gain: Factor.
        dtype: Used if a call names none; must be a float type.
    """

    op_name, op_type = "mul", "Mul"

    def __init__(self, gain: float = 1.0, dtype: npt.DTypeLike = float32):
        self.gain = gain
        self.dtype = _float_dtype(dtype)

    def describe(self, _variable: VariableSpec, /) -> kinds.IdentityKind:
        return kinds.IdentityKind(float(self.gain))

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain, "dtype": self.dtype.name}


def default_initializer(dtype: npt.DTypeLike, name: str = "") -> Initializer:
    """Returns what a variable without an initializer gets: Glorot's for floats, zeros for integers, bool and bytes.

    Args:
        dtype: Of the variable.
        name: Full name of the variable, for the error.

    Raises:
        ValueError: There is none for the dtype.
    """
    element = DType(as_dtype(dtype))
    if element.is_floating:
        return GlorotUniform()
    if element.is_complex:
        raise ValueError(f"variable {name} of {element.name} needs an initializer; there is none by default")
    return Zeros()


def initializer_spec(initializer: object, spec: VariableSpec, job_seed: int) -> kinds.InitializerSpec:
    """Returns what the ps needs in order to make a variable's initial value.

    Args:
        initializer: An ``Initializer`` or a class of them, which is called without arguments first; a function of
            ``(shape, dtype=...)``, also ``partition_info=...``; a number, list or array of the whole's shape; or None
            for the default.
        spec: The variable, or a part of a partitioned one, which gets its part of an array.
        job_seed: Seed of the cluster's job; counts unless the initializer has one.

    Raises:
        ValueError: The initializer does not suit the variable; ShapeMismatchError is one.
        TypeError: Its value is not of the variable's kind of elements; DTypeMismatchError is one.
    """
    if initializer is None:
        initializer = default_initializer(spec.dtype, spec.name)
    if isinstance(initializer, type):
        initializer = initializer()
    if isinstance(initializer, Initializer):
        return initializer.spec(spec, job_seed)
    if callable(initializer):
        return kinds.InitializerSpec(kinds.ValueKind(called_value(initializer, spec)))
    return kinds.InitializerSpec(kinds.ValueKind(part_value(initializer, spec)))


def _float_dtype(dtype: npt.DTypeLike) -> DType:
    element = DType(as_dtype(dtype))
    if not element.is_floating:
        raise ValueError(f"dtype is {element.name}; this initializer makes floats only")
    return element


def _double(value: object) -> float | None:
    """Returns a real number as a float, or None if that would change it or it is something else."""
    if not isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating):
        return None
    try:
        number = float(value)
    except OverflowError as error:
        raise_interrupt(error)
        return None
    return number if number == value or math.isnan(number) else None


zeros_initializer = Zeros
ones_initializer = Ones
constant_initializer = Constant
random_uniform_initializer = RandomUniform
random_normal_initializer = RandomNormal
truncated_normal_initializer = TruncatedNormal
uniform_unit_scaling_initializer = UniformUnitScaling
variance_scaling_initializer = VarianceScaling
glorot_uniform_initializer = GlorotUniform
glorot_normal_initializer = GlorotNormal
orthogonal_initializer = Orthogonal
identity_initializer = identity = Identity
he_uniform = HeUniform
he_normal = HeNormal
lecun_uniform = LecunUniform
lecun_normal = LecunNormal
