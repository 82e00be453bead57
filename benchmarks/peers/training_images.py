"""The images that are trained on, without Shardscope, for the environments of its peers too."""

import os
from pathlib import Path
from typing import Any, Final

import numpy as np

NAMES: Final = ("digits", "fashion")
"""Handwritten digits of 8 x 8 pixels, which lie beside the examples; Fashion-MNIST, 28 x 28, of Debian's package
``dataset-fashion-mnist``."""

VARIABLE: Final = "BENCHMARK_IMAGES"
"""Of the environment: which of them all processes of a run take."""

HELD_OUT: Final = 360
_EXAMPLES: Final = Path(__file__).parents[2] / "examples"


def name() -> str:
    """Which images this process takes."""
    return os.environ.get(VARIABLE, NAMES[0])


def num_pixels() -> int:
    """Of each image."""
    return {"digits": 64, "fashion": 784}[name()]


def load_images() -> Any:
    """Returns training images and classes, then held-out ones; images as rows of float32 from 0 to 1."""
    if name() == "fashion":
        from examples.tf1 import image_data  # noqa: PLC0415 - most runs do without

        found = image_data.load(str(image_data.FASHION_MNIST))
        return found.train, found.train_labels, found.test, found.test_labels
    table = np.loadtxt(_EXAMPLES / "data" / "digits.csv.gz", delimiter=",", dtype=np.float32)
    table = table[np.random.default_rng(0).permutation(len(table))]
    images, digits = table[:, :-1] / 16, table[:, -1].astype(np.int64)
    return images[HELD_OUT:], digits[HELD_OUT:], images[:HELD_OUT], digits[:HELD_OUT]
