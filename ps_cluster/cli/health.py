"""``shardscope health``, which container engines run every few seconds."""

from __future__ import annotations

import sys

import click

from ps_cluster.cli.common import EXIT_FAILED, one_line_errors, timeout_option
from ps_cluster.inspection.health_probe import check_health
from ps_protocol.task_id import check_address


@click.command()
@click.argument("address", metavar="HOST:PORT")
@timeout_option(5.0)
def command(address: str, timeout_s: float) -> None:
    """Asks a ps task whether it serves; exit code 0 if it does, else 1."""
    with one_line_errors():
        state = check_health(check_address(address, "the ps"), timeout_s=timeout_s)
    click.echo(f"{address} is {state}", err=state != "SERVING")
    sys.exit(0 if state == "SERVING" else EXIT_FAILED)
