"""What TensorFlow's definitions say of attributes that nobody gives: their values, by the type of the operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from worker_client.values.dtypes import float32, int32, int64

_LAYOUT: Final = {"data_format": b"NHWC"}
_CONVOLUTION: Final = {**_LAYOUT, "dilations": [1, 1, 1, 1], "explicit_paddings": []}
_MASKS: Final = dict.fromkeys(("begin_mask", "ellipsis_mask", "end_mask", "new_axis_mask", "shrink_axis_mask"), 0)
_PLACES: Final = {"bad_indices_policy": b""}


def _each(op_types: str, **attributes: Any) -> dict[str, Mapping[str, Any]]:
    return dict.fromkeys(op_types.split(), attributes)


DEFAULT_ATTRIBUTES: Final[Mapping[str, Mapping[str, Any]]] = {
    **_each("All Any EuclideanNorm Max Mean Min Prod Sum", keep_dims=False),
    **_each("ArgMax ArgMin", output_type=int64),
    **_each("Angle ComplexAbs Imag Real", Tout=float32),
    **_each("Equal NotEqual", incompatible_shape_error=True),
    **_each("Cumprod Cumsum", exclusive=False, reverse=False),
    **_each("Conv2D Conv2DBackpropFilter Conv2DBackpropInput", **_CONVOLUTION, use_cudnn_on_gpu=True),
    **_each("GatherNd ScatterNd TensorScatterUpdate TensorScatterAdd", **_PLACES),
    **_each("TensorScatterSub TensorScatterMax TensorScatterMin", **_PLACES),
    **_each("ScatterNdAdd ScatterNdSub ScatterNdUpdate", **_PLACES),
    **_each("MatrixInverse MatrixSolve", adjoint=False),
    **_each("MatrixDiagV3 MatrixDiagPartV3 MatrixSetDiagV3", align=b"RIGHT_LEFT"),
    **_each("Shape Size", out_type=int32),
    **_each("StridedSlice StridedSliceAssign", **_MASKS),
    **_each("Unique UniqueWithCounts ListDiff", out_idx=int32),
    "AvgPool": _LAYOUT,
    "BatchMatMulV2": {"adj_x": False, "adj_y": False, "grad_x": False, "grad_y": False},
    "BiasAdd": _LAYOUT,
    "Cast": {"Truncate": False},
    "DepthwiseConv2dNative": _CONVOLUTION,
    "FusedBatchNormV3": {**_LAYOUT, "exponential_avg_factor": 1.0, "is_training": True},
    "GatherV2": {"batch_dims": 0},
    "MatMul": {"grad_a": False, "grad_b": False, "transpose_a": False, "transpose_b": False},
    "MaxPool": {**_LAYOUT, "explicit_paddings": []},
    "OneHot": {"axis": -1},
    "Pack": {"axis": 0},
    "ReverseSequence": {"batch_dim": 0},
    "Squeeze": {"squeeze_dims": []},
    "TopKV2": {"sorted": True, "index_type": int32},
    "Unpack": {"axis": 0},
}
"""Only of attributes that do not follow from the inputs."""
