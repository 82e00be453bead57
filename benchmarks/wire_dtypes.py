"""What the lossy forms cost and save: ``python -m benchmarks.wire_dtypes [--mib N] [--repeats N]``.

Rates are those of the array, in 10^6 bytes of float32 or float64 for each second of this process's processor time, the
best of some runs; so is the rate at which memory is copied, for comparison. They use one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from ps_protocol.codec import tensor_codec, wire_dtypes
from ps_protocol.operations import Array, Update, UpdateRule, WireDType
from ps_protocol.v1.tensor_pb2 import TensorHeader
from worker_client.variables.error_feedback import ErrorFeedback

LOSSY: Final = (WireDType.BFLOAT16, WireDType.FLOAT16, WireDType.INT8)


def best_rate(call: Callable[[], object], size_bytes: int, repeats: int) -> float:
    """Returns the highest rate of some calls, in MB for each second of processor time."""
    call()
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        seconds.append(time.process_time() - started)
    return size_bytes / 1e6 / min(seconds)


def rows(values: Array, repeats: int) -> Iterator[tuple[str, int, float, float, float]]:
    """Yields for each form its name, its bytes, and the rates of encoding, of decoding and of a push.

    A push is the client's part of an ``assign_add``: encoding with error feedback.
    """
    decoded = np.empty_like(values)
    size_bytes = values.nbytes
    copying = best_rate(lambda: np.copyto(decoded, values), size_bytes, repeats)
    yield "exact (copied)", size_bytes, copying, copying, copying
    for wire in LOSSY:
        yield _row(wire, values, decoded, repeats)


def _row(wire: WireDType, values: Array, decoded: Array, repeats: int) -> tuple[str, int, float, float, float]:
    encoded, feedback = wire_dtypes.encode(wire, values), ErrorFeedback()
    update = Update("w", UpdateRule.ASSIGN_ADD, values, wire)

    def push() -> None:
        operation = feedback.push(update).operation
        tensor_codec.encode_into(TensorHeader(), operation.value, wire, operation.encoded)

    calls: list[Callable[[], Any]] = [
        lambda: wire_dtypes.encode(wire, values),
        lambda: wire_dtypes.decode_into(wire, encoded, decoded),
        push,
    ]
    encoding, decoding, pushing = [best_rate(call, values.nbytes, repeats) for call in calls]
    return wire.name.lower(), encoded.nbytes, encoding, decoding, pushing


def main() -> None:
    """Prints a table for each dtype."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=100, help="size of the array in MiB (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="runs of which the best counts (default: %(default)s)")
    arguments = parser.parse_args()
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        values = np.random.default_rng(0).standard_normal(arguments.mib * 2**20 // dtype.itemsize).astype(dtype)
        print(f"{values.nbytes / 1e6:.1f} MB of {dtype}, MB/s of processor time:")
        print(f"{'form':16}{'bytes':>8}{'encode':>9}{'decode':>9}{'push':>9}")
        for name, size_bytes, *rates in rows(values, arguments.repeats):
            share = size_bytes / values.nbytes
            print(f"{name:16}{share:8.1%}" + "".join(f"{rate:9.0f}" for rate in rates))


if __name__ == "__main__":
    main()
