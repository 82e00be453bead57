"""Rounds of training together under adversarial schedules.

The promises are in ``rounds_world``: staleness never above the bound, as many distinct workers in a round as the policy
says, a round commits once, on all ps tasks or on none, and never do all live workers wait.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps_protocol.errors import ShardscopeError
from ps_protocol.training.round_messages import (
    Answer,
    Back,
    Event,
    Finish,
    GivenUp,
    HandIn,
    Join,
    Look,
    Silent,
    decode_event,
    encode_event,
)
from ps_server.rounds.group import act, step
from ps_server.rounds.state import GroupState
from tests.unit.ps_server.rounds.rounds_search import Search
from tests.unit.ps_server.rounds.rounds_world import World, check_commits, check_group

POLICIES = st.sampled_from(
    [
        *("bsp", "ssp(1)", "ssp(3)", "sync(1)", "sync(2)", "sync(3, total=4)", "local(8)", "bsp(total=3)"),
        *("async", "async(max_staleness=0)", "async(max_staleness=2)", "async(max_staleness=5)"),
        *("bsp(on_missing=wait)", "ssp(2, on_missing=fail)", "sync(2, on_missing=wait)", "sync(2, on_missing=fail)"),
    ]
)
WORKERS = [f"worker:{index}" for index in range(4)]


@st.composite
def _events(draw: st.DrawFn) -> Event:
    """An event that may well be wrong."""
    who: dict[str, Any] = {
        "worker": draw(st.sampled_from(WORKERS)),
        "incarnation": draw(st.sampled_from("aaaab")),
    }
    kind = draw(st.sampled_from([Join, HandIn, HandIn, HandIn, HandIn, Finish, Silent, Back, GivenUp, Look]))
    if kind is HandIn:
        return HandIn(**who, round=draw(st.integers(1, 9)), computed_on=draw(st.integers(0, 8) | st.none()))
    if kind is GivenUp:
        return GivenUp(draw(st.sampled_from(["", *WORKERS])))
    if kind is Join:
        return Join(**who, policy="")
    event: Event = kind(**who)
    return event


def _with_policy(event: Event, policy: str) -> Event:
    return replace(event, policy=policy) if isinstance(event, Join) else event


def _told(state: GroupState, event: Event) -> tuple[GroupState, Any]:
    try:
        return step(state, event)
    except ShardscopeError as error:
        return state, (type(error), error.message)


@settings(max_examples=150)
@given(POLICIES, st.data())
def test_any_events_leave_a_group_in_which_what_is_promised_holds(policy: str, data: st.DataObject) -> None:
    """Workers that do as they are told, and events out of nowhere."""
    state = GroupState()
    for _ in range(data.draw(st.integers(1, 60))):
        event = _with_policy(data.draw(_events()), policy)
        member = state.member(event.worker)
        if member is not None and member.base is not None and data.draw(st.integers(0, 3)):
            number = 1 + (max(state.committed, member.handed) if state.sync.has_rounds else member.base)
            event = HandIn(
                event.worker, member.incarnation, number, data.draw(st.integers(member.base, state.committed))
            )
        before = state
        state, said = _told(before, event)
        assert decode_event(encode_event(event)) == event
        if not isinstance(said, Answer):
            assert state is before
        if state.policy:
            check_group(state)
            check_commits(before, state)
        assert state is not before or state.encode() == before.encode()


@settings(max_examples=60)
@given(st.sampled_from(["", "on_missing=wait", "on_missing=fail"]), st.lists(_events(), max_size=60))
def test_ssp_without_a_bound_is_bsp(on_missing: str, events: list[Event]) -> None:
    """The same events lead to the same decisions, answers and states, but for the name of the policy."""
    names = (f"bsp({on_missing})", f"ssp(0, {on_missing})" if on_missing else "ssp(0)")
    states = [GroupState(), GroupState()]
    for event in events:
        said = []
        for index, name in enumerate(names):
            states[index], answer = _told(states[index], _with_policy(event, name))
            said.append(answer._replace(policy="") if isinstance(answer, Answer) else answer)
        first, second = [each._replace(policy="", why_over="") for each in states]
        assert first == second
        assert said[0] == said[1] or not isinstance(said[0], Answer)


@settings(max_examples=80)
@given(POLICIES, st.integers(2, 4), st.data())
def test_any_schedule_of_workers_and_two_ps_tasks(policy: str, num_workers: int, data: st.DataObject) -> None:
    """Faults as often as steps, for as long as somebody can do something."""
    world = World(policy, num_workers, joined=data.draw(st.integers(0, num_workers)), steps=4)
    state = world.start
    for _ in range(data.draw(st.integers(10, 200))):
        moves = list(world.moves(state))
        if data.draw(st.integers(0, 5)) == 0:
            moves = list(world.faults(state)) or moves
        if not moves:
            break
        state = moves[data.draw(st.integers(0, len(moves) - 1))][1]()
        world.check(state)
    world.check_ends(state)


@given(st.lists(_events(), max_size=30))
def test_events_have_the_same_effect_again(events: list[Event]) -> None:
    """A journal or a backup carries the events out again, as bytes, and comes to the same bytes."""

    def run() -> list[bytes]:
        state, said = b"", []
        for event in events:
            try:
                state, answer = act(state, encode_event(_with_policy(event, "ssp(1)")))
            except ShardscopeError as error:
                answer = error.message.encode()
            said += [state, answer]
        return said

    assert run() == run()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("policy", ["ssp(1)", "async", "async(max_staleness=1)"])
def test_three_workers_in_every_order_with_workers_ahead(policy: str) -> None:
    """The other policies are in ``tests/unit/ps_server/rounds/test_rounds_search.py``."""
    Search(World(policy, 3), max_faults=0).explore()
    search = Search(World(policy, 3, joined=2, has_ps=False), max_faults=1)
    search.explore()
    assert search.seen["2: join"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("policy", ["bsp", "sync(2)"])
def test_three_workers_survive_every_fault_with_two_ps_tasks(policy: str) -> None:
    search = Search(World(policy, 3), max_faults=1)
    search.explore()
    for label in (
        "2 dies, and its gradient for 1 is late",
        "1 is silent for a lease",
        "0: hand_in, the answer is lost",
    ):
        assert search.seen[label], label
