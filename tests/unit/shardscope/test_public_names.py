"""What ``shardscope`` offers is the public API: the names that it lists, and nothing else.

Other modules have names without underscores, but are not part of it.
"""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from types import ModuleType

import pytest

import ps_cluster
import shardscope
import worker_client

_NAMES = """
AUTO_REUSE Client ClusterSpec DeviceSpec FIFOQueue Graph GraphKeys GreedyLoadBalancingStrategy HashStrategy
IndexedSlices
InteractiveSession LocalCluster Mirror PartitionedVariable RandomStrategy RoundRobinStrategy Session SparseTensor
TaskId TfConfig
Variable VariableScope Version VersionedValue __version__ assign_add_all assign_all barrier byte_size_load_fn
checkpoint
colocate_with
connect constant_initializer control_dependencies data device embedding_lookup embedding_lookup_sparse
errors
fixed_size_partitioner get_default_client
get_default_graph get_local_variable get_variable get_variable_scope global_variables global_variables_initializer
glorot_normal_initializer glorot_uniform_initializer he_normal he_uniform identity_initializer initializers
lecun_normal lecun_uniform local_variables_initializer min_max_variable_partitioner mirror name_scope
ones_initializer orthogonal_initializer random_normal_initializer random_uniform_initializer read_all
replica_device_setter report_uninitialized_variables reset_default_graph restore save serve train trainable_variables
truncated_normal_initializer
uniform_unit_scaling_initializer variable_axis_size_partitioner variable_scope variables_initializer
variance_scaling_initializer zeros_initializer
"""
NAMES = set(_NAMES.split())
LIBRARIES = {"jax", "numpy", "sklearn", "torch"}
"""Models of other libraries: shown, but not imported by a star, since a program has these libraries' own names."""

MODULES = pytest.mark.parametrize("module", [shardscope, worker_client], ids=lambda module: module.__name__)


def test_the_public_names_are_these() -> None:
    assert dir(shardscope) == sorted([*shardscope.__all__, *LIBRARIES]) == sorted(NAMES | LIBRARIES)


@MODULES
def test_what_is_listed_is_there_and_nothing_else_is_shown(module: ModuleType) -> None:
    assert set(dir(module)) - LIBRARIES == set(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


@MODULES
def test_a_star_imports_all_that_is_listed(module: ModuleType) -> None:
    names: dict[str, object] = {}
    exec(f"from {module.__name__} import *", names)
    assert set(names) - {"__builtins__"} == set(module.__all__)


def test_the_names_are_those_of_the_worker_and_more() -> None:
    for name in worker_client.__all__:
        assert getattr(shardscope, name) is getattr(worker_client, name)
    assert shardscope.LocalCluster is ps_cluster.LocalCluster
    assert set(shardscope.__all__) - set(worker_client.__all__) == {"LocalCluster", "__version__", "serve"}


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'shardscope' has no attribute 'local_cluster'"):
        _ = shardscope.local_cluster  # type: ignore[attr-defined]  # that is what is tested


@MODULES
def test_the_example_is_python(module: ModuleType) -> None:
    lines = inspect.getdoc(module).splitlines()  # type: ignore[union-attr]  # it has one
    example = inspect.cleandoc("\n" + "\n".join(line for line in lines if line.startswith("    ") or not line))
    names = {node.attr for node in ast.walk(ast.parse(example)) if isinstance(node, ast.Attribute)}
    assert {"connect", "get_variable", "assign_add"} <= names


def test_what_starts_processes_is_imported_when_it_is_asked_for() -> None:
    program = "import sys, shardscope as ss; assert 'ps_cluster' not in sys.modules; print(ss.LocalCluster.__module__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout.startswith("ps_cluster.")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("SGD", "'SGD': there is GradientDescent$", id="keras"),
        pytest.param(
            "AdamOptimizer", "there is Adam, and for graphs worker_client.compat.v1.train.AdamOptimizer$", id="tf1"
        ),
        pytest.param("NoSuchOptimizer", "has no attribute 'NoSuchOptimizer'$", id="none"),
    ],
)
def test_names_of_other_libraries_say_what_to_use(name: str, message: str) -> None:
    with pytest.raises(AttributeError, match=message):
        getattr(shardscope.train, name)
    with pytest.raises(AttributeError, match=r"TensorFlow 1's other names are in worker_client\.compat\.v1$"):
        _ = shardscope.placeholder  # type: ignore[attr-defined]  # that is what is tested


def test_libraries_are_imported_when_they_are_asked_for() -> None:
    program = (
        "import sys, shardscope as ss; others = {'torch', 'jax', 'sklearn', 'pandas', 'worker_client.numpy'};"
        "print(sorted(others.intersection(sys.modules)), ss.numpy.__name__, ss.torch.__name__, 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout == "[] worker_client.numpy worker_client.torch False\n"
