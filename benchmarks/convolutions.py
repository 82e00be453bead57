"""How fast images are convolved: ``python -m benchmarks.convolutions [--tensorflow PYTHON] [--json FILE]``.

Compares the kernels, forward and by each argument backward, with a loop over all places, and with TensorFlow if the
interpreter of an environment that has it is given. Times are the least wall times of one run, on whatever threads each
has; ratios are TensorFlow's or the loop's time divided by ours: larger is better.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from worker_client.kernels import convolution
from worker_client.kernels.windows import Windows

SHAPES = (((32, 28, 28, 1), (5, 5, 1, 32)), ((32, 14, 14, 32), (5, 5, 32, 64)))

TENSORFLOW = """
import json, sys, time
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
shapes, repeats = json.loads(sys.argv[1]), int(sys.argv[2])
for images, filters in shapes:
    with tf.Graph().as_default(), tf.Session() as session:
        x, f = (tf.Variable(tf.random_normal(shape)) for shape in (images, filters))
        y = tf.nn.conv2d(x, f, [1, 1, 1, 1], "SAME")
        g = tf.Variable(tf.random_normal([int(size) for size in y.shape]))
        by_images, by_filters = tf.gradients(y, [x, f], g)
        session.run(tf.global_variables_initializer())
        found = {}
        for name, tensor in {"forward": y, "by images": by_images, "by filters": by_filters}.items():
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                session.run(tensor.op)
                times.append(1e3 * (time.perf_counter() - start))
            found[name] = min(times[1:])
        print(json.dumps(found))
"""


def least_ms(call: Callable[[], object], repeats: int) -> float:
    """The least milliseconds of some calls, the first one left out: other work on the machine counts least there."""
    times = []
    for _ in range(repeats):
        start_s = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start_s))
    return min(times[1:])


def looped(images: Any, filters: Any) -> Any:
    """Convolves place by place, with the same number of places as there are elements."""
    height, width = filters.shape[:2]
    margins = [(0, 0), (height // 2, height // 2), (width // 2, width // 2), (0, 0)]
    padded = np.pad(images, margins)
    result = np.empty((*images.shape[:3], filters.shape[3]), images.dtype)
    for row in range(images.shape[1]):
        for column in range(images.shape[2]):
            window = padded[:, row : row + height, column : column + width]
            result[:, row, column] = np.tensordot(window, filters, 3)
    return result


def own(repeats: int) -> list[dict[str, float]]:
    """Milliseconds of the kernels and of the loop, for each pair of shapes."""
    random, windows, found = np.random.default_rng(0), Windows(padding="SAME"), []
    for shape, taps in SHAPES:
        images, filters = random.standard_normal(shape, np.float32), random.standard_normal(taps, np.float32)
        made = convolution.conv2d(images, filters, windows)
        np.testing.assert_allclose(looped(images, filters), made, atol=1e-3)

        def forward(images: Any = images, filters: Any = filters) -> Any:
            return convolution.conv2d(images, filters, windows)

        def by_images(images: Any = images, filters: Any = filters, made: Any = made) -> Any:
            return convolution.conv2d_of_gradient(images.shape, filters, made, windows)

        def by_filters(images: Any = images, filters: Any = filters, made: Any = made) -> Any:
            return convolution.conv2d_of_filters(images, filters.shape, made, windows)

        def loop(images: Any = images, filters: Any = filters) -> Any:
            return looped(images, filters)

        calls = {"forward": forward, "by images": by_images, "by filters": by_filters, "loop": loop}
        found.append({name: least_ms(call, repeats) for name, call in calls.items()})
    return found


def tensorflows(python: str, repeats: int) -> list[dict[str, float]]:
    """The same of TensorFlow, without a loop."""
    command = [python, "-c", TENSORFLOW, json.dumps(SHAPES), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20, help="calls per figure")
    parser.add_argument("--tensorflow", metavar="PYTHON", help="interpreter of an environment with TensorFlow")
    parser.add_argument("--json", type=Path, help="write the figures, in milliseconds, to this file")
    arguments = parser.parse_args()
    figures = own(arguments.repeats)
    others = tensorflows(arguments.tensorflow, arguments.repeats) if arguments.tensorflow else [{} for _ in figures]
    for (images, filters), ours, theirs in zip(SHAPES, figures, others, strict=True):
        print(f"{list(images)} x {list(filters)}")
        for name, milliseconds in ours.items():
            against = (
                f", TensorFlow {theirs[name]:.2f} ms: ratio {theirs[name] / milliseconds:.2f}" if name in theirs else ""
            )
            print(f"  {name:10} {milliseconds:8.2f} ms{against}")
        print(f"  the loop takes {ours['loop'] / ours['forward']:.1f} times as long as the kernel")
    if arguments.json:
        arguments.json.write_text(json.dumps({"ours": figures, "tensorflow": others}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
