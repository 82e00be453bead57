"""Reads that see the rounds of workers that train together whole, on all ps tasks or on none.

Each ps task has a stamp: the newest round that it has begun to carry out, and the newest that it has carried out. What
was read between two looks at all stamps is one model if all of them say the same number (``docs/decisions/rounds.md``).
If not, a worker may have died before it had brought a decision to every ps, so whoever reads brings it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from ps_protocol.errors import AbortedError, DeadlineExceededError, NotFoundError, PermissionDeniedError
from ps_protocol.operations import Read, Reply
from ps_protocol.service_types import VariableInfo
from ps_protocol.shared_objects import OBJECTS_PS_TASK
from ps_protocol.training.round_messages import Answer
from ps_protocol.training.round_operations import (
    GROUP_KIND,
    commit_of,
    group_name,
    is_whole,
    outer_name,
    stamp_name,
)
from ps_protocol.training.sync_policy import SyncPolicy
from worker_client.connection.fanout import Fanout, Routed, succeeded
from worker_client.connection.retry import Deadline
from worker_client.connection.whole_reads import Attempt
from worker_client.objects.shared_object import ObjectConnection, WaitPlaces
from worker_client.objects.training_report import group_names, no_such_group

_Of = TypeVar("_Of")
READ_TIMEOUT_S: Final = 60.0
_FIRST_PAUSE_S: Final = 0.002
_LONGEST_PAUSE_S: Final = 0.1


class WholeRounds:
    """The whole reads of one connection. Thread-safe.

    Args:
        fanout: The way to the ps tasks.
        places: For questions to ps task 0.
        num_ps: Number of ps tasks.
        pause: Waits for so many seconds.
    """

    def __init__(
        self, fanout: Fanout, places: WaitPlaces, num_ps: int, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._fanout = fanout
        self._places = places
        self._num_ps = num_ps
        self._pause = pause
        self._followed: dict[str, frozenset[str]] = {}  # a look into it, and a change of it, are atomic

    def follow(self, group: str, names: Iterable[str]) -> None:
        """Has later reads of these variables see whole rounds of a group that trains them."""
        self._followed[group] = frozenset(names)

    def read(self, names: Iterable[str], trained_by: Sequence[str], attempt: Attempt) -> None:
        """Calls ``attempt`` until what it has read is of one round of each group.

        Args:
            names: Full names of what it reads.
            trained_by: Groups that train some of them, besides those that are followed.
            attempt: Reads.

        Raises:
            DeadlineExceededError: It was not in time.
            NotFoundError: One of ``trained_by`` trains nothing, but another optimizer, which is not among them, trains
                some of what it reads.
            ShardscopeError: A ps has failed.
        """
        read = frozenset(names)
        own = [group for group, followed in list(self._followed.items()) if not followed.isdisjoint(read)]
        groups = sorted({*own, *trained_by})
        looks = [Routed(ps, Read(stamp_name(group, ps))) for group in groups for ps in range(self._num_ps)]
        deadline, pause_s = Deadline(READ_TIMEOUT_S), _FIRST_PAUSE_S
        while True:
            replies = attempt(looks)
            stamps = [_stamp(each) for each in replies]
            places = [groups.index(name) for name in trained_by]
            absent = [groups[place] for place in places if _is_absent(self._of_group(replies, place))]
            if absent:
                self._check_names(absent, groups, read)
            lacking = [group for place, group in enumerate(groups) if not is_whole(self._of_group(stamps, place))]
            if not lacking:
                return
            if not deadline.remaining_s():
                raise self._late(lacking[0], self._of_group(stamps, groups.index(lacking[0])))
            for group in lacking:
                self.bring(group)
            self._pause(min(pause_s, deadline.remaining_s()))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _check_names(self, absent: Sequence[str], groups: Sequence[str], read: frozenset[str]) -> None:
        """Makes sure that groups which are not there are to come, and not others by a wrong name."""
        others = [each for each in group_names(self._listed(OBJECTS_PS_TASK)) if each not in groups]
        if not others:
            return
        counts: dict[
            str, tuple[str, str]
        ] = {}  # of steps, which every optimizer has beside each variable that it trains
        for other in others:
            counts |= {f"{each}/{name}/step": (each, other) for each in read for name in (other, outer_name(other))}
        there = [info.spec.name for ps_task in range(self._num_ps) for info in self._listed(ps_task)]
        by = sorted([counts[each] for each in there if each in counts])
        if by:
            variable, other = by[0]
            raise NotFoundError(
                f"{no_such_group(absent[0], [other])}, which {variable} is trained by; say trained_by={[other]}",
                variable=variable,
            )

    def _of_group(self, stamps: Sequence[_Of], place: int) -> list[_Of]:
        """What was said of the stamps of one group, before and after."""
        begin, half = place * self._num_ps, len(stamps) // 2
        return [*stamps[begin : begin + self._num_ps], *stamps[half + begin : half + begin + self._num_ps]]

    def bring(self, group: str) -> None:
        """Brings each ps the decisions that it has not carried out, if this connection may."""
        name = group_name(group)
        said = ObjectConnection(self._fanout.handle(0), self._places, name=name, kind=GROUP_KIND).wait({}, Deadline(0))
        if said is None:
            return
        answer = Answer.of_record(said)
        stamps = self._fanout.exchange_all(
            [Routed(ps_task, Read(stamp_name(group, ps_task))) for ps_task in range(self._num_ps)]
        )
        news: list[Routed] = []
        for ps_task, reply in enumerate(stamps):
            decisions = [each for each in answer.decisions if each.round > _stamp(reply)[1]]
            if decisions:
                there, policy = self._variables_on(ps_task), SyncPolicy.parse(answer.policy)
                news.extend([Routed(ps_task, commit_of(group, policy, each, ps_task, there)) for each in decisions])
        if not news:
            return
        try:
            self._fanout.handle(0).check_may_update([each.operation for each in news])
        except PermissionDeniedError:  # others bring it
            return
        for reply in self._fanout.exchange_all(news):
            if not isinstance(reply, AbortedError):  # others have brought newer ones since
                succeeded(reply)

    def _variables_on(self, ps_task: int) -> tuple[str, ...]:
        """Names of all variables of a ps that a round may change."""
        return tuple([each.spec.name for each in self._listed(ps_task) if not each.spec.object_kind])

    def _listed(self, ps_task: int) -> Sequence[VariableInfo]:
        handle = self._fanout.handle(ps_task)
        return handle.call(lambda service, t: service.list_variables(timeout_s=t), what="to list its variables")

    def _late(self, group: str, stamps: Sequence[tuple[int, int]]) -> DeadlineExceededError:
        rounds = ", ".join([f"ps:{ps} at {stamps[ps][1]}" for ps in range(self._num_ps)])
        return DeadlineExceededError(
            f"{group}: in {READ_TIMEOUT_S:.0f} s no read was of one round on all ps tasks ({rounds}): rounds follow "
            f"each other faster than they are read, or a ps lacks one that an observer may not bring it",
            retryable=True,
        )


def _is_absent(replies: Sequence[Reply]) -> bool:
    """Whether no ps has a stamp of a group, by what they have replied."""
    return len([each for each in replies if isinstance(each, NotFoundError)]) == len(replies)


def _stamp(reply: Reply) -> tuple[int, int]:
    if isinstance(reply, NotFoundError):  # nobody has joined yet
        return 0, 0
    tensor = succeeded(reply).tensor
    assert tensor is not None
    begun, ended = tensor.tolist()
    return begun, ended
