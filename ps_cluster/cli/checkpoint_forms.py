"""``shardscope checkpoint diff``, ``export`` and ``import``: checkpoints of any form."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from ps_cluster.cli.common import EXIT_FAILED, EXIT_USAGE, counted, name_pairs, names_option, one_line_errors, say
from ps_cluster.inspection.printable_text import printable
from ps_cluster.inspection.task_table import format_size
from ps_protocol.command_line.early_signals import undone_on_signals
from worker_client.checkpoints.comparison import diff_checkpoints
from worker_client.checkpoints.copies import WRITERS, export_checkpoint, import_checkpoint
from worker_client.checkpoints.opening import FORMS
from worker_client.checkpoints.progress_bar import progress_shown
from worker_client.checkpoints.report import CopiedCheckpoint

_MOST_NAMED = 5


@click.command(short_help="Compares two checkpoints of any forms.")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--names", multiple=True, metavar="PATTERN", help="Compare these only, as 'encoder/*'; may be repeated.")
@click.option("--names-only", is_flag=True, help="Compare names, dtypes and shapes; read no values.")
def diff(first: str, second: str, names: Sequence[str], names_only: bool) -> None:
    """Compares two checkpoints of any forms: Shardscope's, TensorFlow's, safetensors, npz.

    Returns 0 if they are the same, 1 if they differ, 2 if that could not be found out.
    """
    with one_line_errors(EXIT_USAGE), progress_shown("comparing", True) as progress:
        found = diff_checkpoints(first, second, names=list(names) or "*", names_only=names_only, show_progress=progress)
    for line in str(found).splitlines():
        click.echo(printable(line))
    what = "equal" if found.compared_values else "alike, their values not compared"
    click.echo(f"{counted(len(found.tensors), 'tensor')} different, {found.num_equal} {what}")
    sys.exit(0 if found.is_equal else EXIT_FAILED)


@click.command(short_help="Writes a checkpoint in another form.")
@click.argument("source", metavar="CHECKPOINT")
@click.argument("target", metavar="TARGET")
@click.option("--format", "form", required=True, type=click.Choice(list(WRITERS)), help="What to write.")
@names_option
@click.option("--slots/--no-slots", default=None, help="With what optimizers keep; by default for tensorflow only.")
@click.option("--shard-size", metavar="SIZE", help="Most bytes in one file of safetensors, as 5GB.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def export(
    source: str,
    target: str,
    form: str,
    names: Sequence[str],
    slots: bool | None,
    shard_size: str | None,
    overwrite: bool,
) -> None:
    """Writes a checkpoint, or the newest of a folder, in another form.

    TARGET is the prefix of TensorFlow's files; a file *.safetensors, or a folder for model.safetensors; or an npz file.
    """
    with undone_on_signals(), one_line_errors(), progress_shown("exporting", True) as progress:
        made = export_checkpoint(
            source,
            target,
            format=form,
            names=name_pairs(names),
            slots=slots,
            shard_size=shard_size,
            overwrite=overwrite,
            show_progress=progress,
        )
    _show("exported", made)


@click.command("import", short_help="Makes a checkpoint of one of another form.")
@click.argument("source", metavar="SOURCE")
@click.argument("folder", metavar="FOLDER")
@click.option("--format", "form", type=click.Choice(list(FORMS)), help="Of the source; found out if not given.")
@click.option("--name", help="Of the checkpoint; by default the step or the time.")
@click.option("--step", type=click.IntRange(min=0), help="Training step that it belongs to.")
@names_option
def import_(
    source: str, folder: str, form: str | None, name: str | None, step: int | None, names: Sequence[str]
) -> None:
    """Makes a checkpoint in a folder from TensorFlow's, from safetensors or from an npz file."""
    with undone_on_signals(), one_line_errors(), progress_shown("importing", True) as progress:
        made = import_checkpoint(
            source, folder, format=form, name=name, step=step, names=name_pairs(names), show_progress=progress
        )
    _show("imported", made)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) + (f" and {len(names) - _MOST_NAMED} more" * (len(names) > _MOST_NAMED))


def _show(what: str, made: CopiedCheckpoint) -> None:
    for reason in dict.fromkeys(made.left_out.values()):
        names = [name for name, each in made.left_out.items() if each == reason]
        say(f"left out {_some(names)}: {reason}")
    if made.tensorflow_slots:
        slots = "slots of TensorFlow 1's optimizers, which go on with them; those of ss.train begin anew"
        say(f"as variables {_some(made.tensorflow_slots)}: {slots}")
    say(f"{what} {made.path}: {counted(len(made.names), 'tensor')}, {format_size(made.size_bytes)} of values")
