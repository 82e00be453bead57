"""Interrupts functions at each place where a signal may come."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

CLIENT = ("worker_client.", "ps_protocol.")
"""What runs in a worker."""

SAVING = (
    *("worker_client.training.savers.", "worker_client.checkpoints.", "ps_protocol.tensorflow_files."),
    *("ps_protocol.tensor_files.", "ps_protocol.checkpoints.", "ps_protocol.files."),
)
"""What saves, restores and copies."""


class Interrupt(BaseException):
    """What a handler raises at a chosen place."""


class Place:
    """Raises where a handler could: when a function of ours begins, or right after it has called one of C.

    Those are the places at which the interpreter looks for signals, but for the ends of loops.

    Args:
        number: At which place.
        ours: How the names of the modules begin whose functions are ours.

    Attributes:
        count: How many places were passed.
    """

    def __init__(self, number: int, ours: tuple[str, ...]):
        self._number = number
        self._ours = ours
        self.count = 0

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event not in ("call", "c_return") or not str(frame.f_globals.get("__name__")).startswith(self._ours):
            return
        self.count += 1
        if self.count == self._number:
            raise Interrupt


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def close_lost(folder: Path) -> int:
    """Closes what interrupts have left open in a folder, and returns how much: nobody has been told its number."""
    gc.collect()  # closes what objects have that nobody holds any more
    lost = []
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are all that is wanted
        with contextlib.suppress(FileNotFoundError):  # of the listing itself
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(folder)):  # noqa: PTH115 - may be deleted
                lost.append(int(descriptor))
    for number in lost:
        os.close(number)
    return len(lost)


def interrupted_at(number: int, function: Callable[[], object], ours: tuple[str, ...] = SAVING) -> bool:
    """Calls a function with an interrupt at one of its places; returns whether it has as many.

    Nothing of earlier tests is collected meanwhile: an interrupt in the finalizer of that would be lost.
    """
    place = Place(number, ours)
    gc.disable()
    sys.setprofile(place)
    try:
        function()
    except Interrupt:
        pass
    finally:
        sys.setprofile(None)
        gc.enable()
    return place.count >= number
