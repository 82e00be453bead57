"""Prints lines with the name of the task that they come from."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style
from rich.text import Text

from ps_protocol.command_line.word_wrap import wrap_words

_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class PrintedLine:
    """A line to be printed.

    Attributes:
        name: Of the task, or of the launcher.
        text: May be several lines.
        style: Style of the name.
        is_failure: Whether it is about something that went wrong.
    """

    name: str
    text: str
    style: str
    is_failure: bool = False


class LinePrinter:
    """Writes many lines at a time; none is cut, and on a terminal a long one is broken between words. Not thread-safe.

    Args:
        console: Where to. On a terminal the names are in colour, colours within a line are kept, and escape
            sequences that would do something else, such as move the cursor, are left out. Elsewhere a line is
            written as it is.
        errors: Where failures go if ``console`` is no terminal.
        names: All names, for their width.
    """

    def __init__(self, console: Console, errors: Console, names: Iterable[str]):
        self._console = console
        self._errors = console if console.is_terminal else errors
        self._name_width = max(map(len, names))

    def print(self, lines: Sequence[PrintedLine]) -> None:
        """Prints the lines; OSError or SystemExit (newer versions of rich) if no process reads them any more."""
        for is_failure, group in itertools.groupby(lines, key=lambda line: line.is_failure):
            console = self._errors if is_failure else self._console
            if console.is_terminal:
                segments = [segment for line in group for segment in self._segments(line, console)]
                console.print(Segments(segments), end="", crop=False)
            else:
                console.file.write("".join(self._plain(line) for line in group))
                console.file.flush()

    def _prefix(self, line: PrintedLine) -> str:
        return f"{line.name:<{self._name_width}} | "

    def _plain(self, line: PrintedLine) -> str:
        prefix = self._prefix(line)
        return "".join(f"{prefix}{text}\n" for text in line.text.split("\n"))

    def _segments(self, line: PrintedLine, console: Console) -> Iterator[Segment]:
        prefix = Segment(self._prefix(line), Style.parse(line.style))
        further = Segment(f"{'':<{self._name_width}} | ", prefix.style)
        style = Style.parse(line.style) if line.is_failure else None
        for text in line.text.split("\n"):
            rows = wrap_words(text, console.width - len(prefix.text))
            is_plain = _CONTROL.search(text) is None
            shown: list[Text] = []
            if not is_plain:  # as a whole, since a colour goes on in the next row
                shown += Text.from_ansi("\n".join(rows), end="").split("\n", allow_blank=True)
            for number, row in enumerate(rows):
                yield further if number else prefix
                if is_plain:
                    yield Segment(row, style)
                else:
                    shown[number].end = ""
                    yield from shown[number].render(console)
                yield Segment.line()
