"""TensorFlow 1's candidate samplers: they draw classes to compare the true ones with.

Each returns the classes that it drew, and how often it may be expected to draw each true class and each of those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.random import Generator

from ps_protocol.operations import Array
from worker_client.deferred.call import call_for_several
from worker_client.graph.computation import DrawingKernel
from worker_client.graph.default_graph import graph_of
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.ops.array_ops import cast
from worker_client.ops.constant_ops import convert_to_tensor
from worker_client.ops.random_ops import get_seed
from worker_client.values.dtypes import float32, int32, int64
from worker_client.values.shapes import TensorShape

__all__ = [
    "all_candidate_sampler",
    "compute_accidental_hits",
    "fixed_unigram_candidate_sampler",
    "log_uniform_candidate_sampler",
    "uniform_candidate_sampler",
]

_MOST_TRIES: Final = 10_000_000  # drawings for classes that all differ


class Candidates(NamedTuple):
    """What a sampler returns.

    Attributes:
        sampled_candidates: The classes: int64, shape ``[num_sampled]``.
        true_expected_count: How often each true class may be expected among them: shape ``[batch, num_true]``.
        sampled_expected_count: Likewise for those that were drawn: shape ``[num_sampled]``.
    """

    sampled_candidates: Any
    true_expected_count: Any
    sampled_expected_count: Any


def uniform_candidate_sampler(
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: int | None = None,
    name: str | None = None,
) -> Candidates:
    """Draws classes that are all equally likely.

    Args:
        true_classes: int64, shape ``[batch, num_true]``.
        num_true: How many true classes each example has.
        num_sampled: How many classes to draw.
        unique: Whether they must differ.
        range_max: The classes are those from 0 up to but without this.
        seed: Makes every session draw the same sequence.
        name: "UniformCandidateSampler" if not given.

    Raises:
        ValueError: There are fewer classes than are to differ, or the shape does not fit ``num_true``.
    """
    shares = np.full(range_max, 1 / range_max)
    return _sampled("UniformCandidateSampler", shares, true_classes, num_true, num_sampled, unique, seed, name)


def log_uniform_candidate_sampler(
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: int | None = None,
    name: str | None = None,
) -> Candidates:
    """Draws classes, the first ones most often, by Zipf's law; otherwise as ``uniform_candidate_sampler``."""
    classes = np.arange(range_max)
    shares = np.log1p(1 / (classes + 1)) / np.log1p(range_max)
    return _sampled("LogUniformCandidateSampler", shares, true_classes, num_true, num_sampled, unique, seed, name)


def fixed_unigram_candidate_sampler(
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    vocab_file: str = "",
    distortion: float = 1.0,
    num_reserved_ids: int = 0,
    num_shards: int = 1,
    shard: int = 0,
    unigrams: Sequence[float] = (),
    seed: int | None = None,
    name: str | None = None,
) -> Candidates:
    """Draws classes as often as a list says; otherwise as ``uniform_candidate_sampler``.

    Args:
        true_classes: As there.
        num_true: As there.
        num_sampled: As there.
        unique: As there.
        range_max: As there.
        vocab_file: Where the last word of each line, behind a comma, is how often a class occurs.
        distortion: The power to which these numbers are raised.
        num_reserved_ids: How many classes there are before, which are never drawn.
        num_shards: Only each of so many is drawn.
        shard: Counted from this one.
        unigrams: The numbers, instead of a file.
        seed: As there.
        name: "FixedUnigramCandidateSampler" if not given.

    Raises:
        ValueError: Neither or both of list and file are given, or their length does not fit.
    """
    if bool(vocab_file) == bool(len(unigrams)):
        raise ValueError("fixed_unigram_candidate_sampler needs either vocab_file or unigrams")
    counts = list(unigrams) if not vocab_file else _counts_in(vocab_file)
    weights = np.concatenate([np.zeros(num_reserved_ids), np.asarray(counts, np.float64) ** distortion])
    if len(weights) != range_max:
        raise ValueError(f"fixed_unigram_candidate_sampler: {len(weights)} numbers for range_max={range_max}")
    weights[[index % num_shards != shard for index in range(range_max)]] = 0
    shares = weights / weights.sum()
    return _sampled("FixedUnigramCandidateSampler", shares, true_classes, num_true, num_sampled, unique, seed, name)


def _counts_in(path: str) -> list[float]:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [float(line.rpartition(",")[2]) for line in lines if line.strip()]


def all_candidate_sampler(
    true_classes: Any, num_true: int, num_sampled: int, unique: bool, seed: int | None = None, name: str | None = None
) -> Candidates:
    """Returns all classes from 0 up to but without ``num_sampled``."""
    del unique, seed
    classes = _classes(true_classes, num_true)

    def all_of(classes: Array) -> tuple[Array, ...]:
        return np.arange(num_sampled), np.ones(classes.shape), np.ones(num_sampled)

    outputs = _outputs(classes, num_true, num_sampled)
    return Candidates(*call_for_several(all_of, [classes], outputs, op_type="AllCandidateSampler", name=name))


def compute_accidental_hits(
    true_classes: Any, sampled_candidates: Any, num_true: int, seed: int | None = None, name: str | None = None
) -> tuple[Any, Any, Any]:
    """Returns where classes were drawn that are true ones.

    Returns:
        For each hit the row of the true class (int32), the place among those drawn (int64), and the least float32, to
        be added to its logit.
    """
    del seed
    classes, drawn = _classes(true_classes, num_true), cast(sampled_candidates, int64)

    def hits(classes: Array, drawn: Array) -> tuple[Array, ...]:
        rows, _, places = np.nonzero(classes[:, :, np.newaxis] == drawn)
        return rows, places, np.full(rows.shape, -np.finfo(np.float32).max)

    outputs = [OutputSpec(each.dtype, TensorShape([None])) for each in (int32, int64, float32)]
    rows, places, least = call_for_several(hits, [classes, drawn], outputs, op_type="ComputeAccidentalHits", name=name)
    return rows, places, least


def _classes(true_classes: Any, num_true: int) -> Any:
    classes = cast(convert_to_tensor(true_classes, name="true_classes"), int64)
    if not TensorShape(classes.shape).is_compatible_with([None, num_true]):
        raise ValueError(f"true classes have the shape [batch, {num_true}], not {classes.shape}")
    return classes


def _outputs(classes: Any, num_true: int, num_sampled: int) -> list[OutputSpec]:
    batch = TensorShape(classes.shape).size(0) if TensorShape(classes.shape).ndims else None
    return [
        OutputSpec(int64.dtype, TensorShape([num_sampled])),
        OutputSpec(float32.dtype, TensorShape([batch, num_true])),
        OutputSpec(float32.dtype, TensorShape([num_sampled])),
    ]


def _sampled(
    op_type: str,
    shares: Array,
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    seed: int | None,
    name: str | None,
) -> Candidates:
    if unique and num_sampled > np.count_nonzero(shares):
        raise ValueError(f"{op_type}: {num_sampled} classes that differ cannot be drawn from {len(shares)}")
    classes = _classes(true_classes, num_true)
    outputs = _outputs(classes, num_true, num_sampled)
    draw = _unique if unique else _independent
    bounds = np.cumsum(shares)

    def compute(generator: Generator, classes: Array) -> tuple[Array, ...]:
        if classes.size and not 0 <= classes.min() <= classes.max() < len(shares):
            raise IndexError(f"true classes from {classes.min()} to {classes.max()} are not all in [0, {len(shares)})")
        drawn, tries = draw(generator, bounds, num_sampled)
        counts = [_expected(shares[each], tries, unique=unique) for each in (classes, drawn)]
        return tuple(np.asarray(each, spec.dtype) for each, spec in zip((drawn, *counts), outputs, strict=True))

    graph = graph_of([classes] if isinstance(classes, Tensor) else [])
    with graph.as_default():
        kernel = DrawingKernel(compute, get_seed(seed))
        if not graph.deferred:
            return Candidates(*compute(kernel.generator(), np.asarray(classes)))
        operation = graph.create_op(op_type, [convert_to_tensor(classes)], outputs, name=name, computation=kernel)
        return Candidates(*operation.outputs)


_Draw = Callable[[Generator, Array, int], tuple[Array, int]]


def _independent(generator: Generator, bounds: Array, number: int) -> tuple[Array, int]:
    return _drawn(generator, bounds, number), number


def _drawn(generator: Generator, bounds: Array, number: int) -> Array:
    found: Array = np.searchsorted(bounds, generator.random(number) * bounds[-1], side="right")
    return np.minimum(found, len(bounds) - 1, out=found)


def _unique(generator: Generator, bounds: Array, number: int) -> tuple[Array, int]:
    """Draws until so many classes differ; returns them as they first came, and how many tries it took."""
    tried = _drawn(generator, bounds, 2 * number)
    while len(tried) < _MOST_TRIES:
        _, first = np.unique(tried, return_index=True)
        if len(first) >= number:
            places = np.sort(first)[:number]
            return tried[places], int(places[-1]) + 1 if number else 0
        tried = np.concatenate([tried, _drawn(generator, bounds, len(tried))])
    raise ValueError(f"{_MOST_TRIES} drawings did not give {number} classes that differ; draw fewer")


def _expected(shares: Array, tries: int, *, unique: bool) -> Array:
    with np.errstate(divide="ignore"):
        counts: Array = -np.expm1(tries * np.log1p(-shares)) if unique else shares * tries
    return counts
