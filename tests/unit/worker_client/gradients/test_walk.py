"""The walk backwards: which gradients there are, what they are called, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from tests.unit.worker_client.naming_fakes import eager_graph
from worker_client.deferred.call import deferred_call
from worker_client.derivatives.registry import Traced, differentiable


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as graph:
        yield graph


def run(fetches: Any, feeds: Any = None) -> Any:
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches, feeds)


def test_operations_are_called_as_in_tensorflow(graph: Any) -> None:
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    w, b = tf.get_variable("w", [4, 3]), tf.get_variable("b", [3])
    h = tf.nn.relu(tf.matmul(x, w) + b)
    y = tf.reduce_mean(h * h)
    before = len(graph.get_operations())
    of_w, of_b = tf.gradients(y, [w, b])
    assert [op.name for op in graph.get_operations()[before:]] == [
        "gradients/Shape",
        "gradients/grad_ys_0/Const",
        "gradients/grad_ys_0",
        "gradients/Mean_grad/truediv",
        "gradients/mul_grad/Reshape",
        "gradients/mul_grad/Reshape_1",
        "gradients/AddN",
        "gradients/Relu_grad/ReluGrad",
        "gradients/add_grad/Reshape",
        "gradients/MatMul_grad/MatMul_1",
    ]
    assert (of_w.name, of_b.name) == ("gradients/MatMul_grad/MatMul_1:0", "gradients/add_grad/Reshape:0")
    assert tf.gradients(y, w)[0].name.startswith("gradients_1/")
    assert tf.gradients(y, w, name="mine")[0].name.startswith("mine/")


def test_gated_gradients_have_the_names_of_their_gates() -> None:
    """As in TensorFlow: where an operation has gradients by several inputs, none is used before all are there."""
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    w, b, c = tf.get_variable("w", [4, 3]), tf.get_variable("b", [3]), tf.get_variable("c", [])
    rows = tf.nn.embedding_lookup(w, [1, 2])
    y = tf.reduce_mean(tf.nn.bias_add(tf.matmul(x, w), b) * c) + tf.reduce_sum(rows)
    pairs = tf.train.GradientDescentOptimizer(0.1).compute_gradients(y, [b, c])
    assert [gradient.name for gradient, _ in pairs] == [
        "gradients/BiasAdd_grad/tuple/control_dependency_1:0",
        "gradients/mul_grad/tuple/control_dependency_1:0",
    ]
    assert [each.name for each in tf.gradients(y, [b, c])] == [
        "gradients_1/BiasAdd_grad/BiasAddGrad:0",
        "gradients_1/mul_grad/Reshape:0",
    ]
    (of_rows,) = tf.gradients(tf.reduce_sum(rows), [w], gate_gradients=True)
    assert of_rows.name == "gradients_2/embedding_lookup_grad/Reshape:0"


def test_gradients_have_the_shape_and_dtype_of_what_they_are_by() -> None:
    x = tf.placeholder(tf.float32, [None, 4])
    for dtype in (tf.float16, tf.bfloat16, tf.float32, tf.float64):
        w = tf.get_variable(f"w_{dtype.name}", [4, 3], dtype, tf.ones_initializer())
        (gradient,) = tf.gradients(tf.reduce_sum(tf.matmul(tf.cast(x, dtype), w) * 3.0), w)
        assert gradient.dtype == dtype
        assert gradient.shape.as_list() == [4, 3]
        value = run(gradient, {x: np.ones((2, 4))})
        assert value.dtype == dtype
        np.testing.assert_array_equal(value.astype(np.float64), np.full((4, 3), 6.0))


def test_what_has_no_influence_has_no_gradient() -> None:
    x, z, i = tf.constant([1.0, 2.0]), tf.constant([3.0]), tf.constant([1, 2])
    y = x * tf.cast(i, tf.float32) + tf.stop_gradient(x * x)
    assert tf.gradients(y, [z, i]) == [None, None]
    np.testing.assert_array_equal(run(tf.gradients(y, x)[0]), [1, 2])
    zeros = tf.gradients(y, [z, x], unconnected_gradients=tf.UnconnectedGradients.ZERO)
    np.testing.assert_array_equal(run(zeros[0]), [0])
    assert tf.gradients(tf.floor(x), x) == [None]
    assert tf.gradients(y, []) == []


def test_what_only_passes_a_value_on_passes_its_gradient_on() -> None:
    x = tf.constant([1.0, 2.0])
    printed = tf.Print(x * x, [x], "x is ")
    with tf.control_dependencies([tf.assert_positive(x)]):
        checked = tf.identity(tf.check_numerics(printed, "wrong"))
    assert tf.gradients(checked, x)[0] is not None
    np.testing.assert_array_equal(run(tf.gradients(checked, x)[0]), [2, 4])


def test_a_source_in_the_middle_gets_its_gradient_and_those_before_it_too() -> None:
    x = tf.constant([1.0, 2.0])
    middle = x * x
    y = middle * 3.0
    found = run(tf.gradients(y, [x, middle, y]))
    np.testing.assert_array_equal(found, [[6, 12], [3, 3], [1, 1]])
    assert tf.gradients(y, [x], stop_gradients=[middle]) == [None]


def test_the_sum_of_several_is_differentiated_from_given_gradients() -> None:
    x = tf.constant([1.0, 2.0])
    found = tf.gradients([x * 2.0, x * x], x, grad_ys=[None, tf.constant([10.0, 100.0])])[0]
    np.testing.assert_array_equal(run(found), [22, 402])


def test_the_gradient_by_a_variable_is_that_of_all_its_reads() -> None:
    w = tf.get_variable("w", [3], initializer=tf.ones_initializer())
    changed = w.assign_add([1.0, 1.0, 1.0])
    with tf.control_dependencies([changed]):
        later = w * w
    y = tf.reduce_sum(w) + tf.reduce_sum(w.read_value()) + tf.reduce_sum(later) + tf.reduce_sum(tf.gather(w, [0, 0]))
    assert tf.gradients(y, [w.value(), w])[0].shape.as_list() == [3]
    np.testing.assert_array_equal(run(tf.gradients(y, w)[0])[1:], [6, 6])


def test_rows_of_variables_have_gradients_of_rows() -> None:
    table = tf.get_variable("table", [4, 2], initializer=tf.ones_initializer())
    ids = tf.placeholder(tf.int32, [None, 2])
    y = tf.reduce_sum(tf.nn.embedding_lookup(table, ids) * 2.0) + tf.reduce_sum(tf.gather(table, [3]))
    (gradient,) = tf.gradients(y, table)
    assert isinstance(gradient, tf.IndexedSlices)
    assert gradient.shape.as_list() == [4, 2]
    found = run(gradient, {ids: [[0, 3], [0, 0]]})
    whole = np.zeros((4, 2))
    np.add.at(whole, found.indices, found.values)
    np.testing.assert_array_equal(whole, [[6, 6], [0, 0], [0, 0], [3, 3]])
    (mixed,) = tf.gradients(y + tf.reduce_sum(table), table)
    np.testing.assert_array_equal(run(mixed, {ids: [[0, 3], [0, 0]]}), whole + 1)


@pytest.mark.parametrize("strategy", ["mod", "div"])
def test_rows_of_parts_have_gradients_of_the_parts(strategy: str) -> None:
    table = tf.get_variable(
        "table", [5, 2], initializer=tf.ones_initializer(), partitioner=tf.fixed_size_partitioner(2)
    )
    looked_up = tf.nn.embedding_lookup(table, [0, 4, 0], partition_strategy=strategy)
    found = run(tf.gradients(tf.reduce_sum(looked_up * [[1.0], [2.0], [4.0]]), list(table)))
    assert sorted((row, value[0]) for each in found for row, value in zip(each.indices, each.values, strict=True)) == (
        [(0, 1.0), (0, 4.0), (2, 2.0)] if strategy == "mod" else [(0, 1.0), (0, 4.0), (1, 2.0)]
    )


def test_gathers_and_wholes_of_partitioned_variables_have_gradients() -> None:
    whole = tf.get_variable(
        "whole", [5, 2], initializer=tf.ones_initializer(), partitioner=tf.fixed_size_partitioner(2)
    )
    y = (
        tf.reduce_sum(tf.square(whole))
        + tf.reduce_sum(tf.gather(whole, [0, 4]))
        + tf.reduce_sum(tf.gather_nd(whole, [[1, 1]]))
    )
    found = run([tf.convert_to_tensor(each) for each in tf.gradients(y, list(whole))])
    np.testing.assert_array_equal(np.concatenate(found), [[3, 3], [2, 3], [2, 2], [2, 2], [3, 3]])


def test_an_operation_without_gradient_is_named() -> None:
    x = tf.constant([1.0, 2.0], name="x")
    unique = tf.unique(x, name="different").y
    with pytest.raises(LookupError, match=r"No gradient defined for operation 'different' \(op type: Unique\)"):
        tf.gradients(unique, x)
    assert tf.gradients(tf.stop_gradient(unique), x) == [None]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"grad_ys": [None, None]}, ValueError, "Passed 2 grad_ys for 1 ys"),
        ({"grad_ys": [[1.0, 2.0, 3.0]]}, ValueError, r"grad_ys_0 has the shape \[3\]"),
        ({"grad_ys": [np.array(["a", "b"])]}, TypeError, "grad_ys_0"),
        ({"unconnected_gradients": "some"}, ValueError, "Unknown value for unconnected_gradients: 'some'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: Any, error: type[Exception], message: str) -> None:
    x = tf.constant([1.0, 2.0])
    with pytest.raises(error, match=message):
        tf.gradients(x * x, x, **arguments)


def test_nothing_has_no_gradients() -> None:
    x: Any = tf.constant([1.0, 2.0])
    with pytest.raises(TypeError, match="ys should be tensors or variables, not None"):
        tf.gradients(None, x)
    with pytest.raises(TypeError, match="xs should be tensors or variables, not None"):
        tf.gradients(x, None)


def test_complex_numbers_are_refused() -> None:
    c = tf.constant([1j])
    with pytest.raises(TypeError, match="complex numbers"):
        tf.gradients(c * c, c)


def test_gradients_are_placed_beside_their_operations_if_asked_for() -> None:
    x = tf.constant([1.0])
    with tf.device("/job:worker/task:3"):
        y = tf.exp(x)
    assert tf.gradients(y, x)[0].device == ""
    assert tf.gradients(y, x, colocate_gradients_with_ops=True)[0].device == "/job:worker/task:3"


def test_functions_of_numpy_have_the_gradients_of_autograd() -> None:
    x = tf.constant([[1.0, 2.0], [3.0, 5.0]])
    y = np.sum(np.sin(x) * np.concatenate([x, x])[1:3], axis=0) + np.mean(np.maximum(x, 2.0))
    found = run(tf.gradients(y, x)[0])
    value = np.array([[1.0, 2.0], [3.0, 5.0]])
    expected = np.cos(value) * value[::-1] + np.sin(value)[::-1] + np.array([[0, 0.25], [0.5, 0.5]])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(LookupError, match="op type: unwrap"):
        tf.gradients(np.unwrap(x), x)


def test_third_derivatives_are_there() -> None:
    x = tf.constant([1.0, 2.0])
    y = x**4.0
    for _ in range(3):
        (y,) = tf.gradients(y, x)
    np.testing.assert_allclose(run(y), [24, 48])


def _cube(x: Any) -> Any:
    return x * x * x


@differentiable(Traced(_cube))
def cube(x: Any) -> Any:
    return np.power(x, 3)


def test_traces_of_several_threads_do_not_meet() -> None:
    x = tf.placeholder(tf.float64, [])
    y = deferred_call(cube, [x], op_type="Cube")
    (first,) = tf.gradients(y, x)
    (second,) = tf.gradients(first, x)
    found: list[float] = []
    start = threading.Barrier(4)

    def work(session: Any) -> None:
        start.wait(timeout=30)
        found.extend(float(session.run(second, {x: 2.0})) for _ in range(50))

    with tf.Session() as session:
        threads = [threading.Thread(target=work, args=(session,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    assert found == [12.0] * 200


def test_a_graph_that_acts_at_once_is_refused() -> None:
    with eager_graph().as_default(), pytest.raises(RuntimeError, match="deferred graph"):
        tf.gradients(3.0, 2.0)


def test_a_function_may_say_its_own_gradient() -> None:
    @tf.custom_gradient
    def log1pexp(x: Any) -> Any:
        e = tf.exp(x)
        return tf.log(1.0 + e), lambda upstream: upstream * (1.0 - 1.0 / (1.0 + e))

    x = tf.constant([100.0, 0.0])
    y = log1pexp(x)
    assert y.op.type == "IdentityN"
    np.testing.assert_allclose(run(tf.gradients(y, x)[0]), [1.0, 0.5])
    assert np.isnan(run(tf.gradients(tf.log(1.0 + tf.exp(x)), x)[0])[0])


def test_a_function_of_several_may_say_its_gradients() -> None:
    @tf.custom_gradient
    def swapped(a: Any, b: Any) -> Any:
        return (a * b, a + b), lambda of_product, of_sum: (of_product * 10.0, of_sum * 100.0)

    a, b = tf.constant([1.0, 2.0]), tf.constant([3.0, 4.0])
    product, total = swapped(a, b)
    found = tf.gradients(product, [a, b]) + tf.gradients([product, total], [a, b])
    np.testing.assert_array_equal(run(found), [[10, 10], [0, 0], [10, 10], [100, 100]])

    @tf.custom_gradient
    def wrong(a: Any, b: Any) -> Any:
        return a * b, lambda upstream: upstream

    with pytest.raises(ValueError, match="gradient function of wrong should return a gradient for each of the 2"):
        tf.gradients(wrong(a, b), a)
