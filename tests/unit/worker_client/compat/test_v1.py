"""TensorFlow 1's names are where TensorFlow 1 has them, and code for it runs with another import only."""

from __future__ import annotations

import contextlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any, cast

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from ps_protocol import errors
from tests.unit.worker_client.naming_fakes import eager_graph
from worker_client.deferred.call import is_deferred
from worker_client.scopes.creation import new_variable
from worker_client.sessions.session import Session
from worker_client.variables.partitioned import PartitionedVariable


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


# -- Variable ---------------------------------------------------------------------------------


def test_variable_makes_variables_and_is_their_type() -> None:
    made = tf.Variable([1.0, 2.0], name="v", trainable=False)
    assert (made.name, made.shape, made.trainable) == ("v:0", (2,), False)
    assert isinstance(made, tf.Variable)
    assert isinstance(tf.get_variable("w", [1]), tf.Variable)


@pytest.mark.parametrize("make", [lambda: tf.constant(1.0), tf.no_op, lambda: np.zeros(1), lambda: None])
def test_what_is_no_variable_is_not_of_its_type(make: Any) -> None:
    assert not isinstance(make(), tf.Variable)


def test_a_partitioned_variable_is_not_of_its_type_but_its_parts_are() -> None:
    whole = tf.get_variable("p", [4], partitioner=tf.fixed_size_partitioner(2))
    assert isinstance(whole, tf.PartitionedVariable)
    assert not isinstance(whole, tf.Variable)
    assert all(isinstance(part, tf.Variable) for part in whole)
    assert not isinstance(next(iter(whole)), tf.PartitionedVariable)


def test_a_partitioned_variable_can_be_made_of_parts_of_either_kind() -> None:
    for context in (contextlib.nullcontext(), eager_graph().as_default()):
        with context:
            parts = list(tf.get_variable("p", [4], partitioner=tf.fixed_size_partitioner(2)))
            whole = tf.PartitionedVariable("p", [4], tf.float32, parts, [2])
        assert isinstance(whole, tf.PartitionedVariable)
        assert is_deferred(whole) == is_deferred(parts[0])
    with pytest.raises(TypeError, match="the parts of p are deferred"):
        PartitionedVariable("p", [4], np.float32, list(tf.get_variable("q", [4], partitioner=lambda **_: [2])), [2])


def test_a_type_derived_from_it_has_no_instances_of_others() -> None:
    class Special(tf.Variable):
        pass

    assert not isinstance(tf.get_variable("w", [1]), Special)


def test_variable_shows_the_parameters_that_it_takes() -> None:
    assert inspect.signature(tf.Variable) == inspect.signature(new_variable)


# -- names in their places --------------------------------------------------------------------


def test_errors_of_a_session_are_those_of_the_errors_module() -> None:
    v = tf.get_variable("v", [1])
    with tf.Session() as session:
        with pytest.raises(tf.errors.FailedPreconditionError):
            session.run(v)
        with pytest.raises(tf.errors.OpError):
            session.run(tf.placeholder(tf.float32) + 1)


def test_every_error_but_our_own_has_tensorflows_name() -> None:
    own = {errors.ShapeMismatchError, errors.DTypeMismatchError, errors.StateLostError}
    named = {getattr(tf.errors, name) for name in tf.errors.__all__ if name.endswith("Error")}
    named -= {tf.errors.OpError}
    assert named == set(errors.ERROR_TYPES.values()) - own | {errors.UnknownError}


@pytest.mark.parametrize(
    "module",
    [
        tf.contrib,
        tf.contrib.layers,
        tf.contrib.training,
        tf.errors,
        tf.initializers,
        tf.losses,
        tf.math,
        tf.nn,
        tf.train,
    ],
    ids=lambda module: module.__name__.rpartition("v1.")[2],
)
def test_the_modules_have_what_they_export(module: ModuleType) -> None:
    exported: list[str] = module.__all__
    assert exported
    assert all(hasattr(module, name) for name in exported)


@pytest.mark.parametrize("module", [tf.math, tf.dtypes], ids=["math", "dtypes"])
def test_some_names_are_the_same_at_the_top_and_in_their_module(module: ModuleType) -> None:
    names: list[str] = [name for name in module.__all__ if name in tf.__all__]
    assert len(names) > 18
    assert all(getattr(tf, name) is getattr(module, name) for name in names)


def test_dtypes_have_tensorflows_attributes() -> None:
    assert (tf.as_dtype(np.int64).is_integer, tf.as_dtype(float)) == (True, tf.float32)
    assert isinstance(tf.as_dtype("bfloat16"), tf.DType)
    with pytest.raises(TypeError):
        tf.as_dtype(None)


def test_initializers_are_the_same_at_the_top_and_in_their_module() -> None:
    at_the_top = {name.removesuffix("_initializer") for name in tf.__all__ if name.endswith("_initializer")}
    assert at_the_top <= set(tf.initializers.__all__)
    for name in at_the_top:
        assert getattr(tf.initializers, name) is getattr(tf, f"{name}_initializer")


def test_regularizers_and_their_losses() -> None:
    tf.get_variable("v", [2], initializer=tf.ones_initializer(), regularizer=tf.contrib.layers.l2_regularizer(0.5))
    loss = tf.losses.get_regularization_loss()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(loss) == 0.5


def test_an_embedding_is_looked_up() -> None:
    table = tf.get_variable("table", initializer=np.arange(6, dtype=np.float32).reshape(3, 2))
    rows = tf.nn.embedding_lookup(table, [2, 0])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(rows).tolist() == [[4, 5], [0, 1]]


def test_switches_are_remembered_and_change_nothing() -> None:
    assert not tf.resource_variables_enabled()
    tf.enable_resource_variables()
    assert tf.resource_variables_enabled()
    assert tf.get_variable("v", [1]).op.type == "VariableV2"
    tf.disable_resource_variables()
    assert not tf.resource_variables_enabled()
    tf.disable_v2_behavior()


# -- sessions ---------------------------------------------------------------------------------


def test_a_session_takes_what_programs_for_tensorflow_give_it() -> None:
    total = tf.constant(1.0) + 1.0
    with tf.Session("", config=object()) as session:
        assert session.run(total, options=object(), run_metadata=object()) == 2


def test_a_session_takes_no_graph_that_is_none() -> None:
    with pytest.raises(TypeError, match="the graph of a session is a Graph, not 3"):
        tf.Session(graph=cast(Any, 3))


def test_what_is_fed_and_fetched_is_an_array_as_in_tensorflow() -> None:
    x, v = tf.placeholder(tf.float32, []), tf.Variable(1.0)
    with tf.Session() as session:
        fed, computed, read = session.run([x, x + 1.0, v], {x: 2.0, v: 3.0})
    assert [type(fed), type(computed), type(read)] == [np.ndarray, np.float32, np.ndarray]
    assert (fed.shape, fed.dtype, fed, computed, read) == ((), np.float32, 2.0, 3.0, 3.0)


def test_a_callable_takes_options_if_it_was_asked_for() -> None:
    x = tf.placeholder(tf.float32, [])
    with tf.Session() as session:
        call = session.make_callable(x + 1, [x], accept_options=True)
        assert call(1.0, options=object(), run_metadata=object()) == 2
        with pytest.raises(TypeError, match="options"):
            session.make_callable(x + 1, [x])(1.0, options=object())


def test_a_graph_in_which_everything_happens_at_once_needs_no_session() -> None:
    with eager_graph().as_default(), pytest.raises(ValueError, match="no session"):
        Session()


# -- programs ---------------------------------------------------------------------------------

PROGRAM = """
import worker_client.compat.v1 as tf
tf.disable_v2_behavior()

with tf.variable_scope("model"):
    step = tf.train.get_or_create_global_step()
    weights = tf.get_variable("weights", [2], initializer=tf.constant_initializer(3.0))
    train = tf.group(tf.assign_sub(weights, [1.0, 2.0]), tf.assign_add(step, 1))

with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    session.run(train)
    print(session.run(weights).tolist(), tf.train.global_step(session, step))
"""


def test_a_program_that_builds_at_its_top_level_runs_without_a_cluster() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=50)
    assert result.stdout == "[2.0, 1.0] 1\n"
    assert result.stderr == ""
