"""The contract that forbids circles of imports sees every kind of import."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from importlinter.cli import lint_imports

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
    assert _without_circles(settings)["ancestors"] == settings["root_packages"]


@pytest.mark.parametrize(
    ("imports_of_b", "is_kept"),
    [
        ("", True),
        ("import sample.a", False),
        ("def late():\n    from sample import a", False),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sample.a import A", False),
        ("from . import a", False),
        ("from .room import c", False),
    ],
)
def test_it_finds_a_circle(
    settings: dict[str, Any],
    imports_of_b: str,
    is_kept: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = tmp_path / "sample"
    (package / "room").mkdir(parents=True)
    for name, content in {
        "__init__": "",
        "a": "from . import b\nclass A: ...\n",
        "b": imports_of_b,
        "room/__init__": "",
        "room/c": "from .. import a\n",
    }.items():
        (package / f"{name}.py").write_text(content)
    contract = {**_without_circles(settings), "ancestors": [package.name]}
    config = tmp_path / ".importlinter"
    config.write_text(
        f"[importlinter]\nroot_package = {package.name}\n[importlinter:contract:it]\n"
        + "".join(
            f"{key} = {' '.join(value) if isinstance(value, list) else value}\n"
            for key, value in contract.items()
            if key != "ignore_imports"
        )
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert lint_imports(config_filename=str(config), no_cache=True) == (0 if is_kept else 1)
