"""Batches that hand data shards in on a task with a log: whole in a record, or refused as a whole."""

from __future__ import annotations

import numpy as np

from ps_protocol.errors import AbortedError, NotFoundError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Declare, Read, Result, Scatter, ScatterRule, Update, UpdateRule, VariableSpec
from ps_protocol.shared_objects import OBJECT_DTYPE, Act, Json, encode_json
from ps_protocol.training.data_shards import END, SHARDS_KIND
from ps_server.log.records import AppliedBatch
from tests.unit.ps_server.log.logged_tasks import TIMEOUT_S, Journal, Task

SHARDS = VariableSpec("shards/train", OBJECT_DTYPE, (), object_kind=SHARDS_KIND)
COUNTS = VariableSpec("counts", np.dtype(np.int64), (4,))
ADD = Scatter("counts", ScatterRule.ADD, np.array([1, 3]), np.array(1, np.int64))
MISSING = Update("missing", UpdateRule.ASSIGN_ADD, np.array(1, np.int64))


def act(event: Json) -> Act:
    return Act(SHARDS.name, SHARDS_KIND, encode_json(event))


def update(begin: int, end: int) -> Act:
    named = {"by": "worker:0", "epoch": 0, "place": 0, "ticket": 1}
    return act({"do": "update", **named, "from": begin, "to": end})


def begun(journal: Journal) -> Task:
    task = Task(journal)
    task.hello()
    task.run(Declare(SHARDS), act({"open": {"count": 1, "epochs": 1, "shuffle_seed": None}, "by": "worker:0"}))
    task.run(Declare(COUNTS, InitializerSpec(ConstantKind(0.0))))
    taken = {"id": "a", "store": "s", "now": 0.0, "lease": 1.0, "process": "p", "busy": []}
    task.run(act({"do": "take", "by": "worker:0", **taken}))
    return task


def counts(task: Task) -> list[int]:
    tensor = task.result(Read("counts")).tensor
    assert tensor is not None
    return [int(each) for each in tensor]


def test_a_hand_in_and_its_updates_are_one_record_and_are_carried_out_again() -> None:
    journal = Journal()
    task = begun(journal)
    assert all(isinstance(each, Result) for each in task.run(update(0, 5), ADD))
    again = task.run(update(0, 5), ADD)  # was applied
    assert isinstance(again[1], AbortedError)
    task.run(update(5, END), ADD)
    assert counts(task) == [0, 2, 0, 2]
    task.log.close(TIMEOUT_S)
    kinds = [
        [type(each) for each in logged.record.operations]
        for logged in journal.records
        if isinstance(logged.record, AppliedBatch)
    ]
    assert kinds.count([Act, Scatter]) == 3
    after = Task(journal, client=task.client)
    after.sequence = task.sequence
    assert counts(after) == [0, 2, 0, 2]
    assert isinstance(after.run(update(5, END), ADD)[1], AbortedError)
    after.log.close(TIMEOUT_S)


def test_a_variable_that_is_not_there_has_all_of_the_batch_refused() -> None:
    task = begun(Journal())
    for each in task.run(update(0, END), ADD, MISSING):
        assert isinstance(each, NotFoundError)
    assert counts(task) == [0, 0, 0, 0]
    assert all(isinstance(each, Result) for each in task.run(update(0, END), ADD))
    assert counts(task) == [0, 1, 0, 1]
    task.log.close(TIMEOUT_S)
