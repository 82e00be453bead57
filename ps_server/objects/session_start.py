"""For which state of the ps tasks the chief of training sessions has made all ready, as a shared object.

It is in no checkpoint, and a restore empties it.

state     {"ready": number}, which says what state of all ps tasks that was; 0 before
event     {"ready": number}
question  {}: answered with the state
"""

from __future__ import annotations

from typing import Final

from ps_protocol.shared_objects import Json
from ps_server.objects import fields
from ps_server.objects.object_kind import ObjectKind, Step


def _empty(_settings: Json) -> Json:
    return {"ready": 0}


def _step(state: Json, event: Json) -> Step:
    after = {"ready": fields.whole(event, "ready", 1)}
    return state if after == state else after, {}


def _look(state: Json, _question: Json) -> Json | None:
    return state


SESSION_START: Final = ObjectKind(empty=_empty, step=_step, look=_look)
