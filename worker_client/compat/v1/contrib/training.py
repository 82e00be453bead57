"""``tf.contrib.training``: placement strategies for ``replica_device_setter``."""

from worker_client.placement.strategies import GreedyLoadBalancingStrategy, RandomStrategy, byte_size_load_fn
from worker_client.values.left_out import getattr_of

__all__ = ["GreedyLoadBalancingStrategy", "RandomStrategy", "byte_size_load_fn"]

__getattr__ = getattr_of("contrib.training")
