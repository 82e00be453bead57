"""What the commands of this package share: their options, and what they do with their figures."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from rich.console import Console

from benchmarks.harness.contestants import TRANSPORTS
from benchmarks.harness.record import Record, new_record, write
from benchmarks.harness.tables import Table

P = ParamSpec("P")
T = TypeVar("T")

_FRESH_PROCESS_TIMEOUT_S = 900.0


class Chosen(argparse.Action):
    """An option that may be given several times, with several values each; the first time in place of the default."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        del parser, option_string
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*(() if before is self.default else before), *(values or ())])


def positive(text: str) -> int:
    """Reads a whole number from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def parser(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the options that every command has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--transport", nargs="+", action=Chosen, choices=TRANSPORTS, default=list(TRANSPORTS), help="(default: all)"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    return made


def progress(line: str) -> None:
    """Says on standard error what goes on."""
    Console(stderr=True, soft_wrap=True).print(line, style="dim")


def finish(
    benchmark: str, module: str, results: dict[str, Any], tables: Callable[[Record], list[Table]], json: Path | None
) -> None:
    """Shows the figures, and writes them down if asked."""
    record = new_record(benchmark, module, results)
    write(record, json)
    # A pipe has no width: nothing is cut off or broken there.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    for table in tables(record):
        table.show(console)


def in_fresh_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs a function of a module in a process of its own, which has no history of memory and threads.

    Raises:
        TimeoutError: It takes longer than a quarter of an hour.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(function, *args, **kwargs).result(_FRESH_PROCESS_TIMEOUT_S)
