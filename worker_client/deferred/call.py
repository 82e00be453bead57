"""Turns a call of a NumPy function on deferred tensors into an operation that makes the call when a session runs it.

Any NumPy function that takes arrays and returns one can be deferred.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.shape_inference import MAX_KEPT_SIZE, inferred
from worker_client.graph.computation import Constant, Kernel
from worker_client.graph.default_graph import graph_of
from worker_client.graph.deferred_array import DeferredValue
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.values.conversion import IndexedSlices
from worker_client.values.shapes import TensorShape
from worker_client.values.text import text_array

_WHOLE_DIVISIONS: Final = frozenset({np.floor_divide, np.remainder, np.fmod})


def deferred_call(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    keywords: Mapping[str, Any] | None = None,
    *,
    op_type: str,
    name: str | None = None,
    output: OutputSpec | None = None,
    is_view: bool = False,
) -> Tensor:
    """Adds an operation that calls a function.

    Args:
        function: Returns one array; must not change its arguments. Whatever else its result depends on must be among
            the arguments.
        arguments: Its arguments; tensors, variables, and lists and slices of them are replaced by their values when it
            runs. Arrays are copied now.
        keywords: Its keyword arguments, likewise.
        op_type: What the operation is called, such as "AddV2".
        name: Name within the name scope; ``op_type`` if not given.
        output: What the result will look like, if the caller knows; otherwise it is found out.
        is_view: Whether the function only looks at its arguments in another way, whatever their size.

    Returns:
        The operation's output.

    Raises:
        ValueError: The shapes do not fit each other, or the tensors belong to different graphs.
        TypeError: The function does not take such dtypes.
    """
    return _added(DeferredCall(function, arguments, keywords or {}, op_type), name, output, is_view=is_view)


def call(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    keywords: Mapping[str, Any] | None = None,
    *,
    op_type: str,
    name: str | None = None,
    output: OutputSpec | None = None,
    is_view: bool = False,
) -> Any:
    """Does what ``deferred_call`` does; at once where neither arguments nor default graph are deferred.

    Returns:
        The operation's output, or the function's result: an array, or a NumPy scalar.
    """
    deferred = DeferredCall(function, arguments, keywords or {}, op_type)
    if not deferred.inputs and not graph_of(()).deferred:
        return deferred()[()]
    return _added(deferred, name, output, is_view=is_view)


def call_for_several(
    function: Callable[..., tuple[Array, ...]],
    operands: Sequence[Any],
    outputs: Sequence[OutputSpec],
    *,
    op_type: str,
    name: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> list[Any]:
    """Does what ``call`` does with a function that returns several arrays: the outputs of one operation.

    Args:
        function: Of the operands alone; must not change them.
        operands: Tensors and arrays.
        outputs: What the results will look like.
        op_type: What the operation is called.
        name: Name within the name scope; ``op_type`` if not given.
        attributes: Of the operation.
    """
    tensors = [each for each in operands if isinstance(each, Tensor)]
    graph = graph_of(tensors)
    if not graph.deferred:
        return list(function(*operands))

    kernel = Kernel(CallForSeveral(function, operands, outputs))
    op = graph.create_op(op_type, tensors, outputs, name=name, attributes=attributes, computation=kernel)
    return list(op.outputs)


class CallForSeveral:
    """A function that returns several arrays, and its operands.

    Attributes:
        function: The function.
    """

    def __init__(
        self, function: Callable[..., tuple[Array, ...]], operands: Sequence[Any], outputs: Sequence[OutputSpec]
    ):
        self.function = function
        self._operands = operands
        self._outputs = outputs

    def __call__(self, *values: Array) -> tuple[Array, ...]:
        found = self.function(*self.arguments(values)[0])
        return tuple(np.asarray(each, spec.dtype) for each, spec in zip(found, self._outputs, strict=True))

    def arguments(self, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns the function's arguments, with values for the tensors, and no keyword arguments."""
        given = iter(values)
        return tuple(next(given) if isinstance(each, Tensor) else each for each in self._operands), {}

    @property
    def places(self) -> list[int | None]:
        """For each tensor which argument it is."""
        return [at for at, each in enumerate(self._operands) if isinstance(each, Tensor)]


def tensor_or_none(value: Any) -> Tensor | None:
    """Returns a deferred tensor, that of a deferred variable included, or None for anything else.

    The tensor of a partitioned variable, its parts put together, is a new one each time.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, IndexedSlices) and isinstance(value.values, DeferredValue):
        whole: Tensor = Tensor.arithmetic.dense(value)
        return whole
    tensor: Tensor | None = value.as_graph_tensor() if isinstance(value, DeferredValue) else None
    return tensor


def is_deferred(value: Any) -> bool:
    """Whether ``tensor_or_none`` would return a tensor. Makes no operation."""
    return isinstance(value, DeferredValue) or (
        isinstance(value, IndexedSlices) and isinstance(value.values, DeferredValue)
    )


def itself(value: Any) -> Any:
    """Returns what it is given: the function of an operation that only names a value."""
    return value


class DeferredCall:
    """A function and its arguments, with slots where the values of tensors belong.

    Arrays of numbers that cannot be sizes or indices have slots as well, so that shape inference treats them, and
    whatever size they have, like tensors.

    Attributes:
        op_type: What the operation is called.
        inputs: The tensors.
        function: The function.
    """

    def __init__(
        self, function: Callable[..., Any], arguments: Sequence[Any], keywords: Mapping[str, Any], op_type: str
    ):
        self.op_type = op_type
        self.inputs: list[Tensor] = []
        self._arrays: list[Array] = []
        self.function = function
        self._positional = [self._template(each) for each in arguments]
        self._named = {key: self._template(each) for key, each in keywords.items()}

    def __call__(self, *values: Array) -> Array:
        return self.applied(values, self._arrays)

    def arguments(self, values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns the function's arguments and keyword arguments, with values for the tensors."""
        positional = _filled(self._positional, values, self._arrays)
        return tuple(positional), _filled(self._named, values, self._arrays)

    @property
    def places(self) -> list[int | None]:
        """For each tensor which argument it is; None where it is part of one, or a keyword argument."""
        places = {each.position: at for at, each in enumerate(self._positional) if type(each) is _Slot}
        return [places.get(number) for number in range(len(self.inputs))]

    def applied(self, values: Sequence[Array], arrays: Sequence[Array], *, is_trial: bool = False) -> Array:
        """Makes the call with values for the tensors and for the arrays among its arguments.

        Args:
            values: For the tensors.
            arrays: For the arrays.
            is_trial: Whether the values only stand for others, so that it is no matter if they are zero.

        Raises:
            FloatingPointError: Integers are divided by zero, and the result would be an integer.
        """
        positional, named = _filled(self._positional, values, arrays), _filled(self._named, values, arrays)
        divide: Literal["raise", "ignore"] = "ignore"
        if not is_trial and divides_integers(self.function, positional):
            divide = "raise"
        with np.errstate(all="ignore", divide=divide):  # as TensorFlow's kernels: no warnings, but infinities and nan
            result = self.function(*positional, **named)
        if isinstance(result, list | tuple):
            raise TypeError(f"{self.op_type} returns several arrays, an operation returns one")
        return text_array(result) if type(result) is bytes else np.asarray(result)

    def freeze(self) -> None:
        """Makes it independent of arrays that belong to others."""
        self._positional, self._named = _frozen(self._positional), _frozen(self._named)
        self._arrays = [_frozen(array) for array in self._arrays]

    def output(self, *, is_view: bool) -> OutputSpec:
        """Returns what is known about the result."""
        arrays = [OutputSpec(array.dtype, TensorShape(array.shape)) for array in self._arrays]
        specs = [OutputSpec(tensor.dtype, tensor.shape) for tensor in self.inputs]
        named = [f"{tensor.name} ({tensor.dtype.name}{tensor.shape})" for tensor in self.inputs]
        named += [f"a constant ({array.dtype.name}{array.shape})" for array in arrays]
        number = len(specs)
        return inferred(
            lambda *values: self.applied(values[:number], values[number:], is_trial=True),
            [*specs, *arrays],
            description=f"{self.op_type} of {' and '.join(named) or 'constants'}",
            may_shrink=self.may_shrink,
            is_view=is_view,
        )

    @property
    def may_shrink(self) -> bool:
        """Whether no constant argument would mean something else for smaller arrays."""
        return all(size <= MAX_KEPT_SIZE for size in _constants([self._positional, self._named]))

    def _template(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)([self._template(each) for each in value]) if _is_plain(value) else value
        if isinstance(value, dict):
            return {key: self._template(each) for key, each in value.items()}
        if isinstance(value, slice):
            return slice(*(self._template(bound) for bound in (value.start, value.stop, value.step)))
        if isinstance(value, np.ndarray) and value.ndim and value.dtype.kind not in "biu":
            self._arrays.append(value)
            return _ArraySlot(len(self._arrays) - 1)
        tensor = tensor_or_none(value)
        if tensor is None:
            return value
        self.inputs.append(tensor)
        return _Slot(len(self.inputs) - 1)


def divides_integers(function: Callable[..., Any], operands: Sequence[Any]) -> bool:
    """Whether integers are divided with an integer result, which has no value for a division by zero."""
    if not may_divide_integers(function):
        return False
    ufunc: Any = getattr(function, "__self__", function)
    return all(np.asarray(operand).dtype.kind in "iu" for operand in operands[: ufunc.nin])


def may_divide_integers(function: Callable[..., Any]) -> bool:
    """Whether a function is one that divides integers with an integer result, if it is given integers."""
    ufunc = getattr(function, "__self__", function)  # also of one of its methods
    return isinstance(ufunc, np.ufunc) and ufunc in _WHOLE_DIVISIONS


def _added(deferred: DeferredCall, name: str | None, output: OutputSpec | None, *, is_view: bool) -> Tensor:
    graph = graph_of(deferred.inputs)
    deferred.freeze()
    if output is None:
        output = deferred.output(is_view=is_view)
    computation = Constant(deferred()) if deferred.op_type == "Const" else Kernel(deferred)
    return graph.create_op(deferred.op_type, deferred.inputs, [output], name=name, computation=computation).outputs[0]


class _Slot:
    """Where the value of an input belongs in a call's arguments."""

    __slots__ = ("position",)

    def __init__(self, position: int):
        self.position = position


class _ArraySlot(_Slot):
    """Where an array belongs that is not a tensor's."""

    __slots__ = ()


def _is_plain(value: Sequence[Any]) -> bool:
    return type(value) in (list, tuple)


def _frozen(template: Any) -> Any:
    """Returns the template with arrays that cannot change: the same ones, or read-only copies."""
    if isinstance(template, list | tuple) and _is_plain(template):
        return type(template)([_frozen(each) for each in template])
    if isinstance(template, dict):
        return {key: _frozen(each) for key, each in template.items()}
    if not isinstance(template, np.ndarray) or (template.base is None and not template.flags.writeable):
        return template
    copy = template.copy()
    copy.flags.writeable = False
    return copy


def _filled(template: Any, values: Sequence[Array], arrays: Sequence[Array]) -> Any:
    if isinstance(template, _Slot):
        return (arrays if isinstance(template, _ArraySlot) else values)[template.position]
    if isinstance(template, list | tuple) and _is_plain(template):
        return type(template)([_filled(each, values, arrays) for each in template])
    if isinstance(template, dict):
        return {key: _filled(each, values, arrays) for key, each in template.items()}
    if isinstance(template, slice):
        return slice(*(_filled(bound, values, arrays) for bound in (template.start, template.stop, template.step)))
    return template


def _constants(template: Any) -> Iterator[int]:
    """The magnitudes of all integers and the sizes of all arrays in some arguments."""
    if isinstance(template, dict):
        template = list(template.values())
    if isinstance(template, slice):
        template = [template.start, template.stop, template.step]
    if isinstance(template, list | tuple):
        yield len(template)
        for each in template:
            yield from _constants(each)
    elif isinstance(template, np.ndarray):
        yield from template.shape
        if template.dtype.kind in "iu" and template.size:
            yield max(abs(int(template.min())), abs(int(template.max())))
    elif isinstance(template, int | np.integer):
        yield abs(int(template))
