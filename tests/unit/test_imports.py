"""The contract that forbids circles of imports sees every kind of import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(_PYPROJECT.read_text())["tool"]["importlinter"]
    return found


def _without_circles(settings: dict[str, Any]) -> dict[str, Any]:
    contract: dict[str, Any]
    (contract,) = [each for each in settings["contracts"] if each["type"] == "acyclic_siblings"]
    return contract


def test_it_is_about_all_packages(settings: dict[str, Any]) -> None:
    packages = [package for package in settings["root_packages"] if package != "shardscope"]  # is one module
    assert _without_circles(settings)["ancestors"] == [
        each for package in packages for each in (package, f"{package}.**")
    ]


@pytest.mark.parametrize(
    ("module", "imports", "is_kept"),
    [
        ("b", "", True),
        ("b", "import sample.a", False),
        ("b", "def late():\n    from sample import a", False),
        ("b", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sample.a import A", False),
        ("b", "from . import a", False),
        ("b", "from .room import c", False),
        ("room/d", "from . import e", False),
    ],
)
def test_it_finds_a_circle(
    settings: dict[str, Any],
    module: str,
    imports: str,
    is_kept: bool,
    tmp_path: Path,
) -> None:
    package = tmp_path / "sample"
    (package / "room").mkdir(parents=True)
    for name, content in {
        "__init__": "",
        "a": "from . import b\nclass A: ...\n",
        "b": "",
        "room/__init__": "",
        "room/c": "from .. import a\n",
        "room/d": "",
        "room/e": "from . import d\n",
        module: imports,
    }.items():
        (package / f"{name}.py").write_text(content)
    contract = {**_without_circles(settings), "ancestors": [package.name, f"{package.name}.**"]}
    lines = [f"{key} = {json.dumps(value)}" for key, value in contract.items() if key != "ignore_imports"]
    (tmp_path / "pyproject.toml").write_text(
        "\n".join(['[tool.importlinter]\nroot_package = "sample"\n[[tool.importlinter.contracts]]', *lines])
    )
    # In a process of its own: import-linter switches off the loggers that are there.
    checked = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == (0 if is_kept else 1), checked.stdout
    assert ("BROKEN" in checked.stdout) is not is_kept
