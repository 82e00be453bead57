"""How fast a cluster is saved and restored, and what a save costs the updates beside it.

``python -m benchmarks.checkpoints [--bytes 4e9] [--rounds 3] [--folder DIR]``

``dd`` writes as many bytes to the same folder in the same round, synced at its end. While nothing is saved, and again
while a checkpoint is saved, another process adds to a scalar and waits for each answer; and once more beside as many
processes as ps tasks that have nothing to do with the cluster, and checksum and write as much in as much time.

The memory of the ps tasks is their largest resident set beside the saves, divided by that before; and the same beside
saves while yet another process changes an element of each large variable, one after the other, so that all need a
second value.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import worker_client
from benchmarks.harness import command
from benchmarks.harness.record import Record
from benchmarks.harness.tables import Table, auto_duration, number
from ps_cluster import LocalCluster
from ps_protocol.cluster_spec import ClusterSpec
from worker_client.client import Client

BENCHMARK = "checkpoints"
NUM_PS = 2

Updates = Callable[[Sequence[str], Path, Path], list[float]]

_VARIABLES = 16
_QUIET_S = 2.0
_SAMPLE_S = 0.02
_LOOK_EVERY = 64
_BLOCK_BYTES = 512 * 1024
_SYNCED_BYTES = 8 * 1024**2
_START_TIMEOUT_S = 120.0


def measure(*, size_bytes: float, rounds: int, folder: Path) -> dict[str, Any]:
    """Returns medians of rates in bytes per second, and latencies of scalar updates in seconds."""
    rates: dict[str, list[float]] = {"dd": [], "save": [], "restore": []}
    held, quiet, busy, memory = list[float](), list[float](), list[float](), list[float]()
    plain, changed_memory, changes = list[float](), list[float](), list[float]()
    with LocalCluster(num_ps=NUM_PS) as cluster:
        spec = cluster.cluster_spec
        with worker_client.connect(spec) as client:
            total_bytes = _make_variables(client, int(size_bytes))
            processes = _ps_processes()
            for turn in range(rounds):
                command.progress(f"round {turn + 1} of {rounds}")
                name = f"round-{turn}"
                before = _resident_bytes(processes)
                _beside(spec, processes, quiet, lambda: time.sleep(_QUIET_S))
                rates["dd"].append(total_bytes / timed(lambda: dd(folder, total_bytes)))
                took: list[float] = []

                def save(name: str = name, took: list[float] = took) -> None:
                    took.append(timed(lambda: held.append(client.save(folder, name=name).held_s)))

                memory.append(_beside(spec, processes, busy, save) / before)
                rates["save"].append(total_bytes / took[0])
                _beside_plain_writers(spec, processes, plain, folder, total_bytes, took[0])
                rates["restore"].append(total_bytes / timed(lambda name=name: client.restore(folder / name)))  # type: ignore[misc]
                shutil.rmtree(folder / name)
                before = _resident_bytes(processes)
                changed_memory.append(_beside(spec, processes, changes, save, _change_all) / before)
                shutil.rmtree(folder / name)
    return {
        "bytes": total_bytes,
        "memory": max(memory),
        "changed_memory": max(changed_memory),
        "longest_change_s": max(changes),
        "held_s": statistics.median(held),
        "quiet_p99_s": float(np.percentile(quiet, 99)),
        "busy_p99_s": float(np.percentile(busy, 99)),
        "busy_most_s": max(busy),
        "plain_p99_s": float(np.percentile(plain, 99)),
        "plain_most_s": max(plain),
        **{name: statistics.median(found) for name, found in rates.items()},
    }


def _make_variables(client: Client, size_bytes: int) -> int:
    elements = max(1, size_bytes // 4 // _VARIABLES)
    with client.as_default():
        ones = worker_client.ones_initializer()
        for index in range(_VARIABLES):
            worker_client.get_variable(f"value_{index}", [elements], initializer=ones)
        worker_client.get_variable("scalar", [], initializer=worker_client.zeros_initializer())
    return 4 * elements * _VARIABLES


def timed(work: Callable[[], object]) -> float:
    """Returns how long some work takes, in seconds."""
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def dd(folder: Path, size_bytes: int) -> None:
    """Has ``dd`` write so many bytes to a file in a folder, synced at its end, and removes it."""
    file = folder / "dd"
    blocks = max(1, size_bytes // 2**20)
    subprocess.run(
        ["dd", "if=/dev/zero", f"of={file}", "bs=1M", f"count={blocks}", "conv=fsync"],  # noqa: S607
        check=True,
        capture_output=True,
    )
    file.unlink()


def _beside_plain_writers(
    spec: ClusterSpec,
    processes: Sequence[psutil.Process],
    taken: list[float],
    folder: Path,
    size_bytes: int,
    over_s: float,
) -> None:
    """Updates beside as many processes as there are ps tasks, which write over so many seconds."""
    context = multiprocessing.get_context("spawn")
    begun = context.Barrier(NUM_PS + 1, timeout=_START_TIMEOUT_S)
    paths = [folder / f"plain-{index}" for index in range(NUM_PS)]
    writers = [context.Process(target=_write_file, args=(path, size_bytes // NUM_PS, over_s, begun)) for path in paths]
    for writer in writers:
        writer.start()
    begun.wait()  # they have started

    def write() -> None:
        begun.wait()
        for writer in writers:
            writer.join()

    _beside(spec, processes, taken, write)
    for path in paths:
        path.unlink()


def _write_file(path: Path, size_bytes: int, over_s: float, begun: Barrier) -> None:
    """Checksums and writes one block over and over, as fast as gets it done in so many seconds."""
    block = os.urandom(_BLOCK_BYTES)
    with path.open("wb", buffering=0) as file:
        begun.wait()
        begun.wait(_START_TIMEOUT_S)
        began_s = time.perf_counter()
        os.posix_fallocate(file.fileno(), 0, max(1, size_bytes))
        for done_bytes in range(_BLOCK_BYTES, size_bytes + 1, _BLOCK_BYTES):
            zlib.crc32(block)
            file.write(block)
            if done_bytes % _SYNCED_BYTES == 0:
                os.fdatasync(file.fileno())
            time.sleep(max(0.0, began_s + over_s * done_bytes / size_bytes - time.perf_counter()))
        os.fsync(file.fileno())


def _beside(
    spec: ClusterSpec,
    processes: Sequence[psutil.Process],
    taken: list[float],
    work: Callable[[], None],
    updates: Updates | None = None,
) -> float:
    """Does some work while another process updates; returns the largest resident set of the ps tasks."""
    with tempfile.TemporaryDirectory() as signs:
        begun, ended = Path(signs) / "begun", Path(signs) / "ended"

        def update() -> None:
            taken.extend(command.in_fresh_process(updates or _update, spec.ps_addresses(), begun, ended))

        updating = threading.Thread(target=update)
        worker = threading.Thread(target=work)
        updating.start()
        while not begun.exists():
            if not updating.is_alive():
                raise RuntimeError("the process that updates has ended before it began")
            time.sleep(_SAMPLE_S)
        most = _resident_bytes(processes)
        worker.start()
        while worker.is_alive():
            most = max(most, _resident_bytes(processes))
            worker.join(_SAMPLE_S)
        ended.touch()
        updating.join()
    return most


def _update(addresses: Sequence[str], begun: Path, ended: Path) -> list[float]:
    """Adds to the scalar from one sign to the other; returns how long each time took, in seconds."""
    taken: list[float] = []
    with worker_client.connect({"ps": list(addresses)}, observer="update") as client:
        scalar = client.variable("scalar")
        scalar.assign_add(1.0)
        begun.touch()
        while len(taken) % _LOOK_EVERY or not ended.exists():
            taken.append(timed(lambda: scalar.assign_add(1.0)))
    return taken


def _change_all(addresses: Sequence[str], begun: Path, ended: Path) -> list[float]:
    """Changes all large variables from one sign to the other; returns how long each change took, in seconds."""
    taken: list[float] = []
    with worker_client.connect({"ps": list(addresses)}, observer="update") as client:
        variables = [client.variable(f"value_{index}") for index in range(_VARIABLES)]
        begun.touch()
        while not ended.exists():
            taken += [timed(partial(each.scatter_add, [0], np.ones(1, np.float32))) for each in variables]
    return taken


def _ps_processes() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "ps_server" in " ".join(child.cmdline())]


def _resident_bytes(processes: Sequence[psutil.Process]) -> float:
    return float(sum([each.memory_info().rss for each in processes]))


def tables(record: Record) -> list[Table]:
    """Returns the figures as tables."""
    found = record["results"]
    rates: list[Sequence[str]] = [
        (name, f"{found[name] / 1e6:.0f} MB/s", number(found[name] / found["dd"])) for name in ("dd", "save", "restore")
    ]
    costs: list[Sequence[str]] = [
        ("p99 of a scalar update, nothing saved", auto_duration(found["quiet_p99_s"])),
        ("p99 of a scalar update beside a save", auto_duration(found["busy_p99_s"])),
        ("slowest scalar update beside a save", auto_duration(found["busy_most_s"])),
        ("p99 beside as many plain writers, as fast", auto_duration(found["plain_p99_s"])),
        ("slowest beside them", auto_duration(found["plain_most_s"])),
        ("updates held back for the cut", auto_duration(found["held_s"])),
        ("memory of the ps tasks beside a save, of that before", number(found["memory"])),
        ("the same while all variables are changed", number(found["changed_memory"])),
        ("longest change of a large variable then", auto_duration(found["longest_change_s"])),
    ]
    title = f"{found['bytes'] / 1e9:.2f} GB on {NUM_PS} ps tasks, median"
    return [Table(title, ("", "rate", "of dd"), rates, labels=1), Table("What it costs", ("", ""), costs, labels=1)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and shows the figures; returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--bytes", type=float, default=4e9, help="of all variables (default: %(default)g)")
    parser.add_argument("--rounds", type=command.positive, default=3, help="(default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to save (default: a temporary folder)")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        found = measure(size_bytes=given.bytes, rounds=given.rounds, folder=Path(folder))
    command.finish(BENCHMARK, "benchmarks.checkpoints", {**found, "rounds": given.rounds}, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
