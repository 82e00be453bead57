"""What it costs that each sample counts once: ``python -m benchmarks.studies.data_shards``.

Two tables:

- *updates*: additions to vectors on one or on both of two ps tasks, by one worker over sockets: plain ones, and such
  that complete a piece of a shard (``resume_at``); and additions in this process, of which each shard sends the sum
  with its hand-in (held back until it completes);
- *training*: the loss of a logistic regression after an epoch, by steps that are made at once, and by the same steps
  held back until their shard completes, whose gradients all come from the model at its beginning.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any, Final

import numpy as np

import worker_client as ss
from ps_cluster import LocalCluster
from ps_protocol.operations import Array

PIECES: Final = 32
"""Of a shard."""

ELEMENTS: Final = 1000
SHARDS: Final = 8
FEATURES: Final = 64
BATCH: Final = 16


def plain(client: ss.Client, variables: list[Any], shards: ss.data.Shards) -> None:
    """Updates that say nothing of a shard, which is handed in alone."""
    delta = np.ones(ELEMENTS, np.float32)
    for shard in shards:
        for _ in range(PIECES):
            client.assign_add_all([(each, delta) for each in variables])
        shard.hand_in()


def in_pieces(client: ss.Client, variables: list[Any], shards: ss.data.Shards) -> None:
    """Each update completes a piece."""
    delta = np.ones(ELEMENTS, np.float32)
    for shard in shards:
        for number in range(PIECES):
            piece = shard if number == PIECES - 1 else shard.up_to(number + 1)
            client.assign_add_all([(each, delta) for each in variables], completes=piece)


def held_back(client: ss.Client, variables: list[Any], shards: ss.data.Shards) -> None:
    """All updates of a shard are summed up here, and sent with its hand-in."""
    delta = np.ones(ELEMENTS, np.float32)
    for shard in shards:
        sums = [np.zeros(ELEMENTS, np.float32) for _ in variables]
        for _ in range(PIECES):
            for each in sums:
                np.add(each, delta, out=each)
        client.assign_add_all(list(zip(variables, sums, strict=True)), completes=shard)


def show_updates(client: ss.Client, rounds: int) -> None:
    """Prints the first table: milliseconds for each update."""
    variables = []
    for task in range(2):
        with ss.device(f"/job:ps/task:{task}"):
            variables.append(ss.get_variable(f"vector_{task}", [ELEMENTS], initializer=ss.zeros_initializer()))
    ways = {"plain": plain, "resume_at": in_pieces, "held back": held_back}
    places = {"ps:0": variables[:1], "ps:1": variables[1:], "both": variables}
    found: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        for way, work in ways.items():
            for place, chosen in places.items():
                shards = ss.data.Shards(f"{way}/{place}/{number}", SHARDS)
                started_s = time.perf_counter()
                work(client, chosen, shards)
                found.setdefault((way, place), []).append((time.perf_counter() - started_s) / SHARDS / PIECES)
    print(f"{'ms an update':<14}" + "".join([f"{place:>10}" for place in places]))
    for way in ways:
        medians = [statistics.median(found[way, place]) * 1000 for place in places]
        print(f"{way:<14}" + "".join([f"{each:>10.3f}" for each in medians]))


def gradient(weights: Array, features: Array, labels: Array) -> tuple[Array, float]:
    """Of the mean logistic loss, and that."""
    margins = features @ weights
    chances = 1 / (1 + np.exp(-margins))
    loss = float(np.mean(np.logaddexp(0, margins) - labels * margins))
    return (features.T @ (chances - labels) / len(labels)).astype(np.float32), loss


def show_training(client: ss.Client) -> None:
    """Prints the second table."""
    draw = np.random.default_rng(5)
    features = draw.standard_normal((SHARDS * PIECES * BATCH, FEATURES)).astype(np.float32)
    labels = (features @ draw.standard_normal(FEATURES) + draw.standard_normal(len(features)) > 0).astype(np.float32)
    print(f"{'learning rate':<14}{'at once':>10}{'held back':>10}")
    for rate in (0.1, 1.0, 4.0):
        losses = []
        for held in (False, True):
            name = f"weights_{rate}_{held}"
            weights: Any = ss.get_variable(name, [FEATURES], initializer=ss.zeros_initializer())
            sgd = ss.train.GradientDescent(rate)
            for shard in ss.data.Shards(name, SHARDS, shuffle_seed=5):
                own = np.arange(shard.index * PIECES * BATCH, (shard.index + 1) * PIECES * BATCH)
                begun, total = weights.read_value(), np.zeros(FEATURES, np.float32)
                for number in range(PIECES):
                    batch = own[number * BATCH : (number + 1) * BATCH]
                    model = begun if held else weights.read_value()
                    each, _ = gradient(model, features[batch], labels[batch])
                    total += each
                    is_last = number == PIECES - 1
                    if not held:
                        piece = shard if is_last else shard.up_to(number + 1)
                        sgd.apply_gradients([(each, weights)], completes=piece)
                    elif is_last:
                        sgd.apply_gradients([(total, weights)], completes=shard)
            losses.append(gradient(weights.read_value(), features, labels)[1])
        print(f"{rate:<14}" + "".join([f"{each:>10.3f}" for each in losses]))
    del client


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with LocalCluster(num_ps=2, num_workers=1) as cluster, ss.connect(cluster.cluster_spec) as client:
        show_updates(client, options.rounds)
        show_training(client)


if __name__ == "__main__":
    main()
