"""Where the variables of a graph live while a session runs it: on the cluster, or in a store of the session's own."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Protocol
from uuid import uuid4

from ps_protocol.operations import Declare, Reply
from ps_protocol.task_id import TaskId
from worker_client.client import Client
from worker_client.connection.fanout import Fanout, Routed
from worker_client.connection.handle import PsHandle, Settings
from worker_client.connection.retry import Deadline
from worker_client.graph.computation import AccessedVariable
from worker_client.placement.declaration import Declaration
from worker_client.sessions.initialization_wait import InitializationWait
from worker_client.sessions.value_cache import ValueCache
from worker_client.transport.selection import private_store


class VariableRuntime(Protocol):
    """What a session needs of the place where variables live. Thread-safe."""

    @property
    def job_seed(self) -> int:
        """Seed from which initial values follow."""
        ...

    @property
    def value_cache(self) -> ValueCache:
        """The session's copies of the variables that have a caching device."""
        ...

    def place(self, variables: Iterable[AccessedVariable]) -> None:
        """Declares those variables that are not declared yet, all together; they stay uninitialised."""
        ...

    def route(self, variable: AccessedVariable) -> int | None:
        """Returns the ps task of a placed variable, None for this process's own store."""
        ...

    def exchange(self, routed: Sequence[Routed]) -> list[Reply]:
        """Carries out operations, one exchange for each ps task, and returns all replies; an error is a reply."""
        ...

    def wait_until_initialized(self, variables: Iterable[AccessedVariable], timeout_s: float | None) -> None:
        """Waits until placed variables have values; FailedPreconditionError if time runs out."""
        ...

    def close(self) -> None:
        """Gives back what is the session's own."""
        ...


class ClusterRuntime:
    """The ps tasks of a connection, which stays open.

    On any task but the chief, an operation that needs a value waits until the variable has one, as long as the
    connection would wait for a ps task. The chief does not wait: nobody else would initialise its variables.

    Args:
        client: The connection.

    Attributes:
        value_cache: The session's copies of the variables that have a caching device.
    """

    def __init__(self, client: Client):
        self.value_cache = ValueCache()
        self._client = client
        settings = client.settings
        self._wait = InitializationWait(client.fanout, retry=settings.retry, timeout_s=settings.connect_timeout_s)
        self._lock = threading.Lock()  # guards: _tasks; held while variables are declared, so that each is only once
        self._tasks: dict[AccessedVariable, int | None] = {}

    @property
    def job_seed(self) -> int:
        return self._client.job_seed

    def place(self, variables: Iterable[AccessedVariable]) -> None:
        with self._lock:
            new = [variable for variable in variables if variable not in self._tasks]
            if new:
                tasks = self._client.declarer.declare(
                    [Declaration(each.spec, each.op, None, each.is_local) for each in new]
                )
                self._tasks.update(zip(new, tasks, strict=True))

    def route(self, variable: AccessedVariable) -> int | None:
        return self._tasks[variable]

    def exchange(self, routed: Sequence[Routed]) -> list[Reply]:
        return self._client.fanout.exchange_all(routed) if self._client.is_chief else self._wait.exchange(routed)

    def wait_until_initialized(self, variables: Iterable[AccessedVariable], timeout_s: float | None) -> None:
        self._wait.wait({each.spec.name: self._tasks[each] for each in variables}, timeout_s)

    def close(self) -> None:
        self.value_cache.clear()


class PrivateRuntime:
    """A store in this process that belongs to one session and ends with it.

    Attributes:
        value_cache: The session's copies of the variables that have a caching device.
    """

    job_seed = 0

    def __init__(self) -> None:
        self.value_cache = ValueCache()
        settings = Settings()
        handle = PsHandle(
            private_store(),
            task=TaskId("ps", 0),
            client=uuid4(),
            client_task="worker:0",
            settings=settings,
        )
        handle.connect(Deadline(settings.connect_timeout_s))
        self._handle = handle
        self._fanout = Fanout([], lambda: handle)
        self._wait = InitializationWait(self._fanout, retry=settings.retry, timeout_s=settings.connect_timeout_s)
        self._lock = threading.Lock()  # guards: _declared; held while variables are declared
        self._declared: set[AccessedVariable] = set()

    def place(self, variables: Iterable[AccessedVariable]) -> None:
        with self._lock:
            new = [variable for variable in variables if variable not in self._declared]
            if new:
                self._fanout.run_all([Routed(None, Declare(variable.spec)) for variable in new])
                self._declared.update(new)

    def route(self, variable: AccessedVariable) -> None:
        del variable

    def exchange(self, routed: Sequence[Routed]) -> list[Reply]:
        return self._fanout.exchange_all(routed)

    def wait_until_initialized(self, variables: Iterable[AccessedVariable], timeout_s: float | None) -> None:
        self._wait.wait(dict.fromkeys(each.spec.name for each in variables), timeout_s)

    def close(self) -> None:
        self.value_cache.clear()
        self._handle.close()
