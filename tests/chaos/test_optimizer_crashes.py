"""Training whose ps is killed again and again ends with the bits that it has undisturbed: value, slots and count."""

from __future__ import annotations

import random
import signal
import threading
from collections import deque
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.ps_processes import PsTask
from tests.chaos.testbed import connected
from tests.chaos.training import MODES, STEPS, Mode, train, undisturbed

pytestmark = [pytest.mark.chaos, pytest.mark.integration, pytest.mark.usefixtures("impatient")]

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
