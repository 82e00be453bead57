from __future__ import annotations

from uuid import UUID

import pytest

from ps_protocol.errors import AbortedError, FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError
from ps_protocol.ps_service import Member, MemberState
from ps_server.membership import Membership

FIRST, SECOND = UUID(int=1), UUID(int=2)


def only(members: Membership) -> Member:
    (member,) = members.list_members()
    return member


def test_a_task_joins() -> None:
    members = Membership()
    members.join("worker:1", FIRST, "host", 42, 10.0)
    assert only(members) == Member("worker:1", FIRST, "host", 42, MemberState.ACTIVE, 10.0, 10.0, 0)


def test_members_are_listed_by_job_and_number() -> None:
    members = Membership()
    for task in ("worker:10", "worker:2", "ps:1"):
        members.join(task, FIRST, "host", 1, 0.0)
    assert [each.task for each in members.list_members()] == ["ps:1", "worker:2", "worker:10"]


def test_of_several_reports_the_last_one_counts() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 0.0)
    members.report_progress("worker:0", FIRST, 7, 1.0)
    members.report_progress("worker:0", FIRST, 5, 2.0)
    assert (only(members).step, only(members).last_seen_s, only(members).joined_at_s) == (5, 2.0, 0.0)


def test_joining_again_keeps_the_progress() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 0.0)
    members.report_progress("worker:0", FIRST, 7, 1.0)
    members.leave("worker:0", FIRST, 2.0)
    members.join("worker:0", FIRST, "other", 2, 3.0)
    assert only(members) == Member("worker:0", FIRST, "other", 2, MemberState.ACTIVE, 0.0, 3.0, 7)


def test_a_new_incarnation_takes_the_place_of_the_old() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 0.0)
    members.report_progress("worker:0", FIRST, 7, 1.0)
    members.join("worker:0", SECOND, "other", 2, 5.0)
    assert only(members) == Member("worker:0", SECOND, "other", 2, MemberState.ACTIVE, 5.0, 5.0, 0)
    members.leave("worker:0", FIRST, 6.0)
    assert only(members).state is MemberState.ACTIVE
    with pytest.raises(AbortedError, match=r"another process \(pid 2 on other\) has joined as worker:0") as aborted:
        members.report_progress("worker:0", FIRST, 8, 7.0)
    assert not aborted.value.retryable
    assert only(members).step == 0


def test_a_task_leaves() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 0.0)
    members.leave("worker:0", FIRST, 3.0)
    assert (only(members).state, only(members).last_seen_s) == (MemberState.LEFT, 3.0)


def test_a_report_that_comes_after_leaving_is_ignored() -> None:
    members = Membership()
    members.join("worker:0", FIRST, "host", 1, 0.0)
    members.leave("worker:0", FIRST, 3.0)
    members.report_progress("worker:0", FIRST, 8, 4.0)
    assert (only(members).state, only(members).step, only(members).last_seen_s) == (MemberState.LEFT, 0, 3.0)


def test_who_has_not_joined_can_leave_but_not_report() -> None:
    members = Membership()
    members.leave("worker:0", FIRST, 0.0)
    with pytest.raises(FailedPreconditionError, match="worker:0 has not joined"):
        members.report_progress("worker:0", FIRST, 1, 0.0)
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
    with pytest.raises(ResourceExhaustedError, match="3 tasks have joined"):
        members.join("worker:3", FIRST, "host", 1, 9.0)
    members.join("worker:1", SECOND, "host", 1, 9.0)
    members.leave("worker:2", FIRST, 10.0)
    members.leave("worker:1", SECOND, 11.0)
    members.join("worker:3", FIRST, "host", 1, 12.0)
    assert [each.task for each in members.list_members()] == ["worker:0", "worker:1", "worker:3"]
