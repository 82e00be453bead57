"""What a benchmark writes down: its figures, and what they were measured on, when and how."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

Record = dict[str, Any]

_LIBRARIES = ("shardscope", "numpy", "grpcio", "protobuf", "numba")


def new_record(benchmark: str, module: str, results: Mapping[str, Any]) -> Record:
    """Returns a record of figures that were measured now, by this process.

    Args:
        benchmark: Key of the tables in ``report``.
        module: What ``python -m`` ran.
        results: The figures; JSON can hold them.
    """
    return {
        "benchmark": benchmark,
        "command": command_of(module, sys.argv[1:]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "results": dict(results),
    }


def command_of(module: str, arguments: Sequence[str]) -> str:
    """Returns the command that measures the same elsewhere: without ``--json``, and with no place on this machine."""
    kept = []
    remaining = iter(arguments)
    for each in remaining:
        if each == "--json":
            next(remaining, None)
        elif not each.startswith("--json="):
            name, is_pair, _ = each.partition("=/")
            kept.append(f"{name}=PYTHON" if is_pair else each)
    return shlex.join(["python", "-m", module, *kept])


def machine() -> dict[str, Any]:
    """Returns what is known about this machine, without its name."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "load_1min": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that matter here, of those that are installed."""
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write(record: Record, path: Path | None) -> None:
    """Writes a record as JSON, if a path was given."""
    if path is not None:
        path.write_text(json.dumps(record, indent=1) + "\n")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
