"""Steps that rows were left out of: what a zero gradient would have done to them, when they are used the next time.

The result is that of the mode "tf1" to rounding, if the settings have been the same in all those steps. It does not
depend on which rows are computed together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ps_protocol.operations import Array
from ps_server.rules.computed_rows import put_rows
from ps_server.rules.optimizers.application import run_by_numpy
from ps_server.rules.optimizers.blocks import NUM_TARGETS, Workspace, spare_memory
from ps_server.rules.optimizers.constants import elementwise, rounded_settings
from ps_server.rules.row_schedule import Rows

Steps = npt.NDArray[np.int64]

_NEGLIGIBLE: Final = 1e-10
"""Steps of Adam's that are smaller by this factor than the first are left out."""
_MOST_SORTED: Final = 2**40
"""Rows that were left out of more steps are in any order; nobody has made so many."""
_NUM_LONG: Final = 7  # arrays of 64 bits, a number for each row
_NUM_ROUNDED: Final = 2  # arrays of the dtype of the computation, as above
_INT64, _FLOAT64 = np.dtype(np.int64), np.dtype(np.float64)


class CatchUp:
    """Lets rows catch up, some at a time. All memory is taken here, so that it cannot run out between two of them.

    Args:
        rule: One that has the mode "catch_up".
        numbers: Its settings.
        workspace: Of this thread.
        rows: The most that are computed at once.
        width: Elements of a row.

    Attributes:
        last: Room for the last step that each row has had, ``[rows]``.

    Raises:
        MemoryError: There is no room.
    """

    def __init__(self, rule: str, numbers: Sequence[float], workspace: Workspace, rows: int, width: int):
        self._rule, self._workspace = rule, workspace
        dtype = workspace.dtype
        self._settings = rounded_settings(rule, numbers, 1, dtype)
        num_blocks = 0 if rule == "momentum" else NUM_TARGETS
        row_bytes = 8 * _NUM_LONG + dtype.itemsize * (_NUM_ROUNDED + num_blocks * width)
        self._memory = spare_memory.take(rows * row_bytes)
        self._num_taken = 0
        self.last: Final[Steps] = self._room(_INT64, rows)
        self._skipped, self._ordered, self._order, self._positions = (self._room(_INT64, rows) for _ in range(4))
        self._positions[:] = np.arange(rows)
        self._doubles, self._others = self._room(_FLOAT64, rows), self._room(_FLOAT64, rows)
        self._rounded, self._also_rounded = self._room(dtype, rows), self._room(dtype, rows)
        self._blocks = [self._room(dtype, rows * width) for _ in range(num_blocks)]

    def _room(self, dtype: np.dtype[Any], size: int) -> Any:
        begin, self._num_taken = self._num_taken, self._num_taken + size * dtype.itemsize
        return self._memory[begin : self._num_taken].view(dtype)

    def close(self) -> None:
        """Gives the memory back."""
        spare_memory.give(self._memory)

    def run(self, blocks: Sequence[Array], last: Steps, step: int) -> None:
        """Lets rows have all steps up to ``step``, with a gradient of zero.

        Args:
            blocks: The value and the slots, ``[rows, width]`` each, changed in place.
            last: The last step that each row has had, ``[rows]``. Those that have had ``step`` stay as they are.
            step: The step after which they are wanted.
        """
        skipped = self._skipped[: last.size]
        np.subtract(step, last, out=skipped)
        np.maximum(skipped, 0, out=skipped)
        if self._rule == "momentum":
            self._run_momentum(blocks, skipped)
        else:
            self._run_adam(blocks, skipped, last)

    def _run_momentum(self, blocks: Sequence[Array], skipped: Steps) -> None:
        """The sum of a geometric series."""
        value, momentum = blocks
        decay = float(self._settings["momentum"])
        kept, total = self._doubles[: skipped.size], self._others[: skipped.size]
        np.copyto(total, skipped)
        np.power(decay, total, out=kept)
        if decay != 1.0:
            np.subtract(1.0, kept, out=total)
            np.multiply(total, decay, out=total)
            np.divide(total, 1.0 - decay, out=total)
        if self._settings["use_nesterov"]:
            np.multiply(total, decay, out=total)
        np.multiply(total, float(self._settings["learning_rate"]), out=total)
        moved = self._workspace.spare(0, value.size).reshape(value.shape)
        np.multiply(_column(total, self._rounded), momentum, out=moved)
        np.subtract(value, moved, out=value)
        np.multiply(momentum, _column(kept, self._rounded), out=momentum)

    def _run_adam(self, blocks: Sequence[Array], skipped: Steps, last: Steps) -> None:
        """Step by step as long as ``m`` counts, the k-th of all rows at once; what is left only decays."""
        settings, dtype = self._settings, self._workspace.dtype
        one = elementwise(self._rule, settings, dtype)
        beta1, beta2 = float(settings["beta1"]), float(settings["beta2"])
        order, ordered = self._by_skipped(skipped), self._ordered[: skipped.size]
        np.take(skipped, order, out=ordered, mode="clip")
        np.take(last, order, out=skipped, mode="clip")
        skipped, last = ordered, skipped
        in_order = [room[: each.size].reshape(each.shape) for room, each in zip(self._blocks, blocks, strict=False)]
        for block, each in zip(blocks, in_order, strict=True):
            np.take(block, order, axis=0, out=each, mode="clip")
        longest, most = _steps_that_count(beta1, beta2), int(skipped[-1])
        for k in range(1, min(longest, most) + 1):
            first = int(np.searchsorted(skipped, k, side="left"))
            constants = self._constants(one.constants, last[first:], k)
            run_by_numpy(self._workspace, one.body, [each[first:] for each in in_order], (dtype.type(0),), constants)
        if most > longest:
            np.subtract(skipped, longest, out=skipped)
            np.maximum(skipped, 0, out=skipped)
            kept = 1.0 - float(settings["learning_rate"]) * float(settings.get("weight_decay", 0.0))
            for block, factor in zip(in_order, (kept, beta1, beta2), strict=False):
                powers = self._doubles[: skipped.size]
                np.copyto(powers, skipped)
                np.power(factor, powers, out=powers)
                np.multiply(block, _column(powers, self._rounded), out=block)
        for block, each in zip(blocks, in_order, strict=True):
            put_rows(block, order, each)

    def _by_skipped(self, skipped: Steps) -> Rows:
        """Returns the rows in the order of how many steps they were left out of."""
        bits = (skipped.size - 1).bit_length()
        keys: Rows = self._order[: skipped.size]
        np.minimum(skipped, _MOST_SORTED, out=keys)
        np.left_shift(keys, bits, out=keys)
        np.bitwise_or(keys, self._positions[: skipped.size], out=keys)
        keys.sort()
        np.bitwise_and(keys, (1 << bits) - 1, out=keys)
        return keys

    def _constants(self, constants: Sequence[Any], last: Steps, k: int) -> list[Any]:
        """Returns the constants of a body, those that follow from the step for each row."""
        settings = self._settings
        rests, roots = self._doubles[: last.size], self._others[: last.size]
        np.copyto(roots, last)
        np.add(roots, k, out=roots)
        np.power(float(settings["beta1"]), roots, out=rests)
        np.subtract(1.0, rests, out=rests)
        np.power(float(settings["beta2"]), roots, out=roots)
        np.subtract(1.0, roots, out=roots)
        np.sqrt(roots, out=roots)
        rates = np.divide(float(settings["learning_rate"]), rests, out=rests)
        of_rows = [*constants]
        if self._rule == "adamw":
            of_rows[-1] = _column(roots, self._also_rounded)
        else:
            np.multiply(rates, roots, out=rates)
        of_rows[0] = _column(rates, self._rounded)
        return of_rows


def _column(numbers: npt.NDArray[np.float64], room: Array) -> Array:
    """Rounds numbers for rows, ``[n]``, and returns them as ``[n, 1]``, in the room given."""
    rounded = room[: numbers.size]
    np.copyto(rounded, numbers, casting="unsafe")
    return rounded[:, np.newaxis]


def _steps_that_count(beta1: float, beta2: float) -> int:
    """Returns after how many steps Adam's steps are negligible; they shrink by ``beta1 / sqrt(beta2)`` each time."""
    ratio = beta1 / math.sqrt(beta2) if beta2 else math.inf
    if ratio >= 1.0:
        return 2**62
    return 1 + math.ceil(math.log(_NEGLIGIBLE) / math.log(ratio)) if ratio else 1
