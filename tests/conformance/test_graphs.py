"""Programs add the operations to a graph that TensorFlow adds: types, names, inputs, constants, shapes and dtypes."""

from __future__ import annotations

from typing import Any

import pytest

import worker_client.compat.v1 as tf
from tests.conformance import replay
from tests.conformance.reference import graph_programs

RECORDS = replay.records(replay.TRACES / "graphs.jsonl")

OTHERWISE = {
    # A number takes the dtype of the tensor beside it, on whichever side it stands; in TensorFlow only on the right.
    "tf.add(1, q)",
    "tf.less_equal(1, q)",
    "tf.equal(1, q)",
    "tf.add(1, x)",
    # Numbers that do not fit into the dtype are refused; in TensorFlow they wrap around.
    "tf.add(bits, 2**40)",
    "bits + 2**40",
    "tf.constant(300, tf.uint8)",
    "tf.constant(-1, tf.uint8)",
    # Bounds of other dtypes become int32 where that holds them; in TensorFlow an assertion fails.
    "tf.range(x[0])",
    "tf.range(x[0], x[0])",
    # An axis that is not there is refused; in TensorFlow only when it runs.
    "tf.one_hot(vi, 3, axis=2)",
    # Truth values without dimensions index as in NumPy.
    "b[True]",
    "tf.constant([1., 2.])[x[0]]",
}
"""Programs that give something else here, and why."""


def program(record: dict[str, Any]) -> str:
    found: str = record.get("program") or record.get("refused") or record.get("attributes") or record["dtypes"]
    return found


def test_the_programs_are_all_there() -> None:
    assert len(RECORDS) > 900
    assert {program(record) for record in RECORDS} >= OTHERWISE


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{next(iter(record))}: {program(record)}")
def test_a_program_makes_what_it_makes_in_tensorflow(record: dict[str, Any]) -> None:
    assert (graph_programs.recorded(tf, record) == record) == (program(record) not in OTHERWISE)
