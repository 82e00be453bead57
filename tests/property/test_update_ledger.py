"""The ledger against a plain model: whatever is sent, in whatever order, nothing is applied twice."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ps_protocol.errors import FailedPreconditionError, NotFoundError, ResourceExhaustedError
from ps_protocol.operations import BatchReply, Result
from ps_server.batches.update_ledger import LedgerLimits, UpdateLedger

REMEMBERED = 3
MAX_CLIENTS = 2
IDLE_AFTER_S = 10.0
UNUSED_AFTER_S = 5.0
TENSOR_BYTES = 20
TIMEOUT_S = 30.0

CLIENTS = st.integers(1, 4).map(lambda number: UUID(int=number))


@dataclass
class ModelClient:
    """What is known of a client, in the plainest way."""

    last_active_s: float
    applied: dict[int, str] = field(default_factory=dict)

    @property
    def newest(self) -> int:
        return max(self.applied, default=0)

    @property
    def remembered(self) -> list[int]:
        return sorted(self.applied)[-REMEMBERED:]


class LedgerMachine(RuleBasedStateMachine):
    """Clients that come, send batches with any numbers, and go."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.ledger = UpdateLedger(
            LedgerLimits(answers_per_client=REMEMBERED, clients=MAX_CLIENTS, idle_after_s=IDLE_AFTER_S)
        )
        self.clients: dict[UUID, ModelClient] = {}
        self.gone: set[UUID] = set()
        self.forgotten: set[UUID] = set()  # before their first batch
        self.applications: list[tuple[UUID, int]] = []

    @rule(seconds=st.sampled_from([1.0, 6.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(client=CLIENTS)
    def hello(self, client: UUID) -> None:
        if client in self.gone:
            refused(FailedPreconditionError, lambda: self.ledger.hello(client, "worker:0", self.now_s))
            return
        if not self.has_room(client):
            refused(ResourceExhaustedError, lambda: self.ledger.hello(client, "worker:0", self.now_s))
            return
        self.ledger.hello(client, "worker:0", self.now_s)
        self.forgotten.discard(client)
        self.clients.setdefault(client, ModelClient(self.now_s)).last_active_s = self.now_s

    def has_room(self, client: UUID) -> bool:
        """Makes room for a client, as the ledger does."""
        if client in self.clients or len(self.clients) < MAX_CLIENTS:
            return True
        unused = [
            each
            for each, known in self.clients.items()
            if not known.applied and self.now_s - known.last_active_s >= UNUSED_AFTER_S
        ]
        idlest = min(unused or self.clients, key=lambda each: self.clients[each].last_active_s)
        if not unused and self.now_s - self.clients[idlest].last_active_s < IDLE_AFTER_S:
            return False
        del self.clients[idlest]
        (self.forgotten if unused else self.gone).add(idlest)
        return True

    @rule(client=CLIENTS)
    def goodbye(self, client: UUID) -> None:
        self.ledger.goodbye(client)
        self.forgotten.discard(client)
        if self.clients.pop(client, None) is not None:
            self.gone.add(client)

    @rule(client=CLIENTS, ahead=st.integers(-6, 3), fails=st.booleans())
    def send(self, client: UUID, ahead: int, fails: bool) -> None:
        known = self.clients.get(client)
        sequence = max(1, (known.newest if known else 0) + ahead)

        def apply() -> BatchReply:
            self.applications.append((client, sequence))
            if fails:
                raise NotFoundError(f"failed {sequence}")
            return BatchReply((Result(sequence, True),))

        def send() -> str:
            try:
                reply = self.ledger.apply_once(client, sequence, apply, timeout_s=TIMEOUT_S, now_s=self.now_s)
            except NotFoundError as error:
                return error.message
            (result,) = reply.replies
            assert isinstance(result, Result)
            return f"applied {result.version}"

        if known is None:
            if client not in self.forgotten:
                refused(FailedPreconditionError, send)
                return
            if not self.has_room(client):
                refused(ResourceExhaustedError, send)
                return
            self.forgotten.discard(client)
            known = self.clients[client] = ModelClient(self.now_s)
        known.last_active_s = self.now_s
        if sequence > known.newest:
            known.applied[sequence] = f"failed {sequence}" if fails else f"applied {sequence}"
        if sequence in known.remembered:
            assert send() == known.applied[sequence]
        else:
            refused(FailedPreconditionError, send)

    @rule(client=CLIENTS, ahead=st.integers(-6, 1))
    def recall(self, client: UUID, ahead: int) -> None:
        known = self.clients.get(client)
        if known is None:
            return
        sequence = max(1, known.newest + ahead)
        try:
            recalled: object = self.ledger.recall(client, sequence, timeout_s=TIMEOUT_S)
        except NotFoundError as error:
            recalled = error
        assert (recalled is not None) == (sequence in known.remembered)

    @invariant()
    def nothing_is_applied_twice_or_out_of_order(self) -> None:
        for client in {client for client, _ in self.applications}:
            sequences = [sequence for each, sequence in self.applications if each == client]
            assert sequences == sorted(set(sequences))

    @invariant()
    def knows_whom_the_model_knows(self) -> None:
        assert self.ledger.num_clients == len(self.clients)


LedgerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLedger = LedgerMachine.TestCase


def refused(error_type: type[Exception], call: Callable[[], Any]) -> None:
    try:
        call()
    except error_type:
        return
    raise AssertionError("it was not refused")


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 30)), max_size=30))
def test_tensors_in_answers_are_bounded(batches: list[tuple[int, int]]) -> None:
    """Over all clients, but for the newest answer with tensors, which may be larger alone."""
    ledger = UpdateLedger(LedgerLimits(tensor_bytes=TENSOR_BYTES, answers_per_client=REMEMBERED))
    sequences = dict.fromkeys(range(1, 4), 0)
    for number in sequences:
        ledger.hello(UUID(int=number), f"worker:{number}", 0.0)
    newest_bytes = 0
    for now_s, (number, size_bytes) in enumerate(batches):
        sequences[number] += 1
        newest_bytes = size_bytes or newest_bytes
        apply = functools.partial(BatchReply, (Result(1, True, np.zeros(size_bytes, np.uint8)),))
        ledger.apply_once(UUID(int=number), sequences[number], apply, timeout_s=TIMEOUT_S, now_s=float(now_s))
        assert ledger.tensor_bytes <= max(TENSOR_BYTES, newest_bytes)
        again = ledger.recall(UUID(int=number), sequences[number], timeout_s=TIMEOUT_S)
        assert again is not None
    for number in sequences:
        ledger.goodbye(UUID(int=number))
    assert ledger.tensor_bytes == 0
