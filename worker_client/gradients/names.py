"""What the operations of a gradient are called, as TensorFlow does: after what it makes there last for each input.

That is an operation of the derivative; or, where gradients are gated, what lets none of the gradients of an operation
be used before all are computed. A session computes all before it makes updates, so that the gate is only a name.
"""

from __future__ import annotations

from typing import Final

from worker_client.graph.operation import Operation
from worker_client.values.dtypes import DType
from worker_client.values.shapes import TensorShape

_OF_TWO: Final[dict[str, tuple[str, str]]] = {
    "Add": ("Reshape", "Reshape"),
    "AddV2": ("Reshape", "Reshape"),
    "Maximum": ("SelectV2", "SelectV2_1"),
    "Minimum": ("SelectV2", "SelectV2_1"),
    "Mul": ("Mul", "Mul_1"),
    "Pow": ("mul_1", "mul_3"),
    "RealDiv": ("RealDiv", "mul"),
    "SquaredDifference": ("mul_1", "Neg"),
    "Sub": ("Reshape", "Neg"),
}
"""Of operations of two tensors. Of one that may have been broadcast the last is a "Reshape" to its shape."""

_NAMES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("Reshape", "ExpandDims", "Squeeze"), ("Reshape",)),
    **dict.fromkeys(("Exp", "Log", "Abs", "L2Loss", "Cos", "Sin", "Softplus", "Lgamma", "Digamma"), ("mul",)),
    **dict.fromkeys(("Softmax", "Square"), ("mul_1",)),
    **dict.fromkeys(("MatMul", "BatchMatMulV2"), ("MatMul", "MatMul_1")),
    "BiasAdd": ("", "BiasAddGrad"),
    "Cast": ("Cast",),
    "Conv2D": ("Conv2DBackpropInput", "Conv2DBackpropFilter"),
    "GatherNd": ("ScatterNd",),
    "LogSoftmax": ("sub",),
    "Max": ("mul_1",),
    "Mean": ("truediv",),
    "Min": ("mul_1",),
    "Neg": ("Neg",),
    "Pack": ("unstack",),
    "Pad": ("Slice_1",),
    "Prod": ("Reshape_1",),
    "Select": ("", "Select", "Select_1"),
    "SoftmaxCrossEntropyWithLogits": ("mul", "mul_1"),
    "SparseSoftmaxCrossEntropyWithLogits": ("mul",),
    "Split": ("", "concat"),
    "SplitV": ("concat",),
    "Sum": ("Tile",),
    "Tile": ("Sum",),
    "Transpose": ("transpose",),
    "Unpack": ("stack",),
}


def name_of(operation: Operation, place: int, *, gated: bool) -> str:
    """Returns the name, inside "<operation>_grad", of the gradient by one operand.

    Args:
        operation: What is differentiated.
        place: Which operand.
        gated: Whether no gradient is to be used before all of the operation's are there.
    """
    if gated:
        before = [DType(each.dtype).is_floating for each in operation.operands]
        if sum(before) > 1:
            number = sum(before[:place])
            return f"tuple/control_dependency_{number}" if number else "tuple/control_dependency"
    op_type = operation.type
    if op_type in _OF_TWO:
        are_broadcast = _may_be_broadcast(operation.operands[0].shape, operation.operands[-1].shape)
        if not are_broadcast[place]:
            return _OF_TWO[op_type][place]
        return "Reshape_1" if place and are_broadcast[0] else "Reshape"
    if op_type == "ConcatV2":
        return "Slice" if place == 0 else f"Slice_{place}"
    names = _NAMES.get(op_type, ())
    return names[place] if place < len(names) and names[place] else f"{op_type}Grad"


def _may_be_broadcast(x: TensorShape, y: TensorShape) -> tuple[bool, bool]:
    """Returns for each of two tensors whether TensorFlow adds up its gradient, as far as it can tell beforehand."""
    if x.ndims is None or y.ndims is None:
        return True, True
    ndims = max(x.ndims, y.ndims)
    ones, others = ([*[1] * (ndims - len(each)), *each.as_list()] for each in (x, y))
    pairs = [*zip(ones, others, strict=True)]
    if any(1 not in pair and None in pair for pair in pairs):
        return True, True
    return (
        len(x) < ndims or any(one == 1 != other for one, other in pairs),
        len(y) < ndims or any(other == 1 != one for one, other in pairs),
    )
