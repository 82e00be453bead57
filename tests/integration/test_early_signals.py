"""Ctrl-C and SIGTERM while a program imports, writes, or has ended: no trace, nothing half done, its exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import shardscope as ss
from ps_protocol.fault_points import PLAN_VARIABLE
from tests.conftest import Eventually

pytestmark = pytest.mark.integration

TIMEOUT_S = 120.0

# Runs a module as a program, and sends this process a signal when a certain other module is imported.
PROGRAM = """
import os, runpy, signal, sys
program, interrupted, signum = sys.argv[1:]

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == interrupted:
            os.write(1, b"interrupted")
            os.kill(os.getpid(), int(signum))

sys.meta_path.insert(0, Interrupter())
sys.argv[1:] = ["up", "--", "true"] if program == "ps_cluster" else []
runpy.run_module(program, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("program", "interrupted"),
    [("ps_cluster", "ps_cluster.local.launcher"), ("ps_server", "ps_server.process.server")],
    ids=["shardscope up", "ps_server"],
)
def test_a_program_that_is_interrupted_while_it_imports(program: str, interrupted: str, signum: signal.Signals) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, program, interrupted, str(int(signum))],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + signum, "interrupted", "")


# What the installed command does, and what Python does for `python -m shardscope`; a signal is sent when a module is
# imported whose place in the order of imports says how early that is.
COMMAND = """
import os, signal, sys
interrupted = sys.argv.pop()

class Interrupter:
    def find_spec(self, name, path=None, target=None):
        if name == interrupted:
            os.write(1, b"interrupted")
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupter())
"""
ENTRY = f"{COMMAND}\nfrom ps_cluster.__main__ import main\nsys.argv[0] = 'shardscope'\nmain()"


@pytest.mark.parametrize("interrupted", ["click", "ps_cluster.cli.app"])
def test_the_command_imports_nothing_that_takes_long_before_it_can_be_interrupted(interrupted: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENTRY, "--version", interrupted],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "interrupted", "")


def test_python_m_shardscope_is_interrupted_while_it_imports_the_library(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(COMMAND.replace("sys.argv.pop()", "'worker_client'"))
    done = subprocess.run(
        [sys.executable, "-m", "shardscope", "--version"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "interrupted", "")


def test_a_library_that_is_imported_handles_no_signals() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import signal, shardscope, ps_cluster; print(signal.getsignal(signal.SIGTERM).name)"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("SIG_DFL\n", "")


# Sends this process a signal when all that ``shardscope up`` has started has ended.
LATE = """
import atexit, os, runpy, signal, sys
atexit.register(lambda: os.kill(os.getpid(), int(os.environ["SIGNUM"])))
sys.argv[1:] = ["up", "--no-table", "--", "true"]
runpy.run_module("ps_cluster", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_when_all_has_ended_changes_nothing(signum: signal.Signals) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LATE],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, "SIGNUM": str(int(signum))},
    )
    assert (done.returncode, done.stderr) == (0, "")


# Runs a command, and sends this process a signal when it has written the first piece of a checkpoint.
WRITING = """
import os, runpy, sys
from worker_client.checkpoints import copies

signum = int(sys.argv.pop(1))

def interrupt(*_):
    os.write(1, b"interrupted")
    os.kill(os.getpid(), signum)

copies._counted = lambda tensors, show: interrupt
runpy.run_module("ps_cluster", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("form", ["shardscope", "tensorflow", "safetensors", "npz"])
def test_a_command_that_is_interrupted_leaves_nothing_half_written(
    tmp_path: Path, form: str, signum: signal.Signals
) -> None:
    source, folder = tmp_path / "values.npz", tmp_path / "written"
    np.savez(source, v=np.zeros(10))
    folder.mkdir()
    arguments = ["export", str(source), str(folder / "model.safetensors"), "--format", form]
    if form == "shardscope":
        arguments = ["import", str(source), str(folder)]
    done = subprocess.run(
        [sys.executable, "-c", WRITING, str(int(signum)), "checkpoint", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + signum, "interrupted", "")
    assert list(folder.iterdir()) == []


def test_a_save_that_is_interrupted_makes_room_for_the_next_one(tmp_path: Path, eventually: Eventually) -> None:
    folder = tmp_path / "run"
    with ss.LocalCluster(1, ps_arguments=["--allow-faults"], env={PLAN_VARIABLE: "checkpoint.write=delay:0.3"}) as it:
        with ss.connect(it.cluster_spec):
            ss.get_variable("v", [10], initializer=ss.zeros_initializer())
        command = [
            sys.executable,
            "-m",
            "ps_cluster",
            "save",
            str(folder),
            "--cluster",
            it.cluster_spec.ps_addresses()[0],
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            eventually(lambda: bool(list(folder.glob(".*.tmp"))), message="a part is written")
            process.send_signal(signal.SIGINT)
            printed = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, *printed) == (130, "", "")
        assert list(folder.iterdir()) == []
        with ss.connect(it.cluster_spec, operation_timeout_s=20):
            ss.save(folder, name="next")
    assert [path.name for path in folder.iterdir()] == ["next"]
