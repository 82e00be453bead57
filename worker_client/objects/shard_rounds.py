"""Pieces of data shards that gradients of rounds complete, and what becomes of those that wait for their rounds.

A piece is noted in the batch that hands its gradient in, and counts when ps task 0 carries its round out
(``docs/decisions/epochs.md``). Whether a gradient is still there, its group knows: whoever waits for shards looks.
"""

from __future__ import annotations

import time
from typing import Final, Protocol

from ps_protocol.errors import AbortedError, FailedPreconditionError, NotFoundError, ShardscopeError
from ps_protocol.operations import PsOperation, Reply
from ps_protocol.shared_objects import OBJECTS_PS_TASK, Json, decode_json
from ps_protocol.training.round_messages import Answer, Event, GivenUp, event_record
from ps_protocol.training.round_operations import GROUP_KIND, group_name
from ps_protocol.training.sync_policy import OnMissing, SyncPolicy
from worker_client.connection.retry import Deadline
from worker_client.connection.whole_reads import WHOLE_READS
from worker_client.objects.group_watch import GroupWatch
from worker_client.objects.shard_taking import Taking
from worker_client.objects.shared_object import ObjectConnection
from worker_client.objects.taking_part import TakingPart
from worker_client.objects.training_group import TAKING_PART, TrainingGroup


class Advancing(Protocol):
    """A shard, as far as its pieces move it."""

    def event(self, end: int) -> Json:
        """What is told the ps of an update up to there; FailedPreconditionError if it is handed in."""
        ...

    def come_to(self, end: int) -> None:
        """It is handed in up to there."""
        ...

    def lose(self) -> None:
        """Another worker has it, or is to have it."""
        ...


class PieceInRound:
    """A piece of a shard that the gradient of a round completes.

    Args:
        shards: What it was taken from.
        shard: Of which it is a piece.
        end: Where it ends.
    """

    def __init__(self, shards: Taking, shard: Advancing, end: int):
        self._taking = shards
        self._shard = shard
        self._end = end
        self._event: Json = {}
        self._known: list[list[int]] = []
        self._refusal: ShardscopeError | None = None
        self.shards: Final = shards.shared.name

    def guard(self, group: str, ticket: int, number: int) -> PsOperation:
        """What goes before the hand-in; FailedPreconditionError if the shard is handed in."""
        try:
            event = self._shard.event(self._end)
        except FailedPreconditionError as error:
            self._refusal = error
            raise
        self._taking.groups.add(group)
        of_round = {"group": group, "ticket": ticket, "round": number, "known": self._known}
        self._event = {**event, "round": of_round}
        return self._taking.hand_in(self._event).operation

    def is_new(self, reply: Reply) -> bool | None:
        """Whether the hand-in counts, by the reply to the guard; None: it is known better now, and can be sent again.

        False: the piece was handed in before. That one counts.
        """
        if isinstance(reply, ShardscopeError) and reply.variable != self.shards:
            return True  # it is the group, or a ps task, that has not taken the gradient
        if isinstance(reply, ShardscopeError):
            self._refusal = reply
            if isinstance(reply, AbortedError):
                self._shard.lose()
            raise reply
        said = {} if reply.tensor is None else decode_json(reply.tensor, "the answer")
        if said.get("unsettled"):
            self._known = PendingPieces(self._taking).settle().get(self._event["round"]["group"], [])
            return None
        if not said.get("passes", True):
            self._shard.come_to(self._end)
            return False
        return True

    def handed_in(self) -> None:
        """The group has taken the gradient."""
        self._shard.come_to(self._end)

    def is_refused_by(self, error: BaseException) -> bool:
        """Whether an error is of the shards, and not of the group."""
        return error is self._refusal


class PendingPieces:
    """Looks what became of pieces that wait for their rounds, on behalf of a worker that waits for shards.

    Args:
        taking: The shards.
    """

    def __init__(self, taking: Taking):
        self._taking = taking
        self._watches: dict[str, GroupWatch] = {}

    def settle(self, *, waits: bool = False) -> dict[str, list[list[int]]]:
        """Gives back what was dropped, and brings what is decided.

        Args:
            waits: Whether to see, too, who is missing in the groups of the others.

        Returns:
            By group the tickets and rounds of those gradients that are still there.
        """
        progress = self._taking.shared.wait({"ask": "progress"}, Deadline(0.0)) or {}
        waiting: dict[str, list[list[int]]] = {}
        for pieces in progress.get("pending", {}).values():
            for group, ticket, number, *_ in pieces:
                waiting.setdefault(group, []).append([ticket, number])
        # Looked at behind the shards: what is not there now was carried out on ps task 0, or is no more.
        return {group: self._settled(group, parts, waits=waits) for group, parts in sorted(waiting.items())}

    def _settled(self, group: str, parts: list[list[int]], *, waits: bool) -> list[list[int]]:
        part = TAKING_PART.get(self._taking.fanout)
        assert part is not None
        connection = ObjectConnection(
            self._taking.fanout.handle(OBJECTS_PS_TASK), part.places, name=group_name(group), kind=GROUP_KIND
        )
        try:
            said = connection.wait({"under_way": True}, Deadline(0.0)) or {}
        except (NotFoundError, FailedPreconditionError):  # it is of a restored checkpoint
            said = {}
        pending, decided = said.get("pending", []), said.get("decided", [])
        there = [each for each in parts if each in pending or each in decided]
        dropped = [each for each in parts if each not in there]
        if dropped:
            self._taking.shared.act({"do": "dropped", "group": group, "parts": dropped})
        if [each for each in there if each in decided]:
            whole_reads = WHOLE_READS.get(self._taking.fanout)
            if whole_reads is not None:
                whole_reads.bring(group)
        elif there and waits:
            self._look(group, connection, part)
        return there

    def _look(self, group: str, connection: ObjectConnection, part: TakingPart[TrainingGroup]) -> None:
        """Tells a group who is missing: those who wait there may all be gone."""

        def look() -> Answer:
            return Answer.of_record(connection.wait({}, Deadline(0.0)))

        def act(event: Event) -> Answer:
            return Answer.of_record(connection.act(event_record(event)))

        policy = SyncPolicy.parse(look().policy)
        if group not in self._watches:
            self._watches[group] = GroupWatch(
                group,
                policy,
                task=f"a shard of {self._taking.name}",
                lease_s=part.lease_s,
                look=look,
                act=act,
                list_members=part.list_members,
                wall_clock=time.time,
            )
        self._watches[group].look()
        if policy.on_missing is OnMissing.SHRINK:  # it rests, if it waits for the silent: nobody is left to go on
            for each in look().awaited:
                if each.is_silent:
                    act(GivenUp(each.worker, time.time()))
