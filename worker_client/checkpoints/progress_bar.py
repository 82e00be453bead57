"""A bar that grows with the bytes that are done, on a terminal; elsewhere nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from worker_client.checkpoints.report import ShowProgress

_BAR_WIDTH = 24  # with all else in 80 columns


@contextlib.contextmanager
def progress_shown(what: str, show: ShowProgress | bool | None) -> Iterator[ShowProgress | None]:
    """Gives what is to be told of progress while the block is open.

    Args:
        what: Stands before the bar, as "saving".
        show: A function that is told; or True for a bar on standard error, if that is a terminal.
    """
    console = Console(stderr=True) if show is True else None
    if console is None or not console.is_terminal:
        yield None if isinstance(show, bool) else show
        return
    columns = (
        TextColumn(what),
        BarColumn(_BAR_WIDTH),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)
