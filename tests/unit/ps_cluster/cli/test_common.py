from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from ps_cluster.cli.common import one_line_errors, print_error


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("is_terminal", [False, True], ids=["file", "terminal"])
def test_an_error_is_one_line_and_on_a_terminal_broken_between_words(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    stderr = Terminal() if is_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    message = "the task at 127.0.0.1:3 cannot be reached (Connection refused). Check that it is running, or not"
    print_error(message)
    rows = stderr.getvalue().splitlines()
    assert " ".join(rows) == f"shardscope: {message}"
    assert len(rows) == (2 if is_terminal else 1)


def test_a_file_that_cannot_be_written_is_named_in_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended, one_line_errors():
        (tmp_path / "missing" / "rows.npy").open("wb")
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"shardscope: {tmp_path}/missing/rows.npy: No such file or directory\n"


def test_an_error_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("no\x1b[2J\nps:9 is well")
    assert capsys.readouterr().err == "shardscope: no\\x1b[2J\\nps:9 is well\n"
