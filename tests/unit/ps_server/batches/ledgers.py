"""Ledgers for tests, what is applied through them, and batches that are applied as long as a test likes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID

import numpy as np

from ps_protocol.operations import Array, BatchReply, Result
from ps_server.batches.update_ledger import LedgerLimits, UpdateLedger
from tests.unit.ps_server.waiting import PATIENCE_S, wait_until

CLIENT = UUID(int=1)


def answer(version: int) -> BatchReply:
    return BatchReply((Result(version, True),))


def large_answer(version: int, size_bytes: int) -> BatchReply:
    return BatchReply((Result(version, True, np.full(size_bytes, version % 100, np.uint8)),))


def tensor_of(reply: BatchReply) -> Array:
    result = reply.replies[0]
    assert isinstance(result, Result)
    assert result.tensor is not None
    return result.tensor


def must_not_be_applied() -> BatchReply:
    raise AssertionError("applied a second time")


def ledger_with(*clients: UUID, **limits: Any) -> UpdateLedger:
    ledger = UpdateLedger(LedgerLimits(**limits))
    for client in clients:
        ledger.hello(client, "worker:0", 0.0)
    return ledger


def apply(
    ledger: UpdateLedger,
    sequence: int,
    apply: Callable[[], BatchReply] | BatchReply,
    *,
    client: UUID = CLIENT,
    timeout_s: float = PATIENCE_S,
    now_s: float = 0.0,
) -> BatchReply:
    function = (lambda: apply) if isinstance(apply, BatchReply) else apply
    return ledger.apply_once(client, sequence, function, timeout_s=timeout_s, now_s=now_s)


class HeldBatch:
    """A batch that is being applied for as long as the test likes."""

    def __init__(self, reply: BatchReply):
        self.reply = reply
        self.started = threading.Event()
        self.allowed = threading.Event()

    def __call__(self) -> BatchReply:
        self.started.set()
        assert self.allowed.wait(PATIENCE_S)
        return self.reply


class Holding:
    """A ledger in which one batch is being applied, and threads that send others."""

    def __init__(self, ledger: UpdateLedger, pool: ThreadPoolExecutor, *, sequence: int = 1):
        self.ledger = ledger
        self.batch = HeldBatch(answer(100 + sequence))
        self.pool = pool
        self.future = self.send(sequence, self.batch)
        assert self.batch.started.wait(PATIENCE_S)

    def send(self, sequence: int, function: Callable[[], BatchReply] | BatchReply) -> Future[BatchReply]:
        return self.pool.submit(apply, self.ledger, sequence, function)

    def send_and_wait_until_queued(self, sequence: int, function: Callable[[], BatchReply]) -> Future[BatchReply]:
        record = self.ledger._clients[CLIENT]
        waiting = len(record.waiting)
        future = self.send(sequence, function)
        wait_until(lambda: len(record.waiting) > waiting or future.done())
        return future

    def release(self) -> None:
        self.batch.allowed.set()
