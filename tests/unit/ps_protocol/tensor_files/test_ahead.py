"""Moving pieces: in their order, one ahead, never more than fits in memory; and how it ends early."""

from __future__ import annotations

import threading

import pytest

from ps_protocol.tensor_files import ahead

WAIT_S = 10.0
PIECES = list(range(6))


class Moves:
    """Fetches and puts numbers, and notes both; may fail at one."""

    def __init__(self) -> None:
        self.fetched: list[int] = []
        self.put: list[tuple[int, int]] = []
        self.threads: set[int] = set()
        self.fails_to_fetch: int | None = None
        self.fails_to_put: BaseException | None = None
        self.next_is_fetched = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

    def fetch(self, piece: int) -> int:
        self.threads.add(threading.get_ident())
        self.fetched.append(piece)
        if piece == 3:
            self.next_is_fetched.set()
        assert self.may_end.wait(WAIT_S)
        if piece == self.fails_to_fetch:
            raise OSError("no such piece")
        return piece * 10

    def write(self, piece: int, found: int) -> None:
        self.put.append((piece, found))
        if piece == 2 and self.fails_to_put is not None:
            assert self.next_is_fetched.wait(WAIT_S)
            raise self.fails_to_put

    def run(self, size_bytes: int = 1) -> None:
        ahead.move(PIECES, fetch=self.fetch, put=self.write, size_bytes=lambda _: size_bytes)


@pytest.fixture
def moves() -> Moves:
    return Moves()


def test_the_next_piece_is_fetched_before_the_last_is_put() -> None:
    is_fetched = [threading.Event() for _ in PIECES]
    put: list[int] = []

    def fetch(piece: int) -> int:
        is_fetched[piece].set()
        return piece

    def write(piece: int, found: int) -> None:
        assert piece == found
        assert piece + 1 == len(PIECES) or is_fetched[piece + 1].wait(WAIT_S)
        assert piece + 2 >= len(PIECES) or not is_fetched[piece + 2].is_set()  # and no more than that
        put.append(piece)

    ahead.move(PIECES, fetch=fetch, put=write, size_bytes=lambda _: 1)
    assert put == PIECES


@pytest.mark.parametrize("size_bytes", [ahead.MOST_BYTES // 2, ahead.MOST_BYTES // 2 + 1])
def test_two_pieces_that_are_too_large_are_never_there_together(moves: Moves, size_bytes: int) -> None:
    moves.run(size_bytes)
    assert moves.put == [(piece, piece * 10) for piece in PIECES]
    is_alone = moves.threads == {threading.get_ident()}
    assert is_alone == (size_bytes > ahead.MOST_BYTES // 2)


def test_one_piece_needs_no_other_thread(moves: Moves) -> None:
    ahead.move([1], fetch=moves.fetch, put=moves.write, size_bytes=lambda _: 1)
    assert moves.threads == {threading.get_ident()}
    ahead.move([], fetch=moves.fetch, put=moves.write, size_bytes=lambda _: 1)
    assert moves.put == [(1, 10)]


def test_a_piece_that_cannot_be_fetched_ends_it_when_those_before_are_put(moves: Moves) -> None:
    moves.fails_to_fetch = 3
    with pytest.raises(OSError, match="no such piece"):
        moves.run()
    assert moves.put == [(0, 0), (1, 10), (2, 20)]
    assert moves.fetched == [0, 1, 2, 3]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_a_piece_that_cannot_be_put_ends_it_when_the_next_is_fetched(moves: Moves, error: BaseException) -> None:
    moves.fails_to_put = error
    with pytest.raises(type(error)):
        moves.run()
    assert moves.put[-1] == (2, 20)
    assert moves.fetched == [0, 1, 2, 3]


def test_an_interrupt_waits_only_for_a_moment_for_a_piece_that_does_not_come(
    moves: Moves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ps_protocol.interrupts.LINGER_S", 0.0)
    moves.fails_to_put = KeyboardInterrupt()
    has_returned = threading.Event()
    late: list[int] = []

    def fetch(piece: int) -> int:
        if piece == 3:
            moves.next_is_fetched.set()
            assert has_returned.wait(WAIT_S)
            late.append(piece)
            moves.may_end.set()
        return piece * 10

    moves.may_end.clear()
    with pytest.raises(KeyboardInterrupt):
        ahead.move(PIECES, fetch=fetch, put=moves.write, size_bytes=lambda _: 1)
    assert not late
    has_returned.set()
    assert moves.may_end.wait(WAIT_S)
    assert moves.put == [(0, 0), (1, 10), (2, 20)]
