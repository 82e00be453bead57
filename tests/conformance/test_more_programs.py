"""Programs of each kind of difference beyond the page's own print what TensorFlow 2.21 printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conformance.printing import printed_by

PROGRAMS = re.findall(
    r"^## (\S+)\n\n```python\n(.*?)```\n\n```\n(.*?)```",
    (Path(__file__).parent / "reference" / "more_programs.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


def test_each_program_has_a_name_of_its_own() -> None:
    assert len(PROGRAMS) == len({name for name, _, _ in PROGRAMS}) > 0


@pytest.mark.parametrize(
    ("code", "expected"), [pytest.param(code, expected, id=name) for name, code, expected in PROGRAMS]
)
def test_a_program_prints_what_tensorflow_prints(code: str, expected: str) -> None:
    assert printed_by(code) == expected
