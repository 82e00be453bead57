"""Lookups in tables of several parts: deferred ones in a session, eager ones through a connection to two ps tasks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Batch, BatchReply, Gather
from ps_protocol.task_id import TaskId
from ps_server.core.parameter_server import ParameterServer
from worker_client.client import Client
from worker_client.connection.settings import Settings
from worker_client.deferred.sparse_tensor import SparseTensor
from worker_client.embeddings.lookup import embedding_lookup, embedding_lookup_sparse
from worker_client.graph.computation import VariableAccess
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation
from worker_client.ops.constant_ops import constant, placeholder
from worker_client.placement.strategies import RoundRobinStrategy
from worker_client.scopes.variable_scope import get_variable
from worker_client.sessions.session import Session
from worker_client.transport.in_process import endpoint_of
from worker_client.variables.partitioners import fixed_size_partitioner

TABLE = np.arange(26, dtype=np.float32).reshape(13, 2)
IDS = np.array([[12, 0, 5], [5, 7, 3]])


class CountingServer(ParameterServer):
    """A ps task that counts the batches that gather."""

    gathers = 0

    def exchange(self, batch: Batch, *, timeout_s: float, **permissions: Any) -> BatchReply:
        self.gathers += any(isinstance(operation, Gather) for operation in batch.operations)
        return super().exchange(batch, timeout_s=timeout_s, **permissions)


@pytest.fixture
def servers() -> list[CountingServer]:
    spec = ClusterSpec({"ps": ["ps0.example:1", "ps1.example:1"], "worker": ["worker0.example:1"]})
    return [CountingServer(cluster_spec=spec, task_index=index, job_seed=3) for index in range(2)]


@pytest.fixture
def client(servers: list[CountingServer]) -> Iterator[Client]:
    spec = ClusterSpec({"ps": ["ps0.example:1", "ps1.example:1"], "worker": ["worker0.example:1"]})
    with Client(
        spec,
        TaskId("worker", 0),
        endpoints=[endpoint_of(server) for server in servers],
        settings=Settings(),
        ps_strategy=RoundRobinStrategy(2),
        initialize=True,
    ) as client:
        yield client


def part_of_table(shape: list[int], dtype: Any = None, partition_info: Any = None) -> Any:
    start = partition_info.var_offset[0]
    return TABLE[start : start + shape[0]]


def partitioned(number: int) -> Any:
    return get_variable("table", TABLE.shape, initializer=part_of_table, partitioner=fixed_size_partitioner(number))


def dealt(number: int) -> list[Any]:
    """Variables that hold the table as "mod" deals it out."""
    return [get_variable(f"part_{index}", initializer=TABLE[index::number]) for index in range(number)]


def initialize(session: Session) -> None:
    session.run([variable.initializer for variable in session.graph.get_collection("variables")])


def needed(tensor: Any) -> set[Operation]:
    """The operations behind a tensor."""
    found, todo = set(), [tensor.op]
    while todo:
        operation = todo.pop()
        found.add(operation)
        todo += [each.op for each in operation.operands]
    return found


class TestDeferred:
    @pytest.mark.parametrize("number", [1, 2, 5])
    def test_div_over_a_partitioned_variable(self, session: Session, number: int) -> None:
        found = embedding_lookup(partitioned(number), IDS, "div")
        initialize(session)
        assert found.shape == [2, 3, 2]
        np.testing.assert_array_equal(session.run(found), TABLE[IDS])

    @pytest.mark.parametrize("number", [1, 2, 5])
    def test_mod_over_a_list(self, session: Session, number: int) -> None:
        found = embedding_lookup(dealt(number), IDS)
        initialize(session)
        np.testing.assert_array_equal(session.run(found), TABLE[IDS])

    def test_each_part_is_accessed_once_and_none_is_read_whole(self, session: Session) -> None:
        table = partitioned(3)
        ids = placeholder(np.int64, [None])
        found = embedding_lookup(table, ids, "div")
        accesses = [op for op in needed(found) if isinstance(op.computation, VariableAccess)]
        assert sorted(op.type for op in accesses) == ["GatherV2"] * 3
        assert str(found.shape) == "(?, 2)"
        initialize(session)
        for wanted in ([12, 0], []):
            np.testing.assert_array_equal(
                session.run(found, {ids: np.array(wanted, int)}), TABLE[np.array(wanted, int)]
            )

    def test_each_gather_is_beside_its_part(self, session: Session) -> None:
        graph = session.graph
        with graph.device("/job:worker/task:0"):
            variables = []
            for task in range(2):
                with graph.device(f"/job:ps/task:{task}"):
                    variables.append(get_variable(f"part_{task}", [2, 2]))
            found = embedding_lookup(variables, [0, 1])
        devices = {op.device for op in needed(found) if op.type == "GatherV2"}
        assert devices == {"/job:ps/task:0", "/job:ps/task:1"}
        assert found.device == "/job:worker/task:0"

    def test_names(self, session: Session) -> None:
        variables = dealt(2)
        assert embedding_lookup(variables, [1]).op.name == "embedding_lookup"
        assert embedding_lookup(variables[0], [1], name="rows").op.name == "rows/Identity"
        ids = SparseTensor([[0, 0]], [1], [1, 1])
        assert embedding_lookup_sparse(variables, ids, None).op.name == "embedding_lookup_sparse"

    def test_the_parts_may_be_tensors(self, session: Session) -> None:
        found = embedding_lookup([constant(TABLE[0::2]), TABLE[1::2]], IDS)
        np.testing.assert_array_equal(session.run(found), TABLE[IDS])

    def test_rows_may_be_clipped(self, session: Session) -> None:
        table = dealt(2)
        initialize(session)
        norms = np.linalg.norm(session.run(embedding_lookup(table, IDS, max_norm=3.0)), axis=-1)
        np.testing.assert_allclose(norms, np.minimum(np.linalg.norm(TABLE[IDS], axis=-1), 3), rtol=1e-6)

    def test_an_id_without_a_row(self, session: Session) -> None:
        found = embedding_lookup(dealt(2), [13])
        initialize(session)
        with pytest.raises(InvalidArgumentError, match="id 13 has no row in the table part_0:0, part_1:0, whose"):
            session.run(found)

    @pytest.mark.parametrize("combiner", ["sum", "mean", "sqrtn", None])
    def test_sparse(self, session: Session, combiner: str | None) -> None:
        values = placeholder(np.int64, [None])
        ids = SparseTensor([[0, 0], [0, 1], [2, 0]], values, [3, 2])
        weights = SparseTensor(ids.indices, np.array([1, 2, 3], np.float32), [3, 2])
        found = embedding_lookup_sparse(partitioned(3), ids, weights, "div", combiner=combiner)
        initialize(session)
        divisor = {"sum": 1, "sqrtn": 5**0.5}.get(combiner or "mean", 3)
        last = TABLE[12] * (3 if combiner == "sum" else 1)
        expected = np.stack([(TABLE[4] + 2 * TABLE[9]) / divisor, np.zeros(2), last])
        assert str(found.shape) == "(?, 2)"
        np.testing.assert_allclose(session.run(found, {values: [4, 9, 12]}), expected, rtol=1e-6)


@pytest.mark.usefixtures("client")
class TestEager:
    def test_values(self) -> None:
        np.testing.assert_array_equal(embedding_lookup(partitioned(3), IDS, "div"), TABLE[IDS])
        table = dealt(3)
        np.testing.assert_array_equal(embedding_lookup(table, IDS), TABLE[IDS])
        np.testing.assert_array_equal(embedding_lookup(table, np.zeros((2, 0), int)), np.zeros((2, 0, 2)))
        np.testing.assert_array_equal(embedding_lookup(table, []), np.zeros((0, 2)))

    def test_one_exchange_for_each_task(self, servers: list[CountingServer]) -> None:
        table = partitioned(5)
        for server in servers:
            server.gathers = 0
        embedding_lookup(table, IDS, "div")
        assert [server.gathers for server in servers] == [1, 1]

    def test_variables_of_another_connection(self, servers: list[CountingServer], client: Client) -> None:
        table = dealt(2)
        with Graph(lambda definition: definition).as_default():
            np.testing.assert_array_equal(embedding_lookup(table, IDS), TABLE[IDS])

    def test_norms_and_errors(self) -> None:
        table = dealt(2)
        norms = np.linalg.norm(embedding_lookup(table, IDS, max_norm=3.0), axis=-1)
        np.testing.assert_allclose(norms, np.minimum(np.linalg.norm(TABLE[IDS], axis=-1), 3), rtol=1e-6)
        with pytest.raises(InvalidArgumentError, match="id 13 has no row in the table part_0:0, part_1:0, whose"):
            embedding_lookup(table, [13])
        whole = partitioned(3)
        for given in (whole, [whole]):
            with pytest.raises(InvalidArgumentError, match=f"id 13 has no row in the table {whole.name}, whose"):
                embedding_lookup(given, [13], "div")

    def test_sparse(self) -> None:
        ids = SparseTensor([[0, 0], [0, 1], [1, 0]], [4, 9, 4], [2, 2])
        found = embedding_lookup_sparse(dealt(2), ids, None, combiner="mean")
        np.testing.assert_allclose(found, [(TABLE[4] + TABLE[9]) / 2, TABLE[4]])


class TestMisuse:
    def test_tables(self, session: Session) -> None:
        with pytest.raises(ValueError, match="at least one part"):
            embedding_lookup([], [0])
        with pytest.raises(ValueError, match="one of mod, div, not 'hash'"):
            embedding_lookup(TABLE, [0], "hash")
        with pytest.raises(ValueError, match="should have rows"):
            embedding_lookup(np.float32(1), [0])
        with pytest.raises(ValueError, match="differ in shape"):
            embedding_lookup([TABLE, TABLE[:, :1]], [0])
        with pytest.raises(ValueError, match="needs the number of rows"):
            embedding_lookup([placeholder(np.float32, [None, 2])] * 2, [0], "div")
        with pytest.raises(TypeError, match="should be integers, not float32"):
            embedding_lookup(TABLE, [0.5])

    def test_sparse_ids(self, session: Session) -> None:
        ids = SparseTensor([[0, 0]], [1], [1, 1])
        with pytest.raises(TypeError, match="sp_ids should be a SparseTensor"):
            embedding_lookup_sparse(TABLE, [0], None)  # type: ignore[arg-type]  # that is the question
        with pytest.raises(TypeError, match="sp_weights should be a SparseTensor"):
            embedding_lookup_sparse(TABLE, ids, [1.0])  # type: ignore[arg-type]  # that is the question
        with pytest.raises(ValueError, match="one of sum, mean, sqrtn, not 'max'"):
            embedding_lookup_sparse(TABLE, ids, None, combiner="max")


class TestSparseTensor:
    def test_parts(self, session: Session) -> None:
        tensor = SparseTensor([[0, 1]], constant([2.5]), [3, 4])
        assert tensor.dtype == np.float32
        assert tensor.indices.dtype == np.int64
        assert repr(tensor) == "<SparseTensor indices=[1, 2] values=[1] dense_shape=[2] dtype=float32>"

    @pytest.mark.parametrize(
        ("indices", "values", "dense_shape"),
        [([0, 1], [1, 2], [3]), ([[0], [1]], [1], [3]), ([[0, 1]], [1], [3]), ([[0]], [[1]], [3]), ([[0]], [1], 3)],
    )
    def test_shapes_that_do_not_fit(self, indices: Any, values: Any, dense_shape: Any) -> None:
        with pytest.raises(ValueError, match="sparse tensor"):
            SparseTensor(indices, values, dense_shape)
