"""What a group keeps and shows of its workers, and what it forgets."""

from __future__ import annotations

import json

import pytest

from ps_protocol.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
)
from ps_protocol.training.round_messages import (
    Answer,
    Join,
    Look,
    Verdict,
    encode_event,
)
from ps_server.rounds.group import act
from ps_server.rounds.report import rows
from ps_server.rounds.state import VERSION, GroupState
from tests.unit.ps_server.rounds.groups import Group


def test_a_state_is_json_that_people_can_read_and_is_read_as_it_was_written() -> None:
    state, answer = act(b"", encode_event(Join("worker:0", "a", "bsp", now_s=5.0)))
    assert Answer.decode(answer).ticket == 1
    assert json.loads(state) == {
        "version": 1,
        "policy": "bsp",
        "started_by": "worker:0",
        "joined": 1,
        "tickets": 1,
        "members": [
            {"worker": "worker:0", "incarnation": "a", "seat": 0, "ticket": 1, "base": 0, "last_seen_s": 5.0},
        ],
    }
    assert GroupState.decode(state).encode() == state
    assert act(state, encode_event(Look("worker:0", "a")))[0] == state


def test_a_state_of_a_later_version_is_refused_by_its_number() -> None:
    with pytest.raises(
        FailedPreconditionError, match=f"in the form {VERSION + 1}; this one reads forms up to {VERSION}"
    ):
        GroupState.decode(json.dumps({"version": VERSION + 1, "colour": 1}).encode())
    for content in (b"nothing", b"[]", b"{}", b'{"version":1,"colour":1}', b'{"version":1,"members":[{}]}'):
        with pytest.raises(InvalidArgumentError, match="state of the rounds of a group"):
            GroupState.decode(content)


def test_what_is_shown_of_each_worker() -> None:
    group = Group("ssp(1)", joined=2)
    group.hand_in(0, 1)
    group.hand_in(0, 2, 0)
    group.hand_in(1, 1)
    group.hand_in(1, 2)
    [first, second] = rows(group.state)
    assert first == {
        "worker": "worker:0",
        "seat": 0,
        "status": "live",
        "does": "computes for round 3 on the model 1",
        "waits": False,
        "handed": 2,
        "last_seen_s": 100.0,
        "incarnation": "a",
        "applied": 2,
        "stale": 0,
        "late": 0,
        "duplicate": 0,
        "last_staleness": 1,
        "largest_staleness": 1,
        "last_lag": 1,
        "largest_lag": 1,
    }
    assert (second["applied"], second["largest_staleness"]) == (2, 0)
    group.hand_in(0, 3, 1)
    group.hand_in(0, 4, 2)
    assert rows(group.state)[0]["does"] == "waits for worker:1"


def test_of_the_processes_that_were_replaced_the_newest_are_known() -> None:
    group = Group("bsp", 1)
    for number in range(10):
        group.join(0, f"b{number}")
    member = group.state.member("worker:0")
    assert member is not None
    assert member.replaced == ("b5", "b6", "b7", "b8")
    with pytest.raises(FailedPreconditionError, match="is the process b9 now; the process b8"):
        group.join(0, "b8")


def test_decisions_that_every_ps_has_carried_out_are_forgotten() -> None:
    group = Group("bsp", 1)
    for number in range(1, 5):
        group.hand_in(0, number)
        assert group.seats() == [(number, [0])]


def test_without_rounds_a_worker_has_one_gradient_that_waits() -> None:
    group = Group("async(max_staleness=2)", 3)
    group.hand_in(0, 1, 0)
    group.hand_in(0, 2, 1)  # waits, since the others' would be too old
    group.hand_in(1, 1, 0)
    assert [(each.seat, each.round) for each in group.state.pending] == [(0, 2)]
    with pytest.raises(InvalidArgumentError, match="hands in for round 3"):
        group.hand_in(0, 3, 2)


def test_without_rounds_a_process_that_was_started_again_builds_on_what_it_had_handed_in() -> None:
    group = Group("async", 1)
    group.hand_in(0, 1)
    group.join(0, "b")
    assert group.hand_in(0, 2, 0, incarnation="b").verdict is Verdict.STALE
    assert group.hand_in(0, 2, 1, incarnation="b").verdict is Verdict.APPLIED
