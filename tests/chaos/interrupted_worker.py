"""A worker that interrupts itself at random instants, and then looks at what has become of its connection.

    python -m tests.chaos.interrupted_worker CLUSTER_SPEC TRANSPORT SEED NUM_INTERRUPTS ACTIVITY

A timer of the process raises exceptions out of a signal handler: ``KeyboardInterrupt``, as Ctrl-C does, and in turns
others that a client catches for reasons of its own. It prints what it has found as JSON, and ends with an error if
something is wrong at once; a call that does not return within its bound ends it with the stacks of all threads.
"""

from __future__ import annotations

import contextlib
import faulthandler
import itertools
import json
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np

import shardscope as ss
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import DeadlineExceededError
from ps_protocol.interrupts import num_idle_threads
from ps_protocol.task_id import TaskId
from ps_server.core.parameter_server import ParameterServer
from worker_client.connection.settings import Settings
from worker_client.placement.strategies import RoundRobinStrategy
from worker_client.transport.in_process import endpoint_of

OPERATION_TIMEOUT_S = 20.0
BOUND_S = 2 * OPERATION_TIMEOUT_S
ROWS, COLUMNS = 300, 100  # 120 kB: in shared memory where there is any, in pieces over gRPC


class AlarmError(TimeoutError):
    """What programs raise that bound a call with ``signal.alarm``."""


class LateError(DeadlineExceededError):
    """A handler's, of a class that the client knows."""


class OddTypeError(TypeError):
    """A handler's, of a class that is caught where values are converted; so are the next ones."""


class OddValueError(ValueError):
    pass


class OddOSError(OSError):
    pass


class Alarms:
    """Raises at random instants.

    Attributes:
        delivered: What the handler has raised.
    """

    def __init__(self, random_: random.Random, longest_s: float):
        self._random = random_
        self._longest_s = longest_s
        kinds: list[Callable[[], BaseException]] = [KeyboardInterrupt, AlarmError, lambda: LateError("by a handler")]
        kinds += [OddTypeError, OddValueError, OddOSError]
        self._kinds = itertools.cycle(kinds)
        self.delivered: list[BaseException] = []
        signal.signal(signal.SIGALRM, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.delivered.append(next(self._kinds)())
        raise self.delivered[-1]

    def interrupt(self, activity: Callable[[], object]) -> None:
        """Does something over and over until it is interrupted; raises unless just that comes out of it."""
        faulthandler.dump_traceback_later(BOUND_S, exit=True)
        num_before = len(self.delivered)
        try:
            signal.setitimer(signal.ITIMER_REAL, self._random.uniform(2e-5, self._longest_s))
            while True:
                activity()
        except BaseException as error:
            if len(self.delivered) != num_before + 1 or error is not self.delivered[-1]:
                raise AssertionError(f"{self.delivered[num_before:]} came out as {error!r}") from error


class Sums:
    """Updates that were acknowledged and that were interrupted."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.begun = 0

    def check(self, total: float) -> None:
        if not self.acknowledged <= total <= self.begun:
            raise AssertionError(f"{total} of {self.acknowledged} acknowledged and {self.begun} begun updates")


class Activity:
    """What is interrupted: each of these runs over and over until an exception ends it."""

    def __init__(self, client: ss.Client, scope: str):
        zeros = ss.zeros_initializer()
        self.scalars = [ss.get_variable(f"{scope}/scalar_{number}", [], initializer=zeros) for number in range(2)]
        self.rows = ss.get_variable(f"{scope}/rows", [ROWS, COLUMNS], initializer=zeros)
        self.sums = {each.name: Sums() for each in (*self.scalars, self.rows)}
        self._client = client
        self._ones = np.ones((ROWS, COLUMNS), np.float32)
        self._list = self._ones.tolist()
        self._out = np.zeros((ROWS, COLUMNS), np.float32)
        self._optimizer, self._mirror = ss.train.GradientDescent(1.0), client.mirror([*self.scalars, self.rows])

    @contextlib.contextmanager
    def _update(self, *variables: ss.Variable) -> Iterator[None]:
        sums = [self.sums[each.name] for each in variables]
        for each in sums:
            each.begun += 1
        yield
        for each in sums:
            each.acknowledged += 1

    def add(self) -> None:
        with self._update(self.scalars[0]):
            self.scalars[0].assign_add(1.0)

    def add_large(self) -> None:
        with self._update(self.rows):
            self.rows.assign_add(self._ones)

    def add_list(self) -> None:
        with self._update(self.rows):
            self.rows.assign_add(self._list)

    def add_from_buffer(self) -> None:
        buffer = self.rows.push_buffer()
        buffer[...] = 1.0
        with self._update(self.rows):
            self.rows.assign_add(buffer)

    def add_on_all(self) -> None:
        with self._update(*self.scalars):
            self._client.assign_add_all([(each, 1.0) for each in self.scalars])

    def add_later(self) -> None:
        futures = []
        for _ in range(20):
            self.sums[self.scalars[0].name].begun += 1
            futures.append(self.scalars[0].assign_add(1.0, wait=False))
        with self._update(self.scalars[0]):
            self.scalars[0].assign_add(1.0)  # goes through the queue
        for each in futures:
            each.result(OPERATION_TIMEOUT_S)
            self.sums[self.scalars[0].name].acknowledged += 1

    def read(self) -> None:
        self._whole(self.scalars[0].numpy())
        self._whole(self.rows.numpy())

    def read_into(self) -> None:
        self._whole(self.rows.read_value(out=self._out))

    def read_on_all(self) -> None:
        for each in self._client.read_all([*self.scalars, self.rows]):
            self._whole(each)

    def push_and_pull(self) -> None:
        gradients: list[np.ndarray] = [-self._ones[0, 0], -self._ones[0, 0], -self._ones]
        with self._update(*self.scalars, self.rows):
            self._optimizer.apply_gradients(zip(gradients, self._mirror.variables, strict=True), pull=self._mirror)
        self._whole(self._mirror.values[-1])

    def gather(self) -> None:
        self._whole(self.rows.gather(np.arange(0, ROWS, 7)))

    def _whole(self, value: np.ndarray) -> None:
        """Each element has had the same number of ones added."""
        if value.size and not (value == value.reshape(-1)[0]).all():
            raise AssertionError("a value was seen half updated")

    @property
    def all(self) -> list[Callable[[], None]]:
        names = "add add_large add_list add_from_buffer add_on_all add_later read read_into read_on_all "
        names += "push_and_pull gather"
        return [getattr(self, name) for name in names.split()]

    def check(self) -> None:
        """Each later call succeeds, and each update counts once or never."""
        for variable in (*self.scalars, self.rows):
            with self._update(variable):
                variable.assign_add(1.0)
            value, version = variable.numpy(), variable.version
            self._whole(value)
            self.sums[variable.name].check(float(value.reshape(-1)[0]))
            if not 0 <= version - float(value.reshape(-1)[0]) <= 1:  # its first value may be a version
                raise AssertionError(f"version {version} of {variable.name} with the value {value.reshape(-1)[0]}")


def connected(spec: dict[str, list[str]], transport: str) -> ss.Client:
    if transport != "in process":
        return ss.connect(spec, transport=transport, operation_timeout_s=OPERATION_TIMEOUT_S)
    cores = [ParameterServer(cluster_spec=ClusterSpec(spec), task_index=index, job_seed=1) for index in range(2)]
    return ss.Client(
        ClusterSpec(spec),
        TaskId("worker", 0),
        endpoints=[endpoint_of(core) for core in cores],
        settings=Settings(operation_timeout_s=OPERATION_TIMEOUT_S),
        ps_strategy=RoundRobinStrategy(2),
        initialize=True,
    )


def run_operations(spec: dict[str, list[str]], transport: str, alarms: Alarms, num_interrupts: int) -> None:
    with connected(spec, transport) as client:
        activity = Activity(client, transport.replace(" ", "_"))
        for number, activity_of_round in zip(range(num_interrupts), itertools.cycle(activity.all), strict=False):
            alarms.interrupt(activity_of_round)
            if number % 4 == 0:
                activity.check()
        activity.check()


def run_connections(spec: dict[str, list[str]], transport: str, alarms: Alarms, num_interrupts: int) -> None:
    for number in range(num_interrupts):
        alarms.interrupt(lambda: ss.connect(spec, transport=transport).close())
        with contextlib.suppress(ss.errors.FailedPreconditionError):
            ss.get_default_client().close()  # of a connect that was interrupted as it returned
        if number % 8 == 0:
            with ss.connect(spec, transport=transport) as client:
                ss.get_variable("scalar", [], initializer=ss.zeros_initializer()).assign_add(1.0)
                client.close()


def num_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def settled_threads(most: int) -> int:
    """How many threads there are, once those that are ending have ended, or after ``BOUND_S``."""
    ends_s = time.monotonic() + BOUND_S
    while (number := threading.active_count() - num_idle_threads()) > most and time.monotonic() < ends_s:
        threading.Event().wait(0.01)
    return number


def main() -> None:
    spec, transport, seed, num_interrupts, kind = sys.argv[1:]
    run = {"operations": run_operations, "connections": run_connections}[kind]
    alarms = Alarms(random.Random(seed), 3e-3 if kind == "operations" else 3e-2)
    run(json.loads(spec), transport, alarms, int(num_interrupts))
    for thread in threading.enumerate():  # what was interrupted goes on to its end
        if thread not in (threading.main_thread(), threading.current_thread()):
            thread.join(OPERATION_TIMEOUT_S)
    faulthandler.cancel_dump_traceback_later()
    found = {
        "delivered": len(alarms.delivered),
        "threads": settled_threads(1),
        "threads_before": 1,
        "descriptors": num_descriptors(),
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
