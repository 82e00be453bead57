"""Saves that nobody waits for: what is in them, how they are told of, and how they end with their connection."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import worker_client as ss
from ps_protocol.errors import AlreadyExistsError, CancelledError, FailedPreconditionError
from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, installed
from tests.conftest import Eventually
from tests.forked import in_child
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster, assert_equal
from worker_client.checkpoints import methods
from worker_client.client import Client
from worker_client.connection.ending import Ending

TIMEOUT_S = 30.0


class Gate:
    """Has the tasks write no further until it is opened."""

    def __init__(self, client: Client, patch: pytest.MonkeyPatch):
        self.waiting, self._opened = threading.Event(), threading.Event()
        service = client._handles[0].service.checkpoints
        write = service.write

        def wait_and_write(*args: Any, **kwargs: Any) -> Any:
            self.waiting.set()
            assert self._opened.wait(TIMEOUT_S)
            return write(*args, **kwargs)

        patch.setattr(service, "write", wait_and_write, raising=False)

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def client(cluster: SmallCluster) -> Iterator[Client]:
    client = cluster.client()
    yield client
    client.close()


@pytest.fixture
def gate(client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(client, monkeypatch)
    yield gate
    gate.open()


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_save_for_which_there_is_no_thread_leaves_nothing(
    tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    Model(client)
    start = threading.Thread.start

    def start_no_save(thread: threading.Thread) -> None:
        if thread.name == "shardscope-save":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_no_save)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            client.save(tmp_path, step=1, wait=False)
    assert names(tmp_path) == []
    client.save(tmp_path, step=1)  # the ps tasks know no other one
    assert client._background._pending == []  # or its end would wait for it


def test_what_comes_after_the_call_is_not_in_the_checkpoint(
    tmp_path: Path, cluster: SmallCluster, client: Client, gate: Gate
) -> None:
    model = Model(client)
    model.train(0, 2)
    at_save = model.values()
    future = client.save(tmp_path, step=2, wait=False)
    model.train(2, 3)
    assert gate.waiting.wait(TIMEOUT_S)
    assert not future.done()
    assert ss.checkpoint.list(tmp_path) == []
    gate.open()
    saved = future.result(TIMEOUT_S)
    assert (saved.path, saved.step) == (str(tmp_path / "step-000000002"), 2)
    client.restore(saved)
    assert_equal(model.values(), at_save)


def test_what_keeps_it_from_beginning_is_raised_at_once(tmp_path: Path, client: Client) -> None:
    Model(client)
    client.save(tmp_path, name="x")
    with pytest.raises(AlreadyExistsError):
        client.save(tmp_path, name="x", wait=False)
    (tmp_path / "file").touch()
    with pytest.raises(FailedPreconditionError, match="cannot use the folder"):
        client.save(tmp_path / "file", wait=False, through="client")


def test_another_save_waits_for_it(
    tmp_path: Path, client: Client, gate: Gate, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    Model(client)
    first = client.save(tmp_path, name="first", wait=False)
    second = threading.Thread(target=client.save, args=(tmp_path,), kwargs={"name": "second"})
    second.start()
    assert gate.waiting.wait(TIMEOUT_S)
    assert not first.done()
    gate.open()
    second.join(TIMEOUT_S)
    assert first.done()
    assert [each.name for each in ss.checkpoint.list(tmp_path)] == ["first", "second"]


def test_a_failure_that_nobody_asks_for_is_said_once(
    tmp_path: Path, client: Client, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    Model(client)
    plan = FaultPlan((Fault("checkpoint.write", FaultAction.FAIL, 1, 1),))
    with installed(plan):
        asked = client.save(tmp_path, name="x", wait=False)
        with pytest.raises(FailedPreconditionError):
            asked.result(TIMEOUT_S)
    del asked
    assert "nobody asked" not in caplog.text
    plan = FaultPlan((Fault("checkpoint.write", FaultAction.FAIL, 1, 1),))
    with installed(plan):
        future = client.save(tmp_path, name="x", wait=False)
        eventually(future.done, message="it has failed")
        del future
    eventually(lambda: "nobody asked" in caplog.text, message="it is said")
    assert plan.fired("checkpoint.write") == 1
    assert f"an operation on the checkpoint {tmp_path}/x has failed" in caplog.text
    assert caplog.text.count("nobody asked") == 1
    assert names(tmp_path) == []


def test_a_connection_that_ends_well_waits_for_it(
    tmp_path: Path, client: Client, gate: Gate, eventually: Eventually
) -> None:
    Model(client)
    future = client.save(tmp_path, name="x", wait=False)
    assert gate.waiting.wait(TIMEOUT_S)
    closing = threading.Thread(target=client.close)
    closing.start()
    eventually(lambda: client not in ss.client.defaults.open_clients(), message="it is closing")  # type: ignore[attr-defined]
    assert closing.is_alive()
    gate.open()
    closing.join(TIMEOUT_S)
    assert future.result(0).path == str(tmp_path / "x")
    ss.checkpoint.verify(tmp_path)


def test_a_connection_that_ends_in_haste_gives_it_up(
    tmp_path: Path, client: Client, gate: Gate, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    Model(client)
    future = client.save(tmp_path, name="x", wait=False)
    assert gate.waiting.wait(TIMEOUT_S)
    ending = threading.Thread(target=client.end, args=(Ending(there_s=0.0, away_s=0.0),))
    ending.start()
    eventually(lambda: "is given up" in caplog.text, message="it does not wait")
    gate.open()
    ending.join(TIMEOUT_S)
    with pytest.raises(CancelledError, match="given up when its connection was closed"):
        future.result(TIMEOUT_S)
    eventually(lambda: names(tmp_path) == [], message="nothing is left")
    assert f"{tmp_path}/x is given up" in caplog.text
    assert caplog.text.count("given up") == 1


def test_an_interrupt_before_the_call_returns_leaves_nothing(
    tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    model = Model(client)
    service, told, calls = client._handles[0].service.checkpoints, threading.Event(), itertools.count()
    hold = service.hold

    def interrupt_first(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 0:
            signal.raise_signal(signal.SIGINT)  # Python runs the handler on the main thread
        assert told.wait(TIMEOUT_S)
        return hold(*args, **kwargs)

    monkeypatch.setattr(service, "hold", interrupt_first, raising=False)
    monkeypatch.setattr(methods, "GIVE_UP_S", 0.01)  # it is held up until then
    with pytest.raises(KeyboardInterrupt):
        client.save(tmp_path, name="x", wait=False)
    told.set()
    eventually(lambda: names(tmp_path) == [], message="what was begun is dropped")
    monkeypatch.undo()
    model.train(0, 1)  # nothing is held back
    client.save(tmp_path, name="y", wait=False).result(TIMEOUT_S)
    assert names(tmp_path) == ["y"]


def test_in_a_forked_child_it_has_failed(tmp_path: Path, client: Client, gate: Gate) -> None:
    Model(client)
    future = client.save(tmp_path, name="x", wait=False)
    assert gate.waiting.wait(TIMEOUT_S)

    def told() -> str:
        return str(future.exception(0))

    assert "belongs to the process that opened it" in in_child(told)
    assert not future.done()
    gate.open()
    assert future.result(TIMEOUT_S).path == str(tmp_path / "x")


def test_a_bar_is_for_terminals_alone(tmp_path: Path, client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    Model(client)
    client.save(tmp_path, name="x", show_progress=True)
    client.restore(tmp_path, show_progress=True)
    ss.checkpoint.verify(tmp_path, show_progress=True)
    assert capfd.readouterr() == ("", "")
