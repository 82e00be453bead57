"""Steps of synchronous training in small: makers that take, update and may die or be replaced anywhere.

There are two ps tasks. Each has a variable, to which all gradients are added, an accumulator of gradients for it, and
receipts; ps 1 has the global step as well. Two workers have handed in for the first step, and do so for the second one
as soon as it may begin. A maker leads, asks all accumulators what is kept, then takes of both, updates both, puts
tokens in, and has nothing kept. Each message is carried out as a whole. A maker may die between any two of them, and
another one may take over whether or not the one before is dead: then both go on.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from ps_protocol.errors import AbortedError
from ps_protocol.shared_objects import Computed, Json
from ps_server.objects.accumulators import ACCUMULATOR
from ps_server.objects.step_receipts import STEP_RECEIPTS
from tests.unit.ps_server.rounds.rounds_world import promise

STEPS: Final = 2
WORKERS: Final = 2
NUM_PS: Final = 2


class Doing(enum.IntEnum):
    """What a maker does next, of ps 0 first and then of ps 1."""

    NOTHING = 0
    LEAD = 1
    FENCE = 2
    RECEIPT = 3
    REPAIR = 4
    TAKE = 5
    UPDATE = 6
    PUT = 7
    RELEASE = 8
    ENDED = 9
    DEAD = 10


class Maker(NamedTuple):
    """A task that makes steps.

    Attributes:
        doing: What it does next.
        ps: Where.
        ticket: With which it makes them.
        number: How many steps it has made.
        finishes: The step of another one that it finishes.
        found: What the accumulators have said is kept: the step, whether it is, and whether others are pending.
        taken: What it has taken, of each ps.
    """

    doing: Doing = Doing.NOTHING
    ps: int = 0
    ticket: int = 0
    number: int = 0
    finishes: str = ""
    found: tuple[tuple[str, bool, bool], ...] = ()
    taken: tuple[float, ...] = ()

    @property
    def is_at_work(self) -> bool:
        return self.doing not in (Doing.NOTHING, Doing.ENDED, Doing.DEAD)

    @property
    def of(self) -> str:
        return self.finishes or f"{self.ticket}.{self.number}"


class State(NamedTuple):
    """All of a world. Accumulators and receipts are numbers of what they hold.

    Attributes:
        accumulators: One of each ps.
        receipts: Likewise.
        applied: What was added to each variable, in this order.
        step: The global step.
        ticket: Of the newest maker.
        makers: All that there may be.
    """

    accumulators: tuple[int, ...]
    receipts: tuple[int, ...]
    applied: tuple[tuple[float, ...], ...]
    step: int
    ticket: int
    makers: tuple[Maker, ...]


Move: TypeAlias = tuple[str, Callable[[], State]]


def mean_of(step: int) -> float:
    """The mean of the gradients for a step."""
    return float(3 * 10**step)


class ReceiptsWorld:
    """What can happen, and what must hold.

    Args:
        num_makers: How many makers there may be, one after the other.
    """

    def __init__(self, num_makers: int) -> None:
        self._states: list[Any] = []
        self._numbers: dict[str, int] = {}
        self._good: set[State] = set()
        accumulator = ACCUMULATOR.empty({"dtype": "float64", "shape": [], "reduction": "MEAN"})
        self.start = State(
            (self._number((accumulator, ())),) * NUM_PS,
            (self._number(STEP_RECEIPTS.empty({})),) * NUM_PS,
            ((),) * NUM_PS,
            0,
            0,
            (Maker(Doing.LEAD), *[Maker()] * (num_makers - 1)),
        )
        self.start = self._pushed(self.start)

    # -- what can happen ----------------------------------------------------------------------

    def moves(self, state: State) -> Iterator[Move]:
        """What may happen without a fault: the newest maker goes on, and those before it that are not dead."""
        for who in reversed(range(len(state.makers))):
            maker = state.makers[who]
            if maker.is_at_work:
                after = self._made(state, who)
                if after is not None:
                    yield f"{who}: {maker.doing.name.lower()} at ps {maker.ps}", partial(self._made_surely, state, who)
        leads = [
            1 for each in state.makers if each.doing is Doing.LEAD or (each.is_at_work and each.ticket == state.ticket)
        ]
        idle = [who for who, each in enumerate(state.makers) if each.doing is Doing.NOTHING]
        if not leads and idle and state.makers[idle[0] - 1].doing is not Doing.ENDED:
            yield f"{idle[0]} takes over", partial(self._with, state, idle[0], Maker(Doing.LEAD))

    def faults(self, state: State) -> Iterator[Move]:
        """What may go wrong."""
        for who, maker in enumerate(state.makers):
            if who + 1 < len(state.makers) and maker.is_at_work:
                yield f"{who} dies", partial(self._with, state, who, Maker(Doing.DEAD))
                if state.makers[who + 1].doing is Doing.NOTHING:
                    yield f"{who + 1} replaces {who}", partial(self._with, state, who + 1, Maker(Doing.LEAD))

    def _number(self, held: Any) -> int:
        key = json.dumps(held, sort_keys=True, default=lambda each: each.tolist())
        number = self._numbers.setdefault(key, len(self._states))
        if number == len(self._states):
            self._states.append(held)
        return number

    def _with(self, state: State, who: int, maker: Maker) -> State:
        return state._replace(makers=(*state.makers[:who], maker, *state.makers[who + 1 :]))

    def _act(self, state: State, ps: int, event: Json, *tensors: Any) -> tuple[State, Json, float]:
        """Has something happen to an accumulator; returns its answer, and what was taken."""
        held, arrays = self._states[state.accumulators[ps]]
        outcome = ACCUMULATOR.step(held, arrays, event, tensors)
        promise(outcome is not None, f"{event} finds no gradients at ps {ps}")
        assert outcome is not None
        after, answer = outcome
        taken = [_computed(each) for each in answer.arrays]
        if after is not None:
            number = self._number((after.state, tuple([_computed(each) for each in after.arrays])))
            state = state._replace(accumulators=_replaced(state.accumulators, ps, number))
        return state, answer.state, float(taken[0]) if taken else 0.0

    def _count(self, state: State, ps: int) -> int:
        return int(self._states[state.accumulators[ps]][0]["count"])

    def _receipt(self, state: State, ps: int, event: Json) -> tuple[State, Json]:
        outcome = STEP_RECEIPTS.step(self._states[state.receipts[ps]], event)
        assert outcome is not None
        return state._replace(receipts=_replaced(state.receipts, ps, self._number(outcome[0]))), outcome[1]

    def _pushed(self, state: State) -> State:
        """All workers hand in for the step that is there, as they do when they have a token for it."""
        for ps in range(NUM_PS):
            for worker in range(WORKERS):
                grad = np.array(mean_of(state.step) + (1 if worker else -1))
                event = {"do": "push", "step": state.step, "by": f"worker:{worker}"}
                state, _, _ = self._act(state, ps, event, grad)
        return state

    def _made_surely(self, state: State, who: int) -> State:
        made = self._made(state, who)
        assert made is not None
        return made

    def _made(self, state: State, who: int) -> State | None:
        """A maker does what is next; None if that is to wait."""
        try:
            return self._done(state, who)
        except AbortedError:
            return self._with(state, who, Maker(Doing.DEAD))

    def _done(self, state: State, who: int) -> State | None:
        maker = state.makers[who]
        ps, ticket, of = maker.ps, maker.ticket, maker.of
        match maker.doing:
            case Doing.LEAD:
                ticket = state.ticket + 1
                doing = Doing.FENCE if state.ticket else Doing.TAKE
                return self._with(state._replace(ticket=ticket), who, Maker(doing, ticket=ticket))
            case Doing.FENCE:
                state, answer, _ = self._act(state, ps, {"do": "fence", "ticket": ticket})
                found = (answer["of"] or "", bool(answer["kept"]), bool(answer["count"]))
                maker = maker._replace(found=(*maker.found, found))
            case Doing.RECEIPT:
                state, _ = self._receipt(state, ps, {"do": "fence", "ticket": ticket})
            case Doing.REPAIR:
                state, _, _ = self._act(state, ps, {"do": "set_step", "step": state.step, "ticket": ticket})
                if ps == NUM_PS - 1 and state.step < STEPS:
                    state = self._pushed(state)
            case Doing.TAKE:
                if (
                    not maker.finishes
                    and not ps
                    and [1 for each in range(NUM_PS) if self._count(state, each) < WORKERS]
                ):
                    return None if ticket == state.ticket else self._with(state, who, Maker(Doing.DEAD))
                number = 1 if maker.finishes else WORKERS
                state, _, taken = self._act(state, ps, {"do": "take", "number": number, "ticket": ticket, "of": of})
                maker = maker._replace(taken=(*maker.taken, taken))
            case Doing.UPDATE:
                state, answer = self._receipt(state, ps, {"do": "update", "of": of, "part": 0, "ticket": ticket})
                if STEP_RECEIPTS.passes is not None and STEP_RECEIPTS.passes(answer):
                    applied = _replaced(state.applied, ps, (*state.applied[ps], maker.taken[ps]))
                    state = state._replace(applied=applied, step=state.step + (ps == NUM_PS - 1))
            case Doing.PUT:
                maker = maker._replace(ps=NUM_PS - 1)
                if state.step < STEPS:
                    state = self._pushed(state)
            case Doing.RELEASE:
                state, _, _ = self._act(state, ps, {"do": "release", "of": of, "ticket": ticket})
        return self._with(state, who, self._next(state, maker))

    def _next(self, state: State, maker: Maker) -> Maker:
        if maker.ps < NUM_PS - 1:
            return maker._replace(ps=maker.ps + 1)
        maker = maker._replace(ps=0)
        match maker.doing:
            case Doing.FENCE:
                kept = {of for of, is_kept, _ in maker.found if is_kept}
                (of,) = kept if len(kept) == 1 else ("",)
                is_whole = not [1 for other, is_kept, count in maker.found if not (is_kept or (other != of and count))]
                return maker._replace(doing=Doing.RECEIPT, finishes=of if is_whole else "", found=())
            case Doing.RECEIPT:
                return maker._replace(doing=Doing.TAKE if maker.finishes else Doing.REPAIR)
            case Doing.RELEASE if maker.finishes:
                return maker._replace(doing=Doing.FENCE, number=maker.number + 1, finishes="", taken=())
            case Doing.REPAIR | Doing.RELEASE:
                number = maker.number + (maker.doing is Doing.RELEASE)
                doing = Doing.TAKE if state.step < STEPS else Doing.ENDED
                return maker._replace(doing=doing, number=number, taken=())
        return maker._replace(doing=Doing(maker.doing + 1))

    # -- what must hold -----------------------------------------------------------------------

    def check(self, after: State) -> None:
        """What holds in every state: each variable has had the mean for each step once, in order."""
        expected = tuple([mean_of(step) for step in range(STEPS)])
        for ps, applied in enumerate(after.applied):
            promise(applied == expected[: len(applied)], f"ps {ps} has applied {applied}")
            promise(len(applied) in (after.step, after.step + 1), f"ps {ps} is at {len(applied)} of {after.step}")

    def check_ends(self, state: State) -> None:
        """If nothing fails from now on, all steps are made everywhere."""
        path = []
        while state not in self._good:
            promise(state not in path, "it goes round in circles")
            path.append(state)
            move = next(self.moves(state), None)
            if move is None:
                self.check(state)
                promise(state.step == STEPS, f"step {state.step} is not made: {state}")
                promise(len({len(each) for each in state.applied}) == 1, f"a step is made in part: {state.applied}")
                break
            state = move[1]()
        self._good.update(path)


def _replaced(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*values[:index], value, *values[index + 1 :])


def _computed(array: Any) -> Any:
    if not isinstance(array, Computed):
        return array
    out = np.empty(array.shape, array.dtype)
    array.fill(out)
    return out
