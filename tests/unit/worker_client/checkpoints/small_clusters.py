"""Clusters of any number of ps tasks inside the test, called directly."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

import worker_client as ss
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.operations import Array
from ps_protocol.task_id import TaskId
from ps_server.core.parameter_server import ParameterServer
from ps_server.core.state import State
from worker_client.client import Client, ObserverMode
from worker_client.connection.retry import RetryPolicy
from worker_client.connection.settings import Settings
from worker_client.placement.strategies import RoundRobinStrategy
from worker_client.transport.in_process import endpoint_of

PART = "part-00001-of-00002.safetensors"
# Of a client that is refused: a disk that is busy may take longer than it waits.
IMPATIENT = Settings(operation_timeout_s=1.0, ps_grace_s=1.0, retry=RetryPolicy(initial_backoff_s=0.001))


class SmallCluster:
    """As a context manager it closes its connections at the end.

    Args:
        num_ps: Number of ps tasks.
        states: What they hold; empty memory if not given.
        task_type: Makes their cores.
    """

    def __init__(self, num_ps: int, states: list[State] | None = None, task_type: type[ParameterServer] | None = None):
        self.spec = spec_of(num_ps)
        self.tasks = [
            (task_type or ParameterServer)(
                cluster_spec=self.spec, task_index=index, job_seed=3, state=None if states is None else states[index]
            )
            for index in range(num_ps)
        ]
        self._clients = ExitStack()

    def client(
        self,
        task_index: int = 0,
        *,
        settings: Settings | None = None,
        observer: ObserverMode = False,
        initialize: bool = True,
    ) -> Client:
        client = Client(
            self.spec,
            TaskId("worker", task_index),
            endpoints=[endpoint_of(task) for task in self.tasks],
            settings=settings or Settings(),
            ps_strategy=RoundRobinStrategy(len(self.tasks)),
            initialize=initialize,
            observer=observer,
        )
        self._clients.callback(client.close)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clients.close()


def spec_of(num_ps: int) -> ClusterSpec:
    workers = [f"w{index}.example:1" for index in range(4)]
    return ClusterSpec({"ps": [f"ps{index}.example:1" for index in range(num_ps)], "worker": workers})


class Model:
    """Two variables that Adam trains, one of them perhaps in parts."""

    def __init__(self, client: Client, parts: int = 2):
        with client.as_default():
            self.whole = ss.get_variable("layer/whole", [37, 5])
            partitioner = ss.fixed_size_partitioner(parts) if parts > 1 else None
            self.divided: Any = ss.get_variable("layer/divided", [23, 3], partitioner=partitioner)
            self.steps = ss.get_variable("steps", [], dtype=np.int64, initializer=ss.zeros_initializer())
        self._optimizer = ss.train.Adam(0.01)
        self._client = client

    def train(self, first: int, number: int) -> None:
        """Takes steps, whose gradients follow from their numbers."""
        for step in range(first, first + number):
            draw = np.random.default_rng(step)
            gradients = [(draw.standard_normal(each.shape).astype(np.float32), each) for each in self.trained]
            with self._client.as_default():
                self._optimizer.apply_gradients(gradients)
            self.steps.assign_add(1)

    @property
    def trained(self) -> list[Any]:
        return [self.whole, self.divided]

    def values(self) -> list[Array]:
        return [each.read_value() for each in [*self.trained, self.steps]]


def assert_equal(found: list[Array], expected: list[Array]) -> None:
    """Bit for bit."""
    assert [each.tobytes() for each in found] == [each.tobytes() for each in expected]


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
