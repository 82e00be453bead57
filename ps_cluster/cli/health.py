"""``shardscope health``, which container engines run every few seconds."""

from __future__ import annotations

import sys

import click

from ps_cluster.cli.common import EXIT_FAILED, one_line_errors, print_error, timeout_option
from ps_cluster.inspection.health_probe import check_health
from ps_cluster.inspection.printable_text import printable
from ps_protocol.errors import ShardscopeError
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
            answers = [_serves(check_address(address, "the ps"), "", service, timeout_s)]
        else:
            answers = [_serves(*process, service, timeout_s) for process in _processes(cluster, timeout_s)]
    sys.exit(0 if all(answers) else EXIT_FAILED)


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


def _processes(cluster: str | None, timeout_s: float) -> list[tuple[str, str]]:
    """Address and name of each process of the ps tasks."""
    # Not above: what asks a cluster takes long to import, and one address needs none of it.
    from ps_cluster.cli.questions import cluster_spec  # noqa: PLC0415
    from ps_cluster.inspection.queries import ps_processes  # noqa: PLC0415

    return [(address, str(task)) for task, address in ps_processes(cluster_spec(cluster, timeout_s)).items()]
