"""Gradients are those of TensorFlow, and those that small changes of the operands show."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from tests.conformance import replay
from tests.conformance.reference import gradient_calls

RECORDS = json.loads((replay.TRACES / "gradients.json").read_text(encoding="utf-8"))


def test_the_calls_are_all_there() -> None:
    assert [record["call"] for record in RECORDS] == gradient_calls.CALLS


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["call"])
def test_gradients_are_those_of_tensorflow(record: dict[str, Any]) -> None:
    found = gradient_calls.recorded(tf, record["call"])
    assert found.get("error") == record.get("error")
    for name, expected in record.get("made", {}).items():
        gradient = found["made"][name]
        if expected is None:
            assert gradient is None
            continue
        assert gradient is not None, name
        assert gradient["dtype"] == expected["dtype"]
        np.testing.assert_allclose(gradient["value"], expected["value"], rtol=1e-5, atol=1e-6, err_msg=name)
        assert gradient.get("rows") == expected.get("rows")
        if "shape" in expected:
            assert gradient["shape"] in (expected["shape"], list(np.shape(expected["value"])))


KINKED = (
    *("tf.losses", "clip_by_average_norm", "batch_normalization(f, 0.5", "weighted_cross", "linspace", "one_hot"),
    *(
        "unsorted_segment_max",
        "stop_gradient",
        "cast(",
        "to_",
        "py_func",
        "float32",
        "tf.unique",
        "truncatemod",
        "[tf.newaxis",
    ),
    *("[tf.newaxis", "softmax_cross_entropy", "moments", "cholesky", "ensure", "max_norm", "np.", "cumprod(f"),
)
"""What calls have in them that are no smooth functions of their operands, or not of float64."""


def _operands(words: list[str]) -> list[tuple[str, Any]]:
    return [(word, value) for word, value in gradient_calls.OPERANDS.items() if word in words]


def _moved(value: Any, number: int) -> Any:
    """Returns an operand as float64, away from where two of its elements are equal."""
    array = np.array(value, np.float64)
    return array + 0.01 * np.sin(1.0 + number + np.arange(array.size)).reshape(array.shape)


@pytest.mark.parametrize("call", [each for each in gradient_calls.CALLS if not any(word in each for word in KINKED)])
def test_gradients_are_those_that_small_changes_show(call: str) -> None:
    words = re.findall(r"\b[a-z]\b", re.sub(r"'[^']*'", "", call))
    given = {word: _moved(value, number) for number, (word, value) in enumerate(_operands(words))}
    with tf.Graph().as_default(), tf.Session() as session:
        operands = {word: tf.constant(value, name=word) for word, value in given.items()}
        ys = gradient_calls.made_by(tf, call, {"tf": tf, "np": np, **operands})
        factors = [gradient_calls.factors_of(session.run(y)) for y in ys]
        found = tf.gradients(ys, list(operands.values()), grad_ys=factors, unconnected_gradients="zero")

        def weighted(word: str, value: Any) -> float:
            results = session.run(ys, {operands[word]: value})
            return float(sum(np.sum(result * factor) for result, factor in zip(results, factors, strict=True)))

        for (word, value), gradient in zip(given.items(), found, strict=True):
            slopes = np.zeros_like(value)
            for place in np.ndindex(value.shape):
                step = np.zeros_like(value)
                step[place] = 1e-5
                slopes[place] = (weighted(word, value + step) - weighted(word, value - step)) / 2e-5
            computed = session.run(tf.convert_to_tensor(gradient))
            np.testing.assert_allclose(computed, slopes, rtol=1e-5, atol=1e-6, err_msg=word)
