"""Which workers have died or left, as far as that is news to one that has joined."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from ps_protocol.service_types import Member, MemberState

LOOK_EVERY_S: Final = 2.0
"""How often a worker that does not wait looks who is gone, in seconds; one that waits does so as often."""

_UNSEEN_S: Final = 3 * LOOK_EVERY_S

GONE: Final = {MemberState.DEAD: "is dead", MemberState.LEFT: "has left"}


class Departures:
    """Tells who is gone from who has been gone before.

    Args:
        task: This client's task, as "worker:1".
        members: Those that there are at the beginning.
    """

    def __init__(self, task: str, members: Iterable[Member]):
        self._task = task
        self._before = {(each.task, each.incarnation) for each in members if each.state in GONE}

    def among(self, members: Mapping[str, Member]) -> list[str]:
        """Those who have died or left as far as that is news; others did so in an earlier run, and may come yet."""
        own = members.get(self._task)
        return sorted(
            [
                task
                for task, each in members.items()
                if each.state in GONE
                and ((task, each.incarnation) not in self._before or (own and each.last_seen_s >= own.joined_at_s))
            ]
        )


class Unheard:
    """How long a ps has not heard of workers, as one sees it who looks now and then.

    A ps that was started again has heard of nobody, and each worker tells it within its lease. While nobody looked, it
    may have been told, and started again after that: only times between looks that follow each other count.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._since_s: dict[str, tuple[float, float]] = {}  # by identity, from when on it counts, and the last look

    def for_s(self, identity: str) -> float:
        """Notes that the ps has not heard of a worker, and returns for how long that is so."""
        now_s = self._clock()
        since_s, looked_s = self._since_s.get(identity, (now_s, now_s))
        if now_s - looked_s > _UNSEEN_S:
            since_s = now_s
        self._since_s[identity] = since_s, now_s
        return now_s - since_s

    def heard(self, identity: str) -> None:
        """Notes that the ps has heard of it."""
        self._since_s.pop(identity, None)


def described(task: str, members: Mapping[str, Member]) -> str:
    """A worker, and when it was last seen."""
    member = members.get(task)
    if member is None:
        return f"{task} (has not joined)"
    seen = datetime.fromtimestamp(member.last_seen_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    state = GONE.get(member.state, "is there" if member.state is MemberState.ACTIVE else "is silent")
    return f"{task} {state} (last seen {seen}, process {member.pid} on {member.host})"
