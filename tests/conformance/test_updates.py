"""Updates have TensorFlow's results: a replay of the recorded ones on the store, and by a session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from ps_protocol import errors
from ps_protocol.initializer_spec import InitializerSpec, ValueKind
from ps_protocol.operations import (
    Array,
    Declare,
    Gather,
    Read,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_server.store.variable_store import VariableStore

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "reference" / "traces" / "updates.json").read_text(encoding="utf-8")
)
NAME = "scope/w"


def store_with(initial: Array) -> VariableStore:
    store = VariableStore()
    spec = VariableSpec(NAME, initial.dtype, initial.shape)
    store.declare(Declare(spec, InitializerSpec(ValueKind(initial))), timeout_s=1.0)
    return store


def run(store: VariableStore, case: dict[str, Any]) -> Result:
    method, dtype = case["method"], np.dtype(case["dtype"])
    if method == "gather":
        return store.gather(Gather(NAME, np.array(case["indices"], np.int32)))
    value = np.array(case["value"], dtype)
    if method.startswith("scatter_"):
        rule = ScatterRule[method.removeprefix("scatter_").upper()]
        return store.scatter(Scatter(NAME, rule, np.array(case["indices"], np.int32), value))
    return store.update(Update(NAME, UpdateRule[method.upper()], value))


def operation_of(variable: Any, case: dict[str, Any]) -> Any:
    method = case["method"]
    if method == "gather":
        return tf.gather(variable, case["indices"])
    value = np.array(case["value"], case["dtype"])
    if method.startswith("scatter_"):
        return getattr(tf, method)(variable, case["indices"], value)
    return getattr(variable, method)(value)


def value_of(store: VariableStore) -> Array:
    tensor = store.read(Read(NAME)).tensor
    assert tensor is not None
    return tensor


def test_the_traces_are_all_there() -> None:
    assert len(CASES) == 48


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['method']}-{case['dtype']}")
def test_updates_as_tensorflow_does(case: dict[str, Any]) -> None:
    initial = np.array(case["initial"], case["dtype"])
    store = store_with(initial)
    if "error" in case:
        with pytest.raises(getattr(errors, case["error"]), match=NAME):
            run(store, case)
        np.testing.assert_array_equal(value_of(store), initial)
        return
    result = run(store, case)
    actual = value_of(store) if result.tensor is None else result.tensor
    assert actual.dtype == initial.dtype
    np.testing.assert_array_equal(actual, np.array(case["result"], case["dtype"]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['method']}-{case['dtype']}")
def test_updates_by_a_session_as_tensorflow_does(case: dict[str, Any]) -> None:
    initial = np.array(case["initial"], case["dtype"])
    with tf.Graph().as_default(), tf.variable_scope("scope"), tf.Session() as session:
        variable = tf.get_variable("w", initializer=initial)
        operation = operation_of(variable, case)
        session.run(variable.initializer)
        if "error" in case:
            with pytest.raises(getattr(tf.errors, case["error"]), match=NAME):
                session.run(operation)
            np.testing.assert_array_equal(session.run(variable), initial)
            return
        actual = session.run(operation)
    assert actual.dtype == initial.dtype
    np.testing.assert_array_equal(actual, np.array(case["result"], case["dtype"]))
