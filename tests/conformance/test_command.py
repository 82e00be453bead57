"""``python -m tests.conformance`` tells how much of what is recorded is done as recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conformance import __main__ as command
from tests.conformance import replay

ELSEWHERE = {
    *("updates.json", "devices.json", "clusters.json", "conv_scopes.json"),
    *("tensorflow_schedules.json", "torch_schedules.json", "checkpoints.tar.xz", "torch_files.tar.xz"),
    *("keras_models.tar.xz", "sync_training.jsonl"),
}
"""What only tests replay, or nothing yet."""


def test_all_files_are_known_but_few() -> None:
    assert {path.name for path in replay.TRACES.iterdir()} == command.FILES.keys() | ELSEWHERE


def test_without_a_file_each_one_has_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ("optimizers.json", "torch_optimizers.json", "optimizer_graphs.json", "training_steps.json")
    monkeypatch.setattr(command, "FILES", {name: command.FILES[name] for name in few})
    assert command.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "optimizers          24 of 24 cases",
        "torch optimizers    26 of 26 cases",
        "optimizer graphs    102 of 102 graphs",
        "training steps      1 of 1 program",
    ]


@pytest.mark.parametrize("dtype", [{}, {"dtype": "float32"}], ids=["by-a-session", "by-rules"])
def test_optimizers_of_a_file_that_differ_are_told(
    dtype: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [{**each, **dtype} for each in json.loads((replay.TRACES / "optimizers.json").read_text())[:3]]
    cases[1]["steps"][0]["value"][0][0] += 1.0
    path = tmp_path / "others.json"
    path.write_text(json.dumps(cases))
    assert command.main([str(path)]) == 1
    told, counted = capsys.readouterr().out.splitlines()
    assert "Optimizer" in told or "gradient_descent" in told
    assert "Not equal to tolerance" in told
    assert counted == "2 of 3 cases"


def test_a_file_of_another_kind_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "others.json"
    path.write_text(json.dumps([{"something": "else"}]))
    assert command.main([str(path)]) == 2
    assert "no known kind" in capsys.readouterr().err


def test_two_files_are_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["a", "b"]) == 2
    assert capsys.readouterr().err == "usage: python -m tests.conformance [TRACES]\n"
