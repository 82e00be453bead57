"""Rounds on the ps that has their group: what one batch hands in, decides, carries out and reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ps_protocol.errors import (
    InvalidArgumentError,
    ShardscopeError,
)
from ps_protocol.operations import (
    Declare,
    PsOperation,
    Read,
    Result,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_protocol.operations import Verdict as StoreVerdict
from ps_protocol.shared_objects import OBJECT_DTYPE, Act, Look, encode_json
from ps_protocol.training.round_messages import Answer, Event, HandIn, Join, Verdict, event_record
from ps_protocol.training.round_operations import (
    STAMP_KIND,
    UNKNOWN,
    Commit,
    Stage,
    asking_for,
)
from tests.unit.ps_server.log.logged_tasks import TIMEOUT_S, Journal, Task
from tests.unit.ps_server.log.tasks_with_rounds import begun, state, written
from tests.unit.ps_server.rounds_on_ps import (
    FLOAT,
    STAMP,
    VECTOR,
    commit,
    gradients,
    stage,
    staged_name,
    step,
)


@pytest.fixture
def journal() -> Journal:
    return Journal()


def told(event: Event) -> Act:
    return Act("rounds", "rounds", encode_json(event_record(event)))


def with_a_group(journal: Journal) -> Task:
    """A ps whose only worker has joined."""
    task = begun(journal)
    task.run(Declare(VariableSpec("rounds", OBJECT_DTYPE, (), object_kind="rounds")))
    task.run(Act("rounds", "rounds", encode_json({"open": {}, "by": "worker:0"})), told(Join("worker:0", "a", "bsp")))
    return task


def test_what_is_staged_is_handed_in_with_it(journal: Journal) -> None:
    task = with_a_group(journal)
    staged, handed = task.run(stage(0, 1, *gradients(0)), told(HandIn("worker:0", "a", 1, 0)))
    assert isinstance(staged, Result)
    assert isinstance(handed, Result)
    assert handed.tensor is not None
    assert Answer.decode(handed.tensor.tobytes()).verdict is Verdict.APPLIED
    task.result(commit(1, 0))
    before = state(task), task.value("rounds")
    task.log.close(TIMEOUT_S)
    after = Task(written(journal), client=task.client)
    assert (state(after), after.value("rounds")) == before
    after.log.close(TIMEOUT_S)


@pytest.mark.parametrize(
    "refused",
    [
        stage(0, 2, *gradients(0)),  # round 1 has not been carried out here
        stage(0, 1, step("table", np.zeros(2, FLOAT)), step("vector", VECTOR)),
        replace(stage(0, 1, *gradients(0)), name="rounds/staged/nobody"),
    ],
    ids=["too early", "no gradient", "no slot"],
)
def test_what_was_not_staged_is_not_handed_in(journal: Journal, refused: Stage) -> None:
    task = with_a_group(journal)
    before = state(task), task.value("rounds")
    replies = task.run(refused, told(HandIn("worker:0", "a", 1, 0)))
    assert [type(each) for each in replies] == [type(replies[0])] * 2
    assert isinstance(replies[0], ShardscopeError)
    assert (state(task), task.value("rounds")) == before
    task.log.close(TIMEOUT_S)
    after = Task(written(journal), client=task.client)
    assert (state(after), after.value("rounds")) == before
    after.log.close(TIMEOUT_S)


def next_round(*seats: int) -> Commit:
    """Carries out what the group decides in the same batch, if it is of these seats."""
    staged = tuple([staged_name(seat) for seat in seats])
    return Commit(STAMP, UNKNOWN, staged, commit(1, 0).variables, decided_by="rounds")


def hand_in(number: int, worker: int = 0) -> tuple[PsOperation, ...]:
    event = told(HandIn(f"worker:{worker}", "a", number, number - 1))
    return stage(worker, number, *gradients(2 * number + worker), ticket=worker + 1), event


def asked(task: Task, number: int) -> list[Verdict | StoreVerdict]:
    replies = task.run(Look(STAMP, STAMP_KIND, asking_for(number)), Read(STAMP))
    return [each.verdict for each in replies if isinstance(each, Result)]


def test_a_round_is_carried_out_in_the_batch_that_decides_it(journal: Journal) -> None:
    task = with_a_group(journal)
    records = len(journal.records)
    for number in (1, 2):
        assert asked(task, number) == [StoreVerdict.NOT_YET] * 2
        replies = task.run(*hand_in(number), next_round(0), Look(STAMP, STAMP_KIND, asking_for(number)), Read(STAMP))
        assert all(isinstance(each, Result) for each in replies)
        assert isinstance(replies[-1], Result)
        assert replies[-1].tensor is not None
        assert replies[-1].tensor.tolist() == [number, number]
        assert asked(task, number) == [StoreVerdict.APPLIED] * 2
    assert len(journal.records) == records + 2
    task.result(commit(2, 0))  # whoever brings it finds it there
    before = state(task), task.value("rounds")
    task.log.close(TIMEOUT_S)
    after = Task(written(journal), client=task.client)
    assert (state(after), after.value("rounds")) == before
    after.log.close(TIMEOUT_S)


def test_what_is_read_behind_a_hand_in_is_in_no_record_and_read_anew_for_who_asks_again(journal: Journal) -> None:
    task = with_a_group(journal)
    batch = task.batch(*hand_in(1), next_round(0), Look(STAMP, STAMP_KIND, asking_for(1)), Read("vector"))
    first = task.send(batch)
    assert [type(each) for each in journal.records[-1].record.operations] == [Stage, Act, Commit]  # type: ignore[union-attr]
    task.result(Update("vector", UpdateRule.ASSIGN, VECTOR))
    again = task.send(batch)
    assert repr(again[:4]) == repr(first[:4])
    assert isinstance(again[4], Result)
    assert again[4].tensor is not None
    assert again[4].tensor.tolist() == VECTOR.tolist()
    task.log.close(TIMEOUT_S)


def test_a_round_with_a_gradient_of_an_unknown_seat_is_left_to_be_brought(journal: Journal) -> None:
    task = with_a_group(journal)
    task.run(told(Join("worker:1", "a", "bsp")))
    for worker in (0, 1):
        replies = task.run(*hand_in(1, worker), next_round(worker), Look(STAMP, STAMP_KIND, asking_for(1)))
        assert isinstance(replies[-1], Result)
        assert replies[-1].verdict is StoreVerdict.NOT_YET
    task.result(commit(1, 0, 1))
    assert asked(task, 1) == [StoreVerdict.APPLIED] * 2
    task.log.close(TIMEOUT_S)


def test_a_round_that_cannot_be_carried_out_in_the_batch_that_decides_it_is_decided_all_the_same(
    journal: Journal,
) -> None:
    task = with_a_group(journal)
    narrow = replace(next_round(0), variables=("table",))
    *_, handed, refused, asked_for = task.run(*hand_in(1), narrow, Look(STAMP, STAMP_KIND, asking_for(1)))
    assert isinstance(handed, Result)
    assert isinstance(refused, InvalidArgumentError)
    assert isinstance(asked_for, Result)
    assert asked_for.verdict is StoreVerdict.NOT_YET
    task.result(commit(1, 0))
    before = state(task)
    task.log.close(TIMEOUT_S)
    after = Task(written(journal), client=task.client)
    assert state(after) == before
    after.log.close(TIMEOUT_S)
