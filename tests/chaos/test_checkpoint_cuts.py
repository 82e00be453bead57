"""Saves under four writers and kills: every checkpoint that exists is one moment of all ps tasks.

Each writer numbers its updates. Number n goes to a variable on ps task 0 and, when that is acknowledged, to one on ps
task 1; then to two variables of ps task 0 in one batch. So in a checkpoint the first may be ahead of the second by one,
the second never of the first, and the two of the batch are equal.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from safetensors.numpy import load_file

import worker_client as ss
from ps_protocol.errors import ShardscopeError
from tests.chaos.ps_processes import PsTask
from tests.chaos.test_checkpoint_crashes import IMPATIENT, ps_tasks
from tests.chaos.testbed import connected, impatient_settings
from tests.conftest import Eventually

pytestmark = pytest.mark.chaos

NUM_WRITERS: Final = 4
ELEMENTS: Final = 20_000  # more than is copied into an image: the values are lent
ONES: Final = np.ones(ELEMENTS, np.float32)
TIMEOUT_S: Final = 60.0
STEPS: Final = [
    ("checkpoint.write", 1),
    ("checkpoint.visible", 0),
    ("checkpoint.imaged", 1),
    ("checkpoint.held", 0),
    ("checkpoint.before_publish", 0),
    ("checkpoint.part_written", 1),
    ("checkpoint.begun", 1),
    ("checkpoint.before_visible", 0),
    ("checkpoint.published", 0),
]


@dataclass
class Writer:
    """One writer with a connection of its own.

    Attributes:
        sent: Newest number that was sent.
        acknowledged: Newest number of which all updates were acknowledged.
    """

    number: int
    client: ss.Client
    sent: int = 0
    acknowledged: int = 0
    failures: list[BaseException] = field(default_factory=list)

    def declare(self) -> None:
        self._variables = []
        with self.client.as_default():
            for name, task in (("first", 0), ("second", 1), ("one", 0), ("other", 0)):
                with ss.device(f"/job:ps/task:{task}"):
                    made = ss.get_variable(self.name(name), [ELEMENTS], initializer=ss.zeros_initializer())
                self._variables.append(made)

    def name(self, name: str) -> str:
        return f"writer_{self.number}/{name}"

    def write(self, ended: threading.Event) -> None:
        first, second, one, other = self._variables
        try:
            while not ended.is_set():
                self.sent += 1
                first.assign_add(ONES)
                second.assign_add(ONES)
                self.client.assign_add_all([(one, ONES), (other, ONES)])
                self.acknowledged = self.sent
        except BaseException as error:
            self.failures.append(error)
            raise

    def check(self, tensors: dict[str, np.ndarray], floor: int, ceiling: int) -> None:
        """Checks what a checkpoint has of its variables, which was begun at one number and ended at another."""
        counts = {}
        for name in ("first", "second", "one", "other"):
            value = tensors[self.name(name)]
            assert (value == value[0]).all(), f"half an update of {self.name(name)}"
            counts[name] = int(value[0])
        assert floor <= counts["second"] <= counts["first"] <= min(counts["second"] + 1, ceiling)
        assert counts["one"] == counts["other"]
        assert floor <= counts["one"] <= counts["second"] <= counts["one"] + 1


@contextmanager
def writing(addresses: list[str]) -> Iterator[list[Writer]]:
    """Four writers that write for as long as the block lasts; none fails."""
    with ExitStack() as resources:
        writers = []
        for number in range(NUM_WRITERS):
            client = connected(addresses, "auto", impatient_settings(), task_index=number)
            writers.append(Writer(number, resources.enter_context(client)))
            writers[-1].declare()
        ended = threading.Event()
        threads = [threading.Thread(target=writer.write, args=(ended,)) for writer in writers]
        try:
            for thread in threads:
                thread.start()
            yield writers
        finally:
            ended.set()
            for thread in threads:
                thread.join(TIMEOUT_S)
        assert [writer.failures for writer in writers] == [[]] * NUM_WRITERS


class Saves:
    """Saves, and remembers what was acknowledged before and sent by the end of each."""

    def __init__(self, folder: Path, writers: list[Writer], tasks: list[PsTask]):
        self._folder = folder
        self._writers = writers
        self._tasks = tasks
        self._bounds: dict[str, tuple[list[int], list[int]]] = {}

    def save(self, name: str, *, fails: bool) -> None:
        addresses = [task.address for task in self._tasks]
        settings = IMPATIENT if fails else impatient_settings()
        with connected(addresses, "grpc", settings, task_index=NUM_WRITERS) as client:
            floor = [writer.acknowledged for writer in self._writers]
            try:
                if fails:
                    with pytest.raises(ShardscopeError):
                        client.save(self._folder, name=name)
                else:
                    client.save(self._folder, name=name)
            finally:
                self._bounds[name] = (floor, [writer.sent for writer in self._writers])

    def check_all(self) -> list[str]:
        """Checks every checkpoint that is there; returns their names."""
        names = [each.name for each in ss.checkpoint.list(self._folder)]
        for name in names:
            ss.checkpoint.verify(self._folder / name)
            tensors = {}
            for path in (self._folder / name).glob("*.safetensors"):
                tensors.update(load_file(path))
            floor, ceiling = self._bounds[name]
            for writer in self._writers:
                writer.check(tensors, floor[writer.number], ceiling[writer.number])
        return names


def check_sums(client: ss.Client, writers: list[Writer]) -> None:
    """Each number was counted once."""
    for writer in writers:
        for name in ("first", "second", "one", "other"):
            assert (client.variable(writer.name(name)).read_value() == writer.acknowledged).all()


def await_progress(writers: list[Writer], eventually: Eventually) -> None:
    """Waits until each writer has got some more answers."""
    goals = [writer.acknowledged + 5 for writer in writers]
    eventually(
        lambda: all(writer.acknowledged >= goal for writer, goal in zip(writers, goals, strict=True)),
        timeout_s=TIMEOUT_S,
        message="the writers get on",
    )


def run(directory: Path, eventually: Eventually, rounds: int) -> None:
    """In each round a ps task is killed at any moment, and again at a step of a save; then one is saved undisturbed."""
    expected: list[str] = []
    with ps_tasks(directory, "journal") as tasks:
        for task in tasks:
            task.start()
        with writing([task.address for task in tasks]) as writers:
            saves = Saves(directory / "checkpoints", writers, tasks)
            for number in range(rounds):
                place, victim = STEPS[number % len(STEPS)]
                fired = len(tasks[victim].faults)
                await_progress(writers, eventually)
                tasks[victim].kill()
                tasks[victim].start(f"{place}=crash@1")
                await_progress(writers, eventually)
                saves.save(f"killed-{number:04}", fails=True)
                assert tasks[victim].wait() == -signal.SIGKILL
                assert tasks[victim].faults[fired:] == [(place, "crash")]
                tasks[victim].start()
                await_progress(writers, eventually)
                saves.save(f"whole-{number:04}", fails=False)
                expected += [f"killed-{number:04}"] * (place in ("checkpoint.visible", "checkpoint.published"))
                expected.append(f"whole-{number:04}")
        assert saves.check_all() == expected
        for writer in writers:
            assert writer.acknowledged == writer.sent >= 15 * rounds
        # Nothing was lost or counted twice: the last state has each number once, and so has what is restored from it.
        with connected([task.address for task in tasks], "grpc", task_index=NUM_WRITERS) as client:
            check_sums(client, writers)
            client.save(directory / "checkpoints", name="last")
            client.restore(directory / "checkpoints" / "last")
            check_sums(client, writers)


def test_saves_under_writers_and_kills_are_consistent_cuts(tmp_path: Path, eventually: Eventually) -> None:
    run(tmp_path, eventually, rounds=2)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_saves_under_writers_and_kills_are_consistent_cuts(tmp_path: Path, eventually: Eventually) -> None:
    run(tmp_path, eventually, rounds=90)
