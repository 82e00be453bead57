"""What all commands share: exit codes, and errors of one line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import click

from ps_cluster.inspection.printable_text import printable
from ps_protocol.command_line.word_wrap import wrap_for
from ps_protocol.errors import ShardscopeError
from ps_protocol.settings import POSITIVE_SECONDS

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2


def timeout_option(default_s: float) -> Callable[[Any], Any]:
    """Makes the option for how long a command waits; the command gets it as ``timeout_s``."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=POSITIVE_SECONDS,
        default=f"{default_s:g}",
        show_default=True,
        help="How long to wait.",
    )


def say(sentence: str) -> None:
    """Says something in a sentence, which a terminal does not break within words."""
    click.echo(wrap_for(sys.stdout, printable(sentence)))


def print_error(message: str) -> None:
    """Says what has failed in one line, on standard error."""
    click.echo(wrap_for(sys.stderr, f"shardscope: {printable(message)}"), err=True)


@contextlib.contextmanager
def one_line_errors(failed: int = EXIT_FAILED, *, keeps_tables: bool = False) -> Iterator[None]:
    """Turns what a user can cause into a message and an exit code; ``failed`` if something failed.

    Args:
        failed: The exit code.
        keeps_tables: Whether a message of several lines keeps them.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # for ``unread_output``
    except ShardscopeError as error:
        first, *table = str(error).splitlines() if keeps_tables else [" ".join(str(error).split())]
        print_error(first)
        for line in table:
            click.echo(wrap_for(sys.stderr, printable(line)), err=True)
        sys.exit(failed)
    except OSError as error:
        has_both = error.filename is not None and error.strerror
        print_error(f"{error.filename}: {error.strerror}" if has_both else " ".join(str(error).split()))
        sys.exit(failed)
    except (TypeError, ValueError) as error:
        print_error(" ".join(str(error).split()))
        sys.exit(EXIT_USAGE)


names_option = click.option(
    "--names",
    multiple=True,
    metavar="NEW=OLD",
    help="Which tensors, and what they are to be called: 'encoder/*=model.encoder.*'. May be given several times.",
)
"""What is to be taken from a checkpoint, under which names."""


def name_pairs(names: Sequence[str]) -> dict[str, str] | None:
    """Returns what ``--names`` says; None if it was not given."""
    found = {}
    for each in names:
        new, sign, old = each.partition("=")
        if not sign or not new or not old:
            raise click.BadParameter(f"{each!r} should be as NEW=OLD, such as 'encoder/*=model.encoder.*'")
        found[new] = old
    return found or None


def counted(number: int, noun: str) -> str:
    """A number of things in words: "1 part", "2 parts"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
