"""A ps task that answers by script, for the client's unit tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from ps_protocol.operations import Batch, BatchReply, Result
from ps_protocol.ps_service import Welcome


class ScriptedService:
    """Implements what a ``PsHandle`` calls. Each batch is answered by ``answer``, which may raise or block.

    Attributes:
        batches: What has arrived, in order.
        answer: Makes the reply; by default every operation succeeds.
    """

    def __init__(self, task: str = "ps:0", answer: Callable[[Batch], BatchReply] | None = None):
        self.task = task
        self.batches: list[Batch] = []
        self.answer = answer or succeed
        self.hello_errors: list[Exception] = []
        self.goodbyes: list[UUID] = []
        self.closed = False
        self.threads: list[str] = []

    def hello(self, client: UUID, task: str, *, timeout_s: float) -> Welcome:
        if self.hello_errors:
            raise self.hello_errors.pop(0)
        return Welcome(self.task, STORE, job_seed=7)

    def exchange(self, batch: Batch, *, timeout_s: float) -> BatchReply:
        self.batches.append(batch)
        self.threads.append(threading.current_thread().name)
        return self.answer(batch)

    def goodbye(self, client: UUID, *, timeout_s: float) -> None:
        self.goodbyes.append(client)

    def close(self) -> None:
        self.closed = True

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a ps handle has no business calling {name}")


STORE = uuid4()


def succeed(batch: Batch) -> BatchReply:
    return BatchReply(tuple(Result(version=1, initialized=True) for _ in batch.operations))
