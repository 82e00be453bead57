"""What a launch does when something happens to it: plain decisions, without processes, clock or terminal.

    RUNNING ──all workers ended──▶ SAVING ──saved──▶ ENDING_PS ──all ps ended──▶ OVER
       │                              ▲
       └─signal, ps died, fail-fast─▶ ENDING_WORKERS ──all workers ended─┘

Workers are ended before the ps tasks, so that what they send while they end still finds a ps. Every phase of ending is
bounded: a process that has not ended by then is killed. SAVING, the last checkpoint, is left out where none is kept or
the variables are lost; it goes on while the ps tasks get on with it.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from ps_cluster.local.ps_process import describe_exit, signal_name
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, WORKER_JOB
from ps_protocol.task_id import TaskId
from ps_server.replication.decisions import EXIT_SUPERSEDED

END_GRACE_S: Final = 15.0
EXIT_FAILED: Final = 1
MAX_PS_RESTARTS: Final = 5
"""How often one ps is started again within ``PS_RESTART_WINDOW_S``; one that dies more often will go on dying."""
PS_RESTART_WINDOW_S: Final = 60.0
_SIGNAL_EXIT_BASE: Final = 128


class Phase(enum.Enum):
    """How far a launch has come."""

    STARTING_PS = enum.auto()
    RUNNING = enum.auto()
    ENDING_WORKERS = enum.auto()
    SAVING = enum.auto()
    ENDING_PS = enum.auto()
    OVER = enum.auto()


class LaunchAction(enum.Enum):
    """What the launcher is to do."""

    START_WORKERS = enum.auto()
    END_WORKERS = enum.auto()
    SAVE = enum.auto()
    END_PS = enum.auto()
    KILL = enum.auto()


@dataclass(frozen=True, slots=True)
class Report:
    """Something to tell the user.

    Attributes:
        text: One line, or more if a task's last lines belong to it.
        is_failure: Whether it is about something that went wrong.
    """

    text: str
    is_failure: bool = False


@dataclass(frozen=True, slots=True)
class RestartPs:
    """A ps or a backup that has died is to be started again: its state is on disk, or in the other process of its task.

    Attributes:
        task: Which.
    """

    task: TaskId


@dataclass(frozen=True, slots=True)
class RestartWorker:
    """A worker that has failed is to be started again.

    Attributes:
        task: Which.
    """

    task: TaskId


Decision = LaunchAction | Report | RestartPs | RestartWorker


@dataclass(slots=True)
class LaunchState:
    """The state of a launch; each method takes an event and returns what to do about it. Not thread-safe.

    Attributes:
        num_ps: Number of ps tasks.
        num_workers: Number of workers.
        fail_fast: Whether the first worker that fails ends the others.
        min_workers: How many workers have to be done, or still at work; others that fail are let go. None: all.
        worker_restarts: How often each worker that fails is started again, before it has failed for good.
        restarts_ps: Whether a ps that dies is started again, since it has kept its state.
        replicas: Further processes of each ps task, 0 or 1; with 1, either is started again when it dies.
        keeps_checkpoints: Whether a last checkpoint is saved when the workers have ended.
        phase: How far the launch has come.
        exit_code: What the launcher returns in the end: the exit code of the first worker that failed and was not let
            go, 128 + n if signal n ended it; 1 if a worker that is needed was silent and had to be ended; 1 if a ps
            died; 128 + n if the launcher itself was ended by signal n; 1 if only the last checkpoint could not be
            saved; else 0.
    """

    num_ps: int
    num_workers: int
    fail_fast: bool = False
    min_workers: int | None = None
    worker_restarts: int = 0
    restarts_ps: bool = False
    replicas: int = 0
    keeps_checkpoints: bool = False
    phase: Phase = Phase.STARTING_PS
    exit_code: int = 0
    _running: set[TaskId] = field(default_factory=set)
    _early_exits: list[tuple[TaskId, int, str]] = field(default_factory=list)
    _restarts_s: dict[TaskId, list[float]] = field(default_factory=dict)
    _kill_at_s: float | None = None
    _signals: int = 0
    _done: int = 0
    _started_again: dict[TaskId, int] = field(default_factory=dict)
    _has_state: bool = False  # that the workers may have changed

    def __post_init__(self) -> None:
        jobs = [PS_JOB, BACKUP_JOB][: 1 + self.replicas]
        self._running = {TaskId(job, index) for job in jobs for index in range(self.num_ps)}

    def ps_ready(self, now_s: float) -> list[Decision]:
        """All ps tasks listen."""
        if self.phase is not Phase.STARTING_PS:
            return [LaunchAction.END_PS]  # END_PS came before they could receive it
        self.phase = Phase.RUNNING
        self._has_state = True
        decisions = [each for early in self._early_exits for each in self._ps_exited(*early, now_s)]
        restarted = {each.task for each in decisions if isinstance(each, RestartPs)}
        if len(restarted) < len(self._early_exits):
            return [*decisions, *self._advance(now_s)]
        self._running |= restarted | {TaskId(WORKER_JOB, index) for index in range(self.num_workers)}
        return [*decisions, LaunchAction.START_WORKERS]

    def start_failed(self, message: str, not_started: Iterable[TaskId], now_s: float) -> list[Decision]:
        """Processes could not be started; ``message`` says which and why."""
        self._running -= set(not_started)
        if self.phase not in {Phase.STARTING_PS, Phase.RUNNING}:
            return self._advance(now_s)
        self.exit_code = EXIT_FAILED
        return [Report(message, is_failure=True), *self._end(now_s), *self._advance(now_s)]

    def ps_restarted(self, task: TaskId, now_s: float) -> list[Decision]:
        """A ps that was started again listens."""
        if self.phase in {Phase.RUNNING, Phase.ENDING_WORKERS, Phase.SAVING}:
            return [Report(f"{task} is back, {'and catches up' if self.replicas else 'with its variables'}")]
        return [LaunchAction.END_PS, *self._advance(now_s)]  # END_PS came before it could receive it

    def ps_restart_failed(self, task: TaskId, message: str, is_running: bool, now_s: float) -> list[Decision]:
        """A ps could not be started again, or it runs but is not ready; ``message`` says which and why."""
        if not is_running:
            self._running.discard(task)
        return [*self._give_up(message, now_s), *self._advance(now_s)]

    def pair_lost(self, index: int, now_s: float) -> list[Decision]:
        """Neither process of a replicated ps task has its state."""
        ps, backup = TaskId(PS_JOB, index), TaskId(BACKUP_JOB, index)
        text = f"{ps} and {backup} have died one after the other, and the variables of {ps} are lost; ending all tasks"
        return [*self._give_up(text, now_s), *self._advance(now_s)]

    def task_exited(self, task: TaskId, returncode: int, last_lines: str, now_s: float) -> list[Decision]:
        """A process has ended, with -n if signal n ended it."""
        self._running.discard(task)
        decisions = (
            self._worker_exited(task, returncode, now_s)
            if task.job == WORKER_JOB
            else self._ps_exited(task, returncode, last_lines, now_s)
        )
        if RestartPs(task) in decisions or RestartWorker(task) in decisions:
            self._running.add(task)
        return [*decisions, *self._advance(now_s)]

    def workers_silent(self, silent: Collection[TaskId], now_s: float) -> list[Decision]:
        """The leases of these workers have run out, though their processes are there: they are stopped, or hang.

        When others are done and nobody else is at work, they are ended: what they wait for does not come any more.
        """
        workers = self._workers
        if self.phase is not Phase.RUNNING or not self._done or not workers or not set(workers) <= set(silent):
            return []
        if self._done < (self.num_workers if self.min_workers is None else self.min_workers):
            self.exit_code = self.exit_code or EXIT_FAILED
        names, verb = ", ".join(map(str, workers)), "is" if len(workers) == 1 else "are"
        text = f"{names} {verb} silent beyond the lease, stopped or hanging, and the others are done; ending {names}"
        return [Report(text, is_failure=True), *self._end(now_s)]

    def interrupted(self, signum: int, now_s: float) -> list[Decision]:
        """The launcher was asked to end; asked again, it kills."""
        self._signals += 1
        if self._signals > 1:
            return [Report(f"{signal_name(signum)} again: killing what still runs"), LaunchAction.KILL]
        self.exit_code = _SIGNAL_EXIT_BASE + signum
        hint = "; Ctrl-C again kills at once" if signum == signal.SIGINT else ""
        return [Report(f"{signal_name(signum)}: ending all tasks{hint}"), *self._end(now_s), *self._advance(now_s)]

    def saved(self, is_saved: bool, now_s: float) -> list[Decision]:
        """The last checkpoint was saved, or could not be; why not was told."""
        if self.phase is not Phase.SAVING:
            return []
        if not is_saved:
            self.exit_code = self.exit_code or EXIT_FAILED
        self._has_state = False
        self.phase = Phase.ENDING_WORKERS
        return self._advance(now_s)

    def output_lost(self, now_s: float) -> list[Decision]:
        """No process reads the launcher's output any more."""
        self.exit_code = self.exit_code or _SIGNAL_EXIT_BASE + signal.SIGPIPE
        return [*self._end(now_s), *self._advance(now_s)]

    def tick(self, now_s: float) -> list[Decision]:
        """Time has passed."""
        if self._kill_at_s is None or now_s < self._kill_at_s:
            return []
        self._kill_at_s = None
        names = ", ".join(map(str, sorted(self._running)))
        return [
            Report(f"{names}: still there {END_GRACE_S:.0f} s after SIGTERM; killing", is_failure=True),
            LaunchAction.KILL,
        ]

    @property
    def is_over(self) -> bool:
        """Whether every task has ended."""
        return self.phase is Phase.OVER

    def _worker_exited(self, task: TaskId, returncode: int, now_s: float) -> list[Decision]:
        if self.phase is not Phase.RUNNING:
            return []
        if returncode == 0:
            self._done += 1
            return []
        failure = f"{task} failed with {describe_exit(returncode)}"
        again = self._started_again.get(task, 0) + 1
        if again <= self.worker_restarts:
            self._started_again[task] = again
            text = f"{failure}; starting it again ({again} of {self.worker_restarts})"
            return [Report(text, is_failure=True), RestartWorker(task)]
        left = self._done + len(self._workers)
        if self.min_workers is not None and left >= self.min_workers:
            return [Report(f"{failure}; going on without it, {_workers_left(left, self.min_workers)}", is_failure=True)]
        self.exit_code = self.exit_code or (returncode if returncode >= 0 else _SIGNAL_EXIT_BASE - returncode)
        if not self._workers:
            return [Report(failure, is_failure=True)]
        if self.min_workers is not None:
            text = f"{failure}; ending the others, {_workers_left(left, self.min_workers)}"
            return [Report(text, is_failure=True), *self._end(now_s)]
        if not self.fail_fast:
            return [Report(f"{failure}; the others go on", is_failure=True)]
        return [Report(f"{failure}; ending the others (--fail-fast)", is_failure=True), *self._end(now_s)]

    def _ps_exited(self, task: TaskId, returncode: int, last_lines: str, now_s: float) -> list[Decision]:
        if self.phase is Phase.STARTING_PS:
            self._early_exits.append((task, returncode, last_lines))  # mostly the start fails then, and reports it
        if self.phase is not Phase.RUNNING:
            return []
        if returncode == 0:
            return [Report(f"{task} was shut down while workers were running")]
        died = f"{task} died with {describe_exit(returncode)}"
        if self.replicas and returncode == EXIT_SUPERSEDED:
            died = f"{task} was superseded by the other process of its task, and has ended itself"
        if not (self.restarts_ps or self.replicas):
            text = f"{died} and its variables are lost, which --durability journal would keep; ending all tasks"
            if self.keeps_checkpoints:
                text += ", and the next launch goes on from the newest checkpoint"
            return self._give_up(f"{text}; {last_lines}", now_s)
        recent = [each for each in self._restarts_s.get(task, []) if now_s - each < PS_RESTART_WINDOW_S]
        if len(recent) >= MAX_PS_RESTARTS:
            window = f"{len(recent)} restarts in {PS_RESTART_WINDOW_S:.0f} s"
            kept = ", its state is kept" if self.restarts_ps else ""
            return self._give_up(f"{died} after {window}; giving up and ending all tasks{kept}; {last_lines}", now_s)
        self._restarts_s[task] = [*recent, now_s]
        attempt = f"{len(recent) + 1} of {MAX_PS_RESTARTS} in {PS_RESTART_WINDOW_S:.0f} s"
        purpose = "to become the backup of its task" if self.replicas else "the workers wait"
        return [Report(f"{died}; starting it again ({attempt}), {purpose}", is_failure=True), RestartPs(task)]

    def _give_up(self, text: str, now_s: float) -> list[Decision]:
        if self.phase is not Phase.RUNNING:
            return []
        self.exit_code = EXIT_FAILED
        self._has_state = False
        return [Report(text, is_failure=True), *self._end(now_s)]

    @property
    def _workers(self) -> list[TaskId]:
        return sorted([task for task in self._running if task.job == WORKER_JOB])

    def _end(self, now_s: float) -> list[Decision]:
        if self.phase not in {Phase.STARTING_PS, Phase.RUNNING}:
            return []
        self.phase = Phase.ENDING_WORKERS
        self._kill_at_s = now_s + END_GRACE_S
        return [LaunchAction.END_WORKERS]

    def _advance(self, now_s: float) -> list[Decision]:
        decisions: list[Decision] = []
        if self.phase in {Phase.RUNNING, Phase.ENDING_WORKERS} and not self._workers:
            if self.keeps_checkpoints and self._has_state:
                self.phase = Phase.SAVING
                self._kill_at_s = None
                return [LaunchAction.SAVE]
            self.phase = Phase.ENDING_PS
            self._kill_at_s = now_s + END_GRACE_S
            decisions.append(LaunchAction.END_PS)
        if self.phase is Phase.ENDING_PS and not self._running:
            self.phase = Phase.OVER
            self._kill_at_s = None
        return decisions


def _workers_left(left: int, least: int) -> str:
    return f"with {left} of at least {least} (--min-workers)" if left >= least else f"only {left} of {least} are left"
