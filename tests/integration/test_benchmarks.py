"""The benchmark's commands, on data so small that they say nothing about speed.

Those that start several clusters run in this process, whose ps tasks are copies.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.comparison import comparison
from benchmarks.harness.contestants import TRANSPORTS, ContestantError, Entry, RunningContestant
from benchmarks.harness.workloads import WORKLOADS
from benchmarks.peers import training_images

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]  # a dozen processes start one after the other

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 170.0

# Speaks the line protocol and does nothing; %(run)s is what it answers to work, %(check)s to questions.
PEER = """#!%(python)s
import json, sys, time
workloads = %(workloads)s
print(json.dumps({"name": "fake", "versions": {"fakeflow": "2.21"}, "cases": {each: [""] for each in workloads}}))
sys.stdout.flush()
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "run":
        answer = %(run)s
    else:
        answer = %(check)s
    print(json.dumps(answer))
    sys.stdout.flush()
"""
RUN = '{"seconds": [0.001] * request["calls"]}'
CHECK = '{"observed": {"scalar": 1.0}, "expected": {"scalar": 1.0}}'


def fake_peer(directory: Path, *, run: str = RUN, check: str = CHECK) -> Path:
    """Returns a program that stands for the interpreter of a peer's environment."""
    path = directory / "python"
    settings = {"python": sys.executable, "workloads": list(WORKLOADS), "run": run, "check": check}
    path.write_text(PEER % settings)
    path.chmod(0o755)
    return path


def run_command(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *(str(each) for each in arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def run_here(module: str, *arguments: object) -> None:
    assert importlib.import_module(module).main([str(each) for each in arguments]) == 0


def test_all_workloads_by_all_transports_are_compared_with_a_peer_and_the_limit(tmp_path: Path) -> None:
    # The command fails if what a ps holds afterwards is not what the counted calls make.
    written = tmp_path / "comparison.json"
    peer = f"tensorflow={fake_peer(tmp_path)}"
    ended = run_command("benchmarks", "--scale", "small", "--rounds", 1, "--peer", peer, "--json", written)
    assert ended.returncode == 0, ended.stderr
    record = json.loads(written.read_text())
    assert record["benchmark"] == "comparison"
    assert record["command"].startswith("python -m benchmarks --scale small")
    assert {"processor", "cores", "memory_bytes"} <= set(record["machine"])
    contestants = record["results"]["contestants"]
    kinds = {**dict.fromkeys(TRANSPORTS, "own"), "tensorflow": "peer", "limit": "limit"}
    assert {name: each["kind"] for name, each in contestants.items()} == kinds
    cases = record["results"]["cases"]
    assert {(case["contestant"], case["workload"]) for case in cases} == {
        (name, workload) for name in contestants for workload in WORKLOADS
    }
    assert {"view", "copied", "in place"} <= {case["variant"] for case in cases if case["contestant"] == "shm"}
    for case in cases:
        assert case["all"]["count"] == WORKLOADS[case["workload"]].calls
        assert 0 < case["all"]["min"] <= case["all"]["p50"] <= case["all"]["p99"] <= case["all"]["max"]
    for transport in TRANSPORTS:
        for heading in (f"Shardscope by {transport}", f"tensorflow ÷ {transport}", f"{transport} ÷ limit"):
            assert heading in ended.stdout
    report = run_command("benchmarks.report", written)
    assert report.returncode == 0, report.stderr
    assert "fakeflow 2.21" in report.stdout
    assert "| add to a scalar |" in report.stdout


def test_a_contestant_that_fails_ends_the_run_with_what_it_says(tmp_path: Path) -> None:
    peer = fake_peer(tmp_path, run='{"error": "RuntimeError: no more rows"}')
    with pytest.raises(ContestantError, match="fake has failed: RuntimeError: no more rows"):
        comparison.compare([Entry("fake", "peer", (str(peer),))], ["gather"], rounds=1)


def test_a_contestant_that_has_not_done_its_work_ends_the_run(tmp_path: Path) -> None:
    peer = fake_peer(tmp_path, check='{"observed": {"scalar": 0.0}, "expected": {"scalar": 21.0}}')
    with pytest.raises(ContestantError, match=r"fake holds \{'scalar': 0.0\} after work that makes"):
        comparison.compare([Entry("fake", "peer", (str(peer),))], ["add"], rounds=1)


def test_a_peer_that_does_not_start_ends_the_command(tmp_path: Path) -> None:
    arguments = ("--scale", "small", "--transport", "grpc", "--workload", "add")
    ended = run_command("benchmarks", *arguments, "--peer", f"ray={tmp_path / 'absent'}")
    assert ended.returncode == 1
    assert "ray cannot be started" in ended.stderr


def test_an_unknown_peer_is_refused() -> None:
    ended = run_command("benchmarks", "--peer", "abacus=/usr/bin/python3")
    assert ended.returncode == 2
    assert "abacus=/usr/bin/python3" in ended.stderr


def test_a_contestant_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ContestantError, match="cannot be started"):
        RunningContestant(Entry("absent", "peer", (str(tmp_path / "absent"),)))


def test_a_contestant_that_dies_is_reported_with_what_it_printed(tmp_path: Path) -> None:
    program = tmp_path / "dies.py"
    program.write_text("import sys; sys.exit('no such library')")
    with pytest.raises(ContestantError, match=r"(?s)has ended.*no such library"):
        RunningContestant(Entry("dies", "peer", (sys.executable, str(program))))


def test_a_contestant_that_does_not_answer_is_given_up_and_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.harness.contestants.ANSWER_TIMEOUT_S", 0.2)
    monkeypatch.setattr("benchmarks.harness.contestants._END_TIMEOUT_S", 0.2)
    entry = Entry("stuck", "peer", (str(fake_peer(tmp_path, run="time.sleep(600)")),))
    with RunningContestant(entry) as contestant:
        with pytest.raises(ContestantError, match="has not answered within"):
            contestant.run("add", "", warm=0, calls=1)
        pid = contestant.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("module", "arguments", "cases"),
    [
        ("cpu", ["--calls", 2, "--scale", "small"], 4),
        ("memory", ["--bytes", 2**20], 2),
        ("connections", ["--connections", 2, "--idle", 0.05], 1),
    ],
)
def test_commands_that_measure_processes_write_their_figures_and_show_them(
    module: str, arguments: list[Any], cases: int, tmp_path: Path
) -> None:
    written = tmp_path / "figures.json"
    ended = run_command(f"benchmarks.{module}", *arguments, "--transport", "grpc", "--json", written)
    assert ended.returncode == 0, ended.stderr
    record = json.loads(written.read_text())
    assert record["benchmark"] == module
    assert len(record["results"]["cases"]) == cases
    assert all(case["transport"] == "grpc" for case in record["results"]["cases"])
    report = run_command("benchmarks.report", written)
    assert report.returncode == 0, report.stderr
    assert "grpc |" in report.stdout


@pytest.mark.parametrize(
    ("module", "arguments", "cases"),
    [
        ("clients", ["--clients", 2, "--seconds", 0.05], 2),
        ("ps_tasks", ["--ps", 2, "--workers", 1, "--rounds", 1, "--seconds", 0.05, "--scale", "small"], 2),
        ("sizes", ["--largest", 256, "--rounds", 1], 3 * 2),
        ("digits", ["--ps", 1, "--workers", 2, "--seconds", 0.1], 3),
        ("optimizer_batches", ["--variables", 3, "--side", 2, "--rounds", 1], 1),
        ("rolling_restart", ["--ps", 1], 2),
        ("floods", ["--count", 2, "--seconds", 0.05, "--flood", "without_ticket", "drips"], 2),
    ],
)
def test_other_commands_write_their_figures_and_show_them(
    module: str,
    arguments: list[Any],
    cases: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(training_images.VARIABLE, training_images.NAMES[0])
    written = tmp_path / "figures.json"
    run_here(f"benchmarks.{module}", *arguments, "--transport", "grpc", "--json", written)
    record = json.loads(written.read_text())
    assert record["benchmark"] == module
    assert len(record["results"]["cases"]) == cases
    assert all(case["transport"] == "grpc" for case in record["results"]["cases"])
    assert capsys.readouterr().out
    run_here("benchmarks.report", written)
    assert "grpc |" in capsys.readouterr().out


def test_durability_is_measured_in_all_its_parts(tmp_path: Path) -> None:
    # The command fails if what is read after a recovery is not what was pushed before.
    written = tmp_path / "figures.json"
    settings = ("--scale", "small", "--transport", "grpc", "--clients", 1, "--rounds", 1, "--seconds", 0.05)
    ended = run_command("benchmarks.durability", *settings, "--directory", tmp_path, "--json", written)
    assert ended.returncode == 0, ended.stderr
    cases = json.loads(written.read_text())["results"]["cases"]
    found = [(case["part"], case.get("mode") or case.get("way") or case["source"]) for case in cases]
    assert found == [
        ("scalar", "none"),
        ("scalar", "journal"),
        *(("push", way) for way in ("disk", "none", "journal", "none", "journal")),
        *(("snapshot", mode) for mode in ("snapshot", "journal") for _ in range(2)),
        ("recovery", "nothing"),
        *(("recovery", source) for source in ("snapshot", "journal") for _ in range(2)),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]
    report = run_command("benchmarks.report", written)
    assert report.returncode == 0, report.stderr
    assert "| grpc | journal | 1 |" in report.stdout
    assert "| journal | disk |" in report.stdout


def test_a_plot_without_matplotlib_says_what_to_install(tmp_path: Path) -> None:
    record = tmp_path / "sizes.json"
    record.write_text(json.dumps({"results": {"cases": []}}))
    # -S and -I would hide numpy as well: a module of that name that cannot be imported stands in its way instead.
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError('No module named matplotlib')")
    command = [sys.executable, "-m", "benchmarks.plots", str(record), str(tmp_path / "plot")]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert ended.returncode == 2
    assert "shardscope[bench]" in ended.stderr


def test_saves_and_restores_are_measured(tmp_path: Path) -> None:
    written = tmp_path / "checkpoints.json"
    arguments = ("--bytes", "1e6", "--rounds", "1", "--folder", tmp_path, "--json", written)
    done = run_command("benchmarks.checkpoints", *arguments)
    assert done.returncode == 0, done.stderr
    results = json.loads(written.read_text())["results"]
    assert results["bytes"] == 1_000_000 // 64 * 64
    assert (
        min(results[name] for name in ("dd", "save", "restore", "held_s", "quiet_p99_s", "busy_p99_s", "plain_p99_s"))
        > 0
    )
    assert list(tmp_path.iterdir()) == [written]


def test_savers_are_measured(tmp_path: Path) -> None:
    written = tmp_path / "savers.json"
    arguments = ("--bytes", "1e6", "--rounds", "1", "--folder", tmp_path, "--json", written)
    done = run_command("benchmarks.savers", *arguments)
    assert done.returncode == 0, done.stderr
    results = json.loads(written.read_text())["results"]
    assert results["bytes"] == 1_000_000 // 64 * 64
    (row,) = results["rounds"]
    names = [f"{transport} {form}" for transport in ("socket", "shm") for form in ("tensorflow", "shardscope")]
    assert list(row) == ["dd", *names]
    assert min(row[name][what] for name in names for what in ("save", "restore")) > 0
    assert list(tmp_path.iterdir()) == [written]


def test_policies_of_training_together_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(training_images.VARIABLE, training_images.NAMES[0])
    written = tmp_path / "together.json"
    arguments = ("--workers", 2, "--seconds", 0.2, "--step", 1, "--rest", 0, "--transport", "socket", "--json", written)
    run_here("benchmarks.training_together", *arguments)
    results = json.loads(written.read_text())["results"]
    policies = [case["sync"] for case in results["cases"]]
    assert policies == [*["bsp(total=2)"] * 2, "ssp(3, total=2)", "async", "none", "bsp(total=2)", "sync(1, total=2)"]
    assert all(case["steps_per_s"] > 0 for case in results["cases"])
    assert isinstance(results["cases"][1]["overhead_s"], float)  # how long, a busy machine decides
    assert all(case["used_s"] >= 0 for case in results["cases"])
    assert {"socket: ssp(3) / async", "socket: sync(1, total=2) / bsp, one slow"} <= results["ratios"].keys()
    assert "in small round trips" in capsys.readouterr().out


def test_adapters_are_compared_with_steps_by_hand_and_with_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(training_images.VARIABLE, training_images.NAMES[0])
    written = tmp_path / "figures.json"
    sizes = ["--ps", 1, "--workers", 2, "--rounds", 1, "--steps", 2, "--seconds", 0.2, "--rest", 0]
    chosen = ["--part", "conv", "train", "--net", "small", "--way", "bsp", "ddp", "--torch", sys.executable]
    run_here("benchmarks.adapters", *sizes, *chosen, "--json", written)
    results = json.loads(written.read_text())["results"]
    (steps,) = results["steps"]
    assert {"numpy", "torch", "jax", "np.copyto"} < steps["median_s"].keys()
    assert set(steps["steps"].values()) == {4}
    assert all(0 < each < steps["bytes"] for each in steps["allocated"].values())
    assert [(case["by"], case["way"]) for case in results["trained"]] == [
        ("shm", "bsp(total=2)"),
        ("torch", "ddp"),
    ]
    assert all(case["steps_per_s"] > 0 for case in results["trained"])
    assert {what for what in results["ratios"] if "ddp" in what} == {
        "shm, small, bsp(total=2): steps per second / torch, ddp"
    }
    run_here("benchmarks.report", written)
    assert "Training a small convolutional net" in capsys.readouterr().out
