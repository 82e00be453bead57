"""What is damaged, does not fit or fails on the way changes nothing; what fits in part is chosen by name."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.checkpoints.manifest import MANIFEST_FILE, decode_manifest, encode_manifest
from ps_protocol.checkpoints.service import CheckpointPath
from ps_protocol.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    ShardscopeError,
)
from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, installed
from ps_protocol.files.spec_json import encode_checked
from ps_server.checkpoints.service import TaskCheckpoints
from ps_server.core.state import MemoryState
from ps_server.log.state_parts import StateParts
from tests.unit.worker_client.checkpoints.small_clusters import (
    IMPATIENT,
    PART,
    Model,
    SmallCluster,
    assert_equal,
    flip,
    spec_of,
)

TIMEOUT_S = 30.0


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _newer(path: Path) -> None:
    path.write_bytes(encode_manifest(decode_manifest(path.read_bytes()), ["sharded-tables"]))


def _newer_format(path: Path) -> None:
    content = json.loads(path.read_bytes())["content"]
    content["format_version"] = 7
    path.write_bytes(encode_checked(content))


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        (PART, lambda path: flip(path, 20), "part-00001.*checksum of its header"),
        (PART, lambda path: flip(path, path.stat().st_size - 1), "part-00001.*variable .*checksum of the bytes"),
        (PART, _truncate, "part-00001.* bytes instead of"),
        (PART, lambda path: path.unlink(), "part-00001.*it is not there"),
        (MANIFEST_FILE, lambda path: flip(path, path.stat().st_size // 2), "manifest.json.* cannot be used"),
        (MANIFEST_FILE, _truncate, "manifest.json.* cannot be used"),
        (MANIFEST_FILE, _newer, "newer version .*sharded-tables"),
        (MANIFEST_FILE, _newer_format, "newer version .*format 7"),
    ],
    ids=["header", "value", "cut off", "missing", "manifest", "manifest cut off", "newer feature", "newer format"],
)
def test_what_is_damaged_is_refused_before_anything_is_changed(
    tmp_path: Path, cluster: SmallCluster, file: str, damage: Callable[[Path], None], message: str
) -> None:
    client = cluster.client()
    model = Model(client)
    model.train(10, 1)
    client.save(tmp_path, name="x")
    model.train(0, 2)
    expected, stores = model.values(), [task.store_incarnation for task in cluster.tasks]
    memory = [task.variable_bytes for task in cluster.tasks]
    damage(tmp_path / "x" / file)
    with pytest.raises(FailedPreconditionError, match=message):
        client.restore(tmp_path / "x")
    assert_equal(model.values(), expected)
    assert [task.store_incarnation for task in cluster.tasks] == stores
    assert [task.variable_bytes for task in cluster.tasks] == memory
    model.train(2, 1)


def test_a_checkpoint_of_another_model_is_refused_with_a_table(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    Model(client)
    client.save(tmp_path, name="x")
    with SmallCluster(2) as other:
        client = other.client()
        with client.as_default():
            mine = ss.get_variable("mine", [2], initializer=ss.ones_initializer())
            ss.get_variable("layer/whole", [38, 5])
        with pytest.raises(InvalidArgumentError, match="nothing was changed") as caught:
            client.restore(tmp_path / "x")
        assert "fresh      mine" in caught.value.message
        assert "differing  layer/whole  float32[38, 5] in the cluster, float32[37, 5]" in caught.value.message
        report = client.restore(tmp_path / "x", partial=True)
        assert report.names("differing") == ["layer/whole"]
        assert report.names("fresh") == ["mine"]
        assert set(report.names("ignored")) == {"layer/divided", "steps"}
        assert mine.read_value().tolist() == [1.0, 1.0]


def test_slots_that_were_not_there_yet_are_no_silent_leftovers(tmp_path: Path, cluster: SmallCluster) -> None:
    """Values of before training with slots of after it would be a state that never was."""
    client = cluster.client()
    model = Model(client)
    at_save = model.values()
    client.save(tmp_path, name="x")
    model.train(0, 2)
    expected = model.values()
    with pytest.raises(InvalidArgumentError, match="before the first step of the optimizer") as caught:
        client.restore(tmp_path)
    rows = [" ".join(line.split()) for line in caught.value.message.splitlines()]
    assert "fresh layer/whole/Adam/m float32[37, 5], a slot of what was saved before it was trained" in rows
    assert_equal(model.values(), expected)
    report = client.restore(tmp_path, partial=True)
    assert "layer/whole/Adam/m" in report.names("fresh")
    assert_equal(model.values(), at_save)
    model.train(2, 1)
    with SmallCluster(1) as other:  # where nothing was trained yet, it fits
        client = other.client()
        Model(client)
        assert client.restore(tmp_path).names("fresh") == []


def test_warm_start_by_pattern(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    model = Model(client)
    model.train(0, 2)
    client.save(tmp_path, name="x")
    with SmallCluster(1) as other:
        client = other.client()
        with client.as_default():
            whole = ss.get_variable("encoder/whole", [37, 5])
            head = ss.get_variable("head", [2], initializer=ss.zeros_initializer())
        report = client.restore(tmp_path / "x", names={"encoder/*": "layer/*"})
        np.testing.assert_array_equal(whole.read_value(), model.whole.read_value())
        np.testing.assert_array_equal(client.variable("encoder/divided").read_value(), model.divided.read_value())
        assert "encoder/whole/Adam/v" in report.names("restored")
        assert report.names("fresh") == ["head"]
        assert report.names("ignored") == ["steps"]
        assert head.read_value().tolist() == [0.0, 0.0]
        with pytest.raises(InvalidArgumentError, match="no variable 'decoder/"):
            client.restore(tmp_path / "x", names={"encoder/*": "decoder/*"})
        with pytest.raises(InvalidArgumentError, match="one \\* on both sides"):
            client.restore(tmp_path / "x", names={"encoder/*": "layer"})
        for no_names in ("encoder/*", {5: "layer"}, {"encoder/*": None}):
            with pytest.raises(InvalidArgumentError, match="give texts by texts"):
                client.restore(tmp_path / "x", names=no_names)  # type: ignore[arg-type]


def test_variables_that_were_declared_meanwhile_abort_it(
    tmp_path: Path, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, other = cluster.client(settings=IMPATIENT), cluster.client(1)
    model = Model(client)
    model.train(10, 1)
    other.save(tmp_path, name="x")
    expected = model.values()
    service = client._handles[0].service.checkpoints
    fill: Callable[..., Any] = service.fill

    def declare_and_fill(*args: Any, **kwargs: Any) -> Any:
        with other.as_default():
            ss.get_variable("late", [1])
        return fill(*args, **kwargs)

    monkeypatch.setattr(service, "fill", declare_and_fill, raising=False)
    with pytest.raises(ShardscopeError, match=r"variables were declared while .* late among them"):
        client.restore(tmp_path / "x")
    assert_equal(model.values(), expected)
    model.train(0, 1)


@pytest.mark.parametrize("place", ["restore.read", "restore.staged", "restore.prepared"])
def test_a_failure_before_the_switch_changes_nothing(tmp_path: Path, cluster: SmallCluster, place: str) -> None:
    client = cluster.client()
    model = Model(client)
    model.train(10, 1)
    client.save(tmp_path, name="x")
    model.train(0, 1)
    expected = model.values()
    plan = FaultPlan((Fault(place, FaultAction.FAIL, 2, 2),))
    with installed(plan), pytest.raises(FailedPreconditionError):
        client.restore(tmp_path / "x")
    assert plan.fired(place) == 1
    assert_equal(model.values(), expected)
    model.train(1, 1)
    client.restore(tmp_path / "x")


def test_a_failure_between_two_switches_is_told_and_no_mixture_is_served(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    model = Model(client)
    model.train(10, 1)
    at_save = model.values()
    client.save(tmp_path, name="x")
    model.train(0, 1)
    plan = FaultPlan((Fault("restore.before_switch", FaultAction.FAIL, 2, 2),))
    with (
        installed(plan),
        pytest.raises(FailedPreconditionError, match=r"could not be restored .*restore again") as caught,
    ):
        client.restore(tmp_path / "x")
    assert plan.fired("restore.before_switch") == 1
    switched = [task for task in cluster.tasks if task.task != caught.value.task]
    other = cluster.client(1)
    placed = next(each for each in other.variables() if each.task == switched[0].task)
    with pytest.raises(FailedPreconditionError, match="whether all others have is not known"):
        other.variable(placed.name).read_value()
    other.restore(tmp_path / "x")
    assert_equal([other.variable(name).read_value() for name in ("layer/whole", "layer/divided", "steps")], at_save)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ({"layer/whole/Adam/m": "other"}, "layer/whole/Adam/m, and the cluster has a slot or a part"),
        ({"layer/divided/part_0": "other"}, "layer/divided/part_0, and the cluster has a slot or a part"),
        ({"new": "layer/whole", "new/Adam/m": "other"}, "new/Adam/m, and so is another one"),
    ],
    ids=["a slot", "a part", "another slot that is restored"],
)
def test_no_second_variable_of_one_name_is_made(
    tmp_path: Path, cluster: SmallCluster, names: dict[str, str], found: str
) -> None:
    client = cluster.client()
    model = Model(client)
    model.train(0, 1)
    with client.as_default():
        ss.get_variable("other", [37, 5])
    client.save(tmp_path, name="x")
    before = [each.spec for task in cluster.tasks for each in task.list_variables(timeout_s=TIMEOUT_S)]
    with pytest.raises(InvalidArgumentError, match=f"is to be restored as {found}"):
        client.restore(tmp_path, names=names)
    assert [each.spec for task in cluster.tasks for each in task.list_variables(timeout_s=TIMEOUT_S)] == before


def test_a_checkpoint_that_is_another_one_than_was_planned_with_is_refused(
    tmp_path: Path, cluster: SmallCluster
) -> None:
    """As one that another save has put there meanwhile, or that a task sees at the same path of its own disk."""
    client = cluster.client()
    model = Model(client)
    client.save(tmp_path, name="x")
    task, planned = TaskCheckpoints(cluster.tasks[1]), zlib.crc32((tmp_path / "x" / MANIFEST_FILE).read_bytes())
    with pytest.raises(FailedPreconditionError, match=r"manifest\.json .*is not the one that ps:0 has read"):
        task.stage(uuid4(), CheckpointPath(str(tmp_path), "x"), planned ^ 1, [], [], timeout_s=TIMEOUT_S)
    task.stage(uuid4(), CheckpointPath(str(tmp_path), "x"), planned, [], [], timeout_s=TIMEOUT_S)  # nothing was left
    assert [each.read_value().shape for each in model.trained] == [(37, 5), (23, 3)]


def test_a_restore_beyond_the_memory_limit_changes_nothing(tmp_path: Path, cluster: SmallCluster) -> None:
    client = cluster.client()
    Model(client).train(0, 1)
    client.save(tmp_path, name="x")
    state = MemoryState(StateParts(spec_of(1), 0, memory_limit_bytes=3500))
    with SmallCluster(1, [state]) as small:
        client = small.client()
        with client.as_default():
            ss.get_variable("layer/whole", [37, 5])
        used_bytes = state.parts.store.variables.memory.used_bytes
        assert used_bytes == 4 * 37 * 5
        with pytest.raises(ResourceExhaustedError, match="memory"):
            client.restore(tmp_path / "x")
        assert state.parts.store.variables.memory.used_bytes == used_bytes
        client.restore(tmp_path / "x", names={"steps": "steps"})
