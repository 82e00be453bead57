"""Variables whose initializers have the same seed start alike, in a connection and in a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import shardscope as ss
import worker_client.compat.v1 as tf
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.client import Client

SHAPE = [6, 4]

WITH_SEED: dict[str, Callable[[int | None], Any]] = {
    "random_uniform": lambda seed: ss.random_uniform_initializer(-1.0, 1.0, seed=seed),
    "random_normal": lambda seed: ss.random_normal_initializer(seed=seed),
    "truncated_normal": lambda seed: ss.truncated_normal_initializer(seed=seed),
    "glorot_uniform": lambda seed: ss.glorot_uniform_initializer(seed=seed),
    "he_normal": lambda seed: ss.he_normal(seed=seed),
    "orthogonal": lambda seed: ss.orthogonal_initializer(seed=seed),
    "unit_scaling": lambda seed: ss.uniform_unit_scaling_initializer(seed=seed),
}


@pytest.fixture
def client() -> Iterator[Client]:
    with InProcessCluster() as cluster, cluster.client() as worker:
        yield worker


def started(make: Callable[[int | None], Any], seed: int | None, name: str, **more: Any) -> Any:
    return np.asarray(ss.get_variable(name, SHAPE, initializer=make(seed), **more))


@pytest.mark.parametrize("kind", WITH_SEED)
def test_with_the_same_seed_they_start_alike_whatever_their_names(client: Client, kind: str) -> None:
    make = WITH_SEED[kind]
    value = started(make, 23, "one")
    np.testing.assert_array_equal(started(make, 23, "another"), value)
    np.testing.assert_array_equal(make(23)(SHAPE), value)
    assert (started(make, 24, "other_seed") != value).any()


@pytest.mark.parametrize("kind", WITH_SEED)
def test_a_partitioned_one_starts_as_the_whole_would(client: Client, kind: str) -> None:
    value = started(WITH_SEED[kind], 23, "whole")
    parts = started(WITH_SEED[kind], 23, "parts", partitioner=ss.fixed_size_partitioner(3))
    np.testing.assert_allclose(parts, value, rtol=1e-6)  # the last digits of an orthogonal part are LAPACK's


@pytest.mark.parametrize("kind", WITH_SEED)
def test_without_a_seed_their_names_decide(client: Client, kind: str) -> None:
    assert (started(WITH_SEED[kind], None, "one") != started(WITH_SEED[kind], None, "another")).any()


@pytest.mark.parametrize("graph_seed", [None, 5])
@pytest.mark.parametrize("kind", WITH_SEED)
def test_in_a_graph_as_well(client: Client, kind: str, graph_seed: int | None) -> None:
    make = WITH_SEED[kind]
    eager = started(make, 23, "eager")
    with tf.Graph().as_default(), tf.Session(client) as session:
        tf.set_random_seed(graph_seed)
        one = tf.get_variable("one", SHAPE, initializer=make(23))
        another = tf.Variable(make(23)(SHAPE), name="another")
        parts = tf.get_variable("parts", SHAPE, initializer=make(23), partitioner=tf.fixed_size_partitioner(3))
        drawn = [tf.Variable(tf.random_uniform(SHAPE, seed=3), name=f"drawn{each}") for each in range(2)]
        unseeded = [tf.get_variable(f"unseeded{each}", SHAPE, initializer=make(None)) for each in range(2)]
        session.run(tf.global_variables_initializer())
        for variable in (one, another):
            np.testing.assert_array_equal(session.run(variable), eager)
        np.testing.assert_allclose(session.run(parts.as_tensor()), eager, rtol=1e-6)
        np.testing.assert_array_equal(*session.run(drawn))
        assert np.not_equal(*session.run(unseeded)).any()
