"""A task whose state survives: what it records, makes again, and does not let out before it is safe."""

from __future__ import annotations

import threading
from uuid import uuid4

import numpy as np
import pytest

from ps_protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    NotFoundError,
    ResourceExhaustedError,
    ShapeMismatchError,
)
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec, ValueKind
from ps_protocol.operations import (
    Apply,
    Array,
    Batch,
    BatchReply,
    CountUpTo,
    Declare,
    Describe,
    Initialize,
    Read,
    Replace,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
    Verdict,
    WireDType,
)
from ps_protocol.optimizer_spec import OnNonfinite, OptimizerSpec, SparseMode
from ps_protocol.service_types import Placement, Proposal
from ps_server.batches.update_ledger import LedgerLimits
from ps_server.log.commit_log import CommitLimits
from ps_server.log.logged_state import LoggedState
from ps_server.log.record_codec import decode_record, encode_record
from ps_server.log.records import AppliedBatch, ClientJoined, Declared, LoggedRecord
from ps_server.log.replay import MissingFunctionError, ReplayError
from ps_server.log.state_parts import StateParts
from tests.conftest import Eventually
from tests.unit.ps_server.log.logged_tasks import AT_ONCE_S, CLUSTER, TIMEOUT_S, Journal, MakeTask, Task

WEIGHTS = VariableSpec("weights", np.dtype(np.float32), (3, 2))
COUNTER = VariableSpec("counter", np.dtype(np.int64), ())
SKIPPING = OptimizerSpec("momentum", (0.5, 0.5, 0.0), SparseMode.LAZY, OnNonfinite.SKIP)
MOMENTUM = VariableSpec("weights/momentum", np.dtype(np.float32), (3, 2), slot_of="weights")
STEPS = VariableSpec("weights/steps", np.dtype(np.int64), (), slot_of="weights", optimizer=SKIPPING)
LARGE = VariableSpec("large", np.dtype(np.float64), (20_000,))


def declared(spec: VariableSpec, value: float = 0) -> Declare:
    return Declare(spec, InitializerSpec(ConstantKind(value), 0))


def step(gradient: Array) -> Apply:
    operands = (gradient.astype(np.float32),)
    return Apply("weights", "momentum", (MOMENTUM.name,), STEPS.name, operands, np.full(3, np.nan))


def add(name: str, value: object, dtype: type = np.float32) -> Update:
    return Update(name, UpdateRule.ASSIGN_ADD, np.asarray(value, dtype))


def worked(task: Task) -> None:
    """Does a bit of everything."""
    task.run(declared(WEIGHTS, 1), declared(COUNTER), Declare(LARGE))
    task.run(add("weights", 2), add("weights", np.arange(6).reshape(3, 2)), CountUpTo("counter", 5))
    rows = np.array([0, 2, 0])
    task.run(Scatter("weights", ScatterRule.ADD, rows, np.ones((3, 2), np.float32)), add("nowhere", 1))
    task.run(Update("large", UpdateRule.ASSIGN, np.arange(20_000.0)))
    task.run(add("large", 0.5, np.float64))
    task.run(Initialize("weights", InitializerSpec(ConstantKind(9), 0), overwrite=True), add("counter", 1, np.int64))


def state(task: Task) -> list[object]:
    return [(task.value(name), task.result(Describe(name)).version) for name in ("weights", "counter", "large")]


class TestReplay:
    def test_makes_the_same_state(self, make_task: MakeTask) -> None:
        first = make_task()
        worked(first)
        again = make_task(client=first.client)
        assert state(again) == state(first)

    def test_goes_on_from_an_image(self, make_task: MakeTask, journal: Journal) -> None:
        first = make_task()
        worked(first)
        image = first.state.take_image(TIMEOUT_S)
        first.run(add("weights", 3), add("large", 1, np.float64))
        journal.records = [record for record in journal.records if record.position > image.position]
        again = make_task(image=image, client=first.client)
        assert state(again) == state(first)

    def test_operands_that_came_in_a_lossy_form_are_exact(self, make_task: MakeTask, journal: Journal) -> None:
        task, thirds = make_task(), np.linspace(0.1, 1 / 3, 6, dtype=np.float32).reshape(3, 2)
        task.run(declared(WEIGHTS))
        for wire in (WireDType.INT8, WireDType.BFLOAT16, WireDType.FLOAT16):
            task.run(
                Update("weights", UpdateRule.ASSIGN_ADD, thirds, wire),
                Scatter("weights", ScatterRule.ADD, np.array([0, 1]), thirds[:2], wire=wire),
            )
            header, buffers = encode_record(journal.records[-1])
            record = decode_record(header, buffers).record
            assert isinstance(record, AppliedBatch)
            update, scatter = record.operations
            assert isinstance(update, Update)
            assert isinstance(scatter, Scatter)
            np.testing.assert_array_equal(update.value, thirds)
            np.testing.assert_array_equal(scatter.updates, thirds[:2])

    def test_a_step_changes_a_variable_its_slot_and_its_count_again(self, make_task: MakeTask) -> None:
        first = make_task()
        first.run(*(declared(spec) for spec in (WEIGHTS, MOMENTUM, STEPS)))
        for _ in range(2):
            assert first.result(step(np.ones((3, 2)))).version
        again = make_task(client=first.client)
        for spec in (WEIGHTS, MOMENTUM, STEPS):
            assert again.value(spec.name) == first.value(spec.name)
            assert [each.state.parts.store.variables.find(spec.name).position for each in (first, again)] == [7, 7]

    def test_a_step_that_was_skipped_is_not_counted_again(self, make_task: MakeTask) -> None:
        first = make_task()
        first.run(*(declared(spec) for spec in (WEIGHTS, MOMENTUM, STEPS)))
        assert first.result(step(np.full((3, 2), np.nan))).verdict is Verdict.SKIPPED
        again = make_task(client=first.client)
        assert again.value("weights/steps") == 0
        assert [each.core.status(timeout_s=1).steps_skipped for each in (first, again)] == [1, 0]

    def test_a_function_that_is_missing_is_named(self) -> None:
        call = Apply("weights", "of_a_team", (), "", (), np.empty(0))
        record = AppliedBatch(uuid4(), 1, (call,), BatchReply((Result(1, True),)))
        with pytest.raises(
            MissingFunctionError, match=r"record 1 calls .*'of_a_team' on variable weights.*--functions"
        ):
            LoggedState(StateParts(CLUSTER, 0)).replay(LoggedRecord(1, record))

    def test_knows_the_clients_and_their_answers(self, make_task: MakeTask) -> None:
        first = make_task()
        worked(first)
        counting = first.batch(CountUpTo("counter", 5))
        answer = first.send(counting)
        again = make_task(client=first.client)
        (reply,) = again.send(counting)
        assert isinstance(reply, Result)
        assert isinstance(answer[0], Result)
        assert reply.tensor == answer[0].tensor
        assert again.value("counter") == first.value("counter")
        assert again.core.status(timeout_s=1).duplicate_batches == 1

    def test_clients_that_made_room_for_others_are_not_kept(self, make_task: MakeTask) -> None:
        first = make_task()
        first.run(declared(WEIGHTS))
        first.state.parts.ledger._limits = LedgerLimits(clients=3, unused_after_s=0.0)
        early = uuid4()
        first.core.hello(early, "worker:2", timeout_s=TIMEOUT_S)
        for _ in range(20):
            first.core.hello(uuid4(), "worker:1", timeout_s=TIMEOUT_S)
        late = Batch(early, first.core.store_incarnation, 1, (add("weights", 3),))  # it was forgotten meanwhile
        answer = first.core.exchange(late, timeout_s=TIMEOUT_S)
        again = make_task(client=first.client)
        assert again.core.status(timeout_s=1).num_clients == 3
        assert again.core.exchange(late, timeout_s=TIMEOUT_S) == answer
        assert again.core.status(timeout_s=1).duplicate_batches == 1
        assert again.value("weights") == first.value("weights")

    def test_a_client_that_has_gone_stays_gone(self, make_task: MakeTask) -> None:
        first = make_task()
        first.core.goodbye(first.client, timeout_s=TIMEOUT_S)
        first.state.wait_for_all(TIMEOUT_S)
        with pytest.raises(FailedPreconditionError, match="has said goodbye"):
            make_task(client=first.client)

    def test_knows_the_placements(self, make_task: MakeTask) -> None:
        first = make_task()
        first.core.place([Proposal(LARGE, 1), Proposal(COUNTER, 0)], timeout_s=TIMEOUT_S)
        again = make_task()
        assert again.core.place([Proposal(LARGE, 0)], timeout_s=TIMEOUT_S) == [Placement(LARGE, 1)]
        assert len(again.core.list_placements(timeout_s=1)) == 2

    def test_knows_them_from_an_image(self, make_task: MakeTask, journal: Journal) -> None:
        first = make_task()
        first.core.place([Proposal(LARGE, 1)], timeout_s=TIMEOUT_S)
        image = first.state.take_image(TIMEOUT_S)
        journal.records.clear()
        again = make_task(image=image)
        assert again.core.list_placements(timeout_s=1) == [Placement(LARGE, 1)]

    def test_refuses_a_record_out_of_its_place(self, make_task: MakeTask, journal: Journal) -> None:
        worked(make_task())
        del journal.records[3]
        with pytest.raises(ReplayError, match="record 5 was found where 4 should be"):
            make_task()

    def test_refuses_a_record_that_does_something_else(self, make_task: MakeTask, journal: Journal) -> None:
        first = make_task()
        first.run(declared(COUNTER))
        first.run(add("counter", 1, np.int64))
        first.state.wait_for_all(TIMEOUT_S)
        last = journal.records[-1]
        assert isinstance(last.record, AppliedBatch)
        doubled = AppliedBatch(first.client, 9, last.record.operations, last.record.reply)
        journal.records.append(LoggedRecord(last.position + 1, doubled))
        with pytest.raises(ReplayError, match=r"took variable counter to version 1, but takes it to 2"):
            make_task()


class TestRecords:
    def test_declarations_are_records_of_their_own(self, make_task: MakeTask, journal: Journal) -> None:
        task = make_task()
        task.run(declared(COUNTER), add("counter", 1, np.int64))
        kinds = [type(logged.record) for logged in journal.records]
        assert kinds == [ClientJoined, Declared, AppliedBatch]
        batch = journal.records[-1].record
        assert isinstance(batch, AppliedBatch)
        assert batch.operations[0] == Describe("counter")

    def test_a_declaration_that_changes_nothing_is_not_recorded(self, make_task: MakeTask, journal: Journal) -> None:
        task = make_task()
        task.run(declared(COUNTER))
        task.run(declared(COUNTER))
        assert sum(isinstance(logged.record, Declared) for logged in journal.records) == 1

    def test_a_record_keeps_the_operand_as_it_was(self, make_task: MakeTask, journal: Journal) -> None:
        task = make_task()
        task.run(Declare(LARGE))
        journal.open.clear()
        operand = np.zeros(20_000)
        assigned, added = (
            task.batch(Update("large", UpdateRule.ASSIGN, operand)),
            task.batch(add("large", 1, np.float64)),
        )
        for batch in (assigned, added):
            with pytest.raises(DeadlineExceededError):
                task.send(batch, timeout_s=AT_ONCE_S)
        journal.open.set()
        task.state.wait_for_all(TIMEOUT_S)
        again = make_task(client=task.client)
        assert again.value("large") == [1.0] * 20_000

    def test_an_initial_value_that_was_sent_is_recorded(self, make_task: MakeTask) -> None:
        task = make_task()
        task.run(Declare(LARGE, InitializerSpec(ValueKind(np.arange(20_000.0)), 0)))
        task.run(add("large", 1, np.float64))
        assert make_task(client=task.client).value("large") == list(np.arange(20_000.0) + 1)

    def test_an_image_does_not_change_with_the_state(self, make_task: MakeTask) -> None:
        task = make_task()
        worked(task)
        before = state(task)
        image = task.state.take_image(TIMEOUT_S)
        worked_on = [add("weights", 1), add("large", 1, np.float64), add("counter", 1, np.int64)]
        task.run(*worked_on)
        kept = {each.spec.name: each for each in image.variables}
        shown = [(np.asarray(kept[n].value).tolist(), kept[n].version) for n in ("weights", "counter", "large")]
        assert shown == before


class TestWaiting:
    def test_an_update_is_not_acknowledged_before_it_is_safe(self, make_task: MakeTask, journal: Journal) -> None:
        task = make_task()
        task.run(declared(COUNTER))
        journal.open.clear()
        batch = task.batch(add("counter", 1, np.int64))
        with pytest.raises(DeadlineExceededError, match="not yet on the journal"):
            task.send(batch, timeout_s=AT_ONCE_S)
        with pytest.raises(DeadlineExceededError, match="not yet on the journal"):
            task.send(batch, timeout_s=AT_ONCE_S)
        journal.open.set()
        (reply,) = task.send(batch)
        assert isinstance(reply, Result)
        assert (reply.version, task.value("counter")) == (1, 1)

    def test_nobody_sees_what_is_not_safe(self, make_task: MakeTask, journal: Journal) -> None:
        task = make_task()
        task.run(declared(COUNTER), declared(WEIGHTS))
        journal.open.clear()
        with pytest.raises(DeadlineExceededError):
            task.send(task.batch(add("counter", 1, np.int64)), timeout_s=AT_ONCE_S)
        with pytest.raises(DeadlineExceededError):
            task.send(task.batch(Read("counter")), timeout_s=AT_ONCE_S)
        (other,) = task.send(task.batch(Read("weights")), timeout_s=AT_ONCE_S)
        assert isinstance(other, Result)

    def test_a_declaration_is_not_seen_before_it_is_safe(self, make_task: MakeTask, journal: Journal) -> None:
        task = make_task()
        journal.open.clear()
        with pytest.raises(DeadlineExceededError):
            task.send(task.batch(declared(COUNTER)), timeout_s=AT_ONCE_S)
        with pytest.raises(DeadlineExceededError):
            task.send(task.batch(Describe("counter")), timeout_s=AT_ONCE_S)

    def test_placements_are_answered_when_they_are_safe(self, make_task: MakeTask, journal: Journal) -> None:
        task = make_task()
        journal.open.clear()
        with pytest.raises(DeadlineExceededError):
            task.core.place([Proposal(COUNTER, 0)], timeout_s=AT_ONCE_S)
        journal.open.set()
        assert task.core.place([Proposal(COUNTER, 1)], timeout_s=TIMEOUT_S) == [Placement(COUNTER, 0)]

    def test_a_full_queue_refuses_before_anything_is_applied(
        self, make_task: MakeTask, journal: Journal, eventually: Eventually
    ) -> None:
        task = make_task(limits=CommitLimits(queued_bytes=100_000))
        task.run(declared(LARGE))
        eventually(lambda: task.log.committed_position == task.log.last_position)
        journal.open.clear()
        with pytest.raises(DeadlineExceededError):
            task.send(task.batch(add("large", np.ones(20_000), np.float64)), timeout_s=AT_ONCE_S)
        refused = task.batch(add("large", np.ones(20_000), np.float64))
        with pytest.raises(ResourceExhaustedError, match="nothing was applied"):
            task.send(refused, timeout_s=AT_ONCE_S)
        journal.open.set()
        (reply,) = task.send(refused)
        assert isinstance(reply, Result)
        assert reply.version == 2


class TestBatches:
    def test_an_operation_that_is_refused_leaves_the_others(self, make_task: MakeTask) -> None:
        task = make_task()
        task.run(declared(WEIGHTS))
        wrong, right, nowhere = task.run(add("weights", [1, 2]), add("weights", 1), add("nowhere", 1))
        assert isinstance(wrong, ShapeMismatchError)
        assert isinstance(right, Result)
        assert isinstance(nowhere, NotFoundError)
        assert nowhere.task == "ps:0"
        assert make_task(client=task.client).value("weights") == [[1, 1]] * 3

    def test_initialising_anew_counts_as_an_update(self, make_task: MakeTask) -> None:
        task = make_task()
        task.run(Declare(COUNTER))
        anew = Initialize("counter", InitializerSpec(ConstantKind(4), 0), overwrite=True)
        assert [task.result(anew).version, task.result(anew).version] == [0, 1]
        again = make_task(client=task.client)
        assert (again.value("counter"), again.result(Describe("counter")).version) == (4, 1)

    def test_initialising_anew_goes_back_to_the_declared_shape_that_its_batch_has_changed(
        self, make_task: MakeTask
    ) -> None:
        task = make_task()
        task.run(declared(COUNTER))
        anew = Initialize("counter", InitializerSpec(ConstantKind(4), 0), overwrite=True)
        replies = task.run(Replace("counter", np.array([3, 6])), anew)
        assert [each.version for each in replies if isinstance(each, Result)] == [1, 2]
        again = make_task(client=task.client)
        assert (again.value("counter"), again.result(Describe("counter")).version) == (4, 2)

    def test_batches_of_many_clients_keep_one_order(self, make_task: MakeTask, journal: Journal) -> None:
        task = make_task()
        names = [f"v{index}" for index in range(4)]
        task.run(*[declared(VariableSpec(name, np.dtype(np.float64), (8,))) for name in names])

        def work(seed: int) -> None:
            client, random = uuid4(), np.random.default_rng(seed)
            task.core.hello(client, f"worker:{seed}", timeout_s=TIMEOUT_S)
            for sequence in range(1, 31):
                chosen = random.permutation(names)[:3]
                operations = tuple(
                    Update(str(name), UpdateRule(int(random.integers(1, 4))), random.normal(size=8)) for name in chosen
                )
                batch = Batch(client, task.core.store_incarnation, sequence, operations)
                task.core.exchange(batch, timeout_s=TIMEOUT_S)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        images = [task.state.take_image(TIMEOUT_S) for _ in range(5)]
        for thread in threads:
            thread.join(TIMEOUT_S)
        final = {name: task.value(name) for name in names}
        records = list(journal.records)
        for image in [None, *images]:
            journal.records = [each for each in records if image is None or each.position > image.position]
            again = make_task(image=image)
            assert {name: again.value(name) for name in names} == final
            journal.records = list(records)


class TestTwoSinks:
    @pytest.mark.parametrize("late", ["the disk", "the backup"])
    def test_an_update_is_acknowledged_when_both_have_its_record(self, eventually: Eventually, late: str) -> None:
        disk, backup = Journal("the disk"), Journal("the backup")
        held_up = disk if late == disk.name else backup
        task = Task(disk, backup=backup)
        try:
            task.hello()
            task.run(declared(COUNTER))
            held_up.open.clear()
            batch = task.batch(add("counter", 1, np.int64))
            with pytest.raises(DeadlineExceededError, match="not yet on the disk and the backup"):
                task.send(batch, timeout_s=AT_ONCE_S)
            if held_up is backup:
                eventually(lambda: disk.records[-1].position == task.log.last_position)
            assert held_up.records[-1].position < task.log.last_position
            with pytest.raises(DeadlineExceededError, match="not yet on the disk and the backup"):
                task.send(batch, timeout_s=AT_ONCE_S)
            with pytest.raises(DeadlineExceededError):
                task.send(task.batch(Read("counter")), timeout_s=AT_ONCE_S)
            held_up.open.set()
            (reply,) = task.send(batch)
            assert isinstance(reply, Result)
            assert reply.version == 1
            positions = [[each.position for each in sink.records] for sink in (disk, backup)]
            assert positions == [[1, 2, 3, 4], [1, 2, 3, 4]]
        finally:
            held_up.open.set()
            assert task.log.close(TIMEOUT_S)
