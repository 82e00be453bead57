"""Shares parameters that JAX has divided over two devices, both of which are this processor."""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

import shardscope as ss
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster


def main() -> None:
    """Makes a step of divided, repeated, placed and free parameters, and checks where they are then."""
    mesh = jax.make_mesh((2,), ("x",))
    divided = NamedSharding(mesh, PartitionSpec("x"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    second = SingleDeviceSharding(jax.devices()[1])
    start = {
        "divided": jax.device_put(jnp.arange(8.0).reshape(4, 2), divided),
        "everywhere": jax.device_put(jnp.ones(3), everywhere),
        "free": jnp.ones(2),
        "placed": jax.device_put(jnp.ones(2), second),
    }
    with SmallCluster(2) as cluster:
        client = cluster.client()
        shared = ss.jax.share(start, "net", optimizer=ss.train.GradientDescent(0.5), client=client)
        pulled = shared.pull()
        gradients = jax.tree.map(jax.jit(lambda each: each * 0 + 1), pulled)
        assert gradients["divided"].sharding.is_equivalent_to(divided, 2)
        shared.push(gradients)
        for found in (pulled, shared.pull()):
            assert {name: each.committed for name, each in found.items()} == {
                "divided": True,
                "everywhere": True,
                "free": False,
                "placed": True,
            }
            for name, sharding in (("divided", divided), ("everywhere", everywhere), ("placed", second)):
                assert found[name].sharding.is_equivalent_to(sharding, found[name].ndim), (name, found[name].sharding)
        np.testing.assert_array_equal(pulled["divided"], np.arange(8).reshape(4, 2))
        np.testing.assert_array_equal(shared.pull()["divided"], np.arange(8).reshape(4, 2) - 0.5)
        np.testing.assert_array_equal(shared.pull()["placed"], [0.5, 0.5])


if __name__ == "__main__":
    main()
