"""How fast TensorFlow's checkpoints are: ``python -m benchmarks.tensorflow_checkpoints [--mib N] [--rounds N]``.

A checkpoint is written to ``--directory``, of many variables and a few large ones. Then opening it, reading all of it,
and reading its data file with nothing else (``open(path, "rb").read()``) take turns. All come from the system's cache,
which is the hardest case for whoever does more than read. A ratio is the median of those of the rounds: of the clock,
and of this process's processor time, which says more on a busy machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from ps_protocol.tensorflow_files.bundle import shard_path
from ps_protocol.tensorflow_files.bundle_writer import new_checkpoint
from ps_protocol.tensorflow_files.checkpoint import open_tensorflow

_LARGE: Final = 16
_SMALL: Final = 2000


def write(prefix: Path, mib: int) -> float:
    """Writes a checkpoint; returns how long that took, with the sync of the disk, in seconds."""
    random = np.random.default_rng(0)
    large = random.random((mib * 2**20 // _LARGE // 256, 64), np.float32)
    started = time.perf_counter()
    with new_checkpoint(prefix) as writer:
        for number in range(_LARGE):
            writer.add(f"embedding_{number}/rows", large)
        for number in range(_SMALL):
            writer.add(f"layer_{number:04d}/bias", large[0])
    return time.perf_counter() - started


def read_file(prefix: Path) -> None:
    """Reads the data file, as one piece of bytes."""
    with shard_path(prefix, 0, 1).open("rb") as file:
        file.read()


def read_all(prefix: Path) -> None:
    """Reads all tensors, which are checked, and keeps them."""
    with open_tensorflow(prefix) as checkpoint:
        found = [tensor.read() for tensor in checkpoint.values()]
    del found


def open_and_read_one(prefix: Path) -> None:
    """Opens the checkpoint, and reads a small tensor."""
    with open_tensorflow(prefix) as checkpoint:
        checkpoint["layer_1000/bias"].read()


def verify(prefix: Path) -> None:
    """Compares all of it with its checksums, and keeps nothing."""
    with open_tensorflow(prefix) as checkpoint:
        for tensor in checkpoint.values():
            tensor.verify()


def seconds(call: Callable[[Path], None], prefix: Path) -> tuple[float, float]:
    """Returns how long a call takes, by the clock and in processor time."""
    started, used = time.perf_counter(), time.process_time()
    call(prefix)
    return time.perf_counter() - started, time.process_time() - used


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help="size of the checkpoint in MiB (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="(default: %(default)s)")
    parser.add_argument("--directory", type=Path, default=Path(), help="where it is written (default: here)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
        prefix = Path(folder, "model")
        size = arguments.mib * 2**20 / 1e9
        print(f"written and synced: {size / write(prefix, arguments.mib):.2f} GB/s")
        calls = (read_file, read_all, verify, open_and_read_one)
        times = [[seconds(call, prefix) for call in calls] for _ in range(arguments.rounds + 1)][1:]
        for number, call in enumerate(calls):
            print(f"{call.__name__:18}", end="")
            for kind, name in enumerate(("clock", "processor")):
                taken = [each[number][kind] for each in times]
                ratios = [each[number][kind] / each[0][kind] for each in times]
                least, most = statistics.quantiles(ratios, n=4)[::2]
                figures = f"{statistics.median(taken) * 1e3:8.1f} ms, {statistics.median(ratios):.3f} of reading"
                print(f" {name} {figures} ({least:.3f} to {most:.3f});", end="")
            print()


if __name__ == "__main__":
    main()
