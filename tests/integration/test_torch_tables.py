"""Tables on the ps tasks under layers that DistributedDataParallel trains, and with a ps that dies in the middle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import worker_client as ss
from ps_cluster import LocalCluster
from tests.integration.test_torchrun import torchrun
from worker_client.torch import ParameterServerEmbedding

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROWS, WIDTH, STEPS, RATE = 30, 4, 24, 0.05
START = np.random.default_rng(5).normal(size=(ROWS, WIDTH)).astype(np.float32)
TIMEOUT_S = 120.0


def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns ids ``[12, 2]`` and what is to be found for each pair, ``[12, 1]``."""
    generator = np.random.default_rng(step)
    ids = torch.from_numpy(generator.integers(0, ROWS, size=(12, 2)))
    return ids, (ids.sum(1, keepdim=True) % 5).to(torch.float32)


def layers(table: torch.nn.Module) -> torch.nn.Sequential:
    """Returns a model that begins with the same numbers everywhere."""
    model = torch.nn.Sequential(table, torch.nn.Flatten(), torch.nn.Linear(2 * WIDTH, 1))
    with torch.no_grad():
        model[2].weight.copy_(torch.linspace(-1, 1, 2 * WIDTH))
        model[2].bias.zero_()
    return model


def serial() -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the table and the weights that one process has trained."""
    table = torch.nn.Embedding.from_pretrained(torch.tensor(START), freeze=False)
    model = layers(table)
    sgd = torch.optim.SGD(model.parameters(), lr=RATE)
    for step in range(STEPS):
        ids, wanted = batch(step)
        torch.nn.functional.mse_loss(model(ids), wanted).backward()
        sgd.step()
        sgd.zero_grad()
    return table.weight.detach(), model[2].weight.detach()


PROGRAM = """
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

import shardscope as ss
from tests.integration.test_torch_tables import RATE, ROWS, START, STEPS, WIDTH, batch, layers

torch.distributed.init_process_group("gloo")
with ss.connect(sys.argv[1]) as client:
    index, count = client.shard
    assert (index, count) == (torch.distributed.get_rank(), torch.distributed.get_world_size())
    table = ss.torch.ParameterServerEmbedding(
        ROWS,
        WIDTH,
        "words",
        optimizer=ss.train.GradientDescent(RATE, sync="bsp"),
        partitioner=ss.fixed_size_partitioner(2),
        initializer=START,
    )
    model = DistributedDataParallel(layers(table))
    sgd = torch.optim.SGD(model.parameters(), lr=RATE)
    for step in range(STEPS):
        ids, wanted = batch(step)
        torch.nn.functional.mse_loss(model(ids[index::count]), wanted[index::count]).backward()
        sgd.step()
        sgd.zero_grad()
    client.finish_together(table.optimizer.name)
    weight = model.module[2].weight.detach()
    np.savez(Path(sys.argv[0]).with_name(f"found-{index}-of-{count}.npz"), table=table.table(), weight=weight)
torch.distributed.destroy_process_group()
"""


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(num_ps=2, num_workers=3, durability="journal") as started:
        yield started


def test_dense_layers_by_ddp_and_the_table_by_the_ps_are_the_serial_run(tmp_path: Path) -> None:
    with LocalCluster(num_ps=2) as started:
        done = torchrun(started, tmp_path, PROGRAM)
    assert done.returncode == 0, done.stderr
    table, weight = serial()
    for index in range(2):
        found = np.load(tmp_path / f"found-{index}-of-2.npz")
        torch.testing.assert_close(torch.from_numpy(found["table"]), table, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(torch.from_numpy(found["weight"]), weight, rtol=1e-5, atol=1e-6)


def test_rounds_in_which_a_ps_is_killed_are_the_serial_run(cluster: LocalCluster) -> None:
    """Three workers; the table goes with their shared model, in the rounds of that."""
    table, weight = serial()
    is_time, is_back = threading.Event(), threading.Event()

    def work(index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with ss.connect(cluster.cluster_spec, "worker", index) as client:
            words = ParameterServerEmbedding(
                ROWS, WIDTH, "words", initializer=START, partitioner=ss.fixed_size_partitioner(2), client=client
            )
            model = layers(words)
            optimizer = ss.train.GradientDescent(RATE)
            with ss.torch.share(model, "net", optimizer=optimizer, sync="sync(3, total=3)", client=client) as shared:
                for step in range(STEPS):
                    if (step, index) == (STEPS // 2, 0):
                        is_time.set()
                    shared.pull()
                    ids, wanted = batch(step)
                    torch.nn.functional.mse_loss(model(ids[index::3]), wanted[index::3]).backward()
                    shared.step()
                assert is_back.wait(TIMEOUT_S)
                client.finish_together(optimizer.name)
                shared.pull(fresh=True)
                return words.table(), model[2].weight.detach().clone()

    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work, index) for index in range(3)]
        assert is_time.wait(TIMEOUT_S)
        cluster.kill_ps(1)
        cluster.restart_ps(1)
        is_back.set()
        found = [each.result(TIMEOUT_S) for each in workers]
    for each in found:
        torch.testing.assert_close(each[0], table, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(each[1], weight, rtol=1e-5, atol=1e-6)


def test_steps_of_a_table_alone_with_a_ps_that_is_killed_are_the_serial_run(cluster: LocalCluster) -> None:
    expected, weight = serial()
    with ss.connect(cluster.cluster_spec, "worker", 0) as client:
        words = ParameterServerEmbedding(
            ROWS,
            WIDTH,
            "words",
            optimizer=ss.train.GradientDescent(RATE),
            initializer=START,
            partitioner=ss.fixed_size_partitioner(2),
            client=client,
        )
        model = layers(words)
        sgd = torch.optim.SGD(model.parameters(), lr=RATE)
        for step in range(STEPS):
            ids, wanted = batch(step)
            loss = torch.nn.functional.mse_loss(model(ids), wanted)
            if step in (8, 16):  # between reading and sending
                cluster.kill_ps(step // 8 - 1)
                cluster.restart_ps(step // 8 - 1)
            loss.backward()
            sgd.step()
            sgd.zero_grad()
        torch.testing.assert_close(words.table(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(model[2].weight.detach(), weight, rtol=1e-5, atol=1e-6)
