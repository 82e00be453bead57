"""Workers that wait for data: rounds do without them, and their run goes on."""

from __future__ import annotations

import pytest

from ps_protocol.errors import FailedPreconditionError
from ps_protocol.training.round_messages import Answer, HandIn, Rest
from ps_server.rounds import report
from tests.unit.ps_server.rounds.groups import Group


def rest(group: Group, worker: int) -> Answer:
    return group.tell(Rest(f"worker:{worker}", "a", group.now_s))


@pytest.mark.parametrize("policy", ["bsp", "ssp(2)", "sync(2)", "bsp(on_missing=wait)", "bsp(on_missing=fail)"])
def test_a_round_does_without_a_worker_that_waits_for_data_until_it_is_back(policy: str) -> None:
    group = Group(policy, joined=2)
    group.hand_in(0, 1)
    answer = rest(group, 1)
    assert (answer.committed, answer.base, answer.is_silent) == (1, None, True)
    assert [(each["status"], each["does"]) for each in report.rows(group.state)][1] == ("live", "waits for data")
    assert group.hand_in(0, 2).committed == 2
    assert group.back(1).base == 2
    group.hand_in(0, 3)
    assert group.state.committed == 2
    assert group.hand_in(1, 3).committed == 3


def test_a_run_goes_on_when_all_wait_for_data() -> None:
    group = Group("bsp(total=2)", joined=2)
    for worker in (0, 1):
        rest(group, worker)
    assert group.join(0).to_join == 0
    assert group.hand_in(0, 1).committed == 1
    assert group.join(2).seat == 2  # the seat of the one that waits is its own


@pytest.mark.parametrize("policy", ["bsp", "bsp(on_missing=wait)"])
def test_a_silent_worker_that_waits_for_data_is_there(policy: str) -> None:
    group = Group(policy, joined=2)
    group.silent(0)
    group.hand_in(1, 1)
    rest(group, 0)
    assert group.state.committed == 1


def test_a_round_that_waits_for_the_silent_alone_commits_for_who_waits_for_data() -> None:
    group = Group("ssp(2)", joined=3)
    group.hand_in(0, 1)
    group.hand_in(0, 2, 0)
    rest(group, 0)
    rest(group, 1)
    group.silent(2)
    assert group.state.committed == 2
    assert group.seats() == [(1, [0]), (2, [0])]


def test_a_worker_that_dies_while_it_waits_for_data_is_given_up_and_one_that_has_finished_stays_so() -> None:
    group = Group("bsp", joined=2)
    rest(group, 0)
    group.silent(0)
    assert [each["status"] for each in report.rows(group.state)] == ["gone", "live"]
    group.finish(1)
    rest(group, 1)
    assert [each["status"] for each in report.rows(group.state)] == ["gone", "finished"]
    with pytest.raises(FailedPreconditionError, match="has finished"):
        group.hand_in(1, 1)


def test_which_gradients_are_under_way_is_said_and_which_shards_a_round_completes() -> None:
    group = Group("bsp", joined=2)
    group.tell(HandIn("worker:0", "a", 1, 0, group.now_s, shards="shards/train"))
    assert report.under_way(group.state) == {"pending": [[1, 1]], "decided": []}
    (decision,) = group.hand_in(1, 1).decisions
    assert decision.shards == ("shards/train",)
    assert report.under_way(group.state) == {"pending": [], "decided": [[1, 1], [2, 1]]}
