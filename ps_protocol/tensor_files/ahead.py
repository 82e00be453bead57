"""Fetches pieces of a large transfer one ahead: the next while the last is put where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from ps_protocol.interrupts import Begun, begun

MOST_BYTES: Final = 256 * 1024**2
"""What two pieces may have together for one of them to be fetched ahead. So no more than this is in memory, or one
piece if that is larger."""

_P = TypeVar("_P")
_T = TypeVar("_T")


def move(
    pieces: Sequence[_P],
    *,
    fetch: Callable[[_P], _T],
    put: Callable[[_P, _T], None],
    size_bytes: Callable[[_P], int],
) -> None:
    """Fetches pieces and puts each where it belongs, in turn; another thread fetches meanwhile, if there are several.

    However this ends, nothing is put any more, and what is being fetched has ended, or is lost: an interrupt waits for
    it for a moment only.

    Args:
        pieces: What is to be moved.
        fetch: Gets a piece, in bounded time; called for one after the other, not always by the same thread.
        put: Is given the piece and what was fetched, and keeps none of it. Called by this thread.
        size_bytes: Of a piece.
    """
    following: Begun[_T] | None = None
    try:
        for number, piece in enumerate(pieces):
            fetched = fetch(piece) if following is None else following.outcome()
            following = None
            if number + 1 < len(pieces) and size_bytes(piece) + size_bytes(pieces[number + 1]) <= MOST_BYTES:
                following = begun(partial(fetch, pieces[number + 1]))
            put(piece, fetched)
            del fetched
    except BaseException:
        if following is not None:
            following.give_up()
        raise
