"""``shardscope up`` on a terminal: a table of the tasks below their output."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_up import TIMEOUT_S, WORKER

pytestmark = pytest.mark.integration


class Terminal:
    """A terminal of 120 columns and 40 rows, and all that was written to it."""

    def __init__(self) -> None:
        self._leader, self.follower = os.openpty()
        self.resize(120, 40)
        self.data = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.data.decode())

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.follower, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def up(self, *arguments: str) -> int:
        """Runs ``shardscope up`` on it; returns the exit code."""
        with self.start("up", *arguments) as process:
            return process.wait(TIMEOUT_S)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts ``shardscope`` on it."""
        environment = {
            name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}
        }
        return subprocess.Popen(
            [sys.executable, "-m", "ps_cluster", *arguments],
            stdout=self.follower,
            stderr=self.follower,
            env={**environment, "TERM": "xterm-256color"},
        )

    def close(self) -> None:
        os.close(self.follower)
        self._reader.join(TIMEOUT_S)
        os.close(self._leader)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # how the end of a terminal is told
            while data := os.read(self._leader, 4096):
                self.data += data


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def test_on_a_terminal_there_is_a_table_below_the_output(tmp_path: Path, terminal: Terminal) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    options = ("--ps", "2", "--workers", "2", "--", "python", str(script), "0:hello", "1:exit3", "all:exit0")
    assert terminal.up(*options) == 3
    assert b"\x1b[36mworker:0" in terminal.data
    assert "worker:0   | hello" in terminal.text
    assert "shardscope | worker:1 failed with exit code 3" in terminal.text
    table = terminal.text[terminal.text.rindex("task ") :].splitlines()
    assert table[0].split() == ["task", "state", "pid", "steps", "steps/s", "variables", "held", "received", "sent"]
    assert [line.split()[:2] for line in table[1:5]] == [
        ["ps:0", "done"],
        ["ps:1", "done"],
        ["worker:0", "done"],
        ["worker:1", "exit"],
    ]


def test_on_a_terminal_a_ps_that_cannot_start_says_why_once(terminal: Terminal) -> None:
    assert terminal.up("--ps", "1", "--ps-arg=--no-such-option", "--", "true") == 1
    shown = terminal.text
    assert shown.count("No such option '--no-such-option'") == 1
    assert "ended with exit code 2 before it was ready" in shown
    assert "its last lines" not in shown
