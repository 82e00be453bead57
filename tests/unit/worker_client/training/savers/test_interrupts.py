"""A save and a restore that are interrupted at each place where a signal may come: checkpoints stay whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import worker_client.compat.v1 as tf
from tests.interrupted_places import close_lost, interrupted_at, remove
from worker_client.training.savers import transfer


@pytest.fixture(autouse=True)
def no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # hundreds of saves need no disk


@pytest.fixture(autouse=True, params=["one batch", "two batches"])
def batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "two batches":  # of which the second is fetched by another thread
        monkeypatch.setattr(transfer.save_variables, "__kwdefaults__", {"sharded": False, "batch_bytes": 4})
        monkeypatch.setattr(transfer.restore_variables, "__kwdefaults__", {"reshape": False, "batch_bytes": 4})


@pytest.fixture(autouse=True)
def few_are_lost(tmp_path: Path) -> Iterator[None]:
    """An interrupt between the opening of a file and the note of its number leaves it open."""
    yield
    assert close_lost(tmp_path) < 20


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_save_in_the_place_of_another_leaves_one_of_both(tmp_path: Path) -> None:
    a, b = (tf.get_variable(name, initializer=0.0) for name in "ab")
    add = tf.group(a.assign_add(1.0), b.assign_add(1.0))
    saver = tf.train.Saver(write_format="shardscope")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        path = saver.save(session, tmp_path / "m") or ""
        number, is_passed, before = 0, True, 0.0
        while is_passed:
            number += 1
            session.run(add)
            is_passed = interrupted_at(number, lambda: saver.save(session, tmp_path / "m"))
            values = {name: float(tf.train.load_variable(path, name)) for name in "ab"}
            assert values in ({"a": before, "b": before}, {"a": number, "b": number})
            before = values["a"]
            for file in tmp_path.glob(".*.tmp"):
                remove(file)
        assert number > 100


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("form", ["tensorflow", "shardscope"])
def test_an_interrupted_save_leaves_the_checkpoint_before_or_its_own(tmp_path: Path, form: str) -> None:
    a, b = (tf.get_variable(name, initializer=0.0) for name in "ab")
    add = tf.group(a.assign_add(1.0), b.assign_add(1.0))
    saver = tf.train.Saver(max_to_keep=2, write_format=form)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        saver.save(session, tmp_path / "m", 0)
        number, is_passed, left = 0, True, 0
        while is_passed:
            number += 1
            session.run(add)
            is_passed = interrupted_at(number, lambda: saver.save(session, tmp_path / "m", number))  # noqa: B023
            newest = tf.train.latest_checkpoint(str(tmp_path))
            assert newest in (str(tmp_path / f"m-{number - 1}"), str(tmp_path / f"m-{number}"))
            values = {name: float(tf.train.load_variable(newest, name)) for name in "ab"}
            step = float(newest.rpartition("-")[2])
            assert values == {"a": step, "b": step}
            for file in tmp_path.glob(".*.tmp"):  # interrupted before anybody knew that the file was there
                remove(file)
                left += 1
            saver.save(session, tmp_path / "m", number)  # the next one works
        assert number > 100
        assert left < 0.1 * number


def test_an_interrupted_restore_can_be_made_again(tmp_path: Path) -> None:
    a, b = (tf.get_variable(name, initializer=1.0) for name in "ab")
    saver = tf.train.Saver()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        path = saver.save(session, tmp_path / "m")
        change = [a.assign(5.0), b.assign(5.0)]
        number, is_passed = 0, True
        while is_passed:
            number += 1
            session.run(change)
            is_passed = interrupted_at(number, lambda: saver.restore(session, path))
            found: Any = session.run([a, b])
            assert found in ([5.0, 5.0], [1.0, 1.0], [1.0, 5.0])  # the last between two batches
            saver.restore(session, path)
            assert session.run([a, b]) == [1.0, 1.0]
        assert number > 50
