"""Savers that write the form of ``ss.save``: what they save is restored by any saver, and by ``ss.restore``."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import shardscope as ss
import worker_client.compat.v1 as tf
from ps_protocol.checkpoints import folder_store
from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.checkpoints.store import read_manifest
from ps_protocol.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from ps_protocol.files.synced_files import SyncedWriter
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster, flip
from worker_client.training.savers import formats
from worker_client.values.text import stored, taken

TEXT = np.array([[b"one\0", b""], [b"three\1", b"b"]], object)


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def session(graph: tf.Graph) -> Iterator[tf.Session]:
    with tf.Session() as session:
        yield session


def several(session: tf.Session) -> dict[str, Any]:
    """Makes variables of many kinds; returns what they have."""
    random = tf.random_uniform_initializer(seed=1)
    made: dict[str, Any] = {
        "rows": tf.get_variable("rows", [5, 3], initializer=random, partitioner=tf.fixed_size_partitioner(2)),
        "columns": tf.get_variable(
            "columns", [2, 7], initializer=random, partitioner=tf.fixed_size_partitioner(3, axis=1)
        ),
        "words": tf.get_variable("words", initializer=TEXT),
        "step": tf.get_variable("step", initializer=np.int64(7)),
        "half": tf.get_variable("half", [3], dtype=tf.bfloat16, initializer=tf.ones_initializer()),
        "none": tf.get_variable("none", [0, 2]),
    }
    session.run(tf.global_variables_initializer())
    return dict(zip(made, session.run([tf.convert_to_tensor(each) for each in made.values()]), strict=True))


def saved(saver: tf.train.Saver, session: tf.Session, path: Path, step: int | None = None) -> str:
    found = saver.save(session, path, step)
    assert found is not None
    return found


def cleared(session: tf.Session) -> None:
    for each in tf.global_variables():
        if each.dtype != tf.string:
            session.run(each.assign(tf.zeros_like(each)))


@pytest.mark.parametrize("restored_by", ["shardscope", "tensorflow"])
@pytest.mark.parametrize("saved_by", ["shardscope", "tensorflow"])
def test_either_form_is_restored_whichever_is_written(
    session: tf.Session, tmp_path: Path, saved_by: str, restored_by: str
) -> None:
    expected = several(session)
    path = saved(tf.train.Saver(write_format=saved_by, sharded=True), session, tmp_path / "m", 3)
    cleared(session)
    tf.train.Saver(write_format=restored_by).restore(session, path)
    for each in tf.global_variables():
        whole = each._get_save_slice_info()
        if whole is None:
            np.testing.assert_array_equal(session.run(each), expected[each.op.name])
        else:
            start = tuple(
                [slice(first, first + size) for first, size in zip(whole.var_offset, each.shape, strict=True)]
            )
            np.testing.assert_array_equal(session.run(each), expected[whole.full_name][start])


def test_functions_that_read_checkpoints_read_it(session: tf.Session, tmp_path: Path) -> None:
    expected = several(session)
    saver = tf.train.Saver(write_format="shardscope", save_relative_paths=True)
    path = saved(saver, session, tmp_path / "here" / "m", 3)
    assert path == f"{tmp_path}/here/m-3"
    assert tf.train.latest_checkpoint(tmp_path / "here") == path
    moved = (tmp_path / "here").rename(tmp_path / "there")
    assert tf.train.latest_checkpoint(moved) == f"{moved}/m-3"
    path = f"{moved}/m-3"
    for place in (moved, path):
        assert tf.train.list_variables(place) == sorted((name, list(each.shape)) for name, each in expected.items())
        for name, each in expected.items():
            np.testing.assert_array_equal(tf.train.load_variable(place, name), each)
    reader = tf.train.NewCheckpointReader(path)
    assert reader.has_tensor("words")
    assert not reader.has_tensor("other")
    dtypes = reader.get_variable_to_dtype_map()
    assert (dtypes["words"], dtypes["half"]) == (tf.string, tf.bfloat16)
    assert b"rows (DT_FLOAT) [5,3]\n" in reader.debug_string()
    with pytest.raises(NotFoundError, match="Key other not found in checkpoint"):
        reader.get_tensor("other")
    with ss.checkpoint.open(moved) as checkpoint:
        assert isinstance(checkpoint, ss.checkpoint.ShardscopeCheckpoint)
    assert ss.checkpoint.verify(path).num_variables == len(expected)
    assert tf.train.checkpoint_exists(path)
    assert len(tf.train.get_checkpoint_mtimes([path, f"{path}x"])) == 1


def test_ss_restore_brings_it_to_other_tasks(session: tf.Session, tmp_path: Path) -> None:
    expected = several(session)
    path = saved(tf.train.Saver(write_format="shardscope"), session, tmp_path / "m")
    with SmallCluster(3) as cluster:
        client = cluster.client()
        client.restore(path)
        for name in ("rows", "columns", "step", "half"):
            np.testing.assert_array_equal(client.variable(name).read_value(), expected[name])
        client.save(tmp_path / "again", name="x")
    assert ss.checkpoint.diff(path, tmp_path / "again" / "x").is_equal


def test_each_value_is_written_when_it_comes_and_once(
    session: tf.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several(session)
    add, write = formats._NewShardscope.add, SyncedWriter.write
    added, written = 0, 0

    def counted_add(checkpoint: Any, shard: int, key: str, place: Any, value: Any) -> None:
        nonlocal added
        add(checkpoint, shard, key, place, value)
        added += stored(value).nbytes if key == "words" else value.nbytes
        assert written == added

    def counted_write(writer: SyncedWriter, data: Any, crc: int = 0) -> int:
        nonlocal written
        written += len(data)
        return write(writer, data, crc)

    monkeypatch.setattr(formats._NewShardscope, "add", counted_add)
    with monkeypatch.context() as patch:
        patch.setattr(SyncedWriter, "write", counted_write)
        patch.setattr(FolderStore, "note_part", lambda *_: None)  # which is written too
        patch.setattr(FolderStore, "publish", lambda *_: 0)
        saved(tf.train.Saver(write_format="shardscope"), session, tmp_path / "m")
    (part,) = tmp_path.glob(".m.*.tmp/*.safetensors")
    assert added > 5 * 3 * 4 + 2 * 7 * 4 + 8
    header_bytes = 8 + int.from_bytes(part.read_bytes()[:8], "little")
    assert written == part.stat().st_size == header_bytes + added


def test_the_disk_does_not_rest_while_a_part_is_written_here(
    session: tf.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[int] = []
    monkeypatch.setattr("os.fdatasync", syncs.append)
    variable = tf.get_variable("v", [3 * 2**21], tf.float64, initializer=tf.ones_initializer())
    session.run(variable.initializer)
    path = saved(tf.train.Saver(write_format="shardscope"), session, tmp_path / "m")
    ss.checkpoint.export(path, tmp_path / "v.npz", format="npz")
    ss.checkpoint.import_from(tmp_path / "v.npz", tmp_path / "imported", name="x")
    assert syncs == []  # 48 MiB each
    with SyncedWriter(tmp_path / "of a ps") as writer:
        writer.write(bytes(2**24))
    assert len(syncs) == 2


def test_other_libraries_read_its_part_and_each_tensor_in_it_is_aligned(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    dtypes = [np.int8, np.float64, np.float16, np.float32, np.complex64, np.bool_, np.int64, ml_dtypes.bfloat16]
    values = {
        f"v{number}": random.integers(0, 2, number % 5 + 1).astype(dtypes[number % len(dtypes)]) for number in range(40)
    }
    with SmallCluster(2) as cluster, tf.Session(cluster.client()) as session:
        for number, (name, value) in enumerate(values.items()):
            with tf.device(f"/job:ps/task:{number // 7 % 2}"):
                tf.get_variable(name, initializer=value)
        session.run(tf.global_variables_initializer())
        path = saved(tf.train.Saver(write_format="shardscope"), session, tmp_path / "m")
    found = read_manifest(FolderStore(tmp_path), "m").parts[0]
    assert [each for each in found.variables if each.offset % each.spec.dtype.itemsize] == []
    tensors = safetensors.numpy.load_file(Path(path, found.file))
    assert sorted(tensors) == sorted(values)
    for name, value in values.items():
        assert (tensors[name].dtype, tensors[name].tobytes()) == (value.dtype, value.tobytes())


def test_values_may_have_other_shapes_than_their_variables(session: tf.Session, tmp_path: Path) -> None:
    expected: dict[str, Any] = {
        "longer": np.arange(3000.0).reshape(3, 1, 1, 1, 1, 1000),
        "shorter": np.zeros((0, 2)),
        "text": np.array([[b"some words" * 1000], [b""]], object),
        "same": np.arange(8.0),
    }
    for name, value in expected.items():
        is_text = value.dtype == object
        variable = tf.get_variable(name, initializer=np.array([b"x"] * 8, object) if is_text else np.zeros(8))
        session.run(variable.initializer)
        session.run(tf.assign(variable, value, validate_shape=False))
    path = saved(tf.train.Saver(write_format="shardscope"), session, tmp_path / "m")
    for name, value in expected.items():
        np.testing.assert_array_equal(tf.train.load_variable(path, name), value)
    assert ss.checkpoint.verify(path).num_variables == len(expected)
    (part,) = Path(path).glob("*.safetensors")
    assert sorted(safetensors.numpy.load_file(part)) == sorted(expected)


def test_parts_of_text_have_elements_of_one_length(session: tf.Session, tmp_path: Path) -> None:
    text = np.array([b"one\0", b"", b"longer", b"x", b"y"], object)
    tf.get_variable("words", initializer=tf.constant(text), partitioner=tf.fixed_size_partitioner(3))
    session.run(tf.global_variables_initializer())
    path = saved(tf.train.Saver(write_format="shardscope"), session, tmp_path / "m")
    np.testing.assert_array_equal(tf.train.load_variable(path, "words"), text)
    with SmallCluster(2) as cluster:
        client = cluster.client()
        client.restore(path)
        np.testing.assert_array_equal(taken(client.variable("words").read_value()), text)


def test_a_part_may_have_the_name_of_another_variable(session: tf.Session, tmp_path: Path) -> None:
    rows = tf.get_variable("rows", [4], partitioner=tf.fixed_size_partitioner(2), initializer=tf.ones_initializer())
    other = tf.get_variable("other", initializer=np.arange(3.0))
    session.run(tf.global_variables_initializer())
    saver = tf.train.Saver({"rows": rows, "rows/part_0": other}, write_format="shardscope")
    path = saved(saver, session, tmp_path / "m")
    np.testing.assert_array_equal(tf.train.load_variable(path, "rows"), np.ones(4, np.float32))
    np.testing.assert_array_equal(tf.train.load_variable(path, "rows/part_0"), np.arange(3.0))
    cleared(session)
    saver.restore(session, path)
    assert session.run([tf.reduce_sum(rows.as_tensor()), tf.reduce_sum(other)]) == [4.0, 3.0]


def test_what_ss_save_has_written_is_restored_by_a_saver(session: tf.Session, tmp_path: Path) -> None:
    with SmallCluster(2) as cluster:
        client = cluster.client()
        with client.as_default():
            partitioner = ss.fixed_size_partitioner(3)
            whole = ss.get_variable("w", [6, 2], partitioner=partitioner)
        expected: Any = whole.read_value()
        saved = client.save(tmp_path, name="x")
    variable = tf.get_variable("w", [6, 2], partitioner=tf.fixed_size_partitioner(2))
    tf.train.Saver().restore(session, saved.path)
    np.testing.assert_array_equal(session.run(variable.as_tensor()), expected)


def test_old_ones_are_deleted_and_one_of_the_same_name_is_replaced(session: tf.Session, tmp_path: Path) -> None:
    variable = tf.get_variable("v", initializer=0.0)
    session.run(variable.initializer)
    saver = tf.train.Saver(max_to_keep=2, write_format="shardscope")
    for step in (0, 1, 2, 2):
        session.run(variable.assign_add(1.0))
        path = saved(saver, session, tmp_path / "m", step)
    assert saver.last_checkpoints == [f"{tmp_path}/m-1", f"{tmp_path}/m-2"]
    assert sorted([each.name for each in tmp_path.iterdir()]) == ["checkpoint", "m-1", "m-2"]
    assert tf.train.load_variable(path, "v") == 4.0
    assert tf.train.load_variable(tmp_path / "m-1", "v") == 2.0
    again = tf.train.Saver(write_format="shardscope")
    again.recover_last_checkpoints([f"{tmp_path}/m-0", f"{tmp_path}/m-1"])
    assert again.last_checkpoints == [f"{tmp_path}/m-1"]
    tf.train.remove_checkpoint(f"{tmp_path}/m-1")
    assert not (tmp_path / "m-1").exists()
    with pytest.raises(ValueError, match="not a valid checkpoint"):
        saver.restore(session, f"{tmp_path}/m-1")


def test_one_is_there_at_any_moment_while_another_takes_its_place(
    session: tf.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = tf.get_variable("v", initializer=1.0)
    session.run(variable.initializer)
    saver = tf.train.Saver(write_format="shardscope")
    path = saved(saver, session, tmp_path / "m")
    session.run(variable.assign(2.0))
    seen: list[tuple[str, float]] = []

    def look(place: str) -> None:  # where a process may be killed
        seen.append((place, tf.train.load_variable(path, "v")))

    monkeypatch.setattr(folder_store, "fault_point", look)
    saver.save(session, tmp_path / "m")
    assert seen == [("checkpoint.before_visible", 1.0), ("checkpoint.visible", 2.0)]
    assert sorted([each.name for each in tmp_path.iterdir()]) == ["checkpoint", "m"]


def test_one_that_is_pinned_is_not_deleted(session: tf.Session, tmp_path: Path) -> None:
    variable = tf.get_variable("v", initializer=0.0)
    session.run(variable.initializer)
    saver = tf.train.Saver(max_to_keep=1, write_format="shardscope")
    for step in range(3):
        path = saved(saver, session, tmp_path / "m", step)
        if not step:
            ss.checkpoint.pin(path)
    assert saver.last_checkpoints == [f"{tmp_path}/m-2"]
    assert [each.name for each in ss.checkpoint.list(tmp_path)] == ["m-0", "m-2"]


def test_initial_values_come_from_it(session: tf.Session, tmp_path: Path) -> None:
    expected = several(session)
    path = saved(tf.train.Saver(write_format="shardscope"), session, tmp_path / "m", 1)
    for place in (path, str(tmp_path)):
        with tf.Graph().as_default(), tf.Session() as other:
            rows = tf.get_variable("new/rows", [5, 3], partitioner=tf.fixed_size_partitioner(4))
            step = tf.get_variable("new/step", initializer=np.int64(0))
            tf.train.init_from_checkpoint(place, {"rows": "new/rows", "step": step})
            other.run(tf.global_variables_initializer())
            np.testing.assert_array_equal(other.run(rows.as_tensor()), expected["rows"])
            assert other.run(step) == 7
        with tf.Graph().as_default(), tf.Session() as other:
            half = tf.get_variable("half", [3], dtype=tf.bfloat16, initializer=tf.zeros_initializer())
            tf.train.warm_start(place)
            other.run(tf.global_variables_initializer())
            np.testing.assert_array_equal(other.run(half), np.ones(3, ml_dtypes.bfloat16))


def test_a_full_disk_ends_the_save_and_leaves_what_was_there(
    session: tf.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = tf.get_variable("v", initializer=1.0)
    session.run(variable.initializer)
    saver = tf.train.Saver(write_format="shardscope")
    path = saved(saver, session, tmp_path / "m")
    session.run(variable.assign(2.0))
    failed: list[str] = []

    def fails(self: FolderStore, *arguments: Any) -> Any:
        failed.append(self.path)
        raise OSError(errno.ENOSPC, "No space left on device")

    for step in ("part_writer", "note_part", "_complete"):
        with monkeypatch.context() as patch:
            patch.setattr(FolderStore, step, fails)
            with pytest.raises(ResourceExhaustedError, match=r"cannot use the folder .* No space left on device"):
                saver.save(session, tmp_path / "m")
        assert tf.train.load_variable(path, "v") == 1.0
        assert sorted([each.name for each in tmp_path.iterdir()]) == ["checkpoint", "m"]
    assert len(failed) == 3


def test_a_damaged_file_is_named_and_nothing_is_restored(session: tf.Session, tmp_path: Path) -> None:
    a, b = (tf.get_variable(name, initializer=np.full(1000, 1.0)) for name in "ab")
    session.run(tf.global_variables_initializer())
    saver = tf.train.Saver(write_format="shardscope")
    path = saved(saver, session, tmp_path / "m")
    (part,) = Path(path).glob("*.safetensors")
    flip(part, part.stat().st_size - 1)
    session.run([a.assign(tf.zeros([1000], tf.float64)), b.assign(tf.zeros([1000], tf.float64))])
    with pytest.raises(DataLossError, match=str(part)):
        saver.restore(session, path)
    assert session.run([tf.reduce_sum(a), tf.reduce_sum(b)]) == [0, 0]


def test_a_name_that_no_checkpoint_can_have_is_refused(session: tf.Session, tmp_path: Path) -> None:
    variable = tf.get_variable("v", initializer=1.0)
    session.run(variable.initializer)
    saver = tf.train.Saver(write_format="shardscope")
    with pytest.raises(InvalidArgumentError, match="cannot be the name of a checkpoint"):
        saver.save(session, tmp_path / "a b")
    assert list(tmp_path.iterdir()) == []


def test_a_saver_restores_the_newest_of_a_folder_that_a_cluster_has_saved(tmp_path: Path) -> None:
    with SmallCluster(2) as cluster, tf.Session(cluster.client()) as session:
        variable = tf.get_variable("v", initializer=[1.0, 2.0])
        session.run(variable.initializer)
        saver = tf.train.Saver()
        for step in (1, 2):
            session.run(variable.assign([float(step), 0.0]))
            cluster.client().save(tmp_path / "run", step=step)
        session.run(variable.assign([5.0, 5.0]))
        for path, expected in ((tmp_path / "run", 2.0), (tmp_path / "run" / "step-000000001", 1.0)):
            saver.restore(session, path)
            assert session.run(variable)[0] == expected


def test_a_folder_with_no_checkpoint_says_what_was_looked_for(session: tf.Session, tmp_path: Path) -> None:
    tf.get_variable("v", [2])
    with pytest.raises(NotFoundError, match=rf"the folder {tmp_path} has no checkpoint: there is no manifest\.json"):
        tf.train.Saver().restore(session, tmp_path)


def test_this_form_needs_a_name_behind_a_slash(session: tf.Session, tmp_path: Path) -> None:
    several(session)
    with pytest.raises(InvalidArgumentError, match=rf"give one behind the slash, as {tmp_path}/run/model\.ckpt"):
        tf.train.Saver(write_format="shardscope").save(session, f"{tmp_path}/run/")
    assert list(tmp_path.iterdir()) == []
