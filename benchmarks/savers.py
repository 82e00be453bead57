"""How fast ``train.Saver`` saves and restores, and in how much memory of the worker.

``python -m benchmarks.savers [--bytes 1e9] [--rounds 5] [--transport socket shm] [--peer tensorflow=PYTHON]``

In each round take turns: ``dd``, which writes as many bytes to the same folder, synced at its end; by each transport in
each form a save, which is synced as well, and a restore from the system's cache; and TensorFlow's own Saver with the
same values, all of them in its own process. A ratio is the median of those of the rounds. Processor time is that of the
worker; its memory is the most beside a save or a restore that was not there before and is no other process's too.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

import shardscope as ss
import worker_client.compat.v1 as tf
from benchmarks.checkpoints import NUM_PS, dd, timed
from benchmarks.harness import command
from benchmarks.harness.record import Record
from benchmarks.harness.tables import Table, number
from ps_cluster import LocalCluster
from worker_client.training.savers.formats import FORMATS

BENCHMARK = "savers"

_VARIABLES: Final = 16
_SAMPLE_S: Final = 0.005
_ROOT: Final = Path(__file__).parents[1]


def measure(
    *, size_bytes: int, rounds: int, transports: Sequence[str], folder: Path, peer: Sequence[str] | None
) -> dict[str, Any]:
    """Returns for each round how long each took, in seconds, with processor time and memory in bytes."""
    found: list[dict[str, dict[str, float]]] = []
    with LocalCluster(NUM_PS, len(transports)) as cluster, contextlib.ExitStack() as open_sessions:
        total_bytes, sessions = 0, {}
        for worker, transport in enumerate(transports):
            client = open_sessions.enter_context(
                ss.connect(cluster.cluster_spec, "worker", worker, transport=transport)
            )
            with tf.Graph().as_default():
                total_bytes = _make_variables(transport, size_bytes)
                session = open_sessions.enter_context(contextlib.closing(tf.Session(client)))
                session.run(tf.global_variables_initializer())
                sessions[transport] = session, {form: tf.train.Saver(write_format=form) for form in FORMATS}
        for turn in range(rounds):
            command.progress(f"round {turn + 1} of {rounds}, load average {os.getloadavg()[0]:.1f}")
            row = {"dd": {"save": timed(lambda: dd(folder, total_bytes)), "load": os.getloadavg()[0]}}
            for transport, (session, savers) in sessions.items():
                for form, saver in savers.items():
                    row[f"{transport} {form}"] = _saved_and_restored(saver, session, folder / "own")
            if peer is not None:
                row["TensorFlow's own"] = _of_peer(peer, total_bytes, folder / "peer")
            found.append(row)
    return {"bytes": total_bytes, "rounds": found}


def _make_variables(transport: str, size_bytes: int) -> int:
    elements = max(1, size_bytes // 4 // _VARIABLES)
    with tf.variable_scope(transport):
        for index in range(_VARIABLES):
            with tf.device(f"/job:ps/task:{index % NUM_PS}"):
                tf.get_variable(f"value_{index}", [elements], initializer=tf.ones_initializer())
    return 4 * elements * _VARIABLES


def _saved_and_restored(saver: Any, session: Any, folder: Path) -> dict[str, float]:
    folder.mkdir()
    found: dict[str, float] = {}
    for name, work in (
        ("save", lambda: saver.save(session, folder / "m", write_state=False)),
        ("restore", lambda: saver.restore(session, folder / "m")),
    ):
        with _memory(found, f"{name}_memory"):
            used_s = time.process_time()
            found[name] = timed(work)
            found[f"{name}_processor"] = time.process_time() - used_s
    shutil.rmtree(folder)
    return found


@contextlib.contextmanager
def _memory(found: dict[str, float], name: str) -> Iterator[None]:
    """Notes the most memory of this process inside the block, beyond that at its beginning."""
    process, has_ended = psutil.Process(), threading.Event()

    def own_bytes() -> int:
        memory = process.memory_info()
        return int(memory.rss - memory.shared)

    before = most = own_bytes()

    def look() -> None:
        nonlocal most
        while not has_ended.wait(_SAMPLE_S):
            most = max(most, own_bytes())

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield
    finally:
        has_ended.set()
        watching.join()
        found[name] = most - before


def _of_peer(peer: Sequence[str], size_bytes: int, folder: Path) -> dict[str, float]:
    folder.mkdir()
    program = [*peer, "-m", "benchmarks.peers.tensorflow_saver", str(size_bytes), str(_VARIABLES), str(folder)]
    done = subprocess.run(program, cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True)
    shutil.rmtree(folder)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def tables(record: Record) -> list[Table]:
    """Returns the figures as tables."""
    found = record["results"]
    rounds, size_bytes = found["rounds"], found["bytes"]

    def median(value: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median([value(each) for each in rounds])

    rows: list[Sequence[str]] = [
        ("dd", "write", f"{size_bytes / median(lambda row: row['dd']['save']) / 1e6:.0f} MB/s")
    ]
    rows = [(*row, "1", "", "") for row in rows]
    for who in [each for each in rounds[0] if each != "dd"]:
        for what in [each for each in ("save", "save_and_sync", "restore") if each in rounds[0][who]]:
            ratios = [row["dd"]["save"] / row[who][what] for row in rounds]
            taken = [each[who] for each in rounds]
            has_more = f"{what}_memory" in taken[0]
            rows.append(
                (
                    who,
                    what.replace("_", " "),
                    f"{size_bytes / median(lambda row: row[who][what]) / 1e6:.0f} MB/s",  # noqa: B023
                    f"{number(statistics.median(ratios))} ({number(min(ratios))} to {number(max(ratios))})",
                    f"{statistics.median([each[f'{what}_processor'] for each in taken]):.2f} s" if has_more else "",
                    f"{max([each[f'{what}_memory'] for each in taken]) / 2**20:.0f} MiB" if has_more else "",
                )
            )
    loads = [row["dd"]["load"] for row in rounds]
    title = (
        f"{size_bytes / 1e9:.2f} GB in {_VARIABLES} variables on {NUM_PS} ps tasks, {len(rounds)} rounds, load average "
        f"{min(loads):.0f} to {max(loads):.0f}"
    )
    return [Table(title, ("", "", "median", "of dd", "worker's processor time", "its memory"), rows, labels=2)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and shows the figures; returns the exit code."""
    parser = command.parser(__doc__)
    parser.set_defaults(transport=["socket", "shm"])
    parser.add_argument("--bytes", type=float, default=1e9, help="of all variables (default: %(default)g)")
    parser.add_argument("--rounds", type=command.positive, default=5, help="(default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where to save (default: a temporary folder)")
    parser.add_argument("--peer", metavar="tensorflow=PYTHON", help="an interpreter that has TensorFlow")
    given = parser.parse_args(arguments)
    peer = None if given.peer is None else [given.peer.removeprefix("tensorflow=")]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        found = measure(
            size_bytes=int(given.bytes),
            rounds=given.rounds,
            transports=given.transport,
            folder=Path(folder),
            peer=peer,
        )
    command.finish(BENCHMARK, "benchmarks.savers", found, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
