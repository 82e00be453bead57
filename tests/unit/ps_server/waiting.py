"""Waiting for what another thread is about to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 30.0
"""How long a test waits for what takes microseconds when all is well."""


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns as soon as a condition holds; fails the test if it does not within ``PATIENCE_S``."""
    deadline_s = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        pause.wait(0.001)
