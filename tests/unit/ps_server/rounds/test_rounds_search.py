"""Every order of workers and faults: nobody waits for ever, and what commits does so once, on every ps."""

from __future__ import annotations

from typing import Any

import pytest

from ps_protocol.errors import AbortedError
from ps_protocol.training.round_messages import Decision
from ps_server.rounds import group, quorum, staging
from ps_server.rounds.state import GroupState, Member, Pending, Status
from tests.unit.ps_server.rounds.rounds_search import Search
from tests.unit.ps_server.rounds.rounds_world import BrokenPromiseError, World

POLICIES = (
    "bsp",
    "sync(2)",
    "local(4)",
    "async(max_staleness=0)",
    "bsp(on_missing=wait)",
    "bsp(on_missing=fail)",
    "sync(2, on_missing=wait)",
    "sync(2, on_missing=fail)",
)
WITH_WORKERS_AHEAD = ("ssp(1)", "async", "async(max_staleness=1)")
"""For three workers of these see ``tests/property/test_rounds.py``, since there are many more orders."""


@pytest.mark.parametrize("policy", [*POLICIES, *WITH_WORKERS_AHEAD])
def test_two_workers_survive_every_fault_with_two_ps_tasks(policy: str) -> None:
    search = Search(World(policy, 2), max_faults=1)
    search.explore()
    for label in (
        *("0 dies", "0 is silent for a lease", "0 has no more data", "0: hand_in, the answer is lost"),
        *("0 dies, and its gradient for 1 is late", "the lease of 0 runs out"),
        "the late gradient of 0 reaches 1",
    ):
        assert search.seen[label], label


@pytest.mark.parametrize("policy", ["bsp", "sync(2)"])
def test_two_workers_survive_every_two_faults_with_two_ps_tasks(policy: str) -> None:
    """With two faults a worker is started again while a gradient of its earlier process is on its way."""
    search = Search(World(policy, 2), max_faults=2)
    search.explore()
    assert search.seen["0 is started again"]
    assert search.seen["the lease of the earlier process of 0 runs out"]


@pytest.mark.parametrize("policy", POLICIES)
def test_three_workers_in_every_order_with_two_ps_tasks(policy: str) -> None:
    Search(World(policy, 3), max_faults=0).explore()


@pytest.mark.parametrize("policy", [*POLICIES, "bsp(total=3)", "sync(3)"])
def test_three_workers_survive_every_fault_at_the_group(policy: str) -> None:
    """Two have joined; the third one comes at any time."""
    search = Search(World(policy, 3, joined=2, has_ps=False), max_faults=1)
    search.explore()
    assert search.seen["2: join"]


# -- rules that are broken on purpose are found ---------------------------------------------------


def _breaks(policy: str, *, workers: int = 2, faults: int = 2) -> None:
    with pytest.raises(BrokenPromiseError):
        Search(World(policy, workers), faults).explore()


def test_a_round_that_does_not_wait_for_everybody_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quorum, "_round_parts", lambda state: [each for each in state.pending if each.round == 1])
    _breaks("bsp", faults=0)


def test_a_round_that_waits_for_the_dead_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quorum, "counted", lambda state: list(state.members))
    _breaks("bsp", faults=1)


def test_a_quorum_of_more_than_there_are_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def parts(state: GroupState) -> list[Pending]:
        there = [each for each in state.pending if each.round == state.committed + 1]
        return there if len(there) >= (state.sync.replicas_to_aggregate or 0) else []

    monkeypatch.setattr(quorum, "_round_parts", parts)
    _breaks("sync(2)", faults=1)


def test_a_worker_that_is_let_too_far_ahead_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quorum, "_may_start", lambda _state, _member: True)
    monkeypatch.setattr(group, "oldest_model", lambda _state, _round: 0)
    _breaks("bsp", faults=0)


def test_a_budget_that_only_looks_at_whoever_hands_in_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quorum, "_keeps_budget", lambda _state, _committed, _models: True)
    _breaks("async(max_staleness=0)", faults=0)


def test_a_gradient_that_is_taken_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = group._judged

    def forgets(state: GroupState, member: Member, event: Any) -> Any:
        return judged(state, member._replace(handed=0), event)

    monkeypatch.setattr(group, "_judged", forgets)
    _breaks("bsp", faults=1)


def test_decisions_that_are_forgotten_too_early_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    committed = quorum._committed

    def forgets(state: GroupState, parts: Any) -> GroupState:
        return committed(state, parts)._replace(decisions=())

    monkeypatch.setattr(quorum, "_committed", forgets)
    _breaks("bsp", faults=0)


def test_a_slot_that_is_overwritten_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ps that does not ask for the decisions first; and a worker that does not bring them with what it stages."""
    staged = staging.staged

    def takes_all(state: staging.Staging, part: Any, *, since: int, slots: int) -> staging.Staging:
        return staged(state._replace(ended=99), part, since=since, slots=slots)._replace(ended=state.ended)

    monkeypatch.setattr(staging, "staged", takes_all)
    monkeypatch.setattr(World, "_bring", lambda _self, state, _ps, _answer: state)
    _breaks("bsp", faults=0)


def test_a_late_gradient_of_an_earlier_process_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    staged = staging.staged

    def takes_older(state: staging.Staging, part: Any, *, since: int, slots: int) -> staging.Staging:
        others = [each for each in state.slots if each.seat != part.seat]
        return staged(state._replace(slots=tuple(others)), part, since=since, slots=slots)

    monkeypatch.setattr(staging, "staged", takes_older)
    _breaks("bsp")


def test_a_silent_worker_that_may_not_come_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "_awake", lambda state, _event: state)
    _breaks("bsp", faults=1)


def test_workers_that_are_not_told_to_go_on_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_the_first(state: GroupState) -> GroupState:
        first = state.members[0]
        return state.with_member(first._replace(base=state.committed)) if first.status is Status.LIVE else state

    monkeypatch.setattr(quorum, "_started", only_the_first)
    _breaks("bsp", faults=1)


def test_a_ps_that_skips_rounds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, committed = staging.begun, quorum._committed

    def skips(state: staging.Staging, decision: Decision) -> staging.Staging | None:
        try:
            return begun(state, decision)
        except AbortedError:
            return state._replace(begun=decision.round)

    def keeps_the_newest(state: GroupState, parts: Any) -> GroupState:
        after = committed(state, parts)
        return after._replace(decisions=after.decisions[-1:])

    monkeypatch.setattr(staging, "begun", skips)
    monkeypatch.setattr(quorum, "_committed", keeps_the_newest)
    _breaks("ssp(1)", faults=1)


def test_a_round_that_commits_from_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    settled = quorum.settled

    def commits(state: GroupState) -> GroupState:
        after = settled(state)
        return after if after.members and after.members[0].base is not None else quorum._committed(after, ())

    monkeypatch.setattr(group, "settled", commits)
    _breaks("bsp", faults=0)


def test_a_restarted_worker_that_hands_in_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new process that does not know what the earlier one has handed in."""
    seated = group._seated

    def forgets(state: GroupState, event: Any, known: Member | None) -> GroupState:
        after = seated(state, event, known)
        member = after.member(event.worker)
        assert member is not None
        return after.with_member(member._replace(handed=0))

    monkeypatch.setattr(group, "_seated", forgets)
    _breaks("bsp")
