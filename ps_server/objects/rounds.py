"""The rounds of a group of workers, as a shared object: what ``ps_server/rounds`` says, in JSON.

state     a ``GroupState``
event     as ``event_record`` makes it; the answer is an ``Answer``
question  {"worker": task, "incarnation": of its process}: answered when the worker may go on, or should say that it
          is back. Without a worker ({}) it is answered at once.
"""

from __future__ import annotations

from typing import Final

from ps_protocol.shared_objects import Json
from ps_protocol.training.json_records import as_record
from ps_protocol.training.round_messages import Look, event_of
from ps_server.objects import fields
from ps_server.objects.object_kind import ObjectKind, Step
from ps_server.rounds import group, report
from ps_server.rounds.state import GroupState


def _empty(_settings: Json) -> Json:
    return GroupState().record()


def _step(state: Json, event: Json) -> Step:
    before = GroupState.of_record(state)
    after, answer = group.step(before, event_of(event))
    return state if after == before else after.record(), as_record(answer)


def _look(state: Json, question: Json) -> Json | None:
    now = GroupState.of_record(state)
    if question.get("report"):
        return report.whole(now)
    if "worker" not in question:
        return as_record(group.step(now, Look())[1])  # type: ignore[no-any-return]
    worker, incarnation = fields.text(question, "worker"), fields.text(question, "incarnation")
    _, answer = group.step(now, Look(worker, incarnation))
    if answer.base is None and not answer.is_silent:
        return None
    return as_record(answer)  # type: ignore[no-any-return]


ROUNDS: Final = ObjectKind(empty=_empty, step=_step, look=_look)
