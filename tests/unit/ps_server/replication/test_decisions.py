"""What a process decides: every case of the function, and that a primary has stopped before its backup may ask."""

from __future__ import annotations

import itertools
from dataclasses import replace
from uuid import UUID

import pytest

from ps_server.replication.decisions import PRIMARY_PART, ReplicaDecision, View, decide, holds_lease
from ps_server.replication.register import Register, Role

ME, OTHER, THIRD = (UUID(int=number) for number in (1, 2, 3))
LEASE_S = 10.0
NOW_S = 100.0

EMPTY = View(ME, False, Role.EMPTY, 0, LEASE_S, started_s=NOW_S)
UNPAIRED = View(ME, True, Role.FOLLOWER, 1, LEASE_S, Register(1, OTHER), NOW_S, heard_s=NOW_S)
BACKUP = View(ME, True, Role.FOLLOWER, 2, LEASE_S, Register(2, OTHER, ME), NOW_S, heard_s=NOW_S, is_paired=True)
ALONE = View(ME, False, Role.PRIMARY, 2, LEASE_S, Register(2, ME), NOW_S)
PAIRED = View(ME, False, Role.PRIMARY, 2, LEASE_S, Register(2, ME, OTHER), NOW_S, heard_s=NOW_S, is_paired=True)
RETURNING = View(ME, False, Role.RETURNING, 4, LEASE_S, Register(4, ME, OTHER), NOW_S)
SILENT_S = NOW_S - LEASE_S - 0.1
"""When one was heard last who is silent now."""


@pytest.mark.parametrize(
    ("view", "decision"),
    [
        (EMPTY, ReplicaDecision.GO_ON),  # the store has not answered
        (replace(EMPTY, register_s=NOW_S), ReplicaDecision.ASK_TO_BEGIN),
        (replace(EMPTY, register_s=NOW_S, is_second=True), ReplicaDecision.GO_ON),  # the other place comes first
        (replace(EMPTY, register_s=NOW_S, is_second=True, started_s=SILENT_S), ReplicaDecision.ASK_TO_BEGIN),
        (replace(EMPTY, register_s=NOW_S, register=Register(1, OTHER)), ReplicaDecision.GO_ON),
        (replace(EMPTY, register_s=NOW_S, register=Register(1, ME)), ReplicaDecision.BEGIN),
        (replace(EMPTY, gives_up_state=True), ReplicaDecision.GO_ON),
        (
            replace(EMPTY, register_s=NOW_S, register=Register(4, OTHER), gives_up_state=True),
            ReplicaDecision.BEGIN_ANEW,
        ),
        (replace(EMPTY, register_s=NOW_S, register=Register(5, ME), gives_up_state=True), ReplicaDecision.BEGIN),
        (RETURNING, ReplicaDecision.ASK_TO_RETURN),
        (replace(RETURNING, register=Register(4, OTHER, ME)), ReplicaDecision.ASK_TO_RETURN),
        (replace(RETURNING, register=Register(9, ME)), ReplicaDecision.ASK_TO_RETURN),  # the note on disk is older
        (replace(RETURNING, register=Register(5, OTHER)), ReplicaDecision.END),
        (replace(RETURNING, epoch=1, register=Register(1, OTHER)), ReplicaDecision.END),  # it had answered nobody
        # What the store says is older than what is on disk: it is not known who has the newest state.
        (replace(RETURNING, register=None, register_s=float("-inf")), ReplicaDecision.GO_ON),
        (replace(RETURNING, register=None), ReplicaDecision.GO_ON),
        (replace(RETURNING, register=Register(3, ME)), ReplicaDecision.GO_ON),
        (replace(RETURNING, register=Register(4, OTHER)), ReplicaDecision.GO_ON),
        (replace(RETURNING, register=Register(1, OTHER)), ReplicaDecision.GO_ON),
        (replace(RETURNING, register=None, gives_up_state=True), ReplicaDecision.BEGIN_ANEW),
        (replace(RETURNING, gives_up_state=True), ReplicaDecision.ASK_TO_RETURN),
        (UNPAIRED, ReplicaDecision.GO_ON),
        (replace(UNPAIRED, register=Register(2, OTHER, ME)), ReplicaDecision.ADOPT),
        (replace(UNPAIRED, register=Register(3, ME)), ReplicaDecision.TAKE_OVER),  # paired and handed over since
        # Silent, but the store's last word is older than the silence: it may be the backup by now.
        (replace(UNPAIRED, heard_s=SILENT_S, register_s=SILENT_S), ReplicaDecision.GO_ON),
        (replace(UNPAIRED, heard_s=SILENT_S), ReplicaDecision.END),
        (BACKUP, ReplicaDecision.GO_ON),
        (replace(BACKUP, register=None), ReplicaDecision.GO_ON),
        (replace(BACKUP, register=Register(3, OTHER)), ReplicaDecision.END),
        (replace(BACKUP, register=Register(4, OTHER, THIRD)), ReplicaDecision.END),
        (replace(BACKUP, heard_s=SILENT_S), ReplicaDecision.ASK_TO_TAKE_OVER),
        (replace(BACKUP, heard_s=SILENT_S, register=None), ReplicaDecision.ASK_TO_TAKE_OVER),
        (replace(BACKUP, heard_s=SILENT_S, was_refused=True), ReplicaDecision.FOLLOW_AGAIN),
        (replace(BACKUP, heard_s=SILENT_S, register=Register(3, ME)), ReplicaDecision.TAKE_OVER),
        (replace(BACKUP, register=Register(3, ME, OTHER)), ReplicaDecision.TAKE_OVER),  # its primary has handed over
        (ALONE, ReplicaDecision.GO_ON),
        (replace(ALONE, register=None, register_s=float("-inf")), ReplicaDecision.GO_ON),
        (replace(ALONE, register=None), ReplicaDecision.WRITE_AGAIN),
        (replace(ALONE, register=Register(3, OTHER)), ReplicaDecision.END),
        (replace(ALONE, register=Register(1, OTHER)), ReplicaDecision.GO_ON),  # the store was emptied; says so
        (replace(ALONE, register=Register(3, ME, OTHER)), ReplicaDecision.ADOPT),
        (replace(ALONE, candidate=OTHER), ReplicaDecision.ASK_TO_PAIR_UP),
        (replace(ALONE, may_hand_over=True, candidate=OTHER), ReplicaDecision.ASK_TO_PAIR_UP),
        (PAIRED, ReplicaDecision.GO_ON),
        # It has asked and had no answer: it may have a backup, and asks until it knows.
        (replace(PAIRED, candidate=OTHER, heard_s=SILENT_S), ReplicaDecision.ASK_TO_PAIR_UP),
        (replace(PAIRED, heard_s=SILENT_S), ReplicaDecision.ASK_TO_GO_ALONE),
        (replace(PAIRED, is_replaced=True), ReplicaDecision.ASK_TO_GO_ALONE),
        (replace(PAIRED, is_left=True), ReplicaDecision.ASK_TO_GO_ALONE),
        (replace(PAIRED, is_left=True, may_hand_over=True), ReplicaDecision.ASK_TO_GO_ALONE),
        (replace(PAIRED, may_hand_over=True), ReplicaDecision.HAND_OVER),
        (replace(PAIRED, may_hand_over=True, heard_s=SILENT_S), ReplicaDecision.ASK_TO_GO_ALONE),
        # It has handed over, and waits for the other one to begin.
        (replace(PAIRED, register=Register(3, OTHER, ME), waits_until_s=NOW_S), ReplicaDecision.GO_ON),
        (replace(PAIRED, register=Register(3, OTHER, ME), waits_until_s=NOW_S - 0.1), ReplicaDecision.TAKE_BACK),
        (replace(PAIRED, register=Register(3, OTHER, ME), epoch=3), ReplicaDecision.TAKE_BACK),
        (replace(PAIRED, heard_s=float("-inf")), ReplicaDecision.ASK_TO_GO_ALONE),  # it was handed the place
        (replace(PAIRED, register=Register(3, OTHER)), ReplicaDecision.END),
        (replace(PAIRED, register=Register(3, ME)), ReplicaDecision.ADOPT),
    ],
)
def test_each_case(view: View, decision: ReplicaDecision) -> None:
    assert decide(NOW_S, view)[0] is decision


def test_every_view_has_a_decision_and_an_end_has_a_reason() -> None:
    registers = [None, *(Register(epoch, *both) for epoch in (1, 2, 3) for both in ((ME,), (OTHER, ME), (ME, OTHER)))]
    for role, register, register_s, heard_s, flags, candidate in itertools.product(
        Role,
        registers,
        (SILENT_S, NOW_S),
        (SILENT_S, NOW_S),
        itertools.product((False, True), repeat=6),
        (None, OTHER),
    ):
        is_paired, was_refused, is_replaced, is_left, may_hand_over, gives_up_state = flags
        view = View(
            ME,
            False,
            role,
            2,
            LEASE_S,
            register,
            register_s,
            heard_s=heard_s,
            is_paired=is_paired,
            was_refused=was_refused,
            candidate=candidate,
            is_replaced=is_replaced,
            is_left=is_left,
            may_hand_over=may_hand_over,
            gives_up_state=gives_up_state,
        )
        decision, reason = decide(NOW_S, view)
        if decision is ReplicaDecision.END:
            assert reason
        if decision is ReplicaDecision.TAKE_OVER:
            assert register is not None
            assert (register.primary, role) == (ME, Role.FOLLOWER)
        if decision is ReplicaDecision.HAND_OVER:
            assert is_paired
            assert holds_lease(NOW_S, view)


@pytest.mark.parametrize("lease_s", [0.1, 1.0, 10.0, 86_400.0])
def test_a_primary_has_stopped_before_its_backup_may_ask(lease_s: float) -> None:
    """The token was sent at 0, and heard at once: the worst case, since the backup counts from when it was heard."""
    primary = replace(PAIRED, lease_s=lease_s, heard_s=0.0)
    backup = replace(BACKUP, lease_s=lease_s, heard_s=0.0)
    last_answer_s = lease_s * PRIMARY_PART
    assert holds_lease(last_answer_s, primary)
    for now_s in (last_answer_s * 1.001, lease_s, lease_s * 1.001, lease_s * 2):
        assert not holds_lease(now_s, primary)
    for now_s in (0.0, last_answer_s, last_answer_s * 1.001, lease_s):
        assert decide(now_s, backup)[0] is ReplicaDecision.GO_ON


def test_one_that_is_alone_has_its_lease_from_the_coordination_store() -> None:
    last_answer_s = NOW_S + LEASE_S * PRIMARY_PART
    assert holds_lease(last_answer_s, ALONE)
    assert not holds_lease(last_answer_s + 0.01, ALONE)
    assert not holds_lease(NOW_S, replace(ALONE, register_s=float("-inf"), register=None))


def test_one_that_the_register_does_not_name_answers_nobody() -> None:
    for primary in (ALONE, PAIRED):
        assert holds_lease(NOW_S, primary)
        assert not holds_lease(NOW_S, replace(primary, register=Register(1, OTHER)))
        assert not holds_lease(NOW_S, replace(primary, register=Register(3, OTHER)))


@pytest.mark.parametrize(("primary_rate", "backup_rate"), [(1.0, 1.0), (0.81, 1.0), (1.0, 1.23), (0.9, 1.1)])
def test_a_primary_has_stopped_before_its_backup_may_ask_though_their_clocks_run_at_different_rates(
    primary_rate: float, backup_rate: float
) -> None:
    """The token was sent, and heard, at 0 of both clocks; seconds of the world pass."""
    for milliseconds in range(30_000):
        now_s = milliseconds / 1000
        may_answer = holds_lease(now_s * primary_rate, replace(PAIRED, heard_s=0.0))
        may_ask = decide(now_s * backup_rate, replace(BACKUP, heard_s=0.0))[0] is ReplicaDecision.ASK_TO_TAKE_OVER
        assert not (may_answer and may_ask), now_s
