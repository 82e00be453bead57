"""Draws latency by size: ``python -m benchmarks.plots sizes.json docs/latency-by-size``. Needs the extra ``bench``.

Writes an SVG and a PNG file. Lines are medians, dotted lines p99.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.record import Record

_COLOURS = {"grpc": "#8c6d31", "socket": "#1f77b4", "unix": "#2ca02c", "shm": "#d62728"}
_PANELS = ("pull", "push")
_DOTS_PER_INCH = 110
_TICKS = (4, 128, 4 * 2**10, 128 * 2**10, 4 * 2**20, 2**30)


def draw(record: Record, path: Path) -> list[Path]:
    """Draws a record of ``benchmarks.sizes`` and returns the files that were written.

    Args:
        record: As the command has written it.
        path: Of the files, without what follows the dot.
    """
    import matplotlib as mpl
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter

    mpl.use("agg")
    mpl.rcParams.update({"svg.hashsalt": path.name, "svg.fonttype": "none"})  # the same figures give the same file
    figure, panels = plt.subplots(1, len(_PANELS), figsize=(11, 4.6), sharey=True, layout="constrained")
    for panel, work in zip(panels, _PANELS, strict=True):
        _draw_panel(panel, [case for case in record["results"]["cases"] if case["work"].startswith(work)])
        panel.set(title=work, xscale="log", yscale="log", xlabel="size of the variable")
        panel.set_xticks(_TICKS, minor=False)
        panel.set_xticks([], minor=True)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _labelled(value, _SIZE_UNITS)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _labelled(value, _TIME_UNITS)))
        panel.grid(visible=True, alpha=0.3)
        panel.legend(frameon=False)
    panels[0].set_ylabel("latency; dotted: p99")
    written = []
    for suffix, metadata in ((".svg", {"Date": None}), (".png", {})):
        target = path.with_name(path.name + suffix)
        figure.savefig(target, dpi=_DOTS_PER_INCH, metadata=metadata)
        written.append(target)
    plt.close(figure)
    return written


def _draw_panel(panel: Any, cases: Sequence[dict[str, Any]]) -> None:
    for transport, work in dict.fromkeys((case["transport"], case["work"]) for case in cases):
        line = [case for case in cases if (case["transport"], case["work"]) == (transport, work)]
        sizes = [case["bytes"] for case in line]
        _, _, variant = work.partition(", ")
        label = f"{transport}, {variant}" if variant else transport
        style = {"color": _COLOURS[transport], "marker": "o" if variant else ".", "markersize": 4}
        panel.plot(sizes, [case["latency_s"]["p50"] for case in line], label=label, **style)
        panel.plot(sizes, [case["latency_s"]["p99"] for case in line], linestyle=":", color=_COLOURS[transport])


_SIZE_UNITS = (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10), ("B", 1.0))
_TIME_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))


def _labelled(value: float, units: Sequence[tuple[str, float]]) -> str:
    unit, factor = next((each for each in units if value >= each[1]), units[-1])
    return f"{value / factor:g} {unit}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 2 if there is nothing to draw with."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", type=Path, help="what benchmarks.sizes has written")
    parser.add_argument("path", type=Path, help="where to write, without .svg or .png")
    given = parser.parse_args(arguments)
    try:
        written = draw(json.loads(given.record.read_text()), given.path)
    except ModuleNotFoundError as error:
        print(f"benchmarks.plots: {error}; install the extra: pip install 'shardscope[bench]'", file=sys.stderr)
        return 2
    print(*written, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
