"""A round of finite gradients whose sum exceeds the largest float is applied, as all its workers are told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import worker_client as ss
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from tests.unit.worker_client.optimizers.together import Worker, gradients

LARGE = np.float32(3e38)


def test_the_average_of_large_gradients_is_applied_as_the_verdicts_say() -> None:
    given = gradients(0, 0)
    large: list[Any] = [np.full((5, 3), LARGE), given[1], given[2]]
    with SmallCluster(2) as cluster, ThreadPoolExecutor(2) as pool:
        workers = [
            Worker(
                cluster.client(index),
                ss.train.GradientDescent(0.25, name="sgd", sync="bsp(total=2)", on_nonfinite="skip"),
            )
            for index in range(2)
        ]
        steps = [pool.submit(each.step, large) for each in workers]
        assert [each.result(60.0).verdict for each in steps] == ["applied", "applied"]
        np.testing.assert_allclose(workers[0].values()[0], np.full((5, 3), np.float32(-0.25) * LARGE), rtol=1e-6)
