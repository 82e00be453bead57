"""The command ``shardscope``, run in the test's own process: another one would first import for half a second."""

from __future__ import annotations

import subprocess

from click.testing import CliRunner

from ps_cluster.cli.app import app


def shardscope(*arguments: str, tf_config: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, without a terminal; what it wrote and its exit code are as a process's."""
    assert arguments[:1] != ("ps",), "shardscope ps puts another program into this process's place"
    done = CliRunner().invoke(app, arguments, env={"TF_CONFIG": tf_config})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)
