"""Ledger, journal and snapshots against a plain model: whatever is sent, repeated, cut short and started again."""

from __future__ import annotations

import copy
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ps_protocol.errors import FailedPreconditionError
from ps_protocol.initializer_spec import InitializerSpec, ValueKind
from ps_protocol.operations import (
    Batch,
    BatchReply,
    Declare,
    PsOperation,
    Read,
    Result,
    Update,
    UpdateRule,
)
from ps_protocol.service_types import DurabilityMode, Placement, Proposal
from tests.property.durability.crashing_task import (
    SEND_PLACES,
    SNAPSHOT_PLACES,
    TIMEOUT_S,
    CrashingTask,
    fast_directory,
)
from tests.property.durability.durable_model import Model, ModelClient, comparable
from tests.property.durability.durable_operations import OPERATIONS, SPECS, multiple

pytestmark = pytest.mark.timeout(180)

OBSERVER = UUID(int=99)

RESIDENTS = [UUID(int=number) for number in (1, 2)]
GUESTS = [UUID(int=number) for number in (3, 4, 5)]
CLIENTS = st.sampled_from([*RESIDENTS * 3, *GUESTS])
GROUP_PLACES = ("journal.before_commit", "journal.after_commit")


def adding(number: int) -> PsOperation:
    return Update("row", UpdateRule.ASSIGN_ADD, np.array(number, np.float64))  # whatever shape it has by now


def version_of(reply: BatchReply) -> int:
    (result,) = reply.replies
    assert isinstance(result, Result)
    return result.version


class JournalMachine(RuleBasedStateMachine):
    """Clients that come, send, repeat and go, and a task that crashes, takes snapshots and starts again."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(dir=fast_directory(), prefix="shardscope-")
        self.task = CrashingTask(Path(self.directory.name) / "first", DurabilityMode.JOURNAL)
        self.store = self.task.store
        self.model = Model()
        self.sent: dict[tuple[UUID, int], tuple[PsOperation, ...]] = {}
        for client in (OBSERVER, *RESIDENTS):
            self.hello(client)
        declared = [
            Declare(spec, InitializerSpec(ValueKind(multiple(spec, 1))))
            for spec in SPECS.values()
            if spec.shape or spec.slot_of
        ]
        self.exchange(RESIDENTS[0], 1, tuple(declared))

    def teardown(self) -> None:
        self.task.close()
        self.directory.cleanup()

    # -- clients ------------------------------------------------------------------------------

    @rule(client=st.sampled_from([*RESIDENTS, *GUESTS]))
    def hello(self, client: UUID) -> None:
        if client in self.model.departed:
            with pytest.raises(FailedPreconditionError):
                self.task.core.hello(client, "worker:0", timeout_s=TIMEOUT_S)
            return
        welcome = self.task.core.hello(client, "worker:0", timeout_s=TIMEOUT_S)
        assert welcome.store == self.store
        if client not in self.model.clients:
            self.model.clients[client] = ModelClient()
            self.model.position += 1

    @rule(client=st.sampled_from(GUESTS))
    def goodbye(self, client: UUID) -> None:
        self.task.core.goodbye(client, timeout_s=TIMEOUT_S)
        self.task.state.wait_for_all(TIMEOUT_S)  # nobody waits for it otherwise, so that a crash may take it back
        if self.model.clients.pop(client, None) is not None:
            self.model.departed.add(client)
            self.model.position += 1

    @rule(client=CLIENTS, operations=OPERATIONS, skipped=st.sampled_from([0, 0, 0, 1]))
    def send(self, client: UUID, operations: tuple[PsOperation, ...], skipped: int) -> None:
        self.exchange(client, self.next_sequence(client) + skipped, operations)

    @rule(client=CLIENTS, back=st.integers(0, 6))
    def send_again(self, client: UUID, back: int) -> None:
        """What was answered gets its answer again; what a crash has swallowed counts now; the rest is refused."""
        sequence = max(1, self.next_sequence(client) - back)
        operations = self.sent.get((client, sequence), (Update("count", UpdateRule.ASSIGN_ADD, np.array(1)),))
        self.exchange(client, sequence, operations)

    @rule(client=CLIENTS, operations=OPERATIONS)
    def send_and_crash_and_send_again(self, client: UUID, operations: tuple[PsOperation, ...]) -> None:
        """The reply was lost with the task."""
        self.send(client, operations, 0)
        self.crash()
        self.send_again(client, 1)

    @rule(name=st.sampled_from(sorted(SPECS)))
    def place(self, name: str) -> None:
        (placement,) = self.task.core.place([Proposal(SPECS[name], 0)], timeout_s=TIMEOUT_S)
        assert placement == Placement(SPECS[name], 0)
        if name not in self.model.placements:
            self.model.placements[name] = 0
            self.model.position += 1

    # -- trouble ------------------------------------------------------------------------------

    @rule()
    def crash(self) -> None:
        self.task = self.task.crash()

    @rule()
    def restart(self) -> None:
        self.task = self.task.restart()

    @rule()
    def snapshot(self) -> None:
        taken = self.task.snapshot()
        assert taken is not None
        assert taken.position == self.model.position

    @rule(place=st.sampled_from(SNAPSHOT_PLACES))
    def crash_during_a_snapshot(self, place: str) -> None:
        self.task = self.task.crash_while(place, self.task.snapshot) or self.task

    @rule(client=CLIENTS, operations=OPERATIONS, place=st.sampled_from(SEND_PLACES))
    def crash_during_a_batch(self, client: UUID, operations: tuple[PsOperation, ...], place: str) -> None:
        """The client gets no answer; what has survived of its batch are the first of its records."""
        if client not in self.model.clients:
            return
        sequence = self.next_sequence(client)
        self.sent[client, sequence] = operations
        before, whole = self.model.position, copy.deepcopy(self.model)
        whole.apply(client, sequence, operations)
        batch = Batch(client, self.store, sequence, operations)
        task = self.task.crash_while(place, lambda: self.task.core.exchange(batch, timeout_s=TIMEOUT_S))
        if task is None:
            self.model = whole
            return
        self.task = task
        survived = task.position
        match place:
            case "batch.before_log":
                assert survived == whole.position - 1  # its declarations
            case "journal.after_commit":
                assert before < survived <= whole.position
            case "batch.before_reply":
                assert survived == whole.position
            case _:
                assert survived == before
        self.model.apply(client, sequence, operations, up_to=survived)

    @rule(numbers=st.lists(st.integers(1, 9), min_size=2, max_size=2), place=st.sampled_from(GROUP_PLACES))
    def crash_while_several_send(self, numbers: list[int], place: str) -> None:
        """What was answered before the crash has survived; sent again, all of it counts once."""
        batches = [
            Batch(client, self.store, self.next_sequence(client), (adding(number),))
            for client, number in zip(RESIDENTS, numbers, strict=True)
        ]
        before = self.task
        answered: list[UUID] = []

        def send(batch: Batch) -> None:
            before.core.exchange(batch, timeout_s=TIMEOUT_S)
            if not before.has_crashed:
                answered.append(batch.client)

        with ThreadPoolExecutor(len(batches)) as threads:
            crashed = before.crash_while(place, lambda: list(threads.map(send, batches)))
        task = self.task = crashed or before
        duplicates = task.core.status(timeout_s=TIMEOUT_S).duplicate_batches
        again = [(task.core.exchange(batch, timeout_s=TIMEOUT_S), batch) for batch in batches]
        assert task.core.status(timeout_s=TIMEOUT_S).duplicate_batches - duplicates >= len(answered)
        for reply, batch in sorted(again, key=lambda each: version_of(each[0])):
            self.sent[batch.client, batch.sequence] = batch.operations
            assert comparable(reply) == self.model.apply(batch.client, batch.sequence, batch.operations)

    # -- what holds ---------------------------------------------------------------------------

    @invariant()
    def agrees_with_the_model(self) -> None:
        core, model = self.task.core, self.model
        assert self.task.store == self.store
        assert self.task.position == model.position
        assert core.list_placements(timeout_s=TIMEOUT_S) == [
            Placement(SPECS[name], task) for name, task in sorted(model.placements.items())
        ]
        infos = core.list_variables(timeout_s=TIMEOUT_S)
        assert [(each.spec, each.version, each.initialized) for each in infos] == [
            (each.layout, each.version, each.value is not None) for _, each in sorted(model.variables.items())
        ]
        names = [name for name, each in model.variables.items() if each.value is not None]
        reads = Batch(OBSERVER, self.store, 0, tuple(Read(name) for name in names))
        for name, reply in zip(names, core.exchange(reads, timeout_s=TIMEOUT_S).replies, strict=True):
            assert isinstance(reply, Result)
            np.testing.assert_array_equal(reply.tensor, model.variables[name].value, strict=True)
        assert core.status(timeout_s=TIMEOUT_S).num_clients == len(model.clients)

    def next_sequence(self, client: UUID) -> int:
        known = self.model.clients.get(client)
        return known.newest + 1 if known else 1

    def exchange(self, client: UUID, sequence: int, operations: tuple[PsOperation, ...]) -> None:
        """Sends a batch and compares what becomes of it."""
        known = self.model.clients.get(client)
        batch = Batch(client, self.store, sequence, operations)
        if known is None or (sequence <= known.newest and sequence not in known.answers):
            with pytest.raises(FailedPreconditionError):
                self.task.core.exchange(batch, timeout_s=TIMEOUT_S)
            return
        answer = comparable(self.task.core.exchange(batch, timeout_s=TIMEOUT_S))
        if sequence in known.answers:
            assert answer == known.answers[sequence]
        else:
            self.sent[client, sequence] = operations
            assert answer == self.model.apply(client, sequence, operations)


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
