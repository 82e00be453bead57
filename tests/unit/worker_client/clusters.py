"""A cluster inside the test: real ps tasks, called directly, and as many workers as a test likes."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.task_id import TaskId
from ps_server.core.parameter_server import ParameterServer
from ps_server.core.state import MemoryState
from ps_server.log.state_parts import StateParts
from ps_server.rules.built_in_functions import BUILT_IN_FUNCTIONS
from ps_server.rules.functions import Functions
from worker_client.client import Client, ObserverMode
from worker_client.connection.settings import Settings
from worker_client.placement.strategies import RoundRobinStrategy
from worker_client.transport.in_process import endpoint_of

SPEC = ClusterSpec({"ps": ["ps0.example:1", "ps1.example:1"], "worker": ["w0.example:1", "w1.example:1"]})
TIMEOUT_S = 30.0


class InProcessCluster:
    """Two ps tasks. As a context manager it closes the workers' connections at the end.

    Args:
        functions: Those that operations can call by name.

    Attributes:
        tasks: The ps tasks.
    """

    def __init__(self, functions: Functions = BUILT_IN_FUNCTIONS) -> None:
        states = [MemoryState(StateParts(SPEC, index, functions=functions)) for index in range(2)]
        self.tasks = [
            ParameterServer(cluster_spec=SPEC, task_index=index, job_seed=3, state=state)
            for index, state in enumerate(states)
        ]
        self._clients = ExitStack()

    def client(
        self,
        task_index: int = 0,
        *,
        settings: Settings | None = None,
        initialize: bool = True,
        observer: ObserverMode = False,
        job: str = "worker",
    ) -> Client:
        """A connection of a worker, or a task of another job; worker 0 is the chief."""
        client = Client(
            SPEC,
            TaskId(job, task_index),
            endpoints=[endpoint_of(task) for task in self.tasks],
            settings=settings or Settings(),
            ps_strategy=RoundRobinStrategy(2),
            initialize=initialize,
            observer=observer,
        )
        self._clients.callback(client.close)
        return client

    def batches(self) -> list[int]:
        """How many batches each ps task has answered."""
        return [task.status(timeout_s=TIMEOUT_S).batches for task in self.tasks]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clients.close()
