"""Which workers have died or left, as far as that is news to one that has joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from ps_protocol.service_types import Member, MemberState

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


def described(task: str, members: Mapping[str, Member]) -> str:
    """A worker, and when it was last seen."""
    member = members.get(task)
    if member is None:
        return f"{task} (has not joined)"
    seen = datetime.fromtimestamp(member.last_seen_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    state = GONE.get(member.state, "is there" if member.state is MemberState.ACTIVE else "is silent")
    return f"{task} {state} (last seen {seen}, process {member.pid} on {member.host})"
