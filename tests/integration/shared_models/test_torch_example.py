"""The MNIST example of PyTorch on the digits: alone, by each policy, while a ps dies; and how little it takes."""

from __future__ import annotations

import contextlib
import difflib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ps_cluster.local.processes import ProcessSupervisor
from tests.conftest import Eventually
from tests.integration.test_examples import accuracies, run, up
from tests.integration.test_up import Launch

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT: Final = Path(__file__).parents[3]
PLAIN: Final = "examples/torch_plain_digits.py"
SHARED: Final = "examples/torch_digits.py"


def changes() -> list[str]:
    """The lines of code of the one program that the other has not, and the other way, without what only explains."""
    before, after = [
        (ROOT / each).read_text(encoding="utf-8").partition("\nimport argparse\n")[2].splitlines()
        for each in (PLAIN, SHARED)
    ]
    lines = list(difflib.unified_diff(before, after, lineterm="", n=0))[2:]
    return [line for line in lines if line[0] in "+-" and line[1:].strip()]


def test_fewer_than_ten_lines_make_a_program_of_torch_one_of_many_workers() -> None:
    assert 0 < len([line for line in changes() if line[0] == "+"]) < 10
    assert len([line for line in changes() if line[0] == "-"]) < 10


def test_the_documentation_shows_just_these_lines() -> None:
    text = (ROOT / "docs" / "pytorch.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```diff\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert [line for line in shown.splitlines() if line[0] in "+-"] == changes()


@pytest.mark.parametrize("program", [PLAIN, SHARED])
def test_it_runs_alone(program: str) -> None:
    (accuracy,) = accuracies(run(program, "--epochs", "4", "--min-accuracy", "0.7", OMP_NUM_THREADS="1"), "held-out")
    assert accuracy > 0.7


def test_it_fails_below_what_is_asked() -> None:
    run(SHARED, "--epochs", "1", "--min-accuracy", "1.1", exit_code=1)


@pytest.mark.parametrize("sync", ["", "async", "ssp(3)", "sync(2)"])
def test_three_workers_train_it(sync: str) -> None:
    output = up(3, SHARED, "--epochs", "20", "--min-accuracy", "0.7", *([f"--sync={sync}"] if sync else []))
    found = accuracies(output, "held-out")
    assert len(found) == 3
    assert min(found) > 0.7


@contextlib.contextmanager
def launched(*options: str) -> Iterator[Launch]:
    supervisor = ProcessSupervisor()
    try:
        yield Launch(supervisor, list(options), {})
    finally:
        supervisor.close()


@pytest.mark.chaos
def test_it_reaches_its_accuracy_though_a_ps_is_killed(eventually: Eventually) -> None:
    program = ("python", SHARED, "--epochs", "20", "--log-interval", "1", "--min-accuracy", "0.8", "--sync", "ssp(3)")
    with launched("--ps", "2", "--workers", "3", "--durability", "journal", "--", *program) as launch:
        eventually(lambda: "epoch   3" in launch.text, message="it trains")
        launch.ps_process(1).kill()
        assert "epoch  20" not in launch.text  # in the middle
        assert launch.wait() == 0, launch.text
        assert "ps:1 is back" in launch.text
        found = accuracies(launch.text, "held-out")
        assert len(found) == 3
        assert min(found) > 0.8


def test_help_fits_a_terminal() -> None:
    for program in (PLAIN, SHARED):
        run(program, "--help", COLUMNS="80")


@pytest.mark.parametrize(("target", "installs"), [("demo", False), ("examples", True), ("test", True), ("check", True)])
def test_the_demo_needs_no_frameworks(target: str, installs: bool, tmp_path: Path) -> None:
    """Of which PyTorch alone takes longer to install than all the rest."""
    command = ["make", "--dry-run", target, f"VENV={tmp_path}/one", f"PROTO_VENV={tmp_path}/other"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert ("'.[dev]'" in planned, "'.[frameworks]'" in planned) == (True, installs)
