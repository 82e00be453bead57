"""``tf.dtypes``: dtypes with TensorFlow 1's attributes."""

from worker_client.ops.array_ops import cast
from worker_client.ops.elementwise_ops import complex, saturate_cast
from worker_client.values import dtypes as own
from worker_client.values.dtypes import *
from worker_client.values.dtypes import DType
from worker_client.values.left_out import getattr_of

__all__ = ["as_dtype", "cast", "complex", "saturate_cast"]
__all__ += own.__all__


def as_dtype(type_value: object) -> DType:
    """Returns the dtype that ``type_value`` means, TypeError if none; see ``worker_client.values.dtypes.as_dtype``."""
    return DType.of(own.as_dtype(type_value))


__getattr__ = getattr_of("dtypes")
