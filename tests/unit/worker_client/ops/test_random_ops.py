"""Random operations draw anew in each run, and what a seed says; the numbers have the distributions asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from tests.unit.worker_client.naming_fakes import eager_graph

MANY = [200, 200]

DRAWS: dict[str, Callable[..., Any]] = {
    "normal": lambda **given: tf.random_normal([8], **given),
    "truncated": lambda **given: tf.truncated_normal([8], **given),
    "uniform": lambda **given: tf.random_uniform([8], **given),
    "integers": lambda **given: tf.random_uniform([8], 0, 1000, tf.int32, **given),
    "shuffle": lambda **given: tf.random_shuffle(tf.range(100), **given),
    "multinomial": lambda **given: tf.multinomial([[0.0] * 50], 8, **given),
    "gamma": lambda **given: tf.random_gamma([8], 2.0, **given),
    "poisson": lambda **given: tf.random_poisson(50.0, [8], **given),
}


def run_twice(tensor: Any) -> list[list[Any]]:
    with tf.Session(graph=tensor.graph) as session:
        return [session.run(tensor).tolist() for _ in range(2)]


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
class TestSeeds:
    def test_each_run_draws_anew_and_each_session_something_else(self, draw: Callable[..., Any]) -> None:
        with tf.Graph().as_default():
            tensor = draw()
            (first, second), (other, _) = run_twice(tensor), run_twice(tensor)
        assert first != second
        assert first != other

    def test_with_a_seed_each_session_draws_the_same_sequence(self, draw: Callable[..., Any]) -> None:
        with tf.Graph().as_default():
            tensor = draw(seed=3)
            first, second = run_twice(tensor)
            assert [first, second] == run_twice(tensor)
            assert first != second
            assert run_twice(draw(seed=4))[0] != first

    def test_the_seed_of_the_graph_is_for_all_that_follows(self, draw: Callable[..., Any]) -> None:
        def built(seed: int) -> list[Any]:
            with tf.Graph().as_default():
                tf.set_random_seed(seed)
                return [run_twice(draw()), run_twice(draw())]

        (one, other), again = built(5), built(5)
        assert [one, other] == again
        assert one != other  # two operations draw different numbers
        assert built(6) != again


class TestDistributions:
    @pytest.fixture(autouse=True)
    def graph(self) -> Any:
        with tf.Graph().as_default():
            yield

    def drawn(self, tensor: Any) -> Any:
        with tf.Session() as session:
            return session.run(tensor)

    def test_normal(self) -> None:
        value = self.drawn(tf.random_normal(MANY, 5.0, 2.0, seed=1))
        assert abs(value.mean() - 5.0) < 0.05
        assert abs(value.std() - 2.0) < 0.05

    def test_truncated(self) -> None:
        value = self.drawn(tf.truncated_normal(MANY, 5.0, 2.0, seed=1))
        assert np.abs(value - 5.0).max() <= 4.0
        assert abs(value.std() - 2.0 * 0.8796) < 0.05

    @pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64], ids=lambda dtype: dtype.name)
    def test_uniform_never_reaches_its_bound(self, dtype: Any) -> None:
        value = self.drawn(tf.random_uniform(MANY, dtype=dtype, seed=1)).astype(np.float64)
        assert value.min() >= 0.0
        assert value.max() < 1.0
        assert abs(value.mean() - 0.5) < 0.02

    def test_uniform_between_tensors(self) -> None:
        value = self.drawn(tf.random_uniform([1000, 2], tf.constant([0.0, 10.0]), tf.constant([1.0, 20.0]), seed=1))
        assert (value.min(axis=0) >= [0.0, 10.0]).all()
        assert (value.max(axis=0) < [1.0, 20.0]).all()
        assert (value.max(axis=0) > [0.9, 19.0]).all()

    def test_integers(self) -> None:
        value = self.drawn(tf.random_uniform(MANY, -2, 3, tf.int64, seed=1))
        assert sorted(set(value.ravel().tolist())) == [-2, -1, 0, 1, 2]

    def test_empty_bounds_are_an_error_of_the_run(self) -> None:
        with pytest.raises(tf.errors.InvalidArgumentError, match="random_uniform"):
            self.drawn(tf.random_uniform([2], 3, 3, tf.int32))

    def test_a_shuffle_keeps_the_rows(self) -> None:
        value = self.drawn(tf.random_shuffle(tf.constant(np.arange(20).reshape(10, 2)), seed=1))
        assert sorted(value.tolist()) == np.arange(20).reshape(10, 2).tolist()

    def test_columns_are_drawn_by_their_logits(self) -> None:
        value = self.drawn(tf.multinomial(np.log([[0.1, 0.9], [0.5, 0.5]]), 4000, seed=1))
        assert np.abs(value.mean(axis=1) - [0.9, 0.5]).max() < 0.05

    def test_a_crop_lies_inside(self) -> None:
        value = self.drawn(tf.random_crop(tf.constant(np.arange(100).reshape(10, 10)), [3, 4], seed=1))
        assert value.shape == (3, 4)
        assert (np.diff(value, axis=1) == 1).all()
        assert (np.diff(value, axis=0) == 10).all()

    def test_dropout_keeps_the_mean(self) -> None:
        value = self.drawn(tf.nn.dropout(tf.ones(MANY), rate=0.25, seed=1))
        assert set(np.unique(value).tolist()) == {0.0, np.float32(1 / 0.75)}
        assert abs(value.mean() - 1.0) < 0.02

    def test_shapes_may_be_tensors(self) -> None:
        sizes = tf.placeholder(tf.int32, [2])
        tensor = tf.random_normal(sizes)
        with tf.Session() as session:
            assert session.run(tensor, {sizes: [2, 3]}).shape == (2, 3)
            assert session.run(tensor, {sizes: [4, 1]}).shape == (4, 1)


class TestInitialValues:
    def test_a_variable_starts_from_what_its_initializer_draws(self) -> None:
        with tf.Graph().as_default(), tf.Session() as session:
            weights = tf.Variable(tf.random_normal([2, 3], stddev=0.1), name="weights")
            session.run(weights.initializer)
            first = session.run(weights).tolist()
            assert session.run(weights).tolist() == first
            session.run(weights.initializer)
            assert session.run(weights).tolist() != first

    def test_another_may_start_from_it(self) -> None:
        with tf.Graph().as_default(), tf.Session() as session:
            one = tf.Variable(tf.truncated_normal([4]), name="one")
            two = tf.Variable(one.initialized_value() * 2.0, name="two")
            session.run(one.initializer)
            session.run(two.initializer)
            np.testing.assert_array_equal(session.run(two), session.run(one) * 2)


def test_outside_of_a_deferred_graph_numbers_are_drawn_at_once() -> None:
    with eager_graph().as_default():
        assert tf.random_normal([3]).shape == (3,)
        assert tf.random_uniform([], seed=1) == tf.random_uniform([], seed=1)
        assert not np.array_equal(tf.random_normal([3]), tf.random_normal([3]))
