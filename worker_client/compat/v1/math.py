"""``tf.math``: arithmetic, comparisons and reductions, which are at the top as well."""

from worker_client.ops import math_ops as _math_ops
from worker_client.ops.array_ops import argmax, argmin
from worker_client.ops.math_ops import *

__all__ = ["argmax", "argmin"]
__all__ += _math_ops.__all__
