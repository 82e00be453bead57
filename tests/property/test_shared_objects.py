"""Shared objects under any events: what they answer, what a log repeats, and that no state is changed in place."""

from __future__ import annotations

import copy
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from ps_protocol.errors import CancelledError, OutOfRangeError, ShardscopeError
from ps_protocol.shared_objects import Json, decode_json
from ps_server.objects.barrier import BARRIER
from ps_server.objects.fifo_queue import FIFO_QUEUE
from ps_server.objects.transitions import carried_out

KINDS = {"barrier": BARRIER, "fifo_queue": FIFO_QUEUE}
TASKS = ("worker:0", "worker:1", "worker:2")
CALLERS = st.fixed_dictionaries({"by": st.sampled_from(TASKS), "id": st.sampled_from("ab"), "call": st.integers(1, 3)})
ARRIVALS = st.builds(
    lambda caller, count, store: {"do": "arrive", "count": count, "store": store, **caller},
    CALLERS,
    st.integers(1, 3),
    st.sampled_from("st"),
)
GONE = st.builds(
    lambda gone, workers, meeting: {"do": "gone", "gone": gone, "workers": workers, "meeting": meeting, "why": "dead"},
    st.lists(st.sampled_from(TASKS), max_size=2),
    st.none() | st.lists(st.sampled_from(TASKS), max_size=3),
    st.integers(1, 4),
)
AT_BARRIERS = ARRIVALS | GONE | CALLERS.map(lambda caller: {"do": "leave", **caller})
IN_QUEUES = (
    st.builds(
        lambda items, pending: {"do": "enqueue", "items": [[each] for each in items], "pending": pending},
        st.lists(st.integers(0, 99), max_size=3),
        st.booleans(),
    )
    | st.builds(
        lambda number, up_to: {"do": "dequeue", "number": number, "up_to": up_to}, st.integers(0, 4), st.booleans()
    )
    | st.booleans().map(lambda cancel: {"do": "close", "cancel": cancel})
)
SETTINGS = {"barrier": {}, "fifo_queue": {"capacity": 3, "dtypes": ["int64"]}}


@given(st.lists(AT_BARRIERS, max_size=30))
def test_a_barrier_opens_when_so_many_different_workers_are_there(events: list[Json]) -> None:
    state = BARRIER.empty({})
    for event in events:
        before = copy.deepcopy(state)
        try:
            step = BARRIER.step(state, event)
        except ShardscopeError:
            assert state == before
            continue
        assert state == before
        assert step is not None
        after, _ = step
        if after["meeting"] > state["meeting"] and event["do"] == "arrive":
            met = {**(state["arrived"] if state["store"] == event["store"] else {}), event["by"]: None}
            assert set(after["last"]) == set(met)
            assert len(met) == event["count"]
        assert len(after["arrived"]) < max(1, after["count"])
        assert bool(after["arrived"]) is bool(after["count"])
        state = after


@given(st.lists(IN_QUEUES, max_size=30))
def test_a_queue_is_first_in_first_out(events: list[Json]) -> None:
    state, model, is_closed = FIFO_QUEUE.empty(SETTINGS["fifo_queue"]), deque[int](), False
    for event in events:
        before = copy.deepcopy(state)
        try:
            step = FIFO_QUEUE.step(state, event)
        except (CancelledError, OutOfRangeError):
            assert is_closed
            continue
        except ShardscopeError:
            assert event.get("number", 0) > 3
            continue
        finally:
            assert state == before
        if step is None:
            assert len(model) == 3 if event["do"] == "enqueue" else len(model) < event["number"]
            continue
        state, answer = step
        if event["do"] == "enqueue":
            model.extend([item for (item,) in event["items"][: answer["taken"]]])
        elif event["do"] == "dequeue":
            assert [item for (item,) in answer["items"]] == [model.popleft() for _ in answer["items"]]
        else:
            is_closed = True
        assert [item for (item,) in state["items"]] == list(model)
        assert len(model) <= 3
        assert bool(model) is bool(state["bytes"])


@given(st.sampled_from(sorted(SETTINGS)), st.data())
def test_a_log_repeats_what_has_happened(kind: str, data: st.DataObject) -> None:
    events = data.draw(st.lists(AT_BARRIERS if kind == "barrier" else IN_QUEUES, max_size=20))
    opening: Json = {"open": SETTINGS[kind], "by": "worker:0"}

    def states() -> list[bytes]:
        found, state = [], None
        for event in (opening, *events):
            try:
                outcome = carried_out(KINDS[kind], state, event)
            except ShardscopeError:
                continue
            state = state if outcome.state is None else outcome.state
            assert state is not None
            found.append(state)
        return found

    first = states()
    assert states() == first
    assert decode_json(first[-1], "it")["by"] == "worker:0"
