"""What a program does about Ctrl-C and SIGTERM: it ends silently, at once or when it has undone what it had begun."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_at_once_on_signals() -> None:
    """Makes a signal end this process with exit code 128 + n, until whatever needs another handler installs it.

    Python itself would show where in the imports it was interrupted. A signal that is ignored stays ignored. To be
    called in the main thread, by a program and not by a library.
    """
    for signum in _SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _end)


@contextlib.contextmanager
def undone_on_signals() -> Iterator[None]:
    """Has a signal interrupt the block, which undoes what it had begun; the process then ends with exit code 128 + n.

    A second signal ends it at once, and so does one behind the block. For a program that ends at once otherwise, as
    ``end_at_once_on_signals`` has it; elsewhere handlers stay as they are.
    """
    mine = [signum for signum in _SIGNALS if signal.getsignal(signum) is _end]
    received: list[int] = []

    def interrupt(signum: int, _frame: FrameType | None) -> None:
        end_at_once_on_signals()
        received.append(signum)
        raise KeyboardInterrupt

    try:
        for signum in mine:
            signal.signal(signum, interrupt)
        yield
    finally:
        for signum in mine:
            signal.signal(signum, _end)
        if received:  # whatever the block has made of it
            sys.exit(128 + received[0])


def _end(signum: int, _frame: FrameType | None) -> None:
    os._exit(128 + signum)
