"""Training whose ps is killed again and again ends with the bits that it has undisturbed: value, slots and count."""

from __future__ import annotations

import functools
import random
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pytest

import worker_client as ss
from tests.chaos.patience import ask_impatiently
from tests.chaos.ps_processes import PsTask
from tests.chaos.testbed import connected

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

Mode: TypeAlias = Literal["tf1", "lazy", "catch_up"]
MODES: Final[tuple[Mode, ...]] = ("tf1", "lazy", "catch_up")
Bits: TypeAlias = dict[str, tuple[bytes, int]]
"""Of each variable and slot, and of the counts: the value and the version."""

STEPS: Final = 300
LIFE_TIMEOUT_S: Final = 150.0
PLACES: Final = (
    "request.received",
    "batch.before_log",
    "batch.after_log",
    "journal.before_commit",
    "journal.after_commit",
    "batch.before_reply",
    "reply.send",
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    ask_impatiently(monkeypatch)


def train(client: ss.Client, mode: Mode, meanwhile: Callable[[int], None] = lambda _step: None) -> Bits:
    """Trains a dense and a sparse variable by gradients that follow from their values.

    Args:
        client: Whose variables they are.
        mode: What steps by rows do to the other rows.
        meanwhile: Called in each step with its number, while its gradients are on their way.
    """
    noise, optimizer = np.random.default_rng(5), ss.train.Adam(0.05, sparse=mode)
    with client.as_default():
        dense, table = variable("dense", (16, 8)), variable("table", (40, 4))
        for step in range(STEPS):
            rows = noise.integers(0, len(table), 6)
            at_dense = dense.read_value() - 1 + noise.standard_normal(dense.shape)
            at_rows = table.gather(rows) + 1 + noise.standard_normal((6, 4))
            gradients = [
                (at_dense.astype(np.float32), dense),
                (ss.IndexedSlices(at_rows.astype(np.float32), rows), table),
            ]
            applied = optimizer.apply_gradients(gradients, wait=False)
            meanwhile(step)
            applied.result(LIFE_TIMEOUT_S)
        kept = [dense, table, *optimizer.slots(dense).values(), *optimizer.slots(table).values()]
        return {each.spec.name: (each.read_value().tobytes(), each.version) for each in kept}


def variable(name: str, shape: tuple[int, ...]) -> Any:
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


@pytest.mark.parametrize(("mode", "transport"), list(zip(MODES, ("grpc", "unix", "shm"), strict=True)))
def test_a_ps_that_is_killed_at_any_instruction_of_a_step_counts_it_once(
    tmp_path: Path, mode: Mode, transport: str
) -> None:
    chance = random.Random(mode)
    plans = [(place, chance.randint(5, 40)) for place in (PLACES * 2)[MODES.index(mode) :][:7:2]]
    with PsTask(tmp_path, "journal") as ps:
        lives = deque([*(f"{place}=crash@{number}" for place, number in plans), ""])
        ps.start(lives.popleft())
        ends: list[int] = []

        def live_on() -> None:
            while lives:
                ends.append(ps.wait(LIFE_TIMEOUT_S))
                if lives:
                    ps.start(lives.popleft())

        lived = threading.Thread(target=live_on, name="restart")
        lived.start()
        try:
            with connected([ps.address], transport) as client:
                bits = train(client, mode)
        except BaseException:
            lives.clear()
            ps.signal(signal.SIGKILL)
            raise
        finally:
            lived.join(LIFE_TIMEOUT_S)
        assert ends == [-signal.SIGKILL] * len(plans)
        assert ps.faults == [(place, "crash") for place, _ in plans]
    assert bits == undisturbed(mode)
    counts = {name: bits[name][1] for name in bits if name.endswith("/step")}
    assert counts == {"dense/Adam/step": STEPS, "table/Adam/step": STEPS}


@pytest.mark.parametrize("mode", MODES)
def test_a_ps_that_is_killed_while_gradients_are_on_their_way_counts_them_once(tmp_path: Path, mode: Mode) -> None:
    chance = random.Random(mode)
    killed = sorted(chance.sample(range(STEPS), 4))
    ended_well = killed.pop(2)  # so that it goes on from a snapshot
    ends: list[int] = []

    with PsTask(tmp_path, "journal") as ps:

        def disturb(step: int) -> None:
            if step in killed or step == ended_well:
                ps.signal(signal.SIGTERM if step == ended_well else signal.SIGKILL)
                ends.append(ps.wait())
                ps.start()

        with connected([ps.start().address], "tcp") as client:
            bits = train(client, mode, disturb)
    assert sorted(ends) == [-signal.SIGKILL] * len(killed) + [0]
    assert bits == undisturbed(mode)
