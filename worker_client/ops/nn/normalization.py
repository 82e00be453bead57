"""TensorFlow 1's normalisation: of channels over a batch, of elements by their neighbours, and what it is made of."""

from __future__ import annotations

from typing import Any, Final

from worker_client.deferred.computed import all_computed, computed
from worker_client.kernels import normalization as kernels
from worker_client.kernels.applied import Applied
from worker_client.kernels.batch_norm import BatchNorm, BatchNormOfEither
from worker_client.ops.constant_ops import constant, convert_to_tensor
from worker_client.ops.nn_ops import batch_normalization
from worker_client.values.dtypes import float32
from worker_client.values.made_functions import one_of

__all__ = [
    "batch_norm_with_global_normalization",
    "fused_batch_norm",
    "local_response_normalization",
    "lrn",
]

_LEAST_EPSILON: Final = 1.001e-5  # what TensorFlow's kernels on some devices ask for at least


def fused_batch_norm(
    x: Any,
    scale: Any,
    offset: Any,
    mean: Any = None,
    variance: Any = None,
    epsilon: float = 0.001,
    data_format: str = "NHWC",
    is_training: bool = True,
    name: str | None = None,
    exponential_avg_factor: float = 1.0,
) -> tuple[Any, Any, Any]:
    """Returns images with each channel normalised, then multiplied by ``scale`` and moved by ``offset``.

    Args:
        x: Images: shape ``[batch, height, width, channels]``.
        scale: float32, shape ``[channels]``.
        offset: Likewise.
        mean: The means that count where this is not training, or that a part of the batch's is added to.
        variance: Likewise.
        epsilon: Added to variances.
        data_format: "NHWC", or "NCHW" for the channels second.
        is_training: Whether means and variances of the batch are taken.
        name: "FusedBatchNormV3" if not given.
        exponential_avg_factor: What part of the batch's moments goes into those that are returned.

    Returns:
        The images, means, and variances; in training those of the batch, its variances as estimated for all images.

    Raises:
        ValueError: Moments are needed and missing, or shapes do not fit.
    """
    if (not is_training or exponential_avg_factor != 1.0) and (mean is None or variance is None):
        raise ValueError("fused_batch_norm needs mean and variance where this is not training, or only in part")
    if data_format not in ("NHWC", "NCHW"):
        raise ValueError(f'fused_batch_norm: data_format should be "NHWC" or "NCHW", not {data_format!r}')
    images = convert_to_tensor(x, name="input")
    factor, added = convert_to_tensor(scale, name="scale"), convert_to_tensor(offset, name="offset")
    given = [constant([], dtype=float32) if each is None else each for each in (mean, variance)]
    epsilon = max(epsilon, _LEAST_EPSILON)
    normalized = BatchNorm(epsilon, data_format == "NCHW", is_training, exponential_avg_factor)
    attributes = {
        "epsilon": epsilon,
        "exponential_avg_factor": exponential_avg_factor,
        "data_format": data_format,
        "is_training": is_training,
    }
    operands = [images, factor, added, *given]
    outputs = all_computed("FusedBatchNormV3", normalized, operands, name=name, attributes=attributes)
    return outputs[0], outputs[1], outputs[2]


def batch_norm_of_either(
    x: Any,
    scale: Any,
    offset: Any,
    mean: Any,
    variance: Any,
    training: Any,
    *,
    epsilon: float,
    data_format: str,
    name: str,
) -> tuple[Any, Any, Any]:
    """Does what ``fused_batch_norm`` does, in training if the tensor ``training`` holds True."""
    epsilon = max(epsilon, _LEAST_EPSILON)
    normalized = BatchNormOfEither(epsilon, data_format == "NCHW")
    attributes = {"epsilon": epsilon, "data_format": data_format, "is_training": False}
    operands = [x, scale, offset, mean, variance, training]
    outputs = all_computed("FusedBatchNormOfEither", normalized, operands, name=name, attributes=attributes)
    return outputs[0], outputs[1], outputs[2]


def batch_norm_with_global_normalization(
    t: Any = None,
    m: Any = None,
    v: Any = None,
    beta: Any = None,
    gamma: Any = None,
    variance_epsilon: Any = None,
    scale_after_normalization: bool | None = None,
    name: str | None = None,
    input: Any = None,
    mean: Any = None,
    variance: Any = None,
) -> Any:
    """Does what ``batch_normalization`` does, under older names: ``gamma`` counts if it is asked for."""
    images = one_of("batch_norm_with_global_normalization", t=t, input=input)
    means = one_of("batch_norm_with_global_normalization", m=m, mean=mean)
    variances = one_of("batch_norm_with_global_normalization", v=v, variance=variance)
    factor = gamma if scale_after_normalization else None
    return batch_normalization(images, means, variances, beta, factor, variance_epsilon, name)


def local_response_normalization(
    input: Any,
    depth_radius: int = 5,
    bias: float = 1,
    alpha: float = 1,
    beta: float = 0.5,
    name: str | None = None,
) -> Any:
    """Returns elements divided by ``(bias + alpha * s) ** beta``, ``s`` being the sum of squares of their neighbours.

    Args:
        input: Images: shape ``[batch, height, width, channels]``.
        depth_radius: How many channels before and behind count as neighbours, beside the own one.
        bias: Added.
        alpha: Factor of the sum.
        beta: Exponent.
        name: "LRN" if not given.

    Raises:
        ValueError: The images have not four dimensions.
    """
    normalized = Applied(kernels.local_response_normalization, (depth_radius, bias, alpha, beta))
    attributes = {"depth_radius": depth_radius, "bias": bias, "alpha": alpha, "beta": beta}
    return computed("LRN", normalized, [input], name=name, attributes=attributes)


lrn = local_response_normalization
