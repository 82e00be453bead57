"""Savers: what is left of an interrupted save, bounded batches, nothing half restored, names of errors.

That they do what TensorFlow's do is in ``tests/conformance``: its programs ``saver_*``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardscope as ss
import worker_client.compat.v1 as tf
from ps_protocol.errors import NotFoundError, UnimplementedError
from ps_protocol.operations import Read, Update
from ps_protocol.tensorflow_files import bundle_writer
from tests.checkpoint_files import extracted
from tests.unit.worker_client.clusters import InProcessCluster
from tests.unit.worker_client.naming_fakes import eager_graph
from worker_client.connection.fanout import Fanout, Routed
from worker_client.training.savers import transfer
from worker_client.training.savers.saver_graph import path_of


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


class Exchanges:
    """Notes what the exchanges of connections carry, and may fail at one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.seen: list[list[Routed]] = []
        self.fail_at: int | None = None
        exchange_all = Fanout.exchange_all

        def noted(fanout: Fanout, routed: Sequence[Routed], settle: Any = None) -> Any:
            self.seen.append(list(routed))
            if self.fail_at is not None and len(self.seen) > self.fail_at:
                raise KeyboardInterrupt
            return exchange_all(fanout, routed, settle)

        monkeypatch.setattr(Fanout, "exchange_all", noted)

    def of(self, kind: type) -> list[list[tuple[int | None, str]]]:
        """What operations of one kind each exchange had: task and variable."""
        found = [
            [(each.ps_task, each.operation.name) for each in routed if isinstance(each.operation, kind)]
            for routed in self.seen
        ]
        return [each for each in found if each]


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> Exchanges:
    return Exchanges(monkeypatch)


def four_variables() -> list[Any]:
    return [
        tf.get_variable(name, [8], initializer=tf.constant_initializer(number)) for number, name in enumerate("abcd")
    ]


def values_in(path: str) -> dict[str, Any]:
    with ss.checkpoint.open_tensorflow(path) as checkpoint:
        return {name: tensor.read().tolist() for name, tensor in checkpoint.items()}


def test_one_exchange_for_each_task_saves_a_small_model_and_one_restores_it(
    cluster: InProcessCluster, exchanges: Exchanges, tmp_path: Path
) -> None:
    variables = four_variables()
    saver = tf.train.Saver()
    with tf.Session(cluster.client()) as session:
        session.run(tf.global_variables_initializer())
        exchanges.seen.clear()
        path = saver.save(session, tmp_path / "m")
        assert len(exchanges.seen) == 1
        assert sorted(exchanges.of(Read)[0]) == [(0, "a"), (0, "c"), (1, "b"), (1, "d")]
        session.run([each.assign(np.zeros(8)) for each in variables])
        exchanges.seen.clear()
        saver.restore(session, path)
        assert [sorted(each) for each in exchanges.of(Update)] == [[(0, "a"), (0, "c"), (1, "b"), (1, "d")]]
        assert [value[0] for value in session.run(variables)] == [0.0, 1.0, 2.0, 3.0]


def test_large_values_go_in_batches_of_a_bounded_size_for_each_task(
    cluster: InProcessCluster, exchanges: Exchanges, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(transfer.save_variables, "__kwdefaults__", {"sharded": False, "batch_bytes": 32})
    monkeypatch.setattr(transfer.restore_variables, "__kwdefaults__", {"reshape": False, "batch_bytes": 32})
    variables = four_variables()
    saver = tf.train.Saver()
    with tf.Session(cluster.client()) as session:
        session.run(tf.global_variables_initializer())
        exchanges.seen.clear()
        path = saver.save(session, str(tmp_path / "m"))
        assert exchanges.of(Read) == [[(0, "a"), (1, "b")], [(0, "c"), (1, "d")]]
        exchanges.seen.clear()
        saver.restore(session, path)
        assert exchanges.of(Update) == [[(0, "a"), (1, "b")], [(0, "c"), (1, "d")]]
        assert [value[0] for value in session.run(variables)] == [0.0, 1.0, 2.0, 3.0]


def test_a_sharded_saver_writes_a_file_for_each_ps_task(cluster: InProcessCluster, tmp_path: Path) -> None:
    variables = [*four_variables(), tf.get_local_variable("mine", initializer=[7.0])]
    with tf.Session(cluster.client()) as session:
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        path = tf.train.Saver(variables, sharded=True).save(session, tmp_path / "m")
        assert sorted(each.name for each in tmp_path.glob("m.data*")) == [
            f"m.data-0000{number}-of-00003" for number in range(3)
        ]
        session.run([each.assign(each * 0.0 - 1.0) for each in variables])
        tf.train.Saver(variables).restore(session, path)
        assert [value[0] for value in session.run(variables)] == [0.0, 1.0, 2.0, 3.0, 7.0]


@pytest.mark.parametrize("step", ["read", "data", "index", "state"])
def test_an_interrupted_save_leaves_what_was_saved_before(
    cluster: InProcessCluster, exchanges: Exchanges, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str
) -> None:
    (variable,) = [tf.get_variable("v", initializer=[1.0])]
    saver = tf.train.Saver()
    with tf.Session(cluster.client()) as session:
        session.run(variable.initializer)
        before = saver.save(session, tmp_path / "m", 1)
        files = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
        session.run(variable.assign([2.0]))
        fired = interrupted(step, exchanges, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            saver.save(session, tmp_path / "m", 2)
        assert fired()
        exchanges.fail_at = None
        monkeypatch.undo()
        for name, content in files.items():
            assert (tmp_path / name).read_bytes() == content
        assert tf.train.latest_checkpoint(str(tmp_path)) == before
        assert saver.last_checkpoints[0] == before
        whole = tf.train.checkpoint_exists(str(tmp_path / "m-2"))
        assert whole == (step == "state")
        assert not [each for each in tmp_path.iterdir() if each.name.endswith(".tmp")]
        saver.restore(session, before)
        assert session.run(variable).tolist() == [1.0]
        saver.save(session, tmp_path / "m", 3)
        assert values_in(str(tmp_path / "m-3")) == {"v": [1.0]}


def interrupted(step: str, exchanges: Exchanges, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Has a save be interrupted at a step; returns what tells whether it was."""
    if step == "read":
        exchanges.seen.clear()
        exchanges.fail_at = 0
        return lambda: bool(exchanges.of(Read))
    happened: list[str] = []
    replace = Path.replace

    def replaced(path: Path, target: Path) -> Path:
        kind = "state" if target.name == "checkpoint" else "index" if target.name.endswith(".index") else "data"
        if kind == step:
            happened.append(target.name)
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replaced)
    return lambda: len(happened) == 1


def test_nothing_is_restored_unless_all_of_it_is_there_and_fits(cluster: InProcessCluster, tmp_path: Path) -> None:
    a, b = (tf.get_variable(name, initializer=[1.0, 2.0]) for name in "ab")
    with tf.Session(cluster.client()) as session:
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver([a]).save(session, str(tmp_path / "m"))
        session.run(a.assign([5.0, 5.0]))
        with pytest.raises(
            tf.errors.NotFoundError, match=r"(?s)graph key that is missing.*Key b not found.*m"
        ) as caught:
            tf.train.Saver().restore(session, path)
        assert caught.value.variable == "b"
        c = tf.get_variable("c", initializer=3)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)mismatch.*a; expected dtype int32 .* float32"):
            tf.train.Saver({"a": c}).restore(session, path)
        d = tf.get_variable("d", [3])
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)variable d has the shape \[3\].*\[2\]"):
            tf.train.Saver({"a": d}).restore(session, path)
        assert session.run(a).tolist() == [5.0, 5.0]
        assert sorted(session.run(tf.report_uninitialized_variables([c, d])).tolist()) == [b"c", b"d"]
    del b


def test_many_missing_names_are_listed_but_not_all(tmp_path: Path) -> None:
    variables = [tf.get_variable(f"v{number:02}", initializer=0.0) for number in range(20)]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver(variables[:1]).save(session, str(tmp_path / "m"))
        with pytest.raises(NotFoundError, match=r"Key v01, v02.*v10 and 9 more not found"):
            tf.train.Saver().restore(session, path)


def test_values_without_a_first_one_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    tf.get_variable("never", initializer=[1.0])
    with tf.Session() as session, pytest.raises(tf.errors.FailedPreconditionError, match="never"):
        tf.train.Saver().save(session, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_some_parts_alone_are_restored_but_not_saved_unless_under_a_name_of_their_own(tmp_path: Path) -> None:
    zeros = tf.zeros_initializer()
    variable = tf.get_variable("v", [4], initializer=zeros, partitioner=tf.fixed_size_partitioner(2))
    first, second = variable
    whole, part = tf.train.Saver(), tf.train.Saver([second])
    with tf.Session() as session:
        session.run(variable.assign([1.0, 2.0, 3.0, 4.0]))
        path = whole.save(session, tmp_path / "m")
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"v cannot be saved .* v/part_1; save all"):
            part.save(session, tmp_path / "m")
        session.run([first.initializer, second.initializer])
        part.restore(session, path)
        assert session.run([first, second])[1].tolist() == [3.0, 4.0]
        alone = tf.train.Saver({"tail": second}).save(session, tmp_path / "alone")
    assert values_in(alone or "") == {"tail": [3.0, 4.0]}


@pytest.mark.parametrize("version", [1, 2])
def test_parts_that_tensorflow_has_saved_alone_are_restored(version: int, tmp_path: Path) -> None:
    recorded = extracted("some_parts" if version == 2 else "version_1_some_parts", tmp_path)
    with tf.variable_scope("net", partitioner=tf.fixed_size_partitioner(3)):
        first, second, _ = variable = tf.get_variable("v", [7, 2], initializer=tf.zeros_initializer())
    alone = tf.get_variable("w", [2])
    savers = [tf.train.Saver([second, alone]), tf.train.Saver([first]), tf.train.Saver({"net/v": variable})]
    assert dict(tf.train.list_variables(recorded.path)) == {"net/v": [7, 2], "w": [2]}
    with tf.Session() as session:
        savers[0].restore(session, recorded.path)
        assert session.run(second).tolist() == [[6, 7], [8, 9]]
        for saver in savers[1:]:
            with pytest.raises(
                tf.errors.InvalidArgumentError,
                match=r"only parts, \[2, 2\] at \[3, 0\]; variable net/v/part_0 needs \[3, 2\] at \[0, 0\]",
            ):
                saver.restore(session, recorded.path)
    with pytest.raises(NotFoundError, match=r"'net/v' \[7, 2\] only parts"):
        tf.train.load_variable(recorded.path, "net/v")


def test_a_place_that_is_no_directory_is_refused_as_by_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    variable = tf.get_variable("v", initializer=[1.0])
    with tf.Session() as session:
        session.run(variable.initializer)
        with pytest.raises(ValueError, match=r"Parent directory of .*/file/m doesn't exist, can't save"):
            tf.train.Saver().save(session, tmp_path / "file" / "m")


def test_a_url_of_a_file_is_its_path_and_a_truth_value_a_number(tmp_path: Path) -> None:
    variable = tf.get_variable("v", initializer=[1.0])
    saver = tf.train.Saver()
    with tf.Session() as session:
        session.run(variable.initializer)
        assert saver.save(session, f"file://{tmp_path}/m", global_step=True) == f"file://{tmp_path}/m-1"
        saver.restore(session, tf.train.latest_checkpoint(f"file://{tmp_path}"))
        assert values_in(str(tmp_path / "m-1")) == {"v": [1.0]}
        with pytest.raises(tf.errors.UnimplementedError, match="gs://bucket/m is not on this machine"):
            saver.save(session, "gs://bucket/m")


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    variable = tf.get_variable("v", initializer=[1.0, 2.0])
    saver = tf.train.Saver()
    with tf.Session() as session:
        session.run(variable.initializer)
        path = saver.save(session, str(tmp_path / "m"))
        data = tmp_path / "m.data-00000-of-00001"
        data.write_bytes(b"\x01" + data.read_bytes()[1:])
        with pytest.raises(tf.errors.DataLossError, match=r"m\.data-00000-of-00001"):
            saver.restore(session, path)
        assert session.run(variable).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_nothing_is_restored_if_what_comes_in_a_later_batch_is_damaged(
    cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    monkeypatch.setattr(transfer.restore_variables, "__kwdefaults__", {"reshape": False, "batch_bytes": 32})
    variables = four_variables()
    saver = tf.train.Saver(sharded=True)
    with tf.Session(cluster.client()) as session:
        session.run(tf.global_variables_initializer())
        path = saver.save(session, tmp_path / "m")
        data = tmp_path / "m.data-00001-of-00002"  # of ps 1: first b, and then d
        content = data.read_bytes()
        if damage == "missing":
            data.unlink()
        else:
            data.write_bytes(content[:-1] + (b"\x01" if damage == "flipped" else b""))
        session.run([each.assign(each * 0.0 - 1.0) for each in variables])
        kind = tf.errors.NotFoundError if damage == "missing" else tf.errors.DataLossError
        with pytest.raises(kind, match=r"m\.data-00001"):
            saver.restore(session, path)
        assert [value[0] for value in session.run(variables)] == [-1.0] * 4
        data.write_bytes(content)
        saver.restore(session, path)
        assert [value[0] for value in session.run(variables)] == [0.0, 1.0, 2.0, 3.0]


def test_a_full_disk_ends_the_save_and_leaves_the_last_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variable = tf.get_variable("v", initializer=np.zeros(1000, np.float32))
    saver = tf.train.Saver()
    with tf.Session() as session:
        session.run(variable.initializer)
        before = saver.save(session, tmp_path / "m", 1)
        written: list[Path] = []

        def full(writer: bundle_writer.ShardWriter, *_: Any) -> None:
            written.append(writer._new.path)
            raise OSError(28, os.strerror(28))

        monkeypatch.setattr(bundle_writer.ShardWriter, "_write_numbers", full)
        with pytest.raises(tf.errors.ResourceExhaustedError, match=r"m-2\.data"):
            saver.save(session, tmp_path / "m", 2)
        assert len(written) == 1
        assert tf.train.latest_checkpoint(str(tmp_path)) == before
        assert sorted(each.name for each in tmp_path.iterdir()) == [
            *("checkpoint", "m-1.data-00000-of-00001", "m-1.index")
        ]


def test_a_checkpoint_is_deleted_when_the_newer_one_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    variable = tf.get_variable("v", initializer=1.0)
    saver = tf.train.Saver(max_to_keep=1)
    with tf.Session() as session:
        session.run(variable.initializer)
        before = saver.save(session, tmp_path / "m", 1)
        assert before is not None

        def full(*_: Any) -> None:
            raise OSError(28, os.strerror(28))

        with monkeypatch.context() as disk:
            disk.setattr("worker_client.training.savers.saver.update_checkpoint_state", full)
            with pytest.raises(OSError, match="No space left"):
                saver.save(session, tmp_path / "m", 2)
        variable.load(2.0, session)
        assert tf.train.latest_checkpoint(str(tmp_path)) == before
        saver.restore(session, before)
        assert session.run(variable) == 1.0
        assert saver.save(session, tmp_path / "m", 3) == tf.train.latest_checkpoint(str(tmp_path))
        assert not tf.train.checkpoint_exists(before)


def test_a_deleted_checkpoint_that_cannot_be_deleted_is_only_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tf.get_variable("v", initializer=0.0)
    saver = tf.train.Saver(max_to_keep=1)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        saver.save(session, tmp_path / "m", 1)

        unlink = Path.unlink

        def refused(path: Path, missing_ok: bool = False) -> None:
            if path.name.startswith("m-1."):
                raise PermissionError(13, "not allowed", str(path))
            unlink(path, missing_ok)

        monkeypatch.setattr(Path, "unlink", refused)
        with caplog.at_level("WARNING", logger="tensorflow"):
            assert saver.save(session, tmp_path / "m", 2) == str(tmp_path / "m-2")
    assert "Ignoring: [Errno 13] not allowed" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"builder": object()}, NotImplementedError, "builder"),
        ({"write_version": tf.train.SaverDef.V1}, NotImplementedError, "version 2"),
        ({"write_format": "npz"}, ValueError, "'npz'.*tensorflow"),
    ],
    ids=["builder", "version", "format"],
)
def test_arguments_that_cannot_be_followed_are_refused(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    tf.get_variable("v", initializer=0.0)
    with pytest.raises(error, match=words):
        tf.train.Saver(**arguments)


def test_a_url_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tf.Variable([1.0])
    with tf.Session() as session, pytest.raises(UnimplementedError, match="s3://b/m is not on this machine"):
        tf.train.Saver().save(session, "s3://b/m")
    assert list(tmp_path.iterdir()) == []


def test_a_saver_needs_a_deferred_graph() -> None:
    with eager_graph().as_default(), pytest.raises(RuntimeError, match="deferred graph"):
        tf.train.Saver()


def test_a_monitored_session_is_no_session_to_save(tmp_path: Path) -> None:
    tf.get_variable("v", initializer=0.0)
    saver = tf.train.Saver()
    with tf.train.MonitoredSession() as session, pytest.raises(TypeError, match="must be a Session"):
        saver.save(session, tmp_path / "m")  # type: ignore[arg-type]


def test_values_of_any_shape_are_restored_where_the_shape_is_left_open(tmp_path: Path) -> None:
    source = tf.placeholder(tf.float32, name="source")
    variable = tf.Variable(source, name="v", validate_shape=False)
    saver = tf.train.Saver()
    with tf.Session() as session:
        session.run(variable.initializer, {source: [1.0, 2.0, 3.0]})
        path = saver.save(session, str(tmp_path / "m"))
        session.run(variable.initializer, {source: [[5.0]]})
        saver.restore(session, path)
        assert session.run(variable).tolist() == [1.0, 2.0, 3.0]


def test_a_run_behind_the_restoring_reads_what_was_restored(tmp_path: Path) -> None:
    variable = tf.get_variable("v", initializer=[1.0])
    saver = tf.train.Saver()
    with tf.control_dependencies([tf.get_default_graph().get_operation_by_name("save/restore_all")]):
        after = variable.read_value() + 10.0
    with tf.Session() as session:
        session.run(variable.initializer)
        path = saver.save(session, str(tmp_path / "m"))
        session.run(variable.assign([7.0]))
        assert session.run(after, {saver.saver_def.filename_tensor_name: path}).tolist() == [11.0]


def test_a_worker_waits_with_saving_until_the_chief_has_given_values(cluster: InProcessCluster, tmp_path: Path) -> None:
    variable = tf.get_variable("v", initializer=[4.0])
    saver = tf.train.Saver()
    with tf.Session(cluster.client()) as chief, tf.Session(cluster.client(1)) as worker:
        chief.run(variable.initializer)
        assert values_in(saver.save(worker, str(tmp_path / "m")) or "") == {"v": [4.0]}


def test_paths_are_texts_of_the_file_system() -> None:
    assert path_of(np.array("dïr/m", object)) == "dïr/m"
    assert path_of(np.array(b"d\xff", object)) == os.fsdecode(b"d\xff")


def files_in(folder: Path) -> set[str]:
    return {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}


@pytest.mark.parametrize("sharded", [False, True], ids=["one file", "sharded"])
def test_behind_a_slash_files_have_no_name_as_tensorflows(tmp_path: Path, sharded: bool) -> None:
    variable = tf.get_variable("v", initializer=[1.0, 2.0])
    saver = tf.train.Saver(sharded=sharded)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        path, numbered = f"{tmp_path}/run/", f"{tmp_path}/numbered/checkpoint/"
        assert saver.save(session, path) == path
        assert saver.save(session, numbered, global_step=7) == f"{numbered}-7"
        assert saver.save(session, numbered) == numbered  # though the file beside them is called so, too
        names = [".data-00000-of-00001", ".index", "checkpoint"]
        assert files_in(tmp_path / "run") == {*names}
        assert files_in(tmp_path / "numbered" / "checkpoint") == {*names, "-7.data-00000-of-00001", "-7.index"}
        for found in (path, f"{numbered}-7", numbered):
            session.run(variable.assign([0.0, 0.0]))
            saver.restore(session, found)
            assert session.run(variable).tolist() == [1.0, 2.0]
    assert tf.train.latest_checkpoint(f"{tmp_path}/run") == path
    assert tf.train.load_variable(f"{tmp_path}/run", "v").tolist() == [1.0, 2.0]
    (tmp_path / "run").rename(tmp_path / "moved")
    assert values_in(f"{tmp_path}/moved") == {"v": [1.0, 2.0]}
    assert ss.checkpoint.import_from(f"{tmp_path}/moved/", tmp_path / "imported").names == ("v",)


def test_no_path_at_all_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tf.get_variable("v", initializer=[1.0])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        with pytest.raises(ValueError, match="no path specified"):
            tf.train.Saver().save(session, "")
    assert files_in(tmp_path) == set()


def test_shards_of_an_older_checkpoint_in_other_files_do_not_count_and_go_with_it(tmp_path: Path) -> None:
    """As TensorFlow does: they stay beside the new one, and are deleted with it."""
    tf.get_variable("v", initializer=[1.0, 2.0])
    saver = tf.train.Saver(max_to_keep=1)
    stale = {f"m-1.data-{number:05d}-of-00003" for number in range(3)}
    for name in stale:
        (tmp_path / name).write_bytes(b"of before")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        path = saver.save(session, f"{tmp_path}/m", global_step=1)
        assert files_in(tmp_path) == {"m-1.data-00000-of-00001", "m-1.index", "checkpoint", *stale}
        saver.restore(session, path)
        saver.save(session, f"{tmp_path}/m", global_step=2)
    assert files_in(tmp_path) == {"m-2.data-00000-of-00001", "m-2.index", "checkpoint"}
