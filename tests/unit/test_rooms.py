"""Rooms stay rooms: small enough to look through, each with one sentence that the tour repeats."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("ps_protocol", "ps_server", "worker_client", "ps_cluster", "shardscope")
TOUR = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "_pb2" not in path.name)
ROOMS = sorted({path.parent for path in FILES if path.parent.parent != ROOT and "compat/" not in f"{path}"})


def _named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_folder_has_more_files_than_one_can_look_through() -> None:
    sizes = {_named(folder): sum(path.parent == folder for path in FILES) for folder in {path.parent for path in FILES}}
    assert {folder: size for folder, size in sizes.items() if size > 25} == {}


def test_no_file_is_longer_than_one_job() -> None:
    lengths = {_named(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 600} == {}


@pytest.mark.parametrize("room", ROOMS, ids=_named)
def test_the_tour_says_what_the_room_says_of_itself(room: Path) -> None:
    docstring = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
    assert docstring, f"{_named(room)}/__init__.py has to say what the room is for"
    job = re.sub(r"\s+", " ", docstring.partition("\n\n")[0]).replace("``", "`")
    _, _, name = _named(room).partition("/")
    assert f"| `{name}` | {job} |" in TOUR


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/memory.md", "CONTRIBUTING.md"])
def test_files_that_a_page_names_are_there(page: str) -> None:
    named = re.findall(
        r"`((?:ps_|worker_|tests|docs|proto|shardscope)[\w/]*\.(?:py|md|proto))`", (ROOT / page).read_text()
    )
    modules = re.findall(r"`((?:ps_protocol|ps_server|worker_client|ps_cluster)(?:\.\w+)+)`", (ROOT / page).read_text())
    paths = [*named, *(module.replace(".", "/") + ".py" for module in modules)]
    assert paths or page == "CONTRIBUTING.md"
    assert [path for path in paths if not (ROOT / path).exists()] == []
