"""A step of a shared model over each transport: nothing of the size of a parameter is allocated for it."""

from __future__ import annotations

import tracemalloc
from typing import Any, Final

import numpy as np
import pytest
import torch

import shardscope as ss
from ps_cluster import LocalCluster

pytestmark = pytest.mark.integration

SIDE: Final = 1024


def numpy_step(client: ss.Client, **more: Any) -> Any:
    """Makes a step that pulls and pushes an array."""
    params = {"w": np.zeros((SIDE, SIDE), np.float32)}
    gradients = {"w": np.full((SIDE, SIDE), 1e-3, np.float32)}
    shared = ss.numpy.share(params, "net", optimizer=ss.train.Adam(0.1), client=client, **more)

    def step() -> None:
        shared.pull()
        shared.push(gradients)

    return step


def torch_step(client: ss.Client, **more: Any) -> Any:
    """Makes a step of a model whose gradient somebody else has made; not contiguous, which is the harder case."""
    layer = torch.nn.Linear(SIDE, SIDE, bias=False)
    layer.weight = torch.nn.Parameter(layer.weight.detach().t())
    gradient = torch.full((SIDE, SIDE), 1e-3).t()
    shared = ss.torch.share(layer, "net", optimizer=ss.train.Adam(0.1), client=client, **more)

    def step() -> None:
        shared.pull()
        layer.weight.grad = gradient
        shared.step()

    return step


@pytest.mark.parametrize("sync", [None, "bsp"])
@pytest.mark.parametrize("transport", ["shm", "tcp"])
@pytest.mark.parametrize("make", [numpy_step, torch_step])
def test_nothing_of_the_size_of_a_parameter(make: Any, transport: str, sync: str | None) -> None:
    with (
        LocalCluster(num_ps=1, num_workers=1) as cluster,
        ss.connect(cluster.cluster_spec, transport=transport) as client,
    ):
        step = make(client, sync=sync)
        for _ in range(4):
            step()
        tracemalloc.start()
        try:
            for _ in range(3):
                step()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < SIDE * SIDE * 4 / 4
