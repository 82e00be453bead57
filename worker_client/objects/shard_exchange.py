"""The exchanges of an update that completes a data shard, or a piece of one.

It is applied in an order: first on the ps tasks beside ps task 0, each of which keeps a receipt with it, then on ps
task 0, together with the hand-in (``docs/decisions/epochs.md``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ps_protocol.errors import AbortedError, ShardscopeError
from ps_protocol.operations import Describe, Reply, Result, mutates
from ps_protocol.shared_objects import OBJECTS_PS_TASK, Json, decode_json
from worker_client.connection.fanout import Routed, Settle
from worker_client.objects.shard_taking import Taking


class PieceExchange:
    """The exchanges of one update: first with the ps tasks beside ps task 0, then with that.

    Attributes:
        others: The former.
        is_done: Whether ps task 0 has the piece.
        is_lost: Whether another worker has the shard.
    """

    def __init__(self, shards: Taking, routed: Sequence[Routed], settle: Settle | None):
        self._shards = shards
        self._routed = routed
        self._settle = settle
        self._replies: list[Reply | None] = [None] * len(routed)
        self.others: Final = {
            each.ps_task
            for each in routed
            if each.ps_task not in (None, OBJECTS_PS_TASK) and mutates((each.operation,))
        }
        self.is_done = False
        self.is_lost = False

    def run(self, event: Json) -> list[Reply]:
        first = [index for index, each in enumerate(self._routed) if each.ps_task in self.others]
        rest = [index for index, each in enumerate(self._routed) if each.ps_task not in self.others]
        try:
            failure = None
            if first:
                guards = [self._shards.receipt(ps_task, event) for ps_task in sorted(self.others)]
                failure = self._exchange(guards, first)
            if failure is None:
                failure = self._exchange([self._shards.hand_in(event)], rest)
                self.is_done = failure is None
        except BaseException:
            if self._settle is not None:
                self._settle(list(range(len(self._routed))), None)
            raise
        if failure is not None and not self._routed:
            raise failure
        replies: list[Reply] = [failure if each is None and failure else each for each in self._replies]  # type: ignore[misc]
        if self._settle is not None:
            self._settle(list(range(len(replies))), replies)
        return replies

    def _exchange(self, guards: Sequence[Routed], indices: Sequence[int]) -> ShardscopeError | None:
        """Carries out some of the operations behind their guards; returns the first error."""
        found = self._shards.fanout.exchange_all([*guards, *[self._routed[index] for index in indices]])
        answers, replies = found[: len(guards)], found[len(guards) :]
        before = set()  # where it was applied earlier: its reply was lost, or another worker made it and was lost
        for guard, answer in zip(guards, answers, strict=True):
            if isinstance(answer, ShardscopeError):
                self.is_lost = isinstance(answer, AbortedError)
                return answer
            if answer.tensor is None or not decode_json(answer.tensor, "the answer").get("passes", True):
                before.add(guard.ps_task)
        failure = None
        for index, answered in zip(indices, replies, strict=True):
            each, reply = self._routed[index], answered
            if each.ps_task in before and mutates((each.operation,)):
                (described,) = self._shards.fanout.exchange_all([Routed(each.ps_task, Describe(each.operation.name))])
                reply = described if isinstance(described, ShardscopeError) else Result(described.version, True)
            self._replies[index] = reply
            if isinstance(reply, ShardscopeError) and mutates((each.operation,)):
                failure = failure or reply
        return failure
