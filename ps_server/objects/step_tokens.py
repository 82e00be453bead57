"""The tokens of synchronous training: who may begin its next step, who has left, and who makes the steps.

    state   {"tokens": [[step, put], ...] that are there, the oldest first,
             "puts": how often some were put in,
             "closed": whether there will be no more,
             "cancelled": whether it was closed with what waits,
             "last": {worker: the put of which it has taken one last},
             "left": [worker, ...] which take part no more,
             "next": [worker, ...] which came when it was closed: they wait for another run,
             "lacking": [worker, ...] whose gradients were dropped, and which wait for a token,
             "sessions": {worker: its newest session},
             "replaced": how often one came after another of the same worker,
             "leader": the task that makes the steps; null if nobody does,
             "led": the last one that did,
             "resigned": whether it does no more though it is there,
             "ticket": how often that has changed}

A worker takes one token of each put, and none of a put before that. Who says so, or gives no name, takes any.

When it is closed, training has come to its end, for all who took part: they take what there is, and then hear so. Who
comes after that is there for another run, which begins when a task leads it.

A worker whose gradients were dropped, since an accumulator had another step when they came, has none that is pending,
and may be given no token either: that of the step was before it, or there was none. It says so, and whoever makes the
steps hands tokens out once more.

Who joins, leads or leaves says with which session: that an earlier session of a worker has left may come late, when
the next one is there already, and counts for nothing.
"""

from __future__ import annotations

from typing import Any, Final

from ps_protocol.errors import CancelledError, InvalidArgumentError, OutOfRangeError
from ps_protocol.shared_objects import Json
from ps_server.objects import fields
from ps_server.objects.object_kind import ObjectKind, Step

MAX_TOKENS: Final = 16 * 1024
"""The most tokens that there may be: a part of what a state may have."""


def _empty(settings: Json) -> Json:
    del settings
    return {
        "tokens": [],
        "puts": 0,
        "closed": False,
        "cancelled": False,
        "last": {},
        "left": [],
        "next": [],
        "lacking": [],
        "sessions": {},
        "replaced": 0,
        "leader": None,
        "led": None,
        "resigned": False,
        "ticket": 0,
    }


def _step(state: Json, event: Json) -> Step:
    match event.get("do"):
        case "put":
            return _put(state, event)
        case "take":
            return _take(state, event)
        case "join":
            return _join(_in_session(state, event), fields.text(event, "by"))
        case "leave":
            return _leave(state, event), {}
        case "lack":
            return _lack(state, fields.text(event, "by"))
        case "lead":
            return _lead(state, event)
        case "resign":
            return _resign(state, event), {}
        case "close":
            return _close(state, event)
    raise fields.unknown("do", event.get("do"))


def _put(state: Json, event: Json) -> Step:
    """Adds tokens; of those that nobody took, the newest stay, ``keep`` of them if that is given."""
    steps, keep, number = event.get("steps"), event.get("keep"), state["puts"] + 1
    if not isinstance(steps, list):
        raise InvalidArgumentError(f"steps is {steps!r}; it should be a list of numbers")
    added = [[fields.step({"step": each}, "step"), number] for each in steps]
    if state["closed"]:
        raise CancelledError("it is closed")
    there = state["tokens"]
    if keep is not None:
        most = fields.whole(event, "keep")
        there = there[-most:] if most else []
    if len(there) + len(added) > MAX_TOKENS:
        raise InvalidArgumentError(
            f"there would be {len(there) + len(added):,} tokens, and there may be {MAX_TOKENS:,}; put in less, or have "
            f"workers take them"
        )
    return ({**state, "tokens": [*there, *added], "puts": number} if added else state), {}


def _take(state: Json, event: Json) -> Step:
    worker = _worker(event)
    place = _place(state, event)
    if place is None:
        if _is_over(state, worker):
            raise OutOfRangeError("it is closed and has insufficient elements (requested 1, current size 0)")
        return None
    tokens = state["tokens"]
    after = _with_all({**state, "tokens": [*tokens[:place], *tokens[place + 1 :]]}, worker)
    if worker is not None:
        after["last"] = {**state["last"], worker: tokens[place][1]}
    return after, {"step": tokens[place][0]}


def _place(state: Json, asked: Json) -> int | None:
    """Which token a worker may take; None if there is none for it."""
    worker = _worker(asked)
    if worker in state["next"]:
        return None
    takes_any = worker is None or ("any" in asked and fields.flag(asked, "any"))
    last = 0 if takes_any else state["last"].get(worker, 0)
    return next((place for place, (_, put) in enumerate(state["tokens"]) if put > last), None)


def _is_over(state: Json, worker: str | None) -> bool:
    """Whether training has come to its end for a worker."""
    return bool(state["closed"]) and worker not in state["next"]


def _lack(state: Json, worker: str) -> Step:
    """A worker says that its gradients were dropped, so that it needs a token for the step that is being made."""
    lacking = state.get("lacking", [])
    return (state if worker in lacking else {**state, "lacking": sorted([*lacking, worker])}), {}


def _with_all(state: Json, worker: str | None) -> Json:
    """The state in which a worker lacks nothing."""
    lacking = state.get("lacking", [])
    return {**state, "lacking": [each for each in lacking if each != worker]} if worker in lacking else state


def _join(state: Json, worker: str) -> Step:
    """A worker takes part; the answer says whether in a run that is still to begin."""
    if state["closed"]:
        return {**state, "next": sorted({*state["next"], worker})}, {"waits": True}
    return _without(state, worker), {"waits": False}


def _another_run(state: Json) -> Json:
    """Nobody has left it, or has had a token; those that are put in count on, and so do leaders."""
    return {**_empty({}), **{name: state[name] for name in ("puts", "sessions", "replaced", "ticket")}}


def _in_session(state: Json, event: Json) -> Json:
    """The state that knows the session of whoever comes with one; if another one of it makes the steps, nobody does."""
    if event.get("session") is None:
        return state
    worker, session = fields.text(event, "by"), fields.text(event, "session")
    before = {**state, "sessions": {**state["sessions"], worker: session}}
    if state["sessions"].get(worker, session) == session:
        return before
    leader = None if state["leader"] == worker else state["leader"]
    return {**before, "replaced": state["replaced"] + 1, "leader": leader}


def _leave(state: Json, event: Json) -> Json:
    worker, session = fields.text(event, "by"), event.get("session")
    if session is not None and fields.text(event, "session") != state["sessions"].get(worker, session):
        return state  # it has come again since
    leader = None if state["leader"] == worker else state["leader"]
    if worker in state["left"] and worker not in state["next"] and leader == state["leader"]:
        return state
    waiting = [each for each in state["next"] if each != worker]
    state = _with_all(state, worker)
    return {**state, "left": sorted({*state["left"], worker}), "next": waiting, "leader": leader}


def _without(state: Json, worker: str) -> Json:
    if worker not in state["left"]:
        return state
    return {**state, "left": [each for each in state["left"] if each != worker]}


def _lead(state: Json, event: Json) -> Step:
    """Makes a task the leader, if nobody else became so since it has looked; the answer says whether.

    If all are gone, or it was closed, that begins another run, for which nobody has left.
    """
    worker = fields.text(event, "by")
    if fields.whole(event, "instead_of") != state["ticket"]:
        return state, {"leads": False, "ticket": state["ticket"]}
    ticket = state["ticket"] + 1
    is_over = state["closed"] or (state["leader"] is None and _have_all_left(state))
    state = _in_session(state, event)
    before = _another_run(state) if is_over else _without(state, worker)
    if not state["closed"]:
        before = {**before, "tokens": state["tokens"]}
    return {**before, "leader": worker, "led": worker, "resigned": False, "ticket": ticket}, {
        "leads": True,
        "ticket": ticket,
        "begins": is_over,
    }


def _have_all_left(state: Json) -> bool:
    """Whether nobody is there who has had a token; or who may wait for one, if who made the steps has resigned."""
    return set(state["sessions" if state.get("resigned") else "last"]) <= set(state["left"])


def _resign(state: Json, event: Json) -> Json:
    """Who makes the steps no longer does, though its session is there: so that others do."""
    worker = fields.text(event, "by")
    if (state["leader"], state["ticket"]) != (worker, fields.whole(event, "ticket")):
        return state  # another one does so by now
    return {**state, "leader": None, "resigned": True}


def _close(state: Json, event: Json) -> Step:
    """Training comes to its end; who made the steps, and was replaced, does not end it for the others."""
    cancel = fields.flag(event, "cancel")
    by = _worker(event)
    if by is not None and state["led"] not in (None, by):
        return state, {}
    if state["closed"] and not cancel:
        raise CancelledError("it is already closed")
    if state["cancelled"]:
        return state, {}
    return {**state, "closed": True, "cancelled": cancel}, {}


def _worker(content: Json) -> str | None:
    return None if content.get("by") is None else fields.text(content, "by")


def _look(state: Json, question: Json) -> Json | None:
    asked: Any = question.get("ask")
    match asked:
        case "size":
            return {"size": len(state["tokens"]), "closed": state["closed"]}
        case "token":
            is_decided = _is_over(state, _worker(question)) or _place(state, question) is not None
            return {} if is_decided else None
        case "crew":
            worker = _worker(question)
            waits = worker in state["next"]
            return {
                "leader": None if waits else state["leader"],
                "ticket": state["ticket"],
                "left": state["left"],
                "replaced": state["replaced"],
                "lacking": [each for each in state.get("lacking", ()) if _place(state, {"by": each}) is None],
                "closed": _is_over(state, worker),
                "waits": waits,
                "workers": sorted(state["last"]),
            }
    raise fields.unknown("ask", asked)


STEP_TOKENS: Final = ObjectKind(empty=_empty, step=_step, look=_look)
