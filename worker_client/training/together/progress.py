"""How far a training session is: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S: Final = 10.0

_BAR_WIDTH: Final = 14  # with all else in 80 columns
_RATE_SAMPLES: Final = 20
_SAMPLE_EVERY_S: Final = 0.25


class SessionProgress:
    """Shows steps, steps in a second, the time that is left, the staleness of the last gradient, and who is missing.

    Not thread-safe.

    Args:
        what: Stands before all else, as "worker:1".
        total: How many steps there are to be; None if that is not known.
        console: Where to; standard error by default.
        clock: Seconds.
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._what = what
        self._total = total
        self._clock = clock
        self._console = console or Console(file=sys.stderr)
        self._samples: deque[tuple[float, int]] = deque(maxlen=_RATE_SAMPLES)
        self._line_at_s = clock() + LINE_EVERY_S
        self._progress: Progress | None = None
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn(what),
                BarColumn(_BAR_WIDTH),
                MofNCompleteColumn(),
                TextColumn("{task.fields[facts]}"),
                TimeRemainingColumn(compact=True),
                console=self._console,
            )
            self._bar = self._progress.add_task(what, total=total, facts="")

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, step: int, staleness: int, missing: str) -> None:
        """Takes how far it is.

        Args:
            step: Of all workers.
            staleness: Of the last gradient.
            missing: Who is; empty if nobody is.
        """
        now_s = self._clock()
        if self._samples and step < self._samples[-1][1]:  # from a checkpoint
            self._samples.clear()
        if not self._samples or now_s - self._samples[-1][0] >= _SAMPLE_EVERY_S:
            self._samples.append((now_s, step))
        if self._progress is not None:
            facts = self._facts(step, now_s, staleness, missing)
            self._progress.update(self._bar, completed=step, facts=", ".join(facts))
        elif now_s >= self._line_at_s:
            self._line_at_s = now_s + LINE_EVERY_S
            self._console.print(self.line(step, staleness, missing), highlight=False, soft_wrap=True)

    def line(self, step: int, staleness: int, missing: str) -> str:
        """The same as one line."""
        of = "" if self._total is None else f" of {self._total}"
        now_s = self._clock()
        facts = self._facts(step, now_s, staleness, missing)
        rate = self._rate(now_s, step)
        if rate and self._total is not None and self._total > step:
            facts.append(f"{(self._total - step) / rate:.0f} s left")
        return f"{self._what}: {', '.join([f'step {step}{of}', *facts])}"

    def _facts(self, step: int, now_s: float, staleness: int, missing: str) -> list[str]:
        rate = self._rate(now_s, step)
        facts = [] if rate is None else [f"{rate:.1f} steps/s"]
        facts.append(f"staleness {staleness}")
        return [*facts, f"missing {missing}"] if missing else facts

    def _rate(self, now_s: float, step: int) -> float | None:
        if not self._samples:
            return None
        first_s, first_step = self._samples[0]
        return (step - first_step) / (now_s - first_s) if now_s > first_s and step > first_step else None
