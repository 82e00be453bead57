"""``shardscope workers``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ps_cluster.cli.common import EXIT_FAILED, one_line_errors, print_error, say, timeout_option
from ps_cluster.cli.questions import ask_statuses, cluster_option, cluster_spec, connect
from ps_cluster.inspection import queries as ps_queries
from ps_cluster.inspection.printable_text import printable
from ps_cluster.inspection.training import (
    WORKERS_DROPPABLE,
    ask_groups,
    group_records,
    heading,
    how_silence_ends,
    seen_by_heartbeats,
    workers_table,
)
from ps_cluster.inspection.views import fitted_table, print_table
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.command_line.early_signals import undone_on_signals
from ps_protocol.errors import ShardscopeError, UnavailableError
from worker_client.connection.retry import Deadline
from worker_client.objects.training_report import MISSING, TrainingReport, group_names

_EVERY_S: Final = 1.0
_NOBODY: Final = "Nobody trains together in this cluster: no optimizer has sync=."


@click.command()
@click.argument("group", required=False)
@cluster_option
@click.option(
    "--watch",
    is_flag=True,
    help="Go on, once a second, until Ctrl-C or until the cluster has not answered for as long as --timeout says.",
)
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
            console = Console(highlight=False)
            looks = _Watch(lambda: _reports(spec, group, timeout_s), reports, timeout_s)
            if as_json or not console.is_terminal or console.is_dumb_terminal:
                _watch_in_lines(looks, as_json=as_json)
            else:
                _watch_on_terminal(looks, console)
        elif as_json:
            click.echo(json.dumps(group_records(reports), indent=2))
        elif reports:
            _print(reports)
        else:
            click.echo(_NOBODY, err=True)
    sys.exit(0)


def _reports(spec: ClusterSpec, group: str | None, timeout_s: float) -> dict[str, TrainingReport]:
    """Asks ps task 0; a ``ShardscopeError`` if it does not answer."""
    statuses = [each for each in ask_statuses(spec, timeout_s) if each.task.index == 0]
    [answer] = ps_queries.ask_primaries(
        statuses,
        lambda ps: (ps.list_variables(timeout_s=timeout_s), ps.list_members(timeout_s=timeout_s)),
        connect=connect,
    )
    if answer.value is None:
        why = "no answer" if answer.error is None else ps_queries.explain(answer.error, answer.task, answer.address)
        raise UnavailableError(why)
    variables, members = answer.value
    names = group_names(variables)
    if group is not None and group not in names:
        known = f"those that are known: {', '.join(names)}" if names else "nobody does in this cluster"
        raise ValueError(f"nobody trains together as {group!r}; {known}")
    by_task = {each.task: each for each in members}
    found = ask_groups(answer, [each for each in names if group in (None, each)], timeout_s)
    return {name: seen_by_heartbeats(report, by_task) for name, report in found.items()}


def _print(reports: Mapping[str, TrainingReport]) -> None:
    now_s = time.time()
    for number, (name, report) in enumerate(reports.items()):
        if number:
            click.echo()
        say(heading(name, report, now_s))
        print_table(workers_table(report, now_s), WORKERS_DROPPABLE)
        if advice := how_silence_ends(report):
            say(advice)


class _Watch:
    """Asks again and again, and shows what is answered.

    Args:
        ask: Asks; raises a ``ShardscopeError`` if there is no answer.
        reports: The first answer.
        timeout_s: How long a cluster that does not answer is asked.
    """

    def __init__(
        self, ask: Callable[[], dict[str, TrainingReport]], reports: dict[str, TrainingReport], timeout_s: float
    ):
        self._ask = ask
        self._timeout_s = timeout_s
        self._failing: Deadline | None = None
        self.reports = reports
        self.trouble = ""

    def ask_again(self) -> bool:
        """Asks, a second later; False if the cluster has not answered for as long as it may."""
        time.sleep(_EVERY_S)
        try:
            self.reports, self._failing, self.trouble = self._ask(), None, ""
        except ShardscopeError as error:
            self._failing = self._failing or Deadline(self._timeout_s)
            self.trouble = printable(f"no answer for {self._failing.elapsed_s():.0f} s: {' '.join(str(error).split())}")
            return self._failing.remaining_s() > 0
        return True

    def end(self) -> None:
        """Says that the cluster is not there any more; does not return."""
        print_error(f"the cluster does not answer any more; {self.trouble}")
        is_over = [each.status not in ("live", *MISSING) for one in self.reports.values() for each in one.workers]
        sys.exit(0 if is_over and all(is_over) else EXIT_FAILED)


def _watch_in_lines(watch: _Watch, *, as_json: bool) -> None:
    """For programs and files: everything, each time."""
    while True:
        if watch.trouble:
            print_error(watch.trouble)
        elif as_json:
            click.echo(json.dumps(group_records(watch.reports)))
        elif watch.reports:
            _print(watch.reports)
            click.echo()
        else:
            click.echo(_NOBODY, err=True)
        sys.stdout.flush()
        if not watch.ask_again():
            watch.end()


def _watch_on_terminal(watch: _Watch, console: Console) -> None:
    """On a screen of its own, which leaves the newest view behind."""
    with undone_on_signals():
        try:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(_drawn(watch, console), refresh=True)
                    if not watch.ask_again():
                        break
        finally:
            _print(watch.reports)
    watch.end()


def _drawn(watch: _Watch, console: Console) -> RenderableType:
    """What is to be said of each group, and a row for each worker, as many as there is room for."""
    now_s, lines = time.time(), list[Text]()

    def draw(what: RenderableType) -> None:
        for segments in console.render_lines(what, pad=False):
            lines.append(Text.assemble(*[(each.text, each.style or "") for each in segments], no_wrap=True))

    for name, report in watch.reports.items():
        draw(Text(heading(name, report, now_s)))
        draw(fitted_table(workers_table(report, now_s), WORKERS_DROPPABLE, console))
        if advice := how_silence_ends(report):
            draw(Text(advice, style="dim"))
    if not watch.reports:
        draw(Text(_NOBODY))
    room = console.height - bool(watch.trouble)
    if len(lines) > room:
        lines[max(0, room - 1) :] = [Text(f"... {len(lines) - room + 1} more lines", style="dim")]
    if watch.trouble:
        lines.append(Text(watch.trouble, style="bold red", overflow="ellipsis", no_wrap=True))
    return Group(*lines)
