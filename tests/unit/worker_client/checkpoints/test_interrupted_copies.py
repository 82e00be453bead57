"""An export and an import that are interrupted at each place where a signal may come: whole, or not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import shardscope as ss
from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.errors import NotFoundError
from tests.interrupted_places import close_lost, interrupted_at, remove
from tests.tensor_files import in_memory
from worker_client.checkpoints.new_checkpoint import write_checkpoint

MOST_LOST = 20
ARRAYS = {"layer/w": np.arange(6.0).reshape(2, 3), "step": np.array(3)}


@pytest.fixture(autouse=True)
def no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # hundreds of copies need no disk


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_checkpoint(FolderStore(tmp_path), "x", in_memory(ARRAYS))
    return tmp_path / "x"


@pytest.fixture(autouse=True)
def few_are_lost(tmp_path: Path) -> Iterator[None]:
    """An interrupt between the opening of a file and the note of its number leaves it open."""
    yield
    assert close_lost(tmp_path) < MOST_LOST


def is_interrupted_everywhere(run: Path, folder: Path, target: Path, copy: Callable[[], object]) -> None:
    """Copies with an interrupt at each place: what is there then is whole, and the next copy works."""
    number, is_passed, left = 0, True, 0
    while is_passed:
        number += 1
        is_passed = interrupted_at(number, copy)
        try:
            assert ss.checkpoint.diff(run, target).is_equal
        except NotFoundError:
            files = [f"{each.relative_to(folder)}" for each in folder.rglob("*") if each.is_file()]
            assert [
                each for each in files if ".tmp" not in each and ".data-" not in each
            ] == []  # these are no use alone
        left += len(list(folder.glob(".*.tmp")))  # interrupted before anybody knew that the file was there
        for each in folder.glob("*") if folder.exists() else ():
            remove(each)
    assert number > 100
    assert left < 0.1 * number
    assert list(folder.iterdir()) == []
    copy()
    assert ss.checkpoint.diff(run, target).is_equal


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("form", "target", "shard_size"),
    [
        ("tensorflow", "m", None),
        ("safetensors", "m.safetensors", None),
        ("safetensors", "m.safetensors", 48),
        ("npz", "m.npz", None),
    ],
)
def test_an_interrupted_export_is_whole_or_not_there(
    run: Path, tmp_path: Path, form: str, target: str, shard_size: int | None
) -> None:
    made = tmp_path / "out" / (f"{target}.index.json" if shard_size else target)
    is_interrupted_everywhere(
        run,
        tmp_path / "out",
        made,
        lambda: ss.checkpoint.export(run, tmp_path / "out" / target, format=form, shard_size=shard_size),
    )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_import_is_whole_or_not_there(run: Path, tmp_path: Path) -> None:
    ss.checkpoint.write_tensorflow(tmp_path / "m", ARRAYS)
    is_interrupted_everywhere(
        run,
        tmp_path / "back",
        tmp_path / "back" / "y",
        lambda: ss.checkpoint.import_from(tmp_path / "m", tmp_path / "back", name="y"),
    )
