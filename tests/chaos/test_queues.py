"""Queues while ps 0 crashes or messages are lost: each item that was enqueued is dequeued once, in order."""

from __future__ import annotations

import contextlib
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import pytest

import worker_client as ss
from tests.chaos.ps_processes import PsTask
from tests.chaos.testbed import connected
from tests.conftest import Eventually
from tests.integration.test_failover import started

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.usefixtures("impatient")]

TIMEOUT_S: Final = 60.0
NUM_ITEMS: Final = 12


@pytest.mark.parametrize("durability", ["snapshot", "journal"])
def test_after_a_good_end_a_queue_has_what_it_had(tmp_path: Path, durability: str) -> None:
    with PsTask(tmp_path, durability) as ps:
        ps.start()
        with connected([ps.address], "tcp") as client, client.as_default():
            queue = ss.FIFOQueue(3, "string", name="text")
            queue.enqueue(b"one")
            queue.enqueue(b"two\x00")
            ps.signal(signal.SIGTERM)
            assert ps.wait() == 0
            ps.start()
            assert [queue.dequeue(TIMEOUT_S).item() for _ in range(2)] == [b"one", b"two\x00"]


def pass_items(producer: ss.Client, consumer: ss.Client) -> list[int]:
    """Has one client enqueue some items, more than the queue holds, and the other one dequeue until it is closed."""

    def produce() -> None:
        with producer.as_default():
            queue = ss.FIFOQueue(3, np.int64, shapes=[[]], name="items")
        for item in range(NUM_ITEMS):
            queue.enqueue(item, TIMEOUT_S)
        queue.close()

    taken: list[int] = []
    with ThreadPoolExecutor(1) as pool:
        producing = pool.submit(produce)
        with consumer.as_default():
            queue = ss.FIFOQueue(3, np.int64, shapes=[[]], name="items")
        while True:
            try:
                taken.append(int(queue.dequeue(TIMEOUT_S)))
            except ss.errors.OutOfRangeError:
                break
        producing.result(TIMEOUT_S)
    return taken


@pytest.mark.parametrize(
    ("place", "number", "transport"),
    [
        ("batch.before_log", 6, "tcp"),
        ("batch.after_log", 9, "grpc"),
        ("journal.after_commit", 11, "unix"),
        ("batch.before_reply", 8, "shm"),
        ("batch.before_reply", 13, "tcp"),
        ("reply.send", 15, "grpc"),
    ],
)
def test_with_a_journal_a_crash_anywhere_loses_and_doubles_no_item(
    ps: PsTask, place: str, number: int, transport: str
) -> None:
    ps.start(f"{place}=crash@{number}")
    restart = ps.start_when_ended()
    try:
        with connected([ps.address], transport) as one, connected([ps.address], transport, task_index=1) as two:
            assert pass_items(one, two) == list(range(NUM_ITEMS))
    finally:
        restart.join(TIMEOUT_S)
    assert ps.faults == [(place, "crash")]


@pytest.mark.parametrize("fault", ["reply.send=drop@4-9", "request.received=duplicate", "request.received=drop@5-8"])
@pytest.mark.parametrize("transport", ["tcp", "grpc"])
def test_lost_and_doubled_messages_lose_and_double_no_item(ps: PsTask, transport: str, fault: str) -> None:
    ps.start(fault)
    with connected([ps.address], transport) as one, connected([ps.address], transport, task_index=1) as two:
        assert pass_items(one, two) == list(range(NUM_ITEMS))
    assert ps.faults


def test_with_a_backup_a_failover_loses_and_doubles_no_item(
    resources: contextlib.ExitStack, eventually: Eventually
) -> None:
    failover = started(resources, eventually, 1)
    spec = failover.cluster.cluster_spec
    one = resources.enter_context(ss.connect(spec, task_index=0))
    two = resources.enter_context(ss.connect(spec, task_index=1))
    with ThreadPoolExecutor(1) as pool:
        passing = pool.submit(pass_items, one, two)
        eventually(lambda: "queue/items" in [each.name for each in one.variables()])
        failover.kill(ss.TaskId("ps", 0))
        assert passing.result(3 * TIMEOUT_S) == list(range(NUM_ITEMS))
