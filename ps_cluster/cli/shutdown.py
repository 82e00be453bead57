"""``shardscope shutdown``."""

from __future__ import annotations

import sys

import click

from ps_cluster.cli.common import EXIT_FAILED, one_line_errors, timeout_option
from ps_cluster.cli.questions import all_answered, ask_all, cluster_option, cluster_spec
from ps_cluster.inspection.printable_text import printable
from ps_protocol.cluster_spec import BACKUP_JOB


@click.command()
@cluster_option
@timeout_option(10.0)
def command(cluster: str | None, timeout_s: float) -> None:
    """Ends the ps tasks of a cluster, and their backups, in good order: each finishes what it has accepted."""
    with one_line_errors():
        spec = cluster_spec(cluster, timeout_s)
        if BACKUP_JOB in spec.jobs:
            # Before any process ends: what a primary has accepted needs its backup. Failures are reported below.
            ask_all(spec, lambda ps: ps.drain("shardscope shutdown", timeout_s=timeout_s))
        answers = ask_all(spec, lambda ps: ps.shutdown("shardscope shutdown", timeout_s=timeout_s))
    for answer in answers:
        if answer.error is None:
            click.echo(printable(f"{answer.task} at {answer.address} is shut down"))
    sys.exit(0 if all_answered(answers) else EXIT_FAILED)
