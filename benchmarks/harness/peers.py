"""Runs the processes of a peer that trains by itself: some hold parameters, the others train and print figures."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from typing import IO, Final

_START_TIMEOUT_S: Final = 300.0
"""For all processes of a peer to start: importing TensorFlow takes 10 s of a processor, in each of them at once."""

_END_TIMEOUT_S: Final = 60.0
_SHOWN: Final = 2000


def trained_by(name: str, commands: Sequence[Sequence[str]], num_ps: int, seconds: float) -> list[tuple[int, float]]:
    """Runs all processes of a peer until its workers have ended, and then ends the others.

    Args:
        name: Of the peer.
        commands: One for each process, those that hold parameters first.
        num_ps: How many of them those are.
        seconds: How long the workers train.

    Returns:
        For each worker its steps and the accuracy that it has found, which are the last words that it prints.

    Raises:
        RuntimeError: They have not ended in time, or not with these figures; it says what they have printed.
    """
    tasks: list[subprocess.Popen[str]] = []
    said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed below
    try:
        for line in commands:
            task = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=said, text=True)
            tasks.append(task)
        bound_s = _START_TIMEOUT_S + seconds + _END_TIMEOUT_S
        ends = [each.communicate(timeout=bound_s)[0].split()[-2:] for each in tasks[num_ps:]]
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{name} has not ended within {bound_s:.0f} s; it said: {_last_of(said)}") from error
    finally:
        for each in tasks:
            each.kill()
            each.communicate(timeout=_END_TIMEOUT_S)
        last = _last_of(said)
        said.close()
    if any(len(each) != 2 for each in ends):
        raise RuntimeError(f"{name}: workers have printed {ends}; it said: {last}")
    return [(int(steps), float(accuracy)) for steps, accuracy in ends]


def _last_of(said: IO[str]) -> str:
    said.seek(0)
    return said.read()[-_SHOWN:].strip()
