"""What many tests of faults begin with: workers that give up soon, and ps tasks with journals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.patience import ask_impatiently
from tests.chaos.ps_processes import PsTask


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of this process ask again soon."""
    ask_impatiently(monkeypatch)


@pytest.fixture
def ps(tmp_path: Path) -> Iterator[PsTask]:
    """One ps task, not started."""
    with PsTask(tmp_path, "journal") as task:
        yield task


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[list[PsTask]]:
    """Two ps tasks, not started."""
    with ExitStack() as resources:
        made = []
        for index in range(2):
            (tmp_path / f"ps{index}").mkdir()
            made.append(resources.enter_context(PsTask(tmp_path / f"ps{index}", "journal", index=index)))
        for each in made:
            each.cluster = [task.address for task in made]
        yield made
