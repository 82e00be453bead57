"""Where the variables of a graph live while a session runs it: on the cluster, or in a store of the session's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

import numpy as np

from ps_protocol.errors import ShardscopeError
from ps_protocol.forks import new_lock
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array, Declare, Reply
from ps_protocol.task_id import TaskId
from worker_client.client import Client
from worker_client.connection.fanout import Fanout, Routed
from worker_client.connection.handle import PsHandle
from worker_client.connection.retry import Deadline
from worker_client.connection.settings import Settings
from worker_client.graph.computation import AccessedVariable, DrawingKernel, GraphObject
from worker_client.objects.shared_object import ObjectConnection, WaitPlaces, opening
from worker_client.placement.declaration import Declaration
from worker_client.sessions.initialization_wait import InitializationWait
from worker_client.sessions.value_cache import ValueCache
from worker_client.transport.selection import private_store

_TASK: Final = "worker:0"
"""What a session without a cluster is."""

_MOST_WAITS: Final = 16
"""How many threads may wait at a time in a session without a cluster; others look again and again."""


class VariableRuntime:
    """What a session needs of the place where variables live. Thread-safe.

    Args:
        fanout: Carries out operations there.
        settings: Bounds on waiting.
        job_seed: Seed from which initial values follow.
        task: This client's task.

    Attributes:
        job_seed: Seed from which initial values follow.
        value_cache: The session's copies of the variables that have a caching device.
        is_closed: Whether the session has been closed.
        worker: Name of this task; None without a cluster.
        is_chief: Whether it is the one that initialises variables.
        workers: All workers of the cluster, as far as its spec names them.
        session: The session.
    """

    worker: str | None = None
    is_chief = True
    workers: Sequence[str] = ()
    session: Any = None

    def __init__(self, fanout: Fanout, settings: Settings, *, job_seed: int, task: str):
        self.job_seed = job_seed
        self._task = task
        self.value_cache = ValueCache()
        self._fanout = fanout
        self._wait = InitializationWait(fanout, retry=settings.retry, timeout_s=settings.connect_timeout_s)
        self._lock = new_lock()  # guards: _tasks; held while variables are declared, so that each is only once
        self._tasks: dict[AccessedVariable, int | None] = {}
        self._shared: dict[GraphObject, ObjectConnection] = {}
        self.is_closed = False
        self._at_close: list[Callable[[], None]] = []
        self._kept: dict[object, Any] = {}
        self._generators: dict[int, tuple[DrawingKernel, np.random.Generator]] = {}

    def place(self, variables: Iterable[AccessedVariable]) -> None:
        """Declares those variables that are not declared yet, all together; they stay uninitialised."""
        with self._lock:
            new = [variable for variable in variables if variable not in self._tasks]
            if new:
                tasks = dict(zip(new, self._declare(new), strict=True))
                self._open([each for each in new if isinstance(each, GraphObject)], tasks)
                self._tasks.update(tasks)

    def _open(self, objects: Sequence[GraphObject], tasks: Mapping[AccessedVariable, int | None]) -> None:
        opened = [Routed(tasks[each], opening(each.spec, each.settings, self._task)) for each in objects]
        for each, reply in zip(objects, self._fanout.exchange_all(opened) if opened else (), strict=True):
            if isinstance(reply, ShardscopeError):
                reply.op = each.op
                raise reply
            self._shared[each] = self._object_on(tasks[each], each)

    def shared(self, placed: GraphObject) -> ObjectConnection:
        """Returns the way to a placed object."""
        return self._shared[placed]

    def _object_on(self, ps_task: int | None, placed: GraphObject) -> ObjectConnection:
        raise NotImplementedError

    def _declare(self, variables: Sequence[AccessedVariable]) -> Sequence[int | None]:
        """Declares variables; returns the ps task of each."""
        raise NotImplementedError

    def route(self, variable: AccessedVariable) -> int | None:
        """Returns the ps task of a placed variable, None for this process's own store."""
        return self._tasks[variable]

    def generator(self, kernel: DrawingKernel) -> np.random.Generator:
        """Returns the session's generator of an operation's random numbers, the same one in each run."""
        found = self._generators.get(id(kernel))
        if found is None:  # of two runs that come first together, one's is kept; a generator has a lock of its own
            found = self._generators.setdefault(id(kernel), (kernel, kernel.generator()))
        return found[1]

    def exchange(self, routed: Sequence[Routed]) -> list[Reply]:
        """Carries out operations, one exchange for each ps task, and returns all replies; an error is a reply."""
        return self._fanout.exchange_all(routed)

    def exchange_later(self, routed: Sequence[Routed]) -> None:
        """Has operations carried out soon, whatever comes of that."""
        self._fanout.exchange_all_later(routed)

    def opened_on(self, ps_task: int | None, name: str, kind: str) -> ObjectConnection:
        """Opens an object on a ps task, and returns the way to it."""
        raise NotImplementedError

    def new_buffer(self, ps_task: int | None, size_bytes: int) -> Array | None:
        """Memory that is shared with a ps task, as a uint8 array, or None if there is none."""
        return self._fanout.new_buffer(ps_task, size_bytes)

    def wait_until_initialized(self, variables: Iterable[AccessedVariable], timeout_s: float | None) -> None:
        """Waits until placed variables have values; FailedPreconditionError if time runs out."""
        self._wait.wait({each.spec.name: self._tasks[each] for each in variables}, timeout_s)

    def report_step(self, step: int) -> None:
        """Tells the cluster, if there is one, how many training steps this task has done."""

    def gone_workers(self) -> dict[str, str]:
        """Returns which workers have died or left since this one is there, and how."""
        return {}

    def kept(self, key: object, make: Callable[[], Any]) -> Any:
        """Returns what is kept for the session under a key, made at the first call."""
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
            return self._kept[key]

    def at_close(self, call: Callable[[], None]) -> None:
        """Has something called when the session is closed."""
        self._at_close.append(call)

    def close(self) -> None:
        """Gives back what is the session's own; what waits in it ends soon."""
        self.is_closed = True
        for call in self._at_close:
            try:
                call()
            except ShardscopeError as error:  # the connection may be closed
                raise_interrupt(error)
        self.value_cache.clear()


class ClusterRuntime(VariableRuntime):
    """The ps tasks of a connection, which stays open.

    On any task but the chief, an operation that needs a value waits until the variable has one, as long as the
    connection would wait for a ps task. The chief does not wait: no other task would initialise its variables.

    Args:
        client: The connection.
    """

    def __init__(self, client: Client):
        super().__init__(client.fanout, client.settings, job_seed=client.job_seed, task=str(client.task))
        self._client = client
        self.worker = str(client.task)
        self.is_chief = client.is_chief
        self.workers = client.workers_of_spec()

    def gone_workers(self) -> dict[str, str]:
        return self._client.gone_workers()

    def _declare(self, variables: Sequence[AccessedVariable]) -> Sequence[int | None]:
        """Declares first what others have to be beside, and those then where that is."""
        led = {each: _leader_of(each) for each in variables}
        found: dict[AccessedVariable, int | None] = {}
        for is_led in (False, True):
            chosen = [each for each in variables if (led[each] is not None) is is_led]
            tasks = {each.op.name: task for each, task in {**self._tasks, **found}.items()} if is_led else {}
            declarations = [
                Declaration(each.spec, each.op, None, each.is_local, tasks.get(led[each] or "")) for each in chosen
            ]
            if declarations:
                found.update(zip(chosen, self._client.declarer.declare(declarations), strict=True))
        return [found[each] for each in variables]

    def _object_on(self, ps_task: int | None, placed: GraphObject) -> ObjectConnection:
        return self._client.object_on(ps_task, placed.spec.name, placed.spec.object_kind)

    def opened_on(self, ps_task: int | None, name: str, kind: str) -> ObjectConnection:
        assert ps_task is not None
        return self._client.shared_object(name, kind, {}, ps_task=ps_task)

    def exchange(self, routed: Sequence[Routed]) -> list[Reply]:
        return super().exchange(routed) if self._client.is_chief else self._wait.exchange(routed)

    def report_step(self, step: int) -> None:
        self._client.report_step(step)


def _leader_of(variable: AccessedVariable) -> str | None:
    """Returns the operation of the variable beside which another one has to be, None if there is none."""
    groups = (group.decode().removeprefix("loc:@") for group in variable.op.colocation_groups())
    return next((name for name in groups if name != variable.op.name), None)


class PrivateRuntime(VariableRuntime):
    """A store in this process that belongs to one session and ends with it."""

    def __init__(self) -> None:
        settings = Settings()
        handle = PsHandle(private_store(), task=TaskId("ps", 0), client=uuid4(), client_task=_TASK, settings=settings)
        handle.connect(Deadline(settings.connect_timeout_s))
        self._handle = handle
        self._places = WaitPlaces(_MOST_WAITS)
        super().__init__(Fanout([], lambda: handle), settings, job_seed=0, task=_TASK)

    def _object_on(self, ps_task: int | None, placed: GraphObject) -> ObjectConnection:
        del ps_task
        return ObjectConnection(self._handle, self._places, name=placed.spec.name, kind=placed.spec.object_kind)

    def _declare(self, variables: Sequence[AccessedVariable]) -> Sequence[None]:
        self._fanout.run_all([Routed(None, Declare(each.spec)) for each in variables])
        return [None] * len(variables)

    def close(self) -> None:
        super().close()
        self._handle.close()
