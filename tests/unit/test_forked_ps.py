"""A ps of a test is a copy of a process that has imported what it needs, and like any other ps."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ps_cluster.local.task_environment import task_environment
from ps_protocol.cluster_spec import TfConfig
from tests import forked_ps

PS = [sys.executable, "-m", "ps_server"]
ONE = [*PS, "--cluster", "ps=127.0.0.1:1", "--task-index", "0", "--port", "0", "--bind", "127.0.0.1"]


@contextlib.contextmanager
def started(*, environment: dict[str, str] | None = None, **more: Any) -> Iterator[subprocess.Popen[str]]:
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(ONE, text=True, env=environment, **pipes, **more) as ps:
        try:
            yield ps
        finally:
            ps.kill()


def environment_at_start(pid: int) -> dict[str, str]:
    words = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict([word.split("=", 1) for word in words if "=" in word])


def is_copy(pid: int) -> bool:
    return forked_ps.__file__.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_copy_is_a_child_with_arguments_environment_and_streams_of_its_own(tmp_path: Path) -> None:
    with started(
        environment={**os.environ, "SHARDSCOPE_LOG_FORMAT": "json", "TF_CONFIG": ""},
        cwd=tmp_path,
        start_new_session=True,
    ) as ps:
        try:
            assert ps.stdout is not None
            said = json.loads(ps.stdout.readline())
            assert (said["event"], said["pid"]) == ("listening", ps.pid)
            assert is_copy(ps.pid)
            assert Path(f"/proc/{ps.pid}/cwd").readlink() == tmp_path
            assert os.getsid(ps.pid) == ps.pid
            ps.send_signal(signal.SIGINT)
            _, logged = ps.communicate()
        finally:
            ps.kill()
    assert ps.returncode == 0
    assert "received signal" in {json.loads(line)["event"] for line in logged.splitlines()}


def test_a_copy_that_is_killed_has_ended_by_the_signal() -> None:
    with started() as ps:
        assert ps.stdout is not None
        assert ps.stdout.readline()
        assert os.getsid(ps.pid) == os.getsid(0)
        ps.kill()
        assert ps.wait() == -signal.SIGKILL


def test_a_copy_has_the_exit_code_and_the_words_of_a_ps() -> None:
    refused = subprocess.run([*PS, "--frobnicate"], capture_output=True, text=True, check=False)
    with forked_ps.new_interpreters():
        usual = subprocess.run([*PS, "--frobnicate"], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout, refused.stderr) == (usual.returncode, usual.stdout, usual.stderr)


def test_what_only_an_interpreter_that_starts_can_obey_starts_one(tmp_path: Path) -> None:
    for environment in ({**os.environ, "PYTHONPATH": str(tmp_path)}, {**os.environ, "NUMBA_DISABLE_JIT": "1"}):
        with started(environment=environment) as ps:
            assert ps.stdout is not None
            assert ps.stdout.readline()
            assert not is_copy(ps.pid)
            ps.kill()


def test_a_ps_of_a_local_cluster_is_a_copy_whose_libraries_compute_in_one_thread() -> None:
    with started(environment=task_environment(TfConfig(), {**os.environ, "TF_CONFIG": ""}) | {"TF_CONFIG": ""}) as ps:
        assert ps.stdout is not None
        assert ps.stdout.readline()
        [copied] = [pid for pid in forked_ps.parent_pids() if environment_at_start(pid) == environment_at_start(ps.pid)]
        assert environment_at_start(copied)["OPENBLAS_NUM_THREADS"] == "1"
        ps.kill()


def test_a_test_of_the_start_itself_has_a_new_interpreter() -> None:
    with forked_ps.new_interpreters(), started() as ps:
        assert ps.stdout is not None
        assert ps.stdout.readline()
        assert not is_copy(ps.pid)
        ps.kill()


def test_after_the_process_that_is_copied_has_ended_another_is_started() -> None:
    forked_ps.end_parents()
    assert not forked_ps.parent_pids()
    with started() as ps:
        assert ps.stdout is not None
        assert ps.stdout.readline()
        assert is_copy(ps.pid)
        ps.kill()
