"""The data shards of a training: who has which, how far it is, and which are handed in. Each counts once an epoch.

Nothing here knows a clock or a lease: that a worker is gone, a client says that has asked ps task 0 for the members.

    state   {"count": shards of an epoch,
             "epochs": how many epochs there are,
             "seed": of the shuffle; None without one,
             "store": identity of the store that those have seen who have taken shards,
             "epoch": the one that is under way; as "epochs" when all are over,
             "next": how many of its places have been given out,
             "out": {place: [worker, its connection, ticket, position, since, lease, process]}, which workers have,
             "returned": {place: [worker that had it last, position]}, which others are to have next,
             "passed": {place: worker that has handed it in, or ""}, of those that were returned in this epoch,
             "last": {worker: [epoch, place, ticket]}, what each has handed in last,
             "handed_in": {worker: how many shards, of all epochs},
             "ticket": the newest one}

A ticket is drawn each time that a shard is given to somebody: the higher one has it. So the state is as long as there
are workers, and not as there are shards.
"""

from __future__ import annotations

from typing import Any, Final

from ps_protocol.errors import AbortedError, FailedPreconditionError, InvalidArgumentError, ShardscopeError
from ps_protocol.shared_objects import Json
from ps_protocol.training.data_shards import END, MAX_EPOCHS, MAX_SHARDS, piece_words, shard_words
from ps_server.objects import fields
from ps_server.objects.object_kind import ObjectKind, Step

_WORKER, _ID, _TICKET, _POSITION = range(4)


def _empty(settings: Json) -> Json:
    count, epochs = fields.whole(settings, "count", 1), fields.whole(settings, "epochs", 1)
    seed = settings.get("shuffle_seed")
    if seed is not None:
        fields.whole(settings, "shuffle_seed")
    if count > MAX_SHARDS or epochs > MAX_EPOCHS:
        raise InvalidArgumentError(
            f"{count:,} shards and {epochs:,} epochs are too many; there can be {MAX_SHARDS:,} and {MAX_EPOCHS:,}"
        )
    return {
        "count": count,
        "epochs": epochs,
        "seed": seed,
        "store": "",
        "epoch": 0,
        "next": 0,
        "out": {},
        "returned": {},
        "passed": {},
        "last": {},
        "handed_in": {},
        "ticket": 0,
    }


def _step(state: Json, event: Json) -> Step:
    match event.get("do"):
        case "take":
            return _take(state, event)
        case "update":
            return _update(state, event)
        case "give_back":
            return _give_back(state, event)
        case "gone":
            return _gone(state, event)
    raise fields.unknown("do", event.get("do"))


# -- taking ---------------------------------------------------------------------------------------


def _take(state: Json, event: Json) -> Step:
    """A worker asks for a shard; the answer has one, or says that all epochs are over."""
    by, identity = fields.text(event, "by"), fields.text(event, "id")
    store, since = fields.text(event, "store"), fields.number(event, "now")
    lease, process, busy = fields.number(event, "lease"), fields.text(event, "process"), _busy(event)
    if state["epoch"] >= state["epochs"]:
        return state, {"end": True}
    if state["store"] != store:  # after a restore: those who had some then do not work on them any more
        state = {**_returned(state, list(state["out"])), "store": store}
    others = [place for place, each in state["out"].items() if each[_WORKER] == by and each[_ID] != identity]
    state = _returned(state, others)  # of an earlier process of this worker
    found = _own(state, identity, busy) or _lowest(state["returned"])
    is_next = found is None and state["next"] < state["count"]
    if is_next:
        found = str(state["next"])
    if found is None:
        return None
    before = state["out"].get(found) or state["returned"].get(found)
    position = 0 if before is None else before[_POSITION if found in state["out"] else 1]
    ticket = state["ticket"] + 1
    held = [by, identity, ticket, position, since, lease, process]
    after = {
        **state,
        "next": state["next"] + is_next,
        "ticket": ticket,
        "out": {**state["out"], found: held},
        "returned": {place: each for place, each in state["returned"].items() if place != found},
    }
    if not is_next:
        after["passed"] = {**state["passed"], found: ""}
    answer = {"epoch": state["epoch"], "place": int(found), "ticket": ticket, "position": position}
    return after, {**answer, "again": not is_next}


def _own(state: Json, identity: str, busy: list[int]) -> str | None:
    """A shard that a connection has, and does not work on: it has never heard of it, or has dropped it."""
    return _lowest(
        {place: each for place, each in state["out"].items() if each[_ID] == identity and int(place) not in busy}
    )


def _lowest(places: dict[str, Any]) -> str | None:
    return min(places, key=int, default=None)


def _returned(state: Json, places: list[str]) -> Json:
    if not places:
        return state
    out = dict(state["out"])
    back = {place: out.pop(place) for place in places}
    return {
        **state,
        "out": out,
        "returned": {**state["returned"], **{place: [each[_WORKER], each[_POSITION]] for place, each in back.items()}},
        "passed": {**state["passed"], **dict.fromkeys(back, "")},
    }


def _give_back(state: Json, event: Json) -> Step:
    """A worker does not go on with a shard; the answer says whether it had it."""
    place, ticket = str(fields.whole(event, "place")), fields.whole(event, "ticket")
    held = state["out"].get(place)
    if held is None or held[_TICKET] != ticket:
        return state, {"had": False}
    return _returned(state, [place]), {"had": True}


def _gone(state: Json, event: Json) -> Step:
    """Workers have died, left, or been started again: others are to have what they had."""
    gone = fields.texts(event, "gone")
    places = [place for place, each in state["out"].items() if each[_ID] in gone]
    return _returned(state, places), {"returned": len(places)}


# -- updates --------------------------------------------------------------------------------------


def _update(state: Json, event: Json) -> Step:
    """A worker has come to a position in a shard, with the update that is in the same batch; ``END`` hands it in.

    The answer says whether that update is to be carried out, or has been: when the worker had no answer.
    """
    by, epoch, place = fields.text(event, "by"), fields.whole(event, "epoch"), fields.whole(event, "place")
    ticket, begin, end = fields.whole(event, "ticket"), fields.whole(event, "from"), fields.whole(event, "to", END)
    if end != END and end <= begin:
        raise InvalidArgumentError(f"a piece goes from {begin} to {end}; it should end after its beginning")
    key = str(place)
    held = state["out"].get(key) if epoch == state["epoch"] else None
    if held is None or held[_TICKET] != ticket:
        if end == END and state["last"].get(by) == [epoch, place, ticket]:
            return state, {"passes": False}
        raise _refusal(state, by, epoch, place, held)
    if held[_POSITION] == end:
        return state, {"passes": False}
    if held[_POSITION] != begin:
        raise FailedPreconditionError(
            f"{by} updates {_words(state, epoch, place)} from {piece_words(begin, end)}, but has come to "
            f"{held[_POSITION]} with it; one thread works on a shard at a time"
        )
    if end != END:
        moved = [*held[:_POSITION], end, *held[_POSITION + 1 :]]
        return {**state, "out": {**state["out"], key: moved}}, {"passes": True}
    after = {
        **state,
        "out": {other: each for other, each in state["out"].items() if other != key},
        "last": {**state["last"], by: [epoch, place, ticket]},
        "handed_in": {**state["handed_in"], by: state["handed_in"].get(by, 0) + 1},
    }
    if key in state["passed"]:
        after["passed"] = {**state["passed"], key: by}
    if after["next"] == after["count"] and not after["out"] and not after["returned"]:
        after |= {"epoch": epoch + 1, "next": 0, "passed": {}}
    return after, {"passes": True}


def _refusal(state: Json, by: str, epoch: int, place: int, held: list[Any] | None) -> ShardscopeError:
    """Why a worker cannot update a shard, and who can."""
    what, key = _words(state, epoch, place), str(place)
    if epoch > state["epoch"] or (epoch == state["epoch"] and place >= state["next"]):
        return FailedPreconditionError(f"{by} updates {what}, which nobody has been given; nothing was changed")
    is_own = state["last"].get(by, [])[:2] == [epoch, place] or (
        epoch == state["epoch"] and state["passed"].get(key) == by
    )
    if not is_own and (epoch < state["epoch"] or key in state["passed"]):
        if held is not None:
            now = f"{held[_WORKER]} has it now"
        elif epoch == state["epoch"] and key in state["returned"]:
            now = "others are to have it"
        else:
            now = f"{state['passed'].get(key) if epoch == state['epoch'] else 'another worker'} has handed it in"
        return AbortedError(
            f"{by} updates {what}, which it has lost: it was silent, was started again or gave it back, and {now}. "
            f"Nothing was changed; take another shard",
            retryable=False,
        )
    return FailedPreconditionError(
        f"{by} updates {what}, which it has handed in already; nothing was changed. Take another shard"
    )


def _words(state: Json, epoch: int, place: int) -> str:
    return shard_words(state["count"], state["seed"], epoch, place)


# -- questions ------------------------------------------------------------------------------------


def _look(state: Json, question: Json) -> Json | None:
    match question.get("ask"):
        case "take":  # whether there is one to be taken, or none will be any more
            identity, busy = fields.text(question, "id"), _busy(question)
            is_there = state["returned"] or state["next"] < state["count"] or _own(state, identity, busy)
            return {} if is_there or state["epoch"] >= state["epochs"] else None
        case "progress":
            return {name: each for name, each in state.items() if name not in ("passed", "last", "store")}
    raise fields.unknown("ask", question.get("ask"))


def _busy(content: Json) -> list[int]:
    """The places of those shards that a connection works on."""
    busy = content.get("busy")
    if not isinstance(busy, list) or [each for each in busy if not isinstance(each, int)]:
        raise InvalidArgumentError(f"busy is {busy!r}; it should be a list of places")
    return busy


def _passes(answer: Json) -> bool:
    return bool(answer.get("passes", True))


DATA_SHARDS: Final = ObjectKind(empty=_empty, step=_step, look=_look, passes=_passes)
