"""Runs ps tasks and workers on this machine until the workers are done: ``shardscope up``."""

from __future__ import annotations

import contextlib
import functools
import queue
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final, TypeAlias

from rich.console import Console

from ps_cluster.inspection.queries import Connect, shut_down_all
from ps_cluster.inspection.task_table import DONE, ENDED, NOT_STARTED, RUNNING, STARTING, TaskRow, task_row
from ps_cluster.inspection.watcher import ClusterSnapshot, ClusterWatcher
from ps_cluster.local.checkpoints import ClusterCheckpoints, NotRestoredError
from ps_cluster.local.launch_state import (
    Decision,
    LaunchAction,
    LaunchState,
    Phase,
    Report,
    RestartPs,
    RestartWorker,
)
from ps_cluster.local.line_splitter import OutputLine
from ps_cluster.local.local_cluster import LocalCluster
from ps_cluster.local.options import KEEP, SAVE_EVERY_S, LaunchOptions
from ps_cluster.local.processes import ChildProcess
from ps_cluster.local.ps_process import describe_exit, last_lines
from ps_cluster.local.task_logs import TaskLogs
from ps_cluster.terminal.live_table import LiveTable
from ps_protocol.checkpoints.retention import Retention
from ps_protocol.cluster_spec import BACKUP_JOB, WORKER_JOB, ClusterSpec
from ps_protocol.errors import ClusterStartError
from ps_protocol.service_types import MemberState
from ps_protocol.settings import environment_of
from ps_protocol.task_id import TaskId

# Readable, and rare, among the workers' lines. The user's own arguments come later and win.
PS_LOG_ARGUMENTS: Final = ("--log-format", "console", "--log-level", "warning")

JOURNAL: Final = "journal"
"""The durability with which a ps that is started again has lost nothing that was acknowledged."""

_TICK_S: Final = 0.25
_STARTER_TIMEOUT_S: Final = 30.0
_END_CALL_TIMEOUT_S: Final = 2.0
_EXIT_CODES_IF_TOLD: Final = (-signal.SIGTERM, -signal.SIGKILL, 128 + signal.SIGTERM)
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_Event: TypeAlias = Callable[[float], list[Decision]]


class Launcher:
    """One launch: carries out what ``LaunchState`` decides. To be used once, in the main thread.

    Args:
        options: What to launch.
        console: Where the tasks' output and the table go.
        errors: Where failures go if ``console`` is no terminal.
        connect: Makes the client of a ps, for the table's figures.
    """

    def __init__(self, options: LaunchOptions, *, console: Console, errors: Console, connect: Connect):
        self._options = options
        self._connect = connect
        self._is_terminal = console.is_terminal
        self._state = LaunchState(
            options.num_ps,
            options.num_workers,
            fail_fast=options.fail_fast,
            min_workers=options.min_workers,
            worker_restarts=options.worker_restarts,
            restarts_ps=options.durability == JOURNAL,
            replicas=options.replicas,
            keeps_checkpoints=options.checkpoint is not None,
        )
        # Reentrant, so that a signal handler may put; an event for each task and each signal is all it ever holds.
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._workers: dict[TaskId, ChildProcess] = {}
        self._started_at_s: dict[TaskId, float] = {}  # workers, in seconds since the epoch
        self._progress: dict[TaskId, str] = {}  # a task's entry is written only by the thread that reads its output
        self._exit_codes: dict[TaskId, int] = {}  # as above, by the thread that waits for it
        self._told_to_end: set[TaskId] = set()
        self._watcher: ClusterWatcher | None = None
        self._resources = contextlib.ExitStack()
        self._table = LiveTable(
            console,
            errors,
            options.tasks,
            show_table=not options.no_table,
            on_output_lost=lambda: self._events.put(self._state.output_lost),
        )
        self._checkpoints = (
            None
            if options.checkpoint is None
            else ClusterCheckpoints(
                options.checkpoint,
                every_s=options.save_every_s or SAVE_EVERY_S,
                retention=Retention(last=KEEP if options.keep is None else options.keep),
                tell=self._table.report,
                tell_failure=functools.partial(self._table.report, is_failure=True),
            )
        )
        self._logs = TaskLogs(options.log_dir, options.tasks, on_failure=self._table.report)
        self._cluster = LocalCluster(
            options.num_ps,
            options.num_workers,
            replicas=options.replicas,
            env=environment_of(options),
            durability=options.durability,
            data_dir=options.data_dir,
            functions=options.functions,
            ps_arguments=(*PS_LOG_ARGUMENTS, *options.ps_arguments),
            log=lambda task, text: self._show(TaskId.parse(task), text),
            on_ps_exit=self._post_exit,
        )

    def run(self) -> int:
        """Launches, waits for the end, leaves no process behind, and returns the exit code.

        Raises:
            OSError: The log files cannot be made.
        """
        with self._resources:
            self._resources.enter_context(self._logs)
            self._resources.enter_context(self._table)
            self._resources.enter_context(_signals_go_to(self._post_signal))
            starter = threading.Thread(target=self._start_ps, name="start of ps", daemon=True)
            self._resources.callback(starter.join, _STARTER_TIMEOUT_S)
            self._resources.callback(self._cluster.close)
            self._resources.callback(self._give_up_checkpoints)
            starter.start()
            while not self._state.is_over:
                self._carry_out(self._next_decisions())
                self._carry_out(self._decisions_about_lost_state())
                self._carry_out(self._state.workers_silent(self._silent_workers(), time.monotonic()))
                self._table.update(self._rows())
        return self._state.exit_code

    def _next_decisions(self) -> list[Decision]:
        try:
            event = self._events.get(timeout=_TICK_S)
        except queue.Empty:
            event = self._state.tick
        return event(time.monotonic())

    def _decisions_about_lost_state(self) -> list[Decision]:
        now_s = time.monotonic()
        return [each for index in sorted(self._snapshot.lost) for each in self._state.pair_lost(index, now_s)]

    def _silent_workers(self) -> list[TaskId]:
        """Workers whose processes run, and have not been heard of for longer than their leases."""
        silent = []
        for task, started_at_s in self._started_at_s.items():
            member = self._snapshot.members.get(str(task))
            if member is not None and member.state is MemberState.DEAD and member.joined_at_s >= started_at_s:
                silent.append(task)
        return silent

    def _carry_out(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Report(text, is_failure):
                    self._table.report(text, is_failure=is_failure)
                case RestartPs(task):
                    threading.Thread(
                        target=self._restart_ps, args=(task,), name=f"restart of {task}", daemon=True
                    ).start()
                case RestartWorker(task):
                    self._start([task])
                case LaunchAction.START_WORKERS:
                    self._start_workers()
                case LaunchAction.END_WORKERS:
                    self._signal_workers(signal.SIGTERM)
                    self._signal_workers(signal.SIGCONT)  # one that is stopped does not notice the other
                case LaunchAction.SAVE:
                    threading.Thread(target=self._save_at_the_end, name="last checkpoint", daemon=True).start()
                case LaunchAction.END_PS:
                    self._give_up_checkpoints()
                    if self._watcher is not None:
                        self._watcher.finish()  # only a running ps task gives its last figures
                    self._end_ps()
                case LaunchAction.KILL:
                    self._give_up_checkpoints()
                    self._signal_workers(signal.SIGKILL)
                    self._signal_ps(signal.SIGKILL)

    # -- starting -----------------------------------------------------------------------------

    def _start_ps(self) -> None:
        try:
            self._cluster.start()
            if self._checkpoints is not None:
                self._checkpoints.restore(self._cluster.cluster_spec)
        except NotRestoredError as error:
            self._events.put(functools.partial(self._state.start_failed, str(error), []))
        except (ClusterStartError, OSError, RuntimeError) as error:
            all_ps = [task for task in self._options.tasks if task.job != WORKER_JOB]
            # On a terminal its lines stand just above; elsewhere failures go to another stream.
            text = error.what if isinstance(error, ClusterStartError) and self._is_terminal else str(error)
            self._events.put(functools.partial(self._state.start_failed, text, all_ps))
        else:
            self._events.put(self._state.ps_ready)

    def _save_at_the_end(self) -> None:
        is_saved = self._checkpoints is None or self._checkpoints.finish() is None
        self._events.put(functools.partial(self._state.saved, is_saved))

    def _give_up_checkpoints(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.give_up()

    def _restart_ps(self, task: TaskId) -> None:
        try:
            self._cluster.restart(task)
        except (ClusterStartError, OSError, RuntimeError) as error:
            # If it has ended again, `_post_exit` reports that.
            is_running = isinstance(error, ClusterStartError)
            if not is_running or self._cluster.process(task).returncode is None:
                self._events.put(functools.partial(self._state.ps_restart_failed, task, str(error), is_running))
        else:
            self._events.put(functools.partial(self._state.ps_restarted, task))

    def _start_workers(self) -> None:
        spec = self._cluster.cluster_spec
        backups = " with a backup each" if self._options.replicas else ""
        self._table.report(
            f"{_count(self._options.num_ps, 'ps task')}{backups}, {_count(self._options.num_workers, 'worker')}; "
            f"to look inside:\n  shardscope ls --cluster {shlex.quote(_known_by(spec))}"
        )
        if self._options.note:
            self._table.report(self._options.note)
        self._start([task for task in self._options.tasks if task.job == WORKER_JOB])
        # Last: it is better to start processes before there are gRPC channels.
        self._watcher = self._resources.enter_context(ClusterWatcher(spec, self._connect))
        if self._checkpoints is not None:
            self._checkpoints.start(spec)

    def _start(self, workers: list[TaskId]) -> None:
        waiting = list(workers)
        try:
            while waiting:
                task = waiting[0]
                self._started_at_s[task] = time.time()
                self._workers[task] = self._cluster.start_worker(
                    task.index,
                    self._options.command,
                    on_line=functools.partial(self._show_line, task),
                    on_exit=functools.partial(self._post_exit, task),
                )
                del waiting[0]
        except OSError as error:
            message = f"cannot run {self._options.command[0]!r} as {waiting[0]}: {error.strerror or error}"
            self._events.put(functools.partial(self._state.start_failed, message, tuple(waiting)))

    def _signal_workers(self, signum: signal.Signals) -> None:
        self._told_to_end |= {task for task, worker in self._workers.items() if worker.returncode is None}
        for worker in self._workers.values():
            worker.send_signal(signum)

    def _end_ps(self) -> None:
        if not self._options.replicas or self._watcher is None:
            self._signal_ps(signal.SIGTERM)
            return
        # By a signal each would hand over to the other process of its task, or wait for it, though both are to end.
        self._note_ps_end()
        answers = shut_down_all(
            self._cluster.cluster_spec, "shardscope up ends", connect=self._connect, timeout_s=_END_CALL_TIMEOUT_S
        )
        for answer in answers:
            if answer.error is not None:
                self._cluster.process(answer.task).send_signal(signal.SIGTERM)

    def _signal_ps(self, signum: signal.Signals) -> None:
        self._note_ps_end()
        self._cluster.signal_all_ps(signum)

    def _note_ps_end(self) -> None:
        all_ps = {task for task in self._options.tasks if task.job != WORKER_JOB}
        self._told_to_end |= all_ps - self._exit_codes.keys()

    # -- what other threads and signal handlers call -----------------------------------------

    def _post_exit(self, task: TaskId, process: ChildProcess) -> None:
        returncode = process.returncode
        if returncode is not None:
            self._exit_codes[task] = returncode
            is_crash = task.job == WORKER_JOB and returncode != 0 and self._state.phase is Phase.RUNNING
            if is_crash and self._watcher is not None:
                self._watcher.report_end(task, describe_exit(returncode))
            self._events.put(functools.partial(self._state.task_exited, task, returncode, last_lines(process)))

    def _post_signal(self, signum: int) -> None:
        self._events.put(functools.partial(self._state.interrupted, signum))

    def _show_line(self, task: TaskId, line: OutputLine) -> None:
        if line.transient:
            self._progress[task] = line.text
        else:
            self._progress.pop(task, None)
            self._show(task, line.text)

    def _show(self, task: TaskId, text: str) -> None:
        self._logs.write(task, text)
        self._table.line(task, text)

    # -- the table ----------------------------------------------------------------------------

    def _rows(self) -> list[TaskRow]:
        snapshot = self._snapshot
        return [
            task_row(task, *self._process_state(task), self._progress.get(task, ""), snapshot)
            for task in self._options.tasks
        ]

    @property
    def _snapshot(self) -> ClusterSnapshot:
        return ClusterSnapshot() if self._watcher is None else self._watcher.snapshot

    def _process_state(self, task: TaskId) -> tuple[str, int | None]:
        if task.job == WORKER_JOB:
            worker = self._workers.get(task)
            return (
                (self._state_before, None) if worker is None else (self._state_of(task, worker.returncode), worker.pid)
            )
        if self._watcher is None:  # made when all ps tasks listen
            exit_code = self._exit_codes.get(task)
            return (self._state_before if exit_code is None else self._state_of(task, exit_code)), None
        process = self._cluster.process(task)
        return self._state_of(task, process.returncode), process.pid

    @property
    def _state_before(self) -> str:
        """Of a task that has no process yet, or never will."""
        return STARTING if self._state.phase in (Phase.STARTING_PS, Phase.RUNNING) else NOT_STARTED

    def _state_of(self, task: TaskId, returncode: int | None) -> str:
        if returncode is None:
            return RUNNING
        if task in self._told_to_end and returncode in _EXIT_CODES_IF_TOLD:
            return ENDED
        return DONE if returncode == 0 else describe_exit(returncode)


@contextlib.contextmanager
def _signals_go_to(handler: Callable[[int], None]) -> Iterator[None]:
    def handle(signum: int, _frame: FrameType | None) -> None:
        handler(signum)

    hangup_is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by nohup, so as to outlive the terminal
    signals = [signum for signum in _SIGNALS if not (signum is signal.SIGHUP and hangup_is_ignored)]
    previous = {signum: signal.signal(signum, handle) for signum in signals}
    try:
        yield
    finally:
        for signum, old_handler in previous.items():
            signal.signal(signum, old_handler)


def _known_by(spec: ClusterSpec) -> str:
    """The shortest ``--cluster`` that finds all ps tasks for as long as the cluster runs."""
    if BACKUP_JOB not in spec.jobs:
        return spec.ps_addresses()[0]  # where it is started again, too; it knows the others
    return ClusterSpec({job: tasks for job, tasks in spec.as_dict().items() if job != WORKER_JOB}).to_flag()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
