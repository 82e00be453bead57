"""A short soak, as ``make soak`` runs a long one."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess

import pytest

from tests.chaos.soak.__main__ import main
from tests.chaos.soak.settings import ROOT
from tests.etcd_process import NO_ETCD

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


def soak(*options: str) -> subprocess.CompletedProcess[str]:
    """Runs it in this process, so that its ps tasks start as quickly as those of other tests."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors), contextlib.chdir(ROOT):
        try:
            returncode = main(["--timeout", "250", *options])
        except SystemExit as refused:
            returncode = refused.code if isinstance(refused.code, int) else 1
    return subprocess.CompletedProcess(options, returncode, output.getvalue(), errors.getvalue())


@pytest.mark.timeout(350)
def test_every_acknowledged_update_counts_exactly_once() -> None:
    ended = soak("--seed", "11", "--kills", "3", "--updates", "1500", "--workers", "2", "--drop-every", "100")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("  equal\n") == 12
    assert "3 kills of ps tasks" in ended.stdout
    assert "of reply.send=drop" in ended.stdout


@pytest.mark.timeout(350)
def test_nothing_is_lost_when_every_process_of_every_pair_is_killed_at_once() -> None:
    options = ["--replicas", "1", "--durability", "journal", "--kills", "1", "--restarts", "1", "--outages", "2"]
    ended = soak("--seed", "14", *options, "--updates", "600", "--ps", "2", "--workers", "2", "--drop-every", "100")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "DIFFERS" not in ended.stdout
    assert "outage 2: all processes; whole again" in ended.stdout


@pytest.mark.timeout(350)
def test_of_a_killed_worker_only_what_was_in_doubt_may_be_missing() -> None:
    ended = soak(
        "--seed", "12", "--kills", "1", "--kill-workers", "2", "--updates", "300", "--ps", "2", "--workers", "2"
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 kills of ps tasks, 2 of workers" in ended.stdout
    assert "DIFFERS" not in ended.stdout


@pytest.mark.timeout(350)
def test_a_fault_that_did_not_happen_fails_the_run() -> None:
    ended = soak(
        "--seed", "13", "--kills", "0", "--updates", "20", "--ps", "1", "--workers", "1", "--drop-every", "100000"
    )

    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "no reply was dropped" in ended.stdout
    assert "--seed 13" in ended.stdout


@pytest.mark.timeout(350)
@pytest.mark.parametrize("coordinator", ["files", "etcd"])
def test_after_each_round_of_trouble_with_pairs_every_sum_is_exact(coordinator: str) -> None:
    if coordinator == "etcd" and shutil.which("etcd") is None:
        pytest.skip(NO_ETCD)
    of_pairs = ("--replicas", "1", "--coordinator", coordinator, "--rounds", "2", "--ps", "2", "--workers", "2")
    ended = soak(*of_pairs, "--seed", "33", "--drop-every", "50")  # each of a few hundred replies from a process

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 rounds, after each of which every sum was equal" in ended.stdout
    assert ("of the coordinator" in ended.stdout) == (coordinator == "etcd")
    assert ended.stdout.count("  equal\n") == 8


def test_rounds_are_for_pairs() -> None:
    ended = soak("--rounds", "3")

    assert ended.returncode == 2
    assert "--replicas 1" in ended.stderr


def test_without_a_journal_kills_are_refused() -> None:
    ended = soak("--durability", "none")

    assert ended.returncode == 2
    assert "--durability journal" in ended.stderr
    ended = soak("--replicas", "1", "--outages", "1")
    assert ended.returncode == 2
    assert "give --replicas 1 --durability journal" in ended.stderr
