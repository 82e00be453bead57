"""Ledger, journal and snapshots against a plain model: whatever is sent, repeated, cut short and started again."""

from __future__ import annotations

import copy
import itertools
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ps_protocol.errors import FailedPreconditionError
from ps_protocol.initializer_spec import InitializerSpec, Value
from ps_protocol.operations import (
    Batch,
    CountUpTo,
    Declare,
    Describe,
    Initialize,
    Operation,
    Read,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
    mutates,
)
from ps_protocol.ps_service import DurabilityMode, Placement, Proposal
from tests.property.crashing_task import SEND_PLACES, SNAPSHOT_PLACES, TIMEOUT_S, CrashingTask, fast_directory
from tests.property.durable_model import Model, ModelClient, comparable

OBSERVER = UUID(int=99)

SPECS = {
    spec.name: spec
    for spec in (
        VariableSpec("count", np.dtype("int64"), ()),
        VariableSpec("row", np.dtype("float64"), (3,)),
        VariableSpec("table", np.dtype("int32"), (4, 2)),
        VariableSpec("large", np.dtype("int64"), (9_000,)),  # beyond what goes into the journal's database
    )
}


def multiple(spec: VariableSpec, number: int) -> np.ndarray[Any, Any]:
    size = int(np.prod(spec.shape, dtype=np.int64))
    return (number * (1 + np.arange(size))).reshape(spec.shape).astype(spec.dtype)


@st.composite
def some_operations(draw: st.DrawFn) -> tuple[Operation, ...]:
    spec = SPECS[draw(st.sampled_from(sorted(SPECS)))]
    number = draw(st.integers(-3, 9))
    initial = InitializerSpec(Value(multiple(spec, number)))
    otherwise = VariableSpec(spec.name, spec.dtype, (*spec.shape, 2))
    kinds: dict[str, Operation] = {
        "add": Update(spec.name, UpdateRule.ASSIGN_ADD, multiple(spec, number)),
        "add scalar": Update(spec.name, UpdateRule.ASSIGN_ADD, np.array(number, spec.dtype)),
        "assign": Update(spec.name, UpdateRule.ASSIGN, multiple(spec, number)),
        "declare": Declare(spec),
        "declare with a value": Declare(spec, initial),
        "declare otherwise": Declare(otherwise),
        "initialize": Initialize(spec.name, initial),
        "overwrite": Initialize(spec.name, initial, overwrite=True),
        "read": Read(spec.name),
        "describe": Describe(spec.name),
        "count up": CountUpTo("count", 4),
    }
    if spec.shape:
        rows = np.array(draw(st.lists(st.integers(0, spec.shape[0] - (number < 9)), min_size=1, max_size=3)))
        updates = np.stack([multiple(spec, number)[0]] * len(rows)).astype(spec.dtype)
        kinds["scatter"] = Scatter(spec.name, ScatterRule.ADD, rows, updates)
        kinds["scatter update"] = Scatter(spec.name, ScatterRule.UPDATE, rows, updates)
    kind = draw(st.sampled_from(sorted(kinds)))
    return (Declare(spec), kinds[kind]) if kind == "declare otherwise" else (kinds[kind],)


RESIDENTS = [UUID(int=number) for number in (1, 2)]
GUESTS = [UUID(int=number) for number in (3, 4, 5)]
CLIENTS = st.sampled_from([*RESIDENTS * 3, *GUESTS])
OPERATIONS = (
    st.lists(some_operations(), min_size=1, max_size=4).map(lambda each: tuple(itertools.chain(*each))).filter(mutates)
)


class DurableStateMachine(RuleBasedStateMachine):
    """Clients that come, send, repeat and go, and a task that crashes, takes snapshots and starts again."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(dir=fast_directory(), prefix="shardscope-")
        self.task = CrashingTask(Path(self.directory.name) / "first", DurabilityMode.JOURNAL)
        self.store = self.task.store
        self.model = Model()
        self.sent: dict[tuple[UUID, int], tuple[Operation, ...]] = {}
        for client in (OBSERVER, *RESIDENTS):
            self.hello(client)
        declared = [Declare(spec, InitializerSpec(Value(multiple(spec, 1)))) for spec in SPECS.values() if spec.shape]
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
        self.task.durability.wait_for_all(TIMEOUT_S)  # nobody waits for it otherwise, so that a crash may take it back
        if self.model.clients.pop(client, None) is not None:
            self.model.departed.add(client)
            self.model.position += 1

    @rule(client=CLIENTS, operations=OPERATIONS, skipped=st.sampled_from([0, 0, 0, 1]))
    def send(self, client: UUID, operations: tuple[Operation, ...], skipped: int) -> None:
        self.exchange(client, self.next_sequence(client) + skipped, operations)

    @rule(client=CLIENTS, back=st.integers(0, 6))
    def send_again(self, client: UUID, back: int) -> None:
        """What was answered gets its answer again; what a crash has swallowed counts now; the rest is refused."""
        sequence = max(1, self.next_sequence(client) - back)
        operations = self.sent.get((client, sequence), (Update("count", UpdateRule.ASSIGN_ADD, np.array(1)),))
        self.exchange(client, sequence, operations)

    @rule(client=CLIENTS, operations=OPERATIONS)
    def send_and_crash_and_send_again(self, client: UUID, operations: tuple[Operation, ...]) -> None:
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
    def crash_during_a_batch(self, client: UUID, operations: tuple[Operation, ...], place: str) -> None:
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
            (each.spec, each.version, each.value is not None) for _, each in sorted(model.variables.items())
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

    def exchange(self, client: UUID, sequence: int, operations: tuple[Operation, ...]) -> None:
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


TestDurableState = DurableStateMachine.TestCase
TestDurableState.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
