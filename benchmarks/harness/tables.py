"""Tables, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table as RichTable


@dataclass
class Table:
    """Rows of text under headings; the first ``labels`` columns are words, the others are numbers."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    labels: int = 1
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """Returns the table as GitHub shows it."""
        alignment = ["---"] * self.labels + ["---:"] * (len(self.columns) - self.labels)
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.columns, alignment, *self.rows)]
        return "\n".join([f"### {self.title}", "", *lines, *(["", *self.notes] if self.notes else [])])

    def show(self, console: Console) -> None:
        """Prints it."""
        table = RichTable(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="left" if number < self.labels else "right")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for note in self.notes:
            console.print(note)


def number(value: float) -> str:
    """Returns a number as text, with three digits or all that stand before the point."""
    places = next((places for places, bound in ((0, 99.95), (1, 9.995), (2, 0.9995)) if abs(value) >= bound), 3)
    return f"{value:,.{places}f}"


def duration(seconds: float, unit: str) -> str:
    """Returns seconds as text in "us" or "ms"."""
    return f"{number(seconds * (1e6 if unit == 'us' else 1e3))} {'µs' if unit == 'us' else 'ms'}"


def auto_duration(seconds: float) -> str:
    """Returns seconds as text, in the unit that suits them."""
    return duration(seconds, "us" if seconds < 1e-3 else "ms")


def size(count: float) -> str:
    """Returns bytes as text."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= factor:
            return f"{number(count / factor)} {unit}"
    return f"{count:,.0f} B"
