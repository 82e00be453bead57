"""What is asked of each ps for a round of training together: to keep a gradient, and to carry a decision out.

Each ps has two kinds of variables for a group: its *stamp*, which is the newest round that it has begun to carry out
and the newest that it has carried out, and for each slot of each seat what is *staged* there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ps_protocol.shared_objects import OBJECTS_PS_TASK
from ps_protocol.training.data_shards import RECEIPTS_KIND
from ps_protocol.training.json_records import from_json, to_json
from ps_protocol.training.round_messages import Decision
from ps_protocol.training.sync_policy import RowMean, SyncPolicy

_Array: TypeAlias = npt.NDArray[Any]

STAMP_KIND: Final = "round_stamp"
STAGED_KIND: Final = "staged_gradients"
ROUND_LAYOUTS: Final[dict[str, tuple[np.dtype[Any], tuple[int, ...]]]] = {
    STAMP_KIND: (np.dtype(np.int64), (2,)),
    STAGED_KIND: (np.dtype(np.uint8), (1,)),
}
"""Of a variable of such a kind, its dtype and shape as it is declared. What is staged is as long as it needs."""


def group_name(name: str) -> str:
    """Full name of the shared object that decides for a group."""
    return f"rounds/{name}"


GROUP_NAMES: Final = "round_groups"
"""Full name of the object that lists groups, for saves. It is of the kind that lists data shards."""


def stamp_name(name: str, ps_task: int) -> str:
    """Full name of the stamp of a ps."""
    return f"rounds/{name}/stamp/{ps_task}"


def group_of_stamp(name: str) -> str:
    """Name of the group that has a stamp of this full name."""
    return name.removeprefix(group_name("")).rpartition("/stamp/")[0]


def staged_name(name: str, ps_task: int, seat: int, slot: int) -> str:
    """Full name of what is in a slot of a seat on a ps."""
    return f"rounds/{name}/staged/{ps_task}/{seat}/{slot}"


def outer_name(name: str) -> str:
    """Name of what moves the variables of the ps tasks, of an optimizer whose workers make steps alone."""
    return f"{name}_outer"


def is_whole(stamps: Iterable[tuple[int, int]]) -> bool:
    """Whether what was read between stamps is one model: ``stamps`` are those before and after, of every ps."""
    return len({number for stamp in stamps for number in stamp}) == 1


GROUP_KIND: Final = "rounds"
"""Of the shared object that decides for a group."""

SESSION_KIND: Final = "session_start"
"""Of the shared object by which training sessions know that their chief has made all ready."""

STEP_RECEIPTS_KIND: Final = "step_receipts"
"""Of the object of each ps task that knows which updates of synchronous steps it has carried out."""

NOT_SAVED: Final = frozenset({GROUP_KIND, *ROUND_LAYOUTS, RECEIPTS_KIND, SESSION_KIND, STEP_RECEIPTS_KIND})
"""Kinds that are in no checkpoint, and begin anew with a restore: gradients of another model are of no use to it.

Nor are receipts, of which a save makes sure that they say what the data shards say; those of synchronous steps are of
steps that are not finished after a restore."""


COUNT_ROUNDS: Final = "count_rounds"
"""In the place of the function of an optimizer: the round adds one to the variable, a scalar of integers."""


@dataclass(frozen=True, slots=True)
class StagedStep:
    """A gradient, and the step of an optimizer that is to be made with its average: the contents of an ``Apply``.

    Attributes:
        name: Full name of the variable.
        function: Of the optimizer; or ``COUNT_ROUNDS``, and then all below is empty.
        slots: Full names of the variables that it computes with.
        state: Full name of the variable that counts the steps.
        operands: The gradient, or rows and the gradient of those.
        numbers: float64, ``[k]``: its settings; those of the first gradient of a round count.
    """

    name: str
    function: str
    slots: tuple[str, ...]
    state: str
    operands: tuple[_Array, ...]
    numbers: _Array

    @property
    def names(self) -> tuple[str, ...]:
        """Of all variables that it works on."""
        return (self.name, *self.slots, self.state) if self.state else (self.name, *self.slots)

    @property
    def tensors(self) -> tuple[_Array, ...]:
        """What travels."""
        return (*self.operands, self.numbers) if self.numbers.size else self.operands

    def map_tensors(self, change: Callable[[_Array], _Array]) -> StagedStep:
        """Returns it with its tensors changed."""
        operands = tuple([change(each) for each in self.operands])
        numbers = change(self.numbers) if self.numbers.size else self.numbers
        return StagedStep(self.name, self.function, self.slots, self.state, operands, numbers)


STAGE_NUMBERS: Final = np.dtype(np.int64)
"""Of the numbers of a ``Stage``, where they travel as a tensor."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Keeps the gradients of a worker until their round commits, in the place of what was in the slot.

    Attributes:
        name: Full name of the variable of the slot.
        stamp: Full name of the stamp of this ps.
        seat: Of the worker.
        ticket: Of the worker.
        round: That it is for.
        since: The round before the first one of this run of the group.
        slots: How many a worker has.
        steps: What is to be done, for each variable of this ps.
        packs_numbers: Whether its five numbers travel as a tensor.
    """

    name: str
    stamp: str
    seat: int
    ticket: int
    round: int
    since: int
    slots: int
    steps: tuple[StagedStep, ...]
    packs_numbers: bool = False

    @property
    def tensors(self) -> tuple[_Array, ...]:
        """What travels."""
        tensors = [tensor for step in self.steps for tensor in step.tensors]
        if self.packs_numbers:
            numbers = (self.seat, self.ticket, self.round, self.since, self.slots)
            tensors.insert(0, np.array(numbers, STAGE_NUMBERS))
        return tuple(tensors)

    def with_tensors(self, tensors: Sequence[_Array]) -> Stage:
        """Returns it with others in their place."""
        given = iter(tensors)
        numbers = [self.seat, self.ticket, self.round, self.since, self.slots]
        if self.packs_numbers:
            numbers = next(given).tolist() or numbers
        seat, ticket, number, since, slots = numbers
        steps = tuple([step.map_tensors(lambda _: next(given)) for step in self.steps])
        return Stage(self.name, self.stamp, seat, ticket, number, since, slots, steps, self.packs_numbers)

    @property
    def others(self) -> tuple[str, ...]:
        """Of the variables that it looks at."""
        return (self.stamp, *[name for step in self.steps for name in step.names])


@dataclass(frozen=True, slots=True)
class Commit:
    """Carries out a round, once: makes the steps with the average of what is staged. All that changes does so at once.

    Attributes:
        name: Full name of the stamp of this ps.
        decision: Which round, and whose gradients.
        staged: For each part of the decision, full name of the variable that has it.
        variables: Full names of all that the steps work on; and on ps task 0 of the data shards of which the round
            completes pieces.
        means_of_present_rows: Whether a row is divided by the number of gradients that have it, not of all.
        decided_by: Full name of the group, if the ps that has it is to look there for the next round, and to carry that
            out if all its gradients are among ``staged``. The decision is ``UNKNOWN`` then.
    """

    name: str
    decision: Decision
    staged: tuple[str, ...]
    variables: tuple[str, ...]
    means_of_present_rows: bool = False
    decided_by: str = ""

    @property
    def others(self) -> tuple[str, ...]:
        """Of the variables that it works on."""
        names = (*self.staged, *self.variables)
        return (*names, self.decided_by) if self.decided_by else names


UNKNOWN: Final = Decision(0, ())
"""In the place of a decision that is made in the same batch."""


def commit_of(group: str, policy: SyncPolicy, decision: Decision, ps_task: int, variables: Sequence[str]) -> Commit:
    """Returns what carries a decision out on a ps.

    Args:
        group: Name of the group.
        policy: How it trains.
        decision: The round.
        ps_task: Which ps.
        variables: Full names of all that the steps work on there, and maybe of others.
    """
    slots = policy.staging_slots
    staged = [staged_name(group, ps_task, part.seat, part.round % slots) for part in decision.parts]
    of_present = policy.row_mean is RowMean.PRESENT
    handed_in = decision.shards if ps_task == OBJECTS_PS_TASK else ()
    return Commit(stamp_name(group, ps_task), decision, tuple(staged), (*variables, *handed_in), of_present)


class _Question(NamedTuple):
    """What a stamp is asked: whether this ps has carried out that round, or a later one."""

    round: int


def asking_for(round_number: int) -> npt.NDArray[np.uint8]:
    """Returns the question to a stamp whether its ps has carried out that round, or a later one."""
    return np.frombuffer(to_json(_Question(round_number)), np.uint8)


def round_asked_for(question: npt.NDArray[Any]) -> int:
    """Reads the question to a stamp; InvalidArgumentError if it is none."""
    return from_json(_Question, question.tobytes(), "question to a stamp").round


def commit_next(
    group: str, policy: SyncPolicy, staged: Sequence[str], ps_task: int, variables: Sequence[str]
) -> Commit:
    """Returns what carries out the next round on the ps that decides, as soon as that is decided.

    Args:
        group: Name of the group.
        policy: How it trains.
        staged: Full names of the slots in which the gradients of that round may be.
        ps_task: Which ps.
        variables: As for ``commit_of``.
    """
    of_present = policy.row_mean is RowMean.PRESENT
    name = stamp_name(group, ps_task)
    return Commit(name, UNKNOWN, tuple(staged), tuple(variables), of_present, decided_by=group_name(group))
