"""Gradients on their way to the ps: checked, cut into those of parts, and made into operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ps_protocol.dtype_traits import DTypeCategory, dtype_category
from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, ShapeMismatchError
from ps_protocol.operations import Array, VariableSpec
from ps_protocol.optimizer_spec import OnNonfinite, OptimizerSpec
from worker_client.values.conversion import IndexedSlices, convert, row_indices
from worker_client.values.torch_tensors import sparse_rows
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.parts import EagerVariable
from worker_client.variables.variable import Variable

Gradient: TypeAlias = npt.ArrayLike | IndexedSlices
"""Of a loss with respect to a variable: of its shape, or for some of its rows."""

_NO_NUMBERS: Final = np.empty(0, np.float64)
_FLOAT: Final = DTypeCategory.FLOAT  # looking a member up takes as long as a call


class PartGradient(NamedTuple):
    """What a part of a variable gets, or a variable that is not partitioned.

    Attributes:
        part: Which.
        operands: The gradient, or rows and their gradients.
        is_stand_in: Whether the part gets NaN in place of a gradient, since that of another part is not finite.
    """

    part: Variable
    operands: tuple[Array, ...]
    is_stand_in: bool = False


def part_gradients(
    variable: EagerVariable, gradient: Gradient, *, copy: bool, on_nonfinite: OnNonfinite
) -> list[PartGradient]:
    """Returns the gradient of each part of a variable; of one that is not partitioned, of itself.

    A part gets a gradient of no rows if none of the rows is in it, since its step counts too. A gradient that is not
    finite is refused or skipped as a whole: every part gets one that is not, so that each refuses or skips its step,
    and counts it.

    Args:
        variable: What the gradient is of.
        gradient: As given. That of torch's sparse embeddings is one for some rows.
        copy: Whether the result must outlive the caller's hold on it.
        on_nonfinite: What becomes of a gradient that is not finite.

    Raises:
        DTypeMismatchError: The variable is not one of floats, or the gradient is of another kind of numbers.
        ShapeMismatchError: The gradient has another shape.
        InvalidArgumentError: It is None, or a row is not in the variable.
    """
    spec = variable.whole_spec
    check_trainable(spec)
    if gradient is None:
        raise InvalidArgumentError(
            f"the gradient of variable {spec.name} is None: the loss does not depend on it; leave the variable out",
            variable=spec.name,
        )
    sparse = None if isinstance(gradient, IndexedSlices | np.ndarray) else sparse_rows(gradient)
    if sparse is not None:
        values, indices, shape = sparse
        if shape != spec.shape:
            raise _of_another_shape(spec, shape)
        gradient = IndexedSlices(values, indices)
    if isinstance(gradient, IndexedSlices):
        rows, values = _rows_and_values(variable, gradient, copy=copy)
        if not isinstance(variable, PartitionedVariable):
            return [PartGradient(variable, (rows, values))]
        return _refused_alike([PartGradient(*each) for each in variable.part_row_values(rows, values)], on_nonfinite)
    array = convert(gradient, spec, copy=copy)
    if array.shape != spec.shape:
        raise _of_another_shape(spec, array.shape)
    if not isinstance(variable, PartitionedVariable):
        return [PartGradient(variable, (array,))]
    pieces = zip(variable, variable.pieces(array), strict=True)
    return _refused_alike([PartGradient(part, (np.ascontiguousarray(piece),)) for part, piece in pieces], on_nonfinite)


def _of_another_shape(spec: VariableSpec, shape: tuple[int, ...]) -> ShapeMismatchError:
    return ShapeMismatchError(
        f"the gradient of variable {spec} has the shape {list(shape)}; it should have the variable's, or be "
        f"IndexedSlices for some rows",
        variable=spec.name,
    )


def _refused_alike(parts: list[PartGradient], on_nonfinite: OnNonfinite) -> list[PartGradient]:
    """Returns the gradients of parts; if one is not finite, and that matters, none of them is."""
    if on_nonfinite is OnNonfinite.APPLY:
        return parts
    finite = [bool(np.isfinite(each.operands[-1]).all()) for each in parts]
    if False not in finite:
        return parts
    return [_stand_in(each) if is_finite else each for each, is_finite in zip(parts, finite, strict=True)]


def _stand_in(gradient: PartGradient) -> PartGradient:
    part, (*rows, values) = gradient.part, gradient.operands
    if not rows:
        return PartGradient(part, (np.full_like(values, np.nan),), is_stand_in=True)
    values = np.full((1, *values.shape[1:]), np.nan, values.dtype)
    return PartGradient(part, (np.zeros(1, rows[0].dtype), values), is_stand_in=True)


def is_finite(parts: Sequence[PartGradient]) -> bool:
    """Whether the gradient of a variable, given by parts, has neither an infinity nor a NaN."""
    return False not in [bool(np.isfinite(each.operands[-1]).all()) for each in parts]


def check_finite(parts: Sequence[PartGradient]) -> None:
    """Makes sure that gradients are finite before any is sent: those of several ps tasks count all or not at all.

    Raises:
        InvalidArgumentError: One is not.
    """
    for each in parts:
        if not is_finite([each]):
            raise InvalidArgumentError(
                f"the gradient of variable {each.part.spec.name} is not finite; nothing was changed, and the shard is "
                f"not handed in",
                variable=each.part.spec.name,
            )


def check_trainable(spec: VariableSpec) -> None:
    """Makes sure that a variable can have gradients; DTypeMismatchError if it does not hold floats."""
    if dtype_category(spec.dtype) is not _FLOAT:
        raise DTypeMismatchError(
            f"variable {spec} holds {spec.dtype.name} and cannot be trained: gradients are of floats",
            variable=spec.name,
        )


def _rows_and_values(variable: EagerVariable, gradient: IndexedSlices, *, copy: bool) -> tuple[Array, Array]:
    spec = variable.whole_spec
    if not spec.shape:
        raise ShapeMismatchError(
            f"variable {spec} is a scalar and has no rows, but its gradient is for some", variable=spec.name
        )
    rows, values = row_indices(gradient.indices, spec, copy=copy), convert(gradient.values, spec, copy=copy)
    row_shape = spec.shape[1:]
    expected = (*rows.shape, *row_shape)
    if values.shape != expected:
        raise ShapeMismatchError(
            f"the gradient of variable {spec} has {rows.size} row indices and values of the shape "
            f"{list(values.shape)}; the values should have the shape {list(expected)}",
            variable=spec.name,
        )
    flat = rows.reshape(-1)
    outside = np.flatnonzero((flat < 0) | (flat >= spec.shape[0]))
    if outside.size:
        raise InvalidArgumentError(
            f"row {flat[outside[0]]} in the gradient of variable {spec} is outside of [0, {spec.shape[0]}); nothing "
            f"was changed",
            variable=spec.name,
        )
    return flat, values.reshape(flat.size, *row_shape)


def numbers_of(learning_rate: float | None, optimizer: OptimizerSpec) -> Array:
    """Returns the settings as they travel: none if the learning rate, where it is given, is as declared too."""
    if learning_rate is None or (optimizer.schedule is None and learning_rate == optimizer.numbers[0]):
        return _NO_NUMBERS
    numbers: Array = np.full(len(optimizer.numbers), np.nan)
    numbers[0] = learning_rate
    return numbers


def of_one_connection(parts: Sequence[Variable]) -> Any:
    """Returns what carries out the operations of variables; ValueError if they are of several connections."""
    runner = parts[0].runner
    for part in parts:
        if part.runner is not runner:
            raise ValueError(
                f"variables {parts[0].spec.name} and {part.spec.name} are of different connections; apply their "
                f"gradients one connection at a time"
            )
    return runner
