"""Candidate samplers draw as often as they say, and the losses that compare with what is drawn follow TensorFlow's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from worker_client.ops.nn.candidate_samplers import compute_accidental_hits

CLASSES = 8


def drawn(sampler: Any, *, unique: bool, number: int = 4, runs: int = 2000, **options: Any) -> tuple[Any, Any]:
    """Returns how often each class was drawn in a run on average, and what the sampler expected of each."""
    with tf.Graph().as_default():
        every = np.arange(CLASSES).reshape(CLASSES, 1)
        found = sampler(every, 1, number, unique, CLASSES, seed=3, **options)
        counts, expected = np.zeros(CLASSES), np.zeros(CLASSES)
        with tf.Session() as session:
            for _ in range(runs):
                classes, of_true, of_drawn = session.run(list(found))
                assert len(classes) == number
                assert not unique or len(set(classes)) == number
                np.testing.assert_allclose(of_true[classes, 0], of_drawn)
                counts += np.bincount(classes, minlength=CLASSES)
                expected += of_true[:, 0]
    return counts / runs, expected / runs


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        (tf.random.uniform_candidate_sampler, {}),
        (tf.random.log_uniform_candidate_sampler, {}),
        (tf.random.fixed_unigram_candidate_sampler, {"unigrams": [1, 2, 3, 4, 4, 3, 2], "num_reserved_ids": 1}),
    ],
    ids=["uniform", "log_uniform", "fixed_unigram"],
)
def test_classes_are_drawn_as_often_as_is_expected(sampler: Any, options: dict[str, Any], unique: bool) -> None:
    counts, expected = drawn(sampler, unique=unique, **options)
    np.testing.assert_allclose(counts, expected, atol=0.06)


def test_the_first_classes_are_the_likeliest_of_the_log_uniform_sampler() -> None:
    _, expected = drawn(tf.nn.log_uniform_candidate_sampler, unique=False, runs=1)
    np.testing.assert_allclose(expected, 4 * np.log((np.arange(8) + 2) / (np.arange(8) + 1)) / np.log(9), rtol=1e-5)


def test_unigrams_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    path.write_text("\n".join(f"word{index},{count}" for index, count in enumerate([1, 1, 1, 1, 0, 0, 0, 4])))
    _, expected = drawn(tf.nn.fixed_unigram_candidate_sampler, unique=False, runs=1, vocab_file=str(path))
    np.testing.assert_allclose(expected, 4 * np.array([1, 1, 1, 1, 0, 0, 0, 4]) / 8, rtol=1e-5)


def test_static_shapes_and_names() -> None:
    with tf.Graph().as_default():
        found = tf.nn.uniform_candidate_sampler(tf.placeholder(tf.int64, [None, 2]), 2, 5, True, 100)
        assert [each.name for each in found] == [f"UniformCandidateSampler:{index}" for index in range(3)]
        assert [each.shape.as_list() for each in found] == [[5], [None, 2], [5]]
        assert [each.dtype for each in found] == [tf.int64, tf.float32, tf.float32]
        every = tf.nn.all_candidate_sampler(tf.constant([[1]], tf.int64), 1, 3, True)
        with tf.Session() as session:
            assert [each.tolist() for each in session.run(list(every))] == [[0, 1, 2], [[1.0]], [1.0, 1.0, 1.0]]


def test_bad_input() -> None:
    with tf.Graph().as_default():
        with pytest.raises(ValueError, match="11 classes that differ cannot be drawn from 10"):
            tf.nn.uniform_candidate_sampler([[1]], 1, 11, True, 10)
        with pytest.raises(ValueError, match=r"\[batch, 2\]"):
            tf.nn.uniform_candidate_sampler([[1]], 2, 4, True, 10)
        with pytest.raises(ValueError, match="either vocab_file or unigrams"):
            tf.nn.fixed_unigram_candidate_sampler([[1]], 1, 4, True, 10)
        outside = tf.nn.uniform_candidate_sampler([[10]], 1, 4, True, 10)
        with tf.Session() as session, pytest.raises(tf.errors.InvalidArgumentError, match=r"not all in \[0, 10\)"):
            session.run(outside[0])


def test_accidental_hits() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        rows, places, least = session.run(compute_accidental_hits([[1, 5], [5, 2]], [5, 7, 2], 2))
    assert (rows.tolist(), places.tolist()) == ([0, 1, 1], [0, 0, 2])
    assert (rows.dtype, places.dtype, least.dtype) == (np.int32, np.int64, np.float32)
    assert least.tolist() == [-np.finfo(np.float32).max] * 3
