"""The rounds of a group of workers, as a shared object: what ``ps_server/rounds`` says, in JSON.

state     a ``GroupState``, in JSON where it is stored
event     as ``event_record`` makes it; the answer is an ``Answer``
question  {"worker": task, "incarnation": of its process}: answered when the worker may go on, or should say that it
          is back. Without a worker ({}) it is answered at once. {"report": true} is answered with a report,
          {"under_way": true} with which gradients wait, or are decided.
"""

from __future__ import annotations

from typing import Final

from ps_protocol.shared_objects import Json
from ps_protocol.training.json_records import as_record
from ps_protocol.training.round_messages import Look, Verdict, event_of
from ps_server.objects import fields
from ps_server.objects.object_kind import ObjectKind, Step
from ps_server.rounds import group, report
from ps_server.rounds.state import GroupState


def _empty(_settings: Json) -> GroupState:
    return GroupState()


def _step(state: GroupState, event: Json) -> Step:
    after, answer = group.step(state, event_of(event))
    return state if after == state else after, as_record(answer)


def _look(state: GroupState, question: Json) -> Json | None:
    if question.get("report"):
        return report.whole(state)
    if question.get("under_way"):
        return report.under_way(state)
    if "worker" not in question:
        return as_record(group.step(state, Look())[1])  # type: ignore[no-any-return]
    worker, incarnation = fields.text(question, "worker"), fields.text(question, "incarnation")
    answer = group.waited_for(state, worker, incarnation)
    return None if answer is None else as_record(answer)


def _takes(answer: Json) -> bool:
    return answer.get("verdict") in (None, Verdict.APPLIED)


ROUNDS: Final = ObjectKind(
    empty=_empty,
    step=_step,
    look=_look,
    takes=_takes,
    read=GroupState.of_record,
    write=lambda state: state.record(),
    wakes=group.may_free,
)
