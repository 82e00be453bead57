"""``shardscope shutdown``."""

from __future__ import annotations

import sys

import click

from ps_cluster.cli.common import EXIT_FAILED, one_line_errors, timeout_option
from ps_cluster.cli.questions import all_answered, cluster_option, cluster_spec, connect
from ps_cluster.inspection.printable_text import printable
from ps_cluster.inspection.queries import shut_down_all


@click.command()
@cluster_option
@timeout_option(10.0)
def command(cluster: str | None, timeout_s: float) -> None:
    """Ends the ps tasks of a cluster, and their backups, in good order: each finishes what it has accepted."""
    with one_line_errors():
        spec = cluster_spec(cluster, timeout_s)
        answers = shut_down_all(spec, "shardscope shutdown", connect=connect, timeout_s=timeout_s)
    for answer in answers:
        if answer.error is None:
            click.echo(printable(f"{answer.task} at {answer.address} is shut down"))
    sys.exit(0 if all_answered(answers) else EXIT_FAILED)
