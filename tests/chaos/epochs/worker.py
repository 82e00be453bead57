"""A worker of the epochs: adds each sample of its shards to a histogram, in pieces, and hands the shards in."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any, Final

import numpy as np

import worker_client as ss
from ps_protocol import fault_points
from ps_protocol.training.sync_policy import RowMean, SyncPolicy
from tests.chaos.patience import connect_impatiently

LEASE_S: Final = 1.0
OPERATION_TIMEOUT_S: Final = 120.0
NAME: Final = "epochs"


def histogram(samples: int, dtype: str = "int64") -> Any:
    """How often each sample was counted; its parts are on all ps tasks, which have some of each shard."""
    return ss.get_variable(
        "samples", [samples], dtype, initializer=ss.zeros_initializer(), partitioner=ss.fixed_size_partitioner(2)
    )


class InRounds:
    """Counts in rounds of training together: the gradient of a sample is -1, and no two of a round have the same.

    Args:
        samples: How many there are.
        sync: How the workers train.
    """

    def __init__(self, samples: int, sync: str):
        policy = SyncPolicy.parse(sync)
        self.variable = histogram(samples, "float32")
        self._optimizer = ss.train.GradientDescent(1.0, name="count", sync=replace(policy, row_mean=RowMean.PRESENT))
        self._is_in = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the histogram."""
        shape: tuple[int, ...] = self.variable.shape
        return shape

    def finish(self) -> None:
        """Others do not wait for this one any more, until it counts again."""
        self._optimizer.finish()
        self._is_in = False

    def scatter_add(self, rows: Any, _one: int, *, completes: Any) -> None:
        """Counts samples, as the variable itself does; again and again, until a round has them."""
        if not self._is_in:
            self._optimizer.join([self.variable])
            self._is_in = True
        gradient = ss.IndexedSlices(np.full(len(rows), -1, np.float32), rows)
        while not self._optimizer.apply_gradients([(gradient, self.variable)], completes=completes)[0].counts:
            pass


def shards_of(count: int, epochs: int, seed: int) -> ss.data.Shards:
    """What all workers take."""
    return ss.data.Shards(NAME, count, epochs, shuffle_seed=seed, timeout_s=OPERATION_TIMEOUT_S)


def count_shard(counted: Any, shard: ss.data.Shard, count: int, batch: int) -> None:
    """Counts what is left of a shard of so many, in pieces that end at the same positions for all who may have it."""
    own = np.arange(shard.index, counted.shape[0], count)
    for begin in range(shard.resume_at, len(own), batch):
        end = begin + batch
        piece = shard if end >= len(own) else shard.up_to(end)
        counted.scatter_add(own[begin:end], 1, completes=piece)


def count_samples(counted: Any, shards: ss.data.Shards, batch: int) -> int:
    """Counts until all epochs are over; returns how many shards were lost meanwhile, as this one was silent."""
    lost = 0
    for shard in shards:
        try:
            count_shard(counted, shard, shards.count, batch)
        except ss.errors.AbortedError:
            lost += 1
    return lost


def main() -> None:
    """Runs as the task that TF_CONFIG names, and dies where the faults of its environment say."""
    parser = argparse.ArgumentParser()
    for name in ("--samples", "--shards", "--epochs", "--batch", "--seed"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--sync", default="")
    options = parser.parse_args()
    with connect_impatiently(
        connect_timeout_s=OPERATION_TIMEOUT_S, operation_timeout_s=OPERATION_TIMEOUT_S, lease_s=LEASE_S
    ):
        counted = InRounds(options.samples, options.sync) if options.sync else histogram(options.samples)
        shards = shards_of(options.shards, options.epochs, options.seed)
        fault_points.install_from_environment(is_allowed=True)
        lost = count_samples(counted, shards, options.batch)
    sys.stdout.write(f"{lost} shards lost\n")


if __name__ == "__main__":
    main()
