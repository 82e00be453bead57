"""What each event does to a group, rule by rule."""

from __future__ import annotations

import pytest

from ps_protocol.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from ps_protocol.training.round_messages import (
    Finish,
    GivenUp,
    HandIn,
    Join,
    Look,
    Outcome,
    Part,
    Verdict,
)
from ps_protocol.training.sync_policy import MAX_WORKERS
from ps_server.rounds.report import rows, waiting_in_words
from ps_server.rounds.state import Member, Status
from tests.unit.ps_server.rounds.groups import Group

# -- rounds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["bsp", "ssp(0)", "local(4)", "ssp(2)"])
def test_a_round_is_one_gradient_of_each_worker(policy: str) -> None:
    group = Group(policy, joined=3)
    assert group.hand_in(2, 1).verdict is None
    assert group.hand_in(0, 1).verdict is None
    answer = group.hand_in(1, 1)
    assert answer.verdict is Verdict.APPLIED
    assert answer.decisions[0].parts == (Part(0, 1, 1), Part(1, 2, 1), Part(2, 3, 1)), "by seat, not as they came"
    assert [each.staleness for each in answer.outcomes] == [0]
    assert group.look(0).base == (1 if policy != "ssp(2)" else 0)


def test_a_worker_is_told_for_whom_it_waits_and_when_that_was_last_seen() -> None:
    group = Group("bsp", joined=2)
    group.now_s = 103.0
    assert group.hand_in(0, 1).base is None
    answer = group.look(0)
    assert waiting_in_words(answer, 105.5) == "worker:1 (last seen 5.5 s ago)"


def test_a_worker_may_be_as_many_rounds_ahead_as_the_bound_says() -> None:
    group = Group("ssp(2)", joined=2)
    assert [group.hand_in(0, number, 0).base for number in (1, 2, 3)] == [0, 0, None]
    answer = group.hand_in(1, 1, 0)
    assert (answer.committed, group.look(0).base, group.look(0).next_round) == (1, 1, 4)
    group.hand_in(1, 2, 0)
    answer = group.hand_in(1, 3, 1)
    assert [(each.staleness, each.publish_lag) for each in group.look(0).outcomes] == [(0, 0), (1, 1), (2, 2)]
    assert [(each.staleness, each.publish_lag) for each in answer.outcomes] == [(0, 0), (1, 0), (1, 0)]


def test_a_gradient_on_an_older_model_than_the_policy_allows_is_stale_and_its_round_waits_for_another() -> None:
    group = Group("bsp", joined=2)
    group.hand_in(0, 1)
    group.hand_in(1, 1)
    group.hand_in(0, 2)
    answer = group.hand_in(1, 2, computed_on=0)
    assert (answer.verdict, answer.committed, answer.base, answer.next_round) == (Verdict.STALE, 1, 1, 2)
    assert group.hand_in(1, 2).verdict is Verdict.APPLIED


@pytest.mark.parametrize("policy", ["bsp", "ssp(2)", "async", "async(max_staleness=4)"])
def test_a_gradient_on_a_model_that_nobody_knows_is_stale_and_counted(policy: str) -> None:
    group = Group(policy, joined=1)
    for number in (1, 2):
        group.hand_in(0, number)
    number = group.join(1).next_round
    answer = group.tell(HandIn("worker:1", "a", number, None, group.now_s))
    assert (answer.verdict, answer.committed, answer.base, answer.next_round) == (Verdict.STALE, 2, 2, number)
    assert answer.outcomes == (Outcome(number, Verdict.STALE),)
    assert (rows(group.state)[1]["stale"], group.state.pending) == (1, ())
    with pytest.raises(InvalidArgumentError, match="what it hands in next"):
        group.tell(HandIn("worker:1", "a", number + 1, None, group.now_s))
    group.hand_in(0, number)
    assert group.hand_in(1, number).verdict is Verdict.APPLIED


def test_what_became_of_the_newest_gradient_for_a_round_is_what_is_said_of_it() -> None:
    group = Group("ssp(2)", joined=2)
    for worker in (0, 1):
        for number in (1, 2, 3):
            group.hand_in(worker, number, number - 1 if worker else 0)
    assert group.hand_in(0, 4, computed_on=0).verdict is Verdict.STALE
    again = group.hand_in(0, 4, computed_on=3)
    assert (again.verdict, [each for each in again.outcomes if each.round == 4]) == (None, [])
    group.hand_in(1, 4)
    assert [each.verdict for each in group.look(0).outcomes if each.round == 4] == [Verdict.APPLIED]


def test_a_gradient_that_comes_again_counts_once() -> None:
    group = Group("bsp", joined=2)
    group.hand_in(0, 1)
    assert group.hand_in(0, 1).verdict is Verdict.DUPLICATE
    group.hand_in(1, 1)
    answer = group.hand_in(0, 1)
    assert (answer.verdict, answer.outcomes[0].verdict) == (Verdict.DUPLICATE, Verdict.APPLIED)
    assert (answer.committed, rows(group.state)[0]["duplicate"]) == (1, 2)


def test_backup_workers_are_late_and_go_on_with_the_newest_round() -> None:
    group = Group("sync(2, total=3)", joined=3)
    group.hand_in(2, 1)
    assert group.hand_in(0, 1).verdict is Verdict.APPLIED
    assert group.seats() == [(1, [0, 2])]
    group.hand_in(0, 2)
    group.hand_in(2, 2)
    answer = group.hand_in(1, 1)
    assert (answer.verdict, answer.next_round, answer.base) == (Verdict.LATE, 3, 2)
    assert answer.outcomes[-1].staleness == 2


def test_without_rounds_each_gradient_is_applied_at_once_and_its_staleness_measured() -> None:
    group = Group("async", joined=2)
    assert group.hand_in(0, 1).verdict is Verdict.APPLIED
    assert group.hand_in(0, 2).verdict is Verdict.APPLIED
    answer = group.hand_in(1, 1)
    assert (answer.verdict, answer.committed, answer.base, answer.next_round) == (Verdict.APPLIED, 3, 3, 4)
    outcome = answer.outcomes[0]
    assert (outcome.round, outcome.applied_in, outcome.staleness, outcome.publish_lag) == (1, 3, 2, 0)
    assert answer.decisions[-1].parts == (Part(1, 2, 1),)
    assert group.hand_in(1, 1).verdict is Verdict.DUPLICATE


def test_without_rounds_a_worker_computes_on_a_model_with_its_own_last_gradient() -> None:
    """Ps 0 keeps no more than one decision for each worker because of that."""
    group = Group("async", joined=2)
    group.hand_in(0, 1)
    group.hand_in(0, 2)
    answer = group.hand_in(0, 3, computed_on=1)
    assert (answer.verdict, answer.outcomes[-1].staleness, answer.committed) == (Verdict.STALE, 1, 2)


def test_with_a_budget_of_staleness_a_worker_waits_and_nothing_is_thrown_away() -> None:
    group = Group("async(max_staleness=1)", joined=2)
    assert group.hand_in(0, 1).verdict is Verdict.APPLIED
    answer = group.hand_in(0, 2)
    assert (answer.verdict, answer.base) == (None, None), "worker:1 would be 2 versions behind"
    assert [each.worker for each in group.look(0).awaited] == ["worker:1"]
    answer = group.hand_in(1, 1)
    assert (answer.verdict, answer.committed) == (Verdict.APPLIED, 3)
    [first], [second] = answer.outcomes, group.look(0).outcomes
    assert (first.staleness, first.publish_lag) == (1, 0)
    assert (second.applied_in, second.staleness, second.publish_lag) == (3, 1, 1)


def test_with_a_budget_the_oldest_model_comes_first() -> None:
    group = Group("async(max_staleness=2)", joined=3)
    assert group.hand_in(0, 1).base == 1
    assert group.hand_in(1, 1).base == 2
    assert group.hand_in(0, 2).verdict is None
    answer = group.hand_in(2, 1)
    assert [(each.applied_in, each.staleness) for each in answer.outcomes] == [(3, 2)]
    assert [(each.applied_in, each.staleness) for each in group.look(0).outcomes] == [(4, 2)]


def test_of_gradients_that_wait_for_the_budget_the_one_on_the_older_model_comes_first() -> None:
    group = Group("async(max_staleness=3)", joined=3)
    for number in (1, 2, 3):
        answer = group.hand_in(0, number)
    assert answer.verdict is None
    assert group.hand_in(1, 1).base == 3
    assert group.hand_in(1, 4).verdict is None
    group.hand_in(2, 1)
    assert [group.look(worker).outcomes[-1].applied_in for worker in (2, 0, 1)] == [4, 5, 6]


def test_with_a_budget_of_none_workers_take_turns() -> None:
    group = Group("async(max_staleness=0)", joined=3)
    order = []
    for number in range(1, 7):
        [worker] = [each for each in (0, 1, 2) if group.look(each).base is not None]
        order.append(worker)
        group.hand_in(worker, number)
    assert order == [0, 1, 2, 0, 1, 2]


def test_a_silent_worker_whose_gradient_would_break_the_budget_is_stale() -> None:
    group = Group("async(max_staleness=1)", joined=2)
    group.silent(1)
    for number in (1, 2):
        group.hand_in(0, number)
    assert group.hand_in(1, 1, computed_on=0).verdict is Verdict.STALE


# -- coming and going ---------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["bsp", "ssp(1)", "sync(3)"])
def test_rounds_go_on_at_once_without_a_worker_that_is_silent_or_finishes(policy: str) -> None:
    group = Group(policy, joined=3)
    group.hand_in(0, 1)
    group.silent(1)
    assert group.finish(2).committed == 1
    assert group.seats() == [(1, [0])]
    assert group.hand_in(0, 2).verdict is Verdict.APPLIED


@pytest.mark.parametrize("policy", ["bsp", "sync(2)"])
def test_what_a_worker_has_handed_in_before_it_is_silent_counts_with_that_of_the_others(policy: str) -> None:
    group = Group(policy, joined=2)
    group.hand_in(0, 1)
    group.silent(0)
    group.hand_in(1, 1)
    assert group.seats() == [(1, [0, 1])]


def test_a_worker_that_wakes_is_late_and_is_counted_again() -> None:
    group = Group("bsp", joined=2)
    group.hand_in(0, 1)
    group.silent(1)
    assert group.look(1).is_silent
    group.hand_in(0, 2)
    answer = group.hand_in(1, 1)
    assert (answer.verdict, answer.is_silent, answer.next_round, answer.base) == (Verdict.LATE, False, 3, 2)
    assert group.hand_in(0, 3).verdict is None, "it waits for worker:1 again"
    assert group.hand_in(1, 3).verdict is Verdict.APPLIED


def test_a_worker_that_wakes_in_time_is_not_late() -> None:
    group = Group("bsp", joined=2)
    group.silent(1)
    assert group.back(1).base == 0
    group.hand_in(0, 1)
    assert group.hand_in(1, 1).verdict is Verdict.APPLIED


def test_the_group_rests_when_all_are_silent() -> None:
    group = Group("bsp", joined=2)
    group.hand_in(0, 1)
    group.silent(0)
    assert group.silent(1).committed == 0
    assert rows(group.state)[1]["does"] == "rests"
    assert [each.worker for each in group.look(0).awaited] == ["worker:1"]
    assert group.back(1).committed == 0, "it hands in for the round that it was in"
    assert group.hand_in(1, 1).verdict is Verdict.APPLIED
    assert group.seats() == [(1, [0, 1])]


def test_what_is_pending_commits_when_all_others_have_finished() -> None:
    group = Group("bsp", joined=2)
    group.hand_in(0, 1)
    group.finish(0)
    assert group.finish(1).committed == 1
    assert group.finish(1).committed == 1, "nothing commits from nothing"


def test_a_late_joiner_enters_at_the_next_round() -> None:
    group = Group("bsp", joined=1)
    group.hand_in(0, 1)
    group.hand_in(0, 2)
    answer = group.join(1)
    assert (answer.next_round, answer.base, answer.committed, answer.seat) == (3, 2, 2, 1)
    assert group.hand_in(0, 3).verdict is None
    assert group.hand_in(1, 3).verdict is Verdict.APPLIED


def test_the_first_round_waits_until_as_many_have_joined_as_were_asked_for() -> None:
    for policy in ("bsp(total=2)", "sync(2)"):
        group = Group(policy, joined=1)
        assert group.hand_in(0, 1).verdict is None
        answer = group.look(0)
        assert answer.to_join == 1
        assert waiting_in_words(answer, 0.0) == "1 more worker to join before the first round"
        group.join(1)
        assert group.hand_in(1, 1).verdict is Verdict.APPLIED


def test_a_worker_that_is_restarted_before_the_first_round_has_joined_once() -> None:
    group = Group("bsp(total=2)", joined=1)
    assert group.join(0, "b").to_join == 1


def test_a_run_begins_when_all_have_finished() -> None:
    group = Group("sync(2)", joined=2)
    group.hand_in(0, 1)
    group.hand_in(1, 1)
    group.finish(0)
    group.finish(1)
    answer = group.join(0, "b")
    assert (answer.since, answer.to_join, answer.next_round) == (1, 1, 2)
    group.silent(0, "b")
    assert group.join(0, "c").since == 1, "the same run: nobody has finished in it"


def test_a_restarted_worker_takes_its_seat_and_the_earlier_process_is_refused() -> None:
    group = Group("bsp", joined=2)
    group.hand_in(1, 1)
    answer = group.join(1, "b")
    assert (answer.seat, answer.ticket, answer.next_round) == (1, 3, 2), "its gradient for round 1 is there"
    for event in (HandIn("worker:1", "a", 2, 0), Finish("worker:1", "a"), Look("worker:1", "a")):
        with pytest.raises(FailedPreconditionError, match="worker:1 is the process b now; the process a"):
            group.tell(event)
    with pytest.raises(FailedPreconditionError, match="should end"):
        group.join(1, "a")
    before = group.state
    group.silent(1, "a")
    assert group.state is before, "news of the earlier process"
    group.hand_in(0, 1)
    assert group.state.committed == 1
    assert group.state.decisions[-1].parts[1] == Part(1, 2, 1)


def test_who_asks_twice_to_join_changes_nothing() -> None:
    group = Group("bsp", joined=1)
    before = group.state
    assert group.join(0).ticket == 1
    assert group.state is before
    group.finish(0)
    assert group.join(0).ticket == 2, "it has finished, and comes again"


def test_seats_of_workers_that_have_finished_are_taken_again() -> None:
    group = Group("bsp", joined=3)
    group.hand_in(0, 1)
    group.finish(0)
    group.finish(1)
    assert group.join(7).seat == 1, "seat 0 has a gradient that waits"
    assert [each.worker for each in group.state.members] == ["worker:0", "worker:7", "worker:2"]


def test_a_group_has_no_more_workers_than_it_may() -> None:
    members = [Member(f"worker:{seat}", "a", seat, seat + 1) for seat in range(MAX_WORKERS)]
    group = Group("bsp", joined=1)
    group.state = group.state._replace(members=tuple(members), tickets=MAX_WORKERS)
    with pytest.raises(ResourceExhaustedError, match=f"the group has {MAX_WORKERS} workers"):
        group.join(MAX_WORKERS)


# -- those who are missing ----------------------------------------------------------------------


def test_rounds_wait_for_a_silent_worker_if_asked_to() -> None:
    group = Group("bsp(on_missing=wait)", joined=2)
    group.silent(1)
    assert group.hand_in(0, 1).verdict is None
    answer = group.look(0)
    assert answer.awaited[0].is_silent
    assert waiting_in_words(answer, 160.0) == "worker:1 (silent, last seen 60.0 s ago)"
    assert group.hand_in(1, 1).verdict is Verdict.APPLIED


def test_a_group_that_waited_too_long_stops_and_says_for_whom_and_can_be_joined_again() -> None:
    group = Group("bsp(on_missing=wait, missing_timeout_s=30)", joined=2)
    group.hand_in(0, 1)
    group.silent(1)
    group.tell(GivenUp("worker:1", 142.0))
    for event in (Look("worker:0", "a"), HandIn("worker:0", "a", 1, 0), HandIn("worker:1", "a", 1, 0)):
        with pytest.raises(FailedPreconditionError) as caught:
            group.tell(event)
        assert "training stopped after round 0: worker:1 (last seen 42.0 s before) is missing" in caught.value.message
        assert "on_missing=wait ended after 30 s. Join again" in caught.value.message
    assert group.join(0, "b").next_round == 1
    assert group.hand_in(0, 1, incarnation="b").verdict is Verdict.APPLIED


def test_a_group_stops_at_once_if_asked_to() -> None:
    group = Group("bsp(on_missing=fail)", joined=2)
    group.silent(1)
    with pytest.raises(FailedPreconditionError, match=r"worker:1 .* is missing, and on_missing=fail"):
        group.look(0)


@pytest.mark.parametrize("on_missing", ["wait", "fail"])
def test_a_backup_that_is_silent_is_not_missing(on_missing: str) -> None:
    group = Group(f"sync(2, total=3, on_missing={on_missing})", joined=3)
    group.silent(2)
    group.hand_in(0, 1)
    assert group.hand_in(1, 1).verdict is Verdict.APPLIED
    group.finish(0)
    assert group.hand_in(1, 2).verdict is Verdict.APPLIED, "the others end as if there was no backup"


def test_a_silent_worker_that_is_given_up_leaves_its_seat() -> None:
    group = Group("bsp", joined=2)
    group.silent(1)
    group.tell(GivenUp("worker:1", 200.0))
    assert group.state.members[1].status is Status.GONE
    assert group.back(1).base == 0, "nobody has taken it"
    group.silent(1)
    group.tell(GivenUp("worker:1", 300.0))
    assert group.join(5).seat == 1
    with pytest.raises(NotFoundError, match="worker:1 has not joined this group"):
        group.hand_in(1, 1)


def test_workers_that_never_come_are_given_up() -> None:
    group = Group("sync(3)", joined=2)
    group.tell(GivenUp(now_s=160.0))
    with pytest.raises(FailedPreconditionError) as caught:
        group.look(0)
    assert "sync(3) needs 3 workers for its first round, and only 2 came within 60 s" in caught.value.message
    assert "worker:0, worker:1" in caught.value.message
    there = Group("bsp", joined=1)
    before = there.state
    there.tell(GivenUp(now_s=160.0))
    assert there.state is before


# -- what is refused ----------------------------------------------------------------------------


def test_two_policies_in_one_group_are_refused_with_both() -> None:
    group = Group("bsp", joined=2)
    with pytest.raises(FailedPreconditionError) as caught:
        group.join(2, policy="ssp(3)")
    assert caught.value.message == (
        "worker:2 asks for ssp(3), the group has bsp since worker:0 joined. Give all workers of a group the same "
        "sync=, or this optimizer another name; worker:0, worker:1 still train that way"
    )
    assert group.join(2, policy="ssp(0)").policy == "bsp"


def test_other_variables_are_refused_with_both_sides() -> None:
    group = Group("bsp", joined=1)
    with pytest.raises(FailedPreconditionError) as caught:
        group.join(1, variables=3)
    assert "worker:1 trains 3 variables on 2 ps tasks (digest d), the group trains 2 variables" in caught.value.message
    assert "since worker:0 joined" in caught.value.message


def test_another_policy_begins_when_nobody_trains_any_more() -> None:
    group = Group("bsp", joined=2)
    group.hand_in(0, 1)
    group.hand_in(1, 1)
    group.finish(0)
    group.silent(1)
    answer = group.join(2, policy="ssp(1)")
    assert (answer.policy, answer.since, answer.next_round, answer.seat) == ("ssp(1)", 1, 2, 0)
    assert [each.round for each in answer.decisions] == [1], "a ps may not have carried it out yet"
    assert group.hand_in(2, 2, computed_on=0).verdict is Verdict.STALE, "as if that ps had not"
    with pytest.raises(FailedPreconditionError, match=r"worker:2 has started this group again, with ssp\(1\)"):
        group.look(1)


def test_more_workers_than_the_cluster_has_are_refused() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Group("sync(4)").join(0, workers=3)
    assert "whose rounds need 4 workers; its cluster spec has 3, and so no backups" in caught.value.message


@pytest.mark.parametrize(
    ("number", "computed_on", "said"),
    [(3, 0, "next is for round 1"), (1, 1, "the models are those from 0 to 0"), (0, 0, "for round 0"), (1, -1, "-1")],
)
@pytest.mark.parametrize("policy", ["bsp", "async"])
def test_rounds_and_models_that_there_are_not_are_refused(
    policy: str, number: int, computed_on: int, said: str
) -> None:
    group = Group(policy, joined=1)
    before = group.state
    with pytest.raises(InvalidArgumentError, match=said):
        group.hand_in(0, number, computed_on)
    assert group.state is before


def test_who_has_not_joined_or_has_finished_is_refused() -> None:
    group = Group("bsp", joined=1)
    with pytest.raises(NotFoundError, match="it must join first"):
        group.hand_in(1, 1)
    group.finish(0)
    with pytest.raises(FailedPreconditionError, match="worker:0 has finished, and hands in for round 1"):
        group.hand_in(0, 1)
    for worker, incarnation in (("", "a"), ("worker:1", ""), ("w" * 256, "a")):
        with pytest.raises(InvalidArgumentError, match="characters"):
            group.tell(Join(worker, incarnation, "bsp"))
