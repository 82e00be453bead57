"""``tf.contrib.layers``: regularizers."""

from worker_client.ops.regularizers import (
    apply_regularization,
    l1_l2_regularizer,
    l1_regularizer,
    l2_regularizer,
    sum_regularizer,
)
from worker_client.values.left_out import getattr_of

__all__ = ["apply_regularization", "l1_l2_regularizer", "l1_regularizer", "l2_regularizer", "sum_regularizer"]

__getattr__ = getattr_of("contrib.layers")
