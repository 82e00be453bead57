"""``tf.contrib``: the few parts of it that code about variables uses."""

from worker_client.compat.v1.contrib import layers, training

__all__ = ["layers", "training"]
