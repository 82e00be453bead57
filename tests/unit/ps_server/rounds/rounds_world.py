"""A group in small: its state at ps 0, what two ps tasks have staged, and workers that take one step at a time.

A worker joins, pulls from each ps, stages at each ps, hands in, waits until it may go on, and so on until it has made
its steps; then it finishes. Before it pulls or stages it brings the ps the decisions that it knows of. What it asks of
a ps or of the group is carried out as a whole: a worker that dies, dies between two of its steps.

A state of the world is a tuple of numbers and small tuples, so that it can be remembered; the states of the group and
of the ps tasks are in tables, by their JSON.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from ps_protocol.errors import FailedPreconditionError, NotFoundError, ShardscopeError
from ps_protocol.training.json_records import to_json
from ps_protocol.training.round_messages import (
    Answer,
    Back,
    Decision,
    Event,
    Finish,
    HandIn,
    Join,
    Look,
    Part,
    Silent,
    Verdict,
)
from ps_protocol.training.sync_policy import OnMissing, SyncPolicy
from ps_server.rounds import group, quorum, staging
from ps_server.rounds.quorum import is_resting, next_parts
from ps_server.rounds.staging import Slot, Staging
from ps_server.rounds.state import GroupState, Status, Tally

PS_TASKS: Final = (0, 1)


class Step(enum.IntEnum):
    """What a worker does next."""

    JOIN = 0
    PULL_0 = 1
    PULL_1 = 2
    STAGE_0 = 3
    STAGE_1 = 4
    HAND_IN = 5
    WAIT = 6
    FINISH = 7
    ENDED = 8
    DEAD = 9


class Worker(NamedTuple):
    """A worker.

    Attributes:
        step: What it does next.
        incarnation: How often it was started again.
        made: How many gradients it has handed in that were not refused.
        computed_on: The oldest model that it has read since it was told to go on.
        answer: Number of its newest answer; -1 for none.
        is_silent: Of a dead one, and of one that has not joined again: whether the lease has run out.
    """

    step: Step = Step.JOIN
    incarnation: int = 0
    made: int = 0
    computed_on: int = -1
    answer: int = -1
    is_silent: bool = False


class Late(NamedTuple):
    """A gradient that a worker had sent to a ps when it died, and that is still on its way.

    Attributes:
        ps: Where it goes.
        worker: Who has sent it.
        answer: Number of the answer that the worker had.
    """

    ps: int
    worker: int
    answer: int


class State(NamedTuple):
    """All of a world: the number of the group's state, those of the ps tasks, the workers, and what is on its way."""

    group: int
    ps: tuple[int, ...]
    workers: tuple[Worker, ...]
    late: Late | None = None


Move: TypeAlias = tuple[str, Callable[[], State]]


class BrokenPromiseError(AssertionError):
    """Something does not hold that is promised."""


def promise(holds: object, what: str) -> None:
    """Raises BrokenPromiseError if it does not hold."""
    if not holds:
        raise BrokenPromiseError(what)


@dataclass
class Table:
    """Values by numbers, the same number for the same JSON."""

    def __post_init__(self) -> None:
        self.values: list[Any] = []
        self._numbers: dict[bytes, int] = {}

    def number(self, value: Any) -> int:
        key = to_json(value)
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(value)
        return self._numbers[key]


class World:
    """What can happen, and what must hold.

    Args:
        policy: Of all workers.
        num_workers: How many.
        joined: How many of them have joined when the world begins.
        has_ps: Whether workers pull and stage; without it only the group's own events are explored.
        steps: Gradients that each worker hands in.
    """

    def __init__(
        self, policy: str, num_workers: int = 3, *, joined: int | None = None, has_ps: bool = True, steps: int = 2
    ):
        self.policy = SyncPolicy.parse(policy)
        self.steps = steps
        self.has_ps = has_ps
        self.groups, self.stagings, self.answers = Table(), Table(), Table()
        self._known: dict[tuple[Any, ...], Any] = {}
        self._ends: set[State] = set()
        self._checked: set[tuple[int, tuple[int, ...]]] = set()
        self.start = State(
            self.groups.number(GroupState()),
            tuple([self.stagings.number(Staging()) for _ in PS_TASKS]),
            (Worker(),) * num_workers,
        )
        for index in range(num_workers if joined is None else joined):
            self.start = self.take_step(self.start, index)

    # -- what happens -------------------------------------------------------------------------

    def moves(self, state: State) -> Iterator[Move]:
        """What happens without a fault: a step of any worker, or the lease of a dead one runs out."""
        for index, worker in enumerate(state.workers):
            if worker.step is Step.DEAD and not worker.is_silent:
                yield f"the lease of {index} runs out", partial(self._lease_ends, state, index)
                continue
            if worker.step is Step.JOIN and worker.incarnation and not worker.is_silent:
                label = f"the lease of the earlier process of {index} runs out"
                yield label, partial(self._lease_ends, state, index)
            if worker.step < Step.ENDED and not self._only_waits(state, index):
                label = f"{index}: {worker.step.name.lower()}"
                yield label, partial(self.take_step, state, index)
        if state.late is not None:
            yield f"the late gradient of {state.late.worker} reaches {state.late.ps}", partial(self._deliver, state)

    def faults(self, state: State) -> Iterator[Move]:
        """What happens in no good order; what was taken away comes back as one more fault."""
        for index, worker in enumerate(state.workers):
            if worker.step is Step.DEAD:
                again = worker._replace(step=Step.JOIN, incarnation=worker.incarnation + 1)
                if worker.incarnation == 0:
                    yield f"{index} is started again", partial(_with, state, index, again)
                continue
            if worker.step is Step.ENDED:
                continue
            dead = Worker(Step.DEAD, worker.incarnation)
            yield f"{index} dies", partial(_with, state, index, dead)
            if worker.step in (Step.STAGE_0, Step.STAGE_1) and state.late is None:
                late = Late(worker.step - Step.STAGE_0, index, worker.answer)
                label = f"{index} dies, and its gradient for {late.ps} is late"
                yield label, partial(_with, state._replace(late=late), index, dead)
            if worker.step is Step.HAND_IN:
                yield f"{index}: hand_in, the answer is lost", partial(self._lose_answer, state, index)
            if worker.step is not Step.JOIN:
                member = self._group(state).member(_name(index))
                if member is not None and member.status is Status.LIVE:
                    yield f"{index} is silent for a lease", partial(self._lease_ends, state, index)
                if worker.step is not Step.FINISH:
                    early = Worker(Step.FINISH, worker.incarnation)
                    yield f"{index} has no more data", partial(_with, state, index, early)

    def take_step(self, state: State, index: int) -> State:
        """One step of a worker."""
        worker = state.workers[index]
        name, incarnation = _name(index), f"{worker.incarnation}"
        answer: Any = self.answers.values[worker.answer] if worker.answer >= 0 else None
        match worker.step:
            case Step.JOIN:
                return self._ask(state, index, Join(name, incarnation, f"{self.policy}"))
            case Step.PULL_0 | Step.PULL_1:
                ps = worker.step - Step.PULL_0
                state = self._bring(state, ps, answer)
                model = self.staging(state, ps).ended
                computed_on = model if worker.computed_on < 0 else min(worker.computed_on, model)
                return _with(state, index, worker._replace(step=Step(worker.step + 1), computed_on=computed_on))
            case Step.STAGE_0 | Step.STAGE_1:
                try:
                    state = self._stage(state, worker.step - Step.STAGE_0, answer)
                except FailedPreconditionError:  # it is not counted any more, and ends
                    told = self._answer(state, Look(name, incarnation))
                    promise(not isinstance(told, Answer), f"{name} counts, and a ps refuses its gradient")
                    return _with(state, index, Worker(Step.ENDED))
                return _with(state, index, worker._replace(step=Step(worker.step + 1)))
            case Step.HAND_IN:
                return self._ask(state, index, HandIn(name, incarnation, answer.next_round, worker.computed_on))
            case Step.WAIT:
                silent = self._answer(state, Look(name, incarnation))
                is_silent = isinstance(silent, Answer) and silent.is_silent
                return self._ask(state, index, Back(name, incarnation) if is_silent else Look(name, incarnation))
            case _:
                return self._ask(state, index, Finish(name, incarnation))

    def _ask(self, state: State, index: int, event: Event) -> State:
        """An event at ps 0, and what the worker makes of the answer."""
        worker = state.workers[index]
        state, answer = self.call(state, event)
        if not isinstance(answer, Answer):  # it is not counted any more, and ends
            return _with(state, index, Worker(Step.ENDED))
        if isinstance(event, Finish):
            return _with(state, index, Worker(Step.ENDED))
        made = worker.made
        if isinstance(event, HandIn) and answer.verdict in (None, Verdict.APPLIED, Verdict.DUPLICATE):
            made += 1
        if isinstance(event, Join) and answer.outcomes:
            made = len(answer.outcomes)
        number = self.answers.number(answer._replace(awaited=(), verdict=None, outcomes=()))
        after = Worker(Step.WAIT, worker.incarnation, made)
        if answer.base is not None:
            if made >= self.steps:
                after = after._replace(step=Step.FINISH)
            elif self.has_ps:
                after = after._replace(step=Step.PULL_0, answer=number)
            else:
                after = after._replace(step=Step.HAND_IN, computed_on=answer.committed, answer=number)
        return _with(state, index, after)

    def _only_waits(self, state: State, index: int) -> bool:
        """Whether a worker waits, and nothing has come for it."""
        worker = state.workers[index]
        if worker.step is not Step.WAIT:
            return False
        answer = self._answer(state, Look(_name(index), f"{worker.incarnation}"))
        return isinstance(answer, Answer) and answer.base is None and not answer.is_silent

    def _lose_answer(self, state: State, index: int) -> State:
        worker = state.workers[index]
        answer = self.answers.values[worker.answer]
        event = HandIn(_name(index), f"{worker.incarnation}", answer.next_round, worker.computed_on)
        return self.call(state, event)[0]

    def _lease_ends(self, state: State, index: int) -> State:
        """The lease of the process of which the group knows; a later one may have died before it has joined."""
        worker = state.workers[index]
        member = self._group(state).member(_name(index))
        if member is not None:
            state, _ = self.call(state, Silent(_name(index), member.incarnation))
        return _with(state, index, worker._replace(is_silent=worker.step in (Step.DEAD, Step.JOIN)))

    def _deliver(self, state: State) -> State:
        late = state.late
        assert late is not None
        with contextlib.suppress(ShardscopeError):  # if it is refused, its sender is not there to hear that
            state = self._stage(state, late.ps, self.answers.values[late.answer])
        return state._replace(late=None)

    # -- ps tasks -----------------------------------------------------------------------------

    def staging(self, state: State, ps: int) -> Staging:
        value = self.stagings.values[state.ps[ps]]
        assert isinstance(value, Staging)
        return value

    def _bring(self, state: State, ps: int, answer: Answer | None) -> State:
        """A ps is told the decisions that somebody knows of."""
        decisions = answer.decisions if answer is not None else ()
        return self._at_ps(state, ps, decisions, lambda before: _brought(before, decisions))

    def _stage(self, state: State, ps: int, answer: Answer) -> State:
        state = self._bring(state, ps, answer)
        part = Part(answer.seat, answer.ticket, answer.next_round)
        slots = self.policy.staging_slots
        after = self._at_ps(
            state,
            ps,
            (part, answer.since),
            lambda before: staging.staged(before, part, since=answer.since, slots=slots),
        )
        self._check_overwritten(state, ps, set(self.staging(state, ps).slots) - set(self.staging(after, ps).slots))
        return after

    def _at_ps(self, state: State, ps: int, what: tuple[Any, ...], act: Callable[[Staging], Staging]) -> State:
        key = (state.ps[ps], what)
        if key not in self._known:
            self._known[key] = self.stagings.number(act(self.staging(state, ps)))
        numbers = list(state.ps)
        numbers[ps] = self._known[key]
        return state._replace(ps=tuple(numbers))

    # -- the group ----------------------------------------------------------------------------

    def _group(self, state: State) -> GroupState:
        value = self.groups.values[state.group]
        assert isinstance(value, GroupState)
        return value

    def call(self, state: State, event: Event) -> tuple[State, Answer | ShardscopeError]:
        """An event at ps 0."""
        key = (state.group, event)
        if key not in self._known:
            before = self._group(state)
            try:
                after, answer = group.step(before, event)
            except (FailedPreconditionError, NotFoundError) as error:
                self._known[key] = (state.group, error)
            else:
                self._check_event(before, after)
                # No rule asks for what was counted.
                members = tuple([each._replace(tally=Tally()) for each in after.members])
                self._known[key] = (self.groups.number(after._replace(members=members)), answer)
        number, answer = self._known[key]
        return state._replace(group=number), answer

    def _answer(self, state: State, event: Event) -> Answer | ShardscopeError:
        return self.call(state, event)[1]

    # -- what must hold -----------------------------------------------------------------------

    def _check_event(self, before: GroupState, after: GroupState) -> None:
        check_group(after)
        check_commits(before, after)

    def _check_overwritten(self, state: State, ps: int, slots: set[Slot]) -> None:
        now = self._group(state)
        ended = self.staging(state, ps).ended
        needed = {(each.seat, each.ticket, each.round) for each in now.pending}
        for decision in now.decisions:
            needed |= {(each.seat, each.ticket, each.round) for each in decision.parts if decision.round > ended}
        lost = {(each.seat, each.ticket, each.round) for each in slots} & needed
        promise(not lost, f"a commit needs {lost}, which ps {ps} has overwritten")

    def check(self, state: State) -> None:
        """Each ps can be brought to the newest round, which makes one model of all of them."""
        if not self.has_ps or state[:2] in self._checked:
            return
        self._checked.add(state[:2])
        now = self._group(state)
        newest = Answer(now.policy, now.committed, decisions=now.decisions)
        for ps in PS_TASKS:
            try:
                state = self._bring(state, ps, newest)
            except (BrokenPromiseError, ShardscopeError) as error:
                raise BrokenPromiseError(f"ps {ps} cannot be brought to round {now.committed}: {error}") from error
        stamps = [self.staging(state, ps).stamp for ps in PS_TASKS]
        promise(stamps == [(now.committed, now.committed)] * 2, f"the ps tasks are at {stamps}, not {now.committed}")

    def check_ends(self, state: State) -> None:
        """From here on nothing fails: all workers come to their end."""
        path: list[State] = []
        while state not in self._ends:
            path.append(state)
            move = next(self.moves(state), None)
            if move is None:
                break
            state = move[1]()
            promise(len(path) < 1000, "the workers go on for ever")
        waiting = [index for index, worker in enumerate(state.workers) if worker.step < Step.ENDED]
        if state not in self._ends and waiting:
            now = self._group(state)
            is_missing = self.policy.on_missing is OnMissing.WAIT and quorum.lacks_silent(now)
            promise(now.to_join or is_missing, f"{waiting} wait for ever")
        self._ends.update(path)


def _brought(state: Staging, decisions: tuple[Decision, ...]) -> Staging:
    for decision in decisions:
        begun = staging.begun(state, decision)
        if begun is not None:
            promise(decision.round == state.ended + 1, f"a ps carries out round {decision.round} after {state.ended}")
            there = {(each.seat, each.ticket, each.round) for each in state.slots}
            parts = {(each.seat, each.ticket, each.round) for each in decision.parts}
            promise(parts <= there, f"a ps carries out round {decision.round} without {parts - there}")
            state = staging.ended(begun)
    return state


def check_group(state: GroupState) -> None:
    """What must hold of the state of a group after any event."""
    live = [each for each in state.members if each.status is Status.LIVE]
    promise(not next_parts(state), "a round could commit, and does not")
    promise(not is_resting(state) or not live, "a group with live workers rests")
    waits = state.sync.on_missing is OnMissing.WAIT and any(each.status is Status.SILENT for each in state.members)
    if live and not state.to_join and not waits:
        promise(any(each.base is not None for each in live), f"{[each.worker for each in live]} all wait")
    promise(all(each.base is None for each in state.members if each not in live), "a worker that is not live goes on")
    promise(len({each.seat for each in state.members}) == len(state.members), "two workers have one seat")
    slots = state.sync.staging_slots
    promise(len(state.pending) <= slots * len(state.members), f"{len(state.pending)} gradients are pending")
    limit = slots if state.sync.has_rounds else len(state.members)
    old = [each for each in state.decisions if each.round > state.since]
    promise(len(old) <= limit, f"{len(old)} decisions are kept")
    if state.sync.max_staleness is not None:
        models = [each.base for each in live if each.base is not None] + [each.computed_on for each in state.pending]
        late = [place + state.committed - model for place, model in enumerate(sorted(models))]
        promise(max(late, default=0) <= state.sync.max_staleness, f"gradients on {models} would be too old")


def check_commits(before: GroupState, after: GroupState) -> None:
    """What must hold of the rounds that an event commits."""
    promise(GroupState.decode(after.encode()) == after, "the state is another one when it is read again")
    numbers = [each.round for each in after.decisions]
    promise(numbers == list(range(after.committed - len(numbers) + 1, after.committed + 1)), f"rounds {numbers}")
    same = {each.round: each for each in before.decisions}
    promise(all(same.get(each.round, each) == each for each in after.decisions), "a round has committed twice")
    bound = after.sync.bound if after.sync.has_rounds else after.sync.max_staleness
    needed = after.sync.replicas_to_aggregate
    counted = {each.seat for each in quorum.counted(after)}
    for decision in [each for each in after.decisions if each.round > before.committed]:
        seats = [each.seat for each in decision.parts]
        promise(seats and seats == sorted(set(seats)), f"round {decision.round} has the seats {seats}")
        if needed is not None:
            promise(len(seats) <= needed, f"round {decision.round} has {len(seats)} gradients")
            promise(len(seats) == needed or counted <= set(seats), f"round {decision.round} has only {len(seats)}")
        elif after.sync.has_rounds:
            promise(counted <= set(seats), f"round {decision.round} lacks {counted - set(seats)}")
        for part in decision.parts:
            [member] = [each for each in after.members if each.seat == part.seat]
            applied = [each for each in member.outcomes if each.applied_in == decision.round]
            promise(len(applied) == 1, f"{member.worker} is not told once what became of round {decision.round}")
            staleness = applied[0].staleness
            promise(bound is None or staleness <= bound, f"a gradient is {staleness} rounds old")
            promise(
                0 <= applied[0].publish_lag <= staleness, f"it was handed in {applied[0].publish_lag} rounds before"
            )


def _name(index: int) -> str:
    return f"worker:{index}"


def _with(state: State, index: int, worker: Worker) -> State:
    workers = list(state.workers)
    workers[index] = worker
    return state._replace(workers=tuple(workers))
