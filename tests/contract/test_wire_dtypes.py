"""Tensors in lossy forms, over every transport: pushed, pulled, refused; and a training that gets by with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.codec import wire_dtypes
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
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
    WireDType,
)
from ps_protocol.task_id import TaskId
from tests.contract.conftest import Conversation, Task
from worker_client.client import Client
from worker_client.connection.settings import Settings
from worker_client.initializers import zeros_initializer
from worker_client.placement.strategies import RoundRobinStrategy
from worker_client.scopes.variable_scope import get_variable
from worker_client.values.wire_names import WireDTypeName
from worker_client.variables.variable import Variable

LOSSY = (WireDType.BFLOAT16, WireDType.FLOAT16, WireDType.INT8)
SIZES = (3, 1000, 300_000)
"""Rows of tensors, of which the last is too large for one message."""


def rounded(task: Task, wire: WireDType, array: Array) -> Array:
    """What arrives of an array: within one process, where nothing travels, all of it."""
    if task.transport == "core":
        return array
    decoded = np.empty_like(array)
    wire_dtypes.decode_into(wire, wire_dtypes.encode(wire, array), decoded)
    return decoded


def declare(talk: Conversation, size: int, dtype: str = "float32", *, name: str = "w") -> str:
    spec = VariableSpec(name, np.dtype(dtype), (size, 2))
    talk.run(Declare(spec, InitializerSpec(ConstantKind(0))))
    return name


def values(size: int, dtype: str = "float32") -> Array:
    return np.random.default_rng(size).standard_normal((size, 2)).astype(dtype)


def tensor(result: Result) -> Array:
    assert result.tensor is not None
    return result.tensor


@pytest.mark.parametrize("wire", LOSSY)
class TestForms:
    def test_push(self, ps: Task, talk: Conversation, wire: WireDType) -> None:
        for size in SIZES:
            name = declare(talk, size, name=f"w_{size}")
            talk.run(Update(name, UpdateRule.ASSIGN, values(size), wire))
            np.testing.assert_array_equal(tensor(talk.run(Read(name))), rounded(ps, wire, values(size)))

    def test_pull(self, ps: Task, talk: Conversation, wire: WireDType) -> None:
        for size in SIZES:
            name = declare(talk, size, name=f"w_{size}")
            talk.run(Update(name, UpdateRule.ASSIGN, values(size)))
            expected = rounded(ps, wire, values(size))
            np.testing.assert_array_equal(tensor(talk.run(Read(name, wire=wire))), expected)
            out = np.zeros((size, 2), np.float32)
            assert tensor(talk.run(Read(name, wire=wire, out=out))) is out
            np.testing.assert_array_equal(out, expected)
            np.testing.assert_array_equal(tensor(talk.run(Read(name))), values(size))  # the value itself is untouched

    def test_rows(self, ps: Task, talk: Conversation, wire: WireDType) -> None:
        for size in SIZES:
            name = declare(talk, size, name=f"w_{size}")
            rows = np.arange(0, size, 2)
            updates = values(size)[rows]
            talk.run(Scatter(name, ScatterRule.ADD, rows, updates, wire=wire))
            arrived = rounded(ps, wire, updates)
            np.testing.assert_array_equal(tensor(talk.run(Gather(name, rows))), arrived)
            out = np.zeros_like(updates)
            assert tensor(talk.run(Gather(name, rows, wire=wire, out=out))) is out
            np.testing.assert_array_equal(out, rounded(ps, wire, arrived))


@pytest.mark.parametrize("wire", LOSSY)
def test_double_precision(ps: Task, talk: Conversation, wire: WireDType) -> None:
    declare(talk, 500, "float64")
    talk.run(Update("w", UpdateRule.ASSIGN, values(500, "float64"), wire))
    np.testing.assert_array_equal(tensor(talk.run(Read("w"))), rounded(ps, wire, values(500, "float64")))


@pytest.mark.parametrize("wire", LOSSY)
def test_nan_stays_visible(ps: Task, talk: Conversation, wire: WireDType) -> None:
    declare(talk, 3)
    gradient = np.array([[1, np.nan], [2, 3], [4, 5]], np.float32)
    talk.run(Update("w", UpdateRule.ASSIGN_ADD, gradient, wire))
    assert np.isnan(tensor(talk.run(Read("w", wire=wire)))[0, 1])


@pytest.mark.parametrize("wire", LOSSY)
def test_integers_do_not_travel_so(ps: Task, talk: Conversation, wire: WireDType) -> None:
    declare(talk, 3, "int64")
    update, read = Update("w", UpdateRule.ASSIGN_ADD, np.ones((3, 2), np.int64), wire), Read("w", wire=wire)
    if ps.transport == "core":  # nothing travels
        talk.run(update)
        assert tensor(talk.run(read)).sum() == 6
        return
    for refused in (update, read):
        with pytest.raises(InvalidArgumentError, match=r"w: .*int64 tensor cannot travel"):
            talk.run(refused)
    assert tensor(talk.run(Read("w"))).sum() == 0


def test_a_batch_sent_again_counts_once(ps: Task, talk: Conversation) -> None:
    declare(talk, 1000)
    batch = talk.batch(Update("w", UpdateRule.ASSIGN_ADD, values(1000), WireDType.INT8), Read("w", wire=WireDType.INT8))
    first, second = talk.send(batch).replies, talk.send(batch).replies
    assert isinstance(first[1], Result)
    assert isinstance(second[1], Result)
    np.testing.assert_array_equal(tensor(first[1]), tensor(second[1]))
    np.testing.assert_array_equal(tensor(talk.run(Read("w"))), rounded(ps, WireDType.INT8, values(1000)))


# -- through the client ----------------------------------------------------------------------------


@pytest.fixture
def client(ps: Task) -> Iterator[Client]:
    with ExitStack() as resources:
        client = Client(
            ClusterSpec({"ps": ["ps0.example:2222", "ps1.example:2222"], "worker": ["worker0.example:2222"]}),
            TaskId("worker", 0),
            endpoints=[ps.endpoint()],
            settings=Settings(),
            ps_strategy=RoundRobinStrategy(1),
            initialize=True,
        )
        resources.enter_context(client)
        yield client


def variable(name: str, shape: list[int]) -> Variable:
    made = get_variable(name, shape, initializer=zeros_initializer())
    assert isinstance(made, Variable)
    return made


@pytest.mark.parametrize("name", ["bfloat16", "float16", "int8"])
def test_many_small_pushes_add_up(client: Client, name: WireDTypeName) -> None:
    weights = variable("weights", [1000])
    random = np.random.default_rng(5)
    wanted = np.zeros(1000)
    for _ in range(50):
        delta = random.standard_normal(1000).astype(np.float32)
        wanted += delta
        client.assign_add_all([(weights, delta)], wire_dtype=name)
    error = np.abs(weights.read_value() - wanted).max()
    assert error < 0.05  # one rounding: of int8, half of about 4 / 127


@pytest.mark.parametrize("push", [None, "bfloat16", "float16", "int8"])
def test_least_squares_converges_as_without_rounding(client: Client, push: WireDTypeName | None) -> None:
    random = np.random.default_rng(7)
    inputs = random.standard_normal((200, 300)).astype(np.float32)
    targets = inputs @ random.standard_normal(300).astype(np.float32) + random.standard_normal(200).astype(np.float32)
    weights = variable("weights", [300])
    weights.push_dtype = push
    exact = np.zeros(300, np.float32)
    step = np.float32(0.3 / 200)
    for _ in range(120):
        weights.assign_sub(step * (inputs.T @ (inputs @ weights.read_value() - targets)))
        exact -= step * (inputs.T @ (inputs @ exact - targets))

    def loss(of: Array) -> float:
        return float(np.mean((inputs @ of - targets) ** 2))

    assert loss(np.zeros(300, np.float32)) > 100
    assert loss(weights.read_value()) <= loss(exact) * 1.01 + 1e-6
