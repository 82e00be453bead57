"""What the page of differences says is followed is: short programs print what TensorFlow prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conformance.printing import printed_by

PAGE = (Path(__file__).parents[2] / "docs" / "tf1-differences.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(
    r"^## (\w+)\. .*?```python\n(.*?)```\n\n```\n(.*?)```",
    (Path(__file__).parent / "reference" / "differences.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)
ROWS = dict(re.findall(r"^\| ([ABC]\d+) \| (.*) \|$", PAGE, re.MULTILINE))
RUN = [kind for kind, _, _ in PROGRAMS if kind != "C11"]
"""The kinds whose programs are run here: all but that of which the page says that it differs."""


def test_the_page_says_of_each_kind_whether_it_is_followed() -> None:
    assert list(ROWS) == [kind for kind, _, _ in PROGRAMS]
    assert len(ROWS) == 29
    for kind, row in ROWS.items():
        verdict = row.split(" | ")[1]
        assert verdict.startswith(("follows", "differs: ")), kind


@pytest.mark.parametrize(
    ("code", "expected"),
    [pytest.param(code, expected, id=kind) for kind, code, expected in PROGRAMS if kind in RUN],
)
def test_a_program_prints_what_tensorflow_prints(code: str, expected: str) -> None:
    assert printed_by(code) == expected
