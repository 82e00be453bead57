"""Sends numbered updates while ps tasks are killed and replies dropped, and compares the sums.

``python -m tests.chaos.soak --seed S --kills 10 --updates 20000`` prints, for each variable, what was acknowledged and
what it holds at the end; its exit code is 1 if they differ or if a fault that was to happen did not.
"""

from __future__ import annotations

import contextlib
import functools
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import worker_client as ss
from ps_cluster import ClusterStartError, LocalCluster
from ps_cluster.local.processes import ChildProcess
from ps_protocol.errors import ShardscopeError
from ps_protocol.task_id import TaskId
from tests.chaos.fault_log import fault_environment, fired, now_and_then
from tests.chaos.patience import connect_impatiently
from tests.chaos.soak.pairs import HEAL_S, LEASE_S, NotHealedError, Pairs
from tests.chaos.soak.pauses import NotPausedError, Pauses
from tests.chaos.soak.report import SoakReport, outcomes
from tests.chaos.soak.settings import SoakSettings, parse_settings
from tests.chaos.soak.variables import acknowledged_path, num_updates, soak_variables
from tests.chaos.soak.worker import ENOUGH_FILE, OPERATION_TIMEOUT_S
from tests.etcd_process import EtcdProcess
from worker_client.transport import grpc

DROPPED_REPLY: Final = "reply.send=drop"
_POLL_S: Final = 0.02
_ENOUGH: Final = 20  # updates after which a worker is known to go on
_STATUS_TIMEOUT_S: Final = 10.0
_LAST_DROP: Final = 20_000  # replies of one life of a ps; a plan is looked through at each
_LAST_KILL: Final = 0.8
"""The last kill comes when this part of the updates has been acknowledged, so that some work follows it."""


class Soak:
    """One run, in a directory that is its own.

    Args:
        settings: How much of what.
        directory: For what the workers write down and what the ps tasks keep.
        say: Told what happens.
    """

    def __init__(self, settings: SoakSettings, directory: Path, say: Callable[[str], None]):
        self._settings = settings
        self._directory = directory
        self._say = say
        self._random = random.Random(settings.seed)
        self._report = SoakReport()
        self._workers: dict[int, tuple[int, ChildProcess]] = {}
        self._duplicates_seen = [0] * settings.num_ps  # since each was started
        self._fault_log = directory / "faults"
        self._deadline_s = 0.0
        self._etcd: EtcdProcess | None = None

    def run(self) -> SoakReport:
        """Runs it; what goes wrong is in the report."""
        started_s = time.monotonic()
        self._deadline_s = started_s + self._settings.timeout_s
        try:
            with contextlib.ExitStack() as resources:
                if self._settings.coordinator == "etcd":
                    self._etcd = resources.enter_context(EtcdProcess(self._directory / "etcd"))
                    self._etcd.wait_until_ready()
                self._run_on(resources.enter_context(self._cluster()))
        except (ClusterStartError, ShardscopeError, NotHealedError, NotPausedError, _SoakError) as error:
            self._report.failures.append(f"{type(error).__name__}: {error}")
        self._report.elapsed_s = time.monotonic() - started_s
        return self._report

    def _cluster(self) -> LocalCluster:
        settings = self._settings
        environment: dict[str, str] = {}
        if settings.drop_every:
            last = min(settings.updates, _LAST_DROP)
            plan = now_and_then(DROPPED_REPLY, every=settings.drop_every, up_to=last, seed=str(settings.seed))
            environment |= fault_environment(plan, self._fault_log)
        return LocalCluster(
            settings.num_ps,
            settings.num_workers + settings.replicas,  # with the one that comes anew after each event
            replicas=settings.replicas,
            coordinator=None if self._etcd is None else self._etcd.url,
            durability=settings.durability,
            data_dir=None if settings.durability == "none" else self._directory / "data",
            ps_arguments=["--allow-faults", *(["--lease", str(LEASE_S)] if settings.replicas else [])],
            env=environment,
        )

    def _run_on(self, cluster: LocalCluster) -> None:
        variables = soak_variables(self._settings.num_ps)
        with connect_impatiently(cluster.cluster_spec, "evaluator", operation_timeout_s=OPERATION_TIMEOUT_S):
            declared = [variable.declare() for variable in variables]
            for index in range(self._settings.num_workers):
                self._start_worker(cluster, index, life=0)
            if self._settings.rounds:
                self._run_rounds(cluster, declared)
            else:
                self._make_trouble(cluster)
            (self._directory / ENOUGH_FILE).touch()
            self._await_workers()
            self._count_duplicates(cluster)
            values = [variable.read_value() for variable in declared]
            self._report.outcomes = outcomes(variables, values, self._directory)
            self._report.faults = fired(self._fault_log)
            self._check_faults()

    # -- rounds -------------------------------------------------------------------------------

    def _run_rounds(self, cluster: LocalCluster, declared: list[ss.Variable]) -> None:
        """After each round every old worker goes on, a new one gets in, and every sum is exact."""
        settings, report = self._settings, self._report
        variables = soak_variables(settings.num_ps)
        pairs = Pairs(cluster, str(settings.seed), self._say, self._etcd)
        pauses = Pauses(self._directory, settings.num_workers)
        report.troubles = pairs.counts
        pairs.heal()
        for number in range(1, settings.rounds + 1):
            self._say(f"round {number}:")
            self._await_progress_of_each(cluster)
            pairs.trouble_several()
            report.longest_connect_s = pairs.longest_s
            self._await_progress_of_each(cluster)
            with pauses.pause(HEAL_S):
                values = [variable.read_value() for variable in declared]
                report.outcomes = outcomes(variables, values, self._directory)
            if not report.is_good:
                raise _SoakError(f"after round {number} the sums differ")
            report.rounds = number

    def _await_progress_of_each(self, cluster: LocalCluster) -> None:
        """Waits until every worker has got some more answers."""
        paths = [acknowledged_path(self._directory, index, 0) for index in range(self._settings.num_workers)]
        before, began_s = [num_updates(path) for path in paths], time.monotonic()
        while any(num_updates(path) < had + _ENOUGH for path, had in zip(paths, before, strict=True)):
            self._check_processes(cluster)
            if time.monotonic() - began_s > HEAL_S:
                now = [num_updates(path) for path in paths]
                raise _SoakError(f"a worker did not go on in {HEAL_S:.0f} s: of each, {before} updates, then {now}")
            time.sleep(_POLL_S)

    # -- trouble ------------------------------------------------------------------------------

    def _make_trouble(self, cluster: LocalCluster) -> None:
        """Kills at moments that are spread over the run by how far the workers have come."""
        settings = self._settings
        pairs = Pairs(cluster, str(settings.seed), self._say, self._etcd) if settings.replicas else None
        events = ["ps"] * settings.kills + ["worker"] * settings.worker_kills
        events += ["restart"] * settings.restarts + ["stop"] * settings.stops + ["outage"] * settings.outages
        self._random.shuffle(events)
        victims = [kill % settings.num_ps for kill in range(settings.kills)]
        self._random.shuffle(victims)
        moments = sorted(self._random.uniform(0.02, _LAST_KILL) * settings.updates for _ in events)
        for moment, event in zip(moments, events, strict=True):
            self._await_progress(int(moment), cluster)
            if event != "worker" and pairs is not None:
                pairs.trouble("kill" if event == "ps" else event)
            elif event == "ps":
                self._kill_ps(cluster, victims.pop())
            else:
                self._kill_worker(cluster, self._random.randrange(settings.num_workers))
        if pairs is not None:
            self._report.kills, self._report.troubles = pairs.counts["kill"], pairs.counts
            self._report.longest_connect_s = pairs.longest_s

    def _kill_ps(self, cluster: LocalCluster, index: int) -> None:
        self._count_duplicates(cluster)
        self._duplicates_seen[index] = 0
        acknowledged = self._num_acknowledged()
        cluster.kill_ps(index)
        if cluster.ps_exit_code(index) != -signal.SIGKILL:
            raise _SoakError(f"ps:{index} had ended by itself before it was to be killed: {cluster.ps_log(index)}")
        away_s = self._random.uniform(0.0, 0.5)
        time.sleep(away_s)
        cluster.restart_ps(index)
        self._report.kills += 1
        self._say(f"kill {self._report.kills}: ps:{index} after {acknowledged} updates, away for {away_s:.2f} s")

    def _kill_worker(self, cluster: LocalCluster, index: int) -> None:
        life, worker = self._workers[index]
        if worker.returncode is not None:
            raise _SoakError(f"worker:{index} had ended by itself before it was to be killed: {worker.tail[-5:]}")
        worker.send_signal(signal.SIGKILL)
        worker.wait(self._remaining_s())
        self._start_worker(cluster, index, life + 1)
        self._report.worker_kills += 1
        self._say(f"killed worker:{index}")

    def _check_faults(self) -> None:
        report, settings = self._report, self._settings
        if report.kills < settings.kills:
            report.failures.append(f"only {report.kills} of {settings.kills} kills")
        wanted = {"restart": settings.restarts, "stop": settings.stops, "outage": settings.outages}
        for kind, number in wanted.items():
            if report.troubles[kind] < number:
                report.failures.append(f"only {report.troubles[kind]} of {number} {kind}s")
        if report.rounds < settings.rounds:
            report.failures.append(f"only {report.rounds} of {settings.rounds} rounds")
        if settings.drop_every and not report.faults[DROPPED_REPLY]:
            report.failures.append(f"no reply was dropped, though {DROPPED_REPLY} was planned")

    def _count_duplicates(self, cluster: LocalCluster) -> None:
        """Adds what has been answered from memory since it was last looked at."""
        if self._settings.replicas:
            return  # of two processes, either may have answered, or be gone
        for index, address in enumerate(cluster.cluster_spec.ps_addresses()):
            with contextlib.closing(grpc.connect(address, task=str(TaskId("ps", index)))) as service:
                seen = service.status(timeout_s=_STATUS_TIMEOUT_S).duplicate_batches
            self._report.duplicates += max(0, seen - self._duplicates_seen[index])
            self._duplicates_seen[index] = seen

    # -- workers ------------------------------------------------------------------------------

    def _start_worker(self, cluster: LocalCluster, index: int, life: int) -> None:
        # In rounds they send as long as there are rounds.
        quota = 0 if self._settings.rounds else -(-self._settings.updates // self._settings.num_workers)
        done = sum(num_updates(acknowledged_path(self._directory, index, before)) for before in range(life))
        told = {
            "directory": self._directory,
            "updates": max(1, quota - done),
            "seed": self._settings.seed,
            "life": life,
            "transport": self._settings.transport,
        }
        flags = [text for name, value in told.items() for text in (f"--{name}", str(value))]
        worker = cluster.start_worker(index, ["python", "-m", "tests.chaos.soak.worker", *flags])
        self._workers[index] = (life, worker)

    def _num_acknowledged(self) -> int:
        return sum(num_updates(path) for path in self._directory.glob("*.acknowledged"))

    def _await_progress(self, updates: int, cluster: LocalCluster) -> None:
        while self._num_acknowledged() < updates:
            self._check_processes(cluster)
            if not self._remaining_s():
                logs = [cluster.ps_log(index)[-3:] for index in range(self._settings.num_ps)]
                raise _SoakError(
                    f"only {self._num_acknowledged()} updates were acknowledged in {self._settings.timeout_s:.0f} s "
                    f"where {updates} were waited for; the ps tasks say {logs}"
                )
            time.sleep(_POLL_S)

    def _check_processes(self, cluster: LocalCluster) -> None:
        for index, (_, worker) in self._workers.items():
            if worker.returncode is not None:
                raise _SoakError(f"worker:{index} has ended with code {worker.returncode}: {_last_words(worker)}")
        for index in range(self._settings.num_ps):
            if cluster.ps_exit_code(index) is not None and not self._settings.replicas:
                raise _SoakError(f"ps:{index} has ended by itself: {cluster.ps_log(index)}")

    def _await_workers(self) -> None:
        for index, (_, worker) in self._workers.items():
            if worker.wait(self._remaining_s()) != 0:
                raise _SoakError(
                    f"worker:{index} has ended with code {worker.returncode} (None: not in time): {_last_words(worker)}"
                )

    def _remaining_s(self) -> float:
        return max(0.0, self._deadline_s - time.monotonic())


class _SoakError(Exception):
    """The run cannot go on."""


def _last_words(worker: ChildProcess) -> str:
    return "\n  ".join(worker.tail[-12:])


def main(arguments: list[str]) -> int:
    """Runs a soak and prints what came of it; returns the exit code."""
    settings = parse_settings(arguments)
    say = functools.partial(print, flush=True)
    say(f"soak: {settings}")
    with tempfile.TemporaryDirectory(prefix="shardscope-soak-") as directory:
        report = Soak(settings, Path(directory), say).run()
    say(report)
    if not report.is_good:
        seed = "" if "--seed" in arguments else f" --seed {settings.seed}"
        say(f"the same faults again: python -m tests.chaos.soak {' '.join(arguments)}{seed}")
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
