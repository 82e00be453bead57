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
             "ticket": the newest one,
             "pending": {place: [[group, its ticket, its round, from, to], ...]}, pieces whose gradients are handed in
                        for rounds of training together, in their order; left out if there are none}

A piece that is pending counts when its round does: ps task 0 carries the round out and moves the position in one
operation. Until then nobody else is given the shard, whatever becomes of its worker. If the gradient was dropped, as
when the run of its group ends, somebody who has looked at the group says so, and the shard is returned.

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

_WORKER, _ID, _TICKET, _POSITION, _SINCE, _LEASE, _PROCESS = range(7)
_GROUP, _SEAT_TICKET, _ROUND, _FROM, _TO = range(5)
_NOBODY: Final = ""
"""Has a shard that was given back with pieces that are pending."""


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
        case "applied":
            return _applied(state, event)
        case "dropped":
            return _dropped(state, event)
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
        state = {**_returned(_with_pending(state, {}), list(state["out"])), "store": store}
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
    places = {place: each for place, each in state["out"].items() if each[_ID] == identity and int(place) not in busy}
    return _lowest(_settled(state, places))


def _lowest(places: dict[str, Any]) -> str | None:
    return min(places, key=int, default=None)


def _settled(state: Json, places: dict[str, Any]) -> dict[str, Any]:
    """Those of which no piece is pending."""
    return {place: each for place, each in places.items() if not _pending(state, place)}


def _returned(state: Json, places: list[str]) -> Json:
    """Others are to have these, but for those with pieces that are pending."""
    places = [place for place in places if not _pending(state, place)]
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
    if _pending(state, place):
        left = [held[_WORKER], _NOBODY, 0, *held[_POSITION:_PROCESS], _NOBODY]
        out, passed = {**state["out"], place: left}, {**state["passed"], place: ""}
        return {**state, "out": out, "passed": passed}, {"had": True}
    return _returned(state, [place]), {"had": True}


def _gone(state: Json, event: Json) -> Step:
    """Workers have died, left, or been started again: others are to have what they had."""
    gone = fields.texts(event, "gone")
    places = [place for place, each in state["out"].items() if each[_ID] in gone]
    return _returned(state, places), {"returned": len(places)}


# -- updates --------------------------------------------------------------------------------------


def _update(state: Json, event: Json) -> Step:
    """A worker has come to a position in a shard, with the update that is in the same batch; ``END`` hands it in.

    The answer says whether that update is to be carried out, or has been: when the worker had no answer. With "round"
    the piece waits for that. Then "unsettled" says that earlier ones wait under tickets of which nobody knows whether
    their gradients are still there; the worker finds out, and names those that are as "known".
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
    pieces, of_round = _pending(state, key), _round_of(event)
    if pieces and (of_round is None or of_round[0] != pieces[-1][_GROUP]):
        raise FailedPreconditionError(
            f"{by} updates {_words(state, epoch, place)} from {piece_words(begin, end)} "
            f"{'by itself' if of_round is None else f'in a round of {of_round[0]}'}, but its piece from "
            f"{piece_words(*pieces[-1][_FROM:])} waits for round {pieces[-1][_ROUND]} of {pieces[-1][_GROUP]}; nothing "
            f"was changed. Complete all of a shard by one optimizer"
        )
    known = [] if of_round is None else [[of_round[1]], *_pairs(event["round"], "known")]
    if [each for each in pieces if [each[_SEAT_TICKET]] not in known and each[_SEAT_TICKET:_FROM] not in known]:
        return state, {"passes": False, "unsettled": True}
    position = pieces[-1][_TO] if pieces else held[_POSITION]
    if position == end:
        return state, {"passes": False}
    if position != begin:
        raise FailedPreconditionError(
            f"{by} updates {_words(state, epoch, place)} from {piece_words(begin, end)}, but has "
            f"{'handed it in' if position == END else f'come to {position} with it'}; one thread works on a shard at "
            f"a time"
        )
    if of_round is not None:
        return _with_pending(state, {key: [*pieces, [*of_round, begin, end]]}, keep=True), {"passes": True}
    return _moved(state, key, end), {"passes": True}


def _moved(state: Json, place: str, end: int) -> Json:
    """A shard that is out has come to a position."""
    held = state["out"][place]
    if end != END:
        return {**state, "out": {**state["out"], place: [*held[:_POSITION], end, *held[_POSITION + 1 :]]}}
    by = held[_WORKER]
    after = {
        **state,
        "out": {other: each for other, each in state["out"].items() if other != place},
        "last": {**state["last"], by: [state["epoch"], int(place), held[_TICKET]]},
        "handed_in": {**state["handed_in"], by: state["handed_in"].get(by, 0) + 1},
    }
    if place in state["passed"]:
        after["passed"] = {**state["passed"], place: by}
    if after["next"] == after["count"] and not after["out"] and not after["returned"]:
        after |= {"epoch": state["epoch"] + 1, "next": 0, "passed": {}}
    return after


# -- updates in rounds ----------------------------------------------------------------------------


def _applied(state: Json, event: Json) -> Step:
    """Rounds of a group are carried out: what is pending with a gradient of theirs counts."""
    group, parts = fields.text(event, "group"), _pairs(event, "parts")
    moved = 0
    for place in _places_with(state, group, parts):
        pieces = _pending(state, place)
        while pieces and _is_of(pieces[0], group, parts):
            (*_, end), *pieces = pieces
            moved += 1
            state = _moved(_with_pending(state, {place: pieces}, keep=True), place, end)
        if place in state["out"] and state["out"][place][_ID] == _NOBODY:
            state = _returned(state, [place])
    return state, {"moved": moved}


def _dropped(state: Json, event: Json) -> Step:
    """Gradients of a group were dropped: others are to have the shards whose pieces they would have completed."""
    group, parts = fields.text(event, "group"), _pairs(event, "parts")
    places = _places_with(state, group, parts)
    for place in places:
        pieces = _pending(state, place)
        first = min([number for number, each in enumerate(pieces) if _is_of(each, group, parts)])
        state = _with_pending(state, {place: pieces[:first]}, keep=True)
        held = state["out"][place]
        state = {**state, "out": {**state["out"], place: [held[_WORKER], _NOBODY, 0, *held[_POSITION:]]}}
        state = _returned({**state, "passed": {**state["passed"], place: ""}}, [place])
    return state, {"returned": len(places)}


def _pending(state: Json, place: str) -> list[Any]:
    """The pieces of a shard that wait for their rounds."""
    found: list[Any] = state.get("pending", {}).get(place, [])
    return found


def _with_pending(state: Json, pending: dict[str, Any], *, keep: bool = False) -> Json:
    """Returns the state with other pieces pending for some places; for the others none, or those that there are."""
    after = {**(state.get("pending", {}) if keep else {}), **pending}
    after = {place: pieces for place, pieces in after.items() if pieces}
    rest = {name: each for name, each in state.items() if name != "pending"}
    return {**rest, "pending": after} if after else rest


def _places_with(state: Json, group: str, parts: list[list[int]]) -> list[str]:
    found = state.get("pending", {}).items()
    return sorted(
        [place for place, pieces in found if [each for each in pieces if _is_of(each, group, parts)]], key=int
    )


def _is_of(piece: list[Any], group: str, parts: list[list[int]]) -> bool:
    return piece[_GROUP] == group and piece[_SEAT_TICKET:_FROM] in parts


def _round_of(event: Json) -> list[Any] | None:
    of_round = event.get("round")
    if of_round is None:
        return None
    if not isinstance(of_round, dict):
        raise InvalidArgumentError(f"round is {of_round!r}; it should say which one, of which group")
    return [fields.text(of_round, "group"), fields.whole(of_round, "ticket", 1), fields.whole(of_round, "round", 1)]


def _pairs(content: Json, name: str) -> list[list[int]]:
    """Tickets and rounds of gradients."""
    pairs = content.get(name, [])
    if not isinstance(pairs, list) or [each for each in pairs if not _is_pair(each)]:
        raise InvalidArgumentError(f"{name} is {pairs!r:.100}; it should be a list of tickets and rounds")
    return pairs


def _is_pair(content: Any) -> bool:
    return isinstance(content, list) and [type(each) for each in content] == [int, int]


def _refusal(state: Json, by: str, epoch: int, place: int, held: list[Any] | None) -> ShardscopeError:
    """Why a worker cannot update a shard, and who can."""
    what, key = _words(state, epoch, place), str(place)
    if epoch > state["epoch"] or (epoch == state["epoch"] and place >= state["next"]):
        return FailedPreconditionError(f"{by} updates {what}, which nobody has been given; nothing was changed")
    is_own = state["last"].get(by, [])[:2] == [epoch, place] or (
        epoch == state["epoch"] and state["passed"].get(key) == by
    )
    if not is_own and (epoch < state["epoch"] or key in state["passed"]):
        if held is not None and held[_ID] != _NOBODY:
            now = f"{held[_WORKER]} has it now"
        elif held is not None or (epoch == state["epoch"] and key in state["returned"]):
            now = "others are to have it"
        else:
            now = f"{state['passed'].get(key) if epoch == state['epoch'] else 'another worker'} has handed it in"
        return AbortedError(
            f"{by} updates {what}, which it has lost: it was silent, was started again or gave it back, or what it had "
            f"handed in for a round was dropped, and {now}. Nothing was changed; take another shard",
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
