"""Ps tasks with a log that take part in rounds of training together."""

from __future__ import annotations

from ps_protocol.operations import (
    Result,
)
from ps_protocol.optimizer_spec import OnNonfinite
from ps_server.log import record_codec
from tests.unit.ps_server.log.logged_tasks import Journal, Task
from tests.unit.ps_server.rounds_on_ps import (
    STAMP,
    declarations,
)

TRAINED = [f"{name}{slot}" for name in ("table", "vector") for slot in ("", "/m", "/v", "/step")]


def begun(journal: Journal, slots: int = 1, on_nonfinite: OnNonfinite = OnNonfinite.REFUSE) -> Task:
    task = Task(journal)
    task.hello()
    for reply in task.run(*declarations(3, slots, on_nonfinite)):
        assert isinstance(reply, Result), reply
    return task


def state(task: Task) -> dict[str, object]:
    return {name: task.value(name) for name in (STAMP, *TRAINED)}


def written(journal: Journal) -> Journal:
    """The records as they are read from a disk."""
    after = Journal()
    for logged in journal.records:
        header, buffers = record_codec.encode_record(logged)
        parsed = record_codec.parse_record(header.SerializeToString())
        after.records.append(record_codec.decode_record_of(parsed, memoryview(b"".join(buffers))))
    return after
