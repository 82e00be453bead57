from __future__ import annotations

from uuid import UUID

import pytest

from ps_protocol.errors import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from ps_protocol.service_types import Member, MemberState, listed_incarnation
from ps_server.cluster.membership import Membership

FIRST, SECOND = UUID(int=1), UUID(int=2)
LISTED_FIRST, LISTED_SECOND = listed_incarnation(FIRST), listed_incarnation(SECOND)


def only(members: Membership) -> Member:
    (member,) = members.list_members()
    return member


def test_a_task_joins() -> None:
    members = Membership()
    members.join("worker:1", FIRST, "host", 42, 10.0)
    assert only(members) == Member("worker:1", LISTED_FIRST, "host", 42, MemberState.ACTIVE, 10.0, 10.0, 0)


def test_members_are_listed_by_job_and_number() -> None:
    members = Membership()
    for task in ("worker:10", "worker:2", "ps:1"):
        members.join(task, FIRST, "host", 1, 0.0)
    assert [each.task for each in members.list_members()] == ["ps:1", "worker:2", "worker:10"]


def test_of_several_reports_the_last_one_counts() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 0.0)
    members.heartbeat("worker:0", FIRST, 1.0, step=7)
    members.heartbeat("worker:0", FIRST, 2.0, step=5)
    assert (only(members).step, only(members).last_seen_s, only(members).joined_at_s) == (5, 2.0, 0.0)


def test_joining_again_keeps_the_progress() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 0.0)
    members.heartbeat("worker:0", FIRST, 1.0, step=7)
    members.leave("worker:0", FIRST, 2.0)
    members.join("worker:0", FIRST, "other", 2, 3.0)
    assert only(members) == Member("worker:0", LISTED_FIRST, "other", 2, MemberState.ACTIVE, 0.0, 3.0, 7)


def test_a_new_incarnation_takes_the_place_of_the_old() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 0.0)
    members.heartbeat("worker:0", FIRST, 1.0, step=7)
    members.join("worker:0", SECOND, "other", 2, 5.0)
    assert only(members) == Member("worker:0", LISTED_SECOND, "other", 2, MemberState.ACTIVE, 5.0, 5.0, 0)
    members.leave("worker:0", FIRST, 6.0)
    assert only(members).state is MemberState.ACTIVE
    with pytest.raises(AbortedError, match=r"another process \(pid 2 on other\) has joined as worker:0") as aborted:
        members.heartbeat("worker:0", FIRST, 7.0, step=8)
    assert not aborted.value.retryable
    assert only(members).step == 0


def test_another_connection_of_the_same_process_is_named_as_that() -> None:
    members = Membership()
    for incarnation in (FIRST, SECOND, UUID(int=3)):
        members.join("worker:0", incarnation, "host", 1, 0.0)
    for older in (FIRST, SECOND):
        with pytest.raises(AbortedError, match=r"another connection of this process .*worker:0.*close this older one"):
            members.heartbeat("worker:0", older, 1.0)


def test_a_task_leaves() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 0.0)
    members.leave("worker:0", FIRST, 3.0)
    assert (only(members).state, only(members).last_seen_s) == (MemberState.LEFT, 3.0)


def test_a_report_that_comes_after_leaving_is_ignored() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 0.0)
    members.leave("worker:0", FIRST, 3.0)
    members.heartbeat("worker:0", FIRST, 4.0, step=8)
    assert (only(members).state, only(members).step, only(members).last_seen_s) == (MemberState.LEFT, 0, 3.0)


def test_who_has_not_joined_can_leave_but_not_report() -> None:
    members = Membership()
    members.leave("worker:0", FIRST, 0.0)
    with pytest.raises(FailedPreconditionError, match="worker:0 has not joined"):
        members.heartbeat("worker:0", FIRST, 0.0, step=1)
    assert members.list_members() == []


@pytest.mark.parametrize("task", ["", "worker", "worker:", "worker:-1", "worker:x", ":1"])
def test_a_task_is_a_job_and_a_number(task: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is not a task"):
        Membership().join(task, FIRST, "host", 1, 0.0)


def test_a_host_name_is_bounded() -> None:
    with pytest.raises(InvalidArgumentError, match="host"):
        Membership().join("worker:0", FIRST, "h" * 256, 1, 0.0)


def test_members_are_bounded_and_those_gone_longest_make_room() -> None:
    members = Membership(max_members=3)
    for index in range(3):
        members.join(f"worker:{index}", FIRST, "host", 1, float(index))
        members.heartbeat(f"worker:{index}", FIRST, float(index))
    with pytest.raises(ResourceExhaustedError, match="3 tasks have joined"):
        members.join("worker:3", FIRST, "host", 1, 9.0)
    members.join("worker:1", SECOND, "host", 1, 9.0)
    members.leave("worker:2", FIRST, 10.0)
    members.leave("worker:1", SECOND, 11.0)
    members.join("worker:3", FIRST, "host", 1, 12.0)
    assert [each.task for each in members.list_members()] == ["worker:0", "worker:1", "worker:3"]


def test_those_that_were_never_heard_of_again_make_room_at_once() -> None:
    members = Membership(max_members=3)
    members.join("worker:0", FIRST, "host", 1, 0.0)
    members.heartbeat("worker:0", FIRST, 1.0)
    for index in range(1, 50):
        members.join(f"worker:{index}", FIRST, "host", 1, float(index))
    assert [each.task for each in members.list_members()] == ["worker:0", "worker:48", "worker:49"]


# -- leases ---------------------------------------------------------------------------------------

LEASE_S = 9.0


def leased(task: str = "worker:0", *, clock_s: float = 0.0, incarnation: UUID = FIRST) -> Membership:
    members = Membership()
    members.join(task, incarnation, "host", 1, 1000.0, clock_s=clock_s, lease_s=LEASE_S)
    return members


def state_at(members: Membership, clock_s: float) -> MemberState:
    (member,) = members.list_members(clock_s)
    return member.state


def test_a_member_that_keeps_silent_is_late_and_then_dead() -> None:
    members = leased()
    assert [state_at(members, at) for at in (0, 6, 7, 9, 10)] == [
        MemberState.ACTIVE,
        MemberState.ACTIVE,
        MemberState.LATE,
        MemberState.LATE,
        MemberState.DEAD,
    ]


def test_a_heartbeat_renews_the_lease_and_keeps_the_progress() -> None:
    members = leased()
    members.heartbeat("worker:0", FIRST, 1005.0, clock_s=5.0, step=7)
    members.heartbeat("worker:0", FIRST, 1010.0, clock_s=10.0)
    assert state_at(members, 19.0) is MemberState.LATE
    (member,) = members.list_members(10.0)
    assert (member.step, member.last_seen_s, member.joined_at_s, member.lease_s) == (7, 1010.0, 1000.0, LEASE_S)


def test_progress_renews_the_lease_too() -> None:
    members = leased()
    members.heartbeat("worker:0", FIRST, 1008.0, clock_s=8.0, step=3)
    assert state_at(members, 10.0) is MemberState.ACTIVE


def test_leases_are_judged_by_their_own_clock() -> None:
    members = leased()
    members.heartbeat("worker:0", FIRST, 999_999.0, clock_s=1.0)  # somebody has set the clock
    members.heartbeat("worker:0", FIRST, 5.0, clock_s=2.0)
    assert state_at(members, 3.0) is MemberState.ACTIVE
    assert members.changes(3.0) == []


def test_a_death_is_told_once_and_a_return_once() -> None:
    members = leased()
    assert members.changes(9.0) == []
    (dead,) = members.changes(10.0)
    assert (dead.member.task, dead.member.state, dead.silent_s) == ("worker:0", MemberState.DEAD, 10.0)
    assert members.changes(11.0) == []
    members.heartbeat("worker:0", FIRST, 1012.0, clock_s=12.0)
    (back,) = members.changes(12.0)
    assert (back.member.task, back.member.state) == ("worker:0", MemberState.ACTIVE)
    assert members.changes(13.0) == []


def test_a_new_incarnation_of_a_dead_task_is_its_return() -> None:
    members = leased()
    members.changes(10.0)
    members.join("worker:0", SECOND, "other", 2, 1011.0, clock_s=11.0, lease_s=LEASE_S)
    assert [change.member.incarnation for change in members.changes(11.0)] == [SECOND]
    with pytest.raises(AbortedError, match="another process"):
        members.heartbeat("worker:0", FIRST, 1012.0, clock_s=12.0)


def test_one_that_has_left_does_not_die() -> None:
    members = leased()
    members.leave("worker:0", FIRST, 1001.0)
    members.heartbeat("worker:0", FIRST, 1002.0, clock_s=2.0)  # it was on its way
    assert state_at(members, 100.0) is MemberState.LEFT
    assert members.changes(100.0) == []


def test_a_heartbeat_of_somebody_unknown_asks_it_to_join() -> None:
    with pytest.raises(FailedPreconditionError, match="has not joined"):
        Membership().heartbeat("worker:0", FIRST, 0.0)


def test_one_that_joins_again_after_the_list_was_lost_keeps_its_age() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 1000.0, lease_s=LEASE_S, age_s=400.0)
    assert only(members).joined_at_s == 600.0


def test_the_dead_make_room() -> None:
    members = Membership(max_members=2)
    members.join("worker:0", FIRST, "host", 1, 0.0, lease_s=LEASE_S)
    members.join("worker:1", FIRST, "host", 1, 5.0)
    for index in range(2):
        members.heartbeat(f"worker:{index}", FIRST, 5.0 * index)
    with pytest.raises(ResourceExhaustedError):
        members.join("worker:2", FIRST, "host", 1, 5.0)
    members.join("worker:2", FIRST, "host", 1, 20.0)
    assert [each.task for each in members.list_members()] == ["worker:1", "worker:2"]


def test_a_lease_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="lease"):
        Membership().join("worker:0", FIRST, "host", 1, 0.0, lease_s=float("inf"))


# -- one process for each task ------------------------------------------------------------------


def claims(members: Membership, clock_s: float, incarnation: UUID = SECOND) -> None:
    """Another process would be worker:0, if that is free."""
    members.join("worker:0", incarnation, "other", 2, clock_s, lease_s=LEASE_S, if_free=True)


def test_a_second_process_waits_until_it_is_known_whether_the_first_lives() -> None:
    members = leased()
    for clock_s in (1.0, 1.25):
        with pytest.raises(AbortedError, match="worker:0 is the process 1 on host, last heard of 1") as waiting:
            claims(members, clock_s)
        assert waiting.value.retryable
        assert waiting.value.retry_after_s > 0
    members.heartbeat("worker:0", FIRST, 1.5)
    with pytest.raises(AlreadyExistsError, match=r"worker:0 is the process 1 on host, which lives.*replace=True"):
        claims(members, 1.75)
    assert only(members).incarnation == LISTED_FIRST
    with pytest.raises(AbortedError):  # a third one has to wait anew
        claims(members, 2.0, UUID(int=3))


def test_it_gets_the_place_of_one_whose_lease_is_over() -> None:
    members = leased()
    with pytest.raises(AbortedError):
        claims(members, LEASE_S)
    claims(members, LEASE_S + 0.5)
    assert only(members).incarnation == LISTED_SECOND


def test_it_gets_the_place_of_one_that_has_left_or_lost_its_connection() -> None:
    left, lost = leased(), leased()
    left.leave("worker:0", FIRST, 1.0)
    lost.connection_lost(FIRST)
    for members in (left, lost):
        claims(members, 1.0)
        assert only(members).incarnation == LISTED_SECOND


def test_one_that_was_heard_of_since_it_lost_its_connection_keeps_its_place() -> None:
    members = leased()
    members.connection_lost(FIRST)
    members.connection_lost(SECOND)  # who is no member
    members.heartbeat("worker:0", FIRST, 1.0)
    with pytest.raises(AbortedError):
        claims(members, 1.25)


def test_a_process_takes_its_own_place_and_one_that_insists_any() -> None:
    members = leased()
    members.join("worker:0", SECOND, "host", 1, 1.0, lease_s=LEASE_S, if_free=True)
    members.join("worker:0", FIRST, "other", 2, 2.0, lease_s=LEASE_S)
    assert only(members).incarnation == LISTED_FIRST


def test_one_without_a_lease_is_never_known_to_be_dead() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 0.0)
    with pytest.raises(AlreadyExistsError, match="has no lease"):
        claims(members, 1e6)


def test_of_two_that_join_again_after_the_list_was_lost_the_later_one_counts() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 1000.0, clock_s=0.0, lease_s=LEASE_S, if_free=True, age_s=400.0)
    members.join("worker:0", SECOND, "other", 2, 1001.0, clock_s=1.0, lease_s=LEASE_S, if_free=True, age_s=100.0)
    with pytest.raises(AbortedError):
        members.join("worker:0", FIRST, "host", 1, 1002.0, clock_s=2.0, lease_s=LEASE_S, if_free=True, age_s=402.0)
    assert only(members).incarnation == LISTED_SECOND


def test_members_that_were_started_with_other_clusters_are_told_of_each_other() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 0.0, lease_s=LEASE_S, job_sizes={"worker": 2, "chief": 1})
    assert members.heartbeat("worker:0", FIRST, 1.0) is None
    told = members.join("worker:2", SECOND, "other", 2, 2.0, lease_s=LEASE_S, job_sizes={"worker": 3})
    assert told == (
        "worker:0 (pid 1 on host) was started in a cluster with 2 tasks of the job 'worker', worker:2 in one with 3; "
        "give all the same cluster spec"
    )
    assert (members.heartbeat("worker:0", FIRST, 3.0) or "").startswith("worker:2 (pid 2 on other)")
    agrees = members.join("worker:1", UUID(int=3), "third", 3, 100.0, lease_s=LEASE_S, job_sizes={"worker": 7})
    assert agrees is None  # with those that are dead nobody has to agree


def test_a_cluster_spec_with_countless_jobs_is_refused() -> None:
    for sizes in ({f"job{index}": 1 for index in range(65)}, {"j" * 256: 1}):
        with pytest.raises(InvalidArgumentError, match="jobs"):
            Membership().join("worker:0", FIRST, "host", 1, 0.0, job_sizes=sizes)


def test_one_whose_end_is_told_is_dead_at_once_and_stays_so() -> None:
    members = leased()
    members.leave("worker:0", FIRST, 1.0)
    members.leave("worker:0", FIRST, 2.0, end="exit code 1")  # by who has started it, and knows better
    members.heartbeat("worker:0", FIRST, 3.0)
    assert (only(members).state, only(members).end) == (MemberState.DEAD, "exit code 1")
    assert members.changes(100.0) == [], "whoever says so tells it too"
    members.leave("worker:0", SECOND, 4.0, end="signal SIGKILL")  # not the newest
    assert only(members).end == "exit code 1"
    members.join("worker:0", SECOND, "host", 3, 5.0, lease_s=LEASE_S, if_free=True)
    assert (only(members).state, only(members).end) == (MemberState.ACTIVE, "")


def test_a_long_end_is_cut() -> None:
    members = leased()
    members.leave("worker:0", FIRST, 1.0, end="x" * 1000)
    assert only(members).end == "x" * 255


def test_what_is_listed_tells_nobody_under_what_a_task_numbers_its_updates() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 0.0)
    listed = only(members).incarnation
    assert listed not in (FIRST, SECOND)
    assert only(members).incarnation == listed
    with pytest.raises(AbortedError):
        members.heartbeat("worker:0", listed, 1.0)


def test_who_has_started_a_process_ends_it_by_what_is_listed() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 0.0)
    members.leave("worker:0", LISTED_SECOND, 1.0, end="signal SIGKILL")
    assert only(members).state is MemberState.ACTIVE
    members.leave("worker:0", LISTED_FIRST, 1.0, end="signal SIGKILL")
    assert (only(members).state, only(members).end) == (MemberState.DEAD, "signal SIGKILL")
