"""Ps processes that crash at a chosen instruction, are killed or stopped while a client works."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
import pytest

import worker_client as ss
from tests.chaos import operations
from tests.chaos.operations import Operation
from tests.chaos.ps_processes import PsTask
from tests.chaos.testbed import connected, impatient_settings
from tests.conftest import Eventually

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.usefixtures("impatient")]

TIMEOUT_S: Final = 30.0
PATIENCE_S: Final = 0.3
"""How long a client waits for an answer before it asks whether the ps is there."""

ONES: Final = np.ones((2, 3), np.float32)

CRASHES: Final = (
    # The batch that crashes the ps is the second that mutates: the first declares the variable.
    ("request.received", 2, operations.assign, "grpc"),
    ("batch.before_log", 2, operations.small_assign_add, "tcp"),
    ("batch.before_log", 3, operations.counting, "grpc"),
    ("batch.after_log", 2, operations.assign_add, "shm"),
    ("batch.after_log", 5, operations.window, "unix"),
    ("journal.before_commit", 5, operations.scatter_add, "unix"),
    ("journal.after_commit", 5, operations.counting, "tcp"),
    ("batch.before_reply", 2, operations.scatter_add, "grpc"),
    ("batch.before_reply", 4, operations.window, "shm"),
    ("reply.send", 3, operations.counting, "unix"),
    ("reply.send", 2, operations.assign, "shm"),
    ("reply.send", 6, operations.window, "grpc"),
)


@pytest.fixture
def crashing(tmp_path: Path) -> Iterator[PsTask]:
    with PsTask(tmp_path, "journal") as ps:
        yield ps


@pytest.mark.parametrize(
    ("place", "number", "operation", "transport"), CRASHES, ids=lambda each: getattr(each, "__name__", str(each))
)
def test_with_a_journal_a_crash_anywhere_counts_each_operation_once(
    crashing: PsTask, place: str, number: int, operation: Operation, transport: str
) -> None:
    crashing.start(f"{place}=crash@{number}")
    restart = crashing.start_when_ended()
    try:
        with connected([crashing.address], transport) as client:
            steps = operation(client, "variable")
            assert list(steps) == [None, None]
    finally:
        restart.join(TIMEOUT_S)
    assert crashing.faults == [(place, "crash")]


@pytest.mark.parametrize("crashing_index", [0, 1])
def test_a_crash_in_one_of_two_tasks_counts_the_parts_of_both_once(tmp_path: Path, crashing_index: int) -> None:
    with ExitStack() as resources:
        tasks = []
        for index in range(2):
            directory = tmp_path / str(index)
            directory.mkdir()
            tasks.append(resources.enter_context(PsTask(directory, "journal", index=index)))
        addresses = [task.address for task in tasks]
        for index, task in enumerate(tasks):
            task.cluster = addresses
            task.start("batch.after_log=crash@2" if index == crashing_index else "")
        restart = tasks[crashing_index].start_when_ended()
        resources.callback(restart.join, TIMEOUT_S)
        client = resources.enter_context(connected(addresses, "tcp"))
        assert list(operations.two_tasks(client, "variable")) == [None, None]
        assert tasks[crashing_index].faults == [("batch.after_log", "crash")]


@pytest.mark.parametrize(("durability", "transport"), [("none", "grpc"), ("snapshot", "unix")])
def test_without_a_journal_a_crash_is_an_error_that_says_so(tmp_path: Path, durability: str, transport: str) -> None:
    with PsTask(tmp_path, durability) as ps:
        ps.start("reply.send=crash@3")
        restart = ps.start_when_ended()
        try:
            with connected([ps.address], transport) as client:
                variable = small_variable()
                variable.assign_add(ONES)
                with pytest.raises(ss.errors.StateLostError, match=client.fanout.store(0).hex[:8]):
                    variable.assign_add(ONES)
                # Never zeros, as if nothing had happened.
                with pytest.raises(ss.errors.StateLostError):
                    variable.read_value()
                pending = variable.assign_add(ONES, wait=False)
                with pytest.raises(ss.errors.StateLostError):
                    pending.result(TIMEOUT_S)
        finally:
            restart.join(TIMEOUT_S)
        assert ps.faults == [("reply.send", "crash")]
        assert "faults will be injected on purpose" in ps.log


@pytest.mark.parametrize("transport", ["grpc", "shm"])
def test_a_killed_ps_is_waited_for_with_a_reason_and_gone_on_with(
    tmp_path: Path, transport: str, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    with PsTask(tmp_path, "journal") as ps, connected([ps.start().address], transport):
        variable = small_variable()
        variable.assign_add(ONES)
        ps.kill()
        updates = [variable.assign_add(ONES, wait=False) for _ in range(5)]
        waiting = f"waiting for ps:0 at {ps.address}, "
        eventually(lambda: waiting in caplog.text or updates[0].done(), message="the client says what it waits for")
        assert not any(update.done() for update in updates)
        ps.start()
        for update in updates:
            update.result(TIMEOUT_S)
        np.testing.assert_array_equal(variable.read_value(), 6 * ONES)
        assert f"ps:0 at {ps.address} is back after" in caplog.text


@pytest.mark.parametrize("transport", ["grpc", "tcp", "shm"])
def test_a_stopped_ps_is_waited_for_with_a_reason_and_gone_on_with(
    tmp_path: Path, transport: str, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    with PsTask(tmp_path).start() as ps, connected([ps.address], transport, impatient_settings(PATIENCE_S)):
        variable = small_variable()
        variable.assign_add(ONES)
        ps.signal(signal.SIGSTOP)
        updates = [variable.assign_add(ONES, wait=False) for _ in range(5)]
        waiting = f"waiting for ps:0 at {ps.address}, "
        eventually(lambda: waiting in caplog.text or updates[0].done(), message="the client says what it waits for")
        assert not any(update.done() for update in updates)
        ps.signal(signal.SIGCONT)
        for update in updates:
            update.result(TIMEOUT_S)
        np.testing.assert_array_equal(variable.read_value(), 6 * ONES)


def small_variable() -> ss.Variable:
    variable = ss.get_variable("variable", (2, 3), np.float32, initializer=ss.zeros_initializer())
    assert isinstance(variable, ss.Variable)
    return variable
