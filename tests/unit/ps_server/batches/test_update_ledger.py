"""Each batch counts once, its answer is given again, and others wait for it."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from ps_protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    StateLostError,
)
from ps_protocol.operations import BatchReply
from ps_server.batches.update_ledger import UpdateLedger
from tests.unit.ps_server.batches.ledgers import (
    CLIENT,
    HeldBatch,
    Holding,
    answer,
    apply,
    large_answer,
    ledger_with,
    must_not_be_applied,
    tensor_of,
)
from tests.unit.ps_server.waiting import PATIENCE_S, wait_until

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
