"""The library that workers import: TensorFlow 1's variables over a cluster of ps tasks, with NumPy values.

    import shardscope as ss

    with ss.connect() as client, ss.variable_scope("layer"):
        weights = ss.get_variable("weights", [784, 10])
        weights.assign_add(0.1 * gradient(weights.read_value()))

``shardscope`` has all these names, and ``LocalCluster``.
"""

import importlib
from typing import TYPE_CHECKING

from ps_protocol import errors
from ps_protocol.cluster_spec import ClusterSpec, TfConfig
from ps_protocol.task_id import TaskId
from worker_client import initializers
from worker_client.client import Client, connect
from worker_client.default_client import (
    assign_add_all,
    assign_all,
    barrier,
    get_default_client,
    mirror,
    read_all,
    restore,
    save,
)
from worker_client.deferred.sparse_tensor import SparseTensor
from worker_client.embeddings.lookup import embedding_lookup, embedding_lookup_sparse
from worker_client.graph.blocks import colocate_with, device, name_scope
from worker_client.graph.default_graph import get_default_graph, reset_default_graph
from worker_client.graph.device import DeviceSpec
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.initializers import (
    constant_initializer,
    glorot_normal_initializer,
    glorot_uniform_initializer,
    he_normal,
    he_uniform,
    identity_initializer,
    lecun_normal,
    lecun_uniform,
    ones_initializer,
    orthogonal_initializer,
    random_normal_initializer,
    random_uniform_initializer,
    truncated_normal_initializer,
    uniform_unit_scaling_initializer,
    variance_scaling_initializer,
    zeros_initializer,
)
from worker_client.objects.fifo_queue import FIFOQueue
from worker_client.ops.collections import global_variables, trainable_variables
from worker_client.ops.control_flow import control_dependencies
from worker_client.ops.initialization import (
    global_variables_initializer,
    local_variables_initializer,
    report_uninitialized_variables,
    variables_initializer,
)
from worker_client.placement.device_setter import replica_device_setter
from worker_client.placement.strategies import (
    GreedyLoadBalancingStrategy,
    HashStrategy,
    RandomStrategy,
    RoundRobinStrategy,
    byte_size_load_fn,
)
from worker_client.scopes.arguments import AUTO_REUSE
from worker_client.scopes.scope import VariableScope
from worker_client.scopes.variable_scope import get_local_variable, get_variable, get_variable_scope, variable_scope
from worker_client.sessions.session import InteractiveSession, Session
from worker_client.values.conversion import IndexedSlices
from worker_client.values.versions import Version, VersionedValue
from worker_client.variables.mirror import Mirror
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.partitioners import (
    fixed_size_partitioner,
    min_max_variable_partitioner,
    variable_axis_size_partitioner,
)
from worker_client.variables.variable import Variable

if TYPE_CHECKING:  # optimizers, and what looks at files, are imported when they are asked for
    from worker_client import checkpoint, data, train
else:

    def __getattr__(name: str) -> object:
        if name in {"checkpoint", "data", "train"}:
            return importlib.import_module(f"worker_client.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "AUTO_REUSE",
    "Client",
    "ClusterSpec",
    "DeviceSpec",
    "FIFOQueue",
    "Graph",
    "GraphKeys",
    "GreedyLoadBalancingStrategy",
    "HashStrategy",
    "IndexedSlices",
    "InteractiveSession",
    "Mirror",
    "PartitionedVariable",
    "RandomStrategy",
    "RoundRobinStrategy",
    "Session",
    "SparseTensor",
    "TaskId",
    "TfConfig",
    "Variable",
    "VariableScope",
    "Version",
    "VersionedValue",
    "assign_add_all",
    "assign_all",
    "barrier",
    "byte_size_load_fn",
    "checkpoint",
    "colocate_with",
    "connect",
    "constant_initializer",
    "control_dependencies",
    "data",
    "device",
    "embedding_lookup",
    "embedding_lookup_sparse",
    "errors",
    "fixed_size_partitioner",
    "get_default_client",
    "get_default_graph",
    "get_local_variable",
    "get_variable",
    "get_variable_scope",
    "global_variables",
    "global_variables_initializer",
    "glorot_normal_initializer",
    "glorot_uniform_initializer",
    "he_normal",
    "he_uniform",
    "identity_initializer",
    "initializers",
    "lecun_normal",
    "lecun_uniform",
    "local_variables_initializer",
    "min_max_variable_partitioner",
    "mirror",
    "name_scope",
    "ones_initializer",
    "orthogonal_initializer",
    "random_normal_initializer",
    "random_uniform_initializer",
    "read_all",
    "replica_device_setter",
    "report_uninitialized_variables",
    "reset_default_graph",
    "restore",
    "save",
    "train",
    "trainable_variables",
    "truncated_normal_initializer",
    "uniform_unit_scaling_initializer",
    "variable_axis_size_partitioner",
    "variable_scope",
    "variables_initializer",
    "variance_scaling_initializer",
    "zeros_initializer",
]


def __dir__() -> list[str]:
    return sorted(__all__)
