"""The command ``shardscope``, run in the test's own process: another one would first import for half a second."""

from __future__ import annotations

import subprocess
import sys

from click.testing import CliRunner

from ps_cluster.cli.app import app

_TIMEOUT_S = 120.0


def shardscope(*arguments: str, tf_config: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, without a terminal; what it wrote and its exit code are as a process's.

    ``shardscope ps`` puts another program in the place of its own, and so gets a process.
    """
    if arguments[:1] == ("ps",):
        command = [sys.executable, "-m", "ps_cluster", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    done = CliRunner().invoke(app, arguments, env={"TF_CONFIG": tf_config})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)
