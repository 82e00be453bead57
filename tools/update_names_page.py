"""Writes the generated parts of ``docs/tf1-names.md`` anew: the other names that are here, and those left out.

    .venv/bin/python tools/update_names_page.py

The rows above them are written by hand; those that are "left out" get the reason that the names themselves give.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from worker_client.values import left_out

PAGE = Path(__file__).parents[1] / "docs" / "tf1-names.md"
PACKAGE = "worker_client.compat.v1"

_ROW = re.compile(r"^\| `([\w.]+)` \| ([\w ]+?) *\| *(.*?) *\|$", re.MULTILINE)
_OTHERS, _LEFT_OUT = "## Other names that are here", "## Left out"


def main() -> None:
    """Rewrites the page."""
    page = PAGE.read_text(encoding="utf-8")
    by_hand, others, rest = page.partition(_OTHERS)
    head_of_others, left_out_title, head_of_left_out = rest.partition(_LEFT_OUT)
    by_hand = _ROW.sub(_with_reason, by_hand)
    works = {name for name, status, _ in _ROW.findall(by_hand) if status != "left out"}
    PAGE.write_text(
        by_hand
        + others
        + _with_rows(head_of_others, _other_names(works))
        + left_out_title
        + _with_rows(head_of_left_out, _names_left_out()),
        encoding="utf-8",
    )


def _with_reason(row: re.Match[str]) -> str:
    name, status, _ = row.groups()
    owner, _, member = name.rpartition(".")
    of_class = f"{owner.rpartition('.')[2]}.{member}"
    reason = next(filter(None, map(left_out.reason_for, (name, of_class, name.partition(".")[0], owner))), None)
    return row[0] if status != "left out" or reason is None else f"| `{name}` | left out | {reason} |"


def _with_rows(section: str, rows: Iterator[tuple[str, str]]) -> str:
    head, _, table = section.partition("|---|---|\n")
    tail = re.sub(r"\A(?:\|.*\n)*", "", table)
    return f"{head}|---|---|\n" + "".join(f"| {one} | {other} |\n" for one, other in rows) + tail


def _other_names(works: set[str]) -> Iterator[tuple[str, str]]:
    for path in sorted(_modules()):
        module = importlib.import_module(".".join(filter(None, (PACKAGE, path))))
        prefix = f"{path}." if path else ""
        names = sorted((name for name in module.__all__ if prefix + name not in works), key=str.lower)
        if names:
            yield f"`{'.'.join(filter(None, ('tf', path)))}`", ", ".join(f"`{name}`" for name in names)


def _modules() -> Iterator[str]:
    """The modules of names that a program reaches, as "" or "train"."""
    folder = Path(importlib.import_module(PACKAGE).__file__ or "").parent
    for file in folder.rglob("*.py"):
        path = ".".join(file.relative_to(folder).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        module = importlib.import_module(".".join(filter(None, (PACKAGE, path))))
        top, *inner = path.split(".")
        is_reached = not path or (top in importlib.import_module(PACKAGE).__all__)
        if is_reached and not (top == "contrib" and not inner) and hasattr(module, "__all__"):
            yield path


def _names_left_out() -> Iterator[tuple[str, str]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in left_out.rows():
        reasons.setdefault(reason, []).append(f"`{name}`")
    for reason, names in reasons.items():
        yield reason, ", ".join(names)


if __name__ == "__main__":
    main()
