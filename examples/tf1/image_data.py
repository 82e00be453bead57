"""Images to train on: Fashion-MNIST where its Debian package is installed, else the digits beside this file."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its four files."""

INSTALL = "apt install dataset-fashion-mnist"
DIGITS = Path(__file__).resolve().parents[1] / "data" / "digits.csv.gz"
HELD_OUT_DIGITS = 360


class Images(NamedTuple):
    """Images as rows of numbers from 0 to 1, and the class of each, from 0 to 9.

    Attributes:
        name: What they are, for people.
        side: Height and width in pixels.
        train: Float32, shape ``[n, side * side]``.
        train_labels: Int64, shape ``[n]``.
        test: As ``train``; not to be trained on.
        test_labels: Of ``test``.
    """

    name: str
    side: int
    train: Any
    train_labels: Any
    test: Any
    test_labels: Any


def load(directory: str = "", part: int = 0, num_parts: int = 1) -> Images:
    """Returns one part of the images to train on, every ``num_parts``-th of them, and all test images.

    Args:
        directory: Of files in MNIST's form. If not given, Debian's if they are installed, else the digits are taken;
            "digits" takes those in any case.
        part: Which part.
        num_parts: How many there are.

    Raises:
        SystemExit: The directory has no such files.
    """
    mine = slice(part, None, num_parts)
    if directory == "digits" or (not directory and not FASHION_MNIST.is_dir()):
        return _digits("digits" if directory else f"digits; `{INSTALL}` for more", mine)
    return _mnist(Path(directory or FASHION_MNIST), mine)


def _digits(name: str, mine: slice) -> Images:
    table = np.loadtxt(DIGITS, delimiter=",", dtype=np.float32)
    table = table[np.random.default_rng(0).permutation(len(table))]  # the same split on every worker
    images, labels = table[:, :-1] / 16, table[:, -1].astype(np.int64)
    train, train_labels = images[HELD_OUT_DIGITS:], labels[HELD_OUT_DIGITS:]
    test, test_labels = images[:HELD_OUT_DIGITS], labels[:HELD_OUT_DIGITS]
    return Images(name, 8, train[mine], train_labels[mine], test, test_labels)


def _mnist(directory: Path, mine: slice) -> Images:
    directory = directory.resolve()
    images = [_numbers(directory / f"{name}-images-idx3-ubyte.gz", 16) for name in ("train", "t10k")]
    labels = [_numbers(directory / f"{name}-labels-idx1-ubyte.gz", 8).astype(np.int64) for name in ("train", "t10k")]
    train, test = (each.reshape(-1, 28 * 28) for each in images)
    train, test = ((each / np.float32(255)).astype(np.float32) for each in (train[mine], test))
    return Images(f"{directory.name}, {len(labels[0]):,} images", 28, train, labels[0][mine], test, labels[1])


def _numbers(path: Path, header_bytes: int) -> Any:
    """Returns the bytes of a file in MNIST's form, whose header says how many there are."""
    if not path.is_file():
        raise SystemExit(f"There is no {path}.\nFashion-MNIST comes with `{INSTALL}`.")
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header_bytes)
