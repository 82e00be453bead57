"""Queues as workers see them; what TensorFlow 2.21's ``tf.queue.FIFOQueue`` does with the same calls."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import (
    CancelledError,
    DataLossError,
    DeadlineExceededError,
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    OutOfRangeError,
    ShapeMismatchError,
)
from tests.conftest import Eventually
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster

TIMEOUT_S = 60.0
AT_ONCE_S = 0.02


@pytest.fixture(autouse=True)
def _connected(cluster: SmallCluster) -> Iterator[None]:
    with cluster.client(0).as_default():
        yield


def pairs(capacity: int = 3, name: str = "q") -> ss.FIFOQueue:
    return ss.FIFOQueue(capacity, [np.int32, np.float32], shapes=[[], [2]], name=name)


def numbers(capacity: int = 3) -> ss.FIFOQueue:
    return ss.FIFOQueue(capacity, np.int32, shapes=[[]], name="numbers")


def started(
    cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually, function: Callable[..., Any], *given: Any
) -> Future[Any]:
    """A call that waits at the ps by now."""
    before = cluster.tasks[0].num_waiting
    future = pool.submit(function, *given)
    eventually(lambda: cluster.tasks[0].num_waiting > before)
    return future


def test_items_come_out_as_they_went_in() -> None:
    queue = pairs()
    assert (queue.size(), queue.is_closed()) == (0, False)
    queue.enqueue((1, [1.0, 2.0]))
    queue.enqueue_many(([2, 3], [[3.0, 4.0], [5.0, 6.0]]))
    assert queue.size() == 3
    number, row = queue.dequeue()
    assert (number.dtype, number.shape, int(number)) == (np.int32, (), 1)
    assert (row.dtype, row.tolist()) == (np.float32, [1.0, 2.0])
    several, rows = queue.dequeue_many(2)
    assert several.tolist() == [2, 3]
    assert rows.tolist() == [[3.0, 4.0], [5.0, 6.0]]


def test_no_items_at_all() -> None:
    queue = pairs()
    queue.enqueue_many((np.zeros(0, np.int32), np.zeros((0, 2), np.float32)))
    for taken in (queue.dequeue_many(0), queue.dequeue_up_to(0)):
        assert [(each.shape, each.dtype) for each in taken] == [((0,), np.int32), ((0, 2), np.float32)]


@pytest.mark.parametrize("text", [b"abc", "\u00e4\u00f6", b"", b"zero\x00"])
def test_text(text: Any) -> None:
    queue = ss.FIFOQueue(3, "string", shapes=[[]])
    queue.enqueue(text)
    queue.enqueue_many(np.array([b"one", b"three"], object))
    assert queue.dequeue().item() == (text.encode() if isinstance(text, str) else text)
    assert queue.dequeue_many(1).tolist() == [b"one"]


@pytest.mark.parametrize("dtype", ["bfloat16", "int64", "bool", "complex64", "float16", "uint8"])
def test_dtypes(dtype: str) -> None:
    queue = ss.FIFOQueue(2, dtype, name=dtype)
    value = np.arange(6).reshape(2, 3).astype(queue.dtypes[0])
    queue.enqueue(value)
    out = queue.dequeue()
    assert out.dtype == value.dtype
    np.testing.assert_array_equal(out, value)
    assert out.flags.writeable


def test_names() -> None:
    queue = ss.FIFOQueue(2, [np.int32, np.int64], names=["a", "b"])
    queue.enqueue({"b": 2, "a": 1})
    assert {name: each.item() for name, each in queue.dequeue().items()} == {"a": 1, "b": 2}
    with pytest.raises(ValueError, match="give a dictionary with a, b"):
        queue.enqueue((1, 2))
    with pytest.raises(ValueError, match="has the names a, b, and the dictionary a, c"):
        queue.enqueue({"a": 1, "c": 2})
    with pytest.raises(ValueError, match="has no names"):
        numbers().enqueue({"a": 1})


def test_without_shapes_items_may_differ_and_come_one_by_one() -> None:
    queue = ss.FIFOQueue(4, np.float32)
    queue.enqueue(np.ones(3))
    queue.enqueue(2.0)
    assert [queue.dequeue().shape for _ in range(2)] == [(3,), ()]
    for ask in (queue.dequeue_many, queue.dequeue_up_to):
        with pytest.raises(InvalidArgumentError, match="require the components to have specified shapes"):
            ask(1)


def test_what_does_not_fit_is_refused() -> None:
    queue = pairs()
    for error, vals, message in (
        (InvalidArgumentError, 1, "1 components were given, and an item has 2"),
        (
            ShapeMismatchError,
            (1, [1.0, 2.0, 3.0]),
            r"component 1 of an item has the shape \[3\]; its shape",
        ),
        (DTypeMismatchError, (1.5, [1.0, 2.0]), "holds int32"),
    ):
        with pytest.raises(error, match=message):
            queue.enqueue(vals)
    with pytest.raises(ValueError, match="have 1, 2 items"):
        queue.enqueue_many(([2, 3], [[1.0, 2.0]]))
    with pytest.raises(ValueError, match="lacks the dimension"):
        queue.enqueue_many((2, [1.0, 2.0]))
    with pytest.raises(InvalidArgumentError, match="-1 items were asked for"):
        queue.dequeue_many(-1)
    with pytest.raises(InvalidArgumentError, match="fifo_queue queue/q: 4 items are wanted at a time, and"):
        queue.dequeue_many(4)
    with pytest.raises(InvalidArgumentError, match="an item takes 533,"):
        ss.FIFOQueue(1, np.float32).enqueue(np.zeros(100_000, np.float32))
    assert queue.size() == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dtypes": []}, ValueError, "dtypes is empty"),
        ({"dtypes": [np.int32], "shapes": [[None]]}, ValueError, "must be known"),
        ({"dtypes": [np.int32, np.int64], "shapes": [[]]}, ValueError, "1 shapes for 2 dtypes"),
        ({"dtypes": [np.int32, np.int64], "names": ["a"]}, ValueError, "1 names for 2 dtypes"),
        ({"dtypes": [np.int32], "capacity": 0}, InvalidArgumentError, "a capacity of 0"),
        ({"dtypes": ["wood"]}, TypeError, "not a dtype"),
    ],
    ids=str,
)
def test_queues_that_cannot_be(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ss.FIFOQueue(**{"capacity": 1, **arguments})


def test_all_workers_have_the_same_queue(cluster: SmallCluster) -> None:
    queue = pairs()
    queue.enqueue((1, [1.0, 2.0]))
    with cluster.client(1).as_default():
        assert int(pairs().dequeue()[0]) == 1
        with pytest.raises(InvalidArgumentError, match="worker:0 has made it with capacity=3, but worker:1"):
            pairs(4)
        assert pairs(name="other").size() == 0
    assert queue.size() == 0


def test_without_a_connection(cluster: SmallCluster) -> None:
    cluster.__exit__(None, None, None)
    with pytest.raises(FailedPreconditionError):
        pairs()


def test_a_full_queue_is_waited_for(cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually) -> None:
    queue = numbers(2)
    queue.enqueue_many(np.array([1, 2]))
    with pytest.raises(DeadlineExceededError, match=r"no room for an item after 0.0 s \(it has 2 items\), and 0 of 1"):
        queue.enqueue(3, AT_ONCE_S)
    waiting = started(cluster, pool, eventually, queue.enqueue_many, np.array([3, 4, 5]))
    assert queue.dequeue_many(2).tolist() == [1, 2]
    assert queue.dequeue_many(2).tolist() == [3, 4]
    waiting.result(TIMEOUT_S)
    assert int(queue.dequeue()) == 5


def test_an_empty_queue_is_waited_for(cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually) -> None:
    queue = numbers()
    with pytest.raises(DeadlineExceededError, match=r"had not 1 items after 0.0 s \(it has 0 items\)"):
        queue.dequeue(AT_ONCE_S)
    one = started(cluster, pool, eventually, queue.dequeue)
    queue.enqueue(7)
    assert int(one.result(TIMEOUT_S)) == 7
    several = started(cluster, pool, eventually, queue.dequeue_many, 2)
    queue.enqueue(8)
    queue.enqueue(9)
    assert several.result(TIMEOUT_S).tolist() == [8, 9]


def test_a_closed_queue(cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually) -> None:
    queue = numbers()
    queue.enqueue(5)
    blocked = started(cluster, pool, eventually, queue.dequeue_many, 2)
    rest = started(cluster, pool, eventually, queue.dequeue_many, 3)
    queue.close()
    for each in (blocked, rest):
        with pytest.raises(
            OutOfRangeError, match=r"closed and has insufficient elements \(requested \d, current size 1"
        ):
            each.result(TIMEOUT_S)
    assert queue.is_closed()
    with pytest.raises(CancelledError, match="fifo_queue queue/numbers: it is already closed"):
        queue.close()
    with pytest.raises(CancelledError, match="it is closed"):
        queue.enqueue(1)
    assert queue.dequeue_up_to(2).tolist() == [5]
    with pytest.raises(OutOfRangeError, match="requested 2, current size 0"):
        queue.dequeue_up_to(2)
    with pytest.raises(OutOfRangeError, match="requested 1, current size 0"):
        queue.dequeue()


@pytest.mark.parametrize("cancel", [False, True])
def test_what_waits_when_it_is_closed(
    cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually, cancel: bool
) -> None:
    queue = numbers(1)
    queue.enqueue(1)
    waiting = started(cluster, pool, eventually, queue.enqueue, 2)
    queue.close(cancel_pending_enqueues=cancel)
    assert not waiting.done() or cancel
    if cancel:
        with pytest.raises(CancelledError):
            waiting.result(TIMEOUT_S)
    assert int(queue.dequeue()) == 1
    if not cancel:
        waiting.result(TIMEOUT_S)
        assert int(queue.dequeue()) == 2
    assert queue.size() == 0


def test_many_items_go_in_several_events() -> None:
    queue = ss.FIFOQueue(-1, np.int32, shapes=[[]])
    queue.enqueue_many(np.arange(2000))
    assert queue.size() == 2000
    assert queue.dequeue_many(2000).tolist() == list(range(2000))


def test_each_item_is_dequeued_once(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    numbers()

    def produce(worker: int) -> None:
        with cluster.client(worker).as_default():
            queue = numbers()
            for each in range(50):
                queue.enqueue(100 * worker + each)

    def consume(worker: int) -> list[int]:
        taken = []
        with cluster.client(worker).as_default():
            queue = numbers()
            while True:
                try:
                    taken.append(int(queue.dequeue()))
                except OutOfRangeError:
                    return taken

    consumers = [pool.submit(consume, 3) for _ in range(3)]
    for producer in [pool.submit(produce, worker) for worker in (1, 2)]:
        producer.result(TIMEOUT_S)
    numbers().close()
    taken = [each.result(TIMEOUT_S) for each in consumers]
    for each in taken:
        for worker in (1, 2):
            of_worker = [number for number in each if number // 100 == worker]
            assert of_worker == sorted(of_worker)
    assert sorted(itertools.chain(*taken)) == [100 * worker + each for worker in (1, 2) for each in range(50)]


def test_a_checkpoint_has_what_is_in_a_queue(cluster: SmallCluster, tmp_path: Path) -> None:
    queue = numbers()
    queue.enqueue_many(np.array([1, 2]))
    ss.get_variable("v", [2])
    ss.save(tmp_path, name="c")
    queue.dequeue()
    ss.restore(tmp_path / "c")
    assert numbers().dequeue_many(2).tolist() == [1, 2]
    with SmallCluster(3) as other, other.client(1).as_default():
        ss.restore(tmp_path / "c")
        assert numbers().dequeue_many(2).tolist() == [1, 2]


def test_an_item_of_others_is_an_error(cluster: SmallCluster) -> None:
    queue = numbers()
    queue._object.act({"do": "enqueue", "items": [["wood"]], "pending": False})
    with pytest.raises(DataLossError, match="holds an item that no FIFOQueue has put there"):
        queue.dequeue()
