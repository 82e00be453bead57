"""Data shards while workers and ps tasks die between the exchanges of an update: each sample counts once an epoch."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

import worker_client as ss
from ps_protocol.cluster_spec import ClusterSpec, TfConfig
from ps_protocol.task_id import TaskId
from tests.chaos.epochs.worker import InRounds, count_samples, histogram, shards_of
from tests.chaos.fault_log import fault_environment, fired
from tests.chaos.ps_processes import PsTask
from tests.chaos.testbed import beside_a_crash, connected
from tests.conftest import Eventually
from tests.integration.test_failover import started

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.usefixtures("impatient")]

TIMEOUT_S: Final = 90.0
SAMPLES: Final = 24
SHARDS: Final = 4
EPOCHS: Final = 2
BATCH: Final = 2
SEED: Final = 5


def work(client: ss.Client) -> Any:
    with client.as_default():
        counted = histogram(SAMPLES)
        count_samples(counted, shards_of(SHARDS, EPOCHS, SEED), BATCH)
        return counted


def work_together(clients: list[ss.Client]) -> list[int]:
    with ThreadPoolExecutor(len(clients)) as pool:
        begun = [pool.submit(work, each) for each in clients]
        counted = [each.result(TIMEOUT_S) for each in begun]
    return [int(each) for each in counted[0].numpy()]


@pytest.mark.parametrize(
    ("index", "place", "number", "transport"),
    [
        (0, "request.received", 20, "tcp"),
        (0, "batch.before_log", 18, "grpc"),
        (0, "batch.after_log", 19, "tcp"),
        (0, "journal.after_commit", 17, "unix"),
        (0, "batch.before_reply", 20, "shm"),
        (0, "reply.send", 22, "grpc"),
        (1, "request.received", 12, "tcp"),
        (1, "batch.before_log", 11, "shm"),
        (1, "batch.after_log", 12, "tcp"),
        (1, "journal.after_commit", 11, "grpc"),
        (1, "batch.before_reply", 13, "unix"),
    ],
)
def test_with_a_journal_a_crash_of_a_ps_anywhere_counts_each_sample_once(
    tasks: list[PsTask], index: int, place: str, number: int, transport: str
) -> None:
    with beside_a_crash(tasks, index, place, number, transport) as clients:
        assert work_together(clients) == [EPOCHS] * SAMPLES


@pytest.mark.parametrize(
    "fault", ["reply.send=drop@20-24", "request.received=duplicate", "request.received=drop@20-23"]
)
@pytest.mark.parametrize("transport", ["tcp", "grpc"])
def test_lost_and_doubled_messages_count_once(tasks: list[PsTask], transport: str, fault: str) -> None:
    addresses = [each.start(fault).address for each in tasks]
    with connected(addresses, transport) as one, connected(addresses, transport, task_index=1) as two:
        assert work_together([one, two]) == [EPOCHS] * SAMPLES
    assert [each for each in tasks if each.faults] == tasks


@pytest.mark.parametrize("number", range(1, 13))
def test_a_worker_that_dies_before_any_of_its_messages_loses_and_doubles_nothing(
    tasks: list[PsTask], tmp_path: Path, number: int
) -> None:
    """Each update is two messages: the first to ps task 1, the second to ps task 0."""
    with beside_a_death(tasks, tmp_path, number) as client:
        assert work(client).numpy().tolist() == [EPOCHS] * SAMPLES


@pytest.mark.parametrize("number", range(1, 17))
def test_a_worker_that_dies_before_any_message_of_a_round_loses_and_doubles_nothing(
    tasks: list[PsTask], tmp_path: Path, number: int
) -> None:
    """It trains alone, and the next one after it, in the same group."""
    with beside_a_death(tasks, tmp_path, number, sync="bsp") as client:
        with client.as_default():
            counted = InRounds(SAMPLES, "bsp")
            count_samples(counted, shards_of(SHARDS, EPOCHS, SEED), BATCH)
        assert counted.variable.numpy().tolist() == [EPOCHS] * SAMPLES


@contextlib.contextmanager
def beside_a_death(tasks: list[PsTask], tmp_path: Path, number: int, **more: str) -> Iterator[ss.Client]:
    """A client that is there while worker 1 dies before that message of its, and after that."""
    addresses = [each.start().address for each in tasks]
    spec = ClusterSpec({"ps": addresses, "worker": ["w0.example:1", "w1.example:1"]})
    log = tmp_path / "faults"
    with ss.connect(spec, lease_s=0.0, transport="tcp") as client:
        ended = dying_worker(spec, log, f"request.send=crash@{number}", **more)
        assert ended.returncode == -signal.SIGKILL, ended.stdout
        assert fired(log) == {"request.send=crash": 1}
        yield client


def dying_worker(spec: ClusterSpec, log: Path, faults: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Worker 1, in a process that dies by itself."""
    options = {"samples": SAMPLES, "shards": SHARDS, "epochs": EPOCHS, "batch": BATCH, "seed": SEED, **more}
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    tf_config = TfConfig(spec, TaskId("worker", 1)).to_json()
    return subprocess.run(
        [sys.executable, "-m", "tests.chaos.epochs.worker", *flags],
        env={**os.environ, "TF_CONFIG": tf_config, **fault_environment(faults, log)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_with_backups_each_sample_counts_once_whoever_is_killed(
    resources: contextlib.ExitStack, eventually: Eventually
) -> None:
    failover = started(resources, eventually, 2)
    clients = [resources.enter_context(ss.connect(failover.spec, task_index=index, lease_s=0.0)) for index in range(2)]
    with clients[0].as_default():
        shards = shards_of(SHARDS, EPOCHS, SEED)
        counted = histogram(SAMPLES)
        for number, shard in enumerate(shards):
            own = list(range(shard.index, SAMPLES, SHARDS))
            counted.scatter_add(own[:2], 1, completes=shard.up_to(2))
            if number in (1, 3):
                failover.kill(TaskId("ps", 0 if number == 1 else 1))
            counted.scatter_add(own[2:], 1, completes=shard)
            if number == 4:
                break
        clients[0].close()
    assert work(clients[1]).numpy().tolist() == [EPOCHS] * SAMPLES
