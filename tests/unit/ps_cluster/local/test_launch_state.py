from __future__ import annotations

import signal

import pytest

from ps_cluster.local.launch_state import (
    END_GRACE_S,
    MAX_PS_RESTARTS,
    PS_RESTART_WINDOW_S,
    Decision,
    LaunchAction,
    LaunchState,
    Report,
    RestartPs,
    RestartWorker,
)
from ps_protocol.task_id import TaskId
from ps_server.replication.decisions import EXIT_SUPERSEDED

NOW_S = 1000.0
PS_0, PS_1 = TaskId("ps", 0), TaskId("ps", 1)
BACKUP_0, BACKUP_1 = TaskId("backup", 0), TaskId("backup", 1)
WORKER_0, WORKER_1 = TaskId("worker", 0), TaskId("worker", 1)


def running(*, fail_fast: bool = False) -> LaunchState:
    state = LaunchState(num_ps=2, num_workers=2, fail_fast=fail_fast)
    assert state.ps_ready(NOW_S) == [LaunchAction.START_WORKERS]
    return state


def actions(decisions: list[Decision]) -> list[LaunchAction]:
    return [decision for decision in decisions if isinstance(decision, LaunchAction)]


def text(decisions: list[Decision]) -> str:
    return "\n".join(decision.text for decision in decisions if isinstance(decision, Report))


def exited(state: LaunchState, task: TaskId, returncode: int = 0, last_lines: str = "") -> list[Decision]:
    return state.task_exited(task, returncode, last_lines, NOW_S)


def finish(state: LaunchState) -> int:
    for task in (WORKER_0, WORKER_1, PS_0, PS_1):
        exited(state, task)
    assert state.is_over
    return state.exit_code


def test_ps_tasks_are_ended_when_the_last_worker_is_done() -> None:
    state = running()
    assert exited(state, WORKER_1) == []
    assert exited(state, WORKER_0) == [LaunchAction.END_PS]
    assert exited(state, PS_0) == []
    assert not state.is_over
    assert exited(state, PS_1) == []
    assert state.is_over
    assert state.exit_code == 0


def test_other_workers_go_on_when_one_fails_and_its_exit_code_counts() -> None:
    state = running()
    decisions = exited(state, WORKER_1, 3)
    assert actions(decisions) == []
    assert "worker:1 failed with exit code 3; the others go on" in text(decisions)
    assert actions(exited(state, WORKER_0, 4)) == [LaunchAction.END_PS]
    assert finish(state) == 3


def test_a_worker_ended_by_a_signal_counts_as_128_and_the_signal() -> None:
    state = running()
    assert "worker:0 failed with signal SIGKILL" in text(exited(state, WORKER_0, -signal.SIGKILL))
    assert finish(state) == 128 + 9


def test_fail_fast_ends_the_others_and_keeps_the_exit_code() -> None:
    state = running(fail_fast=True)
    decisions = exited(state, WORKER_1, 3)
    assert actions(decisions) == [LaunchAction.END_WORKERS]
    assert "worker:1 failed with exit code 3" in text(decisions)
    decisions = exited(state, WORKER_0, -signal.SIGTERM)
    assert text(decisions) == ""
    assert actions(decisions) == [LaunchAction.END_PS]
    assert finish(state) == 3


def test_a_ps_that_dies_ends_everything_and_is_reported_with_its_last_lines() -> None:
    state = running()
    decisions = exited(state, PS_1, -signal.SIGKILL, "its last lines:\n    out of memory")
    assert actions(decisions) == [LaunchAction.END_WORKERS]
    assert "ps:1 died with signal SIGKILL and its variables are lost, which --durability journal" in text(decisions)
    assert "out of memory" in text(decisions)
    assert finish(state) == 1


def test_a_ps_that_was_shut_down_is_reported_and_the_workers_go_on() -> None:
    state = running()
    decisions = exited(state, PS_0)
    assert actions(decisions) == []
    assert "ps:0 was shut down" in text(decisions)
    assert finish(state) == 0


def test_an_interrupt_ends_workers_then_ps_tasks() -> None:
    state = running()
    decisions = state.interrupted(signal.SIGINT, NOW_S)
    assert actions(decisions) == [LaunchAction.END_WORKERS]
    assert "SIGINT" in text(decisions)
    assert exited(state, WORKER_0, -15) == []
    assert exited(state, WORKER_1, -15) == [LaunchAction.END_PS]
    assert finish(state) == 130


def test_a_second_interrupt_kills() -> None:
    state = running()
    state.interrupted(signal.SIGINT, NOW_S)
    assert actions(state.interrupted(signal.SIGINT, NOW_S)) == [LaunchAction.KILL]
    assert finish(state) == 130


@pytest.mark.parametrize(("signum", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals_end_it_too(signum: int, exit_code: int) -> None:
    state = running()
    assert actions(state.interrupted(signum, NOW_S)) == [LaunchAction.END_WORKERS]
    assert finish(state) == exit_code


def test_who_does_not_end_in_time_is_named_and_killed_once() -> None:
    state = running()
    state.interrupted(signal.SIGINT, NOW_S)
    exited(state, WORKER_0, -15)
    assert state.tick(NOW_S + END_GRACE_S - 0.1) == []
    decisions = state.tick(NOW_S + END_GRACE_S)
    assert actions(decisions) == [LaunchAction.KILL]
    assert "worker:1" in text(decisions)
    assert "worker:0" not in text(decisions)
    assert state.tick(NOW_S + END_GRACE_S + 1) == []


def test_ps_tasks_have_their_own_time_to_end() -> None:
    state = running()
    exited(state, WORKER_0)
    state.task_exited(WORKER_1, 0, "", NOW_S + 100)
    assert state.tick(NOW_S + 100 + END_GRACE_S - 0.1) == []
    assert actions(state.tick(NOW_S + 100 + END_GRACE_S)) == [LaunchAction.KILL]


def test_nothing_is_killed_while_the_workers_run() -> None:
    assert running().tick(NOW_S + 1_000_000) == []


def test_a_ps_that_cannot_be_started_is_the_end() -> None:
    state = LaunchState(num_ps=2, num_workers=2)
    assert exited(state, PS_1, 3) == []
    decisions = state.start_failed("ps:1 ended before it was ready", [PS_0, PS_1], NOW_S)
    assert "ps:1 ended before it was ready" in text(decisions)
    assert state.is_over
    assert state.exit_code == 1


def test_a_worker_that_cannot_be_started_ends_those_that_were() -> None:
    state = running()
    decisions = state.start_failed("cannot run worker:1", [WORKER_1], NOW_S)
    assert actions(decisions) == [LaunchAction.END_WORKERS]
    assert actions(exited(state, WORKER_0, -15)) == [LaunchAction.END_PS]
    assert finish(state) == 1


def test_a_ps_that_dies_between_ready_and_the_workers_start_is_not_missed() -> None:
    state = LaunchState(num_ps=2, num_workers=2)
    assert exited(state, PS_0, -9, "lines") == []
    decisions = state.ps_ready(NOW_S)
    assert LaunchAction.START_WORKERS not in decisions
    assert LaunchAction.END_PS in decisions
    assert "ps:0 died" in text(decisions)
    exited(state, PS_1)
    assert state.is_over
    assert state.exit_code == 1


def test_ps_tasks_that_get_ready_after_an_interrupt_are_ended() -> None:
    state = LaunchState(num_ps=2, num_workers=2)
    assert LaunchAction.END_PS in state.interrupted(signal.SIGINT, NOW_S)
    assert state.ps_ready(NOW_S) == [LaunchAction.END_PS]
    exited(state, PS_0)
    exited(state, PS_1)
    assert state.is_over
    assert state.exit_code == 130


def test_a_start_that_fails_because_of_an_interrupt_is_no_failure() -> None:
    state = LaunchState(num_ps=2, num_workers=2)
    state.interrupted(signal.SIGINT, NOW_S)
    assert state.start_failed("ps:0 ended", [PS_0, PS_1], NOW_S) == []
    assert state.is_over
    assert state.exit_code == 130


def test_output_that_nobody_reads_ends_everything_like_a_broken_pipe() -> None:
    state = running()
    assert actions(state.output_lost(NOW_S)) == [LaunchAction.END_WORKERS]
    assert finish(state) == 141


def test_what_comes_after_the_end_has_begun_does_not_begin_it_again() -> None:
    state = running()
    state.interrupted(signal.SIGINT, NOW_S)
    for decisions in (
        exited(state, PS_0, -9),
        exited(state, WORKER_0, 3),
        state.output_lost(NOW_S),
        state.start_failed("too late", [], NOW_S),
    ):
        assert decisions == []


# -- ps tasks that keep their state ---------------------------------------------------------------


def running_with_journal() -> LaunchState:
    state = LaunchState(num_ps=2, num_workers=2, restarts_ps=True)
    state.ps_ready(NOW_S)
    return state


def test_a_ps_that_has_kept_its_state_is_started_again_and_the_workers_go_on() -> None:
    state = running_with_journal()
    decisions = exited(state, PS_1, -9, "its last lines")
    assert decisions[1:] == [RestartPs(PS_1)]
    assert f"ps:1 died with signal SIGKILL; starting it again (1 of {MAX_PS_RESTARTS} in 60 s)" in text(decisions)
    assert "ps:1 is back" in text(state.ps_restarted(PS_1, NOW_S))
    assert finish(state) == 0


def test_one_that_dies_again_and_again_is_given_up() -> None:
    state = running_with_journal()
    for _ in range(MAX_PS_RESTARTS):
        assert RestartPs(PS_0) in exited(state, PS_0, 3)
    decisions = exited(state, PS_0, 3, "its last lines")
    assert actions(decisions) == [LaunchAction.END_WORKERS]
    assert f"ps:0 died with exit code 3 after {MAX_PS_RESTARTS} restarts in 60 s; giving up" in text(decisions)
    assert "its last lines" in text(decisions)
    for task in (WORKER_0, WORKER_1, PS_1):
        exited(state, task, -15)
    assert state.is_over
    assert state.exit_code == 1


def test_deaths_long_ago_are_forgiven_and_each_ps_is_counted_alone() -> None:
    state = running_with_journal()
    for number in range(3 * MAX_PS_RESTARTS):
        now_s = NOW_S + number * PS_RESTART_WINDOW_S / (MAX_PS_RESTARTS - 1)
        for ps in (PS_0, PS_1):
            assert RestartPs(ps) in state.task_exited(ps, -9, "", now_s)


def test_a_ps_that_was_shut_down_is_not_started_again() -> None:
    state = running_with_journal()
    decisions = exited(state, PS_0, 0)
    assert RestartPs(PS_0) not in decisions
    assert "ps:0 was shut down" in text(decisions)


def test_a_ps_that_dies_when_all_is_over_is_not_started_again() -> None:
    state = running_with_journal()
    exited(state, WORKER_0)
    exited(state, WORKER_1)
    assert exited(state, PS_0, -9) == []


def test_a_ps_that_is_back_only_after_the_workers_are_done_is_ended() -> None:
    state = running_with_journal()
    exited(state, PS_1, -9)
    exited(state, WORKER_0)
    assert actions(exited(state, WORKER_1)) == [LaunchAction.END_PS]
    assert exited(state, PS_0) == []
    assert not state.is_over
    assert actions(state.ps_restarted(PS_1, NOW_S)) == [LaunchAction.END_PS]
    exited(state, PS_1)
    assert state.is_over
    assert state.exit_code == 0


@pytest.mark.parametrize("is_running", [True, False])
def test_a_restart_that_fails_ends_everything(is_running: bool) -> None:
    state = running_with_journal()
    exited(state, PS_1, -9)
    decisions = state.ps_restart_failed(PS_1, "ps:1 was not ready after 30 s", is_running, NOW_S)
    assert actions(decisions) == [LaunchAction.END_WORKERS]
    assert "not ready" in text(decisions)
    for task in (WORKER_0, WORKER_1, PS_0):
        exited(state, task, -15)
    if is_running:
        assert not state.is_over
        exited(state, PS_1, -15)
    assert state.is_over
    assert state.exit_code == 1


def test_a_ps_that_dies_before_the_workers_start_is_started_again_with_them() -> None:
    state = LaunchState(num_ps=2, num_workers=2, restarts_ps=True)
    assert exited(state, PS_0, -9) == []
    decisions = state.ps_ready(NOW_S)
    assert decisions[1:] == [RestartPs(PS_0), LaunchAction.START_WORKERS]
    assert finish(state) == 0


# -- ps tasks with a backup -----------------------------------------------------------------------


def running_with_backups() -> LaunchState:
    state = LaunchState(num_ps=2, num_workers=2, replicas=1)
    assert state.ps_ready(NOW_S) == [LaunchAction.START_WORKERS]
    return state


@pytest.mark.parametrize("task", [PS_1, BACKUP_1])
def test_of_a_pair_either_process_is_started_again(task: TaskId) -> None:
    state = running_with_backups()
    decisions = exited(state, task, -9)
    assert decisions[1:] == [RestartPs(task)]
    assert text(decisions) == (
        f"{task} died with signal SIGKILL; starting it again (1 of 5 in 60 s), to become the backup of its task"
    )
    assert text(state.ps_restarted(task, NOW_S)) == f"{task} is back, and catches up"


def test_one_that_was_superseded_is_started_again_with_a_reason() -> None:
    decisions = exited(running_with_backups(), PS_0, EXIT_SUPERSEDED)
    assert RestartPs(PS_0) in decisions
    assert "ps:0 was superseded by the other process of its task, and has ended itself; starting" in text(decisions)


def test_a_process_of_a_pair_that_dies_again_and_again_is_given_up() -> None:
    state = running_with_backups()
    for _ in range(MAX_PS_RESTARTS):
        assert RestartPs(BACKUP_0) in exited(state, BACKUP_0, 5)
    decisions = exited(state, BACKUP_0, 1, "its last lines")
    assert actions(decisions) == [LaunchAction.END_WORKERS]
    assert "backup:0 died with exit code 1 after 5 restarts in 60 s; giving up" in text(decisions)
    assert "is kept" not in text(decisions)
    assert state.exit_code == 1


def test_a_launch_is_over_when_the_backups_have_ended_too() -> None:
    state = running_with_backups()
    for task in (WORKER_0, WORKER_1, PS_0, PS_1, BACKUP_0):
        exited(state, task)
    assert not state.is_over
    exited(state, BACKUP_1)
    assert state.is_over
    assert state.exit_code == 0


def test_a_pair_that_has_lost_its_state_ends_everything_once() -> None:
    state = running_with_backups()
    decisions = state.pair_lost(1, NOW_S)
    assert actions(decisions) == [LaunchAction.END_WORKERS]
    assert "ps:1 and backup:1 have died one after the other, and the variables of ps:1 are lost" in text(decisions)
    assert state.pair_lost(1, NOW_S) == []
    assert state.exit_code == 1


# -- the last checkpoint ----------------------------------------------------------------------


def keeping() -> LaunchState:
    state = LaunchState(num_ps=2, num_workers=2, keeps_checkpoints=True)
    assert state.ps_ready(NOW_S) == [LaunchAction.START_WORKERS]
    return state


def test_a_last_checkpoint_is_saved_between_workers_and_ps_tasks() -> None:
    state = keeping()
    assert exited(state, WORKER_0) == []
    assert exited(state, WORKER_1) == [LaunchAction.SAVE]
    assert state.tick(NOW_S + 10 * END_GRACE_S) == []  # a large one takes its time
    assert state.saved(True, NOW_S) == [LaunchAction.END_PS]
    assert state.saved(True, NOW_S) == []
    assert finish(state) == 0


def test_an_interrupt_saves_a_last_checkpoint_and_a_second_one_does_not_wait_for_it() -> None:
    state = keeping()
    assert actions(state.interrupted(signal.SIGINT, NOW_S)) == [LaunchAction.END_WORKERS]
    exited(state, WORKER_0, -15)
    assert exited(state, WORKER_1, -15) == [LaunchAction.SAVE]
    assert actions(state.interrupted(signal.SIGINT, NOW_S)) == [LaunchAction.KILL]
    for task in (PS_0, PS_1):
        assert exited(state, task, -9) == []
    assert not state.is_over
    assert state.saved(True, NOW_S) == [LaunchAction.END_PS]
    assert state.is_over
    assert state.exit_code == 130


@pytest.mark.parametrize(
    ("before", "after"), [(0, 1), (7, 7), (-15, 143)], ids=["all well", "a failed worker", "an ended worker"]
)
def test_a_last_checkpoint_that_was_not_saved_is_a_failure_if_there_is_no_other(before: int, after: int) -> None:
    state = keeping()
    exited(state, WORKER_0, before)
    assert exited(state, WORKER_1)[-1] == LaunchAction.SAVE
    assert state.saved(False, NOW_S) == [LaunchAction.END_PS]
    assert state.exit_code == after


def test_an_interrupt_while_it_is_saved_ends_nothing_sooner() -> None:
    state = keeping()
    exited(state, WORKER_0)
    exited(state, WORKER_1)
    assert actions(state.interrupted(signal.SIGINT, NOW_S)) == []
    assert state.saved(True, NOW_S) == [LaunchAction.END_PS]
    assert finish(state) == 130


def test_no_checkpoint_is_saved_of_lost_variables() -> None:
    state = keeping()
    decisions = exited(state, PS_1, -9)
    assert actions(decisions) == [LaunchAction.END_WORKERS]
    assert "the next launch goes on from the newest checkpoint" in text(decisions)
    exited(state, WORKER_0, -15)
    assert exited(state, WORKER_1, -15) == [LaunchAction.END_PS]


def test_no_checkpoint_is_saved_before_workers_have_started() -> None:
    state = LaunchState(num_ps=2, num_workers=2, keeps_checkpoints=True)
    assert actions(state.interrupted(signal.SIGINT, NOW_S)) == [LaunchAction.END_WORKERS, LaunchAction.END_PS]
    state = LaunchState(num_ps=2, num_workers=2, keeps_checkpoints=True)
    decisions = state.start_failed("cannot go on", [], NOW_S)
    assert actions(decisions) == [LaunchAction.END_WORKERS, LaunchAction.END_PS]
    assert finish(state) == 1


def test_a_ps_that_is_back_while_the_last_checkpoint_is_saved_is_not_ended() -> None:
    state = LaunchState(num_ps=2, num_workers=2, restarts_ps=True, keeps_checkpoints=True)
    state.ps_ready(NOW_S)
    assert RestartPs(PS_0) in exited(state, PS_0, -9)
    exited(state, WORKER_0)
    assert exited(state, WORKER_1) == [LaunchAction.SAVE]
    assert actions(state.ps_restarted(PS_0, NOW_S)) == []


def elastic(*, least: int | None = 1, restarts: int = 0) -> LaunchState:
    state = LaunchState(num_ps=1, num_workers=3, min_workers=least, worker_restarts=restarts)
    assert state.ps_ready(NOW_S) == [LaunchAction.START_WORKERS]
    return state


WORKER_2 = TaskId("worker", 2)


def test_workers_that_are_not_needed_are_let_go_and_are_no_failure() -> None:
    state = elastic()
    decisions = exited(state, WORKER_1, -signal.SIGKILL)
    assert actions(decisions) == []
    assert "worker:1 failed with signal SIGKILL; going on without it, with 2 of at least 1" in text(decisions)
    assert exited(state, WORKER_0) == []
    assert actions(exited(state, WORKER_2, 3)) == [LaunchAction.END_PS]  # one is done
    exited(state, PS_0)
    assert (state.is_over, state.exit_code) == (True, 0)


def test_when_fewer_are_left_than_are_needed_all_are_ended() -> None:
    state = elastic(least=2)
    assert actions(exited(state, WORKER_1, 4)) == []
    decisions = exited(state, WORKER_0, 5)
    assert actions(decisions) == [LaunchAction.END_WORKERS]
    assert "worker:0 failed with exit code 5; ending the others, only 1 of 2 are left" in text(decisions)
    assert actions(exited(state, WORKER_2, -signal.SIGTERM)) == [LaunchAction.END_PS]
    assert state.exit_code == 5


@pytest.mark.parametrize("least", [None, 1])
def test_a_worker_that_fails_is_started_again_as_often_as_asked(least: int | None) -> None:
    state = elastic(least=least, restarts=2)
    for number in (1, 2):
        decisions = exited(state, WORKER_1, 3)
        assert RestartWorker(WORKER_1) in decisions
        assert f"worker:1 failed with exit code 3; starting it again ({number} of 2)" in text(decisions)
    assert RestartWorker(WORKER_2) in exited(state, WORKER_2, 3)  # each is counted alone
    for task in (WORKER_0, WORKER_2):
        assert exited(state, task) == []
    decisions = exited(state, WORKER_1, 3)
    assert "starting it again" not in text(decisions)
    assert actions(decisions) == [LaunchAction.END_PS]
    assert state.exit_code == (3 if least is None else 0)


def test_a_worker_is_not_started_again_when_all_are_ended() -> None:
    state = elastic(restarts=2)
    state.interrupted(signal.SIGINT, NOW_S)
    assert not any(isinstance(each, RestartWorker) for each in exited(state, WORKER_1, -signal.SIGTERM))


@pytest.mark.parametrize(("least", "exit_code"), [(None, 1), (3, 1), (2, 0)])
def test_silent_workers_are_ended_when_the_others_are_done(least: int | None, exit_code: int) -> None:
    state = elastic(least=least)
    assert state.workers_silent([WORKER_2], NOW_S) == []
    exited(state, WORKER_0)
    assert state.workers_silent([WORKER_2], NOW_S) == []  # another one is at work
    exited(state, WORKER_1)
    assert state.workers_silent([], NOW_S) == []
    decisions = state.workers_silent([WORKER_2, WORKER_0], NOW_S)
    assert actions(decisions) == [LaunchAction.END_WORKERS]
    assert "worker:2 is silent beyond the lease, stopped or hanging, and the others are done" in text(decisions)
    assert state.workers_silent([WORKER_2], NOW_S) == []
    assert actions(exited(state, WORKER_2, -signal.SIGTERM)) == [LaunchAction.END_PS]
    assert state.exit_code == exit_code


def test_silent_workers_are_not_ended_as_long_as_nobody_is_done() -> None:
    state = elastic()
    exited(state, WORKER_0, 3)
    assert state.workers_silent([WORKER_1, WORKER_2], NOW_S) == []
