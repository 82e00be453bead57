from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from ps_protocol.errors import DeadlineExceededError
from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, InjectedFaultError, installed
from ps_protocol.operations import VariableSpec
from ps_server.background.loops import Troubles
from ps_server.durability.snapshots.files import SnapshotFiles
from ps_server.durability.snapshots.policies import SinceLast, SnapshotPolicy
from ps_server.durability.snapshots.snapshotter import Snapshotter
from ps_server.log.state_image import StateImage
from ps_server.store.stored_variable import VariableImage
from tests.conftest import Eventually

VALUE = VariableImage(VariableSpec("w", np.dtype(np.float32), (2,)), np.ones(2, np.float32), 1)


class FakeTask:
    """A task whose state is its position, and the log of its records."""

    def __init__(self) -> None:
        self.last_position = 0
        self.waited_for: list[int] = []
        self.refusal: DeadlineExceededError | None = None

    def take_image(self, timeout_s: float) -> StateImage:
        assert timeout_s > 0
        return StateImage(self.last_position, (VALUE,), ())

    def wait_committed(self, position: int, timeout_s: float) -> None:
        assert timeout_s > 0
        self.waited_for.append(position)
        if self.refusal is not None:
            raise self.refusal


class FakeJournal:
    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def start_new_file(self, position: int) -> None:
        self.calls.append(("new", position))

    def drop_before(self, position: int) -> None:
        self.calls.append(("drop", position))


class WhenTold:
    def __init__(self) -> None:
        self.is_told = threading.Event()

    def is_due(self, since: SinceLast) -> bool:
        assert since.seconds >= 0
        assert since.records >= 0
        return self.is_told.is_set()


@pytest.fixture
def task() -> FakeTask:
    return FakeTask()


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    return SnapshotFiles(tmp_path)


def snapshotter_of(
    task: FakeTask, files: SnapshotFiles, policy: SnapshotPolicy | None = None, journal: FakeJournal | None = None
) -> Snapshotter:
    policy = policy or WhenTold()
    return Snapshotter(task.take_image, files, task, policy, journal=journal, poll_s=0.001, retry_s=0.001)


@contextmanager
def running(snapshotter: Snapshotter) -> Iterator[Snapshotter]:
    snapshotter.start()
    try:
        yield snapshotter
    finally:
        assert snapshotter.stop(30)


def failing(place: str, last: int = 2**31) -> FaultPlan:
    return FaultPlan((Fault(place, FaultAction.FAIL, last=last),))


def test_takes_the_state_as_it_is(task: FakeTask, files: SnapshotFiles) -> None:
    task.last_position = 3
    taken = snapshotter_of(task, files).snapshot()
    assert taken is not None
    assert (taken.position, files.positions(), task.waited_for) == (3, [3], [3])
    assert files.read(3)[0].variables[0].version == 1


def test_takes_none_of_a_state_that_is_on_disk(task: FakeTask, files: SnapshotFiles) -> None:
    snapshotter = snapshotter_of(task, files)
    assert snapshotter.snapshot() is None
    task.last_position = 3
    first = snapshotter.snapshot()
    assert snapshotter.snapshot() is first is snapshotter.last
    later = Snapshotter(task.take_image, files, task, WhenTold(), last=first)
    assert later.snapshot() is first


def test_the_journal_lets_go_of_what_a_snapshot_holds_and_only_then(task: FakeTask, files: SnapshotFiles) -> None:
    journal = FakeJournal()
    snapshotter = snapshotter_of(task, files, journal=journal)
    task.last_position = 3
    snapshotter.snapshot()
    assert journal.calls == [("new", 3), ("drop", 3)]
    task.last_position = 8
    with installed(failing("snapshot.before_rename")) as plan, pytest.raises(InjectedFaultError):
        snapshotter.snapshot()
    assert plan.fired("snapshot.before_rename") == 1
    assert journal.calls[2:] == [("new", 8)]
    assert files.positions() == [3]
    snapshotter.snapshot()
    assert journal.calls[3:] == [("new", 8), ("drop", 8)]
    assert files.positions() == [8]


def test_the_snapshot_before_stays_until_the_new_one_is_there(task: FakeTask, files: SnapshotFiles) -> None:
    snapshotter = snapshotter_of(task, files)
    task.last_position = 3
    snapshotter.snapshot()
    task.last_position = 5
    with installed(failing("snapshot.before_drop")) as plan, pytest.raises(InjectedFaultError):
        snapshotter.snapshot()
    assert plan.fired("snapshot.before_drop") == 1
    assert files.positions() == [3, 5]
    task.last_position = 6
    snapshotter.snapshot()
    assert files.positions() == [6]


def test_no_snapshot_knows_more_than_the_log_has_committed(task: FakeTask, files: SnapshotFiles) -> None:
    task.last_position, task.refusal = 3, DeadlineExceededError("the journal is slow")
    snapshotter = snapshotter_of(task, files)
    with pytest.raises(DeadlineExceededError):
        snapshotter.snapshot()
    assert files.positions() == []
    assert "the journal is slow" in snapshotter.obstacle


def test_goes_on_by_itself_when_due(task: FakeTask, files: SnapshotFiles, eventually: Eventually) -> None:
    policy = WhenTold()
    task.last_position = 1
    with running(snapshotter_of(task, files, policy)):
        assert files.positions() == []
        policy.is_told.set()
        eventually(lambda: files.positions() == [1])
        task.last_position = 2
        eventually(lambda: files.positions() == [2])


def test_a_failure_is_told_once_and_tried_again(
    task: FakeTask, files: SnapshotFiles, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    policy = WhenTold()
    policy.is_told.set()
    task.last_position = 1
    snapshotter = snapshotter_of(task, files, policy)
    with caplog.at_level(logging.WARNING), installed(failing("snapshot.before_rename", last=3)) as plan:
        with running(snapshotter):
            eventually(lambda: files.positions() == [1])
            eventually(lambda: not snapshotter.obstacle)
        assert plan.fired("snapshot.before_rename") == 3
    told = [
        record.getMessage() for record in caplog.records if record.name == "ps_server.durability.snapshots.snapshotter"
    ]
    assert len(told) == 2
    assert "no snapshot could be taken: a fault was injected" in told[0]
    assert "updates go on" in told[0]
    assert "again" in told[1]


def test_a_defect_does_not_end_the_thread(
    task: FakeTask, files: SnapshotFiles, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    defects = iter([ZeroDivisionError("first"), ZeroDivisionError("second")])

    def take_image(timeout_s: float) -> StateImage:
        for defect in defects:
            raise defect
        return task.take_image(timeout_s)

    policy = WhenTold()
    policy.is_told.set()
    task.last_position = 1
    snapshotter = Snapshotter(take_image, files, task, policy, poll_s=0.001, retry_s=0.001)
    with caplog.at_level(logging.ERROR), running(snapshotter):
        eventually(lambda: files.positions() == [1])
    assert len([record for record in caplog.records if record.exc_info]) == 1


@pytest.mark.parametrize("place", ["take_image", "is_due"])
def test_a_moment_without_descriptors_does_not_end_the_thread(
    task: FakeTask, files: SnapshotFiles, eventually: Eventually, place: str
) -> None:
    fails = threading.Event()
    fails.set()

    def fail_at(here: str) -> None:
        if here == place and fails.is_set():
            raise OSError(errno.EMFILE, "Too many open files")

    class Due:
        def is_due(self, since: SinceLast) -> bool:  # it looks at the size of the journal
            fail_at("is_due")
            return since.records > 0

    def take_image(timeout_s: float) -> StateImage:
        fail_at("take_image")
        return task.take_image(timeout_s)

    troubles = Troubles()
    task.last_position = 1
    snapshotter = Snapshotter(take_image, files, task, Due(), poll_s=0.001, retry_s=0.001, troubles=troubles)
    with running(snapshotter):
        eventually(lambda: (*troubles.reasons(), snapshotter.obstacle))
        assert "Too many open files" in "".join([*troubles.reasons(), snapshotter.obstacle])
        fails.clear()
        eventually(lambda: files.positions() == [1])
        eventually(lambda: not troubles.reasons())


def test_one_that_is_being_written_is_given_up_at_the_end(
    task: FakeTask, files: SnapshotFiles, eventually: Eventually
) -> None:
    policy = WhenTold()
    policy.is_told.set()
    task.last_position = 1
    began, go_on = threading.Event(), threading.Event()

    def take_image(timeout_s: float) -> StateImage:
        began.set()
        assert go_on.wait(timeout_s)
        return task.take_image(timeout_s)

    snapshotter = Snapshotter(take_image, files, task, policy, poll_s=0.001)
    snapshotter.start()
    assert began.wait(30)
    assert not snapshotter.stop(0)
    go_on.set()
    assert snapshotter.stop(30)
    assert files.positions() == []


def test_can_be_stopped_before_it_was_started(task: FakeTask, files: SnapshotFiles) -> None:
    assert snapshotter_of(task, files).stop(0)


def test_the_policy_is_told_what_has_happened_since(
    task: FakeTask, files: SnapshotFiles, eventually: Eventually
) -> None:
    class Listening:
        last: SinceLast | None = None

        def is_due(self, since: SinceLast) -> bool:
            self.last = since
            return False

    policy, now_s = Listening(), 100.0
    snapshotter = Snapshotter(task.take_image, files, task, policy, poll_s=0.001, clock=lambda: now_s)
    task.last_position = 7
    with running(snapshotter):
        eventually(lambda: policy.last == SinceLast(0, 7, 0))
        snapshotter.snapshot()
        task.last_position, now_s = 9, 103.0
        eventually(lambda: policy.last == SinceLast(3, 2, 0))
