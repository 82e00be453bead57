from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    StateLostError,
)
from ps_protocol.operations import Array, BatchReply, Result
from ps_server.batches.update_ledger import LedgerLimits, UpdateLedger
from tests.unit.ps_server.waiting import PATIENCE_S, wait_until

CLIENT = UUID(int=1)


def answer(version: int) -> BatchReply:
    return BatchReply((Result(version, True),))


def large_answer(version: int, size_bytes: int) -> BatchReply:
    return BatchReply((Result(version, True, np.full(size_bytes, version % 100, np.uint8)),))


def tensor_of(reply: BatchReply) -> Array:
    result = reply.replies[0]
    assert isinstance(result, Result)
    assert result.tensor is not None
    return result.tensor


def must_not_be_applied() -> BatchReply:
    raise AssertionError("applied a second time")


def ledger_with(*clients: UUID, **limits: Any) -> UpdateLedger:
    ledger = UpdateLedger(LedgerLimits(**limits))
    for client in clients:
        ledger.hello(client, "worker:0", 0.0)
    return ledger


def apply(
    ledger: UpdateLedger,
    sequence: int,
    apply: Callable[[], BatchReply] | BatchReply,
    *,
    client: UUID = CLIENT,
    timeout_s: float = PATIENCE_S,
    now_s: float = 0.0,
) -> BatchReply:
    function = (lambda: apply) if isinstance(apply, BatchReply) else apply
    return ledger.apply_once(client, sequence, function, timeout_s=timeout_s, now_s=now_s)


class HeldBatch:
    """A batch that is being applied for as long as the test likes."""

    def __init__(self, reply: BatchReply):
        self.reply = reply
        self.started = threading.Event()
        self.allowed = threading.Event()

    def __call__(self) -> BatchReply:
        self.started.set()
        assert self.allowed.wait(PATIENCE_S)
        return self.reply


class Holding:
    """A ledger in which one batch is being applied, and threads that send others."""

    def __init__(self, ledger: UpdateLedger, pool: ThreadPoolExecutor, *, sequence: int = 1):
        self.ledger = ledger
        self.batch = HeldBatch(answer(100 + sequence))
        self.pool = pool
        self.future = self.send(sequence, self.batch)
        assert self.batch.started.wait(PATIENCE_S)

    def send(self, sequence: int, function: Callable[[], BatchReply] | BatchReply) -> Future[BatchReply]:
        return self.pool.submit(apply, self.ledger, sequence, function)

    def send_and_wait_until_queued(self, sequence: int, function: Callable[[], BatchReply]) -> Future[BatchReply]:
        record = self.ledger._clients[CLIENT]
        waiting = len(record.waiting)
        future = self.send(sequence, function)
        wait_until(lambda: len(record.waiting) > waiting or future.done())
        return future

    def release(self) -> None:
        self.batch.allowed.set()


# -- once ---------------------------------------------------------------------------------------


def test_a_batch_sent_twice_is_applied_once_and_answered_alike() -> None:
    ledger = ledger_with(CLIENT)
    first = apply(ledger, 1, answer(7))
    assert apply(ledger, 1, must_not_be_applied) == first == answer(7)
    assert ledger.num_duplicates == 1


def test_later_numbers_are_new() -> None:
    ledger = ledger_with(CLIENT)
    assert [apply(ledger, sequence, answer(sequence)) for sequence in (1, 2, 5)] == [answer(1), answer(2), answer(5)]
    assert apply(ledger, 2, must_not_be_applied) == answer(2)


def test_clients_have_numbers_of_their_own() -> None:
    other = UUID(int=2)
    ledger = ledger_with(CLIENT, other)
    apply(ledger, 1, answer(1))
    assert apply(ledger, 1, answer(2), client=other) == answer(2)


def test_a_number_that_was_overtaken_is_refused() -> None:
    ledger = ledger_with(CLIENT)
    apply(ledger, 1, answer(1))
    apply(ledger, 3, answer(3))
    with pytest.raises(
        FailedPreconditionError, match=r"batch 2 .* was overtaken by batch 3; it was not applied"
    ) as error:
        apply(ledger, 2, must_not_be_applied)
    assert not error.value.retryable


def test_an_answer_out_of_the_window_is_refused_never_applied() -> None:
    ledger = ledger_with(CLIENT, answers_per_client=2)
    for sequence in (1, 2, 3):
        apply(ledger, sequence, answer(sequence))
    assert apply(ledger, 2, must_not_be_applied) == answer(2)
    assert apply(ledger, 3, must_not_be_applied) == answer(3)
    with pytest.raises(FailedPreconditionError, match=r"batch 1 .*older than the last 2 answers.*not applied now"):
        apply(ledger, 1, must_not_be_applied)


@pytest.mark.parametrize("sequence", [0, -1])
def test_numbers_begin_at_1(sequence: int) -> None:
    with pytest.raises(InvalidArgumentError, match="number from 1"):
        apply(ledger_with(CLIENT), sequence, must_not_be_applied)


def test_an_error_is_remembered_like_an_answer() -> None:
    ledger = ledger_with(CLIENT)

    def fail() -> BatchReply:
        raise StateLostError("gone", variable="w", task="ps:0", retryable=True, retry_after_s=2.0)

    for function in (fail, must_not_be_applied):
        with pytest.raises(StateLostError) as error:
            apply(ledger, 1, function)
        assert (error.value.message, error.value.variable, error.value.task) == ("gone", "w", "ps:0")
        assert (error.value.retryable, error.value.retry_after_s) == (True, 2.0)
    assert apply(ledger, 2, answer(2)) == answer(2)


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_batch_that_was_interrupted_is_never_applied_again(failure: type[BaseException]) -> None:
    ledger = ledger_with(CLIENT)

    def fail() -> BatchReply:
        raise failure

    with pytest.raises(failure):
        apply(ledger, 1, fail)
    with pytest.raises(FailedPreconditionError, match="interrupted while it was applied"):
        apply(ledger, 1, must_not_be_applied)
    assert apply(ledger, 2, answer(2)) == answer(2)


# -- waiting ------------------------------------------------------------------------------------


def test_a_duplicate_waits_for_the_first_and_gets_its_answer() -> None:
    with ThreadPoolExecutor(3) as pool:
        holding = Holding(ledger_with(CLIENT), pool)
        duplicates = [holding.send_and_wait_until_queued(1, must_not_be_applied) for _ in range(2)]
        assert not any(duplicate.done() for duplicate in duplicates)
        holding.release()
        assert [each.result(PATIENCE_S) for each in (holding.future, *duplicates)] == [answer(101)] * 3
    assert holding.ledger.num_duplicates == 2


def test_a_duplicate_waits_no_longer_than_its_timeout() -> None:
    with ThreadPoolExecutor(1) as pool:
        holding = Holding(ledger_with(CLIENT), pool)
        with pytest.raises(DeadlineExceededError, match="batch 1 of the same client was still being applied"):
            apply(holding.ledger, 1, must_not_be_applied, timeout_s=0.001)
        holding.release()
        assert holding.future.result(PATIENCE_S) == answer(101)
    assert apply(holding.ledger, 1, must_not_be_applied) == answer(101)


def test_batches_of_one_client_are_applied_one_at_a_time_in_the_order_of_their_numbers() -> None:
    applied: list[int] = []

    def noting(sequence: int) -> Callable[[], BatchReply]:
        def note() -> BatchReply:
            applied.append(sequence)
            return answer(sequence)

        return note

    with ThreadPoolExecutor(5) as pool:
        holding = Holding(ledger_with(CLIENT), pool)
        waiting = [holding.send_and_wait_until_queued(sequence, noting(sequence)) for sequence in (5, 3, 4, 9)]
        assert applied == []
        holding.release()
        assert [each.result(PATIENCE_S) for each in waiting] == [answer(5), answer(3), answer(4), answer(9)]
    assert applied == [3, 4, 5, 9]


def test_a_waiting_batch_sent_twice_is_applied_once() -> None:
    with ThreadPoolExecutor(3) as pool:
        holding = Holding(ledger_with(CLIENT), pool)
        applied: list[int] = []

        def note() -> BatchReply:
            applied.append(2)
            return answer(2)

        waiting = [holding.send_and_wait_until_queued(2, note) for _ in range(2)]
        holding.release()
        assert [each.result(PATIENCE_S) for each in waiting] == [answer(2), answer(2)]
    assert applied == [2]


def test_duplicates_that_wait_do_not_hold_up_the_next_batch() -> None:
    with ThreadPoolExecutor(8) as pool:
        holding = Holding(ledger_with(CLIENT), pool)
        following = holding.send_and_wait_until_queued(2, lambda: answer(2))
        duplicates = [holding.send_and_wait_until_queued(1, must_not_be_applied) for _ in range(6)]
        holding.release()
        assert [duplicate.result(PATIENCE_S) for duplicate in duplicates] == [answer(101)] * 6
        assert following.result(PATIENCE_S) == answer(2)


def test_a_batch_that_gave_up_waiting_was_not_applied_and_can_come_again() -> None:
    with ThreadPoolExecutor(1) as pool:
        holding = Holding(ledger_with(CLIENT), pool)
        with pytest.raises(DeadlineExceededError):
            apply(holding.ledger, 2, must_not_be_applied, timeout_s=0.001)
        holding.release()
        holding.future.result(PATIENCE_S)
    assert apply(holding.ledger, 2, answer(2)) == answer(2)


def test_a_number_overtaken_while_another_is_applied_is_refused_at_once() -> None:
    with ThreadPoolExecutor(1) as pool:
        holding = Holding(ledger_with(CLIENT), pool, sequence=5)
        with pytest.raises(FailedPreconditionError, match=r"batch 4 .* was overtaken by batch 5"):
            apply(holding.ledger, 4, must_not_be_applied)
        holding.release()


def test_an_old_answer_is_given_while_another_batch_is_applied() -> None:
    ledger = ledger_with(CLIENT, waiting_per_client=0)
    apply(ledger, 1, answer(1))
    with ThreadPoolExecutor(1) as pool:
        holding = Holding(ledger, pool, sequence=2)
        assert apply(ledger, 1, must_not_be_applied) == answer(1)
        holding.release()


def test_few_batches_of_a_client_may_wait() -> None:
    with ThreadPoolExecutor(2) as pool:
        holding = Holding(ledger_with(CLIENT, waiting_per_client=1), pool)
        waiting = holding.send_and_wait_until_queued(2, lambda: answer(2))
        with pytest.raises(ResourceExhaustedError, match=r"1 batches of this client .* wait") as refused:
            apply(holding.ledger, 3, must_not_be_applied)
        assert refused.value.retryable
        assert refused.value.retry_after_s > 0
        holding.release()
        assert waiting.result(PATIENCE_S) == answer(2)
    assert apply(holding.ledger, 3, answer(3)) == answer(3)


def test_other_clients_do_not_wait() -> None:
    other = UUID(int=2)
    with ThreadPoolExecutor(1) as pool:
        holding = Holding(ledger_with(CLIENT, other), pool)
        assert apply(holding.ledger, 1, answer(2), client=other) == answer(2)
        holding.release()


# -- recalling ----------------------------------------------------------------------------------


def test_recalls_what_was_answered_and_nothing_else() -> None:
    ledger = ledger_with(CLIENT)
    apply(ledger, 1, answer(1))
    assert ledger.recall(CLIENT, 1, timeout_s=0) == answer(1)
    assert ledger.recall(CLIENT, 2, timeout_s=0) is None
    with pytest.raises(FailedPreconditionError, match="has not said hello"):
        ledger.recall(UUID(int=2), 1, timeout_s=0)


def test_recall_waits_for_a_batch_that_is_being_applied() -> None:
    with ThreadPoolExecutor(2) as pool:
        holding = Holding(ledger_with(CLIENT), pool)
        with pytest.raises(DeadlineExceededError):
            holding.ledger.recall(CLIENT, 1, timeout_s=0)
        recalled = pool.submit(holding.ledger.recall, CLIENT, 1, timeout_s=PATIENCE_S)
        record = holding.ledger._clients[CLIENT]
        wait_until(lambda: bool(record.recalling))
        holding.release()
        assert recalled.result(PATIENCE_S) == answer(101)


# -- ownership ----------------------------------------------------------------------------------


def test_the_receiver_of_an_answer_may_change_its_arrays() -> None:
    ledger = ledger_with(CLIENT)
    for function in (lambda: large_answer(5, 4), must_not_be_applied, must_not_be_applied):
        tensor = tensor_of(apply(ledger, 1, function))
        assert tensor.tolist() == [5, 5, 5, 5]
        tensor[:] = 0


def test_remembered_errors_keep_no_arrays_alive() -> None:
    class Tensor:
        pass

    ledger = ledger_with(CLIENT)
    tensors: list[weakref.ref[Tensor]] = []

    def look_up() -> None:
        tensor = Tensor()
        tensors.append(weakref.ref(tensor))
        raise NotFoundError("no such variable")

    def fail() -> BatchReply:
        try:
            look_up()
        except NotFoundError as error:
            return BatchReply((error,))
        raise AssertionError("found")

    apply(ledger, 1, fail)
    gc.collect()
    assert tensors[0]() is None
    reply = apply(ledger, 1, must_not_be_applied).replies[0]
    assert isinstance(reply, NotFoundError)
    assert reply.__traceback__ is None


# -- bounds on memory ---------------------------------------------------------------------------


def test_tensors_in_answers_are_bounded_and_the_newest_is_kept() -> None:
    ledger = ledger_with(CLIENT, tensor_bytes=100)
    for sequence in (1, 2, 3):
        apply(ledger, sequence, large_answer(sequence, 60))
        assert ledger.tensor_bytes == 60
    assert tensor_of(apply(ledger, 3, must_not_be_applied)).tolist() == [3] * 60
    with pytest.raises(FailedPreconditionError, match=r"batch 2 .* was applied, but the tensors of its answer"):
        apply(ledger, 2, must_not_be_applied)


def test_an_answer_that_alone_exceeds_the_bound_is_kept_until_the_next() -> None:
    ledger = ledger_with(CLIENT, tensor_bytes=100)
    apply(ledger, 1, large_answer(1, 1000))
    assert ledger.tensor_bytes == 1000
    assert tensor_of(apply(ledger, 1, must_not_be_applied)).size == 1000
    apply(ledger, 2, large_answer(2, 50))
    assert ledger.tensor_bytes == 50


def test_answers_of_the_client_idle_longest_are_given_up_first() -> None:
    clients = [UUID(int=number) for number in (1, 2, 3)]
    ledger = ledger_with(*clients, tensor_bytes=100)
    for now_s, client in ((1.0, clients[1]), (2.0, clients[0]), (3.0, clients[2])):
        apply(ledger, 1, large_answer(1, 50), client=client, now_s=now_s)
    with pytest.raises(FailedPreconditionError, match="tensors of its answer"):
        apply(ledger, 1, must_not_be_applied, client=clients[1])
    apply(ledger, 1, must_not_be_applied, client=clients[0])
    apply(ledger, 1, must_not_be_applied, client=clients[2])


def test_answers_without_tensors_outlast_the_bound() -> None:
    ledger = ledger_with(CLIENT, tensor_bytes=10)
    apply(ledger, 1, answer(1))
    apply(ledger, 2, large_answer(2, 8))
    apply(ledger, 3, large_answer(3, 8))
    assert apply(ledger, 1, must_not_be_applied) == answer(1)


def test_bytes_are_counted_off_with_the_window_and_the_client() -> None:
    ledger = ledger_with(CLIENT, answers_per_client=2)
    for sequence in range(1, 6):
        apply(ledger, sequence, large_answer(sequence, 10))
    assert ledger.tensor_bytes == 20
    ledger.goodbye(CLIENT)
    assert ledger.tensor_bytes == 0


def test_when_there_is_no_memory_to_remember_the_answer_the_batch_still_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger = ledger_with(CLIENT)

    def no_memory(_reply: object) -> BatchReply:
        raise MemoryError

    monkeypatch.setattr("ps_server.batches.remembered_answers.independent_copy", no_memory)
    assert apply(ledger, 1, answer(1)) == answer(1)
    with pytest.raises(FailedPreconditionError, match="was applied, but"):
        apply(ledger, 1, must_not_be_applied)


# -- clients that come and go -------------------------------------------------------------------


def test_a_client_that_has_not_said_hello_is_told_to() -> None:
    ledger = UpdateLedger()
    with pytest.raises(FailedPreconditionError, match="has not said hello here; connect again"):
        apply(ledger, 1, must_not_be_applied)
    with pytest.raises(FailedPreconditionError, match="has not said hello"):
        ledger.check_known(CLIENT, 0.0)


def test_hello_again_keeps_what_is_known() -> None:
    ledger = ledger_with(CLIENT)
    apply(ledger, 1, answer(1))
    ledger.hello(CLIENT, "worker:0", 1.0)
    assert apply(ledger, 1, must_not_be_applied) == answer(1)
    assert ledger.num_clients == 1


def test_after_goodbye_an_incarnation_is_refused_for_good() -> None:
    ledger = ledger_with(CLIENT)
    apply(ledger, 1, answer(1))
    ledger.goodbye(CLIENT)
    ledger.goodbye(CLIENT)
    assert ledger.num_clients == 0
    refused: list[Callable[[], object]] = [
        lambda: apply(ledger, 1, must_not_be_applied),
        lambda: ledger.hello(CLIENT, "worker:0", 0.0),
        lambda: ledger.check_known(CLIENT, 0.0),
    ]
    for each in refused:
        with pytest.raises(FailedPreconditionError, match=r"has said goodbye.*as a new client"):
            each()


def test_goodbye_refuses_batches_that_wait_and_lets_the_running_one_finish() -> None:
    with ThreadPoolExecutor(2) as pool:
        holding = Holding(ledger_with(CLIENT), pool)
        waiting = holding.send_and_wait_until_queued(2, must_not_be_applied)
        holding.ledger.goodbye(CLIENT)
        with pytest.raises(FailedPreconditionError, match="has said goodbye"):
            waiting.result(PATIENCE_S)
        holding.release()
        assert holding.future.result(PATIENCE_S) == answer(101)


def test_an_answer_that_comes_after_goodbye_is_not_counted() -> None:
    with ThreadPoolExecutor(1) as pool:
        holding = Holding(ledger_with(CLIENT), pool)
        holding.batch.reply = large_answer(1, 50)
        holding.ledger.goodbye(CLIENT)
        holding.release()
        assert tensor_of(holding.future.result(PATIENCE_S)).size == 50
    assert holding.ledger.tensor_bytes == 0


def test_a_full_ledger_forgets_the_client_idle_longest() -> None:
    first, second, third = (UUID(int=number) for number in (1, 2, 3))
    ledger = ledger_with(first, second, clients=2, idle_after_s=100.0)
    apply(ledger, 1, answer(1), client=second, now_s=0.0)
    apply(ledger, 1, answer(1), client=first, now_s=50.0)
    ledger.hello(third, "worker:2", 120.0)
    assert ledger.num_clients == 2
    assert apply(ledger, 1, must_not_be_applied, client=first, now_s=120.0) == answer(1)
    with pytest.raises(FailedPreconditionError, match="was idle for 120 s"):
        apply(ledger, 1, must_not_be_applied, client=second)
    with pytest.raises(FailedPreconditionError, match="was idle for 120 s"):
        ledger.hello(second, "worker:1", 120.0)


def test_clients_that_have_sent_nothing_make_room_first_and_at_once() -> None:
    forgotten: list[UUID] = []
    ledger = UpdateLedger(LedgerLimits(clients=3), note_gone=lambda client, _reason: forgotten.append(client))
    ledger.hello(CLIENT, "worker:0", 0.0)
    apply(ledger, 1, answer(1), now_s=0.0)
    flood = [UUID(int=number) for number in range(10, 60)]
    for number, client in enumerate(flood):
        ledger.hello(client, "worker:1", 2.5 * number)  # each is left the 5 seconds for a first batch
    with pytest.raises(ResourceExhaustedError) as refused:
        ledger.hello(UUID(int=60), "worker:1", 2.5 * 49)
    assert refused.value.retryable
    assert ledger.num_clients == 3
    assert forgotten == flood[:-2]
    assert apply(ledger, 1, must_not_be_applied, now_s=0.0) == answer(1)


@pytest.mark.parametrize("says_hello", [False, True])
def test_a_client_that_was_forgotten_before_its_first_batch_is_known_again_with_it(says_hello: bool) -> None:
    first, second, back = UUID(int=2), UUID(int=3), list[tuple[UUID, str]]()
    ledger = UpdateLedger(LedgerLimits(clients=1), note_back=lambda client, task: back.append((client, task)))
    ledger.hello(first, "worker:0", 0.0)
    ledger.hello(second, "worker:1", 5.0)
    if says_hello:
        ledger.hello(first, "worker:0", 10.0)
    assert apply(ledger, 1, answer(1), client=first, now_s=10.0) == answer(1)
    assert apply(ledger, 1, must_not_be_applied, client=first, now_s=10.0) == answer(1)
    assert back == ([] if says_hello else [(first, "worker:0")])
    assert ledger.num_clients == 1


def test_one_that_was_forgotten_waits_for_room_as_a_new_one_does() -> None:
    first, second = UUID(int=2), UUID(int=3)
    ledger = ledger_with(first, clients=1)
    ledger.hello(second, "worker:1", 5.0)
    apply(ledger, 1, answer(1), client=second, now_s=5.0)
    with pytest.raises(ResourceExhaustedError):
        apply(ledger, 1, must_not_be_applied, client=first, now_s=6.0)
    assert apply(ledger, 1, answer(1), client=first, now_s=2000.0) == answer(1)


def test_a_flood_of_hellos_does_not_push_those_that_have_left_out_of_memory() -> None:
    ledger = ledger_with(CLIENT, clients=2, departed=10)
    apply(ledger, 1, answer(1))
    ledger.goodbye(CLIENT)
    for number in range(100, 150):
        ledger.hello(UUID(int=number), "worker:1", 5.0 * number)
    with pytest.raises(FailedPreconditionError, match="has said goodbye"):
        ledger.hello(CLIENT, "worker:0", 0.0)


def test_clients_that_have_only_read_make_room_before_those_that_have_changed_something() -> None:
    writer, reader = UUID(int=1), UUID(int=2)
    ledger = ledger_with(writer, reader, clients=2, idle_after_s=900.0, reader_idle_after_s=60.0)
    apply(ledger, 1, answer(1), client=writer, now_s=0.0)
    ledger.check_known(reader, 5.0)
    with pytest.raises(ResourceExhaustedError):
        ledger.hello(UUID(int=3), "worker:2", 64.0)
    ledger.hello(UUID(int=3), "worker:2", 65.0)
    assert apply(ledger, 1, must_not_be_applied, client=writer, now_s=65.0) == answer(1)
    with pytest.raises(FailedPreconditionError, match="was idle for 60 s"):
        ledger.check_known(reader, 65.0)


def test_reading_keeps_a_client_from_being_idle() -> None:
    first, second = UUID(int=1), UUID(int=2)
    ledger = ledger_with(first, second, clients=2, idle_after_s=100.0)
    ledger.check_known(second, 0.0)
    ledger.check_known(first, 90.0)
    ledger.hello(UUID(int=3), "worker:2", 120.0)
    ledger.check_known(first, 120.0)


def test_active_clients_are_not_forgotten_for_a_new_one() -> None:
    ledger = ledger_with(CLIENT, clients=1, idle_after_s=100.0)
    apply(ledger, 1, answer(1), now_s=0.0)
    with pytest.raises(ResourceExhaustedError, match="1 clients are connected") as refused:
        ledger.hello(UUID(int=2), "worker:1", 99.0)
    assert refused.value.retryable


def test_a_client_whose_batch_is_being_applied_is_not_idle() -> None:
    with ThreadPoolExecutor(1) as pool:
        holding = Holding(ledger_with(CLIENT, clients=1, idle_after_s=100.0), pool)
        with pytest.raises(ResourceExhaustedError):
            holding.ledger.hello(UUID(int=2), "worker:1", 1e6)
        holding.release()


def test_the_memory_of_those_gone_is_bounded() -> None:
    ledger = UpdateLedger(LedgerLimits(departed=10))
    for _ in range(50):
        client = uuid4()
        ledger.hello(client, "worker:0", 0.0)
        ledger.goodbye(client)
    assert len(ledger._departed) == 10


# -- many at once -------------------------------------------------------------------------------


def test_retries_from_many_threads_count_once_each() -> None:
    ledger, barrier, applied = ledger_with(CLIENT, answers_per_client=1000), threading.Barrier(6), []

    def send_all() -> list[BatchReply]:
        barrier.wait(PATIENCE_S)
        replies = []
        for sequence in range(1, 201):

            def note(sequence: int = sequence) -> BatchReply:
                applied.append(sequence)
                return answer(sequence)

            replies.append(apply(ledger, sequence, note))
        return replies

    with ThreadPoolExecutor(6) as pool:
        outcomes = [future.result(PATIENCE_S) for future in [pool.submit(send_all) for _ in range(6)]]
    assert applied == list(range(1, 201))
    assert outcomes == [[answer(sequence) for sequence in range(1, 201)]] * 6


# -- another batch under the same number --------------------------------------------------------


def sums(ledger: UpdateLedger, sequence: int, checksum: int, reply: BatchReply | None = None) -> BatchReply:
    function = must_not_be_applied if reply is None else lambda: reply
    return ledger.apply_once(CLIENT, sequence, function, timeout_s=PATIENCE_S, now_s=0.0, checksum=checksum)


def test_another_batch_under_a_number_is_refused_and_the_first_is_still_answered() -> None:
    ledger = ledger_with(CLIENT)
    assert sums(ledger, 1, 77, answer(5)) == answer(5)
    with pytest.raises(InvalidArgumentError, match=r"the sequence 1 of this client \(worker:0\) was used before"):
        sums(ledger, 1, 78)
    with pytest.raises(InvalidArgumentError, match="for another batch"):
        ledger.recall(CLIENT, 1, timeout_s=PATIENCE_S, checksum=78)
    assert sums(ledger, 1, 77) == answer(5)
    assert ledger.recall(CLIENT, 1, timeout_s=PATIENCE_S, checksum=77) == answer(5)
    assert sums(ledger, 2, 78, answer(6)) == answer(6)


@pytest.mark.parametrize(("first", "second"), [(0, 7), (7, 0), (0, 0)])
def test_a_batch_without_a_checksum_is_taken_for_the_same(first: int, second: int) -> None:
    ledger = ledger_with(CLIENT)
    sums(ledger, 1, first, answer(5))
    assert sums(ledger, 1, second) == answer(5)


def test_another_batch_is_refused_when_the_one_before_it_is_done() -> None:
    with ThreadPoolExecutor(2) as pool:
        ledger = ledger_with(CLIENT)
        held = HeldBatch(answer(5))
        first = pool.submit(ledger.apply_once, CLIENT, 1, held, timeout_s=PATIENCE_S, now_s=0.0, checksum=77)
        assert held.started.wait(PATIENCE_S)
        second = pool.submit(sums, ledger, 1, 78)
        held.allowed.set()
        assert first.result(PATIENCE_S) == answer(5)
        with pytest.raises(InvalidArgumentError, match="for another batch"):
            second.result(PATIENCE_S)


def test_checksums_go_with_the_answers_and_come_back_with_an_image() -> None:
    ledger = ledger_with(CLIENT, answers_per_client=2)
    for sequence in (1, 2, 3):
        sums(ledger, sequence, 70 + sequence, answer(sequence))
    (image,) = ledger.images()
    assert image.checksums == {2: 72, 3: 73}
    again = UpdateLedger()
    again.restore_client(image, 0.0)
    again.restore_answer(CLIENT, 4, answer(4), 74)
    for sequence in (2, 3, 4):
        assert sums(again, sequence, 70 + sequence) == answer(sequence)
        with pytest.raises(InvalidArgumentError, match="for another batch"):
            sums(again, sequence, 99)
