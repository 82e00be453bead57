"""A process of a replicated ps task is killed during a save or a restore: its pair goes on, nothing is a mixture."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import worker_client as ss
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB
from ps_protocol.errors import FailedPreconditionError, ShardscopeError
from ps_protocol.task_id import TaskId
from tests.chaos.test_replication_faults import Pairs
from tests.conftest import Eventually
from tests.unit.worker_client.checkpoints.small_clusters import Model, assert_equal

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

GOES_ON = frozenset({"checkpoint.begun", "checkpoint.before_publish", "checkpoint.visible"})
"""Where the new primary does again what the old one was asked for: it needs nothing of what that had in memory."""

NAMES = ("layer/whole", "layer/divided", "steps")
PS_0, PS_1, BACKUP_1 = TaskId(PS_JOB, 0), TaskId(PS_JOB, 1), TaskId(BACKUP_JOB, 1)


@pytest.fixture
def pairs(tmp_path: Path, eventually: Eventually) -> Iterator[Pairs]:
    with ExitStack() as resources:
        yield Pairs(resources, tmp_path, eventually)


def connected(pairs: Pairs) -> ss.Client:
    return ss.connect(pairs.spec, operation_timeout_s=30.0)


@pytest.mark.parametrize(
    ("place", "victim"),
    [
        ("checkpoint.begun", PS_1),
        ("checkpoint.held", PS_1),
        ("checkpoint.imaged", PS_1),
        ("checkpoint.write", PS_1),
        ("checkpoint.part_written", PS_1),
        ("checkpoint.before_publish", PS_0),
        ("checkpoint.visible", PS_0),
    ],
    ids=str,
)
def test_a_primary_is_killed_while_a_checkpoint_is_saved(
    pairs: Pairs, tmp_path: Path, place: str, victim: TaskId
) -> None:
    pairs.start({victim: f"{place}=crash@1"})
    checkpoints = tmp_path / "checkpoints"
    with connected(pairs) as client:
        model = Model(client)
        model.train(0, 2)
        with contextlib.suppress(ShardscopeError):  # a new primary may also go on with the last step
            client.save(checkpoints, name="x")
        assert pairs[victim].wait() == -signal.SIGKILL
        assert pairs[victim].faults == [(place, "crash")]
        names = [each.name for each in ss.checkpoint.list(checkpoints)]
        assert names == (["x"] if place in GOES_ON else [])
        model.train(2, 1)
        expected = model.values()
        client.save(checkpoints, name="y")
        for name in (*names, "y"):
            ss.checkpoint.verify(checkpoints / name)
        client.restore(checkpoints / "y")
        assert_equal(model.values(), expected)


@pytest.mark.parametrize(
    ("place", "victim"),
    [
        ("restore.read", PS_1),
        ("restore.staged", PS_1),
        ("restore.prepared", PS_1),
        ("restore.before_switch", PS_1),
        ("restore.staged_in_log", PS_1),
        ("restore.switching", PS_1),
        ("restore.switched", PS_1),
        ("restore.before_finish", PS_1),
        ("restore.switching", BACKUP_1),
    ],
    ids=str,
)
def test_a_process_is_killed_while_a_checkpoint_is_restored(
    pairs: Pairs, tmp_path: Path, place: str, victim: TaskId
) -> None:
    pairs.start({victim: f"{place}=crash@1"})
    checkpoints, is_restored = tmp_path / "checkpoints", False
    with connected(pairs) as client:
        model = Model(client)
        model.train(0, 2)
        saved = model.values()
        client.save(checkpoints, name="x")
        model.train(2, 2)
        running = model.values()
        with contextlib.suppress(ShardscopeError):
            client.restore(checkpoints / "x")
            is_restored = True
        assert pairs[victim].wait() == -signal.SIGKILL
        assert pairs[victim].faults == [(place, "crash")]
    with connected(pairs) as client:
        seen = set()
        for name, old, new in zip(NAMES, running, saved, strict=True):
            try:
                value = client.variable(name).read_value().tobytes()
            except FailedPreconditionError:
                seen.add("refused")
            else:
                seen.add({old.tobytes(): "old", new.tobytes(): "new"}[value])
        assert seen == {"new"} if is_restored else not {"old", "new"} <= seen
        client.restore(checkpoints / "x")
        assert_equal(Model(client).values(), saved)
