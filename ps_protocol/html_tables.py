"""What notebooks show of our objects: small tables, with everything escaped. Nothing here asks anybody."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Final

MAX_ROWS: Final = 20


def html_table(title: str, rows: Sequence[Sequence[object]], *, notes: Sequence[str] = ()) -> str:
    """Returns a table in HTML, as ``_repr_html_`` does.

    Args:
        title: What it is about.
        rows: Its rows, of which the first cell is a heading; those beyond ``MAX_ROWS`` are only counted.
        notes: Lines of code below it.
    """
    shown = [
        f'<tr><th style="text-align: left">{_text(first)}</th>'
        + "".join(f'<td style="text-align: left">{_text(cell)}</td>' for cell in cells)
        + "</tr>"
        for first, *cells in rows[:MAX_ROWS]
    ]
    if len(rows) > MAX_ROWS:
        shown.append(f"<tr><td>and {len(rows) - MAX_ROWS} more</td></tr>")
    below = "".join(f"<div><code>{_text(note)}</code></div>" for note in notes)
    return f"<div><strong>{_text(title)}</strong><table>{''.join(shown)}</table>{below}</div>"


def _text(value: object) -> str:
    return html.escape(str(value))
