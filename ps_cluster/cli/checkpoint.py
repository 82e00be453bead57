"""``shardscope checkpoint``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from ps_cluster.cli.checkpoint_forms import diff, export, import_
from ps_cluster.cli.common import counted, one_line_errors, say
from ps_cluster.inspection.printable_text import printable
from ps_cluster.inspection.task_table import format_size
from ps_protocol.checkpoints.store import DEAD_S
from ps_protocol.checkpoints.urls import is_url
from ps_protocol.errors import NotFoundError
from ps_protocol.settings import POSITIVE_SECONDS
from worker_client.checkpoints.contents import ShardscopeCheckpoint
from worker_client.checkpoints.inspection import (
    CheckpointEntry,
    clean_checkpoints,
    list_checkpoints,
    look_at_checkpoint,
    pin_checkpoint,
    show_checkpoint,
    unpin_checkpoint,
    verify_checkpoint,
)
from worker_client.checkpoints.opening import open_checkpoint

_HEADS: Final = ("name", "saved (UTC)", "variables", "slots", "size", "parts", "")


def _contents(entry: CheckpointEntry) -> str:
    """What is in a checkpoint: variables and slots as wholes, and the size of its files."""
    return f"{entry.counts}, {format_size(entry.size_bytes)} in {counted(entry.num_parts, 'part')}"


@click.group()
def command() -> None:
    """Looks at checkpoints where they lie, and pins them; no cluster is needed."""


for _command in (diff, export, import_):
    command.add_command(_command)


@command.command(short_help="Lists the checkpoints of a folder.")
@click.argument("path", metavar="FOLDER")
def ls(path: str) -> None:
    """Lists the checkpoints of a folder, or at a URL, oldest first, with their times in UTC; or shows one of them.

    A partitioned variable counts as one, and so does a slot of it. The size is that of the files, the parts.
    """
    with one_line_errors():
        found = list_checkpoints(path) or [look_at_checkpoint(path)]
        rows = [_HEADS, *[_row(each) for each in found if not each.problem]]
        widths = [max([len(row[column]) for row in rows]) for column in range(len(_HEADS))]
        widths[0] = max([len(each.name) for each in found] + widths[:1])
        if len(rows) > 1:
            click.echo(_line(_HEADS, widths))
        for each in found:
            if each.problem:
                click.echo(printable(f"{each.name:{widths[0]}}  cannot be used: {each.problem}"))
            else:
                click.echo(printable(_line(_row(each), widths)))


def _row(entry: CheckpointEntry) -> tuple[str, ...]:
    """What the list says of a checkpoint that can be used, as ``_HEADS``."""
    has_step = entry.step is not None and f"{entry.step:09}" not in entry.name
    notes = [f"step {entry.step}"] if has_step else []
    notes += [f"{name} {value:g}" for name, value in entry.metrics.items()]
    notes += ["pinned"] if entry.is_pinned else []
    return (
        entry.name,
        f"{datetime.fromtimestamp(entry.saved_at_s, UTC):%Y-%m-%d %H:%M:%S}",
        f"{entry.num_variables}",
        f"{entry.num_slots}",
        format_size(entry.size_bytes),
        f"{entry.num_parts}",
        "  ".join(notes),
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    """A row of the list: numbers end below each other, texts begin so."""
    texts = [f"{text:{'>' if 2 <= column <= 5 else '<'}{widths[column]}}" for column, text in enumerate(row)]
    return "  ".join(texts).rstrip()


@command.command(short_help="Lists the variables of a checkpoint.")
@click.argument("path", metavar="CHECKPOINT")
def show(path: str) -> None:
    """Lists the variables of a checkpoint, or of the newest of a folder; or the tensors of one of another form.

    The first line counts partitioned variables and their slots as wholes; below each part has a line.
    """
    with one_line_errors():
        with open_checkpoint(path) as checkpoint:
            if not isinstance(checkpoint, ShardscopeCheckpoint):
                size = format_size(sum([tensor.nbytes for tensor in checkpoint.values()]))
                head = f"{checkpoint.path}: {checkpoint.form}, {counted(len(checkpoint), 'tensor')}, {size} of values"
                click.echo(printable(head))
                for name, tensor in checkpoint.items():
                    click.echo(printable(f"{name}  {tensor.dtype_name} {list(tensor.shape)}"))
                return
        click.echo(printable(f"{checkpoint.path}: {_contents(look_at_checkpoint(checkpoint.path))}"))
        for each in show_checkpoint(checkpoint.path):
            click.echo(printable(f"{each}{'' if each.initialized else '  without a value'}"))


@command.command(short_help="Checks all checksums of a checkpoint.")
@click.argument("path", metavar="CHECKPOINT")
def verify(path: str) -> None:
    """Reads a whole checkpoint, or the newest of a folder, and checks all its checksums.

    So it does with one of TensorFlow's and with npz files. Safetensors have no checksums: there it checks whether all
    is there.
    """
    with one_line_errors():
        found = verify_checkpoint(path, show_progress=True)
        if found.form == ShardscopeCheckpoint.form:
            say(f"{found.path} is whole: {_contents(found)}")
            return
        for name in found.unread:
            say(f"not checked, since only other programs can read it: {name}")
        size = f"{counted(found.num_variables, 'tensor')}, {format_size(found.size_bytes)} of values"
        note = "" if found.has_checksums else "; it has no checksums, so that changed values would not be noticed"
        say(f"{found.path} is whole: {found.form}, {size}{note}")


@command.command(short_help="Has a checkpoint stay.")
@click.argument("path", metavar="CHECKPOINT")
def pin(path: str) -> None:
    """Has a checkpoint, or the newest of a folder, stay when older ones are removed."""
    with one_line_errors():
        say(f"{pin_checkpoint(path).path} is pinned, and stays")


@command.command(short_help="Has a checkpoint removed like others.")
@click.argument("path", metavar="CHECKPOINT")
def unpin(path: str) -> None:
    """Has a checkpoint, or the newest of a folder, removed like others."""
    with one_line_errors():
        say(f"{unpin_checkpoint(path).path} is no longer pinned, and is removed like others")


@command.command(short_help="Removes what killed saves have left behind.")
@click.argument("path", metavar="FOLDER")
@click.option(
    "--older-than",
    "older_than_s",
    type=POSITIVE_SECONDS,
    default=f"{DEAD_S:g}",
    show_default=True,
    help="Seconds for which it has not changed.",
)
def clean(path: str, older_than_s: float) -> None:
    """Removes what saves that were killed have left behind in a folder, or at a URL."""
    with one_line_errors():
        if not is_url(path) and not Path(path).is_dir():
            raise NotFoundError(f"there is no folder {path}")
        removed = clean_checkpoints(path, older_than_s=older_than_s)
        for each in removed:
            click.echo(printable(f"removed {each}"))
        if not removed:
            say(f"nothing in {path} was left behind more than {older_than_s:g} s ago")
