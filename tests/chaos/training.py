"""Training by one worker, and the bits that it ends with."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np

import worker_client as ss
from tests.chaos.ps_processes import PsTask
from tests.chaos.testbed import connected

Mode: TypeAlias = Literal["tf1", "lazy", "catch_up"]
MODES: Final[tuple[Mode, ...]] = ("tf1", "lazy", "catch_up")
Bits: TypeAlias = dict[str, tuple[bytes, int]]
"""Of each variable and slot, and of the counts: the value and the version."""

STEPS: Final = 300
STEP_TIMEOUT_S: Final = 150.0


def train(
    client: ss.Client,
    mode: Mode,
    meanwhile: Callable[[int], None] = lambda _step: None,
    *,
    device: str = "/job:ps/task:0",
) -> Bits:
    """Trains a dense and a sparse variable by gradients that follow from their values.

    Args:
        client: Whose variables they are.
        mode: What steps by rows do to the other rows.
        meanwhile: Called in each step with its number, while its gradients are on their way; in every third just
            before, since those are waited for together with the new values.
        device: Where they are.
    """
    noise, optimizer = np.random.default_rng(5), ss.train.Adam(0.05, sparse=mode)
    with client.as_default():
        with ss.device(device):
            dense, table = _variable("dense", (16, 8)), _variable("table", (40, 4))
        pulled = client.mirror([dense])
        for step in range(STEPS):
            rows = noise.integers(0, len(table), 6)
            at_dense = pulled.values[0] - 1 + noise.standard_normal(dense.shape)
            at_rows = table.gather(rows) + 1 + noise.standard_normal((6, 4))
            gradients = [
                (at_dense.astype(np.float32), dense),
                (ss.IndexedSlices(at_rows.astype(np.float32), rows), table),
            ]
            if step % 3:
                applied = optimizer.apply_gradients(gradients, wait=False)
                meanwhile(step)
                applied.result(STEP_TIMEOUT_S)
                pulled.pull()
            else:
                meanwhile(step)
                optimizer.apply_gradients(gradients, pull=pulled)
        kept = [dense, table, *optimizer.slots(dense).values(), *optimizer.slots(table).values()]
        return {each.spec.name: (each.read_value().tobytes(), each.version) for each in kept}


def _variable(name: str, shape: tuple[int, ...]) -> Any:
    return ss.get_variable(name, shape, np.float32, initializer=ss.random_normal_initializer(seed=3))


@functools.cache
def undisturbed(mode: Mode) -> Bits:
    """What training ends with when nothing happens, on a ps that keeps nothing."""
    with (
        tempfile.TemporaryDirectory() as directory,
        PsTask(Path(directory)) as ps,
        connected([ps.start().address], "tcp") as client,
    ):
        return train(client, mode)
