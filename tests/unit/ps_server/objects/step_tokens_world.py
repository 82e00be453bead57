"""Synchronous training with tokens in small: what workers share, and workers that take one step at a time.

The chief leads, all join, push a gradient, take a token, and so on until the last step; then each leaves, and the chief
closes the tokens. That a session has left which is made again is heard of at any time later. Who waits for a token that
nobody makes leads. Who leads takes the gradients, counts the step, and puts tokens in. Each of these is carried out as
a whole: a worker that dies, dies between two of them. That it is dead is known at once. One accumulator stands for all.
"""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from ps_protocol.errors import CancelledError, OutOfRangeError
from ps_protocol.shared_objects import Json
from ps_server.objects.step_tokens import STEP_TOKENS
from tests.unit.ps_server.rounds.rounds_world import promise

KEPT_ROUNDS: Final = 2
"""Of how many rounds the tokens stay: fewer than in training, for the sake of fewer states."""


class Phase(enum.IntEnum):
    """What a worker does next."""

    LEAD = 0
    JOIN = 1
    PUSH = 2
    TAKE = 3
    STOP = 4
    ENDED = 5
    DEAD = 6


class Making(enum.IntEnum):
    """What who makes the steps does next."""

    NOTHING = 0
    REPAIR = 1
    TAKE = 2
    COUNT = 3
    PUT = 4


class Worker(NamedTuple):
    """A worker, with what its session does for the steps.

    Attributes:
        phase: What it does next.
        session: Number of its session.
        step: For which it pushes.
        had: The put of which its session has had a token last.
        is_free: Whether it goes on without a token, once.
        making: What it does next for the steps.
        ticket: With which it makes them.
        told: Whom it knows to be gone.
    """

    phase: Phase
    session: int = 0
    step: int = 0
    had: int = 0
    is_free: bool = False
    making: Making = Making.NOTHING
    ticket: int = 0
    told: tuple[int, ...] = ()

    @property
    def is_live(self) -> bool:
        return self.phase not in (Phase.ENDED, Phase.DEAD)


class State(NamedTuple):
    """All of a world: the number of the tokens' state, the accumulator, the step, the workers, and who leaves."""

    tokens: int
    pending: tuple[int, ...]
    needed: int  # gradients of an earlier step are stale
    step: int
    workers: tuple[Worker, ...]
    leaving: tuple[tuple[int, int], ...] = ()  # workers with their sessions


Move: TypeAlias = tuple[str, Callable[[], State]]


def name_of(worker: int) -> str:
    """What the tokens call it."""
    return f"worker:{worker}"


class TokensWorld:
    """What can happen, and what must hold.

    Args:
        num_workers: How many; each step takes a gradient of each.
        last: The step with which training ends.
        has_late_leaves: Whether sessions may be made again.
    """

    def __init__(self, num_workers: int, last: int, *, has_late_leaves: bool = True) -> None:
        self._has_late_leaves = has_late_leaves
        self._num_workers = num_workers
        self._last = last
        self._states: list[Json] = []
        self._numbers: dict[str, int] = {}
        self._good: set[State] = set()
        workers = (Worker(Phase.LEAD), *[Worker(Phase.JOIN)] * (self._num_workers - 1))
        self.start = State(self._number(STEP_TOKENS.empty({})), (), 0, 0, workers)
        for who in (0, *range(self._num_workers)):  # the chief leads, and then all join
            self.start = self._done(self.start, who)

    # -- what can happen ----------------------------------------------------------------------

    def moves(self, state: State) -> Iterator[Move]:
        """What may happen without a fault."""
        for who, worker in enumerate(state.workers):
            if worker.making and self._makes(state, who) is not None:
                yield f"{who}: {worker.making.name.lower()} for the steps", partial(self._made, state, who)
            if worker.is_live and (worker.phase is not Phase.TAKE or self._takes(state, who) is not None):
                yield f"{who}: {worker.phase.name.lower()}", partial(self._done, state, who)
            if self._may_lead(state, who):
                yield f"{who} leads, since nobody does", partial(self._led, state, who)
        for each in state.leaving:
            yield f"{each[0]} has left", partial(self._left, state, each)

    def faults(self, state: State) -> Iterator[Move]:
        """What may go wrong."""
        for who, worker in enumerate(state.workers):
            again = Worker(Phase.JOIN if who else Phase.LEAD, worker.session + 1)
            if worker.is_live:
                yield f"{who} dies", partial(self._with, state, who, Worker(Phase.DEAD, worker.session))
                yield f"{who} is replaced", partial(self._with, state, who, again)
                leaving = state._replace(leaving=(*state.leaving, (who, worker.session)))
                if self._has_late_leaves:
                    yield f"{who} makes its session again", partial(self._with, leaving, who, again)
            elif worker.phase is Phase.DEAD:
                yield f"{who} is started again", partial(self._with, state, who, again)

    def _number(self, tokens: Json) -> int:
        number = self._numbers.setdefault(json.dumps(tokens, sort_keys=True), len(self._states))
        if number == len(self._states):
            self._states.append(tokens)
        return number

    def _tokens(self, state: State) -> Json:
        tokens: Json = self._states[state.tokens]
        return tokens

    def _act(self, state: State, do: str, **event: Any) -> tuple[State, Json | None]:
        outcome = STEP_TOKENS.step(self._tokens(state), {"do": do, **event})
        if outcome is None:
            return state, None
        return state._replace(tokens=self._number(outcome[0])), outcome[1]

    def _with(self, state: State, who: int, worker: Worker) -> State:
        return state._replace(workers=(*state.workers[:who], worker, *state.workers[who + 1 :]))

    def _caller(self, state: State, who: int) -> Json:
        return {"by": name_of(who), "session": str(state.workers[who].session)}

    def _crew(self, state: State, who: int) -> Json:
        return STEP_TOKENS.look(self._tokens(state), {"ask": "crew", "by": name_of(who)}) or {}

    def _gone(self, state: State, who: int) -> tuple[int, ...]:
        left = self._tokens(state)["left"]
        return tuple(
            [
                other
                for other, each in enumerate(state.workers)
                if other != who and (each.phase is Phase.DEAD or name_of(other) in left)
            ]
        )

    def _done(self, state: State, who: int) -> State:
        """A worker does what is next for it."""
        worker = state.workers[who]
        match worker.phase:
            case Phase.LEAD:
                return self._led(state, who)
            case Phase.JOIN:
                state, answer = self._act(state, "join", **self._caller(state, who))
                assert answer is not None
                if not who:  # the chief hands out the first tokens
                    state = state._replace(needed=state.step)
                    state, _ = self._act(state, "put", steps=[state.step] * self._num_workers)
                joined = worker._replace(phase=Phase.PUSH, step=state.step, is_free=answer["waits"])
                return self._with(state, who, joined)
            case Phase.PUSH:
                if worker.step >= state.needed and who not in state.pending:
                    state = state._replace(pending=tuple(sorted((*state.pending, who))))
                return self._with(state, who, worker._replace(phase=Phase.TAKE))
            case Phase.TAKE:
                taken = self._takes(state, who)
                assert taken is not None
                return taken
        if not who:
            with contextlib.suppress(CancelledError):
                state, _ = self._act(state, "close", cancel=True, by=name_of(who))
        state, _ = self._act(state, "leave", **self._caller(state, who))
        return self._with(state, who, Worker(Phase.ENDED))

    def _takes(self, state: State, who: int) -> State | None:
        """A worker takes a token; None if there is none for it."""
        worker = state.workers[who]
        if worker.is_free:
            worker = worker._replace(is_free=False, step=state.step)
        else:
            try:
                state, answer = self._act(state, "take", by=name_of(who))
            except OutOfRangeError:
                return self._with(state, who, worker._replace(phase=Phase.STOP))
            if answer is None:
                return None
            had = self._tokens(state)["last"][name_of(who)]
            promise(had > worker.had, f"{who} takes a token of put {had} after one of {worker.had}")
            worker = worker._replace(step=answer["step"], had=had)
        return self._with(state, who, worker._replace(phase=Phase.STOP if state.step >= self._last else Phase.PUSH))

    def _left(self, state: State, leaves: tuple[int, int]) -> State:
        who, session = leaves
        state, _ = self._act(state, "leave", by=name_of(who), session=str(session))
        return state._replace(leaving=tuple([each for each in state.leaving if each != leaves]))

    # -- who makes the steps ------------------------------------------------------------------

    def _may_lead(self, state: State, who: int) -> bool:
        worker, crew = state.workers[who], self._crew(state, who)
        waits = worker.phase is Phase.TAKE and not worker.making and self._takes(state, who) is None
        leader = crew["leader"]
        is_free = leader is None or leader in [name_of(each) for each in self._gone(state, who)]
        is_first = not [1 for each in state.workers[:who] if each.is_live and each.phase in (Phase.LEAD, Phase.TAKE)]
        return waits and is_free and is_first and not crew["closed"] and not (who and crew["waits"])

    def _led(self, state: State, who: int) -> State:
        crew = self._crew(state, who)
        state, answer = self._act(state, "lead", **self._caller(state, who), instead_of=crew["ticket"])
        assert answer is not None
        worker = state.workers[who]
        making = Making.TAKE if answer["begins"] else Making.REPAIR
        worker = worker._replace(making=making, ticket=answer["ticket"], told=self._gone(state, who))
        if worker.phase is Phase.LEAD:
            worker = worker._replace(phase=Phase.JOIN)
        return self._with(state, who, worker)

    def _makes(self, state: State, who: int) -> State | None:
        """Who makes the steps does what is next; None if that is to wait."""
        worker, crew = state.workers[who], self._crew(state, who)
        if crew["closed"] or crew["ticket"] > worker.ticket:
            return self._with(state, who, worker._replace(making=Making.NOTHING, ticket=0, told=()))
        gone, after = self._gone(state, who), worker._replace(making=Making.TAKE)
        try:
            match worker.making:
                case Making.REPAIR:
                    state, _ = self._act(state._replace(needed=state.step), "put", **self._again(state, 0))
                case Making.TAKE if set(gone) - set(worker.told):
                    state, _ = self._act(state, "put", **self._again(state, KEPT_ROUNDS))
                    after = after._replace(told=gone)
                case Making.TAKE:
                    live = max(self._num_workers, len(crew["workers"])) - len(gone)
                    if len(state.pending) < min(self._num_workers, max(1, live)):
                        return None
                    state = state._replace(pending=(), needed=state.needed + 1)
                    after = worker._replace(making=Making.COUNT)
                case Making.COUNT:
                    state = state._replace(step=state.step + 1)
                    after = worker._replace(making=Making.PUT)
                case Making.PUT:
                    state, _ = self._act(state, "put", **self._again(state, KEPT_ROUNDS))
        except CancelledError:
            after = worker._replace(making=Making.NOTHING, ticket=0, told=())
        return self._with(state, who, after)

    def _again(self, state: State, keep: int) -> Json:
        return {"steps": [state.step] * self._num_workers, "keep": keep * self._num_workers}

    def _made(self, state: State, who: int) -> State:
        made = self._makes(state, who)
        assert made is not None
        return made

    # -- what must hold -----------------------------------------------------------------------

    def check(self, after: State) -> None:
        """What holds in every state."""
        tokens = self._tokens(after)
        promise(not (tokens["next"] and not tokens["closed"]), "who waits for another run waits though there is one")

    def check_ends(self, state: State) -> None:
        """If nothing fails from now on, all workers end."""
        path = []
        while state not in self._good:
            promise(state not in path, "it goes round in circles")
            path.append(state)
            move = next(self.moves(state), None)
            if move is None:
                waiting = [who for who, worker in enumerate(state.workers) if worker.is_live]
                promise(not waiting, f"{waiting} wait for ever: {state}, {self._tokens(state)}")
                break
            state = move[1]()
        self._good.update(path)
