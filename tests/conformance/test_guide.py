"""What the published guide to TensorFlow 1's variables shows, snippet by snippet, with the outcomes it documents.

The guide's pages are "Variables", "Sharing variables" and the reference of ``variable_scope``; the cases about
``cltdevelop`` are a widely read walk-through of the same rules.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from worker_client.placement.strategies import RoundRobinStrategy


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def session(graph: tf.Graph) -> Iterator[tf.Session]:
    with tf.Session() as session:
        yield session


def conv_relu(images: Any, kernel_shape: list[int], bias_shape: list[int]) -> Any:
    weights = tf.get_variable("weights", kernel_shape, initializer=tf.random_normal_initializer())
    biases = tf.get_variable("biases", bias_shape, initializer=tf.constant_initializer(0.0))
    return tf.add(tf.matmul(images, weights), biases)


def image_filter(images: Any) -> Any:
    with tf.variable_scope("conv1"):
        relu1 = conv_relu(images, [32, 16], [16])
    with tf.variable_scope("conv2"):
        return conv_relu(relu1, [16, 8], [8])


# -- sharing ----------------------------------------------------------------------------------


def test_filters_are_shared_by_scope(session: tf.Session) -> None:
    image1, image2 = np.ones([2, 32], np.float32), np.full([2, 32], 2, np.float32)
    with tf.variable_scope("image_filters") as scope:
        result1 = image_filter(image1)
        scope.reuse_variables()
        result2 = image_filter(image2)
    assert [variable.name for variable in tf.global_variables()] == [
        "image_filters/conv1/weights:0",
        "image_filters/conv1/biases:0",
        "image_filters/conv2/weights:0",
        "image_filters/conv2/biases:0",
    ]
    session.run(tf.global_variables_initializer())
    one, two = session.run([result1, result2])
    np.testing.assert_allclose(two, 2 * one, rtol=1e-4)


def test_filters_made_twice_without_reuse_are_an_error() -> None:
    image_filter(np.ones([2, 32], np.float32))
    with pytest.raises(ValueError, match="conv1/weights already exists"):
        image_filter(np.ones([2, 32], np.float32))


def test_scopes_prefix_names() -> None:
    with tf.variable_scope("foo"), tf.variable_scope("bar"):
        assert tf.get_variable("v", [1]).name == "foo/bar/v:0"


def test_auto_reuse_gives_the_same_variable() -> None:
    def foo() -> Any:
        with tf.variable_scope("foo", reuse=tf.AUTO_REUSE):
            return tf.get_variable("v", [1])

    assert foo() is foo()


def test_reuse_gives_the_same_variable() -> None:
    with tf.variable_scope("foo"):
        v = tf.get_variable("v", [1])
    with tf.variable_scope("foo", reuse=True):
        v1 = tf.get_variable("v", [1])
    assert v1 is v


def test_a_captured_scope_gives_the_same_variable() -> None:
    with tf.variable_scope("foo") as scope:
        v = tf.get_variable("v", [1])
        scope.reuse_variables()
        assert tf.get_variable("v", [1]) is v
    with tf.variable_scope(scope, reuse=True):
        assert tf.get_variable("v", [1]) is v


def test_a_variable_that_exists_is_an_error_without_reuse() -> None:
    with tf.variable_scope("foo"):
        tf.get_variable("v", [1])
        with pytest.raises(ValueError, match="foo/v already exists"):
            tf.get_variable("v", [1])


def test_a_variable_that_does_not_exist_is_an_error_with_reuse() -> None:
    with tf.variable_scope("foo", reuse=True), pytest.raises(ValueError, match="foo/v does not exist"):
        tf.get_variable("v", [1])


def test_reuse_is_inherited_and_not_undone_inside() -> None:
    with tf.variable_scope("root") as root:
        assert not root.reuse
        with tf.variable_scope("foo") as foo:
            assert not foo.reuse
        with tf.variable_scope("foo", reuse=True) as foo:
            assert foo.reuse
            with tf.variable_scope("bar") as bar:
                assert bar.reuse
            with tf.variable_scope("bar", reuse=False) as bar:
                assert bar.reuse
        assert not tf.get_variable_scope().reuse


# -- entering a scope again -------------------------------------------------------------------


def test_a_premade_scope_is_entered_with_its_original_name_scope() -> None:
    with tf.variable_scope("foo") as vs:
        pass
    with tf.variable_scope(vs, auxiliary_name_scope=False) as vs1, tf.name_scope(vs1.original_name_scope):
        assert tf.get_variable("v", [1]).name == "foo/v:0"
        assert tf.constant([1], name="c").name == "foo/c:0"


def test_the_counter_of_default_names_restarts() -> None:
    with tf.variable_scope("foo") as vs:
        with tf.variable_scope(None, default_name="bar"):
            assert tf.get_variable("a", [1]).name == "foo/bar/a:0"
        with tf.variable_scope(None, default_name="bar"):
            assert tf.get_variable("b", [1]).name == "foo/bar_1/b:0"
    with tf.variable_scope(vs), tf.variable_scope(None, default_name="bar"):
        assert tf.get_variable("c", [1]).name == "foo/bar/c:0"


def test_a_scope_object_opens_no_new_name_scope_when_told_so() -> None:
    with tf.variable_scope("foo") as scope:
        assert tf.no_op(name="here").name == "foo/here"
    with tf.name_scope("elsewhere"):
        with tf.variable_scope(scope, auxiliary_name_scope=False):
            assert tf.no_op(name="here").name == "elsewhere/here"
            assert tf.get_variable("v", [1]).name == "foo/v:0"
        with tf.variable_scope(scope):
            assert tf.no_op(name="here").name == "elsewhere/foo/here"


def test_threads_have_scopes_of_their_own_and_enter_a_captured_one() -> None:
    graph = tf.get_default_graph()
    names: list[str] = []

    def build(captured: tf.VariableScope) -> None:
        with graph.as_default():
            names.append(tf.get_variable("here", [1]).name)
            with tf.variable_scope(captured):
                names.append(tf.get_variable("there", [1]).name)

    with tf.variable_scope("main") as main_thread_scope:
        thread = threading.Thread(target=build, args=[main_thread_scope])
        thread.start()
        thread.join()
        assert tf.get_variable_scope() is main_thread_scope
    assert names == ["here:0", "main/there:0"]


# -- name scopes ------------------------------------------------------------------------------


def test_name_scopes_prefix_variable_and_ops_but_not_get_variable() -> None:
    with tf.variable_scope("foo"), tf.name_scope("bar"):
        v = tf.get_variable("v", [1])
        b = tf.Variable([0.0], name="b")
        x = 1.0 + v
    assert v.name == "foo/v:0"
    assert b.name == "foo/bar/b:0"
    assert x.op.name == "foo/bar/add"


def test_variables_of_one_name_are_numbered() -> None:
    with tf.name_scope("cltdevelop"):
        made = [tf.Variable(1.0, name="var_1") for _ in range(3)]
    assert [variable.name for variable in made] == [
        "cltdevelop/var_1:0",
        "cltdevelop/var_1_1:0",
        "cltdevelop/var_1_2:0",
    ]


def test_a_name_scope_prefixes_variable_only() -> None:
    with tf.name_scope("cltdevelop"):
        var_1 = tf.Variable(initial_value=[0], name="var_1")
        var_2 = tf.get_variable(name="var_2", shape=[1])
    assert (var_1.name, var_2.name) == ("cltdevelop/var_1:0", "var_2:0")


def test_a_variable_scope_prefixes_both() -> None:
    with tf.variable_scope("aaa"):
        var_3 = tf.Variable(initial_value=[0], name="var_3")
        var_4 = tf.get_variable(name="var_4", shape=[1])
    assert (var_3.name, var_4.name) == ("aaa/var_3:0", "aaa/var_4:0")


def test_an_op_in_a_variable_scope_has_its_name() -> None:
    with tf.variable_scope("foo"):
        x = 1.0 + tf.get_variable("v", [1])
    assert x.op.name == "foo/add"


def test_an_op_in_a_name_scope_inside_has_both_names() -> None:
    with tf.variable_scope("foo"), tf.name_scope("bar"):
        x = 1.0 + tf.get_variable("v", [1])
    assert x.op.name == "foo/bar/add"


# -- initial values ---------------------------------------------------------------------------


def test_initializers_are_inherited_and_overridden(session: tf.Session) -> None:
    with tf.variable_scope("foo", initializer=tf.constant_initializer(0.4)):
        v = tf.get_variable("v", [1])
        w = tf.get_variable("w", [1], initializer=tf.constant_initializer(0.3))
        with tf.variable_scope("bar"):
            inherited = tf.get_variable("v", [1])
        with tf.variable_scope("baz", initializer=tf.constant_initializer(0.2)):
            changed = tf.get_variable("v", [1])
    session.run(tf.global_variables_initializer())
    values = [float(variable.eval()[0]) for variable in (v, w, inherited, changed)]
    assert values == pytest.approx([0.4, 0.3, 0.4, 0.2])


def test_integer_zeros(session: tf.Session) -> None:
    my_int_variable = tf.get_variable("my_int_variable", [1, 2, 3], dtype=tf.int32, initializer=tf.zeros_initializer)
    assert my_int_variable.dtype == tf.int32
    session.run(my_int_variable.initializer)
    np.testing.assert_array_equal(my_int_variable.eval(), np.zeros([1, 2, 3], np.int32))


def test_a_tensor_as_initializer_gives_the_shape(session: tf.Session) -> None:
    other_variable = tf.get_variable("other_variable", dtype=tf.int32, initializer=tf.constant([23, 42]))
    assert other_variable.shape == (2,)
    session.run(tf.global_variables_initializer())
    assert session.run(other_variable).tolist() == [23, 42]


def test_a_variable_starts_from_anothers_initialized_value(session: tf.Session) -> None:
    v = tf.get_variable("v", shape=(), initializer=tf.zeros_initializer())
    w = tf.get_variable("w", initializer=v.initialized_value() + 1)
    session.run(w.initializer)
    assert session.run(w) == 1
    with pytest.raises(tf.errors.FailedPreconditionError, match=r"\bv\b"):
        session.run(v)


# -- collections ------------------------------------------------------------------------------


def test_variables_are_in_the_global_and_the_trainable_collection() -> None:
    v = tf.get_variable("v", [1])
    assert tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES) == tf.global_variables() == [v]
    assert tf.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES) == tf.trainable_variables() == [v]
    assert tf.local_variables() == []


def test_a_local_variable_is_in_the_local_collection_only() -> None:
    my_local = tf.get_variable("my_local", shape=(), collections=[tf.GraphKeys.LOCAL_VARIABLES], trainable=False)
    assert tf.local_variables() == [my_local]
    assert tf.global_variables() == tf.trainable_variables() == []


def test_a_variable_that_is_not_trainable_is_not_in_that_collection() -> None:
    my_non_trainable = tf.get_variable("my_non_trainable", shape=(), trainable=False)
    assert not my_non_trainable.trainable
    assert tf.global_variables() == [my_non_trainable]
    assert tf.trainable_variables() == []


def test_a_collection_of_ones_own() -> None:
    my_local = tf.get_variable("my_local", shape=())
    tf.add_to_collection("my_collection_name", my_local)
    assert tf.get_collection("my_collection_name") == [my_local]


# -- running ----------------------------------------------------------------------------------


def test_an_update_is_built_before_the_initialisation_and_run_after(session: tf.Session) -> None:
    v = tf.get_variable("v", shape=(), initializer=tf.zeros_initializer())
    assignment = v.assign_add(1)
    session.run(tf.global_variables_initializer())
    assert session.run(assignment) == 1
    assignment.op.run()
    assert v.eval() == 2


def test_a_value_is_read_after_what_it_depends_on(session: tf.Session) -> None:
    v = tf.get_variable("v", shape=(), initializer=tf.zeros_initializer())
    assignment = v.assign_add(1)
    with tf.control_dependencies([assignment]):
        w = v.read_value()
    session.run(tf.global_variables_initializer())
    assert [session.run(w) for _ in range(3)] == [1, 2, 3]


# -- placement --------------------------------------------------------------------------------


def test_replica_device_setter_places_a_variable_on_a_ps() -> None:
    cluster_spec = {"ps": ["ps0:2222", "ps1:2222"], "worker": ["worker0:2222", "worker1:2222", "worker2:2222"]}
    with tf.device(tf.train.replica_device_setter(cluster=cluster_spec)):
        v = tf.get_variable("v", shape=[20, 20])
        w = tf.get_variable("w", shape=[20, 20])
        doubled = v + v
    assert (v.device, w.device) == ("/job:ps/task:0", "/job:ps/task:1")
    assert doubled.device == "/job:worker"
    strategy = RoundRobinStrategy(2)
    with tf.device(tf.train.replica_device_setter(cluster=tf.train.ClusterSpec(cluster_spec), ps_strategy=strategy)):
        assert tf.get_variable("x", shape=[20, 20]).device == "/job:ps/task:0"
