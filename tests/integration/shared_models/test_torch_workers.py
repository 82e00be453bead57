"""Three worker processes that train one model of PyTorch, whoever dies meanwhile: as one process alone would."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import pytest
import torch

import shardscope as ss
from ps_cluster import LocalCluster
from ps_cluster.local.line_splitter import OutputLine
from ps_cluster.local.processes import ChildProcess
from tests.conftest import Eventually
from tests.integration.shared_models.torch_kinds import SIXTEEN_BITS, Applied, alone, new_model

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TIMEOUT_S: Final = 120.0


class Workers:
    """The workers of a cluster, and what they have said.

    Args:
        cluster: It starts them.
        program: What they run, a module beside this one.
    """

    def __init__(self, cluster: LocalCluster, program: str):
        self._cluster = cluster
        self._program = f"tests.integration.shared_models.{program}"
        self._lock = threading.Lock()  # guards: _lines
        self._lines: list[str] = []
        self._processes: list[ChildProcess] = []

    def start(self, index: int, *options: str) -> ChildProcess:
        command = ["python", "-m", self._program, *options]
        process = self._cluster.start_worker(index, command, on_line=self._hear)
        self._processes.append(process)
        return process

    def _hear(self, line: OutputLine) -> None:
        with self._lock:
            self._lines.append(line.text)

    @property
    def lines(self) -> list[str]:
        with self._lock:
            return list(self._lines)

    def steps(self) -> list[Applied]:
        """The steps that were applied, of which nothing else may have been said."""
        said = [line.split() for line in self.lines if line.startswith("step ")]
        assert {verdict for _, verdict, *_ in said} == {"applied"}, self.lines
        return [Applied(*[int(each) for each in words]) for _, _, *words in said]

    def all_end(self, exit_codes: Sequence[int]) -> None:
        ended = [each.wait(TIMEOUT_S) for each in self._processes]
        assert ended == list(exit_codes), "\n".join(self.lines[-60:])


@contextmanager
def training(program: str = "torch_worker", **options: Any) -> Iterator[tuple[LocalCluster, Workers]]:
    with LocalCluster(num_ps=2, num_workers=3, env={"SHARDSCOPE_LEASE": "2"}, **options) as cluster:
        yield cluster, Workers(cluster, program)


def assert_as_alone(cluster: LocalCluster, steps: Sequence[Applied]) -> None:
    """What the cluster has is what one process comes to with the same batches in the same rounds."""
    with ss.connect(cluster.cluster_spec, observer=True):
        state = ss.torch.state_dict("net")
    expected = alone(steps)
    before = new_model().state_dict()
    assert {name for name in expected if name not in state} == {
        *("frozen.weight", "frozen.bias", "tied.weight"),
        *("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"),
    }
    for name, value in state.items():
        # Those of 16 bits are rounded in each step, here and there.
        tolerance = 5e-3 if value.dtype in SIXTEEN_BITS else 1e-6
        torch.testing.assert_close(value, expected[name], rtol=tolerance, atol=tolerance, msg=name)
        assert name.startswith("unused") or not torch.equal(value, before[name]), name


def test_three_workers_come_to_what_one_does() -> None:
    with training() as (cluster, workers):
        for index in range(3):
            workers.start(index, "--sync", "bsp(total=3)")
        workers.all_end([0, 0, 0])
        steps = workers.steps()
        assert sorted(steps) == [(worker, number, number + 1) for worker in range(3) for number in range(10)]
        assert_as_alone(cluster, steps)


def test_steps_that_overlap_come_to_the_same() -> None:
    with training() as (cluster, workers):
        for index in range(3):
            workers.start(index, "--sync", "bsp(total=3)", "--overlap")
        workers.all_end([0, 0, 0])
        assert len([line for line in workers.lines if line == "step sent"]) == 30
        assert_as_alone(cluster, [Applied(worker, number, number + 1) for worker in range(3) for number in range(10)])


def test_a_worker_is_killed_and_another_one_comes_late_in_its_place(eventually: Eventually) -> None:
    with training() as (cluster, workers):
        for index in range(2):
            workers.start(index, "--sync", "bsp(total=3)", "--steps", "40")
        killed = workers.start(2, "--sync", "bsp(total=3)", "--die-at", "4")
        assert killed.wait(TIMEOUT_S) == -signal.SIGKILL
        eventually(lambda: max(each.round for each in workers.steps()) > 6, message="the others have gone on alone")
        workers.start(2, "--sync", "bsp(total=3)", "--first", "100", "--steps", "5")
        workers.all_end([0, 0, -signal.SIGKILL, 0])
        steps = workers.steps()
        assert len([each for each in steps if each.worker < 2]) == 80
        assert sorted(each.number for each in steps if each.worker == 2) == [0, 1, 2, 3, 100, 101, 102, 103, 104]
        assert_as_alone(cluster, steps)


@pytest.mark.chaos
@pytest.mark.parametrize(("kept_by", "index"), [("journal", 0), ("journal", 1), ("backup", 0)])
def test_a_ps_is_killed(kept_by: str, index: int, eventually: Eventually) -> None:
    options: dict[str, Any] = {"durability": "journal"} if kept_by == "journal" else {"replicas": 1}
    num_steps = 30
    with training(**options) as (cluster, workers):
        for each in range(3):
            workers.start(each, "--sync", "bsp(total=3)", "--steps", f"{num_steps}")
        eventually(lambda: len(workers.lines) > 3 * 4, message="some rounds")
        cluster.kill_ps(index)
        assert len(workers.lines) < 3 * num_steps  # in the middle of it
        if kept_by == "journal":
            cluster.restart_ps(index)
        workers.all_end([0, 0, 0])
        steps = workers.steps()
        assert sorted(steps) == [(worker, number, number + 1) for worker in range(3) for number in range(num_steps)]
        assert_as_alone(cluster, steps)


@pytest.mark.parametrize("buffers", ["mean", "chief"])
def test_buffers_are_shared_by_all_workers(buffers: str) -> None:
    with training() as (cluster, workers):
        for index in range(3):
            workers.start(index, "--sync", "bsp(total=3)", "--buffers", buffers)
        workers.all_end([0, 0, 0])
        with ss.connect(cluster.cluster_spec, observer=True):
            state = ss.torch.state_dict("net")
        assert state["norm.num_batches_tracked"].item() == 10  # those of the chief
        assert 0 < np.abs(state["norm.running_mean"].numpy()).max() < 1


def test_each_alone_counts_every_step() -> None:
    with training() as (cluster, workers):
        for index in range(3):
            workers.start(index)
        workers.all_end([0, 0, 0])
        assert len(workers.steps()) == 30
        with ss.connect(cluster.cluster_spec, observer=True) as client:
            assert {client.variable(f"net/{name}").version for name in ("dense/0/weight", "rows/weight")} == {30}
