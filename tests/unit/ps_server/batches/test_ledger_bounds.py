"""What a ledger forgets when there is too much of it: answers, and clients that come and go."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest

from ps_protocol.errors import (
    FailedPreconditionError,
    ResourceExhaustedError,
)
from ps_protocol.operations import BatchReply
from ps_server.batches.update_ledger import LedgerLimits, UpdateLedger
from tests.unit.ps_server.batches.ledgers import (
    CLIENT,
    Holding,
    answer,
    apply,
    large_answer,
    ledger_with,
    must_not_be_applied,
    tensor_of,
)
from tests.unit.ps_server.waiting import PATIENCE_S

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
