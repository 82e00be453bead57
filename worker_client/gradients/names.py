"""What the operations of a gradient are called, as TensorFlow does: after what it makes there last for each input."""

from __future__ import annotations

from typing import Final

from worker_client.graph.operation import Operation

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
"""Of operations of two tensors, if they have one shape. If not, the last is a "Reshape" to the shape of the input."""

_NAMES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("Reshape", "ExpandDims", "Squeeze"), ("Reshape",)),
    **dict.fromkeys(("Exp", "Log", "Abs", "L2Loss", "Cos", "Sin", "Softplus"), ("mul",)),
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


def name_of(operation: Operation, place: int) -> str:
    """Returns the name, inside "<operation>_grad", of the gradient by one operand."""
    op_type = operation.type
    if op_type in _OF_TWO:
        x, y = operation.operands[0].shape, operation.operands[-1].shape
        return _OF_TWO[op_type][place] if x.is_fully_defined() and x == y else "Reshape"
    if op_type == "ConcatV2":
        return "Slice" if place == 0 else f"Slice_{place}"
    names = _NAMES.get(op_type, ())
    return names[place] if place < len(names) and names[place] else f"{op_type}Grad"
