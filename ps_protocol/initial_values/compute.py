"""Initial values, computed from a variable's full name and the job's seed, or from an initializer's own seed alone.

The same function runs on every ps and, for local variables, in the worker. Its results are part of the contract: they
do not depend on the number of ps tasks, on who declares first, on the machine or on the release.

A part of a partitioned variable gets exactly the elements that the whole would have there, however it is cut, in the
memory of the part. Only orthogonal makes the whole matrix, and its last digits are those of the host's LAPACK.
Random numbers are drawn and scaled in float64 and then rounded, so that variables of one name and different dtypes
agree up to rounding; for the types of ml-dtypes they are rounded to float32 first.

The formulas are TensorFlow 1's (``init_ops.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Final, TypeAlias

import numpy as np

from ps_protocol.dtype_traits import DTypeCategory, dtype_category, float_limits, integer_limits, is_ml_dtype
from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, ResourceExhaustedError, ShapeMismatchError
from ps_protocol.initial_values.random_draws import (
    Draw,
    check_finite,
    check_float_dtype,
    check_reach,
    is_integral,
    random_draw,
)
from ps_protocol.initial_values.random_stream import Words, WordStream
from ps_protocol.initial_values.variable_layout import (
    Stretch,
    check_layout,
    cuts,
    full_name,
    full_shape,
    invalid,
    stretches,
    subject,
)
from ps_protocol.initializer_spec import (
    ConstantKind,
    IdentityKind,
    InitializerKind,
    InitializerSpec,
    OrthogonalKind,
    RandomNormalKind,
    ValueKind,
)
from ps_protocol.operations import Array, PartitionSlice, VariableSpec

_Recipe: TypeAlias = Callable[[], Array]

_BLOCK = 8192  # elements drawn at a time: 64 KiB of words stay in the cache


def initial_value(spec: VariableSpec, initializer: InitializerSpec) -> Array:
    """Returns the initial value of a variable.

    Safe to call from many threads. Whether the result may take its memory is for the caller to decide before.

    Args:
        spec: The variable, or a part of a partitioned one.
        initializer: The kind of value and the seed.

    Returns:
        A new array of the variable's dtype and shape, in C order, the caller's own.

    Raises:
        ShapeMismatchError: A value has another shape than the variable.
        DTypeMismatchError: A value has another dtype than the variable.
        InvalidArgumentError: The kind does not suit the dtype or the shape, or a parameter is out of range.
        ResourceExhaustedError: The process has no memory for it; not retryable.
    """
    try:
        return _recipe(spec, initializer)()
    except MemoryError as error:
        raise ResourceExhaustedError(
            f"{subject(spec)}: no memory for its initial value of {spec.size_bytes} bytes (or for the whole, if it is "
            f"orthogonal); cut it into more parts or use more ps tasks",
            variable=spec.name,
            retryable=False,
        ) from error


def check_initializer(spec: VariableSpec, initializer: InitializerSpec) -> None:
    """Raises what ``initial_value`` would raise, memory aside, without computing anything."""
    place = None if spec.slice is None else replace(spec.slice, full_name="")
    if isinstance(initializer.kind, ValueKind) or not _suits(spec.dtype, spec.shape, place, initializer.kind):
        _recipe(spec, initializer)


@lru_cache(maxsize=1024)
def _suits(dtype: np.dtype[Any], shape: tuple[int, ...], place: PartitionSlice | None, kind: InitializerKind) -> bool:
    """Whether variables of a dtype and shape can have a kind of value, whatever their names and seeds.

    Models have many variables alike, and each is checked when it is built and when it is initialised. Kinds that are
    equal, as those of the constants 0.0 and -0.0, suit the same variables.
    """
    try:
        _recipe(VariableSpec("", dtype, shape, place), InitializerSpec(kind))
    except InvalidArgumentError:
        return False
    return True


def _recipe(spec: VariableSpec, initializer: InitializerSpec) -> _Recipe:
    """Checks all arguments and returns the function that computes the value."""
    check_layout(spec)
    match initializer.kind:
        case ValueKind(array=array):
            return _given(spec, array)
        case ConstantKind(value=value):
            return partial(_filled, spec, _element(spec, value, "the constant"))
        case IdentityKind(gain=gain):
            return _identity(spec, gain)
        case OrthogonalKind(gain=gain):
            return _orthogonal(spec, gain, _stream_of(spec, initializer))
        case kind:
            return partial(_random, spec, random_draw(spec, kind), _stream_of(spec, initializer))


def _given(spec: VariableSpec, array: Array) -> _Recipe:
    if array.dtype.newbyteorder("=") != spec.dtype:
        raise DTypeMismatchError(
            f"{subject(spec)}: its initial value is {array.dtype.name}; convert it", variable=spec.name
        )
    if array.shape != spec.shape:
        raise ShapeMismatchError(
            f"{subject(spec)}: its initial value has shape {list(array.shape)}; make the two agree", variable=spec.name
        )
    return lambda: np.array(array, dtype=spec.dtype, order="C")


_WITH_RANGE: Final = (DTypeCategory.INTEGER, DTypeCategory.FLOAT, DTypeCategory.COMPLEX)


def _element(spec: VariableSpec, value: float, what: str) -> Any:
    """Returns a number as an element of the variable: as it is for integers, rounded within range for floats."""
    category = dtype_category(spec.dtype)
    match category:
        case DTypeCategory.BOOL if value in (0, 1):
            return np.bool_(value)
        case DTypeCategory.BYTES if value == 0:
            return np.bytes_()
        case DTypeCategory.INTEGER if is_integral(value):
            least, greatest = integer_limits(spec.dtype)
            if least <= value <= greatest:
                return np.array([int(value)]).astype(spec.dtype)[0]
        case DTypeCategory.FLOAT | DTypeCategory.COMPLEX:
            with np.errstate(over="ignore", invalid="ignore"):
                rounded = np.array([value], dtype=np.float64).astype(spec.dtype)
            alike = np.isnan(rounded) == math.isnan(value) and np.isinf(rounded) == math.isinf(value)
            if alike and not _saturates(spec.dtype, value):
                return rounded[0]
    is_beyond = not math.isnan(value) and (category is not DTypeCategory.INTEGER or is_integral(value))
    why = "out of its range: it is not" if is_beyond and category in _WITH_RANGE else "not"
    raise invalid(spec, f"{what} {value} is {why} an element of {spec.dtype.name}; change it, or the variable's dtype")


def _saturates(dtype: np.dtype[Any], value: float) -> bool:
    """Whether a finite number would become the last element of a float type that has no infinity."""
    if not is_ml_dtype(dtype) or dtype_category(dtype) is not DTypeCategory.FLOAT or not math.isfinite(value):
        return False
    least, greatest = float_limits(dtype)
    return not least <= value <= greatest


def _filled(spec: VariableSpec, element: Any) -> Array:
    if not any(element.tobytes()):
        return np.zeros(spec.shape, dtype=spec.dtype)  # takes its pages only when they are touched
    return np.full(spec.shape, element, dtype=spec.dtype)


def _identity(spec: VariableSpec, gain: float) -> _Recipe:
    if len(full_shape(spec)) != 2:
        raise invalid(spec, "an identity is a matrix; give the variable two dimensions or take another initializer")
    element, zero = _element(spec, gain, "the gain"), _element(spec, 0.0, "off the diagonal")

    def make() -> Array:
        value = _filled(spec, zero)
        rows, columns = cuts(spec)
        end = min(rows.start + rows.size, columns.start + columns.size)
        diagonal = np.arange(max(rows.start, columns.start), end)
        value[diagonal - rows.start, diagonal - columns.start] = element
        return value

    return make


def _stream_of(spec: VariableSpec, initializer: InitializerSpec) -> Callable[[], WordStream]:
    """Returns the maker of the random words of a variable: each value has a stream of its own."""
    return partial(WordStream, "" if initializer.seed_alone else full_name(spec), initializer.seed)


def _orthogonal(spec: VariableSpec, gain: float, new_stream: Callable[[], WordStream]) -> _Recipe:
    check_float_dtype(spec, "orthogonal")
    check_finite(spec, gain=gain)
    check_reach(spec, "an orthogonal value", -abs(gain), abs(gain))
    shape = full_shape(spec)
    if len(shape) < 2:
        raise invalid(spec, "an orthogonal value needs two dimensions or more; take another initializer")
    rows, columns = math.prod(shape[:-1]), shape[-1]
    tall = VariableSpec(full_name(spec), np.dtype(np.float64), (max(rows, columns), min(rows, columns)))

    def make() -> Array:
        if 0 in spec.shape:
            return np.empty(spec.shape, dtype=spec.dtype)
        normal = _random(tall, random_draw(tall, RandomNormalKind(0.0, 1.0)), new_stream)
        q, r = np.linalg.qr(normal)
        q *= np.where(np.diagonal(r) < 0, -gain, gain)  # with these signs all orthogonal matrices are equally likely
        whole = (q if rows >= columns else q.T).reshape(shape)
        part = whole[tuple(slice(cut.start, cut.start + cut.size) for cut in cuts(spec))]
        return part.astype(spec.dtype, order="C")

    return make


def _random(spec: VariableSpec, draw: Draw, new_stream: Callable[[], WordStream]) -> Array:
    value = np.empty(spec.shape, dtype=spec.dtype)
    elements = value.reshape(-1)
    stream = new_stream()
    done = 0
    for stretch in stretches(cuts(spec), _BLOCK):
        drawn = draw(partial(_words, stream, stretch))
        if is_ml_dtype(spec.dtype) and drawn.dtype == np.float64:
            drawn = drawn.astype(np.float32)  # ml-dtypes does not promise in how many steps it rounds
        elements[done : done + drawn.size] = drawn
        done += drawn.size
    return value


def _words(stream: WordStream, stretch: Stretch, layer: int) -> Words:
    """Returns the words of the elements of a stretch, row after row, as an array to be overwritten."""
    if stretch.rows == 1:
        return stream.words(stretch.start, stretch.length, layer)
    words = stream.words(stretch.start, stretch.rows * stretch.period, layer)
    return words.reshape(stretch.rows, stretch.period)[:, : stretch.length].reshape(-1)
