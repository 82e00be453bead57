"""Decides whether a recorded history of one variable is linearizable.

A history is linearizable if every operation can be given one instant between its invocation and its response so that,
carried out in the order of these instants, each returns what it returned (M. Herlihy and J. Wing, "Linearizability: A
Correctness Condition for Concurrent Objects", 1990). The search is that of J. Wing and C. Gong, "Testing and Verifying
Concurrent Objects", 1993: it extends a sequence by any operation that nothing unplaced has to precede, and goes back
when it cannot. It remembers which (operations placed, state) pairs led nowhere, as in G. Lowe, "Testing for
linearizability", 2017, so that the orders of operations that commute are tried once.

An update that was never answered may have taken effect at any time after its invocation, or not at all. There may be
as many sets of those that did as there are subsets, so a history should have few of them. Versions, where they were
recorded, leave few orders to try: an update's is the number of updates up to it (``VersionBounds``).

Variables are checked one by one: a history of several is linearizable if that of each is (Herlihy and Wing, theorem 1).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tests.chaos.version_bounds import VersionBounds

DEFAULT_MAX_STEPS: Final = 2_000_000
_SHOWN: Final = 6


class Kind(enum.StrEnum):
    """What was asked of the variable."""

    READ = "read"
    ASSIGN = "assign"
    ASSIGN_ADD = "assign_add"


@dataclass(frozen=True, slots=True)
class Call:
    """One operation as its client saw it.

    Attributes:
        kind: What was asked.
        invoked: When it was sent, on a clock that all clients share.
        returned: When its answer was there; None if there never was one.
        value: What was read, assigned or added.
        version: Updates of the variable up to this operation, as it was answered; None if that was not recorded.
        client: Who asked, for messages.
    """

    kind: Kind
    invoked: int
    returned: int | None
    value: int
    version: int | None = None
    client: str = ""

    def __str__(self) -> str:
        answered = "never answered" if self.returned is None else f"answered at {self.returned}"
        version = "" if self.version is None else f", version {self.version}"
        return f"{self.client or 'a client'}: {self.kind} {self.value} (sent at {self.invoked}, {answered}{version})"


class State(NamedTuple):
    """The variable between two operations."""

    value: int
    version: int


NEW_VARIABLE: Final = State(0, 0)
"""Zero, just initialised."""


class NotLinearizableError(Exception):
    """No order of the operations explains what was returned; the message shows the longest one that was found."""


class UndecidedError(Exception):
    """The search was given up before it ended."""


def linearization(
    history: Sequence[Call], initial: State = NEW_VARIABLE, *, max_steps: int = DEFAULT_MAX_STEPS
) -> list[Call]:
    """Returns the operations in an order that explains the history.

    Args:
        history: Operations in any order. Reads that were not answered say nothing and are left out.
        initial: The variable before any of them.
        max_steps: Operations tried, after which the search is given up.

    Returns:
        All that were answered, and those of the others that took effect.

    Raises:
        NotLinearizableError: There is no such order.
        UndecidedError: It was given up.
        ValueError: An operation was answered before it was sent.
    """
    return _Search(history, initial, max_steps).run()


class _Placed(NamedTuple):
    """Which operations have been placed; answered ones before ``first`` all are.

    Attributes:
        first: Index of the first answered operation that is not placed.
        beyond: Bit ``i`` stands for answered operation ``first + 1 + i``.
        unanswered: Bit ``i`` stands for unanswered operation ``i``.
    """

    first: int
    beyond: int
    unanswered: int

    def with_answered(self, index: int) -> _Placed:
        if index != self.first:
            return self._replace(beyond=self.beyond | 1 << (index - self.first - 1))
        first, beyond = self.first + 1, self.beyond
        while beyond & 1:
            first, beyond = first + 1, beyond >> 1
        return _Placed(first, beyond >> 1, self.unanswered)


class _Step(NamedTuple):
    """One way to extend a sequence."""

    call: Call
    placed: _Placed
    state: State


class _Search:
    def __init__(self, history: Sequence[Call], initial: State, max_steps: int):
        for call in history:
            if call.returned is not None and call.returned < call.invoked:
                raise ValueError(f"an operation was answered before it was sent: {call}")
        in_order = sorted(history, key=lambda call: call.invoked)
        self._answered = [call for call in in_order if call.returned is not None]
        self._unanswered = [call for call in in_order if call.returned is None and call.kind is not Kind.READ]
        # Who holds a version is known from its answer, so no update without an answer can have made it.
        self._taken = {call.version for call in self._answered if call.kind is not Kind.READ}
        self._bounds = VersionBounds(
            self._answered, [call.kind is not Kind.READ for call in self._answered], initial.version
        )
        self._initial = initial
        self._steps_left = self._max_steps = max_steps

    def run(self) -> list[Call]:
        placed = _Placed(0, 0, 0)
        if not self._answered:
            return []
        seen: set[tuple[_Placed, State]] = set()
        order: list[Call] = []
        longest: tuple[list[Call], _Placed, State] = ([], placed, self._initial)
        pending = [self._extensions(placed, self._initial)]
        while pending:
            step = next(pending[-1], None)
            if step is None:
                pending.pop()
                if order:
                    order.pop()
                continue
            self._count_step()
            if (step.placed, step.state) in seen:
                continue
            seen.add((step.placed, step.state))
            if self._leads_nowhere(step):
                continue
            order.append(step.call)
            if step.placed.first == len(self._answered):
                return order
            if len(order) > len(longest[0]):
                longest = (order.copy(), step.placed, step.state)
            pending.append(self._extensions(step.placed, step.state))
        raise self._not_linearizable(*longest)

    def _count_step(self) -> None:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise UndecidedError(
                f"after {self._max_steps} steps it is not known whether {len(self._answered)} answered and "
                f"{len(self._unanswered)} unanswered operations are linearizable; record versions, or shorter histories"
            )

    def _extensions(self, placed: _Placed, state: State) -> Iterator[_Step]:
        """All operations that may come next, in the order in which they most likely did."""
        candidates = sorted(self._candidates(placed), key=lambda candidate: candidate[1].returned or 0)
        latest_start = candidates[0][1].returned or 0
        for index, call in candidates:
            after = self._after(call, state)
            if after is not None:
                yield _Step(call, placed.with_answered(index), after)
        for index, call in enumerate(self._unanswered):
            if call.invoked > latest_start:
                return
            after = self._after(call, state)
            if after is not None and not placed.unanswered >> index & 1:
                yield _Step(call, placed._replace(unanswered=placed.unanswered | 1 << index), after)

    def _leads_nowhere(self, step: _Step) -> bool:
        """Whether the versions of what is not placed yet show that too many updates are."""
        placed = step.placed
        bounds = self._bounds.of_all_from(min(placed.first + 1 + placed.beyond.bit_length(), len(self._answered)))
        for index in self._unplaced(placed):
            bounds = bounds.with_those(self._bounds.of(index))
        return step.state.version > bounds.version or placed.unanswered.bit_count() > bounds.unanswered

    def _unplaced(self, placed: _Placed) -> Iterator[int]:
        """Answered operations that are not placed, of those before the last that is."""
        if placed.first < len(self._answered):
            yield placed.first
        for position in range(placed.beyond.bit_length()):
            if not placed.beyond >> position & 1:
                yield placed.first + 1 + position

    def _candidates(self, placed: _Placed) -> list[tuple[int, Call]]:
        """Unplaced answered operations, up to where all further ones were sent after one of these was answered."""
        found = []
        first_return = None
        for index in range(placed.first, len(self._answered)):
            call = self._answered[index]
            if first_return is not None and call.invoked > first_return:
                break
            if index > placed.first and placed.beyond >> (index - placed.first - 1) & 1:
                continue
            found.append((index, call))
            if first_return is None or (call.returned is not None and call.returned < first_return):
                first_return = call.returned
        return found

    def _after(self, call: Call, state: State) -> State | None:
        """The variable after an operation, or None if the operation could not have returned what it did."""
        if call.kind is Kind.READ:
            fits = call.value == state.value and call.version in (None, state.version)
            return state if fits else None
        version = state.version + 1
        if call.version is None and version in self._taken:
            return None
        if call.version not in (None, version):
            return None
        return State(call.value if call.kind is Kind.ASSIGN else state.value + call.value, version)

    def _not_linearizable(self, order: list[Call], placed: _Placed, state: State) -> NotLinearizableError:
        next_ones = [str(call) for _, call in self._candidates(placed)]
        before = [str(call) for call in order[-_SHOWN:]]
        return NotLinearizableError(
            "\n  ".join(
                [
                    f"no order explains this history; the longest one has {len(order)} of "
                    f"{len(self._answered)} answered operations and ends with",
                    *before,
                    f"which makes {state.value} of version {state.version}; but none of these leads on from there:",
                    *next_ones[:_SHOWN],
                ]
            )
        )
