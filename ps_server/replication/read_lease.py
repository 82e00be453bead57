"""Until when a backup may answer reads: as long as its primary cannot have gone on without it.

A primary acknowledges nothing that its backup has not answered, until it goes on alone. It does that without asking
its backup only when the newest token that the backup has answered was sent ``PRIMARY_PART`` of a lease ago. With each
token it says which that was. The backup has no clock in common with it, but knows what came before what: a token that
names an earlier one was sent after the answer to that one. So the backup knows a time, on its own clock, before which
the newest answered token was not sent, and the rest is counted from there (C. Gray and D. Cheriton, "Leases", SOSP
1989; reads by whoever must acknowledge each write: I. Moraru et al., "Paxos Quorum Leases", SoCC 2014).
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from ps_server.replication.decisions import PRIMARY_PART

READ_PART: Final = PRIMARY_PART * PRIMARY_PART
"""Part of a lease that the backup uses of it; the rest is for clocks that run at different rates."""

_MOST_ANSWERED: Final = 64
"""Tokens in mind whose answers may not have arrived; with more on their way, the lease is not prolonged."""


class Answered(NamedTuple):
    """A token that was answered.

    Attributes:
        token: Its number.
        answered_s: When the answer was made.
        sent_after_s: A time before which the token was not sent.
    """

    token: int
    answered_s: float
    sent_after_s: float


class ReadLease:
    """What a backup knows of how long its primary waits for it. One thread at a time, but for ``holds``.

    Args:
        lease_s: Silence after which the other process counts as gone.
    """

    def __init__(self, lease_s: float):
        self._lease_s = lease_s
        self._since_s = float("-inf")
        self._answered: deque[Answered] = deque(maxlen=_MOST_ANSWERED)

    def answer(self, token: int, heard: int, now_s: float) -> None:
        """Notes that a token is about to be answered.

        Args:
            token: Its number; they grow.
            heard: The newest token whose answer the primary had when it sent this one; 0 for none, or if the primary is
                older than that field.
            now_s: The time.
        """
        answered, sent_after_s = self._answered, float("-inf")
        while answered and answered[0].token < heard:
            answered.popleft()
        if answered and answered[0].token == heard:
            sent_after_s = answered[0].answered_s
            self._since_s = max(self._since_s, answered[0].sent_after_s)
        answered.append(Answered(token, now_s, sent_after_s))

    def holds(self, now_s: float) -> bool:
        """Whether the primary acknowledges nothing at this time that this process has not answered."""
        return now_s - self._since_s <= self._lease_s * READ_PART
