"""What a variable can start from, and what stands for a tensor, as in TensorFlow 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf


@pytest.fixture(autouse=True)
def session() -> Iterator[tf.Session]:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def values(session: tf.Session, fetches: Any) -> Any:
    session.run(tf.global_variables_initializer())
    return session.run(fetches)


# -- partitioned variables that start from a tensor -----------------------------------------------


def test_a_partitioned_variable_takes_shape_and_dtype_from_a_tensor(session: tf.Session) -> None:
    table = tf.reshape(tf.range(10), [5, 2])
    whole = tf.get_variable("t", initializer=table, partitioner=tf.fixed_size_partitioner(3))
    assert [part.shape.as_list() for part in whole] == [[2, 2], [2, 2], [1, 2]]
    assert (whole.dtype, [part.dtype for part in whole]) == (tf.int32, [tf.int32] * 3)
    graph = tf.get_default_graph()
    assert graph.get_operation_by_name("t/part_1/PartitionedInitializer/Slice").type == "Slice"
    np.testing.assert_array_equal(values(session, whole), np.arange(10).reshape(5, 2))


def test_parts_can_start_from_another_variable_that_has_no_value_yet(session: tf.Session) -> None:
    base = tf.Variable([1.0, 2.0, 3.0], name="base")
    cut = tf.fixed_size_partitioner(2)
    of_value = tf.get_variable("a", initializer=base.initialized_value(), partitioner=cut)
    of_variable = tf.get_variable("b", [3], initializer=base, partitioner=cut)
    of_list = tf.get_variable("c", [3], initializer=[base[2], 5, base[0]], partitioner=cut)
    parts = tf.create_partitioned_variables([3], [3], base * 2.0)
    found = values(session, [of_value, of_variable, of_list, *parts])
    assert [each.tolist() for each in found] == [[1, 2, 3], [1, 2, 3], [3, 5, 1], [2], [4], [6]]


def test_shape_and_tensor_must_agree(session: tf.Session) -> None:
    cut = tf.fixed_size_partitioner(2)
    with pytest.raises(ValueError, match=r"shape \[4\] is given, but its initializer zeros:0 has the shape \[3\]"):
        tf.get_variable("t", [4], initializer=tf.zeros([3]), partitioner=cut)
    with pytest.raises(ValueError, match="needs a shape"):
        tf.get_variable("t", initializer=np.zeros(3, np.float32), partitioner=cut)
    with pytest.raises(ValueError, match="scalar"):
        tf.get_variable("t", initializer=tf.constant(1.0), partitioner=cut)
    box = tf.placeholder(tf.float32, [None])
    with pytest.raises(ValueError, match="not fully known"):
        tf.get_variable("t", initializer=box, partitioner=cut)
    whole = tf.get_variable("u", [3], initializer=box, partitioner=cut)
    initializers = [part.initializer for part in whole]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"partitioned variable u has the shape \[3\]"):
        session.run(initializers, {box: [1.0, 2.0]})
    session.run(initializers, {box: [1.0, 2.0, 3.0]})
    assert session.run(whole).tolist() == [1.0, 2.0, 3.0]


def test_what_is_shared_must_have_the_shape_of_the_tensor() -> None:
    cut = tf.fixed_size_partitioner(2)
    whole = tf.get_variable("t", initializer=tf.zeros([3]), partitioner=cut)
    with tf.variable_scope("", reuse=True):
        assert tf.get_variable("t", initializer=tf.ones([3]), partitioner=cut) is whole
        with pytest.raises(ValueError, match="cannot share"):
            tf.get_variable("t", initializer=tf.ones([4]), partitioner=cut)


# -- partitioners ---------------------------------------------------------------------------------


def test_a_partitioner_is_given_a_shape_and_a_dtype() -> None:
    def halves(shape: tf.TensorShape, dtype: Any) -> list[int]:
        assert isinstance(shape, tf.TensorShape)
        assert dtype.base_dtype == tf.int64
        return [2 if (shape.num_elements() or 0) > 4 else 1] + [1] * (len(shape.as_list()) - 1)

    assert len(tf.get_variable("h", [4, 3], tf.int64, partitioner=halves)) == 2
    with tf.variable_scope("s", partitioner=halves):
        assert len(tf.get_variable("h", (2, 2), tf.int64)) == 1


@pytest.mark.parametrize(
    "partitioner",
    [
        tf.fixed_size_partitioner(2),
        tf.variable_axis_size_partitioner(8),
        tf.min_max_variable_partitioner(2, min_slice_size=4),
    ],
)
def test_the_partitioners_take_shapes_alone(partitioner: Callable[..., list[int]]) -> None:
    assert partitioner(shape=tf.TensorShape([4]), dtype=tf.float32) == [2]
    for shape in ([4], (4,), 4):
        with pytest.raises(ValueError, match="not a TensorShape"):
            partitioner(shape=shape, dtype=tf.float32)
    for unknown in (tf.TensorShape([None]), tf.TensorShape(None)):
        with pytest.raises(ValueError, match=r"not fully defined|not known"):
            partitioner(shape=unknown, dtype=tf.float32)


# -- variables and tensors in values --------------------------------------------------------------


def test_a_variable_can_start_from_variables_and_lists_of_tensors(session: tf.Session) -> None:
    base = tf.Variable([1.0, 2.0], name="base")
    made = [
        tf.Variable(base, name="copy"),
        tf.get_variable("again", initializer=base),
        tf.Variable(lambda: base, name="late"),
        tf.get_variable("asked", [2], initializer=lambda shape, dtype: [base[1], base[0]]),
        tf.Variable([base[1], 7], name="mix"),
        tf.Variable((base[1], [base[0]][0]), dtype=tf.float64, name="wide"),
        tf.Variable([base, np.ones(2)], name="rows"),
        tf.get_variable("list", initializer=[[base[0], 1.0], [0.0, base[1]]]),
    ]
    assert [each.shape.as_list() for each in made] == [[2]] * 6 + [[2, 2]] * 2
    assert [each.dtype.name for each in made] == ["float32"] * 5 + ["float64"] + ["float32"] * 2
    assert tf.get_default_graph().get_operation_by_name("mix/initial_value").type == "Pack"
    expected = [[1, 2], [1, 2], [1, 2], [2, 1], [2, 7], [2, 1], [[1, 2], [1, 1]], [[1, 0 + 1], [0, 2]]]
    assert [each.tolist() for each in values(session, made)] == expected


def test_lists_with_variables_are_values_wherever_tensors_are(session: tf.Session) -> None:
    base, number = tf.Variable([1.0, 2.0], name="base"), tf.Variable(1, name="number")
    session.run(tf.global_variables_initializer())
    reads = [
        (tf.convert_to_tensor([[base[0], 0.0], [0.0, base[1]]]), [[1, 0], [0, 2]]),
        (tf.convert_to_tensor([[[base[0]], [1.0]]]), [[[1], [1]]]),
        (tf.gather(base, [[number, 0]]), [[2, 1]]),
        (tf.gather_nd(base, [[number], [0]]), [2, 1]),
        (tf.matmul([[base[0], 1.0]], [[1.0], [base[1]]]), [[3]]),
        (tf.add(base, [base[1], 1]), [3, 3]),
    ]
    for tensor, expected in reads:
        assert session.run(tensor).tolist() == expected
    updates = [
        (base.assign([base[1], 5]), [2, 5]),
        (base.assign_add([base[0], base[0]]), [4, 7]),
        (tf.scatter_add(base, [number, 0], [base[0], 1]), [5, 11]),
        (tf.scatter_nd_update(base, [[number]], [base[0]]), [5, 5]),
        (base.scatter_sub(tf.IndexedSlices([base[0]], [number])), [5, 0]),
    ]
    for update, after in updates:
        assert session.run(update).tolist() == after


def test_lists_of_tensors_must_agree() -> None:
    base, number = tf.Variable([1.0, 2.0], name="base"), tf.Variable(1, name="number")
    for wrong in ([number, 2.5], [number, base[0]]):
        with pytest.raises(TypeError, match="operands of one dtype"):
            tf.Variable(wrong)
    for ragged in ([base, [1.0]], [base, base[0]]):
        with pytest.raises(ValueError, match="shape"):
            tf.Variable(ragged)
    with pytest.raises(ValueError, match="float64"):
        tf.Variable(base, dtype=tf.float64)


# -- initializers that are called -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("initializer", "name", "expected"),
    [
        (tf.zeros_initializer(), "zeros", [0, 0, 0, 0]),
        (tf.ones_initializer(tf.int64), "ones", [1, 1, 1, 1]),
        (tf.constant_initializer([1, 2]), "Const", [1, 2, 2, 2]),
        (tf.initializers.constant(4.0), "Const", [4, 4, 4, 4]),
        (tf.initializers.identity(), "mul", [1, 0, 0, 1]),
        (tf.random_uniform_initializer(seed=1), "random_uniform", None),
        (tf.random_normal_initializer(seed=1), "random_normal", None),
        (tf.truncated_normal_initializer(seed=1), "truncated_normal", None),
        (tf.uniform_unit_scaling_initializer(seed=1), "random_uniform", None),
        (tf.variance_scaling_initializer(seed=1), "truncated_normal", None),
        (tf.glorot_uniform_initializer(seed=1), "random_uniform", None),
        (tf.initializers.he_normal(seed=1), "truncated_normal", None),
        (tf.orthogonal_initializer(seed=1), "mul_1", None),
    ],
)
def test_an_initializer_that_is_called_makes_a_tensor(
    session: tf.Session, initializer: Callable[..., Any], name: str, expected: list[float] | None
) -> None:
    first = initializer([2, 2])
    assert (first.name, first.op.type == "Const") == (f"{name}:0", name in ("zeros", "ones", "Const"))
    made = [
        first,
        *(initializer(shape) for shape in ([tf.constant(2), 2], tf.constant([2, 2]), tf.TensorShape([2, 2]))),
    ]
    assert [each.shape.as_list() for each in made] == [[2, 2]] * 4
    found = session.run(made)
    assert all(np.array_equal(each, found[0]) for each in found)
    if expected is not None:
        assert found[0].ravel().tolist() == expected
    size = tf.placeholder(tf.int32, [])
    assert initializer([size, 2]).shape.as_list() == [None, 2]
    assert session.run(initializer([size, 2]), {size: 5}).shape == (5, 2)


def test_without_a_seed_each_run_draws(session: tf.Session) -> None:
    drawn = tf.random_normal_initializer()([3])
    assert (session.run(drawn) != session.run(drawn)).all()


def test_what_a_call_makes_can_be_a_first_value(session: tf.Session) -> None:
    def tripled(shape: Any, dtype: Any = None, partition_info: Any = None) -> Any:
        del partition_info
        return tf.constant_initializer(2.0)(shape, dtype=dtype) * 3

    class Shifted(tf.ones_initializer):
        def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None, verify_shape: Any = None) -> Any:
            return super().__call__(shape, dtype, partition_info, verify_shape) + 1.0

    made = [
        tf.Variable(tf.zeros_initializer()([2]), name="zeros"),
        tf.Variable(lambda: tf.ones_initializer()([2]), name="late"),
        tf.get_variable("tripled", [2], initializer=tripled),
        tf.get_variable("shifted", [2], initializer=Shifted()),
        tf.get_variable("parts", [2], initializer=tripled, partitioner=tf.fixed_size_partitioner(2)),
    ]
    assert [each.tolist() for each in values(session, made)] == [[0, 0], [1, 1], [6, 6], [2, 2], [6, 6]]
    assert tf.get_default_graph().get_operation_by_name("late/Initializer/ones").type == "Const"


def test_a_wrong_call_is_an_error_while_building() -> None:
    with pytest.raises(ValueError, match="too many elements"):
        tf.constant_initializer([1, 2, 3])([2])
    with pytest.raises(TypeError, match="expected is"):
        tf.constant_initializer([1, 2, 3], verify_shape=True)([2])
    with pytest.raises(ValueError, match="floats"):
        tf.random_normal_initializer()([2], dtype=tf.int32)


def test_outside_of_deferred_graphs_a_call_makes_an_array() -> None:
    with tf.Graph(deferred=False).as_default():
        assert isinstance(tf.zeros_initializer()([2]), np.ndarray)
