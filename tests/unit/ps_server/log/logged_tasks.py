"""A task with a log, whose sink is in memory, and one client of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.operations import Batch, PsOperation, Read, Reply, Result
from ps_server.core.parameter_server import ParameterServer
from ps_server.log.commit_log import CommitLimits
from ps_server.log.logged_state import LoggedState
from ps_server.log.records import LoggedRecord
from ps_server.log.state_image import StateImage
from ps_server.log.state_parts import StateParts

TIMEOUT_S = 20.0
AT_ONCE_S = 0.02
CLUSTER = ClusterSpec({"ps": ["ps0.example:1", "ps1.example:1"]})


class Journal:
    """A sink in memory, which a test can hold up."""

    def __init__(self, name: str = "the journal"):
        self.name = name
        self.records: list[LoggedRecord] = []
        self.open = threading.Event()
        self.open.set()

    @property
    def is_quick(self) -> bool:
        return False

    def write(self, records: Sequence[LoggedRecord]) -> None:
        assert self.open.wait(TIMEOUT_S)
        self.records += records

    def close(self) -> None:
        pass


class Task:
    """One life of a task, and one client of it."""

    def __init__(
        self,
        journal: Journal,
        image: StateImage | None = None,
        client: UUID | None = None,
        limits: CommitLimits | None = None,
        fatal: Callable[[BaseException], None] = lambda error: pytest.fail(str(error)),
        backup: Journal | None = None,
    ):
        self.state = LoggedState(StateParts(CLUSTER, 0), UUID(int=7))
        self.core = ParameterServer(cluster_spec=CLUSTER, task_index=0, state=self.state)
        if image is not None:
            variables = [
                replace(each, value=None if each.value is None else each.value.copy()) for each in image.variables
            ]
            self.state.restore(replace(image, variables=tuple(variables)))
        for record in journal.records:
            if record.position > self.state.replayed_position:
                self.state.replay(record)
        self.log = self.state.start([journal, *([backup] if backup else [])], limits=limits, on_fatal=fatal)
        self.client = uuid4() if client is None else client
        self.sequence = 0

    def hello(self) -> None:
        self.core.hello(self.client, "worker:0", timeout_s=TIMEOUT_S)

    def batch(self, *operations: PsOperation, sequence: int | None = None) -> Batch:
        batch = Batch(self.client, self.core.store_incarnation, 0, operations)
        if batch.mutates and sequence is None:
            self.sequence += 1
            sequence = self.sequence
        return Batch(self.client, self.core.store_incarnation, sequence or 0, operations)

    def send(self, batch: Batch, timeout_s: float = TIMEOUT_S) -> tuple[Reply, ...]:
        return self.core.exchange(batch, timeout_s=timeout_s, lend_values=True, take_operands=True).replies

    def run(self, *operations: PsOperation) -> tuple[Reply, ...]:
        return self.send(self.batch(*operations))

    def result(self, operation: PsOperation) -> Result:
        (reply,) = self.run(operation)
        assert isinstance(reply, Result), reply
        return reply

    def value(self, name: str) -> object:
        tensor = self.result(Read(name)).tensor
        assert tensor is not None
        return tensor.tolist()


MakeTask = Callable[..., Task]
