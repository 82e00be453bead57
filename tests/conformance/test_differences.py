"""What the page of differences says is followed is: short programs print what TensorFlow prints."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf

PAGE = (Path(__file__).parents[2] / "docs" / "tf1-differences.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(
    r"^## (\w+)\. .*?```python\n(.*?)```\n\n```\n(.*?)```",
    (Path(__file__).parent / "reference" / "differences.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)
ROWS = dict(re.findall(r"^\| ([ABC]\d+) \| (.*) \|$", PAGE, re.MULTILINE))
RUN = "A1 A2 A3 A7 B2 B3 B4 B5 B6 B8 B9 B10 C1 C2 C4 C8 C9 C10 C12".split()  # noqa: SIM905 - as the page counts them
"""The kinds whose programs are run here; of the others there are tests of their own."""


def attempted(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:  # noqa: BLE001 - which it is is what is printed
        return type(error).__name__


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
    printed = io.StringIO()
    with tf.Graph().as_default(), contextlib.redirect_stdout(printed):
        exec(compile(code, "program", "exec"), {"tf": tf, "np": np, "t": attempted})
    assert printed.getvalue() == expected
