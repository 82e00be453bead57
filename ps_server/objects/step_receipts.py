"""Which updates of the steps of synchronous training a ps task has carried out.

Who makes a step sends each ps the updates that are ready together, as one batch after the other: the parts of the
step, 0, 1, ... If it dies among them, another one makes the same step again. A receipt goes before each part, in its
batch, and lets the updates behind it pass once. With it comes what was read of variables that the step updates: who
makes it again would read what they are now.

    state   {"of": the newest step that was heard of,
             "parts": how many parts of it have been carried out here, or need not be any more,
             "noted": what the newest part of it says was read before,
             "ticket": who may send some: nobody who comes with a lower one}
"""

from __future__ import annotations

from typing import Final

from ps_protocol.errors import AbortedError
from ps_protocol.shared_objects import Json
from ps_server.objects import fields
from ps_server.objects.object_kind import ObjectKind, Step


def _empty(settings: Json) -> Json:
    del settings
    return {"of": None, "parts": 0, "noted": {}, "ticket": 0}


def _step(state: Json, event: Json) -> Step:
    if event.get("do") not in ("update", "fence"):
        raise fields.unknown("do", event.get("do"))
    ticket = fields.whole(event, "ticket")
    if ticket < state["ticket"]:
        raise AbortedError(
            f"another task makes the steps now (ticket {state['ticket']}, and {ticket} has come); nothing was changed",
            retryable=False,
        )
    if event["do"] == "fence":
        return {**state, "ticket": ticket}, {**_begun(state), "passes": False}
    of, part = fields.text(event, "of"), fields.whole(event, "part")
    parts = state["parts"] if of == state["of"] else 0
    if part < parts:
        return {**state, "ticket": ticket}, {"passes": False}
    return {"of": of, "parts": part + 1, "noted": event.get("noted", {}), "ticket": ticket}, {"passes": True}


def _begun(state: Json) -> Json:
    return {"of": state["of"], "parts": state["parts"], "noted": state["noted"]}


def _look(state: Json, question: Json) -> Json | None:
    if question.get("ask") != "parts":
        raise fields.unknown("ask", question.get("ask"))
    return _begun(state)


def _passes(answer: Json) -> bool:
    return bool(answer.get("passes"))


STEP_RECEIPTS: Final = ObjectKind(empty=_empty, step=_step, look=_look, passes=_passes, checks_first=False)
