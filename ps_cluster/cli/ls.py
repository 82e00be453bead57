"""``shardscope ls``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

import click

from ps_cluster.cli.common import EXIT_FAILED, one_line_errors, say, timeout_option
from ps_cluster.cli.questions import (
    all_answered,
    any_answered,
    ask_primaries,
    ask_statuses,
    cluster_option,
    cluster_spec,
    connect,
)
from ps_cluster.inspection import queries as ps_queries
from ps_cluster.inspection.queries import PsAnswer
from ps_cluster.inspection.training import ask_groups, group_records, missing, seen_by_heartbeats
from ps_cluster.inspection.views import (
    MEMBER_DROPPABLE,
    PS_DROPPABLE,
    member_records,
    member_table,
    print_table,
    ps_records,
    ps_table,
    variable_droppable,
    variable_records,
    variable_table,
)
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import ShardscopeError
from ps_protocol.service_types import Member, Status
from worker_client.objects.training_report import TrainingReport, group_names


@click.command()
@cluster_option
@click.option("--tasks", is_flag=True, help="List the tasks instead of the variables.")
@click.option("--no-slots", is_flag=True, help="Leave out the slots that optimizers keep beside variables.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@timeout_option(10.0)
def command(cluster: str | None, tasks: bool, no_slots: bool, as_json: bool, timeout_s: float) -> None:
    """Lists the variables of a running cluster, or its tasks."""
    with one_line_errors():
        spec = cluster_spec(cluster, timeout_s)
        if tasks:
            succeeded = _list_tasks(spec, as_json, timeout_s)
        else:
            succeeded = _list_variables(spec, as_json, timeout_s, with_slots=not no_slots)
    sys.exit(0 if succeeded else EXIT_FAILED)


def _list_variables(spec: ClusterSpec, as_json: bool, timeout_s: float, *, with_slots: bool) -> bool:
    answers = ask_primaries(spec, lambda ps: ps.list_variables(timeout_s=timeout_s), timeout_s)
    records = [each for each in variable_records(answers) if with_slots or not each["slot_of"]]
    if as_json:
        _print_json(records)
    elif any_answered(answers):
        print_table(variable_table(records), variable_droppable(records))
        if not records:
            click.echo("The cluster has no variables yet.", err=True)
    return all_answered(answers)


def _list_tasks(spec: ClusterSpec, as_json: bool, timeout_s: float) -> bool:
    answers = ask_statuses(spec, timeout_s)
    of_directory = [each for each in answers if each.task.index == 0]  # ps task 0 knows the members
    [members] = ps_queries.ask_primaries(of_directory, lambda ps: ps.list_members(timeout_s=timeout_s), connect=connect)
    of_ps, of_members = ps_records(answers), member_records(members.value or [])
    groups = _groups(of_directory, members, timeout_s)
    if as_json:
        _print_json({"ps": of_ps, "members": of_members, "groups": group_records(groups)})
    elif any_answered(answers):
        print_table(ps_table(of_ps), PS_DROPPABLE)
        if of_members:
            click.echo()
            print_table(member_table(of_members, time.time()), MEMBER_DROPPABLE)
        lines = missing(groups, time.time())
        if lines:
            click.echo()
            for line in lines:
                say(line)
    is_reported = any(each.error is members.error for each in answers if each.error is not None)
    return all_answered(answers if is_reported else [*answers, members])


def _groups(
    directory: Sequence[PsAnswer[Status]],
    members: PsAnswer[list[Member]],
    timeout_s: float,
) -> dict[str, TrainingReport]:
    """How those are that train together; none if ps task 0 does not say."""
    [variables] = ps_queries.ask_primaries(
        directory, lambda ps: ps.list_variables(timeout_s=timeout_s), connect=connect
    )
    try:
        reports = ask_groups(variables, group_names(variables.value or []), timeout_s)
    except ShardscopeError:
        return {}  # it has ended in between
    by_task = {each.task: each for each in members.value or []}
    return {name: seen_by_heartbeats(report, by_task) for name, report in reports.items()}


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))
