"""What rounding takes from one push and the next one brings."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ps_protocol.codec import wire_dtypes
from ps_protocol.codec.wire_dtypes import PIECE_SIZE
from ps_protocol.operations import Array, Update, UpdateRule, WireDType
from worker_client.variables.error_feedback import ErrorFeedback, PreparedUpdate

FLOAT = np.dtype(np.float32)
# In a block with a 127, int8 holds whole numbers.
HALVES = np.array([127, 0.25, -0.25], np.float32)


@pytest.fixture
def feedback() -> ErrorFeedback:
    return ErrorFeedback()


def add(
    feedback: ErrorFeedback,
    delta: Array,
    *,
    rule: UpdateRule = UpdateRule.ASSIGN_ADD,
    wire: WireDType = WireDType.INT8,
) -> PreparedUpdate:
    return feedback.push(Update("w", rule, delta, wire))


def sent(push: PreparedUpdate) -> list[float]:
    values: list[float] = push.operation.value.tolist()
    return values


def test_what_is_rounded_off_comes_with_a_later_push(feedback: ErrorFeedback) -> None:
    assert [sent(add(feedback, HALVES)) for _ in range(4)] == [
        [127, 0, 0],
        [127, 0, 0],
        [127, 1, -1],
        [127, 0, 0],
    ]
    assert feedback.owed((3,), FLOAT).tolist() == [0, 0, 0]


def test_what_is_subtracted_counts_the_other_way(feedback: ErrorFeedback) -> None:
    add(feedback, HALVES)
    assert feedback.owed((3,), FLOAT).tolist() == [0, 0.25, -0.25]
    assert sent(add(feedback, HALVES, rule=UpdateRule.ASSIGN_SUB)) == [127, 0, 0]
    assert feedback.owed((3,), FLOAT).tolist() == [0, 0, 0]


def test_only_the_value_differs_and_the_delta_stays(feedback: ErrorFeedback) -> None:
    delta = HALVES.copy()
    push = add(feedback, delta)
    operation = push.operation
    assert (operation.name, operation.rule, operation.wire) == ("w", UpdateRule.ASSIGN_ADD, WireDType.INT8)
    assert not np.may_share_memory(operation.value, delta)
    assert delta.tolist() == HALVES.tolist()


def test_a_push_that_fails_leaves_no_trace(feedback: ErrorFeedback) -> None:
    add(feedback, HALVES)
    before = feedback.owed((3,), FLOAT)
    add(feedback, np.array([100, 3.3, 4.4], np.float32)).roll_back()
    np.testing.assert_allclose(feedback.owed((3,), FLOAT), before, atol=1e-6)


def test_what_was_lost_with_a_push_that_could_not_be_made_is_not_taken_back_later(
    feedback: ErrorFeedback, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = add(feedback, HALVES)

    def fail(*_arguments: object) -> None:
        raise MemoryError

    with monkeypatch.context() as without_memory:
        without_memory.setattr(wire_dtypes, "encode", fail)
        with pytest.raises(MemoryError):
            add(feedback, HALVES)
    assert feedback.owed((3,), FLOAT).tolist() == [0, 0, 0]
    add(feedback, HALVES)
    earlier.roll_back()
    assert feedback.owed((3,), FLOAT).tolist() == [0, 0.25, -0.25]


@pytest.mark.parametrize("rule", [UpdateRule.ASSIGN_ADD, UpdateRule.ASSIGN_SUB])
def test_a_failure_takes_nothing_from_later_pushes(feedback: ErrorFeedback, rule: UpdateRule) -> None:
    failing = add(feedback, HALVES, rule=rule)
    add(feedback, HALVES, rule=rule)
    failing.roll_back()
    sign = -1 if rule is UpdateRule.ASSIGN_SUB else 1
    assert feedback.owed((3,), FLOAT).tolist() == [0, sign * 0.25, sign * -0.25]


def test_forgets(feedback: ErrorFeedback) -> None:
    on_its_way = add(feedback, HALVES)
    feedback.forget()
    on_its_way.roll_back()
    assert feedback.owed((3,), FLOAT).tolist() == [0, 0, 0]
    add(feedback, HALVES)
    on_its_way.roll_back()  # of before: nothing to do with what is owed now
    assert feedback.owed((3,), FLOAT).tolist() == [0, 0.25, -0.25]


@pytest.mark.parametrize("wire", [WireDType.BFLOAT16, WireDType.FLOAT16, WireDType.INT8])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_no_number_is_sent_and_not_kept(feedback: ErrorFeedback, wire: WireDType, bad: float) -> None:
    delta = np.array([bad, 1, 2], np.float32)
    pushes = [add(feedback, delta, wire=wire) for _ in range(2)]
    if not np.isfinite(bad):
        assert not np.isfinite(pushes[0].operation.value[0])
    pushes[0].roll_back()
    assert np.isfinite(feedback.owed((3,), FLOAT)).all()


@pytest.mark.parametrize("shape", [(1,), (0,), (3, 0), (2, 300), (PIECE_SIZE + 300,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_shape(feedback: ErrorFeedback, shape: tuple[int, ...], dtype: type, order: str) -> None:
    values: Array = np.random.default_rng(3).standard_normal(shape).astype(dtype)
    delta = np.asfortranarray(values) if order == "F" else values
    push = add(feedback, delta)
    expected = np.empty_like(values)
    wire_dtypes.decode_into(WireDType.INT8, wire_dtypes.encode(WireDType.INT8, values), expected)
    np.testing.assert_array_equal(push.operation.value, expected)
    np.testing.assert_array_equal(feedback.owed(shape, np.dtype(dtype)), values - expected)
    push.roll_back()
    np.testing.assert_allclose(feedback.owed(shape, np.dtype(dtype)), 0, atol=1e-6)


def test_a_push_that_cannot_be_made_spoils_no_later_one(
    feedback: ErrorFeedback, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    add(feedback, HALVES)
    with monkeypatch.context() as patch:
        patch.setattr(wire_dtypes, "decode_into", no_memory)
        with pytest.raises(MemoryError):
            add(feedback, HALVES)
    assert feedback.owed((3,), FLOAT).tolist() == [0, 0, 0]


def test_from_many_threads_each_delta_counts_once(feedback: ErrorFeedback) -> None:
    num_threads, num_pushes, size = 4, 25, 600
    barrier = threading.Barrier(num_threads, timeout=30)
    deltas = np.random.default_rng(4).standard_normal((num_threads, num_pushes, size)).astype(np.float32)

    def pushed(thread: int) -> Array:
        barrier.wait()
        total = np.zeros(size)
        for number, delta in enumerate(deltas[thread]):
            push = add(feedback, delta)
            if number % 5 == 4:
                push.roll_back()
            else:
                total += push.operation.value
        return total

    with ThreadPoolExecutor(num_threads) as threads:
        applied = sum(threads.map(pushed, range(num_threads)), np.zeros(size))
    counted = deltas[:, [number % 5 != 4 for number in range(num_pushes)]].sum(axis=(0, 1), dtype=np.float64)
    np.testing.assert_allclose(applied + feedback.owed((size,), FLOAT), counted, atol=1e-3)
    assert np.abs(feedback.owed((size,), FLOAT)).max() < 0.5
