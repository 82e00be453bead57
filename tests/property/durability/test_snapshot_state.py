"""Snapshots without a journal against a plain model: a crash takes the task back to the last one, and says so."""

from __future__ import annotations

import tempfile
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ps_protocol.errors import StateLostError
from ps_protocol.initializer_spec import InitializerSpec, ValueKind
from ps_protocol.operations import Batch, Declare, PsOperation, Read, Result, Update, UpdateRule
from ps_protocol.service_types import DurabilityMode
from tests.property.durability.crashing_task import SNAPSHOT_PLACES, TIMEOUT_S, CrashingTask, fast_directory
from tests.property.durability.durable_operations import SPECS


class SnapshotMachine(RuleBasedStateMachine):
    """A task that keeps snapshots only: a crash takes it back to the last one, and everybody is told."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(dir=fast_directory(), prefix="shardscope-")
        self.task = CrashingTask(Path(self.directory.name) / "first", DurabilityMode.SNAPSHOT)
        self.kept = self.total = 0
        self.sequence = 1
        self.begin()

    def teardown(self) -> None:
        self.task.close()
        self.directory.cleanup()

    def begin(self) -> None:
        """As a new client: one that knew of what is lost must not go on."""
        self.client = uuid4()
        self.sequence = 1
        self.task.core.hello(self.client, "worker:0", timeout_s=TIMEOUT_S)
        zero = Declare(SPECS["count"], InitializerSpec(ValueKind(np.array(0))))
        self.send(zero)

    def send(self, operation: PsOperation) -> None:
        batch = Batch(self.client, self.task.store, self.sequence, (operation,))
        (reply,) = self.task.core.exchange(batch, timeout_s=TIMEOUT_S).replies
        assert isinstance(reply, Result)
        self.sequence += 1

    @rule(number=st.integers(1, 9))
    def add(self, number: int) -> None:
        self.send(Update("count", UpdateRule.ASSIGN_ADD, np.array(number)))
        self.total += number

    @rule()
    def snapshot(self) -> None:
        self.task.snapshot()
        self.kept = self.total

    @rule()
    def restart(self) -> None:
        store = self.task.store
        self.task = self.task.restart()
        self.kept = self.total
        assert self.task.store == store

    @rule()
    def crash(self) -> None:
        self.continue_from(self.task.crash())

    @rule(place=st.sampled_from(SNAPSHOT_PLACES))
    def crash_during_a_snapshot(self, place: str) -> None:
        task = self.task.crash_while(place, self.task.snapshot)
        if place != "snapshot.before_rename" or task is None:
            self.kept = self.total
        if task is not None:
            self.continue_from(task)

    def continue_from(self, task: CrashingTask) -> None:
        lost = Batch(self.client, self.task.store, self.sequence, (Update("count", UpdateRule.ASSIGN, np.array(-1)),))
        self.task = task
        with pytest.raises(StateLostError):
            task.core.exchange(lost, timeout_s=TIMEOUT_S)
        self.total = self.kept
        self.begin()

    @invariant()
    def holds_what_was_kept_and_added_since(self) -> None:
        reads = Batch(self.client, self.task.store, 0, (Read("count"),))
        (reply,) = self.task.core.exchange(reads, timeout_s=TIMEOUT_S).replies
        assert isinstance(reply, Result)
        assert reply.tensor == self.total


TestSnapshots = SnapshotMachine.TestCase
TestSnapshots.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
