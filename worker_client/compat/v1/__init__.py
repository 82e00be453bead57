"""TensorFlow 1's names: write ``import worker_client.compat.v1 as tf`` instead of ``import tensorflow as tf``.

Only names, no behaviour: everything comes from the modules of ``worker_client``. ``docs/tf1-names.md`` says of each of
TensorFlow's names about variables whether it is here. Importing this module makes the default graph outside of all
``with`` statements a deferred one; see ``worker_client.graph.default_graph``.
"""

from typing import Any as _Any

from worker_client.compat.v1 import (
    app,
    contrib,
    debugging,
    dtypes,
    errors,
    flags,
    gfile,
    initializers,
    layers,
    linalg,
    logging,
    losses,
    math,
    metrics,
    nn,
    random,
    summary,
    train,
)
from worker_client.compat.v1.behavior import (
    disable_control_flow_v2,
    disable_eager_execution,
    disable_resource_variables,
    disable_tensor_equality,
    disable_v2_behavior,
    disable_v2_tensorshape,
    enable_resource_variables,
    executing_eagerly,
    resource_variables_enabled,
)
from worker_client.compat.v1.dtypes import as_dtype
from worker_client.compat.v1.errors import OpError
from worker_client.compat.v1.logging import get_logger
from worker_client.compat.v1.partitioners import (
    fixed_size_partitioner,
    min_max_variable_partitioner,
    variable_axis_size_partitioner,
)
from worker_client.compat.v1.variable_type import PartitionedVariable, Variable
from worker_client.deferred.sparse_tensor import SparseTensor, SparseTensorValue
from worker_client.gradients.custom import custom_gradient
from worker_client.gradients.walk import AggregationMethod, UnconnectedGradients, gradients
from worker_client.graph.blocks import colocate_with, container, device, name_scope, op_scope, variable_creator_scope
from worker_client.graph.default_graph import get_default_graph, reset_default_graph
from worker_client.graph.definition import VariableAggregation, VariableSynchronization
from worker_client.graph.device import DeviceSpec
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.graph.operation import Operation, Tensor
from worker_client.ops import array_ops as _array_ops
from worker_client.ops import check_ops as _check_ops
from worker_client.ops import clip_ops as _clip_ops
from worker_client.ops import collections as _collections
from worker_client.ops import constant_ops as _constant_ops
from worker_client.ops import elementwise_ops as _elementwise_ops
from worker_client.ops import initialization as _initialization
from worker_client.ops import math_ops as _math_ops
from worker_client.ops import matrix_ops as _matrix_ops
from worker_client.ops import order_ops as _order_ops
from worker_client.ops import print_ops as _print_ops
from worker_client.ops import random_ops as _random_ops
from worker_client.ops import script_ops as _script_ops
from worker_client.ops import selection_ops as _selection_ops
from worker_client.ops import state_ops as _state_ops
from worker_client.ops import statistics_ops as _statistics_ops
from worker_client.ops.array_ops import *
from worker_client.ops.check_ops import *
from worker_client.ops.clip_ops import *
from worker_client.ops.collections import *
from worker_client.ops.constant_ops import *
from worker_client.ops.control_flow import (
    control_dependencies,
    group,
    no_op,
    tuple,
)
from worker_client.ops.elementwise_ops import *
from worker_client.ops.initialization import *
from worker_client.ops.initializer_tensors import (
    constant_initializer,
    glorot_normal_initializer,
    glorot_uniform_initializer,
    ones_initializer,
    orthogonal_initializer,
    random_normal_initializer,
    random_uniform_initializer,
    truncated_normal_initializer,
    uniform_unit_scaling_initializer,
    variance_scaling_initializer,
    zeros_initializer,
)
from worker_client.ops.math_ops import *
from worker_client.ops.math_ops import matmul
from worker_client.ops.matrix_ops import *
from worker_client.ops.order_ops import *
from worker_client.ops.print_ops import *
from worker_client.ops.random_ops import *
from worker_client.ops.script_ops import *
from worker_client.ops.selection_ops import *
from worker_client.ops.state_ops import *
from worker_client.ops.statistics_ops import *
from worker_client.ops.tensordot import tensordot
from worker_client.resources.accumulators import (
    ConditionalAccumulator,
    ConditionalAccumulatorBase,
    SparseConditionalAccumulator,
)
from worker_client.resources.queues import FIFOQueue, QueueBase
from worker_client.scopes import variable_scope as _variable_scope
from worker_client.scopes.sliced_variables import create_partitioned_variables
from worker_client.scopes.template import make_template
from worker_client.scopes.variable_scope import *
from worker_client.sessions.session import InteractiveSession, Session, get_default_session
from worker_client.sessions.session_config import (
    ConfigProto,
    GPUOptions,
    GraphOptions,
    OptimizerOptions,
    RunMetadata,
    RunOptions,
)
from worker_client.summaries.protos import message_type as _message_type
from worker_client.values import dtypes as _dtypes
from worker_client.values.conversion import IndexedSlices
from worker_client.values.dimension import Dimension, dimension_value
from worker_client.values.dtypes import *
from worker_client.values.left_out import getattr_of as _getattr_of
from worker_client.values.shapes import TensorShape, dimension_at_index

_MESSAGES = ("Event", "HistogramProto", "LogMessage", "SessionLog", "Summary", "SummaryMetadata")

__all__ = [
    "AggregationMethod",
    "ConditionalAccumulator",
    "ConditionalAccumulatorBase",
    "ConfigProto",
    "DeviceSpec",
    "Dimension",
    "FIFOQueue",
    "GPUOptions",
    "Graph",
    "GraphKeys",
    "GraphOptions",
    "IndexedSlices",
    "InteractiveSession",
    "OpError",
    "Operation",
    "OptimizerOptions",
    "PartitionedVariable",
    "QueueBase",
    "RunMetadata",
    "RunOptions",
    "Session",
    "SparseConditionalAccumulator",
    "SparseTensor",
    "SparseTensorValue",
    "Tensor",
    "TensorShape",
    "UnconnectedGradients",
    "Variable",
    "VariableAggregation",
    "VariableSynchronization",
    "all_variables",
    "app",
    "as_dtype",
    "colocate_with",
    "constant_initializer",
    "container",
    "contrib",
    "control_dependencies",
    "create_partitioned_variables",
    "custom_gradient",
    "debugging",
    "device",
    "dimension_at_index",
    "dimension_value",
    "disable_control_flow_v2",
    "disable_eager_execution",
    "disable_resource_variables",
    "disable_tensor_equality",
    "disable_v2_behavior",
    "disable_v2_tensorshape",
    "dtypes",
    "enable_resource_variables",
    "errors",
    "executing_eagerly",
    "fixed_size_partitioner",
    "flags",
    "get_default_graph",
    "get_default_session",
    "get_logger",
    "gfile",
    "glorot_normal_initializer",
    "glorot_uniform_initializer",
    "gradients",
    "group",
    "initializers",
    "layers",
    "linalg",
    "logging",
    "losses",
    "make_template",
    "math",
    "matmul",
    "metrics",
    "min_max_variable_partitioner",
    "name_scope",
    "newaxis",
    "nn",
    "no_op",
    "ones_initializer",
    "op_scope",
    "orthogonal_initializer",
    "random",
    "random_normal_initializer",
    "random_uniform_initializer",
    "reset_default_graph",
    "resource_variables_enabled",
    "summary",
    "tensordot",
    "train",
    "truncated_normal_initializer",
    "tuple",
    "uniform_unit_scaling_initializer",
    "variable_axis_size_partitioner",
    "variable_creator_scope",
    "variance_scaling_initializer",
    "zeros_initializer",
]
__all__ += _array_ops.__all__
__all__ += _constant_ops.__all__
__all__ += _dtypes.__all__
__all__ += _elementwise_ops.__all__
__all__ += _math_ops.__all__
__all__ += _random_ops.__all__
__all__ += _state_ops.__all__
__all__ += _order_ops.__all__
__all__ += _selection_ops.__all__
__all__ += _matrix_ops.__all__
__all__ += _statistics_ops.__all__
__all__ += _clip_ops.__all__
__all__ += _check_ops.__all__
__all__ += _print_ops.__all__
__all__ += _script_ops.__all__
__all__ += _collections.__all__
__all__ += _initialization.__all__
__all__ += _variable_scope.__all__
__all__ += list(_MESSAGES)

all_variables = _collections.global_variables
newaxis = None
__version__ = VERSION = "1.15.0"
"""The version of TensorFlow whose names these are."""

_missing = _getattr_of("")


def __getattr__(name: str) -> _Any:  # messages, whose library is imported when the first of them is asked for
    return _message_type(name) if name in _MESSAGES else _missing(name)
