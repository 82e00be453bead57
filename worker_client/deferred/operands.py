"""The operands of an operation that wants all of one dtype, brought to it as TensorFlow does.

Tensors and variables keep theirs and must agree. Numbers and arrays take the dtype of the tensors, if that keeps their
kind: 0.5 becomes a float64 beside a float64 tensor, and is refused beside an integer one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from ps_protocol.dtype_traits import dtype_category
from ps_protocol.errors import InvalidArgumentError, ShapeMismatchError, ValueRangeError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array, VariableSpec
from worker_client.deferred.building import built_op, constant_op, named
from worker_client.deferred.call import is_deferred, tensor_or_none
from worker_client.deferred.conversion import tensor_value
from worker_client.graph.default_graph import get_default_graph, graph_of
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Tensor
from worker_client.initializers.arrays import array_value
from worker_client.op_definitions.op_def import Argument, OpDef, default_dtype
from worker_client.values.array_likes import array_of
from worker_client.values.dtypes import as_dtype, string
from worker_client.values.text import is_text, text_array

_PYTHONS_OWN: Final = (list, tuple, int, float, complex, str, bytes)
"""What takes the dtype of other operands."""


def of_one_dtype(operation: str, values: Sequence[Any]) -> list[Any]:
    """Returns values of one dtype: deferred ones as tensors, the others as arrays.

    Args:
        operation: What they are for, for errors.
        values: Tensors, variables, arrays, numbers, lists of numbers.

    Raises:
        TypeError: Tensors differ in dtype, or a constant is of another kind.
    """
    operands = [_operand(operation, value) for value in values]
    leader = _leader(operation, operands)
    return [
        each if isinstance(each, Tensor) else _constant(operation, each, leader)
        for each in (_checked(operation, each, leader) for each in operands)
    ]


def _leader(operation: str, operands: Sequence[Any]) -> Tensor | Array:
    """Returns the operand whose dtype the others must have: a tensor, else an array, else the first."""
    for kind in (Tensor, np.ndarray):
        for each in operands:
            if isinstance(each, kind):
                return each
    return tensor_value(operands[0], operation)


def constant_array(value: Any, dtype: Any, what: str) -> Array:
    """Returns a value as a new array; without a dtype Python's numbers become float32 or int32, as in TensorFlow.

    Raises:
        TypeError: The value is of another kind of elements, or a deferred tensor.
        ValueError: An element is out of the dtype's range.
    """
    if tensor_or_none(value) is not None:
        raise TypeError(f"{what} needs a value that is known now, not the deferred {value!r}")
    wanted = None if dtype is None else as_dtype(dtype)
    try:
        if wanted == string.dtype or (wanted is None and is_text(array_of(value, what).dtype)):
            text = text_array(value)
            return text if get_default_graph().deferred else text.astype(np.bytes_)
        array = tensor_value(value, what, wanted)
    except ValueRangeError:
        raise
    except ShapeMismatchError as error:
        raise ValueError(f"{what}: {error}") from error
    except InvalidArgumentError as error:
        raise TypeError(
            f"{what}: {value!r} is not {'a constant' if wanted is None else wanted.name}: {error}"
        ) from error
    return np.asarray(array)


def tensor_of(value: Any, dtype: np.dtype[Any] | None = None, name: str = "packed") -> Tensor | None:
    """Returns the tensor of what is not known before a session runs: a tensor, a variable, or a list with one inside.

    Args:
        value: Anything; lists may be nested.
        dtype: What the elements of a list are cast to; by default they have that of the first tensor in it.
        name: Of the operation that puts a list together; those of inner lists are numbered inside it.

    Returns:
        The tensor, or None if all of the value is known now.

    Raises:
        TypeError: A list holds tensors of several dtypes, or constants of another kind.
        ValueError: Its elements differ in shape.
    """
    if not isinstance(value, list | tuple):
        return tensor_or_none(value)
    leader = _first_deferred(value)
    if leader is None:
        return None
    tensor = tensor_or_none(leader)
    return None if tensor is None else _packed(value, tensor, tensor.dtype if dtype is None else dtype, name)


def _first_deferred(value: Any) -> Any:
    """Returns the first tensor or variable in nested lists, None if there is none."""
    if not isinstance(value, list | tuple):
        return value if is_deferred(value) else None
    for each in value:
        found = _first_deferred(each)
        if found is not None:
            return found
    return None


def _deferred_in(value: Any) -> Iterator[Any]:
    """Yields the tensors and variables in nested lists."""
    for each in value if isinstance(value, list | tuple) else ():
        yield from _deferred_in(each)
    if is_deferred(value):
        yield value


def _packed(values: Sequence[Any], leader: Tensor, dtype: np.dtype[Any], name: str) -> Tensor:
    graph = graph_of(_deferred_in(values))
    with graph.name_scope(name) as scope:
        elements = [_element(each, leader, dtype, str(index)) for index, each in enumerate(values)]
        return built_op(graph, "Pack", stacked(0), elements, name=scope, attributes={"axis": 0}).outputs[0]


def stacked(axis: int) -> Callable[..., Array]:
    """Returns a function that puts arrays beside each other along a new dimension."""
    return lambda *arrays: np.stack(arrays, axis)


def _element(value: Any, leader: Tensor, dtype: np.dtype[Any], name: str) -> Tensor:
    if isinstance(value, list | tuple) and _first_deferred(value) is not None:
        return _packed(value, leader, dtype, name)
    tensor = tensor_or_none(value)
    if tensor is None:
        if isinstance(value, list | tuple):
            with leader.graph.name_scope(name):
                pass  # TensorFlow looks for tensors in it, which takes the name
        constant = _constant("Pack", value, leader)
        return constant_op(leader.graph, constant if is_text(dtype) else constant.astype(dtype), name)
    _checked("Pack", tensor, leader)
    if tensor.dtype == dtype:
        return tensor
    return built_op(leader.graph, "Cast", cast_to(dtype), [tensor], dtype=dtype).outputs[0]


def cast_to(dtype: np.dtype[Any]) -> Callable[[Array], Array]:
    """Returns a function that makes elements of this type; of complex numbers the real parts, if it is not complex."""

    def cast(array: Array) -> Array:
        return (array.real if array.dtype.kind == "c" and dtype.kind != "c" else array).astype(dtype)

    return cast


# -- as a definition says ----------------------------------------------------------------------------


def operands_of(op_type: str, definition: OpDef, values: Sequence[Any], graph: Graph | None) -> list[Any]:
    """Returns the operands of an operation: those that are known now as constants of the graph, or as arrays.

    Args:
        op_type: Of the operation.
        definition: Of the operation.
        values: One for each argument of the definition.
        graph: Whose name scope is that of the operation; None for arrays.

    Returns:
        The operands, those of lists one after the other.

    Raises:
        TypeError: A value is of another kind of elements than the others of its group.
        ValueError: It is None, or out of the range of its dtype.
    """
    groups: dict[str, list[Any]] = {}
    for argument, value in zip(definition.arguments, values, strict=True):
        groups.setdefault(argument.group, []).extend(value if argument.is_list else [value])
    leaders = {group: _leader_inside(each) for group, each in groups.items()}
    operands: list[Any] = []
    for argument, value in zip(definition.arguments, values, strict=True):
        names = [f"{argument.name}_{index}" for index in range(len(value))] if argument.is_list else [argument.name]
        for name, each in zip(names, value if argument.is_list else [value], strict=True):
            operand = _converted(op_type, definition, argument, name, each, leaders[argument.group], graph)
            if leaders[argument.group] is None:
                leaders[argument.group] = operand
            operands.append(operand)
    return operands


def _leader_inside(values: Sequence[Any]) -> Any:
    """Returns the value whose dtype others have to take: a tensor, else an array, else None."""
    deferred = _first_deferred(values)
    if deferred is not None:
        return deferred
    return next((each for each in values if isinstance(each, np.ndarray | np.generic)), None)


def _converted(
    op_type: str,
    definition: OpDef,
    argument: Argument,
    name: str,
    value: Any,
    leader: Any,
    graph: Graph | None,
) -> Any:
    dtype = None if leader is None else as_dtype(leader.dtype)
    what = f"{op_type}: {name}"
    if value is None:
        raise ValueError(f"{what} is None; a value is needed")
    tensor = tensor_of(value, dtype if isinstance(value, list | tuple) else None, name)
    if tensor is not None:
        return tensor
    wanted = string.dtype if dtype is not None and is_text(dtype) else dtype
    try:
        array = constant_array(value, wanted, what)
    except (TypeError, ValueError) as error:
        raise_interrupt(error)
        if leader is None or isinstance(value, list | tuple | np.ndarray):
            raise
        of = getattr(leader, "name", "a constant")
        raise TypeError(
            f"{op_type} needs operands of one dtype: {of} ({as_dtype(leader.dtype).name}) and {value!r}, which does "
            f"not fit; cast one"
        ) from error
    allowed, default = definition.dtypes.get(argument.group), default_dtype(op_type, argument.group)
    is_free = dtype is None or leader is value
    if allowed is not None and default is not None and is_free and array.dtype not in allowed:
        if graph is not None and not argument.group.startswith("_"):
            constant_op(graph, array, name)  # TensorFlow makes it before it sees that no such dtype is taken
        keeps = not array.size or array.dtype.kind == "b" or isinstance(value, np.ndarray | np.generic)
        array = array.astype(default) if keeps else constant_array(value, default, what)
    return array if graph is None else constant_op(graph, array, name)


def _operand(operation: str, value: Any) -> Any:
    tensor = tensor_of(value)
    if tensor is not None:
        return tensor
    return value if isinstance(value, _PYTHONS_OWN) else array_of(value, operation)


def _checked(operation: str, value: Any, leader: Tensor | Array) -> Any:
    if isinstance(value, Tensor) and value.dtype != leader.dtype:
        raise TypeError(f"{operation} needs operands of one dtype: {named(leader)} and {named(value)}; cast one")
    return value


def _constant(operation: str, value: Any, leader: Tensor | Array) -> Array:
    array = array_of(value, operation, dtype=leader.dtype)
    if is_text(array.dtype) and is_text(leader.dtype):
        return text_array(value)
    if array.dtype == leader.dtype:
        return array
    if array.size and not _keeps_kind(array.dtype, leader.dtype):
        raise TypeError(
            f"{operation} needs operands of one dtype: {named(leader)} and {value!r} ({array.dtype.name}); cast one"
        )
    try:
        return array_value(array, VariableSpec(operation, leader.dtype, array.shape))
    except ValueRangeError as error:
        raise TypeError(f"{operation}: {value!r} does not fit into the dtype of {named(leader)}") from error


def _keeps_kind(source: np.dtype[Any], target: np.dtype[Any]) -> bool:
    if is_text(source) or is_text(target):
        return False
    return dtype_category(source) <= dtype_category(target)
