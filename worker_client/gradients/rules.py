"""Gradients that are more than a function of arrays: those of variables, of rows, and those that are passed on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.building import constant_op
from worker_client.deferred.call import deferred_call
from worker_client.deferred.computed import computed
from worker_client.derivatives.registry import SELECTING, Constant, differentiable
from worker_client.gradients.kernel import derivative_of, gradient_op
from worker_client.gradients.names import name_of
from worker_client.gradients.sums import Gradient, dense
from worker_client.graph.computation import Constant as ConstantValue
from worker_client.graph.computation import SeededKernel, VariableAccess
from worker_client.graph.operation import Operation, OutputSpec, Tensor
from worker_client.op_definitions.static_values import constant_value
from worker_client.values.conversion import IndexedSlices
from worker_client.values.shapes import TensorShape


@dataclass(frozen=True, slots=True)
class Wanted:
    """Says by which inputs of an operation the gradient is wanted.

    Attributes:
        is_wanted: Whether that by a tensor is.
        gated: Whether none is to be used before all of the operation's are there.
    """

    is_wanted: Callable[[Tensor], bool]
    gated: bool

    def __call__(self, tensor: Tensor) -> bool:
        return self.is_wanted(tensor)


GraphRule: TypeAlias = Callable[[Operation, Sequence[Gradient | None], Wanted], Sequence[Gradient | None]]
"""Given an operation and the gradients of its outputs, adds operations; returns the gradients of its inputs."""


GRADIENT_FUNCTION: Final = "_gradient_function"
"""Name of the attribute of an operation that has a graph rule of its own."""


def gradients_of_inputs(
    operation: Operation, gradients: Sequence[Gradient | None], wanted: Wanted
) -> Sequence[Gradient | None]:
    """Returns the gradients of an operation's inputs, None for those without or not wanted.

    Raises:
        LookupError: There is no rule for the operation.
    """
    rule = _rule_of(operation)
    if rule is not None:
        return rule(operation, gradients, wanted)
    derivative = derivative_of(operation)
    if isinstance(derivative, Constant):
        return _none(operation, gradients, wanted)
    if derivative is None:
        raise no_gradient_error(operation)
    return [None] * len(operation.references) + [
        _by_derivative(operation, place, gradients, wanted) if wanted(operand) else None
        for place, operand in enumerate(operation.operands)
    ]


def no_gradient_error(operation: Operation) -> LookupError:
    """Returns the error for an operation without a rule."""
    return LookupError(
        f"No gradient defined for operation '{operation.name}' (op type: {operation.type}). Where it may count as a "
        f"constant, put tf.stop_gradient around its result; otherwise compute it from operations that have gradients"
    )


def _rule_of(operation: Operation) -> GraphRule | None:
    own: GraphRule | None = operation.attributes.get(GRADIENT_FUNCTION)
    if own is not None:
        return own
    computation = operation.computation
    if isinstance(computation, VariableAccess):
        if computation.mutates:
            return _none
        return _OF_ACCESSES.get(operation.type)
    if computation is None or isinstance(computation, ConstantValue | SeededKernel):
        return _none
    if operation.type in ("GatherV2", "GatherNd") and "Tindices" not in operation.attributes:
        return None  # made of several parts, or for each entry of a batch
    return _OF_TYPES.get(operation.type)


def _none(operation: Operation, gradients: Sequence[Gradient | None], wanted: Wanted) -> Sequence[Gradient | None]:
    del gradients, wanted
    return [None] * len(operation.inputs)


def _passed(operation: Operation, gradients: Sequence[Gradient | None], wanted: Wanted) -> Sequence[Gradient | None]:
    del wanted
    return [*gradients, *[None] * (len(operation.inputs) - len(gradients))]


def _sum_of_same(
    operation: Operation, gradients: Sequence[Gradient | None], wanted: Wanted
) -> Sequence[Gradient | None]:
    """Of a sum of tensors of one shape: passes the gradient on to each; otherwise each gets its part of the sum."""
    (gradient,) = gradients
    output = operation.outputs[0].shape
    found: list[Gradient | None] = []
    for place, operand in enumerate(operation.operands):
        if not wanted(operand):
            found.append(None)
        elif operation.type == "AddN" or _fills(operand.shape, operation.operands[1 - place].shape, output):
            found.append(gradient)
        else:
            found.append(_by_derivative(operation, place, gradients, wanted))
    return found


def _fills(shape: TensorShape, other: TensorShape, output: TensorShape) -> bool:
    """Whether a tensor surely has the shape of what it and another one were broadcast to."""
    if shape.ndims is None or other.ndims is None or shape.ndims != output.ndims:
        return False
    others = [1] * (shape.ndims - other.ndims) + other.as_list()
    return all(
        theirs == 1 or (size is not None and size == total)
        for size, theirs, total in zip(shape.as_list(), others, output.as_list(), strict=True)
    )


def _bias_added(
    operation: Operation, gradients: Sequence[Gradient | None], wanted: Wanted
) -> Sequence[Gradient | None]:
    value, bias = operation.operands[:2] if len(operation.operands) > 1 else (operation.operands[0], None)
    found: list[Gradient | None] = [gradients[0] if wanted(value) else None]
    if bias is not None:
        found.append(_by_derivative(operation, 1, gradients, wanted) if wanted(bias) else None)
    return found


def _by_derivative(operation: Operation, place: int, gradients: Sequence[Gradient | None], wanted: Wanted) -> Tensor:
    derivative = derivative_of(operation)
    if derivative is None:
        raise no_gradient_error(operation)
    given = [None if each is None else dense(each) for each in gradients]
    return gradient_op(operation, derivative, place, given, name_of(operation, place, gated=wanted.gated))


# -- rows -----------------------------------------------------------------------------------------


def _gathered(operation: Operation, gradients: Sequence[Gradient | None], wanted: Wanted) -> Sequence[Gradient | None]:
    """Of rows: rows; of what lies along another dimension, a whole tensor."""
    rest: list[None] = [None] * (len(operation.inputs) - 1)
    if not wanted(operation.inputs[0]):
        return [None, *rest]
    if not isinstance(operation.computation, VariableAccess):
        axis = constant_value(operation.operands[2]) if len(operation.operands) > 2 else None
        if axis is None or int(axis) != 0:
            return [_by_derivative(operation, 0, gradients, wanted), *rest]
    return [_rows(operation.inputs[0], operation.inputs[1], gradients[0]), *rest]


def _gathered_nd(
    operation: Operation, gradients: Sequence[Gradient | None], wanted: Wanted
) -> Sequence[Gradient | None]:
    """Of rows of a variable: rows; of smaller boxes, a whole tensor."""
    source, places = operation.inputs[:2]
    depth = places.shape[-1] if places.shape.ndims else None
    if not wanted(source):
        return [None, None]
    if depth is not None and int(depth or 0) == 1:
        return [_rows(source, places, gradients[0], depth=1), None]
    if not isinstance(operation.computation, VariableAccess):
        return [_by_derivative(operation, 0, gradients, wanted), None]
    (gradient,) = gradients
    operands = [places, dense(_given(gradient)), _shape_of(source)]
    output = OutputSpec(source.dtype, source.shape)
    return [deferred_call(_placed, operands, op_type="ScatterNd", output=output), None]


def _placed(places: Array, rows: Array, sizes: Array) -> Array:
    result = np.zeros(sizes.tolist(), rows.dtype)
    np.add.at(result, tuple(np.moveaxis(places, -1, 0)), rows)
    return result


def _rows(source: Tensor, indices: Tensor, gradient: Gradient | None, depth: int = 0) -> IndexedSlices:
    """Returns the gradient of rows of a tensor or variable as rows of that.

    Args:
        source: The tensor or variable.
        indices: Of the rows.
        gradient: Of what was taken.
        depth: How many of the last dimensions of the indices are not among those of what was taken.
    """
    sizes: Any = _shape_of(source)
    output = OutputSpec(source.dtype, TensorShape([None, *source.shape[1:]] if source.shape.ndims else None))
    operands = [dense(_given(gradient)), indices, depth]
    values = deferred_call(_as_rows, operands, op_type="Reshape", output=output)
    output = OutputSpec(indices.dtype, TensorShape([indices.shape.num_elements()]))
    rows = deferred_call(_flat, [indices], op_type="Reshape", name="Reshape_1", output=output)
    return IndexedSlices(values, rows, sizes)


@differentiable(SELECTING)
def _as_rows(gradient: Array, indices: Array, depth: int) -> Array:
    """Returns a gradient with one dimension for all those of the indices."""
    return gradient.reshape(indices.size, *gradient.shape[indices.ndim - depth :])


def _flat(indices: Array) -> Array:
    return indices.reshape(-1)


def _given(gradient: Gradient | None) -> Gradient:
    if gradient is None:
        raise ValueError("an operation of one output is only asked for gradients where that has one")
    return gradient


def _shape_of(tensor: Tensor) -> Tensor:
    if tensor.shape.is_fully_defined():
        return constant_op(tensor.graph, np.array(tensor.shape.as_list(), np.int32), "Shape")
    found: Tensor = computed("Shape", lambda array: np.array(array.shape, np.int32), [tensor], name="Shape")
    return found


_OF_TYPES: Final[dict[str, GraphRule]] = {
    "Identity": _passed,
    "IdentityN": _passed,
    "PlaceholderWithDefault": _passed,
    "Print": _passed,
    "Add": _sum_of_same,
    "AddV2": _sum_of_same,
    "AddN": _sum_of_same,
    "BiasAdd": _bias_added,
    "GatherV2": _gathered,
    "GatherNd": _gathered_nd,
}
"""By the type of the operation."""

_OF_ACCESSES: Final[dict[str, GraphRule]] = {
    "Identity": _passed,
    "GatherV2": _gathered,
    "GatherNd": _gathered_nd,
    "IsVariableInitialized": _none,
}
"""The same, of operations that read variables."""
