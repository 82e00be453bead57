"""A ps process, known by its command line and what it prints alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

CLUSTER: Final = "ps=127.0.0.1:1,127.0.0.1:2;worker=127.0.0.1:3"
TIMEOUT_S: Final = 120.0


class Ps:
    """A ps process that listens."""

    def __init__(self, process: subprocess.Popen[str], ready: dict[str, Any]):
        self._process = process
        self.ready = ready
        self.address = f"127.0.0.1:{ready['port']}"

    def kill(self) -> None:
        """Ends it without a warning."""
        self._process.kill()
        self._process.wait(TIMEOUT_S)

    def end(self) -> int:
        """Ends it in good order; returns its exit code."""
        self._process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Returns its exit code, once it has ended by itself."""
        return self._process.wait(TIMEOUT_S)


@contextmanager
def running_ps(*arguments: str, cluster: str = CLUSTER) -> Iterator[Ps]:
    """Starts a ps, and ends it if it still runs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "SHARDSCOPE_"))}
    command = [sys.executable, "-m", "ps_server", "--cluster", cluster, "--task-index", "0", "--port", "0"]
    with subprocess.Popen(
        [*command, "--job-seed", "11", "--log-level", "error", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, "the ps ended before it listened"
            yield Ps(process, json.loads(line))
        finally:
            process.kill()
