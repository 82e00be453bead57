"""Faults in the stream between the two processes of a ps task: every acknowledged update counts once, in both."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, ClusterSpec
from ps_protocol.task_id import TaskId
from tests.chaos.ps_processes import PsTask
from tests.chaos.training import train, undisturbed
from tests.conftest import Eventually

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

LEASE_S: Final = 2.0
TIMEOUT_S: Final = 30.0
UPDATES: Final = 40
MOST_STARTS: Final = 5
ONES: Final = np.ones((2, 3), np.float32)
PS_1, BACKUP_1 = TaskId(PS_JOB, 1), TaskId(BACKUP_JOB, 1)


class Pairs:
    """Two ps tasks with a backup each, of which the second has the faults. The first only has to be there.

    Args:
        resources: Ends the processes.
        directory: Where their logs are.
        eventually: Waits.
    """

    spec: ClusterSpec

    def __init__(self, resources: ExitStack, directory: Path, eventually: Eventually):
        self._resources = resources
        self._directory = directory
        self._eventually = eventually
        self._processes: dict[TaskId, PsTask] = {}

    def _make(self, directory: Path, resources: ExitStack) -> None:
        options = ("--lease", str(LEASE_S), "--coordinator", f"file://{directory}/coordination")
        for job in (PS_JOB, BACKUP_JOB):
            for index in range(2):
                place = directory / f"{job}-{index}"
                place.mkdir(parents=True)
                process = PsTask(place, index=index, is_backup=job == BACKUP_JOB, options=options)
                self._processes[TaskId(job, index)] = resources.enter_context(process)
        self.spec = ClusterSpec(
            {job: [self._processes[TaskId(job, index)].address for index in range(2)] for job in (PS_JOB, BACKUP_JOB)}
        )
        for process in self._processes.values():
            process.cluster = self.spec.ps_addresses()
            process.backups = [self.spec.task_address(BACKUP_JOB, index) for index in range(2)]

    def __getitem__(self, task: TaskId) -> PsTask:
        return self._processes[task]

    def start(self, faults: dict[TaskId, str]) -> Self:
        """Starts all processes with these plans; each backup is the backup when this returns.

        When a machine is so busy that a ps is not heard of for its lease, its backup begins in its place, as it should,
        and the ps ends. All of them then start anew.
        """
        for number in range(MOST_STARTS):
            with ExitStack() as started:
                self._make(self._directory / f"start-{number}", started)
                for task, process in self._processes.items():
                    process.start(faults.get(task, ""))
                if all(self._is_paired(self[TaskId(PS_JOB, index)]) for index in range(2)):
                    self._resources.push(started.pop_all())
                    return self
        pytest.fail(f"after {MOST_STARTS} starts, none with the roles that the processes are to have")

    def _is_paired(self, primary: PsTask) -> bool:
        """Waits until a ps has its backup; returns whether it has, and not the backup its place."""
        said = ("is the backup now", "another process has begun in its place")
        paired, _ = self._eventually(
            lambda: any(found := [each in primary.log for each in said]) and found,
            timeout_s=TIMEOUT_S,
            message=f"{primary.address} says {said[0]!r}",
        )
        return bool(paired)

    def wait_until(self, task: TaskId, text: str, *, times: int = 1) -> None:
        process = self[task]
        self._eventually(lambda: process.log.count(text) >= times, timeout_s=TIMEOUT_S, message=f"{task} says {text!r}")

    def restart_when_ended(self, task: TaskId) -> None:
        """Has a process started again, without faults, as soon as it has ended."""
        restart = self[task].start_when_ended()
        self._resources.callback(restart.join, TIMEOUT_S)

    def client(self) -> ss.Client:
        """One that waits for ps tasks that are away."""
        return self._resources.enter_context(ss.connect(self.spec))

    def counter(self) -> ss.Variable:
        """A variable of the second ps task."""
        client = self.client()
        with client.as_default(), ss.device("/job:ps/task:1"):
            variable = ss.get_variable("counter", ONES.shape, np.float32, initializer=ss.zeros_initializer())
        assert isinstance(variable, ss.Variable)
        return variable


@pytest.fixture
def pairs(tmp_path: Path, eventually: Eventually) -> Iterator[Pairs]:
    with ExitStack() as resources:
        yield Pairs(resources, tmp_path, eventually)


def add_ones(counter: ss.Variable) -> None:
    for _ in range(UPDATES):
        counter.assign_add(ONES)


def test_records_and_acknowledgements_that_are_lost_count_once_and_so_does_the_last_one(pairs: Pairs) -> None:
    """The primary dies when its backup has acknowledged an update, and its client does not know."""
    pairs.start(
        {
            PS_1: "replication.send=drop@10; batch.before_reply=crash@35",
            BACKUP_1: "replication.received=drop@15; replication.received=duplicate@20; replication.applied=drop@25",
        }
    )
    counter = pairs.counter()
    add_ones(counter)
    assert pairs[PS_1].wait() == -signal.SIGKILL
    assert pairs[PS_1].faults == [("replication.send", "drop"), ("batch.before_reply", "crash")]
    assert pairs[BACKUP_1].faults == [
        ("replication.received", "drop"),
        ("replication.received", "duplicate"),
        ("replication.applied", "drop"),
    ]
    assert "is the primary of ps:1 now" in pairs[BACKUP_1].log
    np.testing.assert_array_equal(counter.read_value(), UPDATES * ONES)


def test_an_update_that_the_backup_never_had_counts_once_when_the_primary_dies(pairs: Pairs) -> None:
    pairs.start({PS_1: "replication.send=crash@20"})
    counter = pairs.counter()
    add_ones(counter)
    assert pairs[PS_1].wait() == -signal.SIGKILL
    assert pairs[PS_1].faults == [("replication.send", "crash")]
    assert "is the primary of ps:1 now" in pairs[BACKUP_1].log
    np.testing.assert_array_equal(counter.read_value(), UPDATES * ONES)


@pytest.mark.parametrize("place", ["replication.received", "replication.answered", "replication.applied"])
def test_a_backup_that_dies_with_a_record_leaves_every_update_counted_once(pairs: Pairs, place: str) -> None:
    pairs.start({BACKUP_1: f"{place}=crash@20"})
    counter = pairs.counter()
    pairs.restart_when_ended(BACKUP_1)
    add_ones(counter)
    assert pairs[BACKUP_1].faults == [(place, "crash")]
    np.testing.assert_array_equal(counter.read_value(), UPDATES * ONES)
    # The process that came in its place has them too.
    pairs.wait_until(PS_1, "is the backup now", times=2)
    pairs[PS_1].kill()
    np.testing.assert_array_equal(counter.read_value(), UPDATES * ONES)


def test_backups_that_take_over_in_the_middle_of_training_have_the_bits_of_values_slots_and_counts(
    pairs: Pairs,
) -> None:
    """First one that had every record, then one that began with an image of it."""
    pairs.start({PS_1: "batch.before_reply=crash@60"})

    def disturb(step: int) -> None:
        if step == 150:
            assert pairs[PS_1].wait() == -signal.SIGKILL
            pairs[PS_1].start()
            pairs.wait_until(BACKUP_1, "is the backup now")
        if step == 200:
            pairs[BACKUP_1].kill()

    bits = train(pairs.client(), "catch_up", disturb, device="/job:ps/task:1")
    assert pairs[PS_1].faults == [("batch.before_reply", "crash")]
    assert "is the primary of ps:1 now" in pairs[BACKUP_1].log
    assert "is the primary of ps:1 now" in pairs[PS_1].log
    assert bits == undisturbed("catch_up")
