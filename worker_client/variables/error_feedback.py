"""Keeps what rounding took from one push and adds it to the next, so that over many pushes nothing is lost.

A delta ``d`` that travels in a lossy form reaches the ps as ``q = Q(d + r)``, where ``r`` is what earlier pushes still
owe, and then ``r' = d + r - q``. What the ps has added after any number of pushes so differs from the sum of the deltas
by ``r'`` alone: by one rounding, not by one for each push. From Seide et al. 2014, "1-Bit Stochastic Gradient Descent
and its Application to Data-Parallel Distributed Training of Speech DNNs"; that SGD then converges as without rounding
is shown by Karimireddy et al. 2019, "Error Feedback Fixes SignSGD and other Gradient Compression Schemes".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from ps_protocol.codec import wire_dtypes
from ps_protocol.forks import new_lock
from ps_protocol.operations import Array, Update, UpdateRule


@dataclass(frozen=True, slots=True)
class PreparedUpdate:
    """An update on its way.

    Attributes:
        operation: What to send. Its value is one that its wire form holds exactly: however often it is encoded, the
            bytes are the same.
        roll_back: To be called once if the ps has refused the operation, or may have: then it counts as not sent.
    """

    operation: Update
    roll_back: Callable[[], None]


class ErrorFeedback:
    """What is still to be added to one variable. Thread-safe.

    Takes as much memory as the variable's value, from the first push on.
    """

    def __init__(self) -> None:
        # guards: _residual (flat), its elements, _epoch; held while a delta is quantised, so that each rounding error
        # goes to exactly one later push. No other lock is taken under it.
        self._lock: Final = new_lock()
        self._residual: Array | None = None
        self._epoch = 0

    def push(self, update: Update) -> PreparedUpdate:
        """Returns the update to send instead of one whose value is to be added or subtracted in a lossy form.

        Args:
            update: Its value has the variable's shape; it is not changed, and must not be until the push is settled.
        """
        delta = np.ascontiguousarray(update.value)
        sent = np.empty_like(delta)
        with self._lock, np.errstate(all="ignore"):
            if self._residual is None:
                self._residual = np.zeros(delta.size, delta.dtype)
            try:
                encoded = _quantise(update, delta, self._residual, sent)
            except BaseException:
                self._residual = None  # it is half changed
                self._epoch += 1  # earlier pushes have nothing left to be taken back from
                raise
            epoch = self._epoch
        operation = replace(update, value=sent, encoded=encoded)
        return PreparedUpdate(operation, lambda: self._roll_back(delta, sent, _sign(update.rule), epoch))

    def forget(self) -> None:
        """Owes nothing any more: the value that it was to be added to is replaced."""
        with self._lock:
            self._residual = None
            self._epoch += 1

    def owed(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        """Returns what is still to be added, as a new array."""
        with self._lock:
            return np.zeros(shape, dtype) if self._residual is None else self._residual.reshape(shape).copy()

    def _roll_back(self, delta: Array, sent: Array, sign: int, epoch: int) -> None:
        """Takes the change of one push back, and leaves those that came after it."""
        with self._lock, np.errstate(all="ignore"):
            if self._residual is None or self._epoch != epoch:
                return  # forgotten in between
            flat_delta, flat_sent = delta.reshape(-1), sent.reshape(-1)
            for piece in wire_dtypes.pieces(delta.size):
                change = flat_sent[piece] - flat_delta[piece]
                residual = self._residual[piece]
                residual += change if sign > 0 else -change
                _only_finite(residual)


def _sign(rule: UpdateRule) -> int:
    return -1 if rule is UpdateRule.ASSIGN_SUB else 1


def _quantise(update: Update, delta: Array, residual: Array, sent: Array) -> npt.NDArray[np.uint8]:
    """Fills ``sent`` and updates ``residual`` (flat); returns the bytes of ``sent`` in its form."""
    flat_delta, flat_sent = delta.reshape(-1), sent.reshape(-1)
    adds = _sign(update.rule) > 0
    wanted = np.add(flat_delta, residual, out=residual) if adds else np.subtract(flat_delta, residual, out=residual)
    encoded = wire_dtypes.encode(update.wire, wanted)
    wire_dtypes.decode_into(update.wire, encoded, flat_sent)
    for piece in wire_dtypes.pieces(residual.size):
        owed = residual[piece]
        if adds:
            np.subtract(owed, flat_sent[piece], out=owed)
        else:
            np.subtract(flat_sent[piece], owed, out=owed)
        _only_finite(owed)
    return encoded


def _only_finite(residual: Array) -> None:
    """Clears what is NaN or infinite: the ps has been sent it, and later pushes must not carry it."""
    finite = np.isfinite(residual)
    if not finite.all():
        residual[~finite] = 0
