"""A barrier: workers arrive, and go on when so many have. It is used again and again: each meeting has a number.

Who is gone, a client says that has asked ps task 0 for the members: nothing here knows a clock or a lease.

    state   {"meeting": number of the one that workers arrive for now,
             "store": identity of the store that those have seen who have arrived,
             "count": how many it takes; 0 as long as nobody has arrived,
             "arrived": {task: [identity of its connection, number of its call]},
             "last": those of the meeting before,
             "broken": [[number, why]], the newest meetings that did not come about}

Events and questions name the caller: ``by`` (its task), ``id`` (of its connection) and ``call`` (the number of its
call: one that is tried again keeps its number, and counts once).
"""

from __future__ import annotations

from typing import Any, Final

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.shared_objects import Json
from ps_server.objects import fields
from ps_server.objects.object_kind import ObjectKind, Step

_MOST_BROKEN: Final = 16


def _empty(_settings: Json) -> Json:
    return {"meeting": 1, "store": "", "count": 0, "arrived": {}, "last": {}, "broken": []}


def _step(state: Json, event: Json) -> Step:
    match event.get("do"):
        case "arrive":
            return _arrive(state, event)
        case "leave":
            return _leave(state, event)
        case "gone":
            return _gone(state, event)
    raise fields.unknown("do", event.get("do"))


def _arrive(state: Json, event: Json) -> Step:
    """A worker arrives; the answer has the number of the meeting, or that it has met the others already."""
    by, caller, count = fields.text(event, "by"), _caller(event), fields.whole(event, "count", 1)
    store = fields.text(event, "store")
    if state["last"].get(by) == caller and state["store"] == store:
        return state, {"meeting": state["meeting"] - 1}
    if state["store"] != store:  # those who have arrived have seen another state since: they do not wait any more
        state = {**state, "store": store, "arrived": {}, "last": {}, "count": 0}
    arrived: dict[str, Any] = state["arrived"]
    if arrived and state["count"] != count:
        others = ", ".join(sorted(arrived))
        raise InvalidArgumentError(
            f"{by} waits for {count} workers, but {others} for {state['count']}; give the same count everywhere"
        )
    answer = {"meeting": state["meeting"]}
    if arrived.get(by) == caller:
        return state, answer
    arrived = {**arrived, by: caller}
    if len(arrived) < count:
        return {**state, "arrived": arrived, "count": count}, answer
    return _next(state, arrived), answer


def _leave(state: Json, event: Json) -> Step:
    """A worker waits no longer; the answer says whether it has met the others, and who had arrived beside it."""
    by, caller = fields.text(event, "by"), _caller(event)
    if state["last"].get(by) == caller:
        return state, {"met": True}
    others = {task: each for task, each in state["arrived"].items() if task != by}
    answer = {"met": False, "arrived": sorted(others)}
    if state["arrived"].get(by) != caller:
        return state, answer
    return {**state, "arrived": others, "count": state["count"] if others else 0}, answer


def _gone(state: Json, event: Json) -> Step:
    """Workers have died or left. Without enough others the meeting does not come about; else they are not counted."""
    gone, meeting = fields.texts(event, "gone"), fields.whole(event, "meeting", 1)
    arrived: dict[str, Any] = state["arrived"]
    if meeting != state["meeting"] or not arrived:
        return state, {}
    remaining = {task: each for task, each in arrived.items() if task not in gone}
    if event.get("workers") is not None:
        possible = {*remaining, *fields.texts(event, "workers")}
        if len(possible) < state["count"]:
            broken = [*state["broken"], [meeting, fields.text(event, "why")]][-_MOST_BROKEN:]
            return {**_next(state, {}), "broken": broken}, {}
    if len(remaining) == len(arrived):
        return state, {}
    return {**state, "arrived": remaining, "count": state["count"] if remaining else 0}, {}


def _next(state: Json, met: dict[str, Any]) -> Json:
    return {**state, "meeting": state["meeting"] + 1, "count": 0, "arrived": {}, "last": met}


def _look(state: Json, question: Json) -> Json | None:
    """What has become of a meeting, for one who has arrived for it: met, broken, or to arrive again; or another has."""
    by, caller, meeting = fields.text(question, "by"), _caller(question), fields.whole(question, "meeting", 1)
    if meeting < state["meeting"]:
        broken = [why for number, why in state["broken"] if number == meeting]
        return {"broken": broken[0]} if broken else {"met": True}
    there = state["arrived"].get(by)
    if there == caller:
        return None
    return {"again": True} if there is None else {"replaced": there}


def _caller(content: Json) -> list[Any]:
    return [fields.text(content, "id"), fields.whole(content, "call", 1)]


BARRIER: Final = ObjectKind(empty=_empty, step=_step, look=_look)
