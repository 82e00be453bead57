"""Short epochs under kills, as ``make soak`` runs long ones."""

from __future__ import annotations

import contextlib
import io

import pytest

from tests.chaos.epochs.__main__ import main
from tests.chaos.soak.settings import ROOT

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


def run(*options: str) -> tuple[int, str]:
    """Runs it in this process, so that its ps tasks start as quickly as those of other tests."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.chdir(ROOT):
        return main(["--timeout", "250", *options]), output.getvalue()


@pytest.mark.timeout(350)
@pytest.mark.parametrize("options", [[], ["--replicas", "1"]], ids=["journal", "replicas"])
def test_each_sample_counts_in_as_many_rounds_as_there_are_epochs(options: list[str]) -> None:
    code, output = run("--sync", "bsp", "--seed", "5", "--kills", "4", "--stops", "1", "--shards", "60", *options)
    assert code == 0, output
    assert "kills: 2 of ps, 2 of worker" in output
    assert "counted 3 times: 540 samples\n" in output
    assert "WRONG" not in output


@pytest.mark.timeout(350)
@pytest.mark.parametrize("options", [[], ["--replicas", "1"]], ids=["journal", "replicas"])
def test_each_sample_counts_as_often_as_there_are_epochs(options: list[str]) -> None:
    code, output = run("--seed", "5", "--kills", "4", "--stops", "1", "--shards", "150", *options)
    assert code == 0, output
    assert "kills: 2 of ps, 2 of worker" in output
    assert "counted 3 times: 1350 samples\n" in output
    assert "WRONG" not in output
