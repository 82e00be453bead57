"""``shardscope workers``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ps_cluster.cli.common import EXIT_FAILED, one_line_errors, print_error, say, timeout_option
from ps_cluster.cli.questions import ask_statuses, cluster_option, cluster_spec, connect
from ps_cluster.inspection import queries as ps_queries
from ps_cluster.inspection.training import (
    WORKERS_DROPPABLE,
    ask_groups,
    group_records,
    heading,
    seen_by_heartbeats,
    workers_table,
)
from ps_cluster.inspection.views import fitted_table, print_table
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import ShardscopeError
from worker_client.objects.training_report import TrainingReport, group_names

_EVERY_S: Final = 1.0
_NOBODY: Final = "Nobody trains together in this cluster: no optimizer has sync=."


@click.command()
@click.argument("group", required=False)
@cluster_option
@click.option("--watch", is_flag=True, help="Go on, once a second, until Ctrl-C or the end of the cluster.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch a line each time.")
@timeout_option(10.0)
def command(group: str | None, cluster: str | None, watch: bool, as_json: bool, timeout_s: float) -> None:
    """Shows how workers train together: rounds, quorum, staleness and verdicts.

    GROUP is the name of an optimizer; without it, all that have sync= are shown.
    """
    with one_line_errors():
        spec = cluster_spec(cluster, timeout_s)
        reports = _reports(spec, group, timeout_s)
        if watch:
            _watch(spec, group, reports, timeout_s, as_json=as_json)
        elif as_json:
            click.echo(json.dumps(group_records(reports), indent=2))
        elif reports:
            _print(reports)
        else:
            click.echo(_NOBODY, err=True)
    sys.exit(0)


def _reports(spec: ClusterSpec, group: str | None, timeout_s: float) -> dict[str, TrainingReport]:
    """Asks ps task 0; a ``ShardscopeError`` or ``SystemExit`` if it does not answer."""
    statuses = [each for each in ask_statuses(spec, timeout_s) if each.task.index == 0]
    [answer] = ps_queries.ask_primaries(
        statuses,
        lambda ps: (ps.list_variables(timeout_s=timeout_s), ps.list_members(timeout_s=timeout_s)),
        connect=connect,
    )
    if answer.value is None:
        if answer.error is not None:
            print_error(ps_queries.explain(answer.error, answer.task, answer.address))
        sys.exit(EXIT_FAILED)
    variables, members = answer.value
    names = group_names(variables)
    if group is not None and group not in names:
        known = f"those that are known: {', '.join(names)}" if names else "nobody does in this cluster"
        raise ValueError(f"nobody trains together as {group!r}; {known}")
    by_task = {each.task: each for each in members}
    found = ask_groups(spec, [each for each in names if group in (None, each)], timeout_s)
    return {name: seen_by_heartbeats(report, by_task) for name, report in found.items()}


def _print(reports: Mapping[str, TrainingReport]) -> None:
    now_s = time.time()
    for number, (name, report) in enumerate(reports.items()):
        if number:
            click.echo()
        say(heading(name, report, now_s))
        print_table(workers_table(report, now_s), WORKERS_DROPPABLE)


def _watch(
    spec: ClusterSpec, group: str | None, reports: Mapping[str, TrainingReport], timeout_s: float, *, as_json: bool
) -> None:
    """Shows them again and again; returns when the cluster has ended."""
    console = Console(highlight=False)
    live = Live(console=console, auto_refresh=False) if console.is_terminal and not as_json else None
    if live is not None:
        live.start()
    try:
        while True:
            if as_json:
                click.echo(json.dumps(group_records(reports)))
            elif live is None:
                _print(reports)
            else:
                live.update(_drawn(reports, console), refresh=True)
            time.sleep(_EVERY_S)
            try:
                reports = _reports(spec, group, timeout_s)
            except ShardscopeError as error:
                print_error(f"the cluster does not answer any more: {error}")
                sys.exit(EXIT_FAILED)
    finally:
        if live is not None:
            live.stop()


def _drawn(reports: Mapping[str, TrainingReport], console: Console) -> RenderableType:
    now_s, parts = time.time(), list[RenderableType]()
    for name, report in reports.items():
        parts += [
            Text(heading(name, report, now_s)),
            fitted_table(workers_table(report, now_s), WORKERS_DROPPABLE, console),
        ]
    return Group(*parts) if parts else Text(_NOBODY)
