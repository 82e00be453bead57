"""``tf.contrib``: the few parts of it that code about variables uses."""

from worker_client.compat.v1.contrib import layers, training
from worker_client.values.left_out import getattr_of

__all__ = ["layers", "training"]

__getattr__ = getattr_of("contrib")
