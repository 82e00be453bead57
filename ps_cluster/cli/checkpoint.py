"""``shardscope checkpoint``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from ps_cluster.cli.checkpoint_forms import diff, export, import_
from ps_cluster.cli.common import one_line_errors
from ps_cluster.inspection.printable_text import printable
from ps_cluster.terminal.progress_bar import progress_bar
from worker_client.checkpoints.contents import ShardscopeCheckpoint
from worker_client.checkpoints.inspection import list_checkpoints, show_checkpoint, verify_checkpoint
from worker_client.checkpoints.opening import open_checkpoint

_PATH = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Looks at checkpoints where they lie; no cluster is needed."""


for _command in (diff, export, import_):
    command.add_command(_command)


@command.command()
@click.argument("path", metavar="FOLDER", type=_PATH)
def ls(path: Path) -> None:
    """Lists the checkpoints of a folder, oldest first."""
    with one_line_errors():
        for each in list_checkpoints(path):
            if each.problem:
                click.echo(printable(f"{each.name}  cannot be used: {each.problem}"))
                continue
            saved_at = datetime.fromtimestamp(each.saved_at_s, UTC)
            step = "" if each.step is None else f"  step {each.step}"
            click.echo(
                printable(
                    f"{each.name}  {saved_at:%Y-%m-%d %H:%M:%S} UTC{step}  {each.num_variables} variables, "
                    f"{each.size_bytes} bytes in {each.num_parts} parts"
                )
            )


@command.command()
@click.argument("path", metavar="CHECKPOINT", type=_PATH)
def show(path: Path) -> None:
    """Lists the variables of a checkpoint, or of the newest of a folder; or the tensors of one of another form."""
    with one_line_errors():
        with open_checkpoint(path) as checkpoint:
            if not isinstance(checkpoint, ShardscopeCheckpoint):
                for name, tensor in checkpoint.items():
                    click.echo(printable(f"{name}  {tensor.dtype_name} {list(tensor.shape)}"))
                return
        for each in show_checkpoint(checkpoint.path):
            click.echo(printable(f"{each}{'' if each.initialized else '  without a value'}"))


@command.command()
@click.argument("path", metavar="CHECKPOINT", type=_PATH)
def verify(path: Path) -> None:
    """Reads a whole checkpoint, or the newest of a folder, and checks all its checksums."""
    with one_line_errors():
        with progress_bar("checking") as progress:
            found = verify_checkpoint(path, show_progress=progress)
        click.echo(printable(f"{found.path} is whole: {found.num_variables} variables, {found.size_bytes} bytes"))
