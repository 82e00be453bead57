"""What one ps knows of the gradients that it keeps until their round commits: which, and how far it has come.

The arrays themselves are slots of the variables. A worker has ``SyncPolicy.staging_slots`` of them, and what it stages
for a round lies in the slot ``round % slots``. Three rules make the rounds of several ps tasks one:

- A ps takes a gradient only if it has carried out the round that had the slot before, and every round of earlier runs
  of the group. So what a decision names is never overwritten before it is applied, and a ps is never more rounds behind
  than there are slots. Whoever is refused brings the decisions first, which its newest answer has.
- A ps carries decisions out in their order, each once; it does not matter who brings it.
- A ps notes that it has begun a round before it changes the first variable, and that it has ended it behind the last
  one. A reader takes what it has read from the ps tasks only if each of them had the same round begun and ended, before
  and after (``is_whole`` beside ``Commit``). Else it brings the decisions, and reads again. That is a sequence lock
  (C. Lameter, "Effective synchronization on Linux/NUMA systems", 2005) over several tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ps_protocol.errors import AbortedError, DataLossError, FailedPreconditionError
from ps_protocol.training.round_messages import Decision, Part

Stamp: TypeAlias = tuple[int, int]
"""The newest round that a ps has begun, and the newest that it has ended."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What is in a slot.

    Attributes:
        seat: Of the worker.
        index: Of the slot, among those of the worker.
        ticket: Of the worker.
        round: That it was staged for.
    """

    seat: int
    index: int
    ticket: int
    round: int


class Staging(NamedTuple):
    """What a ps knows of a group.

    Attributes:
        begun: The newest round that it has begun to carry out.
        ended: The newest round that it has carried out.
        slots: By seat and index.
    """

    begun: int = 0
    ended: int = 0
    slots: tuple[Slot, ...] = ()

    @property
    def stamp(self) -> Stamp:
        """What a reader asks for before and after it reads."""
        return self.begun, self.ended


def staged(state: Staging, part: Part, *, since: int, slots: int) -> Staging:
    """A worker stages a gradient, which takes the place of what was in its slot.

    Args:
        state: Of the ps.
        part: Whose gradient it is, and for which round.
        since: The round before the first one of this run of the group.
        slots: How many a worker has.

    Raises:
        AbortedError: The ps has not carried out all rounds that it must have; bring it the decisions, and try again.
        DataLossError: It had to give up in the middle of a round.
        FailedPreconditionError: Another one has the seat now, or this is older than what the slot has.
    """
    _check_whole(state)
    needed = max(since, part.round - slots)
    if state.ended < needed:
        raise AbortedError(
            f"this ps has carried out the rounds up to {state.ended}, and must have carried out round {needed} before "
            f"it takes a gradient for round {part.round}; bring it the decisions first"
        )
    index = part.round % slots
    there = next((each for each in state.slots if (each.seat, each.index) == (part.seat, index)), None)
    if there is not None and (part.ticket, part.round) < (there.ticket, there.round):
        raise FailedPreconditionError(
            f"the seat {part.seat} has staged for round {there.round} under the ticket {there.ticket} what would be "
            f"overwritten by that for round {part.round} under the ticket {part.ticket}; another process has the place "
            f"of this worker, which should end"
        )
    kept = [each for each in state.slots if (each.seat, each.index) != (part.seat, index)]
    return state._replace(slots=tuple(sorted([*kept, Slot(part.seat, index, part.ticket, part.round)], key=_place)))


def begun(state: Staging, decision: Decision) -> Staging | None:
    """Begins to carry out a round; None if the ps has done so before.

    Raises:
        AbortedError: It has not carried out an earlier one; bring it that first.
        DataLossError: It does not have a gradient of the round, or had to give up in the middle of one.
    """
    _check_whole(state)
    if decision.round <= state.begun:
        return None
    if decision.round != state.ended + 1:
        raise AbortedError(
            f"this ps has carried out the rounds up to {state.ended}, and is to carry out round {decision.round}; "
            f"bring it the decisions between them first"
        )
    there = {(each.seat, each.ticket, each.round) for each in state.slots}
    for part in decision.parts:
        if (part.seat, part.ticket, part.round) not in there:
            raise DataLossError(
                f"round {decision.round} has a gradient of the seat {part.seat}, staged for round {part.round} under "
                f"the ticket {part.ticket}, which this ps does not have; restore a checkpoint"
            )
    return state._replace(begun=decision.round)


def ended(state: Staging) -> Staging:
    """The round that was begun has been carried out."""
    return state._replace(ended=state.begun)


def _check_whole(state: Staging) -> None:
    if state.begun > state.ended:
        raise DataLossError(
            f"this ps had no memory to finish round {state.begun}, of which it has made a part; restore a checkpoint, "
            f"or start the ps again if it has a journal"
        )


def _place(slot: Slot) -> tuple[int, int]:
    return slot.seat, slot.index
