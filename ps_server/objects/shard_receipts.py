"""Which updates of data shards a ps task has applied, of those that ps task 0 may not know of yet.

An update of variables on several ps tasks is applied on ps task 0 last, where the shards are: their positions there
are applied everywhere. Another ps is ahead of that by one update at most, which its receipt keeps from counting twice
when another worker makes it again.

    state   {"epoch": the newest one that was heard of,
             "seen": {place: [ticket, worker, position, whose update that was]}}, of shards of that epoch

A worker drops the receipt of a shard that it has handed in, unless the shard had been given to another one before: that
one may still send something, and is refused by its ticket.
"""

from __future__ import annotations

from typing import Any, Final

from ps_protocol.errors import AbortedError, FailedPreconditionError, InvalidArgumentError
from ps_protocol.shared_objects import Json
from ps_protocol.training.data_shards import END, piece_words, shard_words
from ps_server.objects import fields
from ps_server.objects.object_kind import ObjectKind, Step


def _empty(settings: Json) -> Json:
    return {"count": fields.whole(settings, "count", 1), "seed": settings.get("shuffle_seed"), "epoch": 0, "seen": {}}


def _step(state: Json, event: Json) -> Step:
    if event.get("do") not in ("update", "fence"):
        raise fields.unknown("do", event.get("do"))
    by, epoch, place = fields.text(event, "by"), fields.whole(event, "epoch"), fields.whole(event, "place")
    ticket = fields.whole(event, "ticket")
    if epoch < state["epoch"]:
        raise AbortedError(
            f"{by} updates {shard_words(state['count'], state['seed'], epoch, place)}, all of which is handed in: it "
            f"has lost it, as it was silent, was started again or gave it back. Nothing was changed; take another "
            f"shard",
            retryable=False,
        )
    seen: dict[str, Any] = state["seen"] if epoch == state["epoch"] else {}
    dropped = _dropped(event)
    seen = {other: each for other, each in seen.items() if other not in dropped}
    newest, holder, position, applied_by = seen.get(str(place), (0, by, 0, by))
    if ticket < newest:
        raise AbortedError(
            f"{by} updates {shard_words(state['count'], state['seed'], epoch, place)}, which it has lost: it was "
            f"silent, was started again or gave it back, and {holder} has had it since. Nothing was changed; take "
            f"another shard",
            retryable=False,
        )
    answer: Json = {"passes": True}
    if event["do"] == "update":
        begin, end = fields.whole(event, "from"), fields.whole(event, "to", END)
        answer["passes"] = _is_next(state, (by, epoch, place), (begin, end), (position, applied_by))
        if answer["passes"]:
            position, applied_by = end, by
    return {**state, "epoch": epoch, "seen": {**seen, str(place): [ticket, by, position, applied_by]}}, answer


def _is_next(state: Json, what: tuple[str, int, int], piece: tuple[int, int], seen: tuple[int, str]) -> bool:
    """Whether a piece is to be applied; it has been, if this ps has come to its end."""
    (by, epoch, place), (begin, end), (position, applied_by) = what, piece, seen
    if end != END and end <= begin:
        raise InvalidArgumentError(f"a piece goes from {begin} to {end}; it should end after its beginning")
    if position == end:
        return False
    if position == END or position > begin:
        raise FailedPreconditionError(
            f"{by} updates {shard_words(state['count'], state['seed'], epoch, place)} from "
            f"{piece_words(begin, end)}, but the update of {applied_by} from {piece_words(begin, position)} was "
            f"applied here before it was lost; nothing was changed. Let all workers cut shards at the same positions"
        )
    return True


def _look(state: Json, question: Json) -> Json | None:
    if question.get("ask") != "seen":
        raise fields.unknown("ask", question.get("ask"))
    return {"epoch": state["epoch"], "positions": {place: each[2] for place, each in state["seen"].items()}}


def _dropped(event: Json) -> list[str]:
    dropped = event.get("dropped", [])
    if not isinstance(dropped, list):
        raise InvalidArgumentError("dropped is no list")
    return [str(each) for each in dropped]


def _passes(answer: Json) -> bool:
    return bool(answer.get("passes", True))


SHARD_RECEIPTS: Final = ObjectKind(empty=_empty, step=_step, look=_look, passes=_passes)
