"""Makes sure that a save does not cut a round of workers that train together in two.

A round that is decided is carried out by one ps task after the other. Between that a cut would have it on some of them
only, for ever: what is kept for rounds is in no checkpoint. So a save whose cut would be there lets updates go on,
brings the round to the ps tasks that lack it, as whoever reads does, and tries again.
"""

from __future__ import annotations

from ps_protocol.errors import FailedPreconditionError, InternalError, NotFoundError, ShardscopeError
from ps_protocol.operations import Read
from ps_protocol.shared_objects import OBJECTS_PS_TASK, Look, decode_json, encode_json
from ps_protocol.training.data_shards import NAMES_KIND
from ps_protocol.training.round_operations import GROUP_NAMES, is_whole, stamp_name
from worker_client.checkpoints.calls import Tasks


def round_in_two(tasks: Tasks) -> str:
    """While updates are held back: the group of a round that is not on all ps tasks; empty if there is none."""
    if len(tasks.handles) == 1:
        return ""
    names = _names(tasks)
    stamps = tasks.side_by_side(lambda index: [_stamp(tasks, index, each) for each in names])
    for place, name in enumerate(names):
        if not is_whole([of_task[place] for of_task in stamps]):
            return name
    return ""


def _names(tasks: Tasks) -> list[str]:
    """Of all groups; none before the first one, or since a restore."""
    reply = tasks.handles[OBJECTS_PS_TASK].ask(Look(GROUP_NAMES, NAMES_KIND, encode_json({})))[0]
    if isinstance(reply, NotFoundError | FailedPreconditionError):
        return []
    if isinstance(reply, ShardscopeError):
        raise reply
    if reply.tensor is None:
        raise InternalError(f"{GROUP_NAMES} does not answer")
    return list(decode_json(reply.tensor, "the answer")["names"])


def _stamp(tasks: Tasks, index: int, group: str) -> tuple[int, int]:
    reply = tasks.handles[index].ask(Read(stamp_name(group, index)))[0]
    if isinstance(reply, NotFoundError | FailedPreconditionError):
        return 0, 0
    if isinstance(reply, ShardscopeError):
        raise reply
    if reply.tensor is None:
        raise InternalError(f"{stamp_name(group, index)} does not answer")
    begun, ended = reply.tensor.tolist()
    return begun, ended
