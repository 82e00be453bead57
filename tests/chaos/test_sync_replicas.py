"""TensorFlow 1's ``SyncReplicasOptimizer`` with three worker processes, of which some are late, end early or die."""

from __future__ import annotations

import functools
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import ShardscopeError
from ps_protocol.shared_objects import Json, decode_json
from tests.chaos import sync_replicas_program as program
from tests.chaos.ps_processes import PsTask
from worker_client.connection.retry import Deadline

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

TIMEOUT_S: Final = 100.0
STEPS: Final = 12
NUM_WORKERS: Final = 3


class Worker:
    """One worker process.

    Args:
        arguments: Of the program.
        log: Where it writes what goes wrong.
        lease_s: For how long it may be silent; 0 for ever.
        explain: Says how all workers are, for when this one says nothing.
    """

    def __init__(self, arguments: Sequence[object], log: Path, lease_s: float, explain: Callable[[], str]):
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "SHARDSCOPE_"))}
        environ["SHARDSCOPE_LEASE"] = str(lease_s)
        with log.open("w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.sync_replicas_program", *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environ,
            )
        self.log = log
        self._explain = explain
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.strip())
        self._lines.put("")

    def said(self) -> str:
        """The next line that it says; empty when it has ended."""
        try:
            return self._lines.get(timeout=TIMEOUT_S)
        except queue.Empty:
            pytest.fail(f"a worker says nothing: {self.log.name}\n{self._explain()}")

    def where(self) -> str:
        """Its log, with the stacks of its threads if it has not ended."""
        size = self.log.stat().st_size
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
            until_s = time.monotonic() + 5
            while self.log.stat().st_size == size and time.monotonic() < until_s:
                time.sleep(0.05)
        return f"--- {self.log.name}, {self.process.poll()}\n{self.log.read_text(encoding='utf-8')}"

    def go(self) -> None:
        """Lets it begin to train."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT_S)

    def steps_to_the_end(self) -> list[int]:
        """What steps it says from now on, until it ends in good order."""
        steps = []
        while (word := self.said()) != "end":
            assert word, self.log.read_text(encoding="utf-8")
            steps.append(int(word))
        assert self.process.wait(TIMEOUT_S) == 0, self.log.read_text(encoding="utf-8")
        return steps

    def close(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT_S)
        self._reader.join(TIMEOUT_S)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


class Cluster:
    """Two ps tasks, and three workers that are ready to train.

    Args:
        resources: Ends the processes.
        directory: Where their logs are.
        how: Which program the workers run.
        aggregate: How many gradients a step takes.
        lease_s: For how long a worker may be silent; 0 for ever.
    """

    def __init__(self, resources: ExitStack, directory: Path, how: str, aggregate: int, lease_s: float = 0):
        self.ps = []
        for index in range(2):
            (directory / f"ps{index}").mkdir()
            self.ps.append(resources.enter_context(PsTask(directory / f"ps{index}", index=index)))
        addresses = [each.address for each in self.ps]
        workers = ",".join([f"worker{task}.example:2222" for task in range(NUM_WORKERS)])  # which do not listen
        for each in self.ps:
            each.cluster = addresses
            each.start()
        self.workers = []
        for task in range(NUM_WORKERS):
            arguments = (how, ",".join(addresses), workers, task, aggregate, STEPS)
            worker = Worker(arguments, directory / f"worker{task}", lease_s, self.explained)
            resources.callback(worker.close)
            self.workers.append(worker)
        for worker in self.workers:
            assert worker.said() == "ready", worker.log.read_text(encoding="utf-8")
        self.client = resources.enter_context(ss.connect(ss.ClusterSpec({"ps": addresses}), observer=True))

    def values(self) -> dict[str, Any]:
        """What the ps tasks have."""
        return {name: self.client.variable(name).numpy() for name in ("w", "bias", "global_step")}

    def explained(self) -> str:
        """How all workers are, and what they share."""
        found = [each.where() for each in self.workers]
        try:
            found.append(f"{self.values()}\n{self.tokens()}")
            for each in [each for each in self.client.variables() if each.name.startswith("accumulator/")]:
                shared = self.client.object_on(int(each.task.removeprefix("ps:")), each.name, "accumulator")
                asked = [shared.wait({"ask": question}, Deadline(0.0)) for question in ("count", "whose")]
                found.append(f"{each.name}: {asked}")
        except ShardscopeError as error:
            found.append(f"the ps tasks: {error}")
        return "\n".join(found)

    def tokens(self) -> Json:
        """The state of the tokens."""
        content = self.client.variable("tokens/sync_token_q").read_value().item()
        state: Json = decode_json(content, "the tokens")["state"]
        return state


def trained(tasks: Sequence[int], from_then_on: Sequence[int] = (), then: int = STEPS) -> list[Any]:
    """The weights and the bias after all steps with the batches of these workers as one, or then of others."""
    value, moment = np.zeros(3), np.zeros(3)
    for step in range(STEPS):
        batches = [program.batch(task) for task in (tasks if step < then else from_then_on)]
        features = np.concatenate([each for each, _ in batches])
        labels = np.concatenate([each for _, each in batches])
        errors = features @ value[:2] + value[2] - labels
        gradient = np.array([*(2 * errors @ features / len(labels)), 2 * errors.mean()])
        moment = 0.5 * moment + gradient
        value = value - program.RATE * moment
    return [value[:2], value[2:]]


@pytest.fixture
def cluster(resources: ExitStack, tmp_path: Path) -> Callable[..., Cluster]:
    return functools.partial(Cluster, resources, tmp_path)


def test_three_workers_make_the_steps_of_one_with_three_batches(cluster: Callable[..., Cluster]) -> None:
    made = cluster("hook", 3)
    for each in made.workers:
        each.go()
    for each in made.workers:
        steps = each.steps_to_the_end()
        assert steps == list(range(1, len(steps) + 1))
    values, (w, bias) = made.values(), trained([0, 1, 2])
    assert values["global_step"] == STEPS
    np.testing.assert_allclose(values["w"], w, rtol=1e-6)
    np.testing.assert_allclose(values["bias"], bias, rtol=1e-6)


def test_without_hook_and_queue_runner_the_steps_are_made_too(cluster: Callable[..., Cluster]) -> None:
    made = cluster("bare", 3)
    for each in made.workers:
        each.go()
    for each in made.workers:
        each.steps_to_the_end()
    values, (w, _) = made.values(), trained([0, 1, 2])
    assert values["global_step"] == STEPS
    np.testing.assert_allclose(values["w"], w, rtol=1e-6)


def test_backups_are_not_waited_for_and_not_counted_when_late(cluster: Callable[..., Cluster]) -> None:
    made = cluster("hook", 2)
    for each in made.workers[:2]:
        each.go()
    for each in made.workers[:2]:
        each.steps_to_the_end()
    made.workers[2].go()
    made.workers[2].steps_to_the_end()
    values, (w, _) = made.values(), trained([0, 1])
    assert values["global_step"] == STEPS
    np.testing.assert_allclose(values["w"], w, rtol=1e-6)


def test_a_worker_that_ends_early_is_waited_for_no_more(cluster: Callable[..., Cluster]) -> None:
    made = cluster("early", 3)
    for each in made.workers:
        each.go()
    assert [len(each.steps_to_the_end()) for each in made.workers[1:]] == [program.EARLY] * 2
    made.workers[0].steps_to_the_end()
    assert made.values()["global_step"] == STEPS


@pytest.mark.parametrize("dies", [0, 2], ids=["the chief", "another one"])
def test_the_others_go_on_when_a_worker_is_killed(cluster: Callable[..., Cluster], dies: int) -> None:
    made = cluster("hook", 3, 2.0)
    for each in made.workers:
        each.go()
    victim = made.workers[dies]
    while (step := victim.said()) != "2":  # a step comes again when another one was silent for as long as its lease
        assert step in ("0", "1"), made.explained()
    victim.kill()
    for task, each in enumerate(made.workers):
        if task != dies:
            each.steps_to_the_end()
    values = made.values()
    assert values["global_step"] == STEPS
    np.testing.assert_allclose(values["w"], trained([task for task in range(3) if task != dies])[0], atol=1.0)


@pytest.mark.parametrize("how", ["take", "update"])
def test_a_step_in_which_the_chief_is_killed_counts_once_for_all_variables(
    cluster: Callable[..., Cluster], how: str
) -> None:
    made = cluster(how, 3, 10.0)  # of a worker that was silent for so long without being dead, a step would lack one
    for each in made.workers:
        each.go()
    for each in made.workers[1:]:
        each.steps_to_the_end()
    assert made.workers[0].process.wait(TIMEOUT_S) == -signal.SIGKILL
    values, (w, bias) = made.values(), trained([0, 1, 2], [1, 2], program.DYING)
    assert values["global_step"] == STEPS
    np.testing.assert_allclose(values["w"], w, rtol=1e-5)
    np.testing.assert_allclose(values["bias"], bias, rtol=1e-5)
