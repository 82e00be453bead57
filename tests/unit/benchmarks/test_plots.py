"""The plot of latency by size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.harness.samples import summary
from benchmarks.plots import draw


def record() -> dict[str, Any]:
    works = {"grpc": ["pull", "push"], "shm": ["pull", "push", "pull, view", "push, in place"]}
    return {
        "results": {
            "cases": [
                {"transport": transport, "work": work, "bytes": size, "latency_s": summary([1e-6 * size, 2e-6 * size])}
                for transport, kinds in works.items()
                for work in kinds
                for size in (4, 2**20, 2**30)
            ]
        }
    }


def test_the_plot_is_written_twice_and_is_the_same_each_time(tmp_path: Path) -> None:
    written = draw(record(), tmp_path / "latency")
    assert [path.name for path in written] == ["latency.svg", "latency.png"]
    first = written[0].read_text()
    for label in ("grpc", "shm, view", "shm, in place", "4 MiB", "1 GiB"):
        assert label in first
    draw(record(), tmp_path / "latency")
    assert written[0].read_text() == first
    assert written[1].read_bytes().startswith(b"\x89PNG")
