"""Saving and restoring in several batches, the next fetched while the last is put in place, and how that fails."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from ps_protocol.operations import Read
from ps_protocol.tensorflow_files.bundle_writer import ShardWriter
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.connection.fanout import Fanout, Routed
from worker_client.training.savers import transfer

WAIT_S = 10.0
NUM_VALUES = 12
FORMS = ["tensorflow", "shardscope"]


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """One value of each ps task at a time."""
    monkeypatch.setattr(transfer.save_variables, "__kwdefaults__", {"sharded": False, "batch_bytes": 32})
    monkeypatch.setattr(transfer.restore_variables, "__kwdefaults__", {"reshape": False, "batch_bytes": 32})


@pytest.fixture(params=["cluster", "private"])
def session(request: pytest.FixtureRequest, cluster: InProcessCluster) -> Iterator[tf.Session]:
    with tf.Session(cluster.client()) if request.param == "cluster" else tf.Session() as session:
        yield session


@pytest.fixture
def variables(session: tf.Session) -> list[Any]:
    made = [
        tf.get_variable(f"v{number}", [8], initializer=tf.constant_initializer(float(number)))
        for number in range(NUM_VALUES)
    ]
    session.run(tf.global_variables_initializer())
    return made


def values(session: tf.Session, variables: Sequence[Any]) -> list[float]:
    return [float(value[0]) for value in session.run(list(variables)) if (value == value[0]).all()]


EXPECTED = [float(number) for number in range(NUM_VALUES)]


def add_ten(session: tf.Session, variables: Sequence[Any]) -> None:
    session.run([each.assign_add(np.full(8, 10.0)) for each in variables])


class Reads:
    """Notes on which threads values are read from the ps tasks, and may fail at one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.threads: list[int] = []
        self.fails_at: int | None = None
        self.has_failed = False
        self.begun = threading.Semaphore(0)  # freed by each read of another thread
        exchange_all = Fanout.exchange_all

        def noted(fanout: Fanout, routed: Sequence[Routed], settle: Any = None) -> Any:
            if routed and isinstance(routed[0].operation, Read) and routed[0].operation.view:
                self.threads.append(threading.get_ident())
                if threading.current_thread() is not threading.main_thread():
                    self.begun.release()
                if len(self.threads) == self.fails_at:
                    self.has_failed = True
                    raise tf.errors.UnavailableError("the ps is gone")
            return exchange_all(fanout, routed, settle)

        monkeypatch.setattr(Fanout, "exchange_all", noted)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.mark.parametrize("form", FORMS)
def test_many_batches_are_saved_and_restored_through_the_same_memory(
    session: tf.Session, variables: list[Any], reads: Reads, tmp_path: Path, form: str
) -> None:
    saver = tf.train.Saver(write_format=form)
    path = saver.save(session, tmp_path / "m")
    assert len(reads.threads) >= NUM_VALUES // 2
    assert reads.threads[0] == threading.get_ident()  # with nothing to do meanwhile
    assert threading.get_ident() not in reads.threads[1:]
    add_ten(session, variables)
    saver.restore(session, path)
    assert values(session, variables) == EXPECTED
    add_ten(session, variables[:1])  # each has memory of its own
    assert values(session, variables) == [10.0, *EXPECTED[1:]]


@pytest.mark.usefixtures("variables")
def test_the_next_values_are_read_while_those_before_are_written(
    session: tf.Session, reads: Reads, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    add, waited = ShardWriter.add, 0

    def slow(writer: ShardWriter, name: str, value: Any) -> None:
        nonlocal waited
        if not waited:
            assert reads.begun.acquire(timeout=WAIT_S)
            waited += 1
        add(writer, name, value)

    monkeypatch.setattr(ShardWriter, "add", slow)
    tf.train.Saver().save(session, tmp_path / "m")
    assert waited


def fail_writing(form: str, monkeypatch: pytest.MonkeyPatch, error: BaseException, reads: Reads) -> Callable[[], int]:
    """Has the fourth value that is written fail, when others were read ahead; returns what counts the failures."""
    from worker_client.training.savers import formats  # noqa: PLC0415 - private names of it

    kind: Any = formats._NewTensorFlow if form == "tensorflow" else formats._NewShardscope
    add, calls, failures = kind.add, 0, 0

    def failing(checkpoint: Any, *arguments: Any) -> None:
        nonlocal calls, failures
        calls += 1
        if calls == 4:
            assert reads.begun.acquire(timeout=WAIT_S)
            failures += 1
            raise error
        add(checkpoint, *arguments)

    monkeypatch.setattr(kind, "add", failing)
    return lambda: failures


@pytest.mark.parametrize("failure", ["write", "interrupted write", "read"])
@pytest.mark.parametrize("form", FORMS)
def test_a_failure_between_two_batches_leaves_the_checkpoint_before_and_a_session_that_works(
    session: tf.Session,
    variables: list[Any],
    reads: Reads,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    form: str,
    failure: str,
) -> None:
    saver = tf.train.Saver(write_format=form)
    before = saver.save(session, tmp_path / "m", 1)
    files = sorted(each.name for each in tmp_path.iterdir())
    add_ten(session, variables)
    reads.threads.clear()
    reads.begun = threading.Semaphore(0)
    with monkeypatch.context() as patch:
        if failure == "read":
            reads.fails_at = 3
            with pytest.raises(tf.errors.UnavailableError, match="the ps is gone"):
                saver.save(session, tmp_path / "m", 2)
            assert reads.has_failed
            reads.fails_at = None
        else:
            error = KeyboardInterrupt() if "interrupted" in failure else OSError(errno.ENOSPC, "No space left")
            failed = fail_writing(form, patch, error, reads)
            with pytest.raises(type(error)):
                saver.save(session, tmp_path / "m", 2)
            assert failed() == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == files
    assert tf.train.latest_checkpoint(str(tmp_path)) == before
    after = saver.save(session, tmp_path / "m", 3)
    for path, expected in ((before, EXPECTED), (after, [each + 10.0 for each in EXPECTED])):
        saver.restore(session, path)
        assert values(session, variables) == expected


def test_values_that_need_more_memory_than_there_is_room_for_take_turns_between_the_tasks(
    cluster: InProcessCluster, reads: Reads, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ps_protocol.tensor_files.ahead.MOST_BYTES", 40)  # more than one value, less than two
    seen: list[list[int | None]] = []
    values_of = transfer._values

    def noted(home: Any, batch: Any) -> Any:
        seen.append([task for task, _ in batch])
        return values_of(home, batch)

    monkeypatch.setattr(transfer, "_values", noted)
    made = [tf.get_variable(f"w{number}", [8], initializer=tf.ones_initializer()) for number in range(4)]
    with tf.Session(cluster.client()) as session:
        session.run(tf.global_variables_initializer())
        path = tf.train.Saver().save(session, tmp_path / "m")
        assert seen == [[0], [1], [0], [1]]
        assert set(reads.threads) == {threading.get_ident()}  # none is read before the one before is written
        add_ten(session, made)
        tf.train.Saver().restore(session, path)
        assert values(session, made) == [1.0] * 4


def test_a_value_may_have_another_shape_than_its_variable(session: tf.Session, tmp_path: Path) -> None:
    made = [tf.get_variable(name, [8], initializer=tf.ones_initializer()) for name in "abc"]
    longer = tf.assign(made[2], np.arange(12, dtype=np.float32), validate_shape=False)
    session.run(tf.global_variables_initializer())
    session.run(longer)
    path = tf.train.Saver().save(session, tmp_path / "m")
    np.testing.assert_array_equal(tf.train.load_variable(path or "", "c"), np.arange(12))
