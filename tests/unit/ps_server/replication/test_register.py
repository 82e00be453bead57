"""What is granted: for each epoch one change, whoever asks first, and how it is written into the coordination store."""

from __future__ import annotations

from uuid import UUID

import pytest

from ps_protocol.errors import FailedPreconditionError, UnavailableError
from ps_server.coordination.store import Entry
from ps_server.replication.register import Asker, Register, Verdict, Wish, objection, wanted
from ps_server.replication.register_store import RegisterStore

A, B, C = (UUID(int=number) for number in (1, 2, 3))
PAIR = Register(2, A, B)
ALONE = Register(2, A)
AS_PRIMARY = Asker(A, False, 2, B)
AS_BACKUP = Asker(B, True, 2)
TIMEOUT_S = 5.0


class MemoryStore:
    """A coordination store of one key, whose answers may be lost."""

    name = "the store"

    def __init__(self, register: Register | None = None):
        self.entry = None if register is None else Entry(register.encode(), 1)
        self.loses_answer = False
        self.others: list[Register] = []  # written by somebody else just before each compare-and-set

    def read(self, key: str, *, timeout_s: float) -> Entry | None:
        assert (key, timeout_s) == ("primary/ps:1", TIMEOUT_S)
        return self.entry

    def compare_and_set(self, key: str, value: bytes, *, revision: int, timeout_s: float) -> tuple[bool, Entry | None]:
        assert (key, timeout_s) == ("primary/ps:1", TIMEOUT_S)
        if self.others:
            self._write(self.others.pop(0).encode())
        if revision != (0 if self.entry is None else self.entry.revision):
            return False, self.entry
        self._write(value)
        if self.loses_answer:
            raise UnavailableError("the answer was lost")
        return True, self.entry

    def watch(self, key: str, *, revision: int, timeout_s: float) -> Entry | None:
        raise NotImplementedError

    def close(self) -> None: ...

    @property
    def register(self) -> Register | None:
        return None if self.entry is None else Register.decode(self.entry.value)

    def _write(self, value: bytes) -> None:
        self.entry = Entry(value, 1 + (0 if self.entry is None else self.entry.revision))


def ask(store: MemoryStore, asker: Asker, wish: Wish, candidate: UUID | None = None) -> Verdict:
    return RegisterStore(store, task="ps:1").ask(asker, wish, candidate, timeout_s=TIMEOUT_S)


@pytest.mark.parametrize("register", [PAIR, Register(7, B, None, True)])
def test_a_register_comes_back_as_it_was_written(register: Register) -> None:
    assert Register.decode(register.encode()) == register


@pytest.mark.parametrize("content", [b"", b"{}", b'"x"', b"\xff", PAIR.encode().replace(b'"ps"', b'"third"')])
def test_what_is_no_register_is_refused(content: bytes) -> None:
    with pytest.raises(FailedPreconditionError, match="no such entry"):
        Register.decode(content)


def test_of_two_that_ask_in_the_same_epoch_the_first_is_granted() -> None:
    backup_first, primary_first = MemoryStore(PAIR), MemoryStore(PAIR)
    assert ask(backup_first, AS_BACKUP, Wish.TAKE_OVER) == Verdict(Register(3, B, None, True), granted=True)
    refused = ask(backup_first, AS_PRIMARY, Wish.GO_ALONE)
    assert (refused.granted, refused.register) == (False, Register(3, B, None, True))

    assert ask(primary_first, AS_PRIMARY, Wish.GO_ALONE) == Verdict(Register(3, A), granted=True)
    refused = ask(primary_first, AS_BACKUP, Wish.TAKE_OVER)
    assert (refused.granted, refused.register) == (False, Register(3, A))


def test_of_two_that_ask_at_the_same_moment_the_one_that_writes_first_is_granted() -> None:
    store = MemoryStore(PAIR)
    store.others = [Register(3, A)]
    verdict = ask(store, AS_BACKUP, Wish.TAKE_OVER)
    assert (verdict.granted, verdict.register, store.register) == (False, Register(3, A), Register(3, A))


def test_a_store_in_which_others_are_always_first_is_asked_a_few_times_only() -> None:
    store = MemoryStore()
    store.others = [Register(2, A, C), PAIR] * 10  # nobody writes like that
    store.entry = Entry(PAIR.encode(), 1)
    with pytest.raises(UnavailableError, match="other changes"):
        RegisterStore(store, task="ps:1").ask(AS_PRIMARY, Wish.BEGIN_ANEW, timeout_s=TIMEOUT_S)


@pytest.mark.parametrize(
    ("register", "asker", "wish", "candidate"),
    [
        (None, Asker(A, False), Wish.BEGIN, None),
        (PAIR, AS_BACKUP, Wish.TAKE_OVER, None),
        (PAIR, AS_PRIMARY, Wish.GO_ALONE, None),
        (PAIR, AS_PRIMARY, Wish.HAND_OVER, None),
        (ALONE, Asker(A, False, 2), Wish.PAIR_UP, B),
        (None, AS_PRIMARY, Wish.WRITE_AGAIN, None),
    ],
)
def test_a_change_whose_answer_was_lost_is_granted_again(
    register: Register | None, asker: Asker, wish: Wish, candidate: UUID | None
) -> None:
    store = MemoryStore(register)
    store.loses_answer = True
    with pytest.raises(UnavailableError):
        ask(store, asker, wish, candidate)
    after = store.register
    assert ask(store, asker, wish, candidate) == Verdict(after, granted=True)
    assert store.register == after


@pytest.mark.parametrize(
    ("known", "asker", "wish", "candidate"),
    [
        (ALONE, Asker(C, True), Wish.BEGIN, None),
        (Register(3, A), AS_PRIMARY, Wish.WRITE_AGAIN, None),
        (None, AS_BACKUP, Wish.TAKE_OVER, None),
        (PAIR, Asker(C, True, 2), Wish.TAKE_OVER, None),
        (PAIR, Asker(B, True, 1), Wish.TAKE_OVER, None),
        (ALONE, AS_BACKUP, Wish.TAKE_OVER, None),
        (ALONE, Asker(A, False, 2), Wish.GO_ALONE, None),
        (PAIR, Asker(B, True, 2), Wish.GO_ALONE, None),
        (PAIR, Asker(A, False, 2, B), Wish.PAIR_UP, C),
        (ALONE, Asker(A, False, 2), Wish.PAIR_UP, None),
        (ALONE, Asker(A, False, 2), Wish.PAIR_UP, A),
        (ALONE, Asker(A, False, 2, B), Wish.HAND_OVER, None),
        (PAIR, Asker(A, False, 2, C), Wish.HAND_OVER, None),
        (PAIR, Asker(B, True, 2, A), Wish.HAND_OVER, None),
        (ALONE, Asker(B, True, 2), Wish.RETURN, None),
        (None, Asker(A, False, 2), Wish.RETURN, None),
        (ALONE, Asker(C, False), Wish.CLAIM, None),
    ],
)
def test_nobody_else_is_granted_anything(
    known: Register | None, asker: Asker, wish: Wish, candidate: UUID | None
) -> None:
    assert objection(known, asker, wish, candidate)
    store = MemoryStore(known)
    verdict = ask(store, asker, wish, candidate)
    assert (verdict.granted, verdict.register, store.register) == (False, known, known)
    assert verdict.reason


def test_a_primary_hands_over_to_the_process_in_the_other_place() -> None:
    assert wanted(PAIR, AS_PRIMARY, Wish.HAND_OVER) == Register(3, B, A, True)
    assert wanted(Register(4, B, A, True), Asker(B, True, 4, A), Wish.HAND_OVER) == Register(5, A, B, False)


def test_one_that_begins_anew_begins_a_later_epoch_than_any_before() -> None:
    assert ask(MemoryStore(PAIR), Asker(C, False), Wish.BEGIN_ANEW).register == Register(3, C)
    assert ask(MemoryStore(), Asker(C, False), Wish.BEGIN_ANEW).register == Register(1, C)
    assert ask(MemoryStore(), Asker(C, False, 4), Wish.BEGIN_ANEW).register == Register(5, C)  # it has a state of 4


def test_one_that_returns_begins_an_epoch_in_which_it_is_what_it_was() -> None:
    """Whatever it has asked for before it ended, and is carried out late, is refused then."""
    assert ask(MemoryStore(PAIR), Asker(A, False, 1), Wish.RETURN).register == Register(3, A)
    assert ask(MemoryStore(PAIR), Asker(B, True, 1), Wish.RETURN).register == Register(3, A, B)
    assert ask(MemoryStore(Register(5, B, A, True)), Asker(B, True, 5), Wish.RETURN).register == Register(
        6, B, None, True
    )


def test_one_with_the_state_of_a_task_without_backup_begins_where_nobody_begins_in_its_place() -> None:
    store = MemoryStore()
    assert ask(store, Asker(A, False), Wish.CLAIM).register == Register(2, A)
    assert not ask(store, Asker(C, True), Wish.BEGIN).granted
