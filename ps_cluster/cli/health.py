"""``shardscope health``, which container engines run every few seconds."""

from __future__ import annotations

import sys

import click

from ps_cluster.cli.common import EXIT_FAILED, one_line_errors, print_error, timeout_option
from ps_cluster.inspection.health_probe import check_health
from ps_cluster.inspection.printable_text import printable
from ps_protocol.errors import FailedPreconditionError, ShardscopeError
from ps_protocol.liveness import READY
from ps_protocol.task_id import check_address


@click.command()
@click.argument("address", metavar="[HOST:PORT]", required=False)
@click.option("--cluster", metavar="SPEC", help="Ask all ps tasks of a cluster, as in shardscope ls, instead of one.")
@click.option(
    "--ready", is_flag=True, help="Ask whether it may be relied on: of a replicated task, whether the pair is complete."
)
@timeout_option(5.0)
def command(address: str | None, cluster: str | None, ready: bool, timeout_s: float) -> None:
    """Asks a ps task whether it serves, or all of a cluster; exit code 0 if it does, or all do, else 1."""
    service = READY if ready else ""
    with one_line_errors():
        if (address is None) == (cluster is None):
            raise ValueError("give the address of a ps task, as in host:2222, or a cluster, as in --cluster host:2222")
        if address is not None:
            is_well = _serves(check_address(address, "the ps"), "", service, timeout_s)
        else:
            is_well = _all_serve(cluster, service, timeout_s)
    sys.exit(0 if is_well else EXIT_FAILED)


def _all_serve(cluster: str | None, service: str, timeout_s: float) -> bool:
    """Says what each process of the ps tasks answers, and which is another one than the cluster spec has there."""
    # Not above: what asks a cluster takes long to import, and one address needs none of it.
    from ps_cluster.cli.questions import ask_statuses, cluster_spec  # noqa: PLC0415

    statuses = ask_statuses(cluster_spec(cluster, timeout_s), timeout_s)
    answers: list[bool] = []
    for each in statuses:
        if isinstance(each.error, FailedPreconditionError):  # what does not answer is asked for its health all the same
            print_error(f"[{each.task}] {each.error.message}")
            answers.append(False)
        else:
            answers.append(_serves(each.address, str(each.task), service, timeout_s))
    return all(answers)


def _serves(address: str, name: str, service: str, timeout_s: float) -> bool:
    """Says what a ps task answers."""
    try:
        state = check_health(address, service=service, timeout_s=timeout_s)
    except ShardscopeError as error:
        print_error(" ".join(f"{name and f'[{name}] '}{error}".split()))
        return False
    is_well = state == "SERVING"
    if service:
        state = "ready" if is_well else "not ready; see shardscope ls --tasks"
    click.echo(printable(f"{name and f'{name} at '}{address} is {state}"), err=not is_well)
    return is_well
