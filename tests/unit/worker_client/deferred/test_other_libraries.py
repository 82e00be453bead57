"""Arrays of other libraries beside deferred tensors, and in what makes constants of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from ps_protocol.errors import InvalidArgumentError


class Foreign:
    """As a tensor of torch or a column of pandas: an array with a dtype that NumPy does not know."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, kept: Any, dtype: object = "torch.float32"):
        self._kept = np.asarray(kept, np.float32)
        self.dtype = type("Dtype", (), {"__repr__": lambda _: str(dtype)})()
        self.shape = self._kept.shape
        self.name = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self._kept if dtype is None else self._kept.astype(dtype)

    def __add__(self, other: object) -> Any:
        return NotImplemented


class OldStyle:
    """As classes from before NumPy 2."""

    def __array__(self) -> Any:
        return np.array([1.0, 2.0, 3.0])


def run(build: Callable[[Any], Any]) -> Any:
    with tf.Graph().as_default():
        v = tf.get_variable("v", [3], initializer=tf.constant_initializer([4.0, 5.0, 6.0]))
        fetched = build(v)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            return session.run(fetched)


X = [1.0, 2.0, 3.0]
TAKEN: dict[str, tuple[Callable[[Any], Any], list[float]]] = {
    "added": (lambda v: v + Foreign(X), [5, 7, 9]),
    "added on the left": (lambda v: Foreign(X) + v, [5, 7, 9]),
    "multiplied": (lambda v: v * Foreign(X), [4, 10, 18]),
    "put beside": (lambda v: tf.stack([v, Foreign(X)])[1], X),
    "put beside, of old style": (lambda v: tf.stack([v, OldStyle()])[1], X),
    "absolute": (lambda _: tf.abs(Foreign([-1, 2, -3])), X),
    "a constant": (lambda _: tf.constant(Foreign(X)), X),
    "returned": (lambda _: tf.py_func(lambda: Foreign(X), [], tf.float32), X),
    "a table": (lambda _: tf.nn.embedding_lookup(Foreign(X), [0, 1, 2]), X),
}


@pytest.mark.parametrize(("build", "expected"), TAKEN.values(), ids=TAKEN)
def test_an_array_of_another_library_is_one_here(build: Callable[[Any], Any], expected: list[float]) -> None:
    assert run(build).tolist() == expected


BIG = np.array(X, ">f4")


@pytest.mark.parametrize(
    "build",
    [
        lambda v: v + BIG,
        lambda _: tf.constant(BIG),
        lambda _: tf.convert_to_tensor(BIG),
        lambda _: tf.gather(BIG, [0, 1, 2]),
        lambda _: tf.Variable(BIG, name="w").initialized_value(),
        lambda v: tf.stack([v, tf.constant(BIG)]),
        lambda _: tf.py_func(lambda: BIG, [], tf.float32),
        lambda v: tf.gradients(v * 1.0, v, grad_ys=[BIG])[0],
        lambda v: tf.train.GradientDescentOptimizer(1.0).compute_gradients(tf.reduce_sum(v * BIG), [v])[0][0],
    ],
    ids=["sum", "constant", "convert", "gather", "Variable", "stack", "py_func", "gradients", "optimizer"],
)
def test_the_order_of_bytes_is_no_matter(build: Callable[[Any], Any]) -> None:
    found = run(build)
    assert found.dtype == np.float32
    assert found.dtype.isnative
    assert (run(lambda v: v + tf.constant(BIG)) == [5, 7, 9]).all()


def test_a_gradient_in_another_order_of_bytes_is_applied() -> None:
    def build(v: Any) -> Any:
        with tf.control_dependencies([tf.train.GradientDescentOptimizer(1.0).apply_gradients([(BIG, v)])]):
            return v.read_value()

    assert run(build).tolist() == [3, 3, 3]


@pytest.mark.parametrize("take", ["py_func", "embedding_lookup", "stack"])
def test_a_mask_is_dropped_nowhere(take: str) -> None:
    masked = np.ma.array(np.array(X, np.float32), mask=[False, True, False])
    builds: dict[str, Callable[[Any], Any]] = {
        "py_func": lambda _: tf.py_func(lambda: masked, [], tf.float32),
        "embedding_lookup": lambda _: tf.nn.embedding_lookup(masked, [0, 1]),
        "stack": lambda v: tf.stack([v, masked]),
    }
    with pytest.raises(InvalidArgumentError, match=r"is masked.*fill it"):
        run(builds[take])


@pytest.mark.parametrize("value", [np.array([1e300, 0, 0]), [1e300, 0.0, 0.0]])
def test_a_number_beyond_the_range_is_refused_beside_a_tensor(value: Any) -> None:
    with pytest.raises(TypeError, match="does not fit into the dtype"):
        run(lambda v: tf.stack([v, value]))
    with pytest.raises(TypeError, match="does not fit into the dtype"):
        run(lambda _: tf.stack([tf.constant(1, tf.int8), np.array(300)]))


def test_pandas_leaves_its_operators_to_tensors() -> None:
    """It asks for this member of what stands on the right."""
    with tf.Graph().as_default():
        assert tf.constant(1).__pandas_priority__ > 4000  # that of a frame
