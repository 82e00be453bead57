"""docs/guarantees.md names, for each promise, tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
PROMISES = TEXT.split("## What is not promised", 1)[0]
NAMED = re.compile(r"`([a-z_/]+/test_[a-z_0-9]+\.py)((?:::\w+)+)`")


def _tests(body: list[ast.stmt], prefix: str = "") -> set[str]:
    """The tests of a module, and its classes, which stand for theirs."""
    found = set()
    for each in body:
        if isinstance(each, ast.FunctionDef) and each.name.startswith("test_"):
            found.add(f"{prefix}::{each.name}")
        elif isinstance(each, ast.ClassDef) and each.name.startswith("Test"):
            found |= {f"{prefix}::{each.name}"} | _tests(each.body, f"{prefix}::{each.name}")
        elif isinstance(each, ast.Assign):  # of a state machine
            found |= {f"{prefix}::{name.id}" for name in each.targets if isinstance(name, ast.Name)}
    return found


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED.findall(TEXT)}))
def test_every_test_that_is_named_is_there(path: str) -> None:
    named = {name for of, name in NAMED.findall(TEXT) if of == path}
    assert sorted(named - _tests(ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8")).body)) == []


def test_tests_are_named() -> None:
    assert len(NAMED.findall(TEXT)) > 50


@pytest.mark.parametrize("section", re.findall(r"^## .*?(?=^## |\Z)", PROMISES, re.MULTILINE | re.DOTALL))
def test_every_promise_names_a_test(section: str) -> None:
    assert NAMED.search(section), section.partition("\n")[0]
