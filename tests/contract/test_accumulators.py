"""What every transport does with accumulators: gradients that are pending, stale, taken, and waited for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    ShardscopeError,
)
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Array, Declare, Describe, Result, VariableSpec, Verdict
from ps_protocol.shared_objects import OBJECT_DTYPE, Act, Json, Look, decode_json, encode_json, unpacked
from tests.conftest import Eventually
from tests.contract.conftest import MEMORY_LIMIT_BYTES, TIMEOUT_S, Conversation, Task

SETTINGS: Json = {"dtype": "float32", "shape": [2], "reduction": "MEAN"}
DENSE, SPARSE = "accumulator", "sparse_accumulator"
LONG_S = 20.0
SIZE = 3 * 1024**2
"""Elements of a gradient that takes more than one message."""


def act(event: Json, *tensors: Any, kind: str = DENSE) -> Act:
    return Act("a", kind, encode_json(event), tensors)


def push(*values: float, step: int = 0) -> Act:
    return act({"do": "push", "step": step}, np.array(values, np.float32))


def push_rows(rows: list[int], values: Any, shape: list[int] | None = None) -> Act:
    tensors = np.array(rows, np.int64), np.array(values, np.float32)
    return act({"do": "push", "step": 0, "shape": shape}, *tensors, kind=SPARSE)


def take(number: int, kind: str = DENSE) -> Act:
    return act({"do": "take", "number": number}, kind=kind)


def count(talk: Conversation) -> Json:
    return content(talk.run(Look("a", DENSE, encode_json({"ask": "count"}))))


def opened(talk: Conversation, kind: str = DENSE, **settings: Any) -> None:
    talk.run(Declare(VariableSpec("a", OBJECT_DTYPE, (), object_kind=kind)))
    talk.run(act({"open": {**SETTINGS, **settings}, "by": talk.task}, kind=kind))


def content(result: Result) -> Json:
    assert result.tensor is not None
    return decode_json(result.tensor, "an answer")


def arrays(result: Result) -> list[Array]:
    assert result.tensor is not None
    return unpacked(result.tensor, "an answer")[1]


def test_the_mean_of_all_that_is_pending_is_taken(talk: Conversation) -> None:
    opened(talk)
    assert content(talk.run(push(1.0, 2.0))) == {"stale": False, "step": 0, "count": 1}
    assert talk.run(take(2)).verdict is Verdict.NOT_YET
    talk.run(push(3.0, 4.0))
    talk.run(push(8.0, 0.0))
    (mean,) = arrays(talk.run(take(2)))
    assert mean.dtype == np.float32
    assert mean.tolist() == [4.0, 2.0]
    assert count(talk) == {"count": 0, "step": 1}


def test_a_stale_gradient_is_dropped_and_the_answer_says_so(talk: Conversation) -> None:
    opened(talk)
    talk.run(act({"do": "set_step", "step": 3}))
    version = talk.run(Describe("a")).version
    stale = talk.run(push(1.0, 2.0, 3.0, step=2))
    assert (content(stale), stale.version) == ({"stale": True, "step": 3, "count": 0}, version)
    assert content(talk.run(push(1.0, 2.0, step=7)))["stale"] is False


def test_a_worker_counts_once_until_its_gradient_is_taken(talk: Conversation) -> None:
    def named(*values: float, worker: str = "worker:1", step: int = 0) -> Act:
        return act({"do": "push", "step": step, "by": worker}, np.array(values, np.float32))

    opened(talk)
    talk.run(named(1.0, 2.0))
    version = talk.run(Describe("a")).version
    again = talk.run(named(100.0, 100.0))
    assert (content(again), again.version) == ({"duplicate": True, "step": 0, "count": 1}, version)
    talk.run(named(3.0, 4.0, worker="worker:0"))
    assert content(talk.run(Look("a", DENSE, encode_json({"ask": "whose"})))) == {"from": ["worker:1", "worker:0"]}
    assert arrays(talk.run(take(2)))[0].tolist() == [2.0, 3.0]
    assert content(talk.run(named(5.0, 6.0, step=1)))["count"] == 1


def test_who_comes_with_a_lower_ticket_takes_nothing(talk: Conversation) -> None:
    opened(talk)
    talk.run(push(1.0, 2.0, step=7))
    talk.run(act({"do": "set_step", "step": 7, "ticket": 3}))
    for event in ({"do": "take", "number": 1, "ticket": 2}, {"do": "set_step", "step": 0, "ticket": 2}):
        with pytest.raises(AbortedError, match=r"another task takes the gradients now \(ticket 3, and 2 has come\)"):
            talk.run(act(event))
    assert count(talk) == {"count": 1, "step": 7}
    assert arrays(talk.run(act({"do": "take", "number": 1, "ticket": 3})))[0].tolist() == [1.0, 2.0]


def test_a_sum_is_not_divided(talk: Conversation) -> None:
    opened(talk, reduction="SUM", shape=None)
    talk.run(push(1.0, 2.0, 3.0))
    talk.run(push(1.0, 1.0, 1.0))
    assert arrays(talk.run(take(1)))[0].tolist() == [2.0, 3.0, 4.0]


def test_rows_have_a_mean_each(talk: Conversation) -> None:
    opened(talk, SPARSE, shape=[None, 1])
    talk.run(push_rows([0, 2], [[1.0], [5.0]]))
    talk.run(push_rows([2, 7], [[7.0], [3.0]], shape=[9, 1]))
    rows, values, shape = arrays(talk.run(take(2, SPARSE)))
    assert (rows.tolist(), values.tolist(), shape.tolist()) == ([0, 2, 7], [[1.0], [6.0], [3.0]], [-1, 1])


def test_a_push_sent_twice_counts_once(talk: Conversation) -> None:
    opened(talk)
    batch = talk.batch(push(1.0, 2.0))
    first, second = talk.send(batch), talk.send(batch)
    assert str(first) == str(second)
    assert count(talk)["count"] == 1


def test_a_take_sent_twice_takes_once_and_is_answered_alike(talk: Conversation) -> None:
    opened(talk)
    talk.run(push(1.0, 2.0))
    batch = talk.batch(take(1))
    answers = [arrays(result)[0].tolist() for result in (*talk.send(batch).replies, *talk.send(batch).replies)]  # type: ignore[arg-type]
    assert answers == [[1.0, 2.0]] * 2
    assert count(talk)["step"] == 1


def test_who_waits_is_answered_by_the_push_that_completes(ps: Task, talk: Conversation, eventually: Eventually) -> None:
    opened(talk)
    talk.run(push(1.0, 2.0))
    other = ps.conversation("worker:1")
    question = Look("a", DENSE, encode_json({"ask": "enough", "number": 2}), LONG_S)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(talk.run, question)
        eventually(lambda: ps.core.num_waiting == 1)
        other.run(push(3.0, 4.0))
        assert content(waiting.result(TIMEOUT_S)) == {}


def test_a_large_gradient_goes_and_comes_whole(talk: Conversation) -> None:
    opened(talk, shape=[SIZE])
    grad = np.arange(SIZE, dtype=np.float32)
    talk.run(act({"do": "push", "step": 0}, grad))
    talk.expected_reply_bytes = grad.nbytes
    np.testing.assert_array_equal(arrays(talk.run(take(1)))[0], grad)


@pytest.mark.parametrize(
    ("operation", "error", "message"),
    [
        (push(1.0, 2.0, 3.0), InvalidArgumentError, r"accumulator a: Shape mismatch: expected \[2\], got \[3\]"),
        (act({"do": "push", "step": 0}, np.zeros(2)), InvalidArgumentError, "is float64, and those here are float32"),
        (act({"do": "push", "step": 0}), InvalidArgumentError, "one tensor, and 0 have come"),
        (act({"do": "push"}, np.zeros(2, np.float32)), InvalidArgumentError, "step is None"),
        (act({"do": "take", "number": 1}, np.zeros(2)), InvalidArgumentError, "comes with 1 tensors; it takes none"),
        (take(0), InvalidArgumentError, "num_required must be positive, but was 0"),
        (act({"do": "dance"}), InvalidArgumentError, "update the ps"),
        (
            act({"open": {**SETTINGS, "shape": [3]}, "by": "worker:7"}),
            InvalidArgumentError,
            r"worker:0 has made it with shape=\[2\], but worker:7 gives shape=\[3\]",
        ),
        (take(1, SPARSE), InvalidArgumentError, "is no sparse_accumulator, but"),
    ],
)
def test_a_refused_event_changes_nothing(
    talk: Conversation, operation: Act, error: type[ShardscopeError], message: str
) -> None:
    opened(talk)
    talk.run(push(1.0, 2.0))
    before = talk.run(Describe("a")).version
    with pytest.raises(error, match=message):
        talk.run(operation)
    assert talk.run(Describe("a")).version == before
    assert arrays(talk.run(take(1)))[0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("settings", [{"dtype": "int32"}, {"reduction": "MAX"}, {"shape": [-1]}, {"shape": 2}])
def test_wrong_settings_are_refused(talk: Conversation, settings: Json) -> None:
    with pytest.raises(InvalidArgumentError, match=r"int32|MAX|shape"):
        opened(talk, **settings)
    with pytest.raises(FailedPreconditionError, match="has not been opened"):
        talk.run(push(1.0, 2.0))


def test_a_gradient_beyond_the_memory_limit_is_refused(talk: Conversation) -> None:
    opened(talk, shape=None)
    talk.run(push(1.0, 2.0))
    talk.run(take(1))
    of_others = VariableSpec("w", np.dtype(np.float32), (MEMORY_LIMIT_BYTES // 4 - SIZE // 2,))
    talk.run(Declare(of_others, InitializerSpec(ConstantKind(0.0))))
    with pytest.raises(ResourceExhaustedError, match="memory limit"):
        talk.run(act({"do": "push", "step": 1}, np.zeros(SIZE, np.float32)))
    assert count(talk) == {"count": 0, "step": 1}


def test_other_objects_take_no_tensors(talk: Conversation) -> None:
    talk.run(Declare(VariableSpec("a", OBJECT_DTYPE, (), object_kind="barrier")))
    with pytest.raises(InvalidArgumentError, match="comes with 1 tensors; objects of this kind take none"):
        talk.run(act({"open": {}, "by": "worker:0"}, np.zeros(2), kind="barrier"))
