"""``shardscope up``."""

from __future__ import annotations

import io
import signal
import sys
from typing import Any, Final

import click
from rich.console import Console

from ps_cluster.cli.common import one_line_errors
from ps_cluster.cli.questions import connect
from ps_cluster.local.launcher import Launcher
from ps_cluster.local.options import LaunchOptions
from ps_protocol.settings import settings_of


def _up(**given: Any) -> None:
    """Runs ps tasks and workers on this machine until the workers are done.

    COMMAND is what every worker runs. Returns the exit code of the first worker that failed (128 + n if signal n ended
    it) and is not let go, else 0; 1 if a ps died; 130 after Ctrl-C, which ends everything, at once if pressed twice.
    """
    options = LaunchOptions(**given)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a task prints need not fit the launcher's locale
    with one_line_errors():
        options.check()
        launcher = Launcher(options, console=Console(), errors=Console(stderr=True), connect=connect)
        exit_code = launcher.run()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # all has ended: one that comes now must not change the exit code
    sys.exit(exit_code)


command: Final = click.Command(
    "up",
    callback=_up,
    help=_up.__doc__,
    params=[click.Argument(["command"], nargs=-1, required=True, metavar="-- COMMAND"), *settings_of(LaunchOptions)],
    context_settings={"allow_interspersed_args": False},
)
