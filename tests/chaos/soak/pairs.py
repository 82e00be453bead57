"""What a soak does to ps tasks with backups: processes are killed, ended or stopped, and each time all must heal."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import worker_client as ss
from ps_cluster import LocalCluster
from ps_cluster.inspection.health_probe import check_health
from ps_cluster.inspection.queries import ps_processes
from ps_protocol.errors import ShardscopeError
from ps_protocol.liveness import READY
from ps_protocol.task_id import TaskId
from ps_server.replication.decisions import EXIT_SUPERSEDED

LEASE_S: Final = 2.0
HEAL_S: Final = 60.0
"""How long it may take after each event until every pair is complete again, and a new client gets in."""

_LONGEST_STOP_LEASES: Final = 2.0
_END_TIMEOUT_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.1
_PROBE_TIMEOUT_S: Final = 2.0


class NotHealedError(Exception):
    """A cluster whose processes all run did not become whole in time."""


class Pairs:
    """Troubles the processes of replicated ps tasks, one at a time or all at once.

    Args:
        cluster: With a backup of each ps task.
        seed: Decides which process, and for how long.
        say: Told what happens.

    Attributes:
        counts: How often each kind of trouble was made: "kill", "restart", "stop", "outage".
        longest_s: The longest that a new client took to get in.
    """

    def __init__(self, cluster: LocalCluster, seed: str, say: Callable[[str], None]):
        self._cluster = cluster
        self._places = ps_processes(cluster.cluster_spec)
        self._random = random.Random(seed)
        self._say = say
        self.counts: Counter[str] = Counter()
        self.longest_s = 0.0

    def trouble(self, kind: str) -> None:
        """Does something to a process, and returns when the cluster has healed."""
        if kind == "outage":
            self._kill_all()
            what = "all processes"
        else:
            task = self._random.choice(list(self._places))
            {"kill": self._kill, "restart": self._restart, "stop": self._stop}[kind](task)
            what = str(task)
        self.counts[kind] += 1
        healed_s = self.heal()
        self._say(f"{kind} {self.counts[kind]}: {what}; whole again after {healed_s:.1f} s")

    def heal(self) -> float:
        """Waits until every pair is complete and a new client has read something; returns how long that took."""
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
        with ss.connect(self._cluster.cluster_spec, observer=True, connect_timeout_s=HEAL_S) as client:
            client.variables()
        self.longest_s = max(self.longest_s, time.monotonic() - began_s)
        return healed_s

    def _kill(self, task: TaskId) -> None:
        process = self._cluster.process(task)
        process.send_signal(signal.SIGKILL)
        if process.wait(_END_TIMEOUT_S) != -signal.SIGKILL:
            raise NotHealedError(f"{task} had ended by itself before it was to be killed: {process.tail[-5:]}")
        time.sleep(self._random.uniform(0.0, _LONGEST_STOP_LEASES * LEASE_S))
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
                time.sleep(self._random.uniform(0.0, _LONGEST_STOP_LEASES * LEASE_S))
            self._cluster.restart(task)

    def _restart(self, task: TaskId) -> None:
        process = self._cluster.process(task)
        process.send_signal(signal.SIGTERM)
        if process.wait(_END_TIMEOUT_S) != 0:
            raise NotHealedError(f"{task} has not ended well at SIGTERM: {process.returncode}, {process.tail[-5:]}")
        self._cluster.restart(task)

    def _stop(self, task: TaskId) -> None:
        process = self._cluster.process(task)
        process.send_signal(signal.SIGSTOP)
        time.sleep(self._random.uniform(0.0, _LONGEST_STOP_LEASES * LEASE_S))
        process.send_signal(signal.SIGCONT)


def _is_ready(address: str) -> bool:
    try:
        return check_health(address, service=READY, timeout_s=_PROBE_TIMEOUT_S) == "SERVING"
    except ShardscopeError:
        return False
