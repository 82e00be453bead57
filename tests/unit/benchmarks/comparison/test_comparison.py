"""The order in which contestants work, and the tables made of their times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import pytest

from benchmarks import report
from benchmarks.comparison import comparison, comparison_tables
from benchmarks.comparison.targets import Target
from benchmarks.harness.contestants import Entry
from benchmarks.harness.record import new_record
from benchmarks.harness.workloads import WORKLOADS

CASES = {"ours": {"pull": ["view", "copied"]}, "theirs": {"pull": [""], "push": [""]}, "limit": {"pull": ["tcp"]}}
SECONDS = {"ours": 0.010, "theirs": 0.030, "limit": 0.005}


class FakeContestant:
    """Answers at once, and writes down that it was asked."""

    log: ClassVar[list[tuple[str, str, str]]] = []  # one for all, emptied by the fixture

    def __init__(self, entry: Entry):
        self.entry = entry
        self.versions = {"library": "1", "numpy": "2"}
        self.cases = CASES[entry.name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.log.append((self.entry.name, "closed", ""))

    def run(self, workload: str, variant: str, *, warm: int, calls: int) -> list[float]:
        self.log.append((self.entry.name, workload, variant))
        return [SECONDS[self.entry.name]] * calls

    def check(self) -> None:
        self.log.append((self.entry.name, "check", ""))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str, str]]]:
    monkeypatch.setattr(comparison, "RunningContestant", FakeContestant)
    FakeContestant.log.clear()
    yield FakeContestant.log
    FakeContestant.log.clear()


def entries() -> list[Entry]:
    return [Entry("ours", "own", ()), Entry("theirs", "peer", ()), Entry("limit", "limit", ())]


def compared(workloads: Sequence[str], rounds: int) -> dict[str, Any]:
    return {"scale": "full", **comparison.compare(entries(), workloads, rounds=rounds)}


def test_contestants_take_turns_and_another_begins_each_round(log: list[tuple[str, str, str]]) -> None:
    compared(["pull"], rounds=2)
    turns = [(name, variant) for name, workload, variant in log if workload == "pull"]
    a, b, c, d = ("ours", "view"), ("ours", "copied"), ("theirs", ""), ("limit", "tcp")
    assert turns == [a, b, c, d, b, c, d, a, c, d, a, b]


def test_all_are_checked_then_closed(log: list[tuple[str, str, str]]) -> None:
    compared(["pull"], rounds=1)
    assert [entry[:2] for entry in log[-6:]] == [
        *(("ours", "check"), ("theirs", "check"), ("limit", "check")),
        *(("limit", "closed"), ("theirs", "closed"), ("ours", "closed")),
    ]


def test_the_round_before_the_first_is_not_counted(log: list[tuple[str, str, str]]) -> None:
    results = compared(["pull"], rounds=3)
    for case in results["cases"]:
        assert len(case["rounds"]) == 3
        assert case["all"]["count"] == 3 * WORKLOADS["pull"].calls


def test_tables_have_the_ratios(log: list[tuple[str, str, str]]) -> None:
    record = new_record(comparison.BENCHMARK, "benchmarks", compared(["pull", "push"], rounds=2))
    ratios, medians, _ = comparison_tables.tables(record)
    assert list(ratios.columns) == ["work", "median", "p99", "theirs ÷ ours", "ours ÷ limit", "limit"]
    assert [list(row) for row in ratios.rows] == [
        ["pull 100 MiB, view", "10.0 ms", "10.0 ms", "3.00", "2.00", "tcp"],
        ["pull 100 MiB, copied", "10.0 ms", "10.0 ms", "3.00", "2.00", "tcp"],
    ]
    assert [list(row)[:4] for row in medians.rows] == [
        ["pull 100 MiB", "10.0 ms", "30.0 ms", "5.00 ms"],
        ["push 100 MiB", "-", "30.0 ms", "-"],
    ]


def test_a_report_names_the_command_the_machine_and_the_versions(log: list[tuple[str, str, str]]) -> None:
    record = new_record(comparison.BENCHMARK, "benchmarks", compared(["pull"], rounds=1))
    text = report.markdown(record)
    assert text.startswith("`python -m benchmarks")
    assert "library 1" in text
    assert "### Shardscope by ours" in text


@pytest.mark.parametrize(("seconds", "met"), [(0.010, "yes"), (0.020, "no")])
def test_targets_are_judged_by_the_ratios_of_the_rounds(
    seconds: float, met: str, log: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = [
        Target("ours", "pull", "copied", "theirs", 3.0),
        Target("ours", "pull", None, "limit", 2.0),
        Target("ours", "push", None, "theirs", 1.0),
    ]
    monkeypatch.setattr(comparison_tables, "TARGETS", targets)
    monkeypatch.setitem(SECONDS, "ours", seconds)
    record = new_record(comparison.BENCHMARK, "benchmarks", compared(["pull", "push"], rounds=2))
    table = comparison_tables.tables(record)[-1]
    assert table.title == "Targets"
    assert [(row[1], row[3], row[-1]) for row in table.rows] == [
        ("pull 100 MiB, copied", "at least 3", met),
        ("pull 100 MiB, view", "at most 2", met),
    ]
