"""What ``benchmarks.durability`` measures; each function starts the clusters that it needs, and ends them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import worker_client as ss
from benchmarks.drivers.shardscope import connect
from benchmarks.harness import command
from benchmarks.harness.contestants import RunningContestant, own_entry
from benchmarks.harness.line_protocol import timed
from benchmarks.harness.processes import cpu_seconds
from benchmarks.harness.samples import ratio, summary
from benchmarks.harness.tables import size
from benchmarks.harness.workloads import FLOAT_BYTES
from ps_cluster import LocalCluster

Case = dict[str, Any]

MODES = ("none", "journal")
_WARM = 20
_RECORD_BYTES = 400  # about what a record of a scalar update takes
_WRITE_BYTES = 512 * 1024  # Linux takes much longer for larger writes
_PUSHING_CLIENTS = 2
_PUSHES = 3
_TIMEOUT_S = 300.0
_MARGIN_S = 0.1  # a snapshot begins before, and its predecessor goes after, what its log line says
_TOOK_A_SNAPSHOT = re.compile(r"took a snapshot of record .* in ([0-9.]+) s")


@dataclass(frozen=True)
class Sizes:
    """How large the data are.

    Attributes:
        push_bytes: Of one large push.
        held_bytes: Of the variables that are in a snapshot, or recovered.
        held_variables: Number of those.
        update_bytes: Of the larger updates while a snapshot is taken.
    """

    push_bytes: int
    held_bytes: int
    held_variables: int
    update_bytes: int


SIZES: Mapping[str, Sizes] = {
    "full": Sizes(100 * 2**20, 10**9, 10, 10**7),
    "small": Sizes(2**16, 2**16, 2, 2**12),
}


@contextlib.contextmanager
def _cluster(directory: Path, mode: str, **settings: Any) -> Iterator[LocalCluster]:
    """One ps, whose state is kept below ``directory`` if it is kept."""
    with contextlib.ExitStack() as stack:
        data_dir = None
        if mode != "none":
            data_dir = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{mode}-", dir=directory))
        yield stack.enter_context(LocalCluster(num_ps=1, durability=mode, data_dir=data_dir, **settings))


def scalar_updates(
    directory: Path, transport: str, clients: Sequence[int], *, rounds: int, seconds: float
) -> list[Case]:
    """Additions to one scalar by clients that are processes, with and without a journal, in turns.

    ``disk_s`` is how long the disk takes for one record: write and fdatasync, of the same rounds.
    """
    cases: list[Case] = []
    with contextlib.ExitStack() as stack:
        running: dict[str, list[RunningContestant]] = {}
        for mode in MODES:
            spec = stack.enter_context(_cluster(directory, mode)).cluster_spec.to_flag()
            entry = own_entry(transport, "small", cluster=spec)
            running[mode] = [stack.enter_context(RunningContestant(entry)) for _ in range(max(clients))]
        for count in clients:
            command.progress(f"{transport}: {count} clients add to a scalar")
            rounds_of: dict[str, list[Case]] = {mode: [] for mode in MODES}
            disk: list[float] = []
            for _ in range(rounds):
                disk += _write_times(directory, _RECORD_BYTES, 50)
                for mode in MODES:
                    rounds_of[mode].append(_one_round(running[mode][:count], seconds))
            cases += _scalar_cases(transport, count, rounds_of, summary(disk))
    return cases


def _one_round(clients: Sequence[RunningContestant], seconds: float) -> Case:
    for each in clients:
        each.begin("run", workload="add", variant="", warm=_WARM, for_s=seconds)
    latencies = [each.seconds() for each in clients]
    return {
        "latency_s": summary([one for each in latencies for one in each]),
        "per_second": sum(len(each) / sum(each) for each in latencies),
    }


def _scalar_cases(
    transport: str, clients: int, rounds_of: Mapping[str, Sequence[Case]], disk: Mapping[str, float]
) -> list[Case]:
    plain = rounds_of["none"]
    cases = []
    for mode, of_mode in rounds_of.items():
        slower = [without["per_second"] / each["per_second"] for each, without in zip(of_mode, plain, strict=True)]
        cases.append(
            {
                "part": "scalar",
                "transport": transport,
                "clients": clients,
                "mode": mode,
                "p50_s": float(np.median([each["latency_s"]["p50"] for each in of_mode])),
                "p99_s": float(np.median([each["latency_s"]["p99"] for each in of_mode])),
                "per_second": float(np.median([each["per_second"] for each in of_mode])),
                "latency_ratio": ratio([each["latency_s"] for each in of_mode], [each["latency_s"] for each in plain]),
                "throughput_ratio": {"p50": float(np.median(slower)), "min": min(slower), "max": max(slower)},
                "disk_s": disk,
            }
        )
    return cases


def large_pushes(directory: Path, transport: str, sizes: Sizes, *, rounds: int) -> list[Case]:
    """Pushes of large variables with and without a journal, and the same bytes written to the disk, in turns.

    First by one client, which waits for the disk while the wire is idle, then by two.
    """
    taken: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack:
        pushes: dict[str, list[Callable[[], object]]] = {}
        for mode in MODES:
            cluster = stack.enter_context(_cluster(directory, mode, num_workers=_PUSHING_CLIENTS))
            clients = [
                stack.enter_context(connect(cluster.cluster_spec, transport, task_index=index))
                for index in range(_PUSHING_CLIENTS)
            ]
            pushes[mode] = [_update(client, f"of_{i}", sizes.push_bytes) for i, client in enumerate(clients)]
        pool = stack.enter_context(ThreadPoolExecutor(_PUSHING_CLIENTS))
        for turn in range(rounds + 1):
            command.progress(f"{transport}: round {turn} of pushes of {size(sizes.push_bytes)}")
            for count in (1, _PUSHING_CLIENTS):
                written = _write_times(directory, sizes.push_bytes, _PUSHES)
                measured = {"disk": (float(np.median(written)), _PUSHES / sum(written))}
                for mode in MODES:
                    measured[mode] = _together([_timed_once(push) for push in pushes[mode][:count]], pool)
                for way, times in measured.items() if turn else ():  # the first round brings the memory in
                    taken.setdefault((way, count), []).append(times)
    return [
        {
            "part": "push",
            "transport": transport,
            "way": way,
            "clients": count,
            "bytes": sizes.push_bytes,
            "seconds": summary([one for one, _ in times]),
            "bytes_per_s": sizes.push_bytes * float(np.median([rate for _, rate in times])),
        }
        for (way, count), times in taken.items()
        if way != "disk" or count == 1
    ]


def _timed_once(push: Callable[[], object]) -> Callable[[], float]:
    return lambda: timed(push, warm=0, calls=1)[0]


def _repeated(call: Callable[[], float]) -> list[float]:
    return [call() for _ in range(_PUSHES)]


def _together(calls: Sequence[Callable[[], float]], pool: ThreadPoolExecutor) -> tuple[float, float]:
    """Makes each call a few times in a row, all of them at once; returns the median duration, and calls per second."""
    began_s = time.perf_counter()
    asked = [pool.submit(_repeated, call) for call in calls]
    durations = [one for future in asked for one in future.result(_TIMEOUT_S)]
    return float(np.median(durations)), len(durations) / (time.perf_counter() - began_s)


def snapshot_delays(directory: Path, transport: str, mode: str, sizes: Sizes, *, seconds: float) -> list[Case]:
    """Latencies of a scalar's and of larger updates while snapshots are taken, and while none is."""
    ended: list[tuple[float, float]] = []
    lock = threading.Lock()  # guards: ended

    def watch(_task: str, line: str) -> None:
        if found := _TOOK_A_SNAPSHOT.search(line):
            now_s = time.monotonic()
            with lock:
                ended.append((now_s - float(found[1]) - _MARGIN_S, now_s + _MARGIN_S))

    settings = ["--log-level", "info"]
    if mode == "snapshot":
        settings += ["--snapshot-interval", str(seconds / 4)]
    works = ((FLOAT_BYTES, 0.001), (sizes.update_bytes, 0.02))
    with _cluster(directory, mode, num_workers=len(works), ps_arguments=settings, log=watch) as cluster:
        with connect(cluster.cluster_spec, transport) as client:
            _fill(client, sizes, sizes.held_variables)
        command.progress(f"{transport}, {mode}: updates beside snapshots of {size(sizes.held_bytes)}")
        spec = cluster.cluster_spec.to_flag()
        with ProcessPoolExecutor(len(works), mp_context=multiprocessing.get_context("spawn")) as pool:
            asked = [
                pool.submit(_paced_updates, spec, transport, index, size_bytes, pause_s, seconds)
                for index, (size_bytes, pause_s) in enumerate(works)
            ]
            times = [future.result(_TIMEOUT_S + seconds) for future in asked]
        first_s = min(of_work[0][0] for of_work in times)
        with lock:
            snapshots = [each for each in ended if each[1] > first_s]
    return [
        {
            "part": "snapshot",
            "transport": transport,
            "mode": mode,
            "bytes": size_bytes,
            "held_bytes": sizes.held_bytes,
            "snapshots": len(snapshots),
            **_split(of_work, snapshots),
        }
        for (size_bytes, _), of_work in zip(works, times, strict=True)
    ]


def _paced_updates(
    spec: str, transport: str, task_index: int, size_bytes: int, pause_s: float, seconds: float
) -> list[tuple[float, float]]:
    """Returns begin and end of each update, on the clock that all processes of this machine share."""
    times = []
    with connect(ss.ClusterSpec.parse(spec), transport, task_index=task_index) as client:
        update = _update(client, f"of_{task_index}", size_bytes)
        for _ in range(3):
            update()
        end_s = time.monotonic() + seconds
        while (began_s := time.monotonic()) < end_s:
            update()
            times.append((began_s, time.monotonic()))
            time.sleep(pause_s)
    return times


def _split(times: Sequence[tuple[float, float]], snapshots: Sequence[tuple[float, float]]) -> Case:
    """Returns summaries of the durations of what ran while a snapshot was taken, and of the rest."""
    beside: dict[bool, list[float]] = {True: [], False: []}
    for began_s, ended_s in times:
        is_beside = any(began_s < last and ended_s > first for first, last in snapshots)
        beside[is_beside].append(ended_s - began_s)
    return {
        name: summary(beside[is_beside]) if beside[is_beside] else None
        for name, is_beside in (("with", True), ("without", False))
    }


def recoveries(directory: Path, transport: str, source: str, sizes: Sizes, *, rounds: int) -> list[Case]:
    """Starts of a ps that was killed: until it listens, and until a client has connected and read a value.

    Args:
        directory: On the disk in question.
        transport: Of the client that reads.
        source: What the state is brought back from: "snapshot", "journal", or "nothing" for an empty ps.
        sizes: Of the data.
        rounds: Starts with the files in the system's memory, and as many with them on the disk alone.
    """
    mode = "snapshot" if source == "snapshot" else "journal"
    cases = []
    with _cluster(directory, mode, start_timeout_s=_TIMEOUT_S) as cluster:
        if source != "nothing":
            with connect(cluster.cluster_spec, transport) as client:
                # One variable more that has no update: a journal that outgrows the variables makes way for a snapshot.
                _fill(client, sizes, sizes.held_variables + 1)
        if source == "snapshot":
            cluster.restart_ps(0)  # the good end takes one
        for files in ("memory", "disk") if source != "nothing" else ("memory",):
            command.progress(f"recovery from {source}, files in {files}")
            taken = [_recovery(cluster, transport, sizes, files == "disk", source) for _ in range(rounds)]
            cases.append(
                {
                    "part": "recovery",
                    "transport": transport,
                    "source": source,
                    "files": files,
                    "bytes": 0 if source == "nothing" else sizes.held_bytes,
                    **{name: summary([each[name] for each in taken]) for name in taken[0]},
                }
            )
    return cases


def _recovery(cluster: LocalCluster, transport: str, sizes: Sizes, is_cold: bool, source: str) -> dict[str, float]:
    cluster.kill_ps(0)
    if is_cold and cluster.data_dir is not None:
        _forget_files(cluster.data_dir)
    began_s = time.monotonic()
    cluster.restart_ps(0)
    taken = {"listening_s": time.monotonic() - began_s, "cpu_s": cpu_seconds(cluster.ps_pid(0))}
    expected = 0.0 if source == "nothing" else _HELD_VALUE
    with connect(cluster.cluster_spec, transport) as client:
        last = _held(client, sizes, sizes.held_variables)[-1]
        first_read = float(last.gather([last.shape[0] - 1])[0])
        taken["first_read_s"] = time.monotonic() - began_s
    if first_read != expected:
        raise RuntimeError(f"{last.name} ends with {first_read} after a recovery from {source}, not {expected}")
    return taken


_HELD_VALUE = 2.5


def _fill(client: ss.Client, sizes: Sizes, count: int) -> None:
    value = np.full(sizes.held_bytes // sizes.held_variables // FLOAT_BYTES, _HELD_VALUE, np.float32)
    for variable in _held(client, sizes, count)[: sizes.held_variables]:
        variable.assign(value)


def _held(client: ss.Client, sizes: Sizes, count: int) -> list[Any]:
    elements = sizes.held_bytes // sizes.held_variables // FLOAT_BYTES
    with client.as_default(), ss.variable_scope("held", reuse=ss.AUTO_REUSE):
        return [ss.get_variable(f"v{i}", [elements], initializer=ss.zeros_initializer()) for i in range(count)]


def _update(client: ss.Client, name: str, size_bytes: int) -> Callable[[], object]:
    """Returns what adds ones to all of a variable of that size."""
    with client.as_default():
        variable = ss.get_variable(name, [size_bytes // FLOAT_BYTES], initializer=ss.zeros_initializer())
    delta = np.ones(variable.shape, np.float32)
    return lambda: variable.assign_add(delta)


def _write_times(directory: Path, size_bytes: int, count: int) -> list[float]:
    """Returns how long the disk takes, each time, for so many more bytes at the end of a file and fdatasync."""
    content = memoryview(np.random.default_rng(0).bytes(size_bytes))
    times = []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        for _ in range(count):
            began_s = time.perf_counter()
            for start in range(0, size_bytes, _WRITE_BYTES):
                file.write(content[start : start + _WRITE_BYTES])
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began_s)
    return times


def _forget_files(directory: Path) -> None:
    """Has the system drop what it holds of the files in memory; they are on the disk."""
    for path in directory.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
