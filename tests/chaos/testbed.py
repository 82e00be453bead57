"""Two ps tasks in the process of the test, behind real transports, and one client that does not wait long."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.cluster_spec import PS_JOB, ClusterSpec
from ps_protocol.service_types import DurabilityMode, FastPathKind
from ps_protocol.task_id import TaskId
from ps_server.core.parameter_server import ParameterServer
from ps_server.durability.recovery import StateOnDisk
from ps_server.durability.task import DurableSettings, DurableTask
from ps_server.log.logged_state import LoggedState
from ps_server.log.state_image import StateImage
from ps_server.log.state_parts import StateParts
from ps_server.process.server import PsServer
from ps_server.store.stored_variable import VariableImage
from tests.chaos.ps_processes import PsTask
from worker_client.connection.retry import RetryPolicy
from worker_client.connection.settings import Settings
from worker_client.placement.strategies import RoundRobinStrategy
from worker_client.transport.selection import TransportChoice, connect_endpoint

TIMEOUT_S: Final = 30.0
_RESTART_TIMEOUT_S: Final = 90.0
NUM_PS: Final = 2


def impatient_settings(attempt_timeout_s: float = TIMEOUT_S) -> Settings:
    """Settings of a client that tries again at once, and that nobody waits for."""
    retry = RetryPolicy(initial_backoff_s=0.001, max_backoff_s=0.05, attempt_timeout_s=attempt_timeout_s)
    return Settings(operation_timeout_s=TIMEOUT_S, ps_grace_s=TIMEOUT_S, lease_s=0, retry=retry)


def connected(addresses: list[str], transport: str, settings: Settings | None = None, task_index: int = 0) -> ss.Client:
    """A client of the ps tasks at these addresses."""
    choice = TransportChoice(transport)
    return ss.Client(
        ClusterSpec({"ps": addresses}),
        TaskId("worker", task_index),
        endpoints=[connect_endpoint(each, f"ps:{index}", choice) for index, each in enumerate(addresses)],
        settings=settings or impatient_settings(),
        ps_strategy=RoundRobinStrategy(len(addresses)),
        initialize=True,
    )


class PsInProcess:
    """One ps task."""

    def __init__(self, index: int, mode: DurabilityMode, data_dir: Path, *, num_ps: int = NUM_PS):
        self._task = TaskId(PS_JOB, index)
        self._cluster = ClusterSpec({"ps": [f"ps{index}.example:2222" for index in range(num_ps)]})
        self._mode = mode
        self._data_dir = data_dir
        self._durable: DurableTask | None = None
        self.core = self._started()
        self.server = PsServer(self.core, host="127.0.0.1", port=0, max_concurrent=8)
        self.port = self.server.start()
        self.address = f"127.0.0.1:{self.port}"

    def _started(self) -> ParameterServer:
        if self._mode is DurabilityMode.NONE:
            return ParameterServer(cluster_spec=self._cluster, task_index=self._task.index)
        num_ps = len(self._cluster.ps_addresses())
        on_disk = StateOnDisk.open(self._data_dir, task=self._task, num_ps=num_ps, mode=self._mode)
        settings = DurableSettings(self._mode, self._data_dir, snapshot_interval_s=1.0)
        self._durable = DurableTask(
            LoggedState(StateParts(self._cluster, self._task.index), on_disk.store_incarnation),
            on_disk,
            settings,
        ).serve(on_fatal=lambda error: pytest.fail(str(error)))
        return ParameterServer(cluster_spec=self._cluster, task_index=self._task.index, state=self._durable.state)

    @property
    def socket_port(self) -> int:
        """Where the socket transport listens."""
        client = uuid4()
        with contextlib.closing(connect_endpoint(self.address, str(self._task), TransportChoice.GRPC)) as endpoint:
            paths = endpoint.hello(client, "worker:9", timeout_s=TIMEOUT_S).fast_paths
            endpoint.goodbye(client, timeout_s=TIMEOUT_S)
        (address,) = [path.address for path in paths if path.kind is FastPathKind.TCP]
        return int(address.rpartition(":")[2])

    def close(self) -> None:
        """Ends the task, and makes sure that what it held is what is brought back."""
        assert self.server.stop("the test is over", timeout_s=TIMEOUT_S)
        if self._durable is None:
            return
        before = _image(self.core)
        assert self._durable.close(drained=True, timeout_s=TIMEOUT_S)
        again = self._started()
        after = _image(again)
        assert self._durable.close(drained=True, timeout_s=TIMEOUT_S)
        assert again.store_incarnation == self.core.store_incarnation
        _check_same(before, after)


class TestBed:
    """As a context manager it ends the client and the tasks."""

    __test__ = False

    def __init__(self, transport: str, mode: DurabilityMode, data_dir: Path):
        self.tasks = [PsInProcess(index, mode, data_dir) for index in range(NUM_PS)]
        self.addresses = [task.address for task in self.tasks]
        self.client = connected(self.addresses, transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as ending:
            for task in self.tasks:
                ending.callback(task.close)
            ending.callback(self.client.close)


def _image(core: ParameterServer) -> StateImage:
    assert isinstance(core.state, LoggedState)
    return core.state.take_image(TIMEOUT_S)


def _check_same(before: StateImage, after: StateImage) -> None:
    assert after.position == before.position
    for expected, found in zip(_by_name(before), _by_name(after), strict=True):
        assert (found.spec, found.version) == (expected.spec, expected.version)
        np.testing.assert_array_equal(found.value, expected.value)
    assert after.placements == before.placements
    assert {client for client, _ in after.departed} == {client for client, _ in before.departed}


def _by_name(image: StateImage) -> list[VariableImage]:
    return sorted(image.variables, key=lambda each: each.spec.name)


@contextlib.contextmanager
def beside_a_crash(
    tasks: Sequence[PsTask], index: int, place: str, number: int, transport: str
) -> Iterator[list[ss.Client]]:
    """Connects two workers to ps tasks of which one crashes once, and is started again; makes sure that it has.

    Args:
        tasks: All of them, not started yet.
        index: Which one crashes.
        place: Where, as "batch.after_log".
        number: At which time that it comes there.
        transport: Of the workers.
    """
    for each in tasks:
        each.start(f"{place}=crash@{number}" if each is tasks[index] else "")
    restart = tasks[index].start_when_ended()
    addresses = [each.address for each in tasks]
    try:
        with connected(addresses, transport) as one, connected(addresses, transport, task_index=1) as two:
            yield [one, two]
    finally:
        restart.join(_RESTART_TIMEOUT_S)
    assert tasks[index].faults == [(place, "crash")]
