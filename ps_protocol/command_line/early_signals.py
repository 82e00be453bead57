"""What a program does about Ctrl-C and SIGTERM before it has anything to end in good order: it ends silently."""

from __future__ import annotations

import os
import signal
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


def _end(signum: int, _frame: FrameType | None) -> None:
    os._exit(128 + signum)
