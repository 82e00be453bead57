"""``shardscope restore``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ps_cluster.cli.common import name_pairs, names_option, one_line_errors, say, timeout_option
from ps_cluster.cli.questions import cluster_option, cluster_spec
from ps_cluster.inspection.printable_text import printable
from ps_cluster.inspection.task_table import format_size
from ps_protocol.command_line.early_signals import undone_on_signals
from worker_client.client import connect


@click.command()
@click.argument("path", metavar="CHECKPOINT")
@cluster_option
@click.option("--partial", is_flag=True, help="Leave variables as they are that the checkpoint does not have alike.")
@names_option
@click.option("--through-client", is_flag=True, help="Read it here: the ps tasks do not reach it.")
@timeout_option(60.0)
def command(
    path: str, cluster: str | None, partial: bool, names: Sequence[str], through_client: bool, timeout_s: float
) -> None:
    """Restores a checkpoint, or the newest of a folder, over a running cluster; its workers have to connect again."""
    with undone_on_signals(), one_line_errors(keeps_tables=True):
        wanted, spec = name_pairs(names), cluster_spec(cluster, timeout_s)
        with connect(
            spec, observer="update", connect_timeout_s=timeout_s, operation_timeout_s=timeout_s, ps_grace_s=0
        ) as client:
            report = client.restore(
                path,
                partial=partial,
                names=wanted,
                through="client" if through_client else "ps",
                show_progress=True,
            )
    for line in str(report).splitlines():
        click.echo(printable(line))
    say(f"restored {report.path}: {report.counts}, {format_size(report.size_bytes)} read")
