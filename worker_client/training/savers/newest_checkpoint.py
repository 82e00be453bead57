"""The newest checkpoint of a directory, and each newer one as it comes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from worker_client.checkpoints.opening import is_shardscope
from worker_client.checkpoints.state import latest_checkpoint

_LOG = logging.getLogger("tensorflow")
_PAUSE_S: Final = 1.0


def checkpoints_iterator(
    checkpoint_dir: str | os.PathLike[str],
    min_interval_secs: float = 0,
    timeout: float | None = None,
    timeout_fn: Callable[[], bool] | None = None,
) -> Iterator[str]:
    """Yields the path of the newest checkpoint of a directory each time that there is another one.

    Args:
        checkpoint_dir: The directory; it need not be there yet.
        min_interval_secs: Seconds between two of them, at least.
        timeout: How long to wait for one, in seconds; for ever if not given.
        timeout_fn: Called when that is over, and after each: whether there will be no more. Without it, the end.
    """
    newest: str | None = None
    while True:
        found = _next_checkpoint(os.fspath(checkpoint_dir), newest, timeout)
        if found is not None:
            start_s = time.monotonic()
            newest = found
            yield found
            time.sleep(max(0.0, start_s + min_interval_secs - time.monotonic()))
        elif timeout_fn is None:
            _LOG.info("Timed-out waiting for a checkpoint.")
            return
        if timeout_fn is not None and timeout_fn():
            _LOG.info("Done. No new checkpoints will be generated.")
            return


def _next_checkpoint(directory: str, newest: str | None, timeout_s: float | None) -> str | None:
    """Waits until the newest checkpoint is another one; returns None if time runs out."""
    _LOG.info("Waiting for new checkpoint at %s", directory)
    end_s = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        found = latest_checkpoint(directory)
        if found is not None and found != newest:
            _LOG.info("Found new checkpoint at %s", found)
            return found
        left_s = _PAUSE_S if end_s is None else end_s - time.monotonic()
        if left_s <= 0:
            return None
        time.sleep(min(_PAUSE_S, left_s))


def newest_of(path: str | os.PathLike[str]) -> str:
    """Returns the path of a checkpoint; of a directory that of its newest one.

    Raises:
        ValueError: The directory has none.
    """
    given = os.fspath(path)
    if not Path(given).is_dir() or is_shardscope(given):
        return given
    found = latest_checkpoint(given)
    if found is None:
        raise ValueError(f"Couldn't find 'checkpoint' file or checkpoints in given directory {given}")
    return found
