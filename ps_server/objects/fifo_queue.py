"""A queue of small items: first in, first out, and no more at a time than its capacity.

    state   {"capacity": items that there may be; 0 for as many as fit,
             "components": how many each item has,
             "items": [[component, ...], ...], each component in the form that clients gave it, which nobody looks at,
             "bytes": of all items as JSON,
             "closed": whether nothing new is taken,
             "cancelled": whether what had been waiting for room before it was closed is not taken either}

What an event cannot do before others have done something is not done yet: to take an item without room, or to give as
many as are wanted. Closed, the queue says so instead.
"""

from __future__ import annotations

from typing import Any, Final

from ps_protocol.errors import CancelledError, InvalidArgumentError, OutOfRangeError
from ps_protocol.shared_objects import Json, json_text
from ps_server.objects import fields
from ps_server.objects.object_kind import ObjectKind, Step

MAX_ITEM_BYTES: Final = 512 * 1024
"""Most bytes of all items together, as JSON: half of what a state may have."""


def _empty(settings: Json) -> Json:
    return {
        "capacity": fields.whole(settings, "capacity"),
        "components": len(fields.texts(settings, "dtypes")),
        "items": [],
        "bytes": 0,
        "closed": False,
        "cancelled": False,
    }


def _step(state: Json, event: Json) -> Step:
    match event.get("do"):
        case "enqueue":
            return _enqueue(state, event)
        case "dequeue":
            return _dequeue(state, event)
        case "close":
            return _close(state, event)
    raise fields.unknown("do", event.get("do"))


def _enqueue(state: Json, event: Json) -> Step:
    """Takes as many of the items as there is room for, from the first on; the answer says how many."""
    items, sizes = event.get("items"), []
    if not isinstance(items, list):
        raise InvalidArgumentError("items is no list")
    for item in items:
        if not isinstance(item, list) or len(item) != state["components"]:
            raise InvalidArgumentError(f"an item of this queue has {state['components']} components")
        sizes.append(len(json_text({"": item})))
        if sizes[-1] > MAX_ITEM_BYTES:
            raise InvalidArgumentError(
                f"an item takes {sizes[-1]:,} bytes, and all items of a queue together may take {MAX_ITEM_BYTES:,}; "
                f"put what is large into variables"
            )
    if state["closed"] and (state["cancelled"] or not fields.flag(event, "pending")):
        raise CancelledError("it is closed")
    if not items:
        return state, {"taken": 0}
    taken, size_bytes = 0, state["bytes"]
    while taken < len(items) and _has_room(state, len(state["items"]) + taken, size_bytes + sizes[taken]):
        size_bytes += sizes[taken]
        taken += 1
    if not taken:
        return None
    return {**state, "items": [*state["items"], *items[:taken]], "bytes": size_bytes}, {"taken": taken}


def _has_room(state: Json, num_items: int, size_bytes: int) -> bool:
    return (not state["capacity"] or num_items < state["capacity"]) and size_bytes <= MAX_ITEM_BYTES


def _dequeue(state: Json, event: Json) -> Step:
    """Gives so many items; a closed queue that has less gives those, if they are wanted, or says so."""
    number = _number(state, event)
    if number is None:
        return None
    given, items = state["items"][:number], state["items"][number:]
    if not given:
        return state, {"items": []}
    size_bytes = state["bytes"] - sum([len(json_text({"": item})) for item in given])
    return {**state, "items": items, "bytes": size_bytes}, {"items": given}


def _number(state: Json, wanted: Json) -> int | None:
    """How many items can be given to somebody who wants some; None if that is not known yet."""
    number, up_to, there = fields.whole(wanted, "number"), fields.flag(wanted, "up_to"), len(state["items"])
    if state["capacity"] and number > state["capacity"]:
        raise InvalidArgumentError(
            f"{number} items are wanted at a time, and it never has more than {state['capacity']}; make it larger, or "
            f"ask for less"
        )
    if there >= number:
        return number
    if not state["closed"]:
        return None
    if up_to and there:
        return there
    raise OutOfRangeError(f"it is closed and has insufficient elements (requested {number}, current size {there})")


def _close(state: Json, event: Json) -> Step:
    cancel = fields.flag(event, "cancel")
    if state["closed"] and not cancel:
        raise CancelledError("it is already closed")
    if state["cancelled"]:
        return state, {}
    return {**state, "closed": True, "cancelled": cancel}, {}


def _look(state: Json, question: Json) -> Json | None:
    asked: Any = question.get("ask")
    match asked:
        case "size":
            return {"size": len(state["items"]), "closed": state["closed"]}
        case "room":  # for an item that waits for it
            size_bytes = state["bytes"] + fields.whole(question, "bytes")
            is_decided = state["cancelled"] or _has_room(state, len(state["items"]), size_bytes)
            return {} if is_decided else None
        case "items":
            is_decided = state["closed"] or _number(state, question) is not None
            return {} if is_decided else None
    raise fields.unknown("ask", asked)


FIFO_QUEUE: Final = ObjectKind(empty=_empty, step=_step, look=_look)
