"""The queue before one ps task: its bounds, its order, its end."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ps_protocol.operation_kinds import tensor_bytes
from ps_protocol.operations import Read, Scatter, ScatterRule, Update, UpdateRule
from tests.conftest import Eventually
from worker_client.connection.pending_queue import OutgoingBatch, PendingQueue, Submission

WAIT_S = 10.0


def sized(size_bytes: int) -> Submission:
    return Submission((Update("v", UpdateRule.ASSIGN, np.zeros(size_bytes, np.uint8)),), 0)


def took(queue: PendingQueue) -> OutgoingBatch:
    parcel = queue.get(wait=True)
    assert parcel is not None
    return parcel


def test_the_size_is_that_of_all_tensors_that_are_sent() -> None:
    scatter = Scatter("v", ScatterRule.ADD, np.zeros(3, np.int64), np.zeros((3, 2), np.float32))
    assert tensor_bytes([scatter, Read("v"), *sized(5).operations]) == 24 + 24 + 5
    assert sized(7).size_bytes == 7


def test_first_in_first_out() -> None:
    queue = PendingQueue(10, 100)
    batches = [sized(1) for _ in range(5)]
    assert all(queue.put(each, timeout_s=0) for each in batches)
    taken = [took(queue) for _ in batches]
    assert [each.members for each in taken] == [[batch] for batch in batches]
    assert queue.get(wait=False) is None
    assert queue.num_unfinished == 5
    for each in taken:
        queue.finished(each)
    assert queue.num_unfinished == 0


@pytest.mark.parametrize(("sizes", "refused"), [([1, 1, 1], 1), ([60, 40], 1), ([60, 40], 100), ([100], 0)])
def test_what_has_no_outcome_yet_is_bounded_in_number_and_bytes(sizes: list[int], refused: int) -> None:
    queue = PendingQueue(3 if len(sizes) == 3 else 10, 100)
    taken = [sized(size) for size in sizes]
    assert all(queue.put(each, timeout_s=0) for each in taken)
    if len(sizes) == 1:
        assert queue.put(sized(0), timeout_s=0)
        refused = 1
    took(queue)  # on its way is not done
    assert not queue.put(sized(refused), timeout_s=0)
    for each in taken:
        queue.finished(OutgoingBatch([each]))
    assert queue.put(sized(refused), timeout_s=0)


def test_one_that_is_larger_than_the_bound_goes_alone() -> None:
    queue = PendingQueue(10, 100)
    small = sized(1)
    assert queue.put(small, timeout_s=0)
    assert not queue.put(sized(1000), timeout_s=0)
    queue.finished(took(queue))
    assert queue.put(sized(1000), timeout_s=0)
    assert not queue.put(sized(1), timeout_s=0)


def test_a_small_one_does_not_overtake_a_large_one_that_waits_for_room(eventually: Eventually) -> None:
    queue = PendingQueue(10, 100)
    first, large, small = sized(90), sized(50), sized(1)
    assert queue.put(first, timeout_s=0)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(queue.put, large, timeout_s=WAIT_S)
        eventually(lambda: queue.num_waiting == 1)
        behind = threads.submit(queue.put, small, timeout_s=WAIT_S)
        eventually(lambda: queue.num_waiting == 2)
        queue.finished(took(queue))
        assert waiting.result(WAIT_S)
        assert behind.result(WAIT_S)
    assert [took(queue).members for _ in range(2)] == [[large], [small]]


def test_one_that_gives_up_lets_those_behind_it_go_on() -> None:
    queue = PendingQueue(10, 100)
    assert queue.put(sized(90), timeout_s=0)
    assert not queue.put(sized(50), timeout_s=0)
    assert queue.put(sized(10), timeout_s=0)


def test_close_ends_all_waiting_and_keeps_what_is_queued(eventually: Eventually) -> None:
    queue = PendingQueue(1, 100)
    queued = sized(1)
    assert queue.put(queued, timeout_s=0)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(queue.put, sized(1), timeout_s=WAIT_S)
        eventually(lambda: queue.num_waiting == 1)
        assert queue.close()
        assert not waiting.result(WAIT_S)
    assert not queue.close()
    assert queue.is_closed
    assert not queue.put(sized(1), timeout_s=0)
    assert took(queue).members == [queued]
    assert queue.get(wait=True) is None


def test_close_wakes_the_one_that_takes() -> None:
    queue = PendingQueue(1, 100)
    taken: list[OutgoingBatch | None] = []
    taker = threading.Thread(target=lambda: taken.append(queue.get(wait=True)))
    taker.start()
    queue.close()
    taker.join(WAIT_S)
    assert taken == [None]


def test_what_is_abandoned_is_given_out_once() -> None:
    queue = PendingQueue(10, 100)
    on_its_way, queued = sized(1), sized(1)
    for each in (on_its_way, queued):
        queue.put(each, timeout_s=0)
    took(queue)
    assert queue.abandon() == [queued]
    assert queue.abandon() == []
    assert queue.num_unfinished == 1


def merged(queue: PendingQueue) -> OutgoingBatch:
    parcel = queue.get(wait=True, max_merged=3, max_merged_bytes=50)
    assert parcel is not None
    return parcel


def test_small_updates_that_are_queued_share_a_batch() -> None:
    queue = PendingQueue(20, 1000)
    batches = [sized(10) for _ in range(4)]
    for each in batches:
        queue.put(each, timeout_s=0)
    parcel = merged(queue)
    assert parcel.members == batches[:3]
    assert parcel.operations == tuple(each.operations[0] for each in batches[:3])
    assert (parcel.size_bytes, parcel.expected_reply_bytes) == (30, 0)
    queue.finished(parcel)
    assert queue.num_unfinished == 1
    assert merged(queue).members == batches[3:]


def test_what_is_large_or_no_update_or_has_a_reply_travels_alone_and_in_its_place() -> None:
    queue = PendingQueue(20, 1000)
    small = [sized(20) for _ in range(4)]
    read = Submission((Read("v"),), 0)
    unknown = Submission(sized(1).operations, None)
    large = sized(51)
    for each in (small[0], read, small[1], large, small[2], unknown, small[3]):
        queue.put(each, timeout_s=0)
    alone = [[small[0]], [read], [small[1]], [large], [small[2]], [unknown], [small[3]]]
    assert [merged(queue).members for _ in alone] == alone


def test_a_shared_batch_is_bounded_by_bytes() -> None:
    queue = PendingQueue(20, 1000)
    batches = [sized(20) for _ in range(3)]
    for each in batches:
        queue.put(each, timeout_s=0)
    assert merged(queue).members == batches[:2]
