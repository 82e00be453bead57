"""Steps of optimizers on a task whose state survives: recorded whole, made again with the same bits, seen when safe."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

import numpy as np
import pytest

from ps_protocol.errors import DeadlineExceededError, InvalidArgumentError, NotFoundError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec, ValueKind
from ps_protocol.operations import (
    Apply,
    Array,
    Batch,
    Declare,
    Describe,
    PsOperation,
    Read,
    Result,
    Update,
    UpdateRule,
    VariableSpec,
    Verdict,
    WireDType,
)
from ps_protocol.optimizer_rules import RULES
from ps_protocol.optimizer_schedules import ScheduleSpec, schedule_spec
from ps_protocol.optimizer_spec import OnNonfinite, OptimizerSpec, SparseMode
from ps_server.log.record_codec import decode_record, encode_record
from ps_server.log.records import AppliedBatch
from ps_server.store.stored_variable import StoredVariable
from tests.optimizer_cases import BFLOAT16, CASES, Case
from tests.unit.ps_server.log.logged_tasks import AT_ONCE_S, TIMEOUT_S, Journal, MakeTask, Task

FLOAT: Final = np.dtype(np.float32)
COUNT: Final = np.dtype(np.int64)
SHAPE: Final = (6, 3)
MOMENTUM: Final = OptimizerSpec("momentum", (0.5, 0.5, 0.0), SparseMode.LAZY)
SKIPPING: Final = replace(MOMENTUM, on_nonfinite=OnNonfinite.SKIP)
NAN: Final = np.full(SHAPE, np.nan, FLOAT)
ONES: Final = np.ones(SHAPE, FLOAT)
SCHEDULES: Final = (
    None,
    schedule_spec(
        "linear_warmup",
        {"learning_rate": 0.1, "warmup_steps": 2.0},
        schedule_spec("exponential", {"learning_rate": 0.1, "decay_steps": 1.0, "decay_rate": 0.5}),
    ),
)


def specs_of(optimizer: OptimizerSpec, *, name: str = "w", slot_dtype: np.dtype[Any] = FLOAT) -> list[VariableSpec]:
    """The variable, its slots in the rule's order, and the count of steps."""
    kept = RULES[optimizer.function].slots(optimizer.numbers, optimizer.sparse.name.lower())
    slots = [
        VariableSpec(f"{name}/{each.name}", COUNT if each.is_count else slot_dtype, each.shape(SHAPE), slot_of=name)
        for each in kept
    ]
    return [
        VariableSpec(name, FLOAT, SHAPE),
        *slots,
        VariableSpec(f"{name}/step", COUNT, (), slot_of=name, optimizer=optimizer),
    ]


def declarations(specs: list[VariableSpec]) -> list[Declare]:
    rule, optimizer = RULES[_optimizer(specs).function], _optimizer(specs)
    kept = rule.slots(optimizer.numbers, optimizer.sparse.name.lower())
    numbers = [each.initial_number(rule.named(optimizer.numbers)) for each in kept]
    first = InitializerSpec(ValueKind(np.linspace(-1, 1, ONES.size, dtype=FLOAT).reshape(SHAPE)))
    slots = [InitializerSpec(ConstantKind(number)) for number in (*numbers, 0.0)]
    return [Declare(spec, initial) for spec, initial in zip(specs, (first, *slots), strict=True)]


def step(specs: list[VariableSpec], *operands: Array, rate: float = np.nan, wire: WireDType = WireDType.EXACT) -> Apply:
    variable, *slots, count = [spec.name for spec in specs]
    optimizer = _optimizer(specs)
    numbers = np.full(len(optimizer.numbers), np.nan)
    numbers[0] = rate
    return Apply(variable, optimizer.function, tuple(slots), count, operands, numbers, wire)


def _optimizer(specs: list[VariableSpec]) -> OptimizerSpec:
    optimizer = specs[-1].optimizer
    assert optimizer is not None
    return optimizer


def bits(task: Task, specs: list[VariableSpec]) -> list[tuple[bytes, int]]:
    """Values, slots and count with their versions."""
    found = []
    for spec in specs:
        read = task.result(Read(spec.name))
        assert read.tensor is not None
        found.append((read.tensor.tobytes(), read.version))
    return found


def through_the_codec(journal: Journal) -> None:
    """Makes of all records what a disk, or a backup, gives back."""
    journal.records = [decode_record(*encode_record(record)) for record in journal.records]


def some_steps(specs: list[VariableSpec], seed: int) -> list[PsOperation]:
    """Dense and by rows, with rows that come again, a step that is skipped and two that are refused."""
    random = np.random.default_rng(seed)

    def numbers(*shape: int) -> Array:
        return random.standard_normal(shape).astype(FLOAT)

    return [
        step(specs, numbers(*SHAPE)),
        step(specs, np.array([4, 1, 4]), numbers(3, 3)),
        step(specs, NAN),
        step(specs, np.empty(0, np.int32), numbers(0, 3)),
        step(specs, numbers(2, 3)),
        step(specs, np.array([6]), numbers(1, 3)),
        step(specs, np.array([0, 1, 5], np.int32), numbers(3, 3), rate=0.25),
        step(specs, numbers(*SHAPE)),
    ]


MODES: Final = [(case, mode) for case in CASES for mode in RULES[case.rule].sparse_modes]


@pytest.mark.parametrize(("case", "mode"), MODES, ids=[f"{case}-{mode}" for case, mode in MODES])
@pytest.mark.parametrize("slot_dtype", [FLOAT, BFLOAT16], ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=["fixed", "scheduled"])
def test_replay_makes_the_same_bits(
    make_task: MakeTask,
    journal: Journal,
    case: Case,
    mode: str,
    slot_dtype: np.dtype[Any],
    schedule: ScheduleSpec | None,
) -> None:
    optimizer = OptimizerSpec(case.rule, case.numbers, SparseMode[mode.upper()], OnNonfinite.SKIP, schedule)
    specs = specs_of(optimizer, slot_dtype=slot_dtype)
    first = make_task()
    first.run(*declarations(specs))
    steps = some_steps(specs, seed=1)
    sent = [[operand.copy() for operand in each.operands] for each in steps if isinstance(each, Apply)]
    for number, each in enumerate(steps[:4]):
        (reply,) = first.run(each)
        assert isinstance(reply, Result), reply
        assert reply.verdict is (Verdict.SKIPPED if number == 2 else Verdict.APPLIED)
    image = first.state.take_image(TIMEOUT_S)
    replies = first.run(*steps[4:])
    assert [isinstance(reply, Result) for reply in replies] == [False, False, True, True]
    for each, operands in zip(steps, sent, strict=True):
        assert isinstance(each, Apply)
        for now, before in zip(each.operands, operands, strict=True):
            assert now.tobytes() == before.tobytes()  # no rule computes in its operands, which the log keeps
    expected = bits(first, specs)
    assert [version for _, version in expected] == [5] * len(specs)
    through_the_codec(journal)
    assert bits(make_task(client=first.client), specs) == expected
    journal.records = [record for record in journal.records if record.position > image.position]
    assert bits(make_task(image=image, client=first.client), specs) == expected


@pytest.fixture
def specs() -> list[VariableSpec]:
    return specs_of(MOMENTUM)


@pytest.fixture
def task(make_task: MakeTask, specs: list[VariableSpec]) -> Task:
    made = make_task()
    made.run(*declarations(specs), Declare(VariableSpec("other", FLOAT, (2,)), InitializerSpec(ConstantKind(1.0))))
    made.state.wait_for_all(TIMEOUT_S)
    return made


def stored(task: Task, name: str) -> StoredVariable:
    return task.state.parts.store.variables.find(name)


def test_a_batch_of_steps_is_one_record_of_all_that_it_touches(
    make_task: MakeTask, task: Task, journal: Journal, specs: list[VariableSpec]
) -> None:
    before = len(journal.records)
    task.run(
        step(specs, ONES), step(specs, np.array([1]), ONES[:1]), Update("other", UpdateRule.ASSIGN_ADD, ONES[0, :2])
    )
    (logged,) = journal.records[before:]
    assert isinstance(logged.record, AppliedBatch)
    assert [type(each) for each in logged.record.operations] == [Apply, Apply, Update]
    names = [*(spec.name for spec in specs), "other"]
    assert {stored(task, name).position for name in names} == {logged.position}
    again = make_task(client=task.client)
    assert {stored(again, name).position for name in names} == {logged.position}


@pytest.mark.parametrize("name", ["w", "w/momentum", "w/step"])
def test_nothing_that_a_step_has_changed_is_seen_before_it_is_safe(
    task: Task, journal: Journal, specs: list[VariableSpec], name: str
) -> None:
    journal.open.clear()
    with pytest.raises(DeadlineExceededError):
        task.send(task.batch(step(specs, ONES)), timeout_s=AT_ONCE_S)
    with pytest.raises(DeadlineExceededError):
        task.send(task.batch(Read(name)), timeout_s=AT_ONCE_S)
    (other,) = task.send(task.batch(Read("other")), timeout_s=AT_ONCE_S)
    assert isinstance(other, Result)
    journal.open.set()
    assert task.result(Read(name)).version == 1


def test_a_slot_that_is_made_after_the_locks_were_taken_is_not_used(
    task: Task, specs: list[VariableSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be changed without the batch's lock on it, and shown before the record is safe."""
    variables = task.state.parts.store.variables
    usual, late = variables.locked, replace(specs[1], name="w/late")

    @contextmanager
    def locked(names: set[str]) -> Iterator[Sequence[StoredVariable]]:
        with usual(names) as held:
            task.state.parts.store.declare(Declare(late, InitializerSpec(ConstantKind(0.0))), TIMEOUT_S)
            yield held

    monkeypatch.setattr(variables, "locked", locked)
    (reply,) = task.run(replace(step(specs, ONES), slots=("w/late",)))
    monkeypatch.undo()
    assert isinstance(reply, NotFoundError)
    assert reply.task == "ps:0"
    assert "variable w: the operation also works on w/late, which does not exist" in reply.message
    assert [task.result(Describe(name)).version for name in ("w", "w/late", "w/step")] == [0, 0, 0]


def test_one_slot_cannot_stand_for_two(make_task: MakeTask) -> None:
    """In place they would be one array, and two where one is lent: replay would make other bits."""
    specs = specs_of(OptimizerSpec("adam", Case("adam", {"learning_rate": 0.1}).numbers, SparseMode.LAZY))
    task = make_task()
    task.run(*declarations(specs))
    wrong = step(specs, ONES)
    (reply,) = task.run(replace(wrong, slots=(wrong.slots[0], wrong.slots[0])))
    assert isinstance(reply, InvalidArgumentError)
    assert f"variable w: adam was told to compute with {wrong.slots[0]} twice" in reply.message
    assert [task.result(Describe(spec.name)).version for spec in specs] == [0] * len(specs)


def test_a_record_keeps_the_gradient_as_it_was(
    make_task: MakeTask, task: Task, journal: Journal, specs: list[VariableSpec]
) -> None:
    """A transport reads the next gradient into the same memory when the batch has run out of time."""
    journal.open.clear()
    rows, gradient = np.array([1, 3]), ONES[:2].copy()
    with pytest.raises(DeadlineExceededError):
        task.send(task.batch(step(specs, rows, gradient)), timeout_s=AT_ONCE_S)
    rows[...], gradient[...] = 5, 99
    journal.open.set()
    task.state.wait_for_all(TIMEOUT_S)
    assert bits(make_task(client=task.client), specs) == bits(task, specs)


def test_a_gradient_that_came_in_a_lossy_form_is_exact_in_its_record(
    make_task: MakeTask, task: Task, journal: Journal, specs: list[VariableSpec]
) -> None:
    thirds = np.linspace(0.1, 1 / 3, ONES.size, dtype=FLOAT).reshape(SHAPE)
    for wire in (WireDType.INT8, WireDType.BFLOAT16, WireDType.FLOAT16):
        task.run(step(specs, thirds, wire=wire), step(specs, np.array([0, 2]), thirds[:2], wire=wire))
    through_the_codec(journal)
    assert bits(make_task(client=task.client), specs) == bits(task, specs)


def test_a_step_that_is_sent_again_after_a_restart_is_answered_and_does_not_count(
    make_task: MakeTask, journal: Journal
) -> None:
    specs, first = specs_of(SKIPPING), make_task()
    first.run(*declarations(specs))
    batch = first.batch(step(specs, ONES), step(specs, NAN), step(specs, ONES[:1]))
    answers = first.send(batch)
    expected = bits(first, specs)
    through_the_codec(journal)
    again = make_task(client=first.client)
    applied, skipped, refused = again.send(batch)
    assert applied == answers[0] == Result(1, True)
    assert skipped == answers[1] == Result(1, True, verdict=Verdict.SKIPPED)
    assert type(refused) is type(answers[2])
    assert again.core.status(timeout_s=TIMEOUT_S).duplicate_batches == 1
    assert bits(again, specs) == expected


def test_steps_of_many_clients_and_updates_of_their_slots_keep_one_order(make_task: MakeTask, journal: Journal) -> None:
    task = make_task()
    everything = [specs_of(SKIPPING, name=f"v{number}") for number in range(3)]
    for specs in everything:
        task.run(*declarations(specs))

    def work(seed: int) -> None:
        client, random = uuid4(), np.random.default_rng(seed)
        task.core.hello(client, f"worker:{seed}", timeout_s=TIMEOUT_S)
        for sequence in range(1, 26):
            first, second = random.permutation(3)[:2]
            gradient = random.normal(size=SHAPE).astype(FLOAT)
            operations = (
                step(everything[first], gradient),
                Update(everything[second][1].name, UpdateRule.ASSIGN, gradient),
                step(everything[second], random.integers(0, 6, 2), gradient[:2]),
            )
            batch = Batch(client, task.core.store_incarnation, sequence, operations)
            replies = task.core.exchange(batch, timeout_s=TIMEOUT_S).replies
            answered.append(all(isinstance(reply, Result) for reply in replies))

    answered: list[bool] = []
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    images = [task.state.take_image(TIMEOUT_S) for _ in range(3)]
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert answered == [True] * 75
    final = [bits(task, specs) for specs in everything]
    through_the_codec(journal)
    records = journal.records
    for image in [None, *images]:
        journal.records = [each for each in records if image is None or each.position > image.position]
        again = make_task(image=image)
        assert [bits(again, specs) for specs in everything] == final


def test_the_count_of_steps_stays_declared(make_task: MakeTask, task: Task, specs: list[VariableSpec]) -> None:
    task.run(step(specs, ONES))
    image = task.state.take_image(TIMEOUT_S)
    for again in (make_task(client=task.client), make_task(image=image, client=task.client)):
        assert [again.result(Describe(spec.name)).spec for spec in specs] == specs
        again.sequence = task.sequence
        (reply,) = again.run(Declare(replace(specs[-1], optimizer=SKIPPING)))
        assert isinstance(reply, InvalidArgumentError)
