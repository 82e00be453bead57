"""``tf.contrib.layers``: regularizers."""

from worker_client.compat.v1.left_out import getattr_of
from worker_client.ops.regularizers import (
    apply_regularization,
    l1_l2_regularizer,
    l1_regularizer,
    l2_regularizer,
    sum_regularizer,
)

__all__ = ["apply_regularization", "l1_l2_regularizer", "l1_regularizer", "l2_regularizer", "sum_regularizer"]

__getattr__ = getattr_of("contrib.layers")
