"""Counts each sample of some epochs in a histogram on the ps, while workers and ps tasks are killed at random.

``python -m tests.chaos.epochs --seed 5 --kills 12`` prints how many samples were counted how often; its exit code is 0
if that is as often as there are epochs, for every sample, and if all kills happened. Some workers are stopped, too, for
longer than their lease. With ``--sync bsp``, or another policy, they count in rounds. ``--replicas 1`` has backups take
over from the ps tasks that are killed; without, they come back with their journals.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

import worker_client as ss
from ps_cluster import LocalCluster
from ps_cluster.local.processes import ChildProcess
from ps_protocol.errors import AbortedError, ShardscopeError
from tests.chaos.epochs.worker import LEASE_S, OPERATION_TIMEOUT_S, InRounds, count_shard, histogram, shards_of
from tests.chaos.patience import connect_impatiently
from tests.chaos.soak.pairs import LEASE_S as PAIR_LEASE_S
from tests.chaos.soak.pairs import NotHealedError, Pairs

_NUM_PS: Final = 2
_NUM_WORKERS: Final = 3
_SHARD_SAMPLES: Final = 9
_BATCH: Final = 2
_POLL_S: Final = 0.01
_LAST_KILL: Final = 0.9
"""The last kill comes when this part of the shards is handed in, so that some work follows it."""


class Epochs:
    """One run, in a directory that is its own.

    Args:
        options: How much of what.
        directory: For what the ps tasks keep.
        say: Told what happens.
    """

    def __init__(self, options: argparse.Namespace, directory: Path, say: Callable[[str], None]):
        self._options = options
        self._directory = directory
        self._say = say
        self._random = random.Random(options.seed)
        self._samples = options.shards * _SHARD_SAMPLES
        self._workers: dict[int, ChildProcess] = {}
        self._deadline_s: float = time.monotonic() + options.timeout
        self.kills: Counter[str] = Counter()

    def run(self) -> Counter[int]:
        """Returns how many samples were counted how often."""
        options = self._options
        with (
            LocalCluster(
                _NUM_PS,
                _NUM_WORKERS + options.replicas,  # with the one that comes anew after each kill of a pair's process
                replicas=options.replicas,
                durability="none" if options.replicas else "journal",
                data_dir=None if options.replicas else self._directory / "data",
                ps_arguments=["--lease", str(PAIR_LEASE_S)] if options.replicas else [],
                start_timeout_s=OPERATION_TIMEOUT_S,  # a long log is carried out again, beside all else
            ) as cluster,
            connect_impatiently(cluster.cluster_spec, "evaluator", operation_timeout_s=OPERATION_TIMEOUT_S),
        ):
            counted: Any = InRounds(self._samples, options.sync) if options.sync else histogram(self._samples)
            shards = shards_of(options.shards, options.epochs, options.seed)
            self._kill_now_and_then(cluster, shards, counted)
            for index, worker in self._workers.items():
                if worker.wait(self._remaining_s()) != 0:
                    raise EpochsError(f"worker:{index} has ended with {worker.returncode}: {worker.tail[-12:]}")
            progress = shards.progress()
            self._say(f"handed in: {dict(sorted(progress.handed_in.items()))}")
            if not progress.is_complete:
                raise EpochsError(f"the workers have ended, but not the epochs: {progress}")
            values = (counted.variable if options.sync else counted).read_value()
            return Counter([int(each) if each == int(each) else each for each in np.asarray(values).tolist()])

    def _kill_now_and_then(self, cluster: LocalCluster, shards: ss.data.Shards, counted: Any) -> None:
        """Holds a shard of each epoch until its kills have happened, so that no epoch ends before."""
        options = self._options
        victims = [*(["worker", "ps"] * options.kills)[: options.kills], *["stop"] * options.stops]
        self._random.shuffle(victims)
        moments = sorted([self._random.uniform(0.02, _LAST_KILL) * options.epochs for _ in victims])
        pairs = Pairs(cluster, str(options.seed), self._say) if options.replicas else None
        if pairs is not None:
            pairs.heal()
        for held in shards:
            if not self._workers:
                for index in range(_NUM_WORKERS):
                    self._start_worker(cluster, index)
            while moments and moments[0] < held.epoch + 1:
                self._trouble(cluster, shards, moments.pop(0) * options.shards, victims.pop(0), pairs)
            with contextlib.suppress(AbortedError):  # it was silent for longer than its lease: another one counts it
                count_shard(counted, held, shards.count, _BATCH)
            if options.sync:
                counted.finish()  # it holds the next shard for long, and makes no steps meanwhile
            if held.epoch == options.epochs - 1:
                return

    def _trouble(
        self, cluster: LocalCluster, shards: ss.data.Shards, moment: float, victim: str, pairs: Pairs | None
    ) -> None:
        self._await_progress(shards, moment)
        if victim == "ps" and pairs is not None:
            pairs.trouble("kill")
            self.kills["ps"] += 1
        elif victim == "ps":
            self._kill_ps(cluster, self._random.randrange(_NUM_PS))
        else:
            self._trouble_worker(cluster, self._random.randrange(_NUM_WORKERS), victim)

    def _await_progress(self, shards: ss.data.Shards, moment: float) -> None:
        while True:
            progress = shards.progress()
            if progress.epoch * progress.count + progress.done >= min(
                moment, (progress.epoch + 1) * progress.count - 1
            ):
                return
            for index, worker in self._workers.items():
                if worker.returncode is not None:
                    raise EpochsError(f"worker:{index} has ended with {worker.returncode}: {worker.tail[-12:]}")
            if not self._remaining_s():
                raise EpochsError(f"it took longer than {self._options.timeout:.0f} s: {progress}")
            time.sleep(_POLL_S)

    def _kill_ps(self, cluster: LocalCluster, index: int) -> None:
        cluster.kill_ps(index)
        if cluster.ps_exit_code(index) != -signal.SIGKILL:
            raise EpochsError(f"ps:{index} had ended by itself: {cluster.ps_log(index)}")
        cluster.restart_ps(index)
        self.kills["ps"] += 1
        self._say(f"killed ps:{index}")

    def _trouble_worker(self, cluster: LocalCluster, index: int, trouble: str) -> None:
        worker = self._workers[index]
        if worker.returncode is not None:
            raise EpochsError(f"worker:{index} had ended by itself: {worker.tail[-12:]}")
        if trouble == "stop":  # for longer than its lease, so that it wakes up without its shard
            worker.send_signal(signal.SIGSTOP)
            time.sleep(2 * LEASE_S)
            worker.send_signal(signal.SIGCONT)
            self._say(f"stopped worker:{index} for {2 * LEASE_S:.0f} s")
            return
        worker.send_signal(signal.SIGKILL)
        worker.wait(self._remaining_s())
        self._start_worker(cluster, index)
        self.kills["worker"] += 1
        self._say(f"killed worker:{index}")

    def _start_worker(self, cluster: LocalCluster, index: int) -> None:
        options: dict[str, Any] = {
            "samples": self._samples,
            "shards": self._options.shards,
            "epochs": self._options.epochs,
            "batch": _BATCH,
            "seed": self._options.seed,
            "sync": self._options.sync,
        }
        flags = [text for name, value in options.items() if value != "" for text in (f"--{name}", str(value))]
        self._workers[index] = cluster.start_worker(index, ["python", "-m", "tests.chaos.epochs.worker", *flags])

    def _remaining_s(self) -> float:
        return max(0.0, self._deadline_s - time.monotonic())


class EpochsError(Exception):
    """The run cannot go on."""


def main(arguments: list[str]) -> int:
    """Runs it and prints what came of it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.epochs")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--stops", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--shards", type=int, help="of each epoch; 1200, with --sync 300")
    parser.add_argument("--sync", default="", help="how the workers train together; without, each counts by itself")
    parser.add_argument("--replicas", type=int, default=0, choices=(0, 1))
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds")
    options = parser.parse_args(arguments)
    options.shards = options.shards or (300 if options.sync else 1200)
    say = functools.partial(print, flush=True)
    say(f"epochs: {vars(options)}")
    with tempfile.TemporaryDirectory(prefix="shardscope-epochs-") as directory:
        epochs = Epochs(options, Path(directory), say)
        try:
            found = epochs.run()
        except (EpochsError, ShardscopeError, NotHealedError) as error:
            say(f"failed: {type(error).__name__}: {error}")
            return 1
    say(f"kills: {', '.join([f'{number} of {what}' for what, number in sorted(epochs.kills.items())])}")
    for times, samples in sorted(found.items()):
        say(f"counted {times} times: {samples} samples{'' if times == options.epochs else '  WRONG'}")
    return 0 if set(found) == {options.epochs} and epochs.kills.total() == options.kills else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
