from __future__ import annotations

import io
import sys

import pytest

from ps_cluster.cli.common import print_error


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
