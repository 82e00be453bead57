"""The ``shardscope`` command.

Every error is one line on standard error that says which task, where, and what to do. Exit codes: 0; 1 if something
failed; 2 if the command line makes no sense; ``up`` returns what its workers returned.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from ps_protocol.cluster_spec import BACKUP_JOB, ClusterSpec, TfConfig
from ps_protocol.errors import ShardscopeError

# What a command needs is imported by it: `shardscope health` is run every few seconds by container engines.
if TYPE_CHECKING:
    from ps_cluster.ps_queries import Answer
    from ps_protocol.ps_service import ClusterService
    from ps_protocol.task_id import TaskId

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2

_T = TypeVar("_T")

app = typer.Typer(
    name="shardscope",
    help="Launches, watches and operates a cluster of parameter servers and workers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ClusterOption = Annotated[
    str | None,
    typer.Option("--cluster", metavar="SPEC", help="As ps=host:port,host:port; without it, TF_CONFIG is read."),
]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="How long to wait.")]


@app.command(short_help="Runs a whole cluster on this machine.", context_settings={"allow_interspersed_args": False})
def up(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="What every worker runs.")],
    ps: Annotated[int, typer.Option("--ps", min=1, metavar="N", help="Number of ps tasks.")] = 1,
    replicas: Annotated[
        int,
        typer.Option(
            "--replicas",
            min=0,
            max=1,
            metavar="N",
            help="1 gives each ps a backup, which has every update and takes over when it dies; needs --ps 2 or more.",
        ),
    ] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Number of workers.")] = 1,
    ps_arg: Annotated[
        list[str] | None, typer.Option("--ps-arg", metavar="ARG", help="An argument for every ps; repeatable.")
    ] = None,
    log_dir: Annotated[
        Path | None, typer.Option("--log-dir", metavar="DIR", help="Also keep each task's output in a file here.")
    ] = None,
    no_table: Annotated[bool, typer.Option("--no-table", help="Show the tasks' output only.")] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="End everything when a worker fails; else the others go on.")
    ] = False,
    transport: Annotated[
        str | None,
        typer.Option("--transport", metavar="NAME", help="How batches travel: auto, grpc, socket, tcp, unix or shm."),
    ] = None,
    durability: Annotated[
        str,
        typer.Option(
            "--durability",
            metavar="MODE",
            help="What ps tasks keep: none, snapshot or journal; with journal, one that dies is started again.",
        ),
    ] = "none",
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="DIR", help="Where they keep it; else it is removed at the end."),
    ] = None,
    ps_grace: Annotated[
        float | None,
        typer.Option("--ps-grace", min=0, metavar="SECONDS", help="How long workers wait for a ps that is away (60)."),
    ] = None,
) -> None:
    """Runs ps tasks and workers on this machine until the workers are done.

    Returns the exit code of the first worker that failed (128 + n if signal n ended it), else 0; 1 if a ps died;
    130 after Ctrl-C, which ends everything, at once if pressed twice.
    """
    from rich.console import Console

    from ps_cluster.launch_options import LaunchOptions
    from ps_cluster.launcher import Launcher

    options = LaunchOptions(
        num_ps=ps,
        num_workers=workers,
        replicas=replicas,
        command=tuple(command),
        ps_arguments=tuple(ps_arg or ()),
        log_dir=log_dir,
        show_table=not no_table,
        fail_fast=fail_fast,
        transport=transport,
        durability=durability,
        data_dir=data_dir,
        ps_grace_s=ps_grace,
    )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what a task prints need not fit the launcher's locale
    with _one_line_errors():
        options.check()
        launcher = Launcher(options, console=Console(), errors=Console(stderr=True), connect=_connect)
        exit_code = launcher.run()
    raise typer.Exit(exit_code)


@app.command(
    name="ps",
    short_help="Runs one ps task in the foreground.",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def ps_task(context: typer.Context) -> None:
    """Runs one ps task in the foreground, as python -m ps_server does; see its --help."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "ps_server", *context.args])  # noqa: S606  # no shell wanted


@app.command(short_help="Lists variables or tasks.")
def ls(
    cluster: ClusterOption = None,
    tasks: Annotated[bool, typer.Option("--tasks", help="List the tasks instead of the variables.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    timeout: TimeoutOption = 10.0,
) -> None:
    """Lists the variables of a running cluster, or its tasks."""
    with _one_line_errors():
        spec = _cluster_spec(cluster)
        succeeded = _list_tasks(spec, as_json, timeout) if tasks else _list_variables(spec, as_json, timeout)
    raise typer.Exit(0 if succeeded else EXIT_FAILED)


@app.command(short_help="Ends the ps tasks in good order.")
def shutdown(cluster: ClusterOption = None, timeout: TimeoutOption = 10.0) -> None:
    """Ends the ps tasks of a cluster, and their backups, in good order: each finishes what it has accepted."""
    with _one_line_errors():
        spec = _cluster_spec(cluster)
        if BACKUP_JOB in spec.jobs:
            # Before any is gone: what a primary has accepted needs its backup. Who does not answer is told of below.
            _ask_all(spec, lambda ps: ps.drain("shardscope shutdown", timeout_s=timeout))
        answers = _ask_all(spec, lambda ps: ps.shutdown("shardscope shutdown", timeout_s=timeout))
    for answer in answers:
        if answer.error is None:
            typer.echo(f"{answer.task} at {answer.address} is shut down")
    raise typer.Exit(0 if _all_answered(answers) else EXIT_FAILED)


@app.command(short_help="Asks a ps task whether it serves.")
def health(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT")],
    timeout: TimeoutOption = 5.0,
) -> None:
    """Asks a ps task whether it serves; exit code 0 if it does, else 1."""
    from ps_cluster.health_probe import check_health
    from ps_protocol.task_id import check_address

    with _one_line_errors():
        state = check_health(check_address(address, "the ps"), timeout_s=timeout)
    typer.echo(f"{address} is {state}", err=state != "SERVING")
    raise typer.Exit(0 if state == "SERVING" else EXIT_FAILED)


def _list_variables(spec: ClusterSpec, as_json: bool, timeout_s: float) -> bool:
    from ps_cluster.inspection_views import print_table, variable_records, variable_table

    answers = _ask_primaries(spec, lambda ps: ps.list_variables(timeout_s=timeout_s), timeout_s)
    records = variable_records(answers)
    if as_json:
        _print_json(records)
    elif _any_answered(answers):
        print_table(variable_table(records))
    return _all_answered(answers)


def _list_tasks(spec: ClusterSpec, as_json: bool, timeout_s: float) -> bool:
    from ps_cluster.inspection_views import member_records, member_table, print_table, ps_records, ps_table
    from ps_cluster.ps_queries import ask_primaries

    answers = _ask_all(spec, lambda ps: ps.status(timeout_s=timeout_s))
    of_directory = [each for each in answers if each.task.index == 0]  # ps task 0 knows the members
    [members] = ask_primaries(of_directory, lambda ps: ps.list_members(timeout_s=timeout_s), connect=_connect)
    of_ps, of_members = ps_records(answers), member_records(members.value or [])
    if as_json:
        _print_json({"ps": of_ps, "members": of_members})
    elif _any_answered(answers):
        print_table(ps_table(of_ps))
        typer.echo()
        print_table(member_table(of_members, time.time()))
    is_told = any(each.error is members.error for each in answers if each.error is not None)
    return _all_answered(answers if is_told else [*answers, members])


def _cluster_spec(flag: str | None) -> ClusterSpec:
    spec = TfConfig.from_env().cluster if flag is None else ClusterSpec.parse(flag)
    spec.require_ps()
    return spec


def _connect(address: str, task: TaskId) -> ClusterService:
    from worker_client.transport import grpc

    return grpc.connect(address, task=str(task))


def _ask_all(spec: ClusterSpec, question: Callable[[ClusterService], _T]) -> list[Answer[_T]]:
    from ps_cluster.ps_queries import ask_all

    return ask_all(spec, question, connect=_connect)


def _ask_primaries(spec: ClusterSpec, question: Callable[[ClusterService], _T], timeout_s: float) -> list[Answer[_T]]:
    """Asks each ps task once, whichever of its processes it is that answers clients."""
    from ps_cluster.ps_queries import ask_primaries

    return ask_primaries(_ask_all(spec, lambda ps: ps.status(timeout_s=timeout_s)), question, connect=_connect)


def _all_answered(answers: Sequence[Answer[Any]]) -> bool:
    """Says on standard error which ps tasks have not answered, if any."""
    from ps_cluster.ps_queries import explain

    failures = [explain(each.error, each.task, each.address) for each in answers if each.error is not None]
    for failure in failures:
        _print_error(failure)
    return not failures


def _any_answered(answers: Sequence[Answer[Any]]) -> bool:
    return any(answer.error is None for answer in answers)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))


def _print_error(message: str) -> None:
    typer.echo(f"shardscope: {message}", err=True)


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turns what a user can cause into a message and an exit code."""
    try:
        yield
    except ShardscopeError as error:
        _print_error(" ".join(str(error).split()))
        raise typer.Exit(EXIT_FAILED) from error
    except OSError as error:
        _print_error(str(error))
        raise typer.Exit(EXIT_FAILED) from error
    except (TypeError, ValueError) as error:
        _print_error(" ".join(str(error).split()))
        raise typer.Exit(EXIT_USAGE) from error


def main() -> None:
    """Runs the command; does not return."""
    app()


if __name__ == "__main__":
    main()
