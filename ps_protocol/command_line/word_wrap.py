"""Breaks lines that people read between words, since a terminal breaks them anywhere."""

from __future__ import annotations

import os
import re
import unicodedata
from typing import Final, TextIO

_USUAL_COLUMNS: Final = 80
_MIN_COLUMNS: Final = 20
_UNSEEN: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, movements of the cursor
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, links
    r"|[\x00-\x08\x0b-\x1f\x7f]"
)
_PIECE: Final = re.compile(r"\s*\S+")


def wrap_words(line: str, columns: int) -> list[str]:
    """Breaks a line between words into rows of at most ``columns``; only a word that is longer makes a row longer.

    Further rows begin as far to the right as the first. The white space at a break is left out. A terminal of less than
    20 columns is left to break as it does.

    Args:
        line: Without line breaks; may have escape sequences, which take no room.
        columns: Of a row.
    """
    if columns < _MIN_COLUMNS or (len(line) <= columns and line.isascii() and "\t" not in line):
        return [line]
    given, line = line, line.expandtabs()
    if _columns(line) <= columns:
        return [given]
    indent = line[: len(line) - len(line.lstrip())][: columns // 2]
    rows, row, width = [], "", 0
    for piece in _PIECE.findall(line):
        added = _columns(piece)
        if row and width + added > columns:
            rows.append(row)
            row, width = indent + piece.lstrip(), len(indent) + _columns(piece.lstrip())
        else:
            row, width = row + piece, width + added
    return [*rows, row]


def wrap_for(stream: TextIO, text: str) -> str:
    """Returns a text of one or more lines, wrapped to the width of the terminal that a stream writes to, if it does."""
    if not stream.isatty():
        return text
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except OSError:
        columns = _USUAL_COLUMNS
    return "\n".join(row for line in text.split("\n") for row in wrap_words(line, columns))


def _columns(text: str) -> int:
    seen = _UNSEEN.sub("", text)
    if seen.isascii():
        return len(seen)
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else not unicodedata.combining(each) for each in seen)
