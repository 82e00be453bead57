"""A ps task that answers by script, for the client's unit tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast
from uuid import UUID, uuid4

from ps_protocol.checkpoints.service import PsService
from ps_protocol.operations import Batch, BatchReply, Result
from ps_protocol.ps_service import PendingExchange, Transport
from ps_protocol.service_types import Welcome
from worker_client.transport.endpoint import PsEndpoint


class ScriptedService(Transport):
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

    def hello(
        self, client: UUID, task: str, *, num_ps_tasks: int = 0, for_reads: bool = False, timeout_s: float
    ) -> Welcome:
        if self.hello_errors:
            raise self.hello_errors.pop(0)
        return Welcome(self.task, STORE, job_seed=7)

    def status(self, *, timeout_s: float) -> None:
        """Answers, which is all that is asked."""

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


def endpoint(service: Transport, address: str = "h:1") -> PsEndpoint:
    """What a handle is given for a ps task that is scripted."""
    return PsEndpoint(cast(PsService, service), service, address=address)


def succeed(batch: Batch) -> BatchReply:
    return BatchReply(tuple(Result(version=1, initialized=True) for _ in batch.operations))


class PipelinedService(ScriptedService):
    """One that can have several batches on their way; each is answered when it is finished.

    Attributes:
        begun: Batches begun and not finished.
        most_begun: How many there have been at a time.
        events: "begin 1", "finish 1", "exchange 1", ..., with the sequence numbers.
        before_begin: Called before a batch is taken; may raise or block.
        refused: Sequence numbers of batches that ``begin`` refuses to pipeline.
    """

    def __init__(self, answer: Callable[[Batch], BatchReply] | None = None):
        super().__init__(answer=answer)
        self.begun: list[Batch] = []
        self.most_begun = 0
        self.events: list[str] = []
        self.before_begin: Callable[[Batch], None] = lambda batch: None
        self.refused: set[int] = set()

    def begin(self, batch: Batch, *, timeout_s: float) -> PendingExchange | None:
        self.before_begin(batch)
        if batch.sequence in self.refused:
            return None
        self.events.append(f"begin {batch.sequence}")
        self.batches.append(batch)
        self.begun.append(batch)
        self.most_begun = max(self.most_begun, len(self.begun))
        return _Begun(self, batch)

    def exchange(self, batch: Batch, *, timeout_s: float) -> BatchReply:
        assert not self.begun, "a batch overtakes those that were begun"
        self.events.append(f"exchange {batch.sequence}")
        return super().exchange(batch, timeout_s=timeout_s)

    def finish(self, batch: Batch) -> BatchReply:
        assert self.begun[0] is batch, "replies are taken in order"
        self.events.append(f"finish {batch.sequence}")
        try:
            reply = self.answer(batch)
        except BaseException:
            self.begun.clear()  # none of them can be finished any more
            raise
        del self.begun[0]
        return reply


class _Begun:
    def __init__(self, service: PipelinedService, batch: Batch):
        self._service = service
        self._batch = batch

    def finish(self) -> BatchReply:
        return self._service.finish(self._batch)
