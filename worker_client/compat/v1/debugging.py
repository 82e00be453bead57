"""``tf.debugging``: assertions and checks, which are at the top as well."""

from worker_client.ops import check_ops as _check_ops
from worker_client.ops.check_ops import *
from worker_client.ops.check_ops import verify_tensor_all_finite
from worker_client.ops.elementwise_ops import is_finite, is_inf, is_nan
from worker_client.values.left_out import getattr_of

__all__ = ["assert_all_finite", "is_finite", "is_inf", "is_nan"]
__all__ += _check_ops.__all__

assert_all_finite = verify_tensor_all_finite

__getattr__ = getattr_of("debugging")
