"""Workers that train together while ps tasks and workers crash in any phase of a round: each gradient counts once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, installed
from tests.chaos.patience import ask_impatiently
from tests.chaos.ps_processes import PsTask
from tests.chaos.testbed import connected
from tests.unit.worker_client.optimizers.together import OPTIMIZERS, Worker, alone, gradients
from worker_client.optimizers.optimizer import Applied

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

TIMEOUT_S: Final = 90.0
STEPS: Final = 6
CRASHES: Final = (
    # ps, place, number of the batch, transport. The first ones declare the model and join; then each step of two
    # workers is two batches that stage, two that bring and, at ps 0, two that hand in.
    (0, "request.received", 24, "tcp"),
    (0, "batch.before_log", 19, "grpc"),
    (0, "batch.after_log", 20, "tcp"),
    (0, "batch.before_log", 21, "unix"),
    (0, "journal.after_commit", 22, "tcp"),
    (0, "batch.before_reply", 23, "shm"),
    (0, "batch.after_log", 24, "grpc"),
    (0, "reply.send", 26, "tcp"),
    (1, "request.received", 12, "tcp"),
    (1, "batch.before_log", 10, "shm"),
    (1, "batch.after_log", 11, "tcp"),
    (1, "batch.before_log", 12, "grpc"),
    (1, "journal.after_commit", 13, "unix"),
    (1, "batch.before_reply", 14, "tcp"),
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    ask_impatiently(monkeypatch)


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[list[PsTask]]:
    """Two ps tasks, not started."""
    with contextlib.ExitStack() as resources:
        made = []
        for index in range(2):
            (tmp_path / f"ps{index}").mkdir()
            made.append(resources.enter_context(PsTask(tmp_path / f"ps{index}", "journal", index=index)))
        for each in made:
            each.cluster = [task.address for task in made]
        yield made


def train(clients: list[ss.Client], sync: str) -> tuple[list[Worker], list[list[Applied]]]:
    """Has each client make its steps."""
    workers = [Worker(client, OPTIMIZERS["adam"](sync=sync)) for client in clients]

    def work(index: int) -> list[Applied]:
        return [workers[index].step(gradients(index, number)) for number in range(STEPS)]

    with ThreadPoolExecutor(len(clients)) as pool:
        begun = [pool.submit(work, index) for index in range(len(clients))]
        return workers, [each.result(TIMEOUT_S) for each in begun]


def check(workers: list[Worker], applied: list[list[Applied]]) -> None:
    """Each gradient is part of its round, once."""
    for of_worker in applied:
        assert [each[:3] for each in of_worker] == [("applied", number, number) for number in range(1, STEPS + 1)]
    for found, expected in zip(workers[0].values(), alone(OPTIMIZERS["adam"], len(workers), STEPS), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("index", "place", "number", "transport"), CRASHES)
def test_with_a_journal_a_crash_of_a_ps_counts_each_gradient_once(
    tasks: list[PsTask], index: int, place: str, number: int, transport: str
) -> None:
    for each in tasks:
        each.start(f"{place}=crash@{number}" if each is tasks[index] else "")
    restart = tasks[index].start_when_ended()
    addresses = [each.address for each in tasks]
    try:
        with connected(addresses, transport) as one, connected(addresses, transport, task_index=1) as two:
            check(*train([one, two], "bsp(total=2)"))
    finally:
        restart.join(TIMEOUT_S)
    assert tasks[index].faults == [(place, "crash")]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("request.send", FaultAction.DROP, first=20, last=23),
        Fault("request.received", FaultAction.DUPLICATE),
        Fault("request.received", FaultAction.DROP, first=10, last=13),
        Fault("reply.send", FaultAction.DROP, first=12, last=16),
    ],
    ids=lambda each: f"{each.place}-{each.action.value}",
)
@pytest.mark.parametrize("transport", ["tcp", "grpc"])
def test_lost_and_doubled_messages_count_once(tasks: list[PsTask], transport: str, fault: Fault) -> None:
    text = f"{fault.place}={fault.action.value}" + (f"@{fault.first}-{fault.last}" if fault.last else "")
    for each in tasks:
        each.start(text if fault.place != "request.send" else "")
    plan = FaultPlan((fault,) if fault.place == "request.send" else ())
    addresses = [each.address for each in tasks]
    with connected(addresses, transport) as one, connected(addresses, transport, task_index=1) as two:
        with installed(plan):
            found = train([one, two], "bsp(total=2)")
        check(*found)
    assert [each for each in tasks if each.faults] == tasks or plan.fired("request.send")
