"""What a program does when nobody reads its output any more, as behind ``| head``: it ends without a word."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Final

EXIT_UNREAD: Final = 128 + signal.SIGPIPE


@contextlib.contextmanager
def quiet_if_unread() -> Iterator[None]:
    """Ends the process if what the block writes is not read: with its own exit code if it has failed, else 141."""
    exit_code: object = EXIT_UNREAD
    try:
        try:
            yield
        except SystemExit as ended:
            exit_code = ended.code or EXIT_UNREAD
            raise
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # what is left of it; the interpreter's own try would print a trace
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                os.dup2(nowhere, stream.fileno())
        sys.exit(exit_code)  # type: ignore[arg-type]  # it is what an exit may have
