"""Names, numbers and messages about the data shards of an epoch, which workers take and hand in.

An epoch gives out its shards by *places*, 0, 1, ...: which shard has a place follows from the seed and the epoch, for
all workers alike. How far a shard has come is a *position* in it: 0 at first, ``END`` when it is handed in.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

SHARDS_KIND: Final = "data_shards"
"""Kind of the object that knows who has which shard; it is on ps task 0."""

RECEIPTS_KIND: Final = "shard_receipts"
"""Kind of the object of each other ps task that knows which updates of shards it has applied."""

NAMES_KIND: Final = "shard_names"
"""Kind of the object of ps task 0 that lists all shards."""

NAMES: Final = "shard_names"
"""Full name of its variable."""

MAX_SHARDS: Final = 1 << 20
MAX_EPOCHS: Final = 1 << 31
MAX_POSITION: Final = 1 << 53
END: Final = -1
"""Position of a shard that is handed in."""

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


def shards_name(name: str) -> str:
    """Full name of the variable that has the shards of that name."""
    return f"shards/{name}"


def receipts_name(name: str, ps_task: int) -> str:
    """Full name of the variable that has the receipts of one ps task for these shards."""
    return f"{shards_name(name)}/receipts/{ps_task}"


def shard_order(count: int, seed: int | None, epoch: int) -> npt.NDArray[np.int64]:
    """Returns which shard has each place: ``[count]``; the same on every machine, and with every version of NumPy.

    Args:
        count: How many shards there are.
        seed: Of the shuffle; None for the shards' own order.
        epoch: From 0.
    """
    places = np.arange(count, dtype=np.uint64)
    if seed is None:
        return places.astype(np.int64)
    start = _mixed(_mixed(np.array([seed], np.uint64)) + np.uint64(epoch))
    return np.argsort(_mixed(start + places), kind="stable").astype(np.int64)


def _mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", 2014)."""
    mixed = (numbers + np.uint64(1)) * _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def shard_words(count: int, seed: int | None, epoch: int, place: int) -> str:
    """A shard in words, as "shard 7 of epoch 2"."""
    index = int(shard_order(count, seed, epoch)[place]) if 0 <= place < count else place
    return f"shard {index} of epoch {epoch}"


def piece_words(begin: int, end: int) -> str:
    """A piece of a shard in words, as "0 to 64"."""
    return f"{begin} to {'its end' if end == END else end}"
