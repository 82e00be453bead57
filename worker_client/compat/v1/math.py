"""``tf.math``: arithmetic, comparisons and reductions, which are at the top as well but for a few."""

from worker_client.ops import elementwise_ops as _elementwise_ops
from worker_client.ops import math_ops as _math_ops
from worker_client.ops.array_ops import argmax, argmin
from worker_client.ops.check_ops import is_non_decreasing, is_strictly_increasing
from worker_client.ops.elementwise_ops import *
from worker_client.ops.elementwise_ops import multiply_no_nan, softplus, xdivy, xlogy
from worker_client.ops.math_ops import *
from worker_client.ops.nn_ops import log_softmax, softmax, softsign
from worker_client.ops.order_ops import cumprod, cumsum, in_top_k, invert_permutation, top_k
from worker_client.ops.selection_ops import (
    confusion_matrix,
    segment_max,
    segment_mean,
    segment_min,
    segment_prod,
    segment_sum,
    unsorted_segment_max,
    unsorted_segment_mean,
    unsorted_segment_min,
    unsorted_segment_prod,
    unsorted_segment_sqrt_n,
    unsorted_segment_sum,
)
from worker_client.ops.statistics_ops import (
    count_nonzero,
    l2_normalize,
    reduce_euclidean_norm,
    reduce_logsumexp,
    reduce_std,
    reduce_variance,
    zero_fraction,
)
from worker_client.values.left_out import getattr_of

__all__ = [
    "argmax",
    "argmin",
    "confusion_matrix",
    "count_nonzero",
    "cumprod",
    "cumsum",
    "divide_no_nan",
    "in_top_k",
    "invert_permutation",
    "is_non_decreasing",
    "is_strictly_increasing",
    "l2_normalize",
    "log_softmax",
    "multiply_no_nan",
    "reduce_euclidean_norm",
    "reduce_logsumexp",
    "reduce_std",
    "reduce_variance",
    "segment_max",
    "segment_mean",
    "segment_min",
    "segment_prod",
    "segment_sum",
    "softmax",
    "softplus",
    "softsign",
    "top_k",
    "unsorted_segment_max",
    "unsorted_segment_mean",
    "unsorted_segment_min",
    "unsorted_segment_prod",
    "unsorted_segment_sqrt_n",
    "unsorted_segment_sum",
    "xdivy",
    "xlogy",
    "zero_fraction",
]
__all__ += _math_ops.__all__
__all__ += _elementwise_ops.__all__

divide_no_nan = _elementwise_ops.div_no_nan

__getattr__ = getattr_of("math")
