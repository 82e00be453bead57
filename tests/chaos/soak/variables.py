"""What the soak adds to, and how what was acknowledged is written down.

Deltas are whole numbers times a pattern that is fixed for each variable. So sums of float64 are exact as well, and an
element that one update reached and its neighbour did not shows, whatever the sum.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

import worker_client as ss

MAX_FACTOR: Final = 1_000
_PATTERN_LENGTH: Final = 7
_RECORD: Final = struct.Struct("<QIIi")


@dataclass(frozen=True, slots=True)
class SoakVariable:
    """One variable of the soak.

    Attributes:
        name: Full name.
        ps_index: Where it is.
        dtype: A type in which the sums are exact.
        shape: Its shape.
        weight: How often it is updated, in relation to the others.
    """

    name: str
    ps_index: int
    dtype: str
    shape: tuple[int, ...]
    weight: int

    def declare(self) -> ss.Variable:
        """Gets it, or creates it as zeros, on its ps task."""
        with ss.device(f"/job:ps/task:{self.ps_index}"):
            variable = ss.get_variable(self.name, self.shape, dtype=self.dtype, initializer=ss.zeros_initializer())
        assert isinstance(variable, ss.Variable)
        return variable

    def multiple(self, factor: int) -> npt.NDArray[Any]:
        """The delta, or the value, that is a number times the pattern."""
        count = int(np.prod(self.shape, dtype=np.int64))
        pattern = 1 + np.arange(count, dtype=np.int64) % _PATTERN_LENGTH
        return (factor * pattern).reshape(self.shape).astype(self.dtype)


def soak_variables(num_ps: int) -> list[SoakVariable]:
    """Scalars, small and medium vectors on every ps task; the lightest ones are updated most."""
    kinds: list[tuple[str, str, tuple[int, ...], int]] = [
        ("counter", "int64", (), 40),
        ("scalar", "float64", (), 40),
        ("vector", "int64", (64,), 20),
        ("rows", "float64", (512, 16), 4),
    ]
    return [
        SoakVariable(f"soak/ps_{index}/{kind}", index, dtype, shape, weight)
        for index in range(num_ps)
        for kind, dtype, shape, weight in kinds
    ]


@dataclass(frozen=True, slots=True)
class NumberedUpdate:
    """An update of one worker.

    Attributes:
        number: Its number, from 1.
        variable: Index of the variable.
        factor: What of the pattern was added.
        group: Size of the batch over several ps tasks that it was part of, 1 if it was sent by itself.
    """

    number: int
    variable: int
    factor: int
    group: int = 1


class UpdateLog:
    """A file that updates are appended to, open as long as the process lives; it outlives SIGKILL. Thread-safe."""

    def __init__(self, path: Path):
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, *updates: NumberedUpdate) -> None:
        records = [_RECORD.pack(each.number, each.variable, each.group, each.factor) for each in updates]
        os.write(self._descriptor, b"".join(records))


def read_updates(path: Path) -> Iterator[NumberedUpdate]:
    """The updates in a file, in the order in which they were appended; none if there is no file."""
    for number, variable, group, factor in _RECORD.iter_unpack(path.read_bytes() if path.exists() else b""):
        yield NumberedUpdate(number, variable, factor, group)


def num_updates(path: Path) -> int:
    """How many updates are in a file."""
    return path.stat().st_size // _RECORD.size if path.exists() else 0


def sent_path(directory: Path, worker: int, life: int) -> Path:
    """Where a worker writes what it is about to send."""
    return directory / f"worker-{worker}-{life}.sent"


def acknowledged_path(directory: Path, worker: int, life: int) -> Path:
    """Where it writes what was acknowledged."""
    return directory / f"worker-{worker}-{life}.acknowledged"
