"""What this process has open, to tell what a test leaves open from what earlier tests are still closing."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path


def open_descriptors() -> Counter[str]:
    """How often each file, pipe, socket or memory is open; garbage of earlier tests is closed before."""
    gc.collect()
    found: Counter[str] = Counter()
    for link in Path("/proc/self/fd").iterdir():
        try:
            found[str(link.readlink())] += 1
        except FileNotFoundError:  # it was the one that lists the directory
            continue
    return found


def opened_since(before: Counter[str]) -> Counter[str]:
    """What is open and was not then; what has been closed since, perhaps by an earlier test, is no matter."""
    return open_descriptors() - before
