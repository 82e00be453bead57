"""The command line of ``shardscope``.

Every error is one line on standard error that says which task, where, and what to do. Exit codes: 0; 1 if something
failed; 2 if the command line makes no sense; 130 after Ctrl-C; 141 if nobody reads the output any more; ``up`` returns
what its workers returned.
"""

from __future__ import annotations

import importlib
from typing import Final

import click

from ps_protocol.command_line.unread_output import quiet_if_unread

COMMANDS: Final = {
    "up": "Runs a whole cluster on this machine.",
    "ps": "Runs one ps task in the foreground.",
    "ls": "Lists variables or tasks.",
    "workers": "Shows how workers train together.",
    "get": "Shows the value of a variable.",
    "save": "Saves all variables in a checkpoint.",
    "restore": "Restores a checkpoint.",
    "checkpoint": "Lists, shows, verifies, pins, compares, exports and imports checkpoints.",
    "promote": "Makes another process the primary of a ps task.",
    "shutdown": "Ends the ps tasks in good order.",
    "health": "Asks a ps task whether it serves.",
}
"""What each module of ``ps_cluster.cli`` is for; it is imported when its command is asked for."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # as click calls it
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # as click calls it
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"ps_cluster.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> object:
        with quiet_if_unread():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # as click calls it
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="shardscope", prog_name="shardscope")
def app() -> None:
    """Launches, watches and operates a cluster of parameter servers and workers."""
