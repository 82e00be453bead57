"""Makes operations as TensorFlow's definitions say: with checked dtypes and shapes, and constants as their inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array
from worker_client.deferred.call import divides_integers, may_divide_integers
from worker_client.graph.computation import Constant, Kernel
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation, OutputSpec, Tensor
from worker_client.op_definitions.op_attributes import DEFAULT_ATTRIBUTES
from worker_client.op_definitions.op_def import OpDef, Output, is_taken
from worker_client.op_definitions.op_defs import OP_DEFS
from worker_client.op_definitions.shape_functions import Known
from worker_client.values.dtypes import DType
from worker_client.values.shapes import TensorShape
from worker_client.values.text import graph_array, graph_dtype, is_text


def constant_op(graph: Graph, value: Array, name: str) -> Tensor:
    """Adds a constant.

    Args:
        graph: To which.
        value: Copied if it can change, or is not in native byte order.
        name: Name within the name scope.
    """
    if not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    if value.base is not None or value.flags.writeable:
        value = value.copy()
        value.flags.writeable = False
    output = OutputSpec(graph_dtype(value.dtype), TensorShape(value.shape))
    attributes = {"dtype": DType.of(output.dtype), "value": value}
    return graph.create_op(
        "Const", [], [output], name=name, attributes=attributes, computation=Constant(value)
    ).outputs[0]


def built_op(
    graph: Graph,
    op_type: str,
    function: Callable[..., Any],
    inputs: Sequence[Tensor],
    *,
    name: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    dtype: Output | None = None,
) -> Operation:
    """Adds an operation of a type that has a definition.

    Args:
        graph: To which.
        op_type: The type.
        function: Computes the output from the values of the inputs, or a tuple of several outputs; nothing else
            matters to it.
        inputs: Those of lists one after the other.
        name: Name within the name scope; the type if not given.
        attributes: Those that do not follow from the inputs.
        dtype: Of the outputs, if not that which the definition says; or one for each.

    Raises:
        TypeError: The dtypes of the inputs are not those that such operations take.
        ValueError: The shapes do not fit.
    """
    definition = OP_DEFS[op_type]
    dtypes = checked_dtypes(definition, op_type, name, inputs)
    all_attributes: dict[str, Any] = {**DEFAULT_ATTRIBUTES.get(op_type, {}), **_attributes(dtypes)}
    if definition.has_list:
        all_attributes["N"] = definition.length_of_lists(len(inputs))
    all_attributes.update(attributes or {})
    try:
        shapes = definition.shape(Known(inputs, all_attributes))
    except ValueError as error:
        raise_interrupt(error)
        given = " and ".join(f"{each.name} ({each.dtype.name}{each.shape})" for each in inputs)
        raise ValueError(f"{_titled(op_type, name)} of {given}: {error}") from error
    shapes = shapes if isinstance(shapes, list) else [shapes]
    made = definition.output if dtype is None else dtype
    each = made if isinstance(made, tuple) else (made,) * len(shapes)
    outputs = [
        OutputSpec(dtypes[one] if isinstance(one, str) else one, shape) for one, shape in zip(each, shapes, strict=True)
    ]
    kernel = Kernel(QuietFunction(function), folds=True)
    return graph.create_op(op_type, inputs, outputs, name=name, attributes=all_attributes, computation=kernel)


def dtype_attributes(op_type: str, name: str | None, inputs: Sequence[Tensor]) -> dict[str, DType]:
    """Returns the attributes that say which dtypes the inputs of an operation have.

    Raises:
        TypeError: The dtypes are not those that such operations take.
    """
    return _attributes(checked_dtypes(OP_DEFS[op_type], op_type, name, inputs))


def _attributes(dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, Any]:
    return {group: DType.of(dtype) for group, dtype in dtypes.items() if not group.startswith("_")}


def checked_dtypes(
    definition: OpDef, op_type: str, name: str | None, inputs: Sequence[Tensor | Array]
) -> dict[str, np.dtype[Any]]:
    """Returns the dtype of each group of inputs.

    Raises:
        TypeError: They differ inside a group, or one is not among those that the group takes.
    """
    found: dict[str, np.dtype[Any]] = {}
    in_list = definition.length_of_lists(len(inputs))
    given = iter(inputs)
    for argument in definition.arguments:
        for tensor in (next(given) for _ in range(in_list if argument.is_list else 1)):
            own = numpy_dtype(tensor.dtype)
            dtype = found.setdefault(argument.group, own)
            if own != dtype and not (is_text(dtype) and is_text(own)):
                leader = next(each for each in inputs if each.dtype == dtype)
                raise TypeError(f"{op_type} needs operands of one dtype: {named(leader)} and {named(tensor)}; cast one")
            allowed = definition.dtypes.get(argument.group)
            if allowed is not None and not is_taken(dtype, allowed):
                taken = ", ".join(sorted(DType(each).name for each in allowed))
                raise TypeError(
                    f"{_titled(op_type, name)}: {argument.name} is {named(tensor)}; it takes {taken}; cast it"
                )
    return found


def numpy_dtype(dtype: Any) -> np.dtype[Any]:
    """Returns the NumPy dtype of the dtype of a tensor or an array."""
    return dtype.dtype if type(dtype) is DType else dtype


def _titled(op_type: str, name: str | None) -> str:
    return f"{op_type} {name.removesuffix('/')}" if name else op_type


def named(value: Tensor | Array) -> str:
    """Returns what errors call an operand."""
    what = value.name if isinstance(value, Tensor) else "a constant"
    return f"{what} ({DType.of(graph_dtype(numpy_dtype(value.dtype))).name})"


class QuietFunction:
    """A function whose results are arrays, and which makes infinities and nan without warnings, as TensorFlow does.

    Of integers divided by zero it raises FloatingPointError.

    Attributes:
        function: The function.
        quietly: What it does where NumPy gives no warnings already; None of what may divide integers.
    """

    __slots__ = ("function", "quietly")

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.quietly = None if may_divide_integers(function) else self._quietly

    def __call__(self, *values: Array) -> Array | tuple[Array, ...]:
        divide: Literal["raise", "ignore"] = "raise" if divides_integers(self.function, values) else "ignore"
        with np.errstate(all="ignore", divide=divide):
            return self._quietly(*values)

    def _quietly(self, *values: Array) -> Array | tuple[Array, ...]:
        result = self.function(*values)
        return result if isinstance(result, tuple) else graph_array(result)
