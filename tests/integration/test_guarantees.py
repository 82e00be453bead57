"""docs/guarantees.md names, for each promise, tests that there are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]  # every module that is named is imported

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
PROMISES = TEXT.split("## What is not promised", 1)[0]
NAMED = re.compile(r"`([a-z_/]+/test_[a-z_0-9]+\.py(?:::\w+)+)`")
TIMEOUT_S = 170.0


def test_every_test_that_is_named_is_collected() -> None:
    named = {f"tests/{name}" for name in NAMED.findall(TEXT)}
    assert len(named) > 50
    paths = sorted({name.partition("::")[0] for name in named})
    assert [path for path in paths if not (ROOT / path).exists()] == []
    # With no options of ours, of which -q would shorten the list.
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-o", "addopts=", "--import-mode=importlib"]
    collected = subprocess.run(
        [*command, "-p", "no:cacheprovider", *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert collected.returncode == 0, collected.stdout[-2000:] + collected.stderr[-2000:]
    found = {line.partition("[")[0] for line in collected.stdout.splitlines() if "::" in line}
    found |= {name.rpartition("::")[0] for name in found}  # a class stands for its tests
    assert sorted(named - found) == []


@pytest.mark.parametrize("section", re.findall(r"^## .*?(?=^## |\Z)", PROMISES, re.MULTILINE | re.DOTALL))
def test_every_promise_names_a_test(section: str) -> None:
    assert NAMED.search(section), section.partition("\n")[0]
