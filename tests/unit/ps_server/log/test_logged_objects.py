"""Shared objects on a task with a log: what happens to them is carried out again from its record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array, Declare, Describe, Read, Result, VariableSpec, Verdict
from ps_protocol.shared_objects import OBJECT_DTYPE, Act, Json, Look, decode_json, encode_json, unpacked
from ps_server.log import record_codec
from ps_server.log.records import AppliedBatch
from tests.unit.ps_server.log.logged_tasks import TIMEOUT_S, Journal, Task

MEETING = VariableSpec("meeting", OBJECT_DTYPE, (), object_kind="barrier")
QUESTION = encode_json({"by": "worker:0", "id": "a", "call": 1, "meeting": 1})


def act(event: Json) -> Act:
    return Act("meeting", "barrier", encode_json(event))


def arrival(by: str) -> Act:
    return act({"do": "arrive", "by": by, "id": "a", "call": 1, "count": 2, "store": "s"})


def state_of(task: Task) -> Json:
    tensor = task.result(Read("meeting")).tensor
    assert tensor is not None
    return decode_json(tensor.item(), "it")


def begun(journal: Journal) -> Task:
    task = Task(journal)
    task.hello()
    task.run(Declare(MEETING))
    task.run(act({"open": {}, "by": "worker:0"}))
    task.run(arrival("worker:0"))
    return task


def test_events_are_carried_out_again() -> None:
    journal = Journal()
    task = begun(journal)
    task.run(arrival("worker:0"))  # changes nothing
    (refused,) = task.run(act({"do": "dance"}))
    assert isinstance(refused, InvalidArgumentError)
    state = state_of(task)
    task.log.close(TIMEOUT_S)
    written = []
    for logged in journal.records:
        header, buffers = record_codec.encode_record(logged)
        parsed = record_codec.parse_record(header.SerializeToString())
        written.append(record_codec.decode_record_of(parsed, memoryview(b"".join(buffers))))
    journal.records = written
    applied = [each.record.operations for each in written if isinstance(each.record, AppliedBatch)]
    assert [type(each) for operations in applied for each in operations].count(Act) == 4
    after = Task(journal, client=task.client)
    assert state_of(after) == state
    described = after.result(Describe("meeting"))
    assert (described.version, described.spec) == (2, replace(MEETING, dtype=described.spec.dtype))  # type: ignore[union-attr]
    after.log.close(TIMEOUT_S)


def test_an_event_that_was_answered_is_not_carried_out_again() -> None:
    journal = Journal()
    task = begun(journal)
    batch = task.batch(arrival("worker:1"))
    (first,) = task.send(batch)
    task.log.close(TIMEOUT_S)
    after = Task(journal, client=task.client)
    (again,) = after.send(replace(batch, store=after.core.store_incarnation))
    assert str(again) == str(first)
    assert after.result(Describe("meeting")).version == 3
    after.log.close(TIMEOUT_S)


def test_an_image_has_the_state() -> None:
    journal = Journal()
    task = begun(journal)
    image = task.state.parts.image(task.state.position)
    state = state_of(task)
    task.log.close(TIMEOUT_S)
    after = Task(Journal(), image, task.client)
    after.sequence = task.sequence
    assert state_of(after) == state
    met = after.result(arrival("worker:1"))
    assert met.version == 3
    answer = after.result(Look("meeting", "barrier", QUESTION))
    assert answer.tensor is not None
    assert decode_json(answer.tensor, "it") == {"met": True}
    after.log.close(TIMEOUT_S)


def test_an_answer_waits_until_what_it_says_is_committed() -> None:
    journal = Journal()
    task = begun(journal)
    assert task.result(Look("meeting", "barrier", QUESTION)).verdict is Verdict.NOT_YET
    journal.open.clear()
    with pytest.raises(TimeoutError):
        task.send(task.batch(arrival("worker:1")), timeout_s=0.02)
    with pytest.raises(TimeoutError):
        task.send(task.batch(Look("meeting", "barrier", QUESTION)), timeout_s=0.02)
    journal.open.set()
    (answer,) = task.run(Look("meeting", "barrier", QUESTION, wait_s=5.0))
    assert isinstance(answer, Result)
    assert answer.tensor is not None
    task.log.close(TIMEOUT_S)


def test_gradients_that_were_pushed_are_pending_again() -> None:
    def on_sum(event: Json, *tensors: Array) -> Act:
        return Act("sum", "accumulator", encode_json(event), tensors)

    journal = Journal()
    task = Task(journal)
    task.hello()
    task.run(Declare(VariableSpec("sum", OBJECT_DTYPE, (), object_kind="accumulator")))
    task.run(on_sum({"open": {"dtype": "float32", "shape": None, "reduction": "MEAN"}, "by": "worker:0"}))
    task.run(on_sum({"do": "push", "step": 0}, np.array([1.0, 2.0], np.float32)))
    task.run(on_sum({"do": "take", "number": 1}))
    task.run(on_sum({"do": "push", "step": 0}, np.array([9.0, 9.0], np.float32)))  # stale
    for grad in ([1.0, 2.0], [5.0, 6.0]):
        task.run(on_sum({"do": "push", "step": 1}, np.array(grad, np.float32)))
    task.log.close(TIMEOUT_S)
    after = Task(journal, client=task.client)
    after.sequence = task.sequence
    taken = after.result(on_sum({"do": "take", "number": 2}))
    assert taken.tensor is not None
    assert unpacked(taken.tensor, "it")[1][0].tolist() == [3.0, 4.0]
    assert taken.version == 6
    after.log.close(TIMEOUT_S)
