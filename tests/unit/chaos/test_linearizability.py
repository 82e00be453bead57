"""The checker accepts what a register can do and rejects what it cannot, however the calls overlap."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.chaos.linearizability import Call, Kind, NotLinearizableError, State, UndecidedError, linearization
from tests.chaos.version_bounds import VersionBounds

START = State(0, 0)


def read(invoked: int, returned: int | None, value: int, version: int | None = None) -> Call:
    return Call(Kind.READ, invoked, returned, value, version)


def assign(invoked: int, returned: int | None, value: int, version: int | None = None) -> Call:
    return Call(Kind.ASSIGN, invoked, returned, value, version)


def add(invoked: int, returned: int | None, value: int, version: int | None = None) -> Call:
    return Call(Kind.ASSIGN_ADD, invoked, returned, value, version)


GOOD = {
    "nothing happened": [],
    "one after the other": [add(0, 1, 5), read(2, 3, 5), assign(4, 5, 9), read(6, 7, 9)],
    "a read during an update sees it": [add(0, 9, 5), read(1, 2, 5)],
    "a read during an update does not see it": [add(0, 9, 5), read(1, 2, 0)],
    "two reads during an update, the later one sees it": [add(0, 9, 5), read(1, 2, 0), read(3, 4, 5)],
    "overlapping updates in the order in which they ended": [assign(0, 9, 5), assign(1, 2, 7), read(10, 11, 5)],
    "an unanswered update that took effect": [add(0, None, 5), read(3, 4, 5)],
    "an unanswered update that did not": [add(0, None, 5), read(3, 4, 0)],
    "an unanswered update that took effect late": [add(0, None, 5), read(3, 4, 0), add(5, 6, 1), read(7, 8, 6)],
    "an unanswered read": [add(0, 1, 5), read(2, None, 77)],
    "touching calls may be in either order": [add(0, 5, 5), read(5, 6, 0)],
    "versions that say the order": [add(0, 9, 1, 2), add(0, 9, 2, 1), read(3, 4, 2, 1), read(10, 11, 3, 2)],
    "an unanswered update fills the gap in the versions": [add(0, None, 4), add(1, 2, 1, 2), read(3, 4, 5, 2)],
}

BAD = {
    "lost update": [add(0, 1, 5), add(2, 3, 7), read(4, 5, 7)],
    "lost update of two that overlap": [add(0, 3, 5), add(1, 4, 7), read(5, 6, 5)],
    "duplicate update": [add(0, 1, 5), read(2, 3, 10)],
    "an unanswered update counted twice": [add(0, None, 5), read(2, 3, 5), read(4, 5, 10)],
    "stale read": [assign(0, 1, 5), assign(2, 3, 7), read(4, 5, 5)],
    "read of a value from the future": [read(0, 1, 5), add(2, 3, 5)],
    "read of a value that was rolled back": [assign(0, 1, 1), assign(2, None, 9), read(3, 4, 9), read(5, 6, 1)],
    "an answered update that was rolled back": [add(0, 1, 5), read(2, 3, 5), read(4, 5, 0)],
    "updates in another order than they were answered": [assign(0, 1, 5), assign(2, 3, 7), read(4, 9, 5)],
    "two readers that disagree on the order": [
        assign(0, 9, 5),
        assign(0, 9, 7),
        read(10, 11, 5),
        read(12, 13, 7),
    ],
    "one version for two updates": [add(0, 9, 1, 1), add(0, 9, 2, 1), read(10, 11, 3)],
    "a version that went back": [add(0, 1, 1, 1), read(2, 3, 1, 1), add(4, 5, 1, 1)],
    "the right value of a wrong version": [add(0, 1, 1, 1), read(2, 3, 1, 2)],
    "a gap in the versions that nothing fills": [add(0, 1, 1, 1), add(2, 3, 1, 3)],
    "a torn read": [assign(0, 1, 100), assign(2, 9, 200), read(3, 4, 150)],
}


@pytest.mark.parametrize("name", GOOD)
def test_accepts_what_a_register_can_do(name: str) -> None:
    order = linearization(GOOD[name])

    assert explains(order, GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_rejects_what_a_register_cannot_do(name: str) -> None:
    with pytest.raises(NotLinearizableError):
        linearization(BAD[name])


def test_begins_with_the_given_state() -> None:
    history = [read(0, 1, 40, 7), add(2, 3, 2, 8), read(4, 5, 42, 8)]

    assert linearization(history, State(40, 7)) == history


def test_the_refusal_shows_where_the_search_got_stuck() -> None:
    with pytest.raises(NotLinearizableError, match=r"(?s)2 of 3.*makes 12 of version 2.*read 7 \(sent at 4"):
        linearization(BAD["lost update"])


def test_an_answer_before_the_question_is_refused() -> None:
    with pytest.raises(ValueError, match="before it was sent"):
        linearization([read(3, 2, 0)])


def test_a_search_that_takes_too_long_is_given_up() -> None:
    hopeless = [add(0, 100, 4**each) for each in range(18)]

    with pytest.raises(UndecidedError, match="after 1000 steps"):
        linearization([*hopeless, read(101, 102, 1)], max_steps=1000)


# -- against an oracle that tries everything ----------------------------------------------------


def explains(order: Sequence[Call], history: Sequence[Call]) -> bool:
    """Whether an order is one that the definition allows, checked as plainly as it can be said."""
    answered = [call for call in history if call.returned is not None]
    state = START
    for position, call in enumerate(order):
        earlier = order[:position]
        if any(call.returned is not None and call.returned < before.invoked for before in earlier):
            return False
        if call.kind is not Kind.READ:
            state = State(call.value if call.kind is Kind.ASSIGN else state.value + call.value, state.version + 1)
        elif call.value != state.value:
            return False
        if call.version not in (None, state.version):
            return False
    return all(any(call is placed for placed in order) for call in answered)


def is_linearizable(history: Sequence[Call]) -> bool:
    answered = [call for call in history if call.returned is not None]
    maybe = [call for call in history if call.returned is None and call.kind is not Kind.READ]
    return any(
        explains(order, history)
        for number in range(len(maybe) + 1)
        for effective in itertools.combinations(maybe, number)
        for order in itertools.permutations([*answered, *effective])
    )


@st.composite
def any_call(draw: st.DrawFn) -> Call:
    kind = draw(st.sampled_from(Kind))
    invoked = draw(st.integers(0, 8))
    returned = invoked + draw(st.integers(0, 5)) if draw(st.integers(0, 4)) else None
    version = draw(st.none() | st.integers(1, 4))
    return Call(kind, invoked, returned, draw(st.integers(0, 3)), version)


@settings(max_examples=200, deadline=None)
@given(st.lists(any_call(), max_size=5))
def test_agrees_with_trying_every_order(history: list[Call]) -> None:
    try:
        order = linearization(history)
    except NotLinearizableError:
        assert not is_linearizable(history)
    else:
        assert explains(order, history)
        assert is_linearizable(history)


# -- histories of a register that works, and of some that do not --------------------------------


class Recorded:
    """A history of adds and reads, with the order in which a working register carried them out.

    Call ``i`` takes effect at instant ``10 * i`` and overlaps its neighbours as the seed has it. Deltas are powers of
    four, so that a value says which updates are in it and how often; or small, where there are thousands.
    """

    def __init__(self, length: int, seed: int, *, versions: bool = False, unanswered: float = 0.0, small: bool = False):
        chance = random.Random(seed)
        self.calls: list[Call] = []
        value = updates = 0
        for index in range(length):
            invoked, returned = 10 * index - chance.randrange(45), 10 * index + chance.randrange(45)
            if chance.random() < 0.4:
                self.calls.append(read(invoked, returned, value, updates if versions else None))
                continue
            delta = chance.randrange(1, 100) if small else 4**updates
            is_lost = chance.random() < unanswered
            has_effect = not is_lost or chance.random() < 0.5
            value += delta if has_effect else 0
            updates += has_effect
            version = updates if versions and not is_lost else None
            self.calls.append(add(invoked, None if is_lost else returned, delta, version))
        self.final = read(10 * length + 100, 10 * length + 101, value, updates if versions else None)

    def updates(self) -> list[int]:
        return [
            index for index, call in enumerate(self.calls) if call.kind is Kind.ASSIGN_ADD and call.returned is not None
        ]


@settings(max_examples=100, deadline=None)
@given(length=st.integers(1, 40), seed=st.integers(0, 2**32), versions=st.booleans())
def test_accepts_random_histories_of_a_working_register(length: int, seed: int, versions: bool) -> None:
    recorded = Recorded(length, seed, versions=versions, unanswered=0.1)
    history = [*recorded.calls, recorded.final]
    random.Random(seed).shuffle(history)

    assert len(linearization(history)) >= sum(call.returned is not None for call in history)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32), versions=st.booleans(), times=st.sampled_from([0, 2]))
def test_rejects_an_update_that_counts_not_at_all_or_twice(
    data: st.DataObject, seed: int, versions: bool, times: int
) -> None:
    recorded = Recorded(25, seed, versions=versions)
    assume(recorded.updates())
    wrong = recorded.calls[data.draw(st.sampled_from(recorded.updates()))]

    final = replace(recorded.final, value=recorded.final.value + (times - 1) * wrong.value)

    with pytest.raises(NotLinearizableError):
        linearization([*recorded.calls, final])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_rejects_a_read_without_an_update_that_was_answered_before(data: st.DataObject, seed: int) -> None:
    recorded = Recorded(25, seed)
    assume(recorded.updates())
    missing = recorded.calls[data.draw(st.sampled_from(recorded.updates()))]
    assert missing.returned is not None
    stale = read(missing.returned + 1, missing.returned + 2, 4 ** len(recorded.calls))  # holds no such update

    with pytest.raises(NotLinearizableError):
        linearization([*recorded.calls, stale, recorded.final])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32), versions=st.booleans())
def test_rejects_a_value_that_was_seen_and_then_taken_back(data: st.DataObject, seed: int, versions: bool) -> None:
    recorded = Recorded(25, seed, versions=versions)
    assume(recorded.updates())
    undone = recorded.calls[data.draw(st.sampled_from(recorded.updates()))]
    # Nobody was told that it had taken effect, so it need not have: but somebody has seen it.
    calls = [replace(call, returned=None, version=None) if call is undone else call for call in recorded.calls]
    rolled_back = read(recorded.final.invoked + 10, recorded.final.invoked + 11, recorded.final.value - undone.value)

    linearization([*calls, recorded.final])
    with pytest.raises(NotLinearizableError):
        linearization([*calls, recorded.final, rolled_back])


def test_rejects_assignments_whose_order_was_swapped() -> None:
    chance = random.Random(3)
    history: list[Call] = []
    for index in range(200):
        history.append(assign(10 * index, 10 * index + 2, index + 1))
        history.append(read(10 * index + 3 - chance.randrange(2), 10 * index + 5, index + 1))
    linearization(history)

    earlier, later = history[101], history[103]
    history[101], history[103] = replace(earlier, value=later.value), replace(later, value=earlier.value)

    with pytest.raises(NotLinearizableError):
        linearization(history)


@pytest.mark.parametrize("versions", [True, False])
def test_histories_of_thousands_of_operations_are_decided(versions: bool) -> None:
    recorded = Recorded(3000, 11, versions=versions, unanswered=0.01 if versions else 0.0, small=True)

    linearization([*recorded.calls, recorded.final], max_steps=200_000)
    with pytest.raises(NotLinearizableError):
        linearization([*recorded.calls, replace(recorded.final, value=recorded.final.value + 1)], max_steps=2_000_000)


# -- histories in which clients have given updates up -------------------------------------------


def history_with_given_up_updates(seed: int, *, given_up_each: int) -> list[Call]:
    """What four clients see of a register that works, with versions, and one read after them.

    Deltas and assigned values are distinct multiples of 1000 and more. Half of the updates that a client gives up take
    effect, at any time from then on.
    """
    chance = random.Random(seed)
    instants: list[tuple[int, Call]] = []  # of answered calls and of updates that took effect
    without_effect = []
    for client in range(4):
        given_up = set(chance.sample(range(10, 90), given_up_each))
        now = chance.randrange(20)
        for number in range(100):
            value = (number + 1) * 1000 + client
            invoked, now = now, now + 1 + chance.randrange(40)
            if number in given_up:
                unanswered = Call(chance.choice([Kind.ASSIGN, Kind.ASSIGN_ADD]), invoked, None, value)
                if chance.random() < 0.5:
                    instants.append((invoked + chance.randrange(400), unanswered))
                else:
                    without_effect.append(unanswered)
            else:
                instants.append((chance.randint(invoked, now), Call(chance.choice(list(Kind)), invoked, now, value)))
    end = max(instant for instant, _ in instants) + 100
    instants.append((end, read(end, end, 0)))
    return [*without_effect, *carried_out(call for _, call in sorted(instants, key=lambda each: each[0]))]


def carried_out(calls: Iterable[Call]) -> Iterator[Call]:
    value = version = 0
    for call in calls:
        if call.kind is Kind.READ:
            yield replace(call, value=value, version=version)
            continue
        value = call.value if call.kind is Kind.ASSIGN else value + call.value
        version += 1
        yield call if call.returned is None else replace(call, version=version)


@pytest.mark.parametrize("seed", range(6))
def test_with_a_few_updates_given_up_it_is_decided_soon(seed: int) -> None:
    history = history_with_given_up_updates(seed, given_up_each=3)
    final = history[-1]

    order = linearization(history, max_steps=len(history) + 100)  # it hardly ever has to go back
    assert explains(order, history)
    for wrong in (replace(final, value=final.value + 500), replace(final, version=(final.version or 0) + 9)):
        with pytest.raises(NotLinearizableError):
            linearization([*history[:-1], wrong], max_steps=20_000)


@pytest.mark.parametrize("seed", range(6))
def test_rejects_a_history_without_the_updates_that_were_given_up_and_seen(seed: int) -> None:
    history = history_with_given_up_updates(seed, given_up_each=2)
    assert any(call.returned is None for call in linearization(history))

    with pytest.raises(NotLinearizableError):
        linearization([call for call in history if call.returned is not None], max_steps=50_000)


def test_versions_bound_how_many_unanswered_updates_came_before() -> None:
    answered = [add(0, 1, 5, 2), read(2, 3, 9, 4), add(2, 5, 1, 6), read(9, 10, 0)]
    bounds = VersionBounds(answered, [True, False, True, False], initial_version=0)

    # One before the first, three before the read that comes after that one, four before the second update.
    assert [bounds.of(index).unanswered for index in range(3)] == [1, 3, 4]
    assert [bounds.of(index).version for index in range(3)] == [1, 4, 5]
    assert [bounds.of_all_from(index).unanswered for index in range(3)] == [1, 3, 4]
    assert bounds.of_all_from(3) == bounds.of_all_from(4)
