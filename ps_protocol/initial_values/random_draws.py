"""The random initializers as functions from random words to elements, their parameters checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from ps_protocol.dtype_traits import DTypeCategory, dtype_category, float_limits, integer_limits
from ps_protocol.initial_values.random_stream import (
    LARGEST_NORMAL,
    Doubles,
    Words,
    standard_normal,
    truncated_standard_normal,
    unit_interval,
)
from ps_protocol.initial_values.variable_layout import full_shape, invalid
from ps_protocol.initializer_spec import (
    Distribution,
    FanMode,
    RandomNormalKind,
    RandomUniformKind,
    TruncatedNormalKind,
    VarianceScalingKind,
)
from ps_protocol.operations import Array, VariableSpec

Layers: TypeAlias = Callable[[int], Words]
"""Returns the words of a stretch of elements, of the layer that is asked for, as an array to be overwritten."""

Draw: TypeAlias = Callable[[Layers], Array]
"""Makes the elements of a stretch, as float64, int64 or uint64 that convert to the variable's dtype in range."""

_WORDS = 2**64
_TRUNCATED_STDDEV = 0.87962566103423978  # of a standard normal number within [-2, 2]


def random_draw(
    spec: VariableSpec, kind: RandomUniformKind | RandomNormalKind | TruncatedNormalKind | VarianceScalingKind
) -> Draw:
    """Returns how the elements of a variable are drawn. The result may be called from many threads.

    Raises:
        InvalidArgumentError: The kind does not suit the dtype, or a parameter is out of range.
    """
    match kind:
        case RandomUniformKind(minval=minval, maxval=maxval):
            if dtype_category(spec.dtype) is DTypeCategory.INTEGER:
                return _uniform_integers(spec, minval, maxval)
            return _uniform(spec, minval, maxval)
        case RandomNormalKind(mean=mean, stddev=stddev):
            return _normal(spec, mean, stddev, standard_normal, LARGEST_NORMAL)
        case TruncatedNormalKind(mean=mean, stddev=stddev):
            return _normal(spec, mean, stddev, truncated_standard_normal, 2.0)
        case VarianceScalingKind():
            return random_draw(spec, scaled_kind(spec, kind))


def is_integral(value: float) -> bool:
    """Whether a number, Python integers of any size included, is an integer."""
    return isinstance(value, int) or value.is_integer()


def check_float_dtype(spec: VariableSpec, what: str) -> None:
    """Raises InvalidArgumentError if the variable does not hold floats."""
    if dtype_category(spec.dtype) is not DTypeCategory.FLOAT:
        raise invalid(
            spec,
            f"{what} makes floats, not {spec.dtype.name}; use random_uniform with integer bounds for integers, "
            f"or give the value itself as the initializer",
        )


def check_reach(spec: VariableSpec, what: str, least: float, greatest: float) -> None:
    """Raises InvalidArgumentError if the variable's float dtype cannot hold all numbers between two."""
    limits = float_limits(spec.dtype)
    if least < limits[0] or greatest > limits[1]:
        raise invalid(
            spec,
            f"{what} reaches from {least:g} to {greatest:g}, but {spec.dtype.name} from {limits[0]:g} to "
            f"{limits[1]:g}; take other parameters or another dtype",
        )


def check_finite(spec: VariableSpec, **parameters: float) -> None:
    """Raises InvalidArgumentError if a parameter is infinite or no number."""
    for name, value in parameters.items():
        if not math.isfinite(value):
            raise invalid(spec, f"{name} is {value}; it must be finite")


def _uniform(spec: VariableSpec, minval: float, maxval: float) -> Draw:
    check_float_dtype(spec, "random_uniform")
    check_finite(spec, minval=minval, maxval=maxval)
    span = float(maxval) - float(minval)
    if span <= 0 or not math.isfinite(span):
        raise invalid(spec, f"maxval {maxval} must be greater than minval {minval}, by a finite difference")
    check_reach(spec, "random_uniform", minval, maxval)
    low, high = _representable_range(spec, minval, maxval)

    def draw(words: Layers) -> Doubles:
        numbers = unit_interval(words(0))
        numbers *= span
        numbers += minval
        # The ends are elements of the dtype, so that rounding to it cannot lead out of the range again.
        return np.clip(numbers, low, high, out=numbers)

    return draw


def _representable_range(spec: VariableSpec, minval: float, maxval: float) -> tuple[float, float]:
    """Returns the least and the greatest element in [minval, maxval) of the variable's dtype, or of float64."""
    dtype = spec.dtype if spec.dtype.itemsize <= 8 else np.dtype(np.float64)
    # Some small floats have no infinity that nextafter could aim at.
    least, greatest, low, high = np.array([*float_limits(dtype), minval, maxval]).astype(dtype)
    if float(low) < minval:
        low = np.nextafter(low, greatest)
    if float(high) >= maxval:
        high = np.nextafter(high, least)
    if float(low) > float(high):
        raise invalid(spec, f"no {spec.dtype.name} lies in [{minval}, {maxval}); widen the range")
    return float(low), float(high)


def _uniform_integers(spec: VariableSpec, minval: float, maxval: float) -> Draw:
    if not (is_integral(minval) and is_integral(maxval)):
        raise invalid(spec, f"random_uniform of {spec.dtype.name} needs integers as bounds, not {minval} and {maxval}")
    first, last = int(minval), int(maxval) - 1
    if first > last:
        raise invalid(spec, f"maxval {maxval} must be greater than minval {minval}")
    least, greatest = integer_limits(spec.dtype)
    if first < least or last > greatest:
        raise invalid(spec, f"[{first}, {last + 1}) is not within the range of {spec.dtype.name}; narrow it")
    count = last - first + 1
    even = _WORDS - _WORDS % count  # the words from here on would make the lower numbers more frequent
    number_type = np.uint64 if first >= 0 else np.int64

    def draw(words: Layers) -> Array:
        numbers = words(0)
        layer = 0
        while even < _WORDS and (refused := np.flatnonzero(numbers >= np.uint64(even))).size:
            layer += 1  # each layer settles more than half of what is left
            numbers[refused] = words(layer)[refused]
        if count < _WORDS:
            numbers %= np.uint64(count)
        numbers += np.uint64(first % _WORDS)  # wraps around, as two's complement does
        return numbers.view(number_type)

    return draw


def _normal(
    spec: VariableSpec, mean: float, stddev: float, standard: Callable[[Words], Doubles], farthest: float
) -> Draw:
    check_float_dtype(spec, "a normal distribution")
    check_finite(spec, mean=mean, stddev=stddev)
    if stddev < 0:
        raise invalid(spec, f"stddev {stddev} must not be negative")
    check_reach(spec, "a normal distribution", mean - farthest * stddev, mean + farthest * stddev)

    def draw(words: Layers) -> Doubles:
        numbers = standard(words(0))
        numbers *= stddev
        numbers += mean
        return numbers

    return draw


def scaled_kind(
    spec: VariableSpec, kind: VarianceScalingKind
) -> RandomUniformKind | TruncatedNormalKind | RandomNormalKind:
    """Returns the distribution that variance scaling means for a variable; raises as ``random_draw``."""
    check_float_dtype(spec, "variance scaling")
    check_finite(spec, scale=kind.scale)
    if kind.scale <= 0:
        raise invalid(spec, f"scale {kind.scale} must be positive")
    variance = kind.scale / max(1.0, _fan(full_shape(spec), kind.mode))
    match kind.distribution:
        case Distribution.UNIFORM:
            limit = math.sqrt(3.0 * variance)
            return RandomUniformKind(-limit, limit)
        case Distribution.TRUNCATED_NORMAL:
            return TruncatedNormalKind(0.0, math.sqrt(variance) / _TRUNCATED_STDDEV)
        case Distribution.UNTRUNCATED_NORMAL:
            return RandomNormalKind(0.0, math.sqrt(variance))


def _fan(shape: tuple[int, ...], mode: FanMode) -> float:
    """Returns a number of inputs or outputs; of convolutions ``[*kernel, in, out]``, times the kernel's elements."""
    fan_in, fan_out = shape[-2:] if len(shape) >= 2 else (math.prod(shape),) * 2
    kernel = math.prod(shape[:-2])
    match mode:
        case FanMode.FAN_IN:
            return float(fan_in * kernel)
        case FanMode.FAN_OUT:
            return float(fan_out * kernel)
        case FanMode.FAN_AVG:
            return (fan_in + fan_out) * kernel / 2
