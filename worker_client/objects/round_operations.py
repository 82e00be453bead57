"""The operations by which a worker of a group stages gradients and has rounds carried out on each ps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import VariableSpec
from ps_protocol.shared_objects import OBJECTS_PS_TASK
from ps_protocol.training.round_messages import Answer, Decision, Outcome
from ps_protocol.training.round_operations import (
    ROUND_LAYOUTS,
    STAGED_KIND,
    STAMP_KIND,
    Commit,
    Stage,
    StagedStep,
    commit_next,
    commit_of,
    staged_name,
    stamp_name,
)
from ps_protocol.training.sync_policy import SyncPolicy
from worker_client.connection.fanout import Routed
from worker_client.objects.round_reads import Seen
from worker_client.placement.beside import Beside

_ZEROS: Final = InitializerSpec(ConstantKind(0.0))


class RoutedStep(NamedTuple):
    """A gradient, and the ps task that has its variable."""

    ps_task: int
    step: StagedStep


class StepResult(NamedTuple):
    """What has become of a step.

    Attributes:
        outcome: Of its gradient; None while its round has not committed.
        round: That it was handed in for.
        model: The number of the newest model that the worker may have read since.
    """

    outcome: Outcome | None
    round: int
    model: int


class RoundOperations:
    """What a worker knows of the rounds on each ps, and the operations that follow. Not thread-safe.

    Args:
        group: Its name.
        policy: How it trains.
        steps: Some steps: names of all its variables, and where they are.
        num_ps: Number of ps tasks.

    Attributes:
        ended: The newest round that each ps is known to have carried out.
        sent: The newest round that each ps was sent without waiting for an answer.
        seats: Those that have taken part in a round of this run, and the worker's own: they have slots.
        answers_stamps: Whether each ps is known to answer questions to its stamp.
    """

    def __init__(self, group: str, policy: SyncPolicy, steps: Sequence[RoutedStep], num_ps: int):
        self._group = group
        self._policy = policy
        self._variables = [_variables_on(steps, ps_task) for ps_task in range(num_ps)]
        self.ended = [0] * num_ps
        self.sent = [0] * num_ps
        self.seats: set[int] = set()
        self.answers_stamps = [False] * num_ps

    def begin(self, seat: int) -> None:
        """Forgets what was known, since the worker has joined, and has that seat."""
        self.forget()
        self.seats = {seat}

    def forget(self) -> None:
        """Forgets which rounds each ps has."""
        self.ended = [0] * len(self.ended)
        self.sent = [0] * len(self.ended)

    def early_tasks(self) -> list[int]:
        """The ps tasks that a worker may read before it has handed in: its next gradient may be of an older model."""
        others = [ps for ps in range(len(self.ended)) if ps != OBJECTS_PS_TASK]
        return others if self._policy.bound and all(self.answers_stamps[ps] for ps in others) else []

    def new_enough(self, seen: Mapping[int, Seen], answer: Answer) -> dict[int, Seen]:
        """Returns those of the ps tasks, and what was read there, of which a worker's next gradient may be."""
        oldest = [answer.committed] * len(self.ended)
        for ps in self.early_tasks():
            oldest[ps] = min(answer.committed, answer.next_round - 1 - self._policy.bound)
        return {ps: each for ps, each in seen.items() if each.ended >= oldest[ps]}

    def places(self, seat: int) -> list[Beside]:
        """Returns the stamp of each ps, and the slots of a seat there, as they are declared."""
        made = []
        for ps_task in range(len(self.ended)):
            slots = [staged_name(self._group, ps_task, seat, slot) for slot in range(self._policy.staging_slots)]
            names = {stamp_name(self._group, ps_task): STAMP_KIND, **dict.fromkeys(slots, STAGED_KIND)}
            for name, kind in names.items():
                made.append(Beside(VariableSpec(name, *ROUND_LAYOUTS[kind], object_kind=kind), _ZEROS, ps_task))
        return made

    def staged(self, number: int, steps: Sequence[tuple[StagedStep, ...]], answer: Answer) -> list[Routed]:
        """Returns what stages gradients for a round on each ps.

        Args:
            number: Of the round.
            steps: The worker's gradients for each ps.
            answer: The newest one to the worker, which has its seat and ticket.
        """
        slots = self._policy.staging_slots
        return [
            Routed(
                ps_task,
                Stage(
                    staged_name(self._group, ps_task, answer.seat, number % slots),
                    stamp_name(self._group, ps_task),
                    answer.seat,
                    answer.ticket,
                    number,
                    answer.since,
                    slots,
                    of_task,
                    packs_numbers=self.answers_stamps[ps_task],
                ),
            )
            for ps_task, of_task in enumerate(steps)
        ]

    def commit_next(self, number: int) -> Commit:
        """What has ps task 0 carry out a round in the batch that decides it, if it is of workers known here."""
        slots = self._policy.staging_slots
        staged = [staged_name(self._group, OBJECTS_PS_TASK, seat, number % slots) for seat in sorted(self.seats)]
        return commit_next(self._group, self._policy, staged, OBJECTS_PS_TASK, self._variables[OBJECTS_PS_TASK])

    def news(self, decisions: Sequence[Decision], *, but_sent: bool = False) -> list[Routed]:
        """What brings each ps the decisions that it may not have carried out, or only those that it was not sent."""
        return [
            Routed(ps_task, commit_of(self._group, self._policy, decision, ps_task, self._variables[ps_task]))
            for ps_task, ended in enumerate(self.ended)
            for decision in decisions
            if decision.round > (max(ended, self.sent[ps_task]) if but_sent else ended)
        ]


def _variables_on(steps: Sequence[RoutedStep], ps_task: int) -> tuple[str, ...]:
    return tuple(sorted([name for each in steps if each.ps_task == ps_task for name in each.step.names]))
