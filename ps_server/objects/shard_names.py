"""The names of all data shards of a cluster, so that a save finds them without a look at all variables.

state   {"names": sorted}
"""

from __future__ import annotations

from typing import Final

from ps_protocol.shared_objects import Json
from ps_server.objects import fields
from ps_server.objects.object_kind import ObjectKind, Step


def _empty(_settings: Json) -> Json:
    return {"names": []}


def _step(state: Json, event: Json) -> Step:
    if event.get("do") != "add":
        raise fields.unknown("do", event.get("do"))
    name = fields.text(event, "name")
    if name in state["names"]:
        return state, {}
    return {"names": sorted([*state["names"], name])}, {}


def _look(state: Json, _question: Json) -> Json | None:
    return state


SHARD_NAMES: Final = ObjectKind(empty=_empty, step=_step, look=_look)
