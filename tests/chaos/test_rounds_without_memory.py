"""A round for which a ps process has no memory, by a limit of the system: nobody reads a half, and it is made later."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import DeadlineExceededError, ResourceExhaustedError
from tests.chaos.ps_processes import PsTask
from tests.chaos.testbed import connected
from worker_client.objects import whole_rounds
from worker_client.objects.round_reads import Pull
from worker_client.objects.training_group import TrainingGroup

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.integration,
    pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux sets the limits of another process"),
]

SIZE: Final = 32 * 1024 * 1024
"""Bytes of the part of the variable on each ps; so large that the allocator asks the system for them."""

HEADROOM: Final = 1024 * 1024


@contextmanager
def no_more_memory(pid: int) -> Iterator[None]:
    """Lets a process have not much more memory than it has."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    used = int(fields["VmData"].split()[0]) * 1024
    before = resource.prlimit(pid, resource.RLIMIT_DATA)
    resource.prlimit(pid, resource.RLIMIT_DATA, (used + HEADROOM, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_DATA, before)


def test_a_ps_without_memory_for_a_round_makes_it_when_it_has_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as resources:
        tasks = []
        for index in range(2):
            (tmp_path / f"ps{index}").mkdir()
            tasks.append(resources.enter_context(PsTask(tmp_path / f"ps{index}", index=index)))
        addresses = [each.address for each in tasks]
        for each in tasks:
            each.cluster = addresses
            each.start()
        client = resources.enter_context(connected(addresses, "tcp"))
        with client.as_default():
            partitioner = ss.fixed_size_partitioner(2)
            table = ss.get_variable(
                "table", [SIZE // 4 * 2], initializer=ss.zeros_initializer(), partitioner=partitioner
            )
        optimizer = ss.train.GradientDescent(1.0, name="sgd", sync="bsp")
        gradient = np.ones(table.shape, np.float32)
        optimizer.join([table])
        onlooker = resources.enter_context(ss.connect(client.cluster_spec, observer=True))
        mirror = onlooker.mirror([onlooker.variable("table")], trained_by="sgd")
        bring, scarce = TrainingGroup._bring, no_more_memory(tasks[1].pid)

        def bring_without_memory(group: TrainingGroup, pull: Pull | None, *seen: Any, **more: Any) -> None:
            monkeypatch.setattr(TrainingGroup, "_bring", bring)
            scarce.__enter__()  # what the worker has staged is there, and the round is decided
            bring(group, pull)

        monkeypatch.setattr(TrainingGroup, "_bring", bring_without_memory)
        with pytest.raises(ResourceExhaustedError, match=r"no memory for .* rounds/sgd/stamp/1; nothing was changed"):
            optimizer.apply_gradients([(gradient, table)])
        with monkeypatch.context() as patches:
            patches.setattr(whole_rounds, "READ_TIMEOUT_S", 0.0)
            with pytest.raises(DeadlineExceededError, match=r"sgd: .* \(ps:0 at 1, ps:1 at 0\)"):
                mirror.pull()
        scarce.__exit__(None, None, None)
        verdicts = [optimizer.apply_gradients([(gradient, table)])[0].verdict for _ in range(3)]
        assert verdicts == ["stale", "applied", "applied"]  # the first one was computed before round 1 was on ps 1
        mirror.pull()
        assert optimizer.training_report().round == 3
        np.testing.assert_array_equal(mirror.values[0], np.full(table.shape, -3, np.float32))
