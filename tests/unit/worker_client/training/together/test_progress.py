from __future__ import annotations

import io
import re

from rich.console import Console

from worker_client.training.together.progress import LINE_EVERY_S, SessionProgress


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_without_a_terminal_a_line_is_printed_now_and_then() -> None:
    clock, output = Clock(), io.StringIO()
    with SessionProgress("worker:1", 100, Console(file=output, width=80), clock) as progress:
        progress.update(0, 0, "")
        clock.now_s += LINE_EVERY_S
        progress.update(50, 2, "worker:2")
        clock.now_s += LINE_EVERY_S / 2
        progress.update(75, 0, "")
    assert output.getvalue() == ("worker:1: step 50 of 100, 5.0 steps/s, staleness 2, missing worker:2, 10 s left\n")


def test_a_step_that_goes_back_begins_the_rate_anew() -> None:
    clock = Clock()
    progress = SessionProgress("worker:1", None, Console(file=io.StringIO()), clock)
    progress.update(50, 0, "")
    clock.now_s += 1
    progress.update(10, 0, "")
    clock.now_s += 1
    assert progress.line(14, 0, "") == "worker:1: step 14, 4.0 steps/s, staleness 0"


def test_the_bar_fits_a_terminal_of_80_columns() -> None:
    clock = Clock()
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=80, color_system=None, legacy_windows=False)
    with SessionProgress("worker:1", 100000, console, clock) as progress:
        progress.update(0, 0, "")
        clock.now_s += 10
        progress.update(50000, 3, "")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", output.getvalue().replace("\r", "\n"))
    last = [line for line in plain.splitlines() if "50000/100000" in line][-1]
    assert "5000.0 steps/s, staleness 3" in last
    assert len(last) <= 80
