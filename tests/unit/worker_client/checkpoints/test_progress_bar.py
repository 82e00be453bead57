from __future__ import annotations

import io

import pytest
from rich.console import Console

from worker_client.checkpoints import progress_bar
from worker_client.checkpoints.progress_bar import progress_shown


def test_the_bar_fits_in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        progress_bar, "Console", lambda stderr: Console(file=screen, force_terminal=True, width=80, color_system=None)
    )
    with progress_shown("restoring", True) as show:
        assert show is not None
        show(123_456_789, 99_999_999_999)
    lines = [line for line in screen.getvalue().replace("\r", "\n").split("\n") if "restoring" in line]
    assert "0.1/100.0 GB" in lines[-1]
    assert "…" not in lines[-1]


def test_a_function_is_told_and_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int]] = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))

    with progress_shown("saving", tell) as show:
        assert show is not None
        show(1, 2)
    for nothing in (None, False, True):  # standard error is no terminal here
        with progress_shown("saving", nothing) as show:
            assert show is None
    assert told == [(1, 2)]
    assert capfd.readouterr() == ("", "")
