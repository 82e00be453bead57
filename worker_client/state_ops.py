"""TensorFlow's functions that read and update variables.

On a variable of a deferred graph each returns what the variable's method does: a tensor or an operation, to be run by a
session. On a variable of a connection's own graph it acts at once: an update returns the variable, the others an array.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from ps_protocol.operations import CountUpTo, ScatterRule
from worker_client import row_operations
from worker_client.graph_variable import GraphVariable
from worker_client.graph_variable_updates import check_counts
from worker_client.operation import Tensor
from worker_client.out_arrays import tensor_of
from worker_client.partitioned_variable import PartitionedVariable
from worker_client.variable import Variable

AnyVariable: TypeAlias = GraphVariable | Variable

# -- whole values ---------------------------------------------------------------------------------


def assign(
    ref: AnyVariable | PartitionedVariable,
    value: Any,
    validate_shape: bool | None = None,  # noqa: ARG001 - part of TensorFlow's signature
    use_locking: bool | None = None,  # noqa: ARG001 - part of TensorFlow's signature
    name: str | None = None,
) -> Any:
    """Replaces the value of a variable.

    Args:
        ref: The variable.
        value: Of its shape and dtype.
        validate_shape: Ignored: the shape of a variable is fixed when it is declared.
        use_locking: Ignored; updates are always atomic.
        name: Name of the operation.

    Returns:
        The new value as a tensor, or the variable; of a partitioned variable, a list with one for each part.

    Raises:
        TypeError: ``ref`` is no variable, or the dtypes differ.
        ValueError: The shapes differ.
    """
    return _whole(ref, "assign", value, name)


def assign_add(
    ref: AnyVariable | PartitionedVariable,
    value: Any,
    use_locking: bool | None = None,  # noqa: ARG001 - part of TensorFlow's signature
    name: str | None = None,
) -> Any:
    """Adds to a variable; otherwise as ``assign``."""
    return _whole(ref, "assign_add", value, name)


def assign_sub(
    ref: AnyVariable | PartitionedVariable,
    value: Any,
    use_locking: bool | None = None,  # noqa: ARG001 - part of TensorFlow's signature
    name: str | None = None,
) -> Any:
    """Subtracts from a variable; otherwise as ``assign``."""
    return _whole(ref, "assign_sub", value, name)


def count_up_to(ref: AnyVariable, limit: int, name: str | None = None) -> Any:
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
    if isinstance(variable, GraphVariable):
        return variable.counted(limit, name)
    check_counts(variable.spec)
    return tensor_of(variable.run(CountUpTo(variable.spec.name, int(limit))))[()]


def is_variable_initialized(variable: AnyVariable) -> Any:
    """Returns whether a variable has a value, as a tensor or at once."""
    variable = _variable(variable)
    return variable.is_initialized() if isinstance(variable, GraphVariable) else variable.initialized


# -- rows -----------------------------------------------------------------------------------------


def gather_rows(variable: AnyVariable, indices: Any, name: str | None = None) -> Any:
    """Returns rows of a variable, of which only those leave the ps.

    Args:
        variable: Not a scalar, and not a partitioned one, for which there is ``embedding_lookup``.
        indices: Row numbers of any shape.
        name: Name of the operation.

    Returns:
        A tensor or an array ``[*indices.shape, *variable.shape[1:]]``.

    Raises:
        TypeError: ``variable`` is no variable, or ``indices`` are no integers.
        ValueError: It is a scalar.
        InvalidArgumentError: At once, or when a session runs it: an index is out of range.
    """
    found = _variable(variable)
    return found.gather(indices) if isinstance(found, Variable) else found.sparse_read(indices, name)


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
    return _scatter(ref, ScatterRule.UPDATE, indices, updates, name)


def scatter_add(
    ref: AnyVariable, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Adds to rows; a row given twice counts twice. Otherwise as ``scatter_update``."""
    del use_locking
    return _scatter(ref, ScatterRule.ADD, indices, updates, name)


def scatter_sub(
    ref: AnyVariable, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Subtracts from rows; a row given twice counts twice. Otherwise as ``scatter_update``."""
    del use_locking
    return _scatter(ref, ScatterRule.SUB, indices, updates, name)


def scatter_mul(
    ref: AnyVariable, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Multiplies rows; a row given twice counts twice. Otherwise as ``scatter_update``."""
    del use_locking
    return _scatter(ref, ScatterRule.MUL, indices, updates, name)


def scatter_div(
    ref: AnyVariable, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Divides rows, integers towards zero; a row given twice counts twice. Otherwise as ``scatter_update``."""
    del use_locking
    return _scatter(ref, ScatterRule.DIV, indices, updates, name)


def scatter_min(
    ref: AnyVariable, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Lowers rows to the values given where those are less. Otherwise as ``scatter_update``."""
    del use_locking
    return _scatter(ref, ScatterRule.MIN, indices, updates, name)


def scatter_max(
    ref: AnyVariable, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Raises rows to the values given where those are more. Otherwise as ``scatter_update``."""
    del use_locking
    return _scatter(ref, ScatterRule.MAX, indices, updates, name)


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
    return _scatter_nd(ref, ScatterRule.UPDATE, indices, updates, name)


def scatter_nd_add(
    ref: AnyVariable, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Adds to slices or elements; one given twice counts twice. Otherwise as ``scatter_nd_update``."""
    del use_locking
    return _scatter_nd(ref, ScatterRule.ADD, indices, updates, name)


def scatter_nd_sub(
    ref: AnyVariable, indices: Any, updates: Any, use_locking: bool = False, name: str | None = None
) -> Any:
    """Subtracts from slices or elements; one given twice counts twice. Otherwise as ``scatter_nd_update``."""
    del use_locking
    return _scatter_nd(ref, ScatterRule.SUB, indices, updates, name)


# -- which kind of variable -----------------------------------------------------------------------


def _variable(ref: Any) -> AnyVariable:
    if isinstance(ref, GraphVariable | Variable):
        return ref
    hint = "; use its parts, or embedding_lookup" if isinstance(ref, PartitionedVariable) else ""
    raise TypeError(f"{ref!r} is a {type(ref).__name__}, not a variable{hint}")


def _whole(ref: Any, method: str, value: Any, name: str | None) -> Any:
    if isinstance(ref, PartitionedVariable):
        return getattr(ref, method)(value, name=name)
    variable = _variable(ref)
    if isinstance(variable, GraphVariable):
        return getattr(variable, method)(value, name=name)
    return getattr(variable, method)(value)


def _scatter(ref: AnyVariable, rule: ScatterRule, indices: Any, updates: Any, name: str | None) -> Tensor | Variable:
    variable = _variable(ref)
    if isinstance(variable, GraphVariable):
        return variable.scatter(rule, indices, updates, name)
    variable.run(row_operations.scatter(variable.spec, rule, indices, updates))
    return variable


def _scatter_nd(ref: AnyVariable, rule: ScatterRule, indices: Any, updates: Any, name: str | None) -> Tensor | Variable:
    variable = _variable(ref)
    if isinstance(variable, GraphVariable):
        return variable.scatter_nd(rule, indices, updates, name)
    variable.run(row_operations.scatter_nd(variable.spec, rule, indices, updates))
    return variable
