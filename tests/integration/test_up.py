"""``shardscope up``, with real ps processes and small workers."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ps_cluster.local.processes import ChildProcess, ProcessSupervisor
from tests.conftest import Eventually

pytestmark = pytest.mark.integration

TIMEOUT_S = 120.0
VERBOSE_PS = "--ps-arg --log-level --ps-arg info"

# Says who it is, does what it is told to do, and sleeps if there is nothing more to do.
WORKER = """
import json, os, signal, subprocess, sys, time
task = json.loads(os.environ["TF_CONFIG"])["task"]
print(f"this is {task['type']} {task['index']}", flush=True)
for action in sys.argv[1:]:
    who, _, action = action.partition(":")
    if who not in ("all", str(task["index"])):
        continue
    if action.startswith("exit"):
        sys.exit(int(action.removeprefix("exit")))
    elif action == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif action == "spawn":
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        print(f"spawned {child.pid}", flush=True)
    else:
        print(action, flush=True)
time.sleep(600)
"""


# The lease is short, so that the test is.


class Launch:
    """A running ``shardscope up`` and what it has printed so far."""

    def __init__(self, supervisor: ProcessSupervisor, arguments: list[str], environment: dict[str, str]):
        self.output: list[str] = []
        self.errors: list[str] = []
        self.process: ChildProcess = supervisor.start(
            "shardscope up",
            [sys.executable, "-m", "ps_cluster", "up", *arguments],
            environment={**os.environ, **environment},
            on_stdout=lambda line: self.output.append(line.text),
            on_stderr=lambda line: self.errors.append(line.text),
        )

    @property
    def text(self) -> str:
        return "\n".join(self.output)

    def wait(self) -> int:
        returncode = self.process.wait(TIMEOUT_S)
        assert returncode is not None, f"still runs:\n{self.text}\n{self.errors}"
        self.process.join(TIMEOUT_S)  # all that it has printed is read
        return returncode

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def ps_process(self, index: int, *, is_backup: bool = False) -> psutil.Process:
        [process] = [
            each
            for each in self.descendants()
            if "ps_server" in (line := command_line(each))
            and line[line.index("--task-index") + 1] == str(index)
            and ("--backup" in line) == is_backup
        ]
        return process


def command_line(process: psutil.Process) -> list[str]:
    """What a process was started with; nothing of one that has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


Up = Callable[..., Launch]


@contextlib.contextmanager
def launching(directory: Path) -> Iterator[Up]:
    """Starts ``shardscope up OPTIONS -- python worker.py ACTIONS``."""
    script = directory / "worker.py"
    script.write_text(WORKER)
    supervisor = ProcessSupervisor()

    def launch(*actions: str, options: str = "--ps 1 --workers 2", env: dict[str, str] | None = None) -> Launch:
        return Launch(supervisor, [*options.split(), "--", "python", str(script), *actions], env or {})

    try:
        yield launch
    finally:
        supervisor.close()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    with launching(tmp_path) as launch:
        yield launch


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for_workers(launch: Launch, eventually: Eventually, number: int = 2) -> None:
    eventually(lambda: launch.text.count("this is worker") == number, timeout_s=TIMEOUT_S, message="the workers are up")


def assert_all_gone(processes: list[psutil.Process], eventually: Eventually) -> None:
    assert processes
    for process in processes:
        eventually(functools.partial(is_gone, process), message=f"{process} has ended")


def test_workers_run_against_ps_tasks_and_their_output_has_their_name(up: Up) -> None:
    launch = up("0:hello", "all:exit0", options="--ps 2 --workers 3")
    assert launch.wait() == 0, launch.text
    for index in range(3):
        assert f"worker:{index}   | this is worker {index}" in launch.output
    assert "worker:0   | hello" in launch.output
    assert "worker:1   | hello" not in launch.output
    assert launch.errors == []
    for task in ("ps:0", "ps:1", "worker:0", "worker:1", "worker:2"):
        assert f"{task} done" in launch.output[-1]


PROGRESS = """
import os, uuid
from ps_protocol.cluster_spec import TfConfig
from worker_client.transport import grpc
config, incarnation = TfConfig.from_env(), uuid.uuid4()
ps = grpc.connect(config.cluster.ps_addresses()[0], task="ps:0")
ps.join(str(config.task), incarnation, "localhost", os.getpid(), timeout_s=30)
ps.report_progress(str(config.task), incarnation, 1200, timeout_s=30)
ps.close()
"""


def test_the_steps_of_the_workers_are_shown(up: Up, tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(PROGRESS)
    launch = up(options="--ps 2 --workers 2")
    assert launch.wait() == 0, launch.text
    for index in range(2):
        assert f"worker:{index} done, 1,200 steps" in launch.output[-1]
        assert re.search(rf"ps:{index} done, received [\d.]+ \w+, sent", launch.output[-1])


def test_output_of_the_ps_tasks_is_shown_without_the_line_for_programs(up: Up) -> None:
    launch = up("all:exit0", options=f"--ps 2 --workers 1 {VERBOSE_PS}")
    assert launch.wait() == 0
    for index in range(2):
        lines = [line for line in launch.output if line.startswith(f"ps:{index} ")]
        assert lines
        assert not any(line.partition("| ")[2].startswith("{") for line in lines), lines


def test_the_ps_tasks_have_the_functions_of_a_module(up: Up) -> None:
    launch = up("all:exit0", options=f"--ps 2 --workers 1 --functions tests.team_rules {VERBOSE_PS}")
    assert launch.wait() == 0
    launch = up("all:exit0", options="--ps 1 --workers 1 --functions no_such_rules")
    assert launch.wait() == 1
    assert "--functions module no_such_rules cannot be imported" in launch.text


def test_the_address_that_is_printed_finds_the_cluster(up: Up, eventually: Eventually) -> None:
    launch = up(options="--ps 2 --workers 2")
    wait_for_workers(launch, eventually)
    [command] = re.findall(r"shardscope ls --cluster (\S+)", launch.text)
    assert re.fullmatch(r"127\.0\.0\.1:\d+", command)  # short enough for a terminal; it knows the others
    done = subprocess.run(
        [sys.executable, "-m", "ps_cluster", "ls", "--tasks", "--json", "--cluster", command],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert [each["task"] for each in json.loads(done.stdout)["ps"]] == ["ps:0", "ps:1"]


def test_python_is_the_interpreter_of_the_launcher(up: Up, tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text("import sys, ps_protocol; print(sys.executable)")
    launch = up(options="--ps 1 --workers 1", env={"PATH": "/usr/bin:/bin"})
    assert launch.wait() == 0, launch.text
    assert f"worker:0   | {sys.executable}" in launch.output


@pytest.mark.parametrize("transport", ["grpc", "unix"])
def test_the_transport_of_the_workers_is_that_of_the_launch(up: Up, tmp_path: Path, transport: str) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        "import worker_client as ss\n"
        "with ss.connect() as client:\n"
        "    print(type(client.fanout.handle(0).endpoint.transport).__name__)\n"
    )
    launch = up(options=f"--ps 1 --workers 1 --transport {transport}")
    assert launch.wait() == 0, launch.text
    assert f"worker:0   | {'SocketTransport' if transport == 'unix' else 'GrpcPsService'}" in launch.output


def test_the_others_go_on_when_a_worker_fails_and_its_exit_code_is_returned(up: Up, eventually: Eventually) -> None:
    launch = up("1:exit3", "0:still here")
    eventually(lambda: any("worker:1 failed with exit code 3" in line for line in launch.errors), timeout_s=TIMEOUT_S)
    eventually(lambda: "worker:0   | still here" in launch.output, message="the other worker goes on")
    [other] = [each for each in launch.descendants() if any("worker.py" in part for part in command_line(each))]
    other.kill()
    assert launch.wait() == 3


def test_a_worker_killed_by_a_signal_counts_as_128_and_its_number(up: Up) -> None:
    launch = up("0:die", "all:exit0")
    assert launch.wait() == 128 + signal.SIGKILL
    assert any("worker:0 failed with signal SIGKILL" in line for line in launch.errors)


CRASHING = """
import os, pathlib, signal, sys, worker_client as ss
enough = pathlib.Path(sys.argv[0]).with_name("enough")
with ss.connect() as client:
    client.report_step(client.task.index)
    print("this is worker", client.task.index, flush=True)
    if client.task.index == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if client.task.index == 1:
        raise RuntimeError("nothing works")
    while not enough.exists():
        pass
"""


def test_the_cluster_knows_at_once_how_a_worker_has_crashed(up: Up, tmp_path: Path, eventually: Eventually) -> None:
    (tmp_path / "worker.py").write_text(CRASHING)
    launch = up(options="--ps 2 --workers 3")  # a lease is 10 s
    wait_for_workers(launch, eventually, 3)
    [command] = re.findall(r"shardscope ls --cluster (\S+)", launch.text)

    def listed(*options: str) -> str:
        ls = [sys.executable, "-m", "ps_cluster", "ls", "--tasks", *options, "--cluster", command]
        return subprocess.run(ls, capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout

    eventually(lambda: listed().count(" dead: ") == 2, timeout_s=TIMEOUT_S, message="both are dead")
    lines = listed().splitlines()
    assert any(re.match(r"worker:0 +dead: signal SIGKILL ", line) for line in lines), lines
    assert any(re.match(r"worker:1 +dead: exit code 1 ", line) for line in lines), lines
    assert any(re.match(r"worker:2 +active ", line) for line in lines), lines
    members = {each["task"]: (each["state"], each["end"]) for each in json.loads(listed("--json"))["members"]}
    assert members["worker:0"] == ("dead", "signal SIGKILL")
    assert members["worker:2"] == ("active", "")
    (tmp_path / "enough").touch()
    assert launch.wait() in (1, 128 + signal.SIGKILL)
    for index, how in enumerate(("signal SIGKILL", "exit code 1")):
        assert _has_line(launch.errors, f"worker:{index} failed with {how}; the others go on")
        assert f"worker:{index} {how}" in launch.output[-1]
    assert "worker:1   | RuntimeError: nothing works" in launch.output


def test_fail_fast_ends_the_others(up: Up) -> None:
    launch = up("1:exit3", options="--ps 1 --workers 2 --fail-fast")
    assert launch.wait() == 3
    assert any("worker:1 failed with exit code 3" in line for line in launch.errors)


TRAINING = """
import pathlib, sys, worker_client as ss
enough = pathlib.Path(sys.argv[0]).with_name("enough")
with ss.connect() as client:
    variables = [ss.get_variable(name, [], initializer=ss.zeros_initializer()) for name in ("a", "b")]
    print("this is worker", client.task.index, client.settings.ps_grace_s, flush=True)
    steps = 0
    while not enough.exists():
        for variable in variables:
            variable.assign_add(1.0)
        steps += 1
    print("steps and values agree:", [float(each) for each in variables] == [steps] * 2, flush=True)
"""


def test_a_ps_that_keeps_its_state_is_started_again_when_it_dies(
    up: Up, tmp_path: Path, eventually: Eventually
) -> None:
    (tmp_path / "worker.py").write_text(TRAINING)
    kept = tmp_path / "kept"
    launch = up(options=f"--ps 2 --workers 1 --durability journal --data-dir {kept} --ps-grace 45")
    wait_for_workers(launch, eventually, 1)
    assert "this is worker 0 45.0" in launch.text
    for index in (1, 0):
        launch.ps_process(index).kill()
        eventually(
            functools.partial(_has_line, launch.output, f"ps:{index} is back"),
            timeout_s=TIMEOUT_S,
            message="it is back",
        )
        # Standard output and standard error are read by two threads.
        eventually(
            functools.partial(
                _has_line, launch.errors, f"ps:{index} died with signal SIGKILL; starting it again (1 of 5"
            ),
            message="its death is told",
        )
    (tmp_path / "enough").touch()
    assert launch.wait() == 0, launch.text
    assert "worker:0   | steps and values agree: True" in launch.output
    assert sorted(path.name for path in kept.iterdir()) == ["ps-0", "ps-1"]


def _has_line(lines: list[str], text: str) -> bool:
    return any(text in line for line in lines)


REPLICATED = f"--ps 2 --replicas 1 --workers 1 --ps-arg --lease --ps-arg 2 {VERBOSE_PS}"


def test_either_process_of_a_ps_with_a_backup_may_die_and_is_started_again(
    up: Up, tmp_path: Path, eventually: Eventually
) -> None:
    (tmp_path / "worker.py").write_text(TRAINING)
    launch = up(options=f"{REPLICATED} --log-dir {tmp_path / 'logs'}")

    def wait_for(task: str, text: str, *, times: int = 1) -> None:
        eventually(
            lambda: sum(line.startswith(task) and text in line for line in launch.output) >= times,
            timeout_s=TIMEOUT_S,
            message=f"{task} says {text!r}",
        )

    wait_for_workers(launch, eventually, 1)
    assert "2 ps tasks with a backup each, 1 worker" in launch.text
    wait_for("ps:1", "is the backup now")
    launch.ps_process(1).kill()
    wait_for("backup:1", "is the primary of ps:1 now")
    wait_for("shardscope", "ps:1 is back, and catches up")
    wait_for("backup:1", "is the backup now")

    launch.ps_process(0, is_backup=True).kill()
    wait_for("shardscope", "backup:0 is back, and catches up")
    wait_for("ps:0", "is the backup now", times=2)

    # A primary that was away for too long finds that the task goes on without it.
    stopped = launch.ps_process(1, is_backup=True)
    stopped.suspend()
    wait_for("ps:1", "is the primary of ps:1 now", times=2)
    stopped.resume()
    wait_for("shardscope", "backup:1 is back, and catches up")

    processes = launch.descendants()
    (tmp_path / "enough").touch()
    assert launch.wait() == 0, launch.text
    assert _has_line(launch.errors, "ps:1 died with signal SIGKILL; starting it again (1 of 5")
    assert _has_line(launch.errors, "backup:1 was superseded by the other process of its task, and has ended itself")
    assert "worker:0   | steps and values agree: True" in launch.output
    assert "backup:1 done" in launch.output[-1]
    assert (tmp_path / "logs" / "backup-1.log").read_text()
    assert_all_gone(processes, eventually)


def test_a_ps_both_of_whose_processes_have_died_goes_on_with_a_journal(
    up: Up, tmp_path: Path, eventually: Eventually
) -> None:
    (tmp_path / "worker.py").write_text(TRAINING)
    kept = tmp_path / "kept"
    launch = up(options=f"{REPLICATED} --durability journal --data-dir {kept}")
    wait_for_workers(launch, eventually, 1)
    eventually(
        lambda: any(line.startswith("ps:1") and "is the backup now" in line for line in launch.output),
        timeout_s=TIMEOUT_S,
        message="the pair is complete",
    )
    for is_backup in (False, True):
        launch.ps_process(1, is_backup=is_backup).kill()
    eventually(
        lambda: any(line.startswith("shardscope") and "ps:1 is back" in line for line in launch.output),
        timeout_s=TIMEOUT_S,
        message="it is started again",
    )
    (tmp_path / "enough").touch()
    assert launch.wait() == 0, launch.text
    assert "worker:0   | steps and values agree: True" in launch.output
    assert {"ps-0", "ps-1", "backup-0", "backup-1", "coordination"} <= {path.name for path in kept.iterdir()}


def test_a_ps_both_of_whose_processes_have_died_ends_everything(up: Up, tmp_path: Path, eventually: Eventually) -> None:
    (tmp_path / "worker.py").write_text(TRAINING)
    launch = up(options=REPLICATED)
    wait_for_workers(launch, eventually, 1)
    eventually(lambda: _has_line(launch.output, "backup:1 at"), timeout_s=TIMEOUT_S, message="the backup")
    for process in [launch.ps_process(1), launch.ps_process(1, is_backup=True)]:
        process.kill()
    assert launch.wait() == 1
    assert any("the variables of ps:1 are lost; ending all tasks" in line for line in launch.errors)


def test_a_ps_that_dies_is_reported_with_its_last_lines_and_ends_everything(up: Up, eventually: Eventually) -> None:
    launch = up(options=f"--ps 2 --workers 2 {VERBOSE_PS}")
    wait_for_workers(launch, eventually)
    processes = launch.descendants()
    launch.ps_process(1).kill()
    assert launch.wait() == 1
    errors = "\n".join(launch.errors)
    assert "ps:1 died with signal SIGKILL" in errors
    assert "its last lines:" in errors
    assert "listening" in errors
    assert_all_gone(processes, eventually)


def test_a_ps_that_cannot_start_is_reported_and_no_worker_is_started(up: Up) -> None:
    launch = up(options="--ps 2 --workers 2 --ps-arg --no-such-option")
    assert launch.wait() == 1
    assert "no-such-option" in "\n".join(launch.errors)
    assert "this is worker" not in launch.text


def test_ctrl_c_ends_everything(up: Up, eventually: Eventually) -> None:
    launch = up("0:spawn", options="--ps 2 --workers 2")
    wait_for_workers(launch, eventually)
    spawned = eventually(lambda: re.search(r"spawned (\d+)", launch.text), message="the grandchild")
    processes = [*launch.descendants(), psutil.Process(int(spawned[1]))]
    launch.process.send_signal(signal.SIGINT)
    assert launch.wait() == 130
    assert_all_gone(processes, eventually)


def test_ctrl_c_while_the_ps_tasks_start(up: Up, eventually: Eventually) -> None:
    launch = up(options="--ps 2 --workers 2")
    processes = eventually(
        lambda: [each for each in launch.descendants() if "ps_server" in command_line(each)], message="a ps is started"
    )
    launch.process.send_signal(signal.SIGINT)
    assert launch.wait() == 130
    assert launch.output[-1].endswith("worker:0 not started; worker:1 not started")
    assert_all_gone(processes, eventually)


def test_a_second_ctrl_c_kills_what_does_not_want_to_end(up: Up, eventually: Eventually) -> None:
    launch = up("all:ignore", "all:ready")
    eventually(lambda: launch.text.count("| ready") == 2, timeout_s=TIMEOUT_S, message="the workers ignore SIGTERM")
    processes = launch.descendants()
    launch.process.send_signal(signal.SIGINT)
    eventually(lambda: "SIGINT: ending all tasks" in launch.text, message="the first Ctrl-C")
    launch.process.send_signal(signal.SIGINT)
    assert launch.wait() == 130
    assert "SIGINT again" in launch.text
    assert_all_gone(processes, eventually)


def test_sigterm_ends_everything(up: Up, eventually: Eventually) -> None:
    launch = up()
    wait_for_workers(launch, eventually)
    processes = launch.descendants()
    launch.process.send_signal(signal.SIGTERM)
    assert launch.wait() == 143
    assert_all_gone(processes, eventually)
    # Whatever a worker has ended with, it was told to.
    assert [f"worker:{index} ended" in launch.output[-1] for index in range(2)] == [True, True]
    assert launch.errors == []


@pytest.mark.parametrize(("inherited", "exit_code"), [(signal.SIG_DFL, 129), (signal.SIG_IGN, 143)])
def test_a_hangup_ends_everything_unless_nohup_wants_it_ignored(
    up: Up, eventually: Eventually, inherited: signal.Handlers, exit_code: int
) -> None:
    previous = signal.signal(signal.SIGHUP, inherited)
    try:
        launch = up()
    finally:
        signal.signal(signal.SIGHUP, previous)
    wait_for_workers(launch, eventually)
    launch.process.send_signal(signal.SIGHUP)
    launch.process.send_signal(signal.SIGTERM)
    assert launch.wait() == exit_code


def test_nothing_is_left_when_the_launcher_is_killed(up: Up, eventually: Eventually) -> None:
    launch = up("0:spawn", "all:ignore", "all:ready", options="--ps 2 --workers 2")
    eventually(lambda: launch.text.count("| ready") == 2, timeout_s=TIMEOUT_S, message="the workers are up")
    spawned = re.search(r"spawned (\d+)", launch.text)
    assert spawned
    processes = {*launch.descendants(), psutil.Process(int(spawned[1]))}
    assert len(processes) == 6, "guard, two ps tasks, two workers, what one of them has started"
    launch.process.send_signal(signal.SIGKILL)
    assert launch.wait() == -signal.SIGKILL
    assert_all_gone(list(processes), eventually)


def test_a_reader_that_goes_away_ends_everything(tmp_path: Path, eventually: Eventually) -> None:
    script = tmp_path / "worker.py"
    script.write_text("import time\nwhile True: print('line', flush=True); time.sleep(0.01)")
    command = [sys.executable, "-m", "ps_cluster", "up", "--", "python", str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline()
        processes = psutil.Process(launcher.pid).children(recursive=True)
        launcher.stdout.close()
        assert launcher.wait(TIMEOUT_S) == 128 + signal.SIGPIPE
    assert_all_gone(processes, eventually)


def test_output_that_does_not_fit_the_locale_is_shown_all_the_same(up: Up) -> None:
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}
    launch = up("0:\N{EURO SIGN}", "all:exit0", env=locale)
    assert launch.wait() == 0, launch.errors
    assert r"worker:0   | \u20ac" in launch.output


@pytest.mark.parametrize(("replicas", "is_told"), [("", True), ("--replicas 1", False)])
def test_who_reads_at_backups_is_told_that_there_are_none(up: Up, replicas: str, is_told: bool) -> None:
    """And with backups, the whole pair ends in good order without a warning."""
    launch = up("all:exit0", options=f"--ps 1 --workers 1 --no-table --read-from any {replicas}")
    assert launch.wait() == 0
    assert ("there are no backups to read from; --replicas 1 gives each ps one" in launch.text) is is_told
    assert [line for line in launch.output if line.startswith(("ps:", "backup:"))] == []


def test_each_task_has_a_log_file_if_wanted(up: Up, tmp_path: Path) -> None:
    launch = up("all:exit0", options=f"--ps 1 --workers 2 {VERBOSE_PS} --log-dir {tmp_path / 'logs'}")
    assert launch.wait() == 0
    assert (tmp_path / "logs" / "worker-1.log").read_text() == "this is worker 1\n"
    assert (tmp_path / "logs" / "ps-0.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--", "no-such-program"], "'no-such-program'"),
        (["--ps", "0", "--", "true"], "--ps"),
        (["--workers", "0", "--", "true"], "--workers"),
        (["--transport", "pigeon", "--", "true"], "transport is 'pigeon'"),
        (["--replicas", "1", "--ps", "2", "--durability", "snapshot", "--", "true"], "exclude each other"),
        (["--data-dir", "kept", "--", "true"], "give --durability journal as well"),
        (["--ps-arg=--backup", "--", "true"], "--ps-arg has --backup, which is set for each ps anyway"),
        (["--ps-arg=--coordinator=file:///x", "--", "true"], "leave it out: with --replicas 1 there is one"),
        (["--ps-arg", "--durability", "--ps-arg", "journal", "--", "true"], "give --durability to `shardscope up`"),
        (["--workers", "2", "--min-workers", "3", "--", "true"], "--workers 2 starts fewer"),
        (["--min-workers", "1", "--fail-fast", "--", "true"], "--min-workers lets it go"),
        ([], "COMMAND"),
    ],
)
def test_a_command_line_that_makes_no_sense_starts_nothing(arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ps_cluster", "up", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert done.stdout == ""
