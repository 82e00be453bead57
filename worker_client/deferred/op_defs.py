"""What TensorFlow's definitions of operations say: names of inputs, the dtypes that they take, the shapes that follow.

One row for each type of operation. What it computes is no part of that: the functions that make operations say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np

from worker_client.deferred import shape_functions as shapes
from worker_client.deferred import window_shapes
from worker_client.deferred.shape_functions import ShapeFunction
from worker_client.values import dtypes
from worker_client.values.text import is_text

TEXT: Final = frozenset({dtypes.string.dtype})
BOOL: Final = frozenset({dtypes.bool.dtype})
FLOATS: Final = frozenset(each.dtype for each in (dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64))
COMPLEX: Final = frozenset({dtypes.complex64.dtype, dtypes.complex128.dtype})
SIGNED: Final = frozenset(each.dtype for each in (dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64))
UNSIGNED: Final = frozenset(each.dtype for each in (dtypes.uint8, dtypes.uint16, dtypes.uint32, dtypes.uint64))
REAL: Final = FLOATS | SIGNED | UNSIGNED
NUMBERS: Final = REAL | COMPLEX
INDICES: Final = frozenset({dtypes.int32.dtype, dtypes.int64.dtype})
SHORT_INDICES: Final = INDICES | {dtypes.int16.dtype}

DTypes: TypeAlias = frozenset[np.dtype[Any]]
Output: TypeAlias = str | np.dtype[Any] | tuple[str | np.dtype[Any], ...]
ANY: Final = None


@dataclass(frozen=True, slots=True)
class Argument:
    """An input.

    Attributes:
        name: As TensorFlow's; a constant for it has this name inside that of the operation.
        group: Inputs of the same group have the same dtype, which is the attribute of this name; it is none if the name
            begins with "_".
        is_list: Whether it is a list of tensors.
    """

    name: str
    group: str
    is_list: bool


@dataclass(frozen=True, slots=True)
class OpDef:
    """A type of operation.

    Attributes:
        arguments: Its inputs in their order.
        dtypes: Those that each group may have; any if the group is not there.
        shape: Works out the shapes of the outputs, and raises ValueError where shapes do not fit.
        output: The dtype of the outputs, or the group that has the same, where no other is asked for; or one for each.
    """

    arguments: tuple[Argument, ...]
    dtypes: Mapping[str, DTypes]
    shape: ShapeFunction
    output: Output

    @property
    def has_list(self) -> bool:
        """Whether an input is a list, whose length is the attribute "N"."""
        return any(each.is_list for each in self.arguments)


def is_taken(dtype: np.dtype[Any], allowed: DTypes) -> bool:
    """Whether a dtype is among those of a group; text is, whatever its length."""
    return dtype in allowed or (is_text(dtype) and not TEXT.isdisjoint(allowed))


def _of(signature: str, shape: ShapeFunction, output: Output = "T", **groups: DTypes) -> OpDef:
    """Returns a row; in ``signature`` there is "name:group" for each input, with "*" before the name of a list."""
    arguments = []
    for each in signature.split():
        name, _, group = each.partition(":")
        arguments.append(Argument(name.removeprefix("*"), group, name.startswith("*")))
    return OpDef(tuple(arguments), groups, shape, output)


def _of_two(taken: DTypes) -> OpDef:
    return _of("x:T y:T", shapes.broadcast, T=taken)


def _comparison(taken: DTypes) -> OpDef:
    return _of("x:T y:T", shapes.broadcast, dtypes.bool.dtype, T=taken)


def _of_one(taken: DTypes, name: str = "x") -> OpDef:
    return _of(f"{name}:T", shapes.same, T=taken)


def _reduction(taken: DTypes) -> OpDef:
    return _of("input:T reduction_indices:Tidx", shapes.reduced, T=taken, Tidx=INDICES)


def _update(taken: DTypes | None) -> OpDef:
    definition = _of("ref:T value:T", shapes.same)
    return definition if taken is None else replace(definition, dtypes={"T": taken})


def _scatter(taken: DTypes | None) -> OpDef:
    definition = _of("ref:T indices:Tindices updates:T", shapes.same, Tindices=INDICES)
    return definition if taken is None else replace(definition, dtypes={"T": taken, **definition.dtypes})


_INTEGERS: Final = SIGNED | UNSIGNED
_MATRICES: Final = NUMBERS - {dtypes.int8.dtype, dtypes.int16.dtype}
_FULL: Final = FLOATS | COMPLEX
_CLASSES: Final = frozenset(each.dtype for each in (dtypes.int8, dtypes.uint8, dtypes.int32, dtypes.int64))

OP_DEFS: Final[Mapping[str, OpDef]] = {
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
    "LogicalAnd": _of("x:_bool y:_bool", shapes.broadcast, "_bool", _bool=BOOL),
    "LogicalOr": _of("x:_bool y:_bool", shapes.broadcast, "_bool", _bool=BOOL),
    "BitwiseAnd": _of_two(_INTEGERS),
    "BitwiseOr": _of_two(_INTEGERS),
    "BitwiseXor": _of_two(_INTEGERS),
    "MatMul": _of("a:T b:T", shapes.matrix_product, T=_MATRICES),
    "BatchMatMulV2": _of("a:T b:T", shapes.matrix_product, T=_MATRICES | SIGNED),
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
    "LogicalNot": _of("x:_bool", shapes.same, "_bool", _bool=BOOL),
    "Invert": _of_one(_INTEGERS),
    "L2Loss": _of("t:T", shapes.scalar, T=FLOATS),
    "Cast": _of("x:SrcT", shapes.same, output="SrcT"),
    "Identity": _of("input:T", shapes.same),
    "PlaceholderWithDefault": _of("input:dtype", shapes.default_of_placeholder, output="dtype"),
    "ZerosLike": _of("x:T", shapes.same),
    "StopGradient": _of("input:T", shapes.same),
    **dict.fromkeys(
        ("Floor", "Ceil", "Rint", "Erf", "Erfc", "Lgamma", "CheckNumerics"), _of("x:T", shapes.same, T=FLOATS)
    ),
    **dict.fromkeys(("IsNan", "IsInf", "IsFinite"), _of("x:T", shapes.same, dtypes.bool.dtype, T=FLOATS)),
    **dict.fromkeys(("Rsqrt", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Log1p", "Expm1"), _of_one(_FULL)),
    **dict.fromkeys(("Sinh", "Cosh", "Asinh", "Acosh", "Atanh"), _of_one(_FULL)),
    **dict.fromkeys(("Sign", "Reciprocal", "Round"), _of_one(_FULL | SIGNED)),
    **dict.fromkeys(("Softplus", "Softsign", "Elu", "Selu"), _of_one(FLOATS, "features")),
    **dict.fromkeys(("Relu", "Relu6"), _of_one(REAL, "features")),
    "TruncateDiv": _of_two(NUMBERS),
    "TruncateMod": _of_two(FLOATS | INDICES),
    "SquaredDifference": _of_two(_FULL | INDICES),
    **dict.fromkeys(("DivNoNan", "Xlogy", "Xdivy", "MulNoNan"), _of_two(_FULL)),
    "Atan2": _of("y:T x:T", shapes.broadcast, T=FLOATS),
    "Cumsum": _of("x:T axis:Tidx", shapes.same, T=NUMBERS, Tidx=INDICES),
    "Cumprod": _of("x:T axis:Tidx", shapes.same, T=NUMBERS, Tidx=INDICES),
    # -- of several
    "AddN": _of("*inputs:T", shapes.all_the_same, T=NUMBERS),
    "ConcatV2": _of("*values:T axis:Tidx", shapes.concatenated, Tidx=INDICES),
    "Pack": _of("*values:T", shapes.packed),
    "Select": _of("condition:_bool t:T e:T", shapes.selected, _bool=BOOL),
    # -- over dimensions
    "Sum": _reduction(NUMBERS),
    "Mean": _reduction(NUMBERS),
    "Prod": _reduction(NUMBERS),
    "Max": _reduction(REAL),
    "Min": _reduction(REAL),
    "EuclideanNorm": _reduction(NUMBERS),
    "All": _of("input:_bool reduction_indices:Tidx", shapes.reduced, "_bool", _bool=BOOL, Tidx=INDICES),
    "Any": _of("input:_bool reduction_indices:Tidx", shapes.reduced, "_bool", _bool=BOOL, Tidx=INDICES),
    "ArgMax": _of("input:T dimension:Tidx", shapes.without_dimension, dtypes.int64.dtype, T=REAL | BOOL, Tidx=INDICES),
    "ArgMin": _of("input:T dimension:Tidx", shapes.without_dimension, dtypes.int64.dtype, T=REAL | BOOL, Tidx=INDICES),
    "UnsortedSegmentSum": _of(
        "data:T segment_ids:Tindices num_segments:Tnumsegments",
        shapes.segments,
        T=NUMBERS,
        Tindices=INDICES,
        Tnumsegments=INDICES,
    ),
    # -- shapes, and parts
    "Shape": _of("input:T", shapes.shape, dtypes.int32.dtype),
    "Size": _of("input:T", shapes.scalar, dtypes.int32.dtype),
    "Rank": _of("input:T", shapes.scalar, dtypes.int32.dtype),
    "Reshape": _of("tensor:T shape:Tshape", shapes.reshaped, Tshape=INDICES),
    "Transpose": _of("x:T perm:Tperm", shapes.transposed, Tperm=INDICES),
    "ConjugateTranspose": _of("x:T perm:Tperm", shapes.transposed, Tperm=INDICES),
    "ExpandDims": _of("input:T dim:Tdim", shapes.expanded, Tdim=INDICES),
    "Squeeze": _of("input:T", shapes.squeezed),
    "Tile": _of("input:T multiples:Tmultiples", shapes.tiled, Tmultiples=INDICES),
    "Slice": _of("input:T begin:Index size:Index", shapes.boxed, Index=INDICES),
    "StridedSlice": _of("input:T begin:Index end:Index strides:Index", shapes.strided, Index=SHORT_INDICES),
    "Split": _of("split_dim:_dim value:T", shapes.split_evenly, _dim=frozenset({dtypes.int32.dtype})),
    "SplitV": _of(
        "value:T size_splits:Tlen split_dim:_dim",
        shapes.split_into_sizes,
        Tlen=INDICES,
        _dim=frozenset({dtypes.int32.dtype}),
    ),
    "Unpack": _of("value:T", shapes.unpacked),
    "GatherV2": _of(
        "params:Tparams indices:Tindices axis:Taxis",
        shapes.gathered,
        "Tparams",
        Tindices=SHORT_INDICES,
        Taxis=INDICES,
    ),
    "GatherNd": _of("params:Tparams indices:Tindices", shapes.gathered_nd, "Tparams", Tindices=SHORT_INDICES),
    "Where": _of("condition:T", shapes.places, dtypes.int64.dtype, T=NUMBERS | BOOL),
    # -- of images
    "Conv2D": _of("input:T filter:T", window_shapes.conv2d, T=FLOATS),
    "DepthwiseConv2dNative": _of("input:T filter:T", window_shapes.depthwise, T=FLOATS),
    "Conv2DBackpropInput": _of(
        "input_sizes:_sizes filter:T out_backprop:T",
        window_shapes.images_of_gradient,
        T=FLOATS,
        _sizes=frozenset({dtypes.int32.dtype}),
    ),
    "Conv2DBackpropFilter": _of(
        "input:T filter_sizes:_sizes out_backprop:T",
        window_shapes.filters_of_gradient,
        T=FLOATS,
        _sizes=frozenset({dtypes.int32.dtype}),
    ),
    "MaxPool": _of("input:T", window_shapes.pool, T=REAL),
    "AvgPool": _of("value:T", window_shapes.pool, T=FLOATS),
    "LRN": _of("input:T", window_shapes.local_response, T=FLOATS - {dtypes.float64.dtype}),
    "FusedBatchNormV3": _of(
        "x:T scale:U offset:U mean:U variance:U",
        window_shapes.batch_norm,
        ("T", "U", "U", "U", "U", "U"),
        T=FLOATS - {dtypes.float64.dtype},
        U=frozenset({dtypes.float32.dtype}),
    ),
    "FusedBatchNormOfEither": _of(
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
    "StridedSliceAssign": _of("ref:T begin:Index end:Index strides:Index value:T", shapes.same, Index=SHORT_INDICES),
    "CountUpTo": _of("ref:T", shapes.same, T=INDICES),
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
    "Fill": _of("dims:index_type value:T", shapes.filled, index_type=INDICES),
    "Range": _of("start:Tidx limit:Tidx delta:Tidx", shapes.counted, "Tidx", Tidx=FLOATS | INDICES),
    "OneHot": _of("indices:TI depth:_depth on_value:T off_value:T", shapes.one_hot, TI=_CLASSES, _depth=INDICES),
}
