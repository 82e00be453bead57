"""``examples/digits.py`` under each policy, while workers are killed and stopped midway: it ends, and has learnt."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest

from ps_cluster.local.processes import ChildProcess, ProcessSupervisor
from tests.conftest import Eventually

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

ROOT: Final = Path(__file__).parents[2]
TIMEOUT_S: Final = 150.0
EPOCHS: Final = 14
LEAST: Final = 0.9
"""With all epochs it is 0.97; after these it depends on whose gradients came when, and is 0.93 or more, mostly."""


class Launch:
    """``shardscope up ... -- python examples/digits.py ...``, and what it has printed so far.

    Args:
        supervisor: Starts it.
        folder: For what its workers and the test tell each other; see ``held_digits``.
        lost: Indices of the workers that the test kills or stops.
        arguments: Of ``shardscope up``.
        digits: Arguments of the example.
    """

    def __init__(
        self, supervisor: ProcessSupervisor, folder: Path, lost: list[int], arguments: list[str], digits: list[str]
    ):
        self.output: list[str] = []
        self._folder = folder
        held = [sys.executable, "-m", "tests.chaos.held_digits", str(folder), ",".join(map(str, lost))]
        command = [sys.executable, "-m", "ps_cluster", "up", *arguments, "--", *held, *digits]
        self.process: ChildProcess = supervisor.start(
            "shardscope up",
            command,
            environment={**os.environ, "PYTHONPATH": str(ROOT)},
            on_stdout=lambda line: self.output.append(line.text),
        )

    @property
    def text(self) -> str:
        return "\n".join(self.output)

    def worker(self, index: int) -> psutil.Process:
        found = []
        for each in psutil.Process(self.process.pid).children(recursive=True):
            try:
                task = json.loads(each.environ().get("TF_CONFIG", "{}")).get("task")
                if "tests.chaos.held_digits" in each.cmdline() and task == {"type": "worker", "index": index}:
                    found.append(each)
            except psutil.Error:  # it has just ended
                continue
        [process] = found
        return process

    def wait_until_midway(self, eventually: Eventually, *indices: int) -> None:
        """Waits until these workers stand still, in the midst of training."""
        marks = [self._folder / f"midway-{index}" for index in indices]
        eventually(
            lambda: all(each.exists() for each in marks) or self.process.returncode is not None, timeout_s=TIMEOUT_S
        )
        assert self.process.returncode is None, self.text

    def go_on(self) -> None:
        """Lets the others go on."""
        (self._folder / "go on").touch()

    def wait(self) -> int:
        returncode = self.process.wait(TIMEOUT_S)
        assert returncode is not None, f"still runs:\n{self.text}"
        self.process.join(TIMEOUT_S)
        return returncode

    def accuracies(self) -> dict[str, float]:
        found = re.findall(r"^(worker:\d) +\| held-out accuracy (\d\.\d+)", self.text, re.MULTILINE)
        return {worker: float(accuracy) for worker, accuracy in found}

    def verdicts(self) -> dict[str, tuple[str, int]]:
        """Of each worker in the only table: its status, and how many gradients were applied."""
        assert sum("| worker    status" in line for line in self.output) == 1
        rows = re.findall(r"^worker:\d +\| (worker:\d) +(\w+) +(\d+) +\d", self.text, re.MULTILINE)
        return {worker: (status, int(applied)) for worker, status, applied in rows}


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Launch]]:
    monkeypatch.chdir(ROOT)
    supervisor = ProcessSupervisor()
    yield lambda *arguments, lost, digits: Launch(supervisor, tmp_path, lost, list(arguments), digits)
    supervisor.close()


@pytest.mark.parametrize(
    ("sync", "epochs"),
    [
        *[(sync, EPOCHS) for sync in ("async", "ssp(3)", "bsp", "sync(2, total=3)")],
        ("local(16)", 2),  # of rounds, each of which is 16 steps of each worker
    ],
)
def test_digits_are_learnt_though_a_worker_is_killed_midway(
    launch: Callable[..., Launch], eventually: Eventually, sync: str, epochs: int
) -> None:
    digits = ["--epochs", f"{epochs}", "--sync", sync]
    up = launch("--ps", "2", "--workers", "3", "--min-workers", "2", lost=[2], digits=digits)
    up.wait_until_midway(eventually, 2)
    up.worker(2).kill()
    up.go_on()
    assert up.wait() == 0, up.text
    assert "worker:2 failed with signal SIGKILL; going on without it" in up.text
    accuracies = up.accuracies()
    assert set(accuracies) == {"worker:0", "worker:1"}, up.text
    assert min(accuracies.values()) >= LEAST, up.text
    verdicts = up.verdicts()
    assert [verdicts[f"worker:{index}"][0] for index in (0, 1)] == ["finished", "finished"], up.text
    assert verdicts["worker:2"][0] != "finished"
    assert verdicts["worker:2"][1] > 0  # it was midway


def test_with_one_worker_stopped_and_one_killed_it_ends_by_itself(
    launch: Callable[..., Launch], eventually: Eventually
) -> None:
    digits = ["--epochs", f"{EPOCHS}", "--sync", "sync(3)"]
    up = launch("--ps", "2", "--workers", "4", lost=[2, 3], digits=digits)
    up.wait_until_midway(eventually, 2, 3)
    stopped = up.worker(2)
    stopped.send_signal(signal.SIGSTOP)
    up.worker(3).kill()
    up.go_on()
    assert up.wait() == 128 + signal.SIGKILL, up.text
    assert "worker:3 failed with signal SIGKILL; the others go on" in up.text
    assert "worker:2 is silent beyond the lease, stopped or hanging, and the others are done" in up.text
    assert not psutil.pid_exists(stopped.pid)
    accuracies = up.accuracies()
    assert set(accuracies) == {"worker:0", "worker:1"}, up.text
    assert min(accuracies.values()) >= LEAST, up.text
    verdicts = up.verdicts()
    assert [verdicts[f"worker:{index}"][0] for index in range(3)] == ["finished", "finished", "silent"], up.text
    assert all(verdicts[f"worker:{index}"][1] > 0 for index in range(4)), up.text
