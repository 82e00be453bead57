"""What TensorFlow's definitions say of operations that order, fill up and take apart rows; see ``op_defs``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from worker_client.op_definitions import row_shapes as shapes
from worker_client.op_definitions.op_def import (
    BOOL,
    FLOATS,
    INDICES,
    NUMBERS,
    REAL,
    SHORT_INDICES,
    TEXT,
    DTypes,
    OpDef,
    row,
)
from worker_client.values.dtypes import bool as bool_
from worker_client.values.dtypes import float32, int32

_INT32: Final = frozenset({int32.dtype})


def _segments(taken: DTypes, indices: DTypes = INDICES) -> OpDef:
    signature = "data:T segment_ids:Tindices num_segments:Tnumsegments"
    return row(signature, shapes.segments, T=taken, Tindices=indices, Tnumsegments=INDICES)


def _ordered_segments(taken: DTypes) -> OpDef:
    return row("data:T segment_ids:Tindices", shapes.ordered_segments, T=taken, Tindices=INDICES)


ROW_OPS: Final[Mapping[str, OpDef]] = {
    # -- order and length
    "Pad": row("input:T paddings:Tpaddings", shapes.padded, Tpaddings=INDICES),
    "PadV2": row("input:T paddings:Tpaddings constant_values:T", shapes.padded, Tpaddings=INDICES),
    "MirrorPad": row("input:T paddings:Tpaddings", shapes.padded, Tpaddings=INDICES),
    "ReverseV2": row("tensor:T axis:Tidx", shapes.reversed_along, T=NUMBERS | BOOL | TEXT, Tidx=INDICES),
    "ReverseSequence": row("input:T seq_lengths:Tlen", shapes.with_beginnings, Tlen=INDICES),
    "Roll": row("input:T shift:Tshift axis:Taxis", shapes.along_dimensions, Tshift=INDICES, Taxis=INDICES),
    "InvertPermutation": row("x:T", shapes.vector, T=INDICES),
    "TopKV2": row("input:T k:Tk", shapes.best, T=REAL, Tk=SHORT_INDICES),
    "InTopKV2": row(
        "predictions:_float targets:T k:T",
        shapes.among_best,
        bool_.dtype,
        _float=frozenset({float32.dtype}),
        T=INDICES,
    ),
    "BroadcastTo": row("input:T shape:Tidx", shapes.broadcast_to, Tidx=INDICES),
    "BroadcastArgs": row("s0:T s1:T", shapes.common_shape, T=INDICES),
    "BiasAdd": row("value:T bias:T", shapes.biased, T=NUMBERS),
    "SoftmaxCrossEntropyWithLogits": row("features:T labels:T", shapes.losses, ("T", "T"), T=FLOATS),
    "SparseSoftmaxCrossEntropyWithLogits": row(
        "features:T labels:Tlabels", shapes.losses_of_classes, ("T", "T"), T=FLOATS, Tlabels=INDICES
    ),
    **dict.fromkeys(
        ("SparseDenseCwiseMul", "SparseDenseCwiseDiv"),
        row("sp_indices:_place sp_values:T sp_shape:_place dense:T", shapes.of_values, T=NUMBERS),
    ),
    # -- segments, parts and places
    "UnsortedSegmentSum": _segments(NUMBERS, SHORT_INDICES),
    "UnsortedSegmentProd": _segments(NUMBERS),
    "UnsortedSegmentMax": _segments(REAL),
    "UnsortedSegmentMin": _segments(REAL),
    **dict.fromkeys(("SegmentSum", "SegmentProd", "SegmentMean"), _ordered_segments(NUMBERS)),
    **dict.fromkeys(("SegmentMax", "SegmentMin"), _ordered_segments(REAL)),
    "Unique": row("x:T", lambda known: shapes.different(known)[:2], ("T", int32.dtype)),
    "UniqueWithCounts": row("x:T", shapes.different, ("T", int32.dtype, int32.dtype)),
    "ListDiff": row("x:T y:T", shapes.left_over, ("T", int32.dtype)),
    "DynamicPartition": row("data:T partitions:_int", shapes.partitions, _int=_INT32),
    "DynamicStitch": row("*indices:_int *data:T", shapes.stitched, _int=_INT32),
    "ScatterNd": row("indices:Tindices updates:T shape:Tindices", shapes.scattered, Tindices=SHORT_INDICES),
    **dict.fromkeys(
        ("TensorScatterUpdate", "TensorScatterAdd", "TensorScatterSub", "TensorScatterMax", "TensorScatterMin"),
        row("tensor:T indices:Tindices updates:T", shapes.with_places, Tindices=SHORT_INDICES),
    ),
}
