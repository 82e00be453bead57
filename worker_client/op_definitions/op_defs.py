"""What TensorFlow's definitions of operations say: names of inputs, the dtypes that they take, the shapes that follow.

One row for each type of operation. What it computes is no part of that: the functions that make operations say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from worker_client.op_definitions import shape_functions as shapes
from worker_client.op_definitions import window_shapes
from worker_client.op_definitions.matrix_op_defs import MATRIX_OPS
from worker_client.op_definitions.op_def import (
    ANY,
    BOOL,
    COMPLEX,
    FLOATS,
    INDICES,
    NUMBERS,
    REAL,
    SHORT_INDICES,
    SIGNED,
    TEXT,
    UNSIGNED,
    DTypes,
    OpDef,
    row,
)
from worker_client.op_definitions.row_op_defs import ROW_OPS
from worker_client.values import dtypes


def _of_two(taken: DTypes) -> OpDef:
    return row("x:T y:T", shapes.broadcast, T=taken)


def _comparison(taken: DTypes) -> OpDef:
    return row("x:T y:T", shapes.broadcast, dtypes.bool.dtype, T=taken)


def _of_one(taken: DTypes, name: str = "x") -> OpDef:
    return row(f"{name}:T", shapes.same, T=taken)


def _reduction(taken: DTypes) -> OpDef:
    return row("input:T reduction_indices:Tidx", shapes.reduced, T=taken, Tidx=INDICES)


def _update(taken: DTypes | None) -> OpDef:
    definition = row("ref:T value:T", shapes.same)
    return definition if taken is None else replace(definition, dtypes={"T": taken})


def _scatter(taken: DTypes | None) -> OpDef:
    definition = row("ref:T indices:Tindices updates:T", shapes.same, Tindices=INDICES)
    return definition if taken is None else replace(definition, dtypes={"T": taken, **definition.dtypes})


_INTEGERS: Final = SIGNED | UNSIGNED
_MATRICES: Final = NUMBERS - {dtypes.int8.dtype, dtypes.int16.dtype}
_FULL: Final = FLOATS | COMPLEX
_CLASSES: Final = frozenset(each.dtype for each in (dtypes.int8, dtypes.uint8, dtypes.int32, dtypes.int64))

OP_DEFS: Final[Mapping[str, OpDef]] = {
    **ROW_OPS,
    **MATRIX_OPS,
    # -- of two
    "Add": _of_two(NUMBERS | TEXT),
    "AddV2": _of_two(NUMBERS),
    "Sub": _of_two(NUMBERS),
    "Mul": _of_two(NUMBERS),
    "RealDiv": _of_two(NUMBERS),
    "FloorDiv": _of_two(NUMBERS),
    "FloorMod": _of_two(REAL),
    "Pow": _of_two(_FULL | SIGNED),
    "Maximum": _of_two(REAL),
    "Minimum": _of_two(REAL),
    "Less": _comparison(REAL),
    "LessEqual": _comparison(REAL),
    "Greater": _comparison(REAL),
    "GreaterEqual": _comparison(REAL),
    "Equal": _comparison(NUMBERS | BOOL | TEXT),
    "NotEqual": _comparison(NUMBERS | BOOL | TEXT),
    "LogicalAnd": row("x:_bool y:_bool", shapes.broadcast, "_bool", _bool=BOOL),
    "LogicalOr": row("x:_bool y:_bool", shapes.broadcast, "_bool", _bool=BOOL),
    "BitwiseAnd": _of_two(_INTEGERS),
    "BitwiseOr": _of_two(_INTEGERS),
    "BitwiseXor": _of_two(_INTEGERS),
    "MatMul": row("a:T b:T", shapes.matrix_product, T=_MATRICES),
    "BatchMatMulV2": row("a:T b:T", shapes.matrix_product, T=_MATRICES | SIGNED),
    # -- of one
    "Abs": _of_one(FLOATS | SIGNED),
    "ComplexAbs": _of_one(COMPLEX),
    "Neg": _of_one(_FULL | SIGNED),
    "Square": _of_one(NUMBERS),
    "Sqrt": _of_one(_FULL),
    "Exp": _of_one(_FULL),
    "Log": _of_one(_FULL),
    "Tanh": _of_one(_FULL),
    "Sigmoid": _of_one(_FULL),
    "Conj": _of_one(COMPLEX, "input"),
    "LogicalNot": row("x:_bool", shapes.same, "_bool", _bool=BOOL),
    "Invert": _of_one(_INTEGERS),
    "L2Loss": row("t:T", shapes.scalar, T=FLOATS),
    "Cast": row("x:SrcT", shapes.same, output="SrcT"),
    "Identity": row("input:T", shapes.same),
    "PlaceholderWithDefault": row("input:dtype", shapes.default_of_placeholder, output="dtype"),
    "ZerosLike": row("x:T", shapes.same),
    "StopGradient": row("input:T", shapes.same),
    **dict.fromkeys(
        ("Floor", "Ceil", "Rint", "Erf", "Erfc", "Lgamma", "Digamma", "CheckNumerics"),
        row("x:T", shapes.same, T=FLOATS),
    ),
    **dict.fromkeys(("IsNan", "IsInf", "IsFinite"), row("x:T", shapes.same, dtypes.bool.dtype, T=FLOATS)),
    **dict.fromkeys(("Rsqrt", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Log1p", "Expm1"), _of_one(_FULL)),
    **dict.fromkeys(("Sinh", "Cosh", "Asinh", "Acosh", "Atanh"), _of_one(_FULL)),
    **dict.fromkeys(("Sign", "Reciprocal", "Round"), _of_one(_FULL | SIGNED)),
    **dict.fromkeys(("Softplus", "Softsign", "Elu", "Selu"), _of_one(FLOATS, "features")),
    **dict.fromkeys(("Relu", "Relu6"), _of_one(REAL, "features")),
    "LeakyRelu": _of_one(FLOATS, "features"),
    "Softmax": row("logits:T", shapes.same_of_a_dimension_or_more, T=FLOATS),
    "LogSoftmax": row("logits:T", shapes.same_of_a_dimension_or_more, T=FLOATS),
    **dict.fromkeys(("Real", "Imag", "Angle"), _of_one(COMPLEX, "input")),
    "Complex": row("real:T imag:T", shapes.broadcast, T=frozenset({dtypes.float32.dtype, dtypes.float64.dtype})),
    "Cross": row("a:T b:T", shapes.cross_product, T=REAL),
    "EnsureShape": row("input:T", shapes.ensured),
    "ClipByValue": row("t:T clip_value_min:T clip_value_max:T", shapes.same, T=NUMBERS),
    "TruncateDiv": _of_two(NUMBERS),
    "TruncateMod": _of_two(FLOATS | INDICES),
    "SquaredDifference": _of_two(_FULL | INDICES),
    **dict.fromkeys(("DivNoNan", "Xlogy", "Xdivy", "MulNoNan"), _of_two(_FULL)),
    "Atan2": row("y:T x:T", shapes.broadcast, T=FLOATS),
    "Cumsum": row("x:T axis:Tidx", shapes.same, T=NUMBERS, Tidx=INDICES),
    "Cumprod": row("x:T axis:Tidx", shapes.same, T=NUMBERS, Tidx=INDICES),
    # -- of several
    "AddN": row("*inputs:T", shapes.all_the_same, T=NUMBERS),
    "ConcatV2": row("*values:T axis:Tidx", shapes.concatenated, Tidx=INDICES),
    "Pack": row("*values:T", shapes.packed),
    "Select": row("condition:_bool t:T e:T", shapes.selected, _bool=BOOL),
    "SelectV2": row("condition:_bool t:T e:T", shapes.broadcast_all, _bool=BOOL),
    # -- over dimensions
    "Sum": _reduction(NUMBERS),
    "Mean": _reduction(NUMBERS),
    "Prod": _reduction(NUMBERS),
    "Max": _reduction(REAL),
    "Min": _reduction(REAL),
    "EuclideanNorm": _reduction(NUMBERS),
    "All": row("input:_bool reduction_indices:Tidx", shapes.reduced, "_bool", _bool=BOOL, Tidx=INDICES),
    "Any": row("input:_bool reduction_indices:Tidx", shapes.reduced, "_bool", _bool=BOOL, Tidx=INDICES),
    "ArgMax": row("input:T dimension:Tidx", shapes.without_dimension, dtypes.int64.dtype, T=REAL | BOOL, Tidx=INDICES),
    "ArgMin": row("input:T dimension:Tidx", shapes.without_dimension, dtypes.int64.dtype, T=REAL | BOOL, Tidx=INDICES),
    # -- shapes, and parts
    "Shape": row("input:T", shapes.shape, dtypes.int32.dtype),
    "Size": row("input:T", shapes.scalar, dtypes.int32.dtype),
    "Rank": row("input:T", shapes.scalar, dtypes.int32.dtype),
    "Reshape": row("tensor:T shape:Tshape", shapes.reshaped, Tshape=INDICES),
    "Transpose": row("x:T perm:Tperm", shapes.transposed, Tperm=INDICES),
    "ConjugateTranspose": row("x:T perm:Tperm", shapes.transposed, Tperm=INDICES),
    "ExpandDims": row("input:T dim:Tdim", shapes.expanded, Tdim=INDICES),
    "Squeeze": row("input:T", shapes.squeezed),
    "Tile": row("input:T multiples:Tmultiples", shapes.tiled, Tmultiples=INDICES),
    "Slice": row("input:T begin:Index size:Index", shapes.boxed, Index=INDICES),
    "StridedSlice": row("input:T begin:Index end:Index strides:Index", shapes.strided, Index=SHORT_INDICES),
    "Split": row("split_dim:_dim value:T", shapes.split_evenly, _dim=frozenset({dtypes.int32.dtype})),
    "SplitV": row(
        "value:T size_splits:Tlen split_dim:_dim",
        shapes.split_into_sizes,
        Tlen=INDICES,
        _dim=frozenset({dtypes.int32.dtype}),
    ),
    "Unpack": row("value:T", shapes.unpacked),
    "GatherV2": row(
        "params:Tparams indices:Tindices axis:Taxis",
        shapes.gathered,
        "Tparams",
        Tindices=SHORT_INDICES,
        Taxis=INDICES,
    ),
    "GatherNd": row("params:Tparams indices:Tindices", shapes.gathered_nd, "Tparams", Tindices=SHORT_INDICES),
    "Where": row("condition:T", shapes.places, dtypes.int64.dtype, T=NUMBERS | BOOL),
    # -- of images
    "Conv2D": row("input:T filter:T", window_shapes.conv2d, T=FLOATS),
    "DepthwiseConv2dNative": row("input:T filter:T", window_shapes.depthwise, T=FLOATS),
    "Conv2DBackpropInput": row(
        "input_sizes:_sizes filter:T out_backprop:T",
        window_shapes.images_of_gradient,
        T=FLOATS,
        _sizes=frozenset({dtypes.int32.dtype}),
    ),
    "Conv2DBackpropFilter": row(
        "input:T filter_sizes:_sizes out_backprop:T",
        window_shapes.filters_of_gradient,
        T=FLOATS,
        _sizes=frozenset({dtypes.int32.dtype}),
    ),
    "MaxPool": row("input:T", window_shapes.pool, T=REAL),
    "AvgPool": row("value:T", window_shapes.pool, T=FLOATS),
    "LRN": row("input:T", window_shapes.local_response, T=FLOATS - {dtypes.float64.dtype}),
    "FusedBatchNormV3": row(
        "x:T scale:U offset:U mean:U variance:U",
        window_shapes.batch_norm,
        ("T", "U", "U", "U", "U", "U"),
        T=FLOATS - {dtypes.float64.dtype},
        U=frozenset({dtypes.float32.dtype}),
    ),
    "FusedBatchNormOfEither": row(
        "x:T scale:U offset:U mean:U variance:U training:_bool",
        window_shapes.batch_norm_of_either,
        ("T", "U", "U"),
        T=FLOATS - {dtypes.float64.dtype},
        U=frozenset({dtypes.float32.dtype}),
        _bool=BOOL,
    ),
    # -- of variables
    "Assign": _update(ANY),
    "AssignAdd": _update(NUMBERS),
    "AssignSub": _update(NUMBERS),
    "StridedSliceAssign": row("ref:T begin:Index end:Index strides:Index value:T", shapes.same, Index=SHORT_INDICES),
    "CountUpTo": row("ref:T", shapes.same, T=INDICES),
    "ScatterUpdate": _scatter(ANY),
    "ScatterAdd": _scatter(NUMBERS),
    "ScatterSub": _scatter(NUMBERS),
    "ScatterMul": _scatter(NUMBERS),
    "ScatterDiv": _scatter(NUMBERS),
    "ScatterMin": _scatter(FLOATS | INDICES),
    "ScatterMax": _scatter(FLOATS | INDICES),
    "ScatterNdUpdate": _scatter(ANY),
    "ScatterNdAdd": _scatter(NUMBERS),
    "ScatterNdSub": _scatter(NUMBERS),
    "ScatterNdMul": _scatter(NUMBERS),  # this and the next one only of parts
    "ScatterNdDiv": _scatter(NUMBERS),
    "ScatterNdMin": _scatter(FLOATS | INDICES),
    "ScatterNdMax": _scatter(FLOATS | INDICES),
    # -- made from sizes
    "Fill": row("dims:index_type value:T", shapes.filled, index_type=INDICES),
    "Range": row("start:Tidx limit:Tidx delta:Tidx", shapes.counted, "Tidx", Tidx=FLOATS | INDICES),
    "OneHot": row("indices:TI depth:_depth on_value:T off_value:T", shapes.one_hot, TI=_CLASSES, _depth=INDICES),
}
