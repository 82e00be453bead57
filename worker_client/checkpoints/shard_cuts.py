"""Makes sure that a save does not cut an update of a data shard in two.

Such an update is applied on ps task 0 last. Between that and the other ps tasks a cut would have it on some of them
only, and the receipts that say so are of no use where variables are on other ps tasks than before. So a save whose cut
would be there lets updates go on for a moment, and tries again.
"""

from __future__ import annotations

import math

from ps_protocol.errors import FailedPreconditionError, InternalError, NotFoundError, ShardscopeError
from ps_protocol.operations import Reply
from ps_protocol.shared_objects import OBJECTS_PS_TASK, Json, Look, decode_json, encode_json
from ps_protocol.training.data_shards import (
    END,
    NAMES,
    NAMES_KIND,
    RECEIPTS_KIND,
    SHARDS_KIND,
    receipts_name,
    shard_order,
    shards_name,
)
from worker_client.checkpoints.calls import Tasks


def cut_in_two(tasks: Tasks) -> str:
    """While updates are held back: says whose update of a shard is not on all of its ps tasks; empty if none is."""
    if len(tasks.handles) == 1:
        return ""
    listed = _asked(tasks, OBJECTS_PS_TASK, Look(NAMES, NAMES_KIND, encode_json({})))
    for name in listed[0]["names"] if listed else ():
        question = Look(shards_name(name), SHARDS_KIND, encode_json({"ask": "progress"}))
        for shards in _asked(tasks, OBJECTS_PS_TASK, question):

            def ahead(index: int, name: str = name, shards: Json = shards) -> str:
                if index == OBJECTS_PS_TASK:
                    return ""
                question = Look(receipts_name(name, index), RECEIPTS_KIND, encode_json({"ask": "seen"}))
                found = _asked(tasks, index, question)
                return _ahead(name, shards, found[0]) if found else ""

            for words in tasks.side_by_side(ahead):
                if words:
                    return words
    return ""


def _ahead(name: str, shards: Json, receipts: Json) -> str:
    if receipts["epoch"] != shards["epoch"]:
        return ""
    for place, position in receipts["positions"].items():
        held, returned = shards["out"].get(place), shards["returned"].get(place)
        known = held[3] if held else returned[1] if returned else END
        if _rank(position) > _rank(known):
            index = int(shard_order(shards["count"], shards["seed"], shards["epoch"])[int(place)])
            worker = (held or returned or ["a worker"])[0]
            return f"the update of {worker} for shard {index} of {name}"
    return ""


def _rank(position: int) -> float:
    return math.inf if position == END else position


def _asked(tasks: Tasks, index: int, look: Look) -> list[Json]:
    """What an object answers; nothing if it is not there yet, or was not opened since a restore."""
    reply: Reply = tasks.handles[index].ask(look)[0]
    if isinstance(reply, NotFoundError | FailedPreconditionError):
        return []
    if isinstance(reply, ShardscopeError):
        raise reply
    if reply.tensor is None:
        raise InternalError(f"{look.name} does not answer")
    return [decode_json(reply.tensor, "the answer")]
