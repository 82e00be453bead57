"""``tf.initializers``: initializers of variables, and the operations that run those of many variables."""

from worker_client.ops import initialization
from worker_client.ops import initializer_tensors as initializers
from worker_client.ops.initializer_tensors import he_normal, he_uniform, lecun_normal, lecun_uniform
from worker_client.values.left_out import getattr_of

__all__ = [
    "constant",
    "global_variables",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "local_variables",
    "ones",
    "orthogonal",
    "random_normal",
    "random_uniform",
    "tables",
    "truncated_normal",
    "uniform_unit_scaling",
    "variables",
    "variance_scaling",
    "zeros",
]

identity = initializers.identity_initializer
zeros = initializers.zeros_initializer
ones = initializers.ones_initializer
constant = initializers.constant_initializer
random_uniform = initializers.random_uniform_initializer
random_normal = initializers.random_normal_initializer
truncated_normal = initializers.truncated_normal_initializer
uniform_unit_scaling = initializers.uniform_unit_scaling_initializer
variance_scaling = initializers.variance_scaling_initializer
glorot_uniform = initializers.glorot_uniform_initializer
glorot_normal = initializers.glorot_normal_initializer
orthogonal = initializers.orthogonal_initializer

global_variables = initialization.global_variables_initializer
local_variables = initialization.local_variables_initializer
variables = initialization.variables_initializer
tables = initialization.tables_initializer

__getattr__ = getattr_of("initializers")
