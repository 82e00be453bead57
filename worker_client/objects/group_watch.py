"""Who is missing in a group that trains together, as a worker that waits for them finds out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from ps_protocol.errors import DeadlineExceededError
from ps_protocol.service_types import Member, MemberState
from ps_protocol.training.round_messages import Answer, Awaited, Event, GivenUp, Silent
from ps_protocol.training.sync_policy import OnMissing, SyncPolicy
from worker_client.connection.fanout import Fanout
from worker_client.connection.retry import Deadline, Reports
from worker_client.objects.departures import Unheard
from worker_client.objects.shared_object import WaitPlaces
from worker_client.objects.training_report import report_if_any

_LOG: Final = logging.getLogger(__name__)

WAIT_TIMEOUT_S: Final = 600.0
"""Bound on the wait for workers that are there, and are busy with a step."""

_FIRST_REPORT_S: Final = 10.0
_ADVICE: Final = "; let all workers make the steps of several optimizers in the same order"
_GONE: Final = (MemberState.DEAD, MemberState.LEFT)


class OtherGroup(Protocol):
    """Another group of the same worker."""

    @property
    def name(self) -> str:
        """That of its optimizer."""
        ...

    @property
    def is_of_this_thread(self) -> bool:
        """Whether this thread has made the newest step."""
        ...

    def rest(self) -> None:
        """Rounds go on without this worker until its next step."""
        ...


class GroupWatch:
    """Looks now and then who is missing, on behalf of a worker that waits.

    Args:
        name: Of the group.
        policy: What the worker trains by.
        task: Who waits, as "worker:1".
        lease_s: How long a worker may be silent, in seconds; 0 for ever.
        look: Asks how things are in the group.
        act: Tells the group of an event.
        list_members: Lists the members of the cluster.
        wall_clock: Seconds since the epoch of the clock.
        waits_elsewhere: Says in which other groups some workers wait for this one, by their names.

    Attributes:
        deadline: When its time is over.
    """

    def __init__(
        self,
        name: str,
        policy: SyncPolicy,
        *,
        task: str,
        lease_s: float,
        look: Callable[[], Answer],
        act: Callable[[Event], Answer],
        list_members: Callable[[], Sequence[Member]],
        wall_clock: Callable[[], float],
        waits_elsewhere: Callable[[], Mapping[str, OtherGroup]] = dict,
    ):
        self._name = name
        self._policy = policy
        self._task = task
        self._lease_s = lease_s
        self._look_at_group = look
        self._act = act
        self._list_members = list_members
        self._wall_clock = wall_clock
        self._waits_elsewhere = waits_elsewhere
        self._reports = Reports(_FIRST_REPORT_S)
        self.deadline: Final = Deadline(WAIT_TIMEOUT_S)
        self._unheard = Unheard()

    def look(self) -> None:
        """Tells the group whose lease has run out, or who was waited for long enough, and the log who is missing."""
        waited_s = self.deadline.elapsed_s()
        elsewhere = self._waits_elsewhere()
        now = self._look_at_group()  # behind that: who was awaited here, and waited there, still does
        self._rest_where_crossed(now, elsewhere)
        members = {each.task: each for each in self._list_members()}
        for each in now.awaited:
            if not each.is_silent and self._is_gone(each, members.get(each.worker)):
                self._act(Silent(each.worker, each.incarnation, self._wall_clock()))
        if waited_s >= self._policy.missing_timeout_s:
            if now.to_join:
                self._act(GivenUp("", self._wall_clock()))
            elif self._policy.on_missing is OnMissing.WAIT:
                for each in now.awaited:
                    if each.is_silent:
                        self._act(GivenUp(each.worker, self._wall_clock()))
        if self._reports.is_due(waited_s):
            _LOG.warning(
                "%s waits in %s, %.0f s of up to %.0f s, for %s",
                self._task,
                self._name,
                waited_s,
                self.deadline.timeout_s,
                self._missing(now, members),
            )

    def _rest_where_crossed(self, now: Answer, elsewhere: Mapping[str, OtherGroup]) -> None:
        """Lets those go on without this worker who wait for it elsewhere, if it waits for them: else none ever would.

        Of two that wait for each other one does, by the names of the groups, so that they meet again: else each would
        make its round alone.
        """
        for name in sorted({elsewhere[each.worker].name for each in now.awaited if each.worker in elsewhere}):
            [group, *_] = [each for each in elsewhere.values() if each.name == name]
            if name > self._name and group.is_of_this_thread:
                _LOG.warning(
                    "%s waits in %s for workers that wait for it in %s, whose round goes on without it%s",
                    self._task,
                    self._name,
                    name,
                    _ADVICE,
                )
                group.rest()

    def tell_of_dead(self) -> bool:
        """Tells the group of workers that are dead though nobody waits for them; returns whether of any."""
        members = {each.task: each for each in self._list_members()}
        told: set[tuple[str, bool]] = set()
        while True:  # once it is known of one, the round may commit, and the next one lacks others
            now, before = self._look_at_group(), len(told)
            for each in now.awaited:
                key = (each.worker, each.is_silent)
                if key in told:
                    continue
                waited_s = self._wall_clock() - each.last_seen_s
                if each.is_silent and waited_s >= SyncPolicy.parse(now.policy).missing_timeout_s:
                    told.add(key)
                    self._act(GivenUp(each.worker, self._wall_clock()))
                elif not each.is_silent and self._is_gone(each, members.get(each.worker)):
                    told.add(key)
                    self._act(Silent(each.worker, each.incarnation, self._wall_clock()))
            if len(told) == before:
                return bool(told)

    def _is_gone(self, awaited: Awaited, member: Member | None) -> bool:
        """Whether a worker is dead, has left, or is another process by now; one that a ps has forgotten may report."""
        if member is None:
            return 0 < self._lease_s < self._unheard.for_s(awaited.worker)
        self._unheard.heard(awaited.worker)
        return member.state in _GONE or f"{member.incarnation}" != awaited.incarnation

    def late(self) -> DeadlineExceededError:
        """The error for one who has waited long enough."""
        members = {each.task: each for each in self._list_members()}
        return DeadlineExceededError(
            f"{self._name}: {self._task} has waited {self.deadline.timeout_s:.0f} s for "
            f"{self._missing(self._look_at_group(), members)}. What it has handed in counts; its next step waits again",
            retryable=False,
        )

    def _missing(self, answer: Answer, members: Mapping[str, Member]) -> str:
        if answer.to_join:
            return f"{answer.to_join} more worker{'s' if answer.to_join > 1 else ''} to join before the first round"
        now_s, elsewhere = self._wall_clock(), self._waits_elsewhere()
        words = []
        for each in answer.awaited:
            member = members.get(each.worker)
            last_seen_s = each.last_seen_s if member is None else max(each.last_seen_s, member.last_seen_s)
            seen = f"last seen {max(0.0, now_s - last_seen_s):.1f} s ago"
            other = elsewhere.get(each.worker)
            waits = f", waits in {other.name} for {self._task}" if other else ""
            words.append(f"{each.worker} ({'silent, ' if each.is_silent else ''}{seen}{waits})")
        crossed = [each for each in answer.awaited if each.worker in elsewhere]
        return (", ".join(words) or "a decision") + (_ADVICE if crossed else "")


def waits_elsewhere(
    fanout: Fanout, places: WaitPlaces, groups: Iterable[OtherGroup], task: str
) -> dict[str, OtherGroup]:
    """Says who waits for a worker in some groups, and in which of them; errors as of ``training_report``."""
    found: dict[str, OtherGroup] = {}
    for group in groups:
        report = report_if_any(fanout, places, group.name)
        if report is not None and task in [each.worker for each in report.awaited]:
            found.update([(each.worker, group) for each in report.workers if each.waits])
    return found
