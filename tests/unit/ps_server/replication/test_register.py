"""What an arbiter grants: for each epoch one change, whoever asks first, and nothing that it cannot know."""

from __future__ import annotations

import itertools
from dataclasses import replace
from uuid import UUID

import pytest

from ps_server.replication.register import ArbiterVerdict, Known, Register, ReplicaReport, Role, Wish, judge

A, B, C = (UUID(int=number) for number in (1, 2, 3))
PAIR = Register(2, A, B)
ALONE = Register(2, A)


class Pair:
    """An arbiter and the two processes that call it, each with its own count of calls."""

    def __init__(self, register: Register | None = None):
        self.known = Known(register)
        self._numbers = itertools.count(1)

    def ask(
        self,
        process: UUID,
        role: Role,
        epoch: int,
        wish: Wish = Wish.NONE,
        candidate: UUID | None = None,
        *,
        backup: UUID | None = None,
        is_second: bool | None = None,
    ) -> ArbiterVerdict:
        report = ReplicaReport(process, next(self._numbers), role, epoch, backup)
        is_second = process != A if is_second is None else is_second
        self.known, verdict = judge(self.known, is_second, report, wish, candidate)
        return verdict


def test_of_two_that_ask_in_the_same_epoch_the_first_is_granted() -> None:
    backup_first, primary_first = Pair(PAIR), Pair(PAIR)

    assert backup_first.ask(B, Role.FOLLOWER, 2, Wish.TAKE_OVER).register == Register(3, B)
    refused = backup_first.ask(A, Role.PRIMARY, 2, Wish.GO_ALONE, backup=B)
    assert (refused.granted, refused.register) == (False, Register(3, B))

    assert primary_first.ask(A, Role.PRIMARY, 2, Wish.GO_ALONE, backup=B).register == Register(3, A)
    refused = primary_first.ask(B, Role.FOLLOWER, 2, Wish.TAKE_OVER)
    assert (refused.granted, refused.register) == (False, Register(3, A))


@pytest.mark.parametrize(
    ("register", "process", "role", "wish", "candidate"),
    [
        (PAIR, B, Role.FOLLOWER, Wish.TAKE_OVER, None),
        (PAIR, A, Role.PRIMARY, Wish.GO_ALONE, None),
        (ALONE, A, Role.PRIMARY, Wish.PAIR_UP, B),
    ],
)
def test_what_was_granted_is_granted_again_when_the_answer_was_lost(
    register: Register, process: UUID, role: Role, wish: Wish, candidate: UUID | None
) -> None:
    pair = Pair(register)
    first = pair.ask(process, role, 2, wish, candidate)
    again = pair.ask(process, role, 2, wish, candidate)
    assert first.granted
    assert again == first


def test_nothing_else_is_ever_granted() -> None:
    """All registers, askers, roles, wishes, candidates and epochs: what is granted is one of the three changes."""
    registers = [Register(2, primary, backup) for primary in (A, B) for backup in (None, A, B, C) if backup != primary]
    wishes = [Wish.TAKE_OVER, Wish.GO_ALONE, Wish.PAIR_UP]
    num_granted = 0
    for register, process, role, wish, candidate, epoch in itertools.product(
        registers, (A, B, C), Role, wishes, (None, A, B, C), (0, 1, 2)
    ):
        verdict = Pair(register).ask(process, role, epoch, wish, candidate)
        if not verdict.granted:
            # One that asks for the epoch that has begun already is not answered with another.
            assert verdict.reason
            assert verdict.register == register
            continue
        num_granted += 1
        assert verdict.register is not None
        if verdict.register == register:  # it is so already
            assert (register.epoch, register.primary) == (epoch + 1, process)
            continue
        assert epoch == 2
        assert verdict.register.epoch == 3
        assert verdict.register.primary == process
        if wish is Wish.TAKE_OVER:
            assert (register.backup, verdict.register.backup) == (process, None)
        elif wish is Wish.GO_ALONE:
            assert (register.primary, verdict.register.backup) == (process, None)
            assert register.backup is not None
        else:
            assert (register.primary, register.backup) == (process, None)
            assert verdict.register.backup == candidate not in (None, process)
    assert num_granted


def test_an_arbiter_that_was_started_anew_grants_nothing_until_it_has_heard_both() -> None:
    pair = Pair()
    assert not pair.ask(B, Role.FOLLOWER, 2, Wish.TAKE_OVER).granted
    assert not pair.ask(B, Role.FOLLOWER, 2, Wish.TAKE_OVER).granted

    # The primary had gone on alone, which the old arbiter knew, and the backup did not.
    assert pair.ask(A, Role.PRIMARY, 3).register == Register(3, A)
    refused = pair.ask(B, Role.FOLLOWER, 2, Wish.TAKE_OVER)
    assert (refused.granted, refused.register) == (False, Register(3, A))


def test_the_newest_primary_is_right() -> None:
    pair = Pair()
    pair.ask(A, Role.PRIMARY, 2, backup=B)
    assert pair.ask(B, Role.PRIMARY, 3).register == Register(3, B)
    assert pair.ask(A, Role.PRIMARY, 2, backup=B).register == Register(3, B)


def test_a_backup_of_a_primary_that_was_never_heard_of_is_no_primary() -> None:
    pair = Pair()
    pair.ask(C, Role.EMPTY, 0, is_second=False)  # the primary's place has a new process
    assert pair.ask(B, Role.FOLLOWER, 2, Wish.TAKE_OVER).register is None


def test_a_task_begins_when_both_its_processes_say_that_they_have_nothing() -> None:
    pair = Pair()
    assert pair.ask(B, Role.EMPTY, 0).register is None
    assert pair.ask(A, Role.EMPTY, 0).register == Register(1, A)
    assert pair.ask(B, Role.EMPTY, 0).register == Register(1, A)


def test_a_task_whose_state_is_lost_does_not_begin_anew_by_itself() -> None:
    pair = Pair(PAIR)
    pair.ask(C, Role.EMPTY, 0, is_second=False)
    assert pair.ask(B, Role.FOLLOWER, 2) == ArbiterVerdict(PAIR)
    lost = pair.ask(UUID(int=4), Role.EMPTY, 0, is_second=True)
    assert (lost.register, lost.granted) == (PAIR, False)
    assert "To begin without it" in lost.reason


def test_a_backup_that_was_never_heard_of_is_not_taken_for_the_process_before_it() -> None:
    """The primary said who its backup is, and is lost; what was heard of that place before said that it had nothing."""
    pair = Pair(ALONE)
    pair.ask(C, Role.EMPTY, 0, is_second=True)
    assert pair.ask(A, Role.PRIMARY, 2, Wish.PAIR_UP, B).granted
    assert pair.ask(UUID(int=4), Role.EMPTY, 0, is_second=False).register == Register(3, A, B)
    assert pair.ask(B, Role.FOLLOWER, 3, Wish.TAKE_OVER, is_second=True).granted


def test_a_call_that_a_later_one_has_overtaken_changes_nothing() -> None:
    report = ReplicaReport(B, 7, Role.FOLLOWER, 2)
    known, _ = judge(Known(PAIR), True, report)
    after, verdict = judge(known, True, replace(report, number=6), Wish.TAKE_OVER)
    assert after == known
    assert not verdict.granted
