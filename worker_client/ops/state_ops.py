"""TensorFlow's functions that read and update variables.

On a variable of a deferred graph each returns what the variable's method does: a tensor or an operation, to be run by a
session. On a variable of a connection's own graph it acts at once: an update returns the variable, the others an array.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, TypeAlias

from ps_protocol.operations import CountUpTo, ScatterRule
from worker_client.deferred.slice_updates import VariableSlice
from worker_client.deferred.updated_variable import UpdatedVariable
from worker_client.deferred.variable import DeferredVariable
from worker_client.deferred.variable_updates import DeferredVariableUpdates, check_counts
from worker_client.graph.deferred_array import DeferredValue
from worker_client.graph.operation import Tensor
from worker_client.values.made_functions import named
from worker_client.values.out_arrays import tensor_of
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.variable import Variable

__all__ = [
    "assign",
    "assign_add",
    "assign_sub",
    "count_up_to",
    "is_variable_initialized",
    "scatter_add",
    "scatter_div",
    "scatter_max",
    "scatter_min",
    "scatter_mul",
    "scatter_nd_add",
    "scatter_nd_sub",
    "scatter_nd_update",
    "scatter_sub",
    "scatter_update",
]

UncutVariable: TypeAlias = DeferredVariable | Variable | Tensor
"""A variable of either kind that is not partitioned, or what an update of a deferred one returned."""
AnyVariable: TypeAlias = UncutVariable | PartitionedVariable
"""A variable of any kind."""

_ROWS: Final = "scatter"
_PLACES: Final = "scatter_nd"

# -- which kind of variable -----------------------------------------------------------------------


def _variable(ref: Any) -> DeferredVariableUpdates | Variable:
    if isinstance(ref, DeferredVariable | Variable):
        return ref
    updated = UpdatedVariable.of(ref)
    if updated is not None:
        return updated
    hint = "; use its parts" if isinstance(ref, PartitionedVariable) else ""
    raise TypeError(f"{ref!r} is a {type(ref).__name__}, not a variable{hint}")


def _whole(ref: Any, method: str, value: Any, name: str | None) -> Any:
    variable = ref if isinstance(ref, PartitionedVariable) else _variable(ref)
    if isinstance(variable, Variable):
        return getattr(variable, method)(value)
    return getattr(variable, method)(value, name=name)


def _scattered(method: str, rule: ScatterRule, ref: Any, indices: Any, updates: Any, name: str | None) -> Any:
    variable = ref if isinstance(ref, PartitionedVariable) else _variable(ref)
    named_operation = {"name": name} if isinstance(variable, DeferredVariableUpdates | DeferredValue) else {}
    return getattr(variable, method)(rule, indices, updates, **named_operation)


class _Scattering(Protocol):
    def __call__(
        self, ref: AnyVariable, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
    ) -> Any: ...


def _scattering(public_name: str, method: str, rule: ScatterRule, summary: str) -> _Scattering:
    """Returns a function that scatters by a rule, as ``scatter_update`` or ``scatter_nd_update`` does by another."""

    def scatter(
        ref: AnyVariable, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
    ) -> Any:
        del use_locking
        return _scattered(method, rule, ref, indices, updates, name)

    like = "scatter_update" if method == _ROWS else "scatter_nd_update"
    return named(scatter, public_name, f"{summary} Otherwise as ``{like}``.")


# -- whole values ---------------------------------------------------------------------------------


def assign(
    ref: AnyVariable,
    value: Any,
    validate_shape: bool | None = None,
    use_locking: bool | None = None,  # noqa: ARG001 - part of TensorFlow's signature
    name: str | None = None,
) -> Any:
    """Replaces the value of a variable.

    Args:
        ref: The variable.
        value: Of its shape and dtype.
        validate_shape: False lets a deferred variable take another shape with the value; initialising it goes back to
            the first one. Without effect on the others, whose shapes are fixed.
        use_locking: Ignored; updates are always atomic.
        name: Name of the operation.

    Returns:
        The new value as a tensor, or the variable; of a partitioned variable, a list with one for each part.

    Raises:
        TypeError: ``ref`` is no variable, or the dtypes differ.
        ValueError: The shapes differ.
    """
    if isinstance(ref, VariableSlice):
        return ref.assign(value, name)
    if validate_shape is False and isinstance(ref, DeferredVariable | Tensor):
        variable = _variable(ref)
        assert isinstance(variable, DeferredVariableUpdates)
        return variable.replace(value, name)
    return _whole(ref, "assign", value, name)


def assign_add(
    ref: AnyVariable,
    value: Any,
    use_locking: bool | None = None,  # noqa: ARG001 - part of TensorFlow's signature
    name: str | None = None,
) -> Any:
    """Adds to a variable; otherwise as ``assign``."""
    return _whole(ref, "assign_add", value, name)


def assign_sub(
    ref: AnyVariable,
    value: Any,
    use_locking: bool | None = None,  # noqa: ARG001 - part of TensorFlow's signature
    name: str | None = None,
) -> Any:
    """Subtracts from a variable; otherwise as ``assign``."""
    return _whole(ref, "assign_sub", value, name)


def count_up_to(ref: UncutVariable, limit: int, name: str | None = None) -> Any:
    """Adds one to an integer scalar, in one step on the ps, unless it has reached a limit.

    Args:
        ref: The variable.
        limit: What it counts up to.
        name: Name of the operation.

    Returns:
        The value before, as a tensor or a number.

    Raises:
        TypeError: ``ref`` is no variable of integers.
        ValueError: It is not a scalar.
        OutOfRangeError: At once, or when a session runs it: the limit is reached.
    """
    variable = _variable(ref)
    if isinstance(variable, DeferredVariableUpdates):
        return variable.counted(limit, name)
    check_counts(variable.spec)
    return tensor_of(variable.run(CountUpTo(variable.spec.name, int(limit))))[()]


def is_variable_initialized(variable: UncutVariable) -> Any:
    """Returns whether a variable has a value, as a tensor or at once."""
    if isinstance(variable, DeferredVariable):
        return variable.is_initialized()
    if not isinstance(variable, Variable):
        raise TypeError(f"{variable!r} is a {type(variable).__name__}, not a variable")
    return variable.initialized


# -- rows -----------------------------------------------------------------------------------------


def scatter_update(
    ref: AnyVariable, indices: Any, updates: Any, use_locking: bool = True, name: str | None = None
) -> Any:
    """Replaces rows of a variable; of a row given twice the last one stays.

    Args:
        ref: The variable.
        indices: Row numbers of any shape.
        updates: Shape ``[*indices.shape, *ref.shape[1:]]``, or a scalar.
        use_locking: Ignored; updates are always atomic.
        name: Name of the operation.

    Returns:
        The new value as a tensor, or the variable.

    Raises:
        TypeError: ``ref`` is no variable, ``indices`` are no integers, or ``updates`` of another dtype.
        ValueError: The shapes do not fit.
        InvalidArgumentError: At once, or when a session runs it: an index is out of range; nothing has changed.
    """
    del use_locking
    return _scattered(_ROWS, ScatterRule.UPDATE, ref, indices, updates, name)


scatter_add = _scattering("scatter_add", _ROWS, ScatterRule.ADD, "Adds to rows; a row given twice counts twice.")
scatter_sub = _scattering("scatter_sub", _ROWS, ScatterRule.SUB, "Subtracts from rows; a row given twice counts twice.")
scatter_mul = _scattering("scatter_mul", _ROWS, ScatterRule.MUL, "Multiplies rows; a row given twice counts twice.")
scatter_div = _scattering("scatter_div", _ROWS, ScatterRule.DIV, "Divides rows, integers towards zero.")
scatter_min = _scattering("scatter_min", _ROWS, ScatterRule.MIN, "Lowers rows to values where those are less.")
scatter_max = _scattering("scatter_max", _ROWS, ScatterRule.MAX, "Raises rows to values where those are more.")

# -- slices and elements --------------------------------------------------------------------------


def scatter_nd_update(
    ref: AnyVariable, indices: Any, updates: Any, use_locking: bool = True, name: str | None = None
) -> Any:
    """Replaces slices or single elements of a variable, in one step on the ps; of one given twice the last one stays.

    Args:
        ref: The variable.
        indices: Shape ``[..., depth]``: each names a slice by its place in the first ``depth`` dimensions.
        updates: Shape ``[*indices.shape[:-1], *ref.shape[depth:]]``, or a scalar.
        use_locking: Ignored; updates are always atomic.
        name: Name of the operation.

    Returns:
        The new value as a tensor, or the variable.

    Raises:
        TypeError: ``ref`` is no variable, ``indices`` are no integers, or ``updates`` of another dtype.
        ValueError: The shapes do not fit.
        InvalidArgumentError: At once, or when a session runs it: an index is out of range; nothing has changed.
    """
    del use_locking
    return _scattered(_PLACES, ScatterRule.UPDATE, ref, indices, updates, name)


scatter_nd_add = _scattering("scatter_nd_add", _PLACES, ScatterRule.ADD, "Adds to slices or elements.")
scatter_nd_sub = _scattering("scatter_nd_sub", _PLACES, ScatterRule.SUB, "Subtracts from slices or elements.")
