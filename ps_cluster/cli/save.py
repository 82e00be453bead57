"""``shardscope save``."""

from __future__ import annotations

import click

from ps_cluster.cli.common import one_line_errors, say, timeout_option
from ps_cluster.cli.questions import cluster_option, cluster_spec
from ps_cluster.inspection.task_table import format_size
from ps_protocol.command_line.early_signals import undone_on_signals
from worker_client.client import connect


@click.command()
@click.argument("path", metavar="FOLDER")
@cluster_option
@click.option("--name", help="Of the checkpoint; by default the step or the time.")
@click.option("--step", type=click.IntRange(min=0), help="Training step that it belongs to.")
@click.option("--keep", type=click.IntRange(min=1), help="How many checkpoints of the folder stay, the newest.")
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME=NUMBER", help="To keep with it, as accuracy=0.9; repeatable."
)
@click.option("--through-client", is_flag=True, help="Write it here: the ps tasks have no folder in common.")
@timeout_option(60.0)
def command(
    path: str,
    cluster: str | None,
    name: str | None,
    step: int | None,
    keep: int | None,
    metrics: tuple[str, ...],
    through_client: bool,
    timeout_s: float,
) -> None:
    """Saves all variables of a running cluster in a checkpoint, in a folder or at a URL that all its ps tasks reach."""
    with undone_on_signals(), one_line_errors():
        numbers = dict([_metric(each) for each in metrics])
        spec = cluster_spec(cluster, timeout_s)
        with connect(
            spec, observer=True, connect_timeout_s=timeout_s, operation_timeout_s=timeout_s, ps_grace_s=0
        ) as client:
            saved = client.save(
                path,
                name=name,
                step=step,
                metrics=numbers,
                keep=keep or 0,
                through="client" if through_client else "ps",
                show_progress=True,
            )
    say(f"saved {saved.path}: {format_size(saved.size_bytes)}; updates waited {saved.held_s * 1000:.1f} ms")


def _metric(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError:
        raise ValueError(f"--metric is {text!r}; it should be a name and a number, as accuracy=0.9") from None
