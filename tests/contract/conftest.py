"""The services that the contract suite runs on: the core itself, and the core behind every transport over loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.operations import Array, Batch, BatchReply, PsOperation, Read, Reply, Result
from ps_protocol.ps_service import ClusterService
from ps_server.core.parameter_server import ParameterServer
from ps_server.core.state import MemoryState
from ps_server.log.state_parts import StateParts
from ps_server.process.server import PsServer
from ps_server.rules.built_in_functions import BUILT_IN_FUNCTIONS
from ps_server.rules.functions import Functions
from ps_server.transport.shared_memory import batches as shared_batches
from worker_client.transport.endpoint import PsEndpoint
from worker_client.transport.in_process import endpoint_of
from worker_client.transport.selection import TRANSPORTS as OVER_A_NETWORK
from worker_client.transport.selection import TransportChoice, connect_endpoint
from worker_client.transport.shared_memory import exchange as shared_exchange

TIMEOUT_S: Final = 30.0
"""Bound on calls that should take milliseconds."""

CLUSTER: Final = ClusterSpec({"ps": ["ps0.example:2222", "ps1.example:2222"], "worker": ["worker0.example:2222"]})
MEMORY_LIMIT_BYTES: Final = 256 * 1024**2
JOB_SEED: Final = 11
MAX_WAITS: Final = 4

REPLY_ROOM_BYTES: Final = 8 * 1024**2
"""Room that is offered for replies in shared memory; larger ones come over the socket."""

TRANSPORTS: Final = ("core", *OVER_A_NETWORK)


@dataclass
class Conversation:
    """A client that has said hello and numbers its batches."""

    endpoint: PsEndpoint
    client: UUID = field(default_factory=uuid4)
    task: str = "worker:0"
    sequence: int = 0
    expected_reply_bytes: int | None = None

    def __post_init__(self) -> None:
        self.welcome = self.endpoint.hello(self.client, self.task, timeout_s=TIMEOUT_S)

    @property
    def service(self) -> ClusterService:
        return self.endpoint.service

    def batch(self, *operations: PsOperation, sequence: int | None = None) -> Batch:
        """The next batch of this client; one that changes nothing has no number."""
        batch = Batch(self.client, self.welcome.store, 0, operations, self.expected_reply_bytes)
        if sequence is None:
            self.sequence += batch.mutates
            sequence = self.sequence if batch.mutates else 0
        return Batch(self.client, self.welcome.store, sequence, operations, self.expected_reply_bytes)

    def send(self, batch: Batch) -> BatchReply:
        return self.endpoint.transport.exchange(batch, timeout_s=TIMEOUT_S)

    def replies(self, *operations: PsOperation) -> tuple[Reply, ...]:
        """Sends operations as one batch."""
        return self.send(self.batch(*operations)).replies

    def run(self, operation: PsOperation) -> Result:
        """Sends one operation, and raises its error."""
        (reply,) = self.replies(operation)
        if isinstance(reply, Result):
            return reply
        raise reply


class Task:
    """One ps task, as many clients as a test likes, all over one transport."""

    def __init__(
        self,
        transport: str,
        task_index: int,
        resources: contextlib.ExitStack,
        functions: Functions = BUILT_IN_FUNCTIONS,
    ):
        self.transport = transport
        state = MemoryState(StateParts(CLUSTER, task_index, memory_limit_bytes=MEMORY_LIMIT_BYTES, functions=functions))
        self.core = ParameterServer(
            cluster_spec=CLUSTER, task_index=task_index, job_seed=JOB_SEED, state=state, max_waits=MAX_WAITS
        )
        self._resources = resources
        self._address = ""
        if transport == "shm":
            resources.enter_context(_nothing_inline())
        if transport != "core":
            server = PsServer(self.core, host="127.0.0.1", port=0, max_concurrent=16)
            self._address = f"127.0.0.1:{server.start()}"
            resources.callback(server.stop, "the test is over", timeout_s=TIMEOUT_S)

    def endpoint(self) -> PsEndpoint:
        """A way to the task of its own."""
        if self.transport == "core":
            return endpoint_of(self.core)
        endpoint = connect_endpoint(self._address, self.core.task, TransportChoice(self.transport))
        self._resources.callback(endpoint.close)
        return endpoint

    def service(self) -> ClusterService:
        """What is called there."""
        return self.endpoint().service

    def conversation(self, task: str = "worker:0") -> Conversation:
        """A new client."""
        return Conversation(
            self.endpoint(), task=task, expected_reply_bytes=REPLY_ROOM_BYTES if self.transport == "shm" else None
        )


def value_of(talk: Conversation, name: str) -> Array:
    tensor = talk.run(Read(name)).tensor
    assert tensor is not None
    return tensor


@contextlib.contextmanager
def _nothing_inline() -> Iterator[None]:
    """Has tensors of every size travel in shared memory, where there is such."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (shared_exchange, shared_batches):
            patch.setattr(module, "INLINE_LIMIT_BYTES", 1)
        yield


@pytest.fixture(params=TRANSPORTS)
def ps(request: pytest.FixtureRequest) -> Iterator[Task]:
    """Ps task 0 of a cluster of two."""
    with contextlib.ExitStack() as resources:
        yield Task(request.param, 0, resources)


@pytest.fixture(params=TRANSPORTS)
def second_ps(request: pytest.FixtureRequest) -> Iterator[Task]:
    """Ps task 1 of a cluster of two."""
    with contextlib.ExitStack() as resources:
        yield Task(request.param, 1, resources)


@pytest.fixture
def talk(ps: Task) -> Conversation:
    """A client of ps task 0."""
    return ps.conversation()
