"""A ps task is killed at every step of a save and of a restore: what is there is the old or the new, whole."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import worker_client as ss
from ps_protocol.errors import FailedPreconditionError, ShardscopeError, StateLostError
from tests.chaos.ps_processes import PsTask
from tests.chaos.testbed import connected
from tests.s3_process import S3Process
from tests.unit.worker_client.checkpoints.small_clusters import Model, assert_equal
from worker_client.connection.retry import RetryPolicy
from worker_client.connection.settings import Settings

pytestmark = pytest.mark.chaos

NUM_PS = 2
IMPATIENT = Settings(
    operation_timeout_s=5.0, ps_grace_s=0, lease_s=0, retry=RetryPolicy(initial_backoff_s=0.01, max_backoff_s=0.05)
)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Process]:
    with S3Process() as s3:
        yield s3


@pytest.fixture(params=["folder", "s3"])
def checkpoints(request: pytest.FixtureRequest, s3: S3Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where checkpoints are."""
    if request.param == "folder":
        return str(tmp_path / "checkpoints")
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3.new_bucket()}/run"


@contextlib.contextmanager
def ps_tasks(directory: Path, durability: str) -> Iterator[list[PsTask]]:
    with contextlib.ExitStack() as stack:
        tasks = []
        for index in range(NUM_PS):
            (directory / f"ps-{index}").mkdir()
            tasks.append(stack.enter_context(PsTask(directory / f"ps-{index}", durability, index=index)))
        for task in tasks:
            task.cluster = tuple(each.address for each in tasks)
        yield tasks


def start(tasks: list[PsTask]) -> list[str]:
    for task in tasks:
        task.start()
    return [task.address for task in tasks]


def start_again(task: PsTask, faults: str) -> None:
    """Starts a task again from its journal, to die at the first pass through a place."""
    task.kill()
    task.start(faults)


SAVING = [
    ("checkpoint.begun", 1),
    ("checkpoint.held", 0),
    ("checkpoint.imaged", 1),
    ("checkpoint.write", 1),
    ("checkpoint.part_written", 0),
    ("checkpoint.before_publish", 0),
    ("checkpoint.before_visible", 0),
    ("checkpoint.visible", 0),
    ("checkpoint.published", 0),
]
WITHOUT_JOURNAL = ("checkpoint.imaged", "checkpoint.write", "checkpoint.before_visible", "checkpoint.visible")
IN_STORES = ("checkpoint.write", "checkpoint.before_visible", "checkpoint.visible")
VISIBLE = ("checkpoint.visible", "checkpoint.published")


CASES = [
    *[("folder", *each, "journal") for each in SAVING],
    *[("folder", *each, "none") for each in SAVING if each[0] in WITHOUT_JOURNAL],
    *[("s3", *each, "journal") for each in SAVING if each[0] in IN_STORES],
]


@pytest.mark.parametrize(("checkpoints", "place", "victim", "durability"), CASES, indirect=["checkpoints"])
def test_a_task_is_killed_while_a_checkpoint_is_saved(
    tmp_path: Path, checkpoints: str, place: str, victim: int, durability: str
) -> None:
    with ps_tasks(tmp_path, durability) as tasks:
        addresses = start(tasks)
        with connected(addresses, "grpc") as client:
            model = Model(client)
            model.train(0, 2)
            old = model.values()
            client.save(checkpoints, name="old")
            if durability == "none":
                new = old  # what it is started again with
            else:
                model.train(2, 2)
                new = model.values()
        start_again(tasks[victim], f"{place}=crash@1")
        with connected(addresses, "grpc", IMPATIENT) as client:
            if durability == "none":
                client.restore(f"{checkpoints}/old")
            with pytest.raises(ShardscopeError) as caught:
                client.save(checkpoints, name="new")
            assert caught.value.task == f"ps:{victim}"
        tasks[victim].wait()
        assert tasks[victim].faults == [(place, "crash")]
        names = [each.name for each in ss.checkpoint.list(checkpoints)]
        assert names == (["old", "new"] if place in VISIBLE else ["old"])
        tasks[victim].start()
        with connected(addresses, "grpc") as client:
            # Every checkpoint that can be seen is whole, and the state of a task with a journal untouched.
            if durability == "none":
                client.restore(f"{checkpoints}/old")
            model = Model(client)
            assert_equal(model.values(), new)
            for name, expected in (("old", old), ("new", new)):
                if name in names:
                    ss.checkpoint.verify(f"{checkpoints}/{name}")
                    client.restore(f"{checkpoints}/{name}")
                    assert_equal(model.values(), expected)
            client.save(checkpoints, name="again")
            ss.checkpoint.verify(f"{checkpoints}/again")
        ss.checkpoint.clean(checkpoints, older_than_s=1e-9)
        assert [each.name for each in ss.checkpoint.list(checkpoints)] == [*names, "again"]
        for each in [*names, "again"]:
            ss.checkpoint.verify(f"{checkpoints}/{each}")
        assert ss.checkpoint.clean(checkpoints, older_than_s=1e-9) == []


_SAVER = """
import sys, threading
from tests.chaos.testbed import connected

path, through, *addresses = sys.argv[1:]
print("saves", flush=True)
first = threading.Lock()

def stop(done, total):
    if first.acquire(blocking=False):  # for several ps tasks several threads tell of progress
        print("has written", flush=True)
    threading.Event().wait()

connected(addresses, "grpc", task_index=1).save(path, name="x", through=through, show_progress=stop)
"""


@pytest.mark.parametrize("through", ["ps", "client"])
def test_a_saver_is_killed(tmp_path: Path, checkpoints: str, through: str) -> None:
    with ps_tasks(tmp_path, "none") as tasks:
        addresses = start(tasks)
        with connected(addresses, "grpc") as client:
            model = Model(client)
            model.train(0, 2)
            expected = model.values()
            command = [sys.executable, "-c", _SAVER, checkpoints, through, *addresses]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as saver:
                assert saver.stdout is not None
                try:
                    assert [saver.stdout.readline() for _ in range(2)] == ["saves\n", "has written\n"]
                finally:
                    saver.kill()
            assert ss.checkpoint.list(checkpoints) == []
            assert_equal(model.values(), expected)
            model.train(2, 1)
    (left,) = ss.checkpoint.clean(checkpoints, older_than_s=1e-9)
    assert left.startswith(".x.")
    assert ss.checkpoint.clean(checkpoints, older_than_s=1e-9) == []
    assert ss.checkpoint.list(checkpoints) == []


def test_a_task_is_killed_while_it_removes_an_older_checkpoint(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    with ps_tasks(tmp_path, "none") as tasks:
        tasks[0].start("checkpoint.removing=crash@1")
        tasks[1].start()
        addresses = [task.address for task in tasks]
        with connected(addresses, "grpc", IMPATIENT) as client:
            model = Model(client)
            for step in range(2):
                client.save(checkpoints, step=step)
            model.train(0, 1)
            with pytest.raises(ShardscopeError):
                client.save(checkpoints, step=2, keep=1)
        tasks[0].wait()
        assert tasks[0].faults == [("checkpoint.removing", "crash")]
        tasks[0].start()
        with connected(addresses, "grpc") as client:
            names = [each.name for each in ss.checkpoint.list(checkpoints)]
            assert names == ["step-000000001", "step-000000002"]
            for name in names:
                ss.checkpoint.verify(checkpoints / name)
            client.restore(checkpoints)
            client.save(checkpoints, step=3, keep=1)
            assert [each.name for each in ss.checkpoint.list(checkpoints)] == ["step-000000003"]


RESTORING: list[tuple[str, bool | None]] = [
    ("restore.read", False),
    ("restore.staged", False),
    ("restore.prepared", False),
    ("restore.before_switch", False),
    ("restore.staged_in_log", False),
    ("restore.switching", None),  # the record about it may be safe or not
    ("restore.switched", True),
    ("restore.before_finish", True),
]


@pytest.mark.parametrize(("place", "is_new"), RESTORING, ids=[place for place, _ in RESTORING])
def test_a_task_is_killed_while_a_checkpoint_is_restored(tmp_path: Path, place: str, is_new: bool | None) -> None:
    checkpoints, victim = tmp_path / "checkpoints", 1
    before_switch = place in ("restore.read", "restore.staged", "restore.prepared")
    with ps_tasks(tmp_path, "journal") as tasks:
        addresses = start(tasks)
        with connected(addresses, "grpc") as client:
            model = Model(client)
            model.train(0, 2)
            saved = model.values()
            client.save(checkpoints, name="x")
            model.train(2, 2)
            running = model.values()
        start_again(tasks[victim], f"{place}=crash@1")
        with connected(addresses, "grpc", IMPATIENT) as client:
            with pytest.raises(ShardscopeError) as caught:
                client.restore(checkpoints / "x")
            assert caught.value.task == f"ps:{victim}"
            assert before_switch or "restore again" in caught.value.message
        tasks[victim].wait()
        assert tasks[victim].faults == [(place, "crash")]
        tasks[victim].start()
        with connected(addresses, "grpc") as client:
            if before_switch:
                found = [client.variable(name).read_value() for name in ("layer/whole", "layer/divided", "steps")]
                assert_equal(found, running)
            else:
                # One task has switched, so that it or both refuse until a restore is complete: no mixture is served.
                refused = [each for each in client.variables() if not each.slot_of and _is_refused(client, each.name)]
                assert {"ps:0"} <= {task for each in refused for task in each.task.split(",")}
                on_victim = [each for each in refused if each.task == f"ps:{victim}"]
                assert is_new in (bool(on_victim), None)
            client.restore(checkpoints / "x")
            assert_equal(Model(client).values(), saved)


def _is_refused(client: ss.Client, name: str) -> bool:
    try:
        client.variable(name).read_value()
    except StateLostError:
        raise
    except FailedPreconditionError:
        return True
    return False


@pytest.mark.parametrize("place", [place for place, _ in RESTORING if place != "restore.staged_in_log"])
def test_a_task_without_durability_is_killed_while_a_checkpoint_is_restored(tmp_path: Path, place: str) -> None:
    checkpoints = tmp_path / "checkpoints"
    before_switch = place in ("restore.read", "restore.staged", "restore.prepared")
    with ps_tasks(tmp_path, "none") as tasks:
        tasks[0].start()
        tasks[1].start(f"{place}=crash@1")
        addresses = [task.address for task in tasks]
        with connected(addresses, "grpc", IMPATIENT) as client:
            model = Model(client)
            model.train(0, 2)
            saved = model.values()
            client.save(checkpoints, name="x")
            model.train(2, 1)
            running = model.values()
            with pytest.raises(ShardscopeError, match=None if before_switch else "restore again"):
                client.restore(checkpoints / "x")
        tasks[1].wait()
        assert tasks[1].faults == [(place, "crash")]
        tasks[1].start()
        with connected(addresses, "grpc") as client:
            whole = client.variable("layer/whole")
            if before_switch:
                assert whole.read_value().tobytes() == running[0].tobytes()
            elif place == "restore.before_finish" and not _is_refused(client, "layer/whole"):
                assert whole.read_value().tobytes() == saved[0].tobytes()  # all had switched, and it knew that
            else:
                with pytest.raises(FailedPreconditionError, match="whether all others have is not known"):
                    whole.read_value()
            client.restore(checkpoints / "x")
            assert_equal(Model(client).values(), saved)
