"""Rounds for which a ps task has no memory: who hears of that, and what becomes of the model and of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ps_protocol.errors import DataLossError, ResourceExhaustedError
from ps_server.core.state import MemoryState
from ps_server.log.state_parts import StateParts
from ps_server.store import round_calls
from ps_server.store.function_calls import FunctionCalls, PlannedCall
from tests.conftest import Eventually
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster, spec_of
from tests.unit.worker_client.optimizers.together import OPTIMIZERS, Worker, alone, gradients
from worker_client.optimizers.outcomes import Applied

TIMEOUT_S = 60.0
SLACK = 16


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class NoMemoryAfterOne:
    """Has each ps task make the first step of a round, and then find no memory for another one."""

    def __init__(self) -> None:
        self.failed = 0
        self._made: Counter[int] = Counter()
        self._carry_out = FunctionCalls.carry_out

    def install(self, patches: pytest.MonkeyPatch) -> None:
        def carry_out(calls: FunctionCalls, planned: PlannedCall) -> None:
            if self._made[id(calls)]:
                self.failed += 1
                raise MemoryError
            self._made[id(calls)] += 1
            self._carry_out(calls, planned)

        patches.setattr(FunctionCalls, "carry_out", carry_out)
        patches.setattr(round_calls, "_PAUSE_S", 0.0)


def test_a_round_that_cannot_be_finished_is_an_error_for_all_and_a_restore_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SmallCluster(2) as cluster:
        worker = Worker(cluster.client(0), OPTIMIZERS["adam"](sync="bsp"))
        worker.step(gradients(0, 0))
        saved = worker.client.save(tmp_path / "saved").path
        scarce = NoMemoryAfterOne()
        with monkeypatch.context() as patches:
            scarce.install(patches)
            with pytest.raises(DataLossError, match="no memory to finish round 2, of which"):
                worker.step(gradients(0, 1))
        assert scarce.failed >= round_calls._ATTEMPTS
        message = "had no memory to finish round 2, of which it has made a part; restore a checkpoint"
        reader = cluster.client(observer="update")
        for ask in (
            lambda: worker.step(gradients(0, 1)),
            worker.mirror.pull,
            lambda: reader.mirror(["matrix", "table", "bias"], trained_by="Adam"),
            lambda: Worker(cluster.client(1), OPTIMIZERS["adam"](sync="bsp")).step(gradients(1, 0)),
        ):
            with pytest.raises(DataLossError, match=message):
                ask()
        again = cluster.client(0)
        again.restore(saved)
        worker = Worker(again, OPTIMIZERS["adam"](sync="bsp"))
        assert worker.step(gradients(0, 1))[:3] == ("applied", 1, 1)
        for found, expected in zip(worker.values(), alone(OPTIMIZERS["adam"], 1, 2), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def one_waits(
    cluster: SmallCluster, pool: ThreadPoolExecutor, eventually: Eventually
) -> tuple[Future[Applied], Worker, Worker]:
    """A worker that has handed in and waits for a second one, who has not joined."""
    first, second = (Worker(cluster.client(index), OPTIMIZERS["adam"](sync="bsp(total=2)")) for index in range(2))
    begun = pool.submit(first.step, gradients(0, 0))
    eventually(lambda: cluster.tasks[0].num_waiting == 1)
    return begun, first, second


def test_a_gradient_above_the_memory_limit_is_refused_and_the_others_go_on_when_it_is_given_up(
    pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    with SmallCluster(2) as cluster:
        begun, _, second = one_waits(cluster, pool, eventually)
        second.optimizer.join(second.variables)
        needed = cluster.tasks[1].variable_bytes
        second.step(gradients(1, 0))
        begun.result(TIMEOUT_S)
        assert cluster.tasks[1].variable_bytes > needed + SLACK
    limits = (0, needed + SLACK)  # of ps 1: both may join, and one gradient may be staged
    parts = [StateParts(spec_of(2), index, memory_limit_bytes=limit) for index, limit in enumerate(limits)]
    with SmallCluster(2, [MemoryState(each) for each in parts]) as cluster:
        begun, first, second = one_waits(cluster, pool, eventually)
        before = first.values()
        for _ in range(2):
            with pytest.raises(ResourceExhaustedError, match=r"rounds/Adam/staged/1/1/0 .* of the memory limit of"):
                second.step(gradients(1, 0))
        assert not begun.done()
        for found, expected in zip(second.values(), before, strict=True):
            np.testing.assert_array_equal(found, expected)
        second.optimizer.finish()
        assert begun.result(TIMEOUT_S)[:3] == ("applied", 1, 1)
        for found, expected in zip(first.values(), alone(OPTIMIZERS["adam"], 1, 1), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
        (tally,) = [each for each in first.optimizer.training_report().workers if each.worker == "worker:1"]
        assert (tally.applied, tally.late, tally.stale, tally.duplicate) == (0, 0, 0, 0)
