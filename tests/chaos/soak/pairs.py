"""What a soak does to ps tasks with backups: processes are killed, ended or stopped, and each time all must heal."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import worker_client as ss
from ps_cluster import LocalCluster
from ps_cluster.inspection.health_probe import check_health
from ps_cluster.inspection.queries import ps_processes
from ps_protocol.cluster_spec import WORKER_JOB
from ps_protocol.errors import ShardscopeError
from ps_protocol.liveness import READY
from ps_protocol.task_id import TaskId
from ps_server.replication.decisions import EXIT_SUPERSEDED
from tests.chaos.patience import connect_impatiently
from tests.etcd_process import EtcdProcess

LEASE_S: Final = 2.0
HEAL_S: Final = 60.0
"""How long it may take after each event until every pair is complete again, and a new worker gets in."""

KINDS: Final = ("kill", "restart", "stop")
COORDINATOR: Final = "the coordinator"
_LONGEST_AWAY_LEASES: Final = 2.0
_END_TIMEOUT_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.1
_PROBE_TIMEOUT_S: Final = 2.0


class NotHealedError(Exception):
    """A cluster whose processes all run did not become whole in time."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is done to one process.

    Attributes:
        kind: "kill", "restart" or "stop".
        task: Which process; None for the coordinator's.
        away_s: How long it is dead or stopped; one that is ended is started again at once.
    """

    kind: str
    task: TaskId | None
    away_s: float

    def __str__(self) -> str:
        return f"{self.kind} {self.task or COORDINATOR}"


class Pairs:
    """Troubles the processes of replicated ps tasks, one at a time or all at once, and those of their coordinator.

    Args:
        cluster: With a backup of each ps task, and a last worker task that nobody is.
        coordinator: The process in which it is decided who is the primary, if it is troubled too.
        seed: Decides which process, and for how long.
        say: Told what happens.

    Attributes:
        counts: How often each kind of trouble was made: "kill", "restart", "stop", "outage", and of the coordinator.
        longest_s: The longest that a new worker took to get in.
    """

    def __init__(
        self, cluster: LocalCluster, seed: str, say: Callable[[str], None], coordinator: EtcdProcess | None = None
    ):
        self._cluster = cluster
        self._coordinator = coordinator
        self._places = ps_processes(cluster.cluster_spec)
        self._random = random.Random(seed)
        self._say = say
        self._num_newcomers = 0
        self.counts: Counter[str] = Counter()
        self.longest_s = 0.0

    def trouble(self, kind: str) -> None:
        """Does something to one process, or kills all, and returns when the cluster has healed."""
        if kind != "outage":
            self._make([self._drawn(kind, self._random.choice(list(self._places)))])
            return
        self._kill_all()
        self.counts[kind] += 1
        self._say(f"outage {self.counts[kind]}: all processes; whole again after {self.heal():.1f} s")

    def trouble_several(self) -> None:
        """Does something to one process each of some ps tasks, and to the coordinator, all at once; then as above."""
        indices = sorted({task.index for task in self._places})
        chosen = self._random.sample(indices, self._random.randint(1, len(indices)))
        tasks: list[TaskId | None] = [
            self._random.choice([task for task in self._places if task.index == index]) for index in chosen
        ]
        if self._coordinator is not None and self._random.random() < 1 / len(KINDS):
            tasks.append(None)
        self._make([self._drawn(self._random.choice(KINDS), task) for task in tasks])

    def _drawn(self, kind: str, task: TaskId | None) -> Trouble:
        return Trouble(kind, task, self._random.uniform(0.0, _LONGEST_AWAY_LEASES * LEASE_S))

    def _make(self, troubles: list[Trouble]) -> None:
        with ThreadPoolExecutor(len(troubles)) as threads:
            for _ in threads.map(self._carry_out, troubles):
                pass
        for each in troubles:
            self.counts[each.kind if each.task else f"{each.kind} of {COORDINATOR}"] += 1
        healed_s = self.heal()
        self._say(f"{', '.join(map(str, troubles))}; whole again after {healed_s:.1f} s")

    def heal(self) -> float:
        """Waits until every pair is complete, which it times, and a new worker has changed something."""
        began_s = time.monotonic()
        while unready := [task for task, address in self._places.items() if not _is_ready(address)]:
            for task in unready:
                if self._cluster.process(task).returncode == EXIT_SUPERSEDED:
                    self._cluster.restart(task)
            if time.monotonic() - began_s > HEAL_S:
                logs = {str(task): self._cluster.process(task).tail[-3:] for task in unready}
                raise NotHealedError(f"after {HEAL_S:.0f} s these are not ready: {logs}")
            time.sleep(_LOOK_EVERY_S)
        healed_s, began_s = time.monotonic() - began_s, time.monotonic()
        self._get_in()
        self.longest_s = max(self.longest_s, time.monotonic() - began_s)
        return healed_s

    def _get_in(self) -> None:
        """A worker that was never there before adds 1 on every ps task."""
        spec = self._cluster.cluster_spec
        self._num_newcomers += 1
        newcomer = spec.num_tasks(WORKER_JOB) - 1
        with connect_impatiently(spec, WORKER_JOB, newcomer, connect_timeout_s=HEAL_S, operation_timeout_s=HEAL_S):
            for index in sorted({task.index for task in self._places}):
                with ss.device(f"/job:ps/task:{index}"):
                    visits = ss.get_variable(f"visits_{index}", [], "int64", initializer=ss.zeros_initializer())
                assert isinstance(visits, ss.Variable)
                visits.assign_add(1)
                if visits.read_value() != self._num_newcomers:
                    raise NotHealedError(f"ps:{index} has {visits.read_value()} visits of {self._num_newcomers}")

    # -- carried out by a thread for each ---------------------------------------------------------

    def _carry_out(self, trouble: Trouble) -> None:
        if trouble.task is None:
            self._trouble_coordinator(trouble)
        else:
            {"kill": self._kill, "restart": self._restart, "stop": self._stop}[trouble.kind](
                trouble.task, trouble.away_s
            )

    def _kill(self, task: TaskId, away_s: float) -> None:
        process = self._cluster.process(task)
        process.send_signal(signal.SIGKILL)
        if process.wait(_END_TIMEOUT_S) != -signal.SIGKILL:
            raise NotHealedError(f"{task} had ended by itself before it was to be killed: {process.tail[-5:]}")
        time.sleep(away_s)
        self._cluster.restart(task)

    def _kill_all(self) -> None:
        """Kills all at once, and starts them one after the other, some only when a lease has run out meanwhile."""
        processes = [self._cluster.process(task) for task in self._places]
        for process in processes:
            process.send_signal(signal.SIGKILL)
        for task, process in zip(self._places, processes, strict=True):
            if process.wait(_END_TIMEOUT_S) != -signal.SIGKILL:
                raise NotHealedError(f"{task} had ended by itself before it was to be killed: {process.tail[-5:]}")
        order = list(self._places)
        self._random.shuffle(order)
        late = self._random.randrange(len(order))
        for number, task in enumerate(order):
            if number == late:
                time.sleep(self._random.uniform(0.0, _LONGEST_AWAY_LEASES * LEASE_S))
            self._cluster.restart(task)

    def _restart(self, task: TaskId, _away_s: float) -> None:
        process = self._cluster.process(task)
        process.send_signal(signal.SIGTERM)
        if process.wait(_END_TIMEOUT_S) != 0:
            raise NotHealedError(f"{task} has not ended well at SIGTERM: {process.returncode}, {process.tail[-5:]}")
        self._cluster.restart(task)

    def _stop(self, task: TaskId, away_s: float) -> None:
        process = self._cluster.process(task)
        process.send_signal(signal.SIGSTOP)
        time.sleep(away_s)
        process.send_signal(signal.SIGCONT)

    def _trouble_coordinator(self, trouble: Trouble) -> None:
        coordinator = self._coordinator
        assert coordinator is not None
        match trouble.kind:
            case "stop":
                coordinator.stop()
                time.sleep(trouble.away_s)
                coordinator.wake()
            case "kill":
                coordinator.kill()
                time.sleep(trouble.away_s)
                coordinator.start()
            case _:
                coordinator.restart()


def _is_ready(address: str) -> bool:
    try:
        return check_health(address, service=READY, timeout_s=_PROBE_TIMEOUT_S) == "SERVING"
    except ShardscopeError:
        return False
