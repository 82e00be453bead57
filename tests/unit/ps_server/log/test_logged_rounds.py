"""Rounds of training together on one ps: what is staged, what a decision does, and what a log repeats."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from ps_protocol.errors import (
    AbortedError,
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    ShapeMismatchError,
    ShardscopeError,
)
from ps_protocol.operations import (
    Apply,
    Array,
    Declare,
    PsOperation,
    Read,
    Replace,
    Result,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_protocol.optimizer_spec import OnNonfinite
from ps_protocol.shared_objects import OBJECT_DTYPE, Act, Look, encode_json
from ps_protocol.training.data_shards import SHARDS_KIND
from ps_protocol.training.round_messages import Answer, Join, event_record
from ps_protocol.training.round_operations import (
    STAMP_KIND,
    StagedStep,
    group_of_stamp,
    is_whole,
)
from ps_server.log.restore_mark import RestoreMark
from ps_server.rules.round_means import mean
from ps_server.store import round_calls
from ps_server.store.function_calls import FunctionCalls, PlannedCall
from tests.unit.ps_server.log.logged_tasks import TIMEOUT_S, Journal, Task
from tests.unit.ps_server.log.tasks_with_rounds import TRAINED, begun, state, written
from tests.unit.ps_server.rounds_on_ps import (
    FLOAT,
    STAMP,
    TABLE,
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


@pytest.fixture
def task(journal: Journal) -> Iterator[Task]:
    task = begun(journal)
    yield task
    task.log.close(TIMEOUT_S)


def refusal(task: Task, operation: PsOperation) -> ShardscopeError:
    (reply,) = task.run(operation)
    assert isinstance(reply, ShardscopeError), reply
    return reply


def alone(steps: Sequence[StagedStep]) -> dict[str, object]:
    """What one worker makes of the variables by these steps, each applied at once."""
    task = begun(Journal())
    for each in steps:
        task.result(Apply(each.name, each.function, each.slots, each.state, each.operands, each.numbers))
    after = {name: task.value(name) for name in TRAINED}
    task.log.close(TIMEOUT_S)
    return after


def mean_of(workers: Sequence[tuple[StagedStep, StagedStep]]) -> list[StagedStep]:
    """The gradient of one worker that has the batches of all."""
    table, vector = zip(*workers, strict=True)
    rows = np.concatenate([each.operands[0] for each in table])
    values = np.concatenate([each.operands[1] for each in table]) / FLOAT.type(len(workers))
    whole: Array = np.sum([each.operands[0] for each in vector], 0) / FLOAT.type(len(workers))
    return [step("table", rows, values), step("vector", whole)]


def assert_close(actual: Any, expected: Any, name: str = "") -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7, err_msg=name)


def test_a_round_is_the_step_of_one_worker_with_all_batches(task: Task) -> None:
    workers = [gradients(seed) for seed in range(3)]
    for seat, steps in enumerate(workers):
        task.result(stage(seat, 1, *steps))
        assert task.value(STAMP) == [0, 0]
        assert task.value("table") == TABLE.tolist()
    task.result(commit(1, 0, 1, 2))
    assert task.value(STAMP) == [1, 1]
    expected = alone(mean_of(workers))
    for name in TRAINED:
        assert_close(task.value(name), expected[name], name)


def test_the_bits_do_not_depend_on_the_order_of_arrival(task: Task) -> None:
    workers = [gradients(seed) for seed in range(3)]
    for seat, steps in enumerate(workers):
        task.result(stage(seat, 1, *steps))
    task.result(commit(1, 0, 1, 2))
    other = begun(Journal())
    for seat in (2, 0, 1):
        other.result(stage(seat, 1, *workers[seat]))
    other.result(commit(1, 0, 1, 2))
    assert state(other) == state(task)
    other.log.close(TIMEOUT_S)


def test_a_round_of_rows_and_of_whole_gradients(task: Task) -> None:
    whole = np.arange(12, dtype=FLOAT).reshape(4, 3) / 7
    rows, values = np.array([3, 1, 1], np.int32), np.ones((3, 3), FLOAT)
    vector = step("vector", VECTOR)
    task.result(stage(0, 1, step("table", rows, values), vector))
    task.result(stage(1, 1, step("table", whole), vector))
    task.result(commit(1, 0, 1))
    together = whole.copy()
    np.add.at(together, rows, values)
    expected = alone([step("table", together / 2), vector])
    for name in TRAINED:
        assert_close(task.value(name), expected[name], name)


def test_whoever_is_not_in_the_round_does_not_count(task: Task) -> None:
    for seat in range(3):
        task.result(stage(seat, 1, *gradients(seat)))
    task.result(commit(1, 1))
    assert {name: task.value(name) for name in TRAINED} == alone(gradients(1))


def test_a_round_is_carried_out_once(task: Task) -> None:
    task.result(stage(0, 1, *gradients(0)))
    first = task.result(commit(1, 0))
    before = state(task)
    again = task.result(commit(1, 0))
    assert (again.version, state(task)) == (first.version, before)


def test_a_ps_takes_no_gradient_before_it_has_carried_out_the_round_before(task: Task) -> None:
    task.result(stage(0, 1, *gradients(0)))
    error = refusal(task, stage(0, 2, *gradients(1)))
    assert isinstance(error, AbortedError)
    assert STAMP in error.message
    assert "must have carried out round 1" in error.message
    task.result(commit(1, 0))  # what was staged for it is there still
    assert {name: task.value(name) for name in TRAINED} == alone(gradients(0))
    task.result(stage(0, 2, *gradients(1)))


def test_rounds_are_carried_out_in_their_order() -> None:
    task = begun(Journal(), slots=2)
    for number in (1, 2):
        task.result(stage(0, number, *gradients(number), slots=2))
    assert isinstance(refusal(task, commit(2, 0, slots=2)), AbortedError)
    for number in (1, 2):
        task.result(commit(number, 0, slots=2))
    assert {name: task.value(name) for name in TRAINED} == alone([*gradients(1), *gradients(2)])
    task.log.close(TIMEOUT_S)


def test_what_a_dead_process_sent_takes_no_place(task: Task) -> None:
    task.result(stage(0, 1, *gradients(1), ticket=8))
    assert isinstance(refusal(task, stage(0, 1, *gradients(0), ticket=7)), FailedPreconditionError)
    task.result(commit(1, 0, tickets=[8]))
    assert {name: task.value(name) for name in TRAINED} == alone(gradients(1))


def test_a_gradient_that_is_not_here_is_no_zero(task: Task) -> None:
    task.result(stage(0, 1, *gradients(0)))
    before = state(task)
    assert isinstance(refusal(task, commit(1, 0, 1)), DataLossError)
    assert state(task) == before


@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        ([step("table", VECTOR)], ShapeMismatchError, "table"),
        ([step("table", np.array([4]), np.ones((1, 3), FLOAT))], InvalidArgumentError, "table"),
        ([step("vector", np.array([np.nan, 0], FLOAT))], InvalidArgumentError, "not finite"),
        ([step("vector", VECTOR), step("vector", VECTOR)], InvalidArgumentError, "two gradients of variable vector"),
        ([step("bias", VECTOR)], NotFoundError, "bias"),
    ],
)
def test_a_gradient_that_does_not_fit_is_not_taken(
    task: Task, steps: list[StagedStep], error: type[ShardscopeError], message: str
) -> None:
    task.result(stage(0, 1, *gradients(0)))
    before = task.value(staged_name(0))
    refused = refusal(task, stage(0, 1, *steps, ticket=9))
    assert isinstance(refused, error)
    assert message in refused.message
    assert task.value(staged_name(0)) == before


def test_a_variable_that_is_another_one_by_now_stops_the_whole_round(task: Task) -> None:
    task.result(stage(0, 1, *gradients(0)))
    task.result(Replace("vector", np.ones(5, FLOAT)))
    before = state(task)
    assert isinstance(refusal(task, commit(1, 0)), ShapeMismatchError)
    assert state(task) == before


def test_a_worker_that_trains_other_variables_stops_the_whole_round(task: Task) -> None:
    task.result(stage(0, 1, *gradients(0)))
    before = state(task)
    error = refusal(task, replace(commit(1, 0), variables=("table", "table/m", "table/v", "table/step")))
    assert isinstance(error, InvalidArgumentError)
    assert "a gradient of vector" in error.message
    assert state(task) == before


def test_an_average_that_is_not_finite_is_skipped() -> None:
    task = begun(Journal(), on_nonfinite=OnNonfinite.SKIP)
    task.result(stage(0, 1, step("vector", np.array([np.inf, 0], FLOAT)), gradients(0)[0]))
    task.result(stage(1, 1, *gradients(1)))
    task.result(commit(1, 0, 1))
    assert (task.value("vector"), task.value("vector/step"), task.value("table/step")) == (VECTOR.tolist(), 0, 1)
    task.log.close(TIMEOUT_S)


def test_settings_are_those_of_the_first_seat(task: Task) -> None:
    given = np.array([0.5, *[np.nan] * 6])
    steps = [replace(each, numbers=given) for each in gradients(0)]
    task.result(stage(0, 1, *steps))
    task.result(stage(1, 1, *gradients(0)))
    task.result(commit(1, 0, 1))
    expected = alone(steps)
    for name in TRAINED:
        assert_close(task.value(name), expected[name], name)


def test_what_is_lent_does_not_change(task: Task) -> None:
    large = np.zeros((200, 100), FLOAT)
    task.result(Replace("vector", large))
    for slot in ("m", "v"):
        task.result(Replace(f"vector/{slot}", large))
    for seat in (0, 1):
        task.result(stage(seat, 1, step("vector", large + seat + 1)))
    read = [task.result(Read(name)).tensor for name in ("vector", "vector/m", staged_name(0))]
    before = [np.array(each) for each in read]
    task.result(commit(1, 0, 1))
    for then, now in zip(before, read, strict=True):
        np.testing.assert_array_equal(now, then)
    assert_close(task.value("vector"), large - 0.125)


def test_what_is_lent_of_a_slot_does_not_change_with_the_next_gradient_in_it(task: Task) -> None:
    large = np.zeros((200, 100), FLOAT)
    task.result(Replace("vector", large))
    for slot in ("m", "v"):
        task.result(Replace(f"vector/{slot}", large))
    task.result(stage(0, 1, step("vector", large + 1)))
    read = task.result(Read(staged_name(0))).tensor
    assert read is not None
    before = np.array(read)
    task.result(commit(1, 0))
    task.result(stage(0, 2, step("vector", large + 2)))
    np.testing.assert_array_equal(read, before)
    after = task.result(Read(staged_name(0))).tensor
    assert after is not None
    assert not np.array_equal(after, before)


def test_gradients_of_16_bits_are_added_up_in_32() -> None:
    parts = [(np.array([2048.0], np.float16),), *[(np.array([1.0], np.float16),) for _ in range(4)]]
    assert mean(parts, 5)[0].tolist() == [np.float16(2052 / 5)]


# -- memory that runs out ---------------------------------------------------------------------------


class ScarceMemory:
    """Takes the place of functions of NumPy, which then have no memory when the rules of rounds call them.

    Args:
        first: How many times there is memory before.
        times: How often there is none then.
    """

    NAMES = ("empty", "zeros", "concatenate", "unique")

    def __init__(self, first: int, times: int):
        self._first, self._times, self.count, self.failed = first, times, 0, 0

    def __call__(self, function: Any) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            module = str(sys._getframe(1).f_globals["__name__"])
            if module.startswith(("ps_server.rules", "ps_server.store.function", "ps_server.memory")):
                self.count += 1
                if self._first < self.count <= self._first + self._times:
                    self.failed += 1
                    raise MemoryError
            return function(*args, **kwargs)

        return called


@pytest.mark.parametrize("times", [1, 2])
def test_memory_that_runs_out_anywhere_leaves_no_half_round(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, first, has_failed = set(), 0, True
    expected: dict[str, object] = {}
    while has_failed:
        task = begun(Journal())
        for seat in range(2):
            task.result(stage(seat, 1, *gradients(seat)))
        before = state(task)
        scarce = ScarceMemory(first, times if expected else 0)
        with monkeypatch.context() as patches:
            for name in scarce.NAMES:
                patches.setattr(np, name, scarce(getattr(np, name)))
            (reply,) = task.run(commit(1, 0, 1))
        has_failed = scarce.failed > 0 or not expected
        if isinstance(reply, ResourceExhaustedError):
            outcomes.add("refused")
            assert state(task) == before
            task.result(commit(1, 0, 1))
        else:
            outcomes.add("made")
            assert isinstance(reply, Result), reply
        expected = expected or state(task)
        assert state(task) == expected
        first += 1
        task.log.close(TIMEOUT_S)
    assert outcomes == {"refused", "made"}


@pytest.mark.parametrize(("place", "times", "is_made"), [(1, 5, True), (0, 1, True), (0, 2, False)])
def test_a_round_that_has_begun_is_finished_when_there_is_memory_again(
    task: Task, monkeypatch: pytest.MonkeyPatch, place: int, times: int, is_made: bool
) -> None:
    for seat in range(2):
        task.result(stage(seat, 1, *gradients(seat)))
    before, carry_out, missing = state(task), FunctionCalls.carry_out, [None] * times
    called: list[PlannedCall] = []

    def scarce(calls: FunctionCalls, planned: PlannedCall) -> None:
        if len(called) == place and missing:
            missing.pop()
            raise MemoryError
        called.append(planned)
        carry_out(calls, planned)

    monkeypatch.setattr(FunctionCalls, "carry_out", scarce)
    (reply,) = task.run(commit(1, 0, 1))
    assert not missing
    assert isinstance(reply, Result if is_made else ResourceExhaustedError), reply
    assert (state(task) == before) is not is_made
    task.result(commit(1, 0, 1))
    expected = alone(mean_of([gradients(0), gradients(1)]))
    for name in TRAINED:
        assert_close(task.value(name), expected[name], name)


def test_a_piece_of_a_shard_is_taken_back_also_if_others_have_taken_the_memory(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards, given = "shards/train", {"count": 2, "epochs": 1, "shuffle_seed": None}
    taking: dict[str, Any] = {"id": "i", "store": "s", "now": 0.0, "lease": 1.0, "process": "p", "busy": []}
    noting: dict[str, Any] = {"epoch": 0, "place": 0, "ticket": 1, "from": 0, "to": 1}
    task.result(Declare(VariableSpec(shards, OBJECT_DTYPE, (), object_kind=SHARDS_KIND)))
    task.result(stage(0, 1, *gradients(0)))
    for event in (
        {"open": given},
        {"do": "take", **taking},
        {"do": "update", **noting, "round": {"group": group_of_stamp(STAMP), "ticket": 1, "round": 1}},
    ):
        task.result(Act(shards, SHARDS_KIND, encode_json({"by": "worker:0", **event})))
    before, memory = (task.value(shards), state(task)), task.state.parts.store.variables.memory
    failed: list[None] = []

    def scarce(*_: Any) -> None:
        memory.limit_bytes = memory.used_bytes
        failed.append(None)
        raise MemoryError

    of_round = replace(commit(1, 0), variables=(*commit(1, 0).variables, shards))
    with monkeypatch.context() as patches:
        patches.setattr(FunctionCalls, "carry_out", scarce)
        assert isinstance(refusal(task, of_round), ResourceExhaustedError)
    assert len(failed) == 2
    assert (task.value(shards), state(task)) == before
    memory.limit_bytes = 0
    task.result(of_round)
    assert task.value(shards) != before[0]
    assert task.value(STAMP) == [1, 1]


def test_a_round_that_cannot_be_finished_is_not_taken_for_whole_and_a_journal_has_it_whole(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = begun(journal)
    for seat in range(2):
        task.result(stage(seat, 1, *gradients(seat)))
    before, carry_out, called = state(task), FunctionCalls.carry_out, list[PlannedCall]()

    def scarce(calls: FunctionCalls, planned: PlannedCall) -> None:
        called.append(planned)
        if len(called) > 1:
            raise MemoryError
        carry_out(calls, planned)

    with monkeypatch.context() as patches:
        patches.setattr(FunctionCalls, "carry_out", scarce)
        patches.setattr(round_calls, "_PAUSE_S", 0.0)
        error = refusal(task, commit(1, 0, 1))
    assert isinstance(error, DataLossError)
    assert "there was no memory to finish round 1, of which a part was made" in error.message
    assert len(called) == 1 + round_calls._ATTEMPTS  # it has tried
    expected = alone(mean_of([gradients(0), gradients(1)]))
    of_step = [[name for name in TRAINED if name.partition("/")[0] == variable] for variable in ("table", "vector")]
    made = 0 if task.value("table/step") else 1
    for name in of_step[made]:
        assert_close(task.value(name), expected[name], name)
    for name in of_step[1 - made]:
        assert task.value(name) == before[name]
    stamp = task.value(STAMP)
    assert stamp == [1, 0]  # a reader sees by it that this is no model
    assert not is_whole([tuple(stamp), tuple(stamp)])
    for operation in (commit(1, 0, 1), stage(0, 2, *gradients(0)), commit(2, 0)):
        assert isinstance(refusal(task, operation), DataLossError)
    task.log.close(TIMEOUT_S)
    again = Task(journal)
    again.hello()
    assert state(again) == before
    again.result(commit(1, 0, 1))
    for name in TRAINED:
        assert_close(again.value(name), expected[name], name)
    again.log.close(TIMEOUT_S)


def test_a_row_is_divided_by_all_or_by_those_that_have_it() -> None:
    one = (np.array([2, 5, 2]), np.array([[2.0], [4.0], [6.0]], np.float32))
    two = (np.array([5]), np.array([[8.0]], np.float32))
    three = (np.array([], np.int64), np.zeros((0, 1), np.float32))
    rows, values = mean([one, two, three], 3)
    assert (rows.tolist(), (values * 3).tolist()) == ([2, 5, 2, 5], [[2.0], [4.0], [6.0], [8.0]])
    rows, values = mean([one, two, three], 3, of_present=True)
    assert (rows.tolist(), values.tolist()) == ([2, 5, 2, 5], [[2.0], [2.0], [6.0], [4.0]])


# -- the log --------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_done", range(9))
def test_a_round_goes_on_after_a_crash_anywhere(num_done: int) -> None:
    schedule: list[PsOperation] = [
        stage(0, 1, *gradients(0), slots=2),
        stage(1, 1, *gradients(1), slots=2),
        stage(0, 2, *gradients(2), slots=2),
        commit(1, 0, 1, slots=2),
        commit(1, 0, 1, slots=2),
        stage(1, 2, *gradients(3), slots=2),
        commit(2, 0, 1, slots=2),
        Update("vector", UpdateRule.ASSIGN_ADD, VECTOR),
    ]
    whole = begun(Journal(), slots=2)
    for operation in schedule:
        whole.result(operation)
    journal = Journal()
    task = begun(journal, slots=2)
    for operation in schedule[:num_done]:
        task.result(operation)
    before = state(task)
    task.log.close(TIMEOUT_S)
    after = Task(written(journal), client=task.client)
    after.sequence = task.sequence
    assert state(after) == before
    for operation in schedule[num_done:]:
        after.result(operation)
    assert state(after) == state(whole)
    for each in (whole, after):
        each.log.close(TIMEOUT_S)


@pytest.mark.parametrize("question", [b"{}", b"[]", b'{"round":"1"}', b'{"round":1,"more":2}', b"\xff"], ids=repr)
def test_a_question_to_a_stamp_that_is_none_is_refused(task: Task, question: bytes) -> None:
    (reply,) = task.run(Look(STAMP, STAMP_KIND, np.frombuffer(question, np.uint8)))
    assert isinstance(reply, InvalidArgumentError)


@pytest.mark.parametrize("numbers", [(-1, 1, 1, 0, 1), (0, 1, 1, 0, 0), (0, 1, 1, 0, -1), (0, 1, -1, 0, 1)])
def test_numbers_of_a_gradient_that_cannot_be_are_refused(task: Task, numbers: tuple[int, ...]) -> None:
    given = replace(stage(0, 1, *gradients(0)), packs_numbers=True)
    tensors = given.tensors
    before = state(task)
    (reply,) = task.run(given.with_tensors([np.array(numbers, np.int64), *tensors[1:]]))
    assert isinstance(reply, InvalidArgumentError)
    assert "that cannot be" in reply.message
    assert state(task) == before


def test_an_image_has_what_is_staged(journal: Journal) -> None:
    task = begun(journal)
    task.result(stage(0, 1, *gradients(0)))
    image = task.state.parts.image(task.state.position)
    task.log.close(TIMEOUT_S)
    after = Task(Journal(), image, task.client)
    after.sequence = task.sequence
    after.result(commit(1, 0))
    assert {name: after.value(name) for name in TRAINED} == alone(gradients(0))
    after.log.close(TIMEOUT_S)


def test_a_restore_begins_anew(journal: Journal) -> None:
    task = begun(journal)
    task.run(Declare(VariableSpec("rounds", OBJECT_DTYPE, (), object_kind="rounds")))
    opening = Act("rounds", "rounds", encode_json({"open": {}, "by": "worker:0"}))
    joining = Act("rounds", "rounds", encode_json(event_record(Join("worker:0", "a", "bsp"))))
    task.run(opening, joining)
    task.result(stage(0, 1, *gradients(0)))
    task.result(commit(1, 0))
    task.result(stage(0, 2, *gradients(0)))
    trained = {name: task.value(name) for name in TRAINED}
    parts = task.state.parts
    used_bytes = parts.store.variables.memory.used_bytes
    staged = task.result(Read(staged_name(0))).tensor
    assert staged is not None
    parts.switch([], RestoreMark(UUID(int=9), "/saved", True), [], task.state.position)
    assert (task.value(STAMP), task.value(staged_name(0))) == ([0, 0], [0])
    assert parts.store.variables.memory.used_bytes < used_bytes - staged.nbytes + 64
    assert {name: task.value(name) for name in TRAINED} == trained
    assert isinstance(refusal(task, joining), FailedPreconditionError)
    task.result(opening)
    answer = task.result(joining).tensor
    assert answer is not None
    assert Answer.decode(answer.tobytes()).next_round == 1
    task.result(stage(0, 1, *gradients(0)))
    task.result(commit(1, 0))
    task.log.close(TIMEOUT_S)
