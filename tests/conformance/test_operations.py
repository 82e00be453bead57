"""Functions make what TensorFlow's make: operations of the same names, types, dtypes, shapes and values."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from tests.conformance import replay
from tests.conformance.reference import operation_calls
from tests.unit.worker_client.naming_fakes import eager_graph

RECORDS = json.loads((replay.TRACES / "operations.json").read_text(encoding="utf-8"))

OTHERWISE_NAMED = {
    "tf.sign(c)",
    "tf.abs(c)",
    "f[:, tf.newaxis]",
    "tf.meshgrid([1, 2], [3, 4, 5])",
    "tf.meshgrid([1, 2], [3, 4, 5], indexing='ij')",
    "tf.sequence_mask([1, 3], 4, tf.float32)",
    "tf.sort(f)",
    "tf.argsort(f)",
    "tf.sort(f, axis=0)",
    "tf.argsort(i, direction='DESCENDING')",
    "tf.batch_gather(f, [[0], [2]])",
    "tf.gather_nd(f, [[0], [2]], batch_dims=1)",
    "tf.repeat(i, 2)",
    "tf.nn.swish(f)",
    "tf.nn.silu(f)",
    "tf.nn.batch_normalization(f, 0.5, 2.0, 1.0, 3.0, 0.001)",
    "tf.nn.batch_normalization(f, 0.5, 2.0, None, None, 0.001)",
}
"""Calls that here make fewer or other operations than TensorFlow puts their results together from."""


def is_close(expected: Any, found: Any) -> bool:
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(is_close, expected, found))
    if isinstance(expected, dict) and isinstance(found, dict):
        return expected.keys() == found.keys() and all(is_close(expected[key], found[key]) for key in expected)
    if isinstance(expected, float) and isinstance(found, float):
        both_nan = math.isnan(expected) and math.isnan(found)
        return both_nan or math.isclose(expected, found, rel_tol=1e-5, abs_tol=1e-7)
    return type(expected) is type(found) and bool(expected == found)


def without_names(made: Any) -> Any:
    if isinstance(made, list):
        return [without_names(each) for each in made]
    return {key: value for key, value in made.items() if key not in ("name", "type")} if made else made


def test_the_calls_are_all_there() -> None:
    assert len(RECORDS) > 480
    assert {record["call"] for record in RECORDS} >= OTHERWISE_NAMED


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["call"])
def test_a_call_makes_what_tensorflows_makes(record: dict[str, Any]) -> None:
    found = operation_calls.recorded(tf, record["call"])
    if record["call"] in OTHERWISE_NAMED:
        assert is_close(without_names(record["made"]), without_names(found["made"])), found
    else:
        assert is_close(record, found), f"{record} is not {found}"


def has_value(made: Any) -> bool:
    """Whether all of what a call makes are tensors whose values are recorded."""
    if isinstance(made, list):
        return all(map(has_value, made))
    return "dtype" in made and made["run"] is not None and not isinstance(made["run"], dict)


def values(made: Any) -> Any:
    return [values(each) for each in made] if isinstance(made, list) else made["run"]


AT_ONCE = [
    record
    for record in RECORDS
    if has_value(record.get("made", {"value": None}))
    and not re.search(r"\b[ur]\b|Variable|assert|train|sparse|py_func|numpy_function", record["call"])
]


def test_calls_outside_of_a_deferred_graph_give_the_same_values_at_once() -> None:
    assert len(AT_ONCE) > 300
    for record in AT_ONCE:
        with eager_graph().as_default():
            names: dict[str, Any] = {"tf": tf, "np": np}
            given = {name: made for name, made in operation_calls.OPERANDS.items() if name not in "ur"}
            names.update({name: eval(made, names) for name, made in given.items()})
            made = eval(record["call"], names)
        assert is_close(values(record["made"]), plain(made)), record["call"]


def plain(made: Any) -> Any:
    return [plain(each) for each in made] if isinstance(made, list | tuple) else operation_calls._plain(made)
