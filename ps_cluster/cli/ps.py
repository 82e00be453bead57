"""``shardscope ps``."""

from __future__ import annotations

import os
import sys

import click


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Runs one ps task in the foreground, as python -m ps_server does; see its --help."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "ps_server", *arguments])  # noqa: S606  # no shell wanted
