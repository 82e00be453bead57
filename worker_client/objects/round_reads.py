"""What a worker that trains together reads behind a round, and how it knows which round that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from ps_protocol.errors import InternalError
from ps_protocol.operations import PsOperation, Read, Reply, Result, Verdict
from ps_protocol.shared_objects import OBJECTS_PS_TASK, Look
from ps_protocol.training.round_operations import STAMP_KIND, asking_for, stamp_name
from worker_client.connection.fanout import Fanout, Routed, succeeded

MOST_BEHIND_BYTES: Final = 4 * 1024 * 1024
"""What is read behind a wait: a ps keeps room for the reply as long as it waits, and others find none."""


class Pull(Protocol):
    """Values that are read behind something else: a mirror."""

    def begin_behind(self, fanout: Fanout) -> Sequence[Routed]:
        """Returns the reads that go with it; no array changes before ``end_behind``."""
        ...

    def end_behind(self, replies: Sequence[Reply]) -> None:
        """Takes the replies to them."""
        ...


class Seen(NamedTuple):
    """What was read at a ps task: at ps task 0 behind the newest model.

    Attributes:
        ended: The newest round that it had carried out, or one before that.
        replies: To the rest; None if that is too large to be read behind a wait.
    """

    ended: int
    replies: Sequence[Reply] | None


class ReadsBehind(NamedTuple):
    """What to read there.

    Attributes:
        operations: The stamp, and the rest.
        expected_bytes: Of what is read.
        is_whole: Whether the rest is among them.
    """

    operations: Sequence[PsOperation]
    expected_bytes: int
    is_whole: bool

    def read(self, replies: Sequence[Reply]) -> Seen | None:
        """Returns what was read; None if nothing was."""
        return Seen(ended(replies[0]), replies[1:] if self.is_whole else None) if replies else None


def reads_behind(group: str, reads: Sequence[Routed]) -> ReadsBehind:
    """What to read at ps task 0 behind a round of a group: its stamp first, so that the rest is not older."""
    there = [each for each in reads if each.ps_task == OBJECTS_PS_TASK]
    expected_bytes = sum([each.expected_reply_bytes for each in there])
    is_whole = expected_bytes <= MOST_BEHIND_BYTES
    rest = [each.operation for each in there] if is_whole else []
    return ReadsBehind((Read(stamp_name(group, OBJECTS_PS_TASK)), *rest), expected_bytes if is_whole else 0, is_whole)


class EarlyReads(NamedTuple):
    """What to read at other ps tasks than 0 behind a gradient that is staged there.

    Attributes:
        ps_tasks: Which.
        routed: A look at the stamp of each, then the stamps, then the rest.
    """

    ps_tasks: Sequence[int]
    routed: Sequence[Routed]

    def seen(self, replies: Sequence[Reply]) -> dict[int, Seen]:
        """Returns what was read."""
        half, whole = len(self.ps_tasks), 2 * len(self.ps_tasks)
        found = {}
        for ps, look, stamp in zip(self.ps_tasks, replies[:half], replies[half:whole], strict=True):
            if is_there(look):
                rest = zip(self.routed[whole:], replies[whole:], strict=True)
                found[ps] = Seen(ended(stamp), [reply for each, reply in rest if each.ps_task == ps])
        return found


def reads_early(group: str, ps_tasks: Sequence[int], reads: Sequence[Routed]) -> EarlyReads:
    """What to read at some ps tasks before the worker has handed in, of whatever round they are."""
    looks = [Routed(ps, look_at_stamp(group, ps, 0, 0.0)) for ps in ps_tasks]
    stamps = [Routed(ps, Read(stamp_name(group, ps))) for ps in ps_tasks]
    return EarlyReads(ps_tasks, [*looks, *stamps, *[each for each in reads if each.ps_task in ps_tasks]])


def look_at_stamp(group: str, ps_task: int, number: int, wait_s: float) -> Look:
    """Asks a ps whether it has carried a round out; what is read behind that is no part of an update."""
    return Look(stamp_name(group, ps_task), STAMP_KIND, asking_for(number), wait_s)


def is_not_yet(reply: Reply) -> bool:
    """Whether a ps has not carried out the round that it was asked for."""
    return isinstance(reply, Result) and reply.verdict is Verdict.NOT_YET


def is_there(reply: Reply) -> bool:
    """Whether a ps has the round that it was asked for; one of an earlier version does not know the question."""
    return isinstance(reply, Result) and not is_not_yet(reply)


def ended(reply: Reply) -> int:
    """Returns the newest round that a ps had carried out, by what it has said of its stamp."""
    stamp = succeeded(reply).tensor
    if stamp is None:
        raise InternalError("a ps has answered without its stamp")
    return int(stamp[1])
