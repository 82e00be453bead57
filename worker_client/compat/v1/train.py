"""``tf.train``: what of it concerns variables, clusters, learning rates and optimizers."""

from worker_client.compat.v1.cluster import ClusterSpec
from worker_client.compat.v1.left_out import getattr_of
from worker_client.placement.device_setter import replica_device_setter
from worker_client.training import learning_rate as _learning_rate
from worker_client.training.global_step import (
    assert_global_step,
    create_global_step,
    get_global_step,
    get_or_create_global_step,
    global_step,
)
from worker_client.training.learning_rate import *
from worker_client.training.optimizers.adam import AdamOptimizer
from worker_client.training.optimizers.adaptive import (
    AdadeltaOptimizer,
    AdagradDAOptimizer,
    AdagradOptimizer,
    ProximalAdagradOptimizer,
    RMSPropOptimizer,
)
from worker_client.training.optimizers.ftrl import FtrlOptimizer
from worker_client.training.optimizers.gradient_descent import (
    GradientDescentOptimizer,
    ProximalGradientDescentOptimizer,
)
from worker_client.training.optimizers.momentum import MomentumOptimizer
from worker_client.training.optimizers.optimizer import Optimizer

__all__ = [
    "AdadeltaOptimizer",
    "AdagradDAOptimizer",
    "AdagradOptimizer",
    "AdamOptimizer",
    "ClusterSpec",
    "FtrlOptimizer",
    "GradientDescentOptimizer",
    "MomentumOptimizer",
    "Optimizer",
    "ProximalAdagradOptimizer",
    "ProximalGradientDescentOptimizer",
    "RMSPropOptimizer",
    "assert_global_step",
    "create_global_step",
    "get_global_step",
    "get_or_create_global_step",
    "global_step",
    "replica_device_setter",
]
__all__ += _learning_rate.__all__

__getattr__ = getattr_of("train")
