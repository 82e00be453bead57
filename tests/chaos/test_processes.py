"""Ps processes that crash at a chosen instruction, are killed or stopped while a client works."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
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

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

SIGKILLED: Final = -signal.SIGKILL

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
        restart.join(30)
    assert crashing.faults == [(place, "crash")]


@pytest.mark.parametrize("transport", ["grpc", "unix"])
@pytest.mark.parametrize("durability", ["none", "snapshot"])
def test_without_a_journal_a_crash_is_an_error_that_says_so(tmp_path: Path, durability: str, transport: str) -> None:
    with PsTask(tmp_path, durability) as ps:
        ps.start("reply.send=crash@3")
        restart = ps.start_when_ended()
        try:
            with connected([ps.address], transport) as client:
                variable = ss.get_variable("variable", (2, 3), np.float32, initializer=ss.zeros_initializer())
                variable.assign_add(np.ones((2, 3), np.float32))
                with pytest.raises(ss.errors.StateLostError, match="no longer has|lost"):
                    variable.assign_add(np.ones((2, 3), np.float32))
                with pytest.raises(ss.errors.StateLostError):
                    variable.read_value()
        finally:
            restart.join(30)
        assert ps.faults == [("reply.send", "crash")]
