"""The examples run as their texts say, with few steps, and what they train is better than chance."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from ps_cluster.local.reserved_ports import LOOPBACK, ReservedPorts
from tests.conformance.reference import record_conv_scopes

pytestmark = pytest.mark.integration

ROOT: Final = Path(__file__).parents[2]
TRACES: Final = ROOT / "tests" / "conformance" / "reference" / "traces"
TIMEOUT_S: Final = 150.0
CHANCE: Final = 0.1
INSTALL: Final = "Fashion-MNIST comes with `apt install dataset-fashion-mnist`."
DIGITS: Final = "--data_dir=digits"
REPLICA: Final = "examples/tf1/mnist_replica.py"
CONV: Final = "examples/tf1/conv_scopes.py"


def accuracies(output: str, what: str) -> list[float]:
    return [float(each) for each in re.findall(rf"{what} accuracy (\d\.\d+)", output)]


def run(*command: str, exit_code: int = 0, **environment: str) -> str:
    """Returns what a program prints, of which no line is wider than a terminal."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={"PATH": str(Path(sys.executable).parent), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == exit_code, done.stdout
    printed = [line for line in done.stdout.splitlines() if not re.match(r"shardscope \||There is no /", line)]
    assert [line for line in printed if len(line) > 80] == []
    return done.stdout


def up(num_workers: int, *command: str) -> str:
    return run("-m", "ps_cluster", "up", "--ps", "2", "--workers", str(num_workers), "--", "python", *command)


def test_digits_are_trained_by_all_workers() -> None:
    output = up(2, "examples/digits.py", "--epochs", "4", "--min-accuracy", "0.5")
    assert all(each > 0.5 for each in accuracies(output, "held-out"))
    assert len(accuracies(output, "held-out")) == 2
    assert all(int(each) >= 88 for each in re.findall(r"after (\d+) steps of all workers", output)), output


JAX_DIGITS: Final = "examples/jax_digits.py"


@pytest.mark.parametrize("flags", [("--optax",), ("--sync", "bsp")])
def test_a_net_of_jax_is_trained_by_all_workers(flags: tuple[str, ...]) -> None:
    output = up(2, JAX_DIGITS, "--epochs", "3", "--min-accuracy", "0.5", *flags)
    found = accuracies(output, "held-out")
    assert len(found) == 2
    assert min(found) > 0.5


def test_a_net_of_jax_is_trained_alone() -> None:
    (found,) = accuracies(run(JAX_DIGITS, "--epochs", "2", "--min-accuracy", "0.5"), "held-out")
    assert found > 0.5
    assert "the held-out" not in run(JAX_DIGITS, "--epochs", "1", "--min-accuracy", "1.1", exit_code=1)


def test_rounds_are_not_for_rules_of_workers() -> None:
    assert "leave out --optax" in run(JAX_DIGITS, "--optax", "--sync", "bsp", exit_code=2)


def test_a_replica_trains_where_up_puts_it() -> None:
    output = up(2, REPLICA, DIGITS, "--train_steps=60", "--lines=2", "--min_accuracy=0.5")
    assert all(each > 0.5 for each in accuracies(output, "test"))
    assert len(accuracies(output, "test")) == 2
    assert re.search(r"worker:\d +\| step +\d+  batch loss \d+\.\d+  accuracy \d\.\d+  \d+\.\d s", output), output


def test_a_replica_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    up(1, REPLICA, DIGITS, "--train_steps=30", "--lines=1", f"--train_dir={tmp_path}")
    output = up(1, REPLICA, DIGITS, "--train_steps=40", "--lines=1", f"--train_dir={tmp_path}")
    assert "going on after step 30" in output
    assert "after 40 steps of all workers" in output
    assert {each.name for each in tmp_path.glob("model.ckpt-*.index")} >= {"model.ckpt-30.index", "model.ckpt-40.index"}


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with started:
        try:
            yield started
        finally:
            started.kill()


def test_replicas_that_are_started_by_hand_train_and_end() -> None:
    with closing(ReservedPorts(4)) as reserved, ExitStack() as started:
        hosts = [f"{LOOPBACK}:{port}" for port in reserved.ports]
        flags = [f"--ps_hosts={hosts[0]},{hosts[1]}", f"--worker_hosts={hosts[2]},{hosts[3]}"]
        flags += [DIGITS, "--train_steps=60", "--lines=2"]
        tasks = [
            started.enter_context(process(REPLICA, *flags, f"--job_name={job}", f"--task_index={index}"))
            for job in ("ps", "worker")
            for index in range(2)
        ]
        outputs = [each.communicate(timeout=TIMEOUT_S)[0] for each in tasks]
        assert [each.returncode for each in tasks] == [0] * 4, outputs
    assert outputs[:2] == [f"ps:{index} serves until the workers are done\n" for index in range(2)]
    for printed in outputs[2:]:
        (accuracy,) = accuracies(printed, "test")
        assert accuracy > 0.5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "Which task is this? Give --ps_hosts"),
        (("--job_name=ps",), "--job_name needs --ps_hosts and --worker_hosts"),
        (("--min_accuracy=1.1", DIGITS, "--train_steps=1"), "Which task is this?"),
    ],
)
def test_a_replica_without_a_place_says_what_to_give(flags: tuple[str, ...], message: str) -> None:
    assert message in run(REPLICA, *flags, exit_code=1)


def test_images_that_are_not_there_say_how_to_install_them(tmp_path: Path) -> None:
    output = run(CONV, f"--data_dir={tmp_path}", exit_code=1)
    assert output.splitlines()[-2:] == [f"There is no {tmp_path}/train-images-idx3-ubyte.gz.", INSTALL]


def test_convolutions_that_share_by_scope_train_as_with_tensorflow() -> None:
    output = run(CONV, *record_conv_scopes.FLAGS)
    expected = json.loads((TRACES / "conv_scopes.json").read_text(encoding="utf-8"))
    assert record_conv_scopes.losses_of(output) == pytest.approx(expected, abs=1e-4)
    (accuracy,) = accuracies(output, "test")
    assert accuracy > 2 * CHANCE


def test_convolutions_train_on_a_cluster() -> None:
    output = up(2, CONV, DIGITS, "--train_steps=40", "--lines=2")
    found = accuracies(output, "test")
    assert len(found) == 2
    assert min(found) > 2 * CHANCE


@pytest.mark.parametrize("program", ["examples/digits.py", JAX_DIGITS, REPLICA, CONV])
def test_help_fits_a_terminal(program: str) -> None:
    run(program, "--help", exit_code=0 if program.startswith("examples/") and "tf1" not in program else 1, COLUMNS="80")


def test_films_are_recommended_as_well_as_can_be() -> None:
    output = up(2, "examples/torch_recommend.py", "--drawn=4000", "--epochs=12", "--batch-size=50", "--max-rmse=0.65")
    found = re.findall(r"test RMSE (0\.\d+) \(of their means (0\.\d+), least possible (0\.\d+)\)", output)
    assert len(found) == 2
    for error, of_means, least in ([float(each) for each in line] for line in found):
        assert least < error < of_means - 0.1, output
    assert "4000 ratings by 102 users of 76 films, drawn" in output


def test_films_are_those_of_recbole_where_that_is_installed(tmp_path: Path) -> None:
    package = tmp_path / "recbole"
    folder = package / "dataset_example" / "ml-100k"
    folder.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('its own libraries are not there')")
    ratings = [f"{user}\t{film}\t{1 + (user + film) % 5}\t88" for user in range(12) for film in range(100, 109)]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (folder / "ml-100k.inter").write_text("\n".join([header, *ratings]))
    command = ("examples/torch_recommend.py", "--epochs=2", "--batch-size=50", "--max-rmse=0.9")
    output = run(*command, exit_code=1, PYTHONPATH=str(tmp_path))
    assert "108 ratings by 12 users of 9 films, ml-100k.inter" in output
    assert re.search(r"^test RMSE 1\.\d+ \(of their means 1\.\d+\)$", output, re.MULTILINE)
    refused = run(*command, "--data", "pyproject.toml", exit_code=1, PYTHONPATH=str(tmp_path))
    assert "pyproject.toml is no file of interactions of recbole's" in refused
