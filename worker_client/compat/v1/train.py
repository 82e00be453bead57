"""``tf.train``: what of it concerns variables and clusters."""

from ps_protocol.cluster_spec import ClusterSpec
from worker_client.placement.device_setter import replica_device_setter
from worker_client.training.global_step import (
    create_global_step,
    get_global_step,
    get_or_create_global_step,
    global_step,
)

__all__ = [
    "ClusterSpec",
    "create_global_step",
    "get_global_step",
    "get_or_create_global_step",
    "global_step",
    "replica_device_setter",
]
