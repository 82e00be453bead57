"""TensorFlow's answers in places where programs seldom look: errors, collections, clusters, scopes, references."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from ps_protocol import cluster_spec, errors
from worker_client.placement.device_setter import replica_device_setter


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as graph:
        yield graph


class TestErrors:
    def test_an_error_of_a_run_carries_its_operation(self) -> None:
        gap = tf.placeholder(tf.float32, name="gap")
        v = tf.Variable(1.0, name="v")
        rows = tf.gather(tf.placeholder_with_default([1.0], [None]), [3], name="rows")
        for fetch, name, code in ((gap, "gap", 3), (v, "v/read", 9), (rows, "rows", 3), (v.assign_add(gap), "gap", 3)):
            with tf.Session() as session, pytest.raises(tf.OpError) as caught:
                session.run(fetch)
            assert (caught.value.op.name, caught.value.node_def.name, caught.value.error_code) == (name, name, code)

    def test_they_can_be_made_as_tensorflows_programs_make_them(self) -> None:
        for made in (
            tf.errors.OutOfRangeError(None, None, "end"),
            tf.errors.OutOfRangeError(None, None, message="end"),
            errors.OutOfRangeError("end"),
        ):
            assert (made.message, str(made), made.op, made.node_def) == ("end", "end", None, None)
            assert made.error_code == tf.errors.OUT_OF_RANGE == 11
        again = pickle.loads(pickle.dumps(errors.NotFoundError("gone", variable="v")))
        assert (again.message, again.variable, again.op) == ("gone", "v", None)

    def test_numbers_and_classes(self) -> None:
        assert tf.errors.exception_type_from_error_code(5) is tf.errors.NotFoundError
        assert tf.errors.error_code_from_exception_type(tf.errors.DataLossError) == tf.errors.DATA_LOSS == 15
        assert {error_type("").error_code for error_type in errors.ERROR_TYPES.values()} <= set(range(1, 17))


class TestCollections:
    @pytest.mark.parametrize("key", [("a", 1), 4, frozenset("ab"), "a"])
    def test_a_key_may_be_whatever_can_be_one(self, graph: Any, key: Any) -> None:
        tf.add_to_collection(key, "x")
        tf.get_collection_ref(key).append("y")
        assert tf.get_collection(key) == ["x", "y"]
        assert graph.get_all_collection_keys() == [key]

    def test_several_keys(self, graph: Any) -> None:
        tf.add_to_collections(["a", ("b", 2), "a"], "x")
        assert (tf.get_collection("a"), tf.get_collection(("b", 2))) == (["x"], ["x"])
        with pytest.raises(TypeError):
            tf.add_to_collections(5, "x")  # type: ignore[arg-type]  # that is the question


class TestVariables:
    def test_a_variable_is_true_and_a_tensor_is_not_asked(self) -> None:
        v: Any = tf.Variable(0.0, name="v")
        assert bool(v) is True
        chosen = v or None
        assert chosen is v
        with pytest.raises(TypeError, match="truth value"):
            bool(tf.constant(1.0))

    def test_references(self) -> None:
        v, x = tf.Variable(0.0), tf.constant(0.0)
        found = {v.ref(): "v", x.ref(): "x"}
        assert (found[v.ref()], found[x.experimental_ref()]) == ("v", "x")
        assert v.ref().deref() is v
        assert v.ref() != x.ref()

    def test_parts_are_not_made_past_a_custom_getter(self) -> None:
        def getter(get: Any, *args: Any, **kwargs: Any) -> Any:
            return get(*args, **kwargs)

        with tf.variable_scope("s", custom_getter=getter), pytest.raises(ValueError, match="custom getter"):
            tf.create_partitioned_variables([2], [2], tf.ones_initializer(), name="p")

    def test_a_part_can_be_described(self) -> None:
        info = tf.Variable.SaveSliceInfo.from_spec("4 3 0,2:0,3")
        assert (info.full_shape, info.var_offset, info.var_shape, info.spec) == ([4, 3], [0, 0], [2, 3], "4 3 0,2:0,3")
        for wrong in ("", "4 3", "4 0,2:0,3", "4 3 0,2:x,3"):
            with pytest.raises(ValueError, match=r"4|sizes|described"):
                tf.Variable.SaveSliceInfo.from_spec(wrong)

    def test_a_template_lists_what_is_not_trainable(self) -> None:
        def build() -> None:
            tf.get_variable("w", [1])
            tf.get_variable("fixed", [1], trainable=False)
            tf.get_local_variable("count", [1])

        template = tf.make_template("t", build)
        template()
        assert [each.name for each in template.trainable_weights] == ["t/w:0"]
        assert [each.name for each in template.non_trainable_variables] == ["t/fixed:0", "t/count:0"]
        assert template.weights == template.variables


class TestGraphs:
    def test_an_empty_graph_cannot_be_run(self) -> None:
        with pytest.raises(RuntimeError, match="empty"):
            tf.Session(graph=tf.Graph()).run([])
        tf.constant(1)
        assert tf.Session().run([]) == []

    def test_a_constant_has_a_name(self) -> None:
        with pytest.raises(ValueError, match="name"):
            tf.constant(1, name="")

    def test_tensors_have_tensorflows_dtypes(self) -> None:
        x = tf.constant([1.0])
        assert isinstance(x.dtype, tf.DType)
        assert (x.dtype.is_floating, x.dtype.base_dtype, x.dtype.as_numpy_dtype) == (True, tf.float32, np.float32)
        assert x.dtype == np.float32
        assert np.zeros(2, x.dtype).dtype == np.float32
        assert x.shape[0].value == 1


class TestClusterSpec:
    def test_it_takes_names_and_addresses_as_they_are(self) -> None:
        cluster: Any = {"my ps": ["alpha", b"beta"], "w": {-1: "h:http", "2": "h:1"}, "none": []}
        spec = tf.train.ClusterSpec(cluster)
        assert spec.jobs == ["my ps", "w", "none"]
        assert spec.as_dict() == {"my ps": ["alpha", "beta"], "w": {-1: "h:http", 2: "h:1"}, "none": {}}
        assert str(spec) == f"ClusterSpec({dict(sorted(spec.as_dict().items()))})"
        assert tf.train.ClusterSpec(spec) == spec == spec.as_dict()
        assert pickle.loads(pickle.dumps(spec)) == spec
        assert spec != {"my ps": ["alpha"]}

    @pytest.mark.parametrize("wrong", [{8: ["h:1"]}, {"ps": "h:1"}, {"ps": [4]}, {"ps": {"x": "h:1"}}, 3])
    def test_types_are_checked(self, wrong: Any) -> None:
        with pytest.raises(TypeError):
            tf.train.ClusterSpec(wrong)

    def test_it_places_as_it_is_and_is_checked_where_it_is_dialled(self) -> None:
        spec = tf.train.ClusterSpec({"ps": ["alpha", "beta"]})
        with tf.device(replica_device_setter(cluster=spec)):
            assert [tf.Variable(1.0).device for _ in range(3)] == ["/job:ps/task:0", "/job:ps/task:1", "/job:ps/task:0"]
        with pytest.raises(ValueError, match="alpha"):
            cluster_spec.ClusterSpec(spec)
