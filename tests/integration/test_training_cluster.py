"""Workers and ps processes together: what is shared, what counts exactly once, what bad input does."""

from __future__ import annotations

import logging
import os
import random
import re
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from ps_protocol.operations import Batch, BatchReply
from worker_client.placement.strategies import PsStrategy
from worker_client.transport import grpc as grpc_transport
from worker_client.transport.grpc import GrpcPsService

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(num_ps=2, num_workers=3) as started:
        yield started


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[ss.Client]:
    with ss.connect(cluster.cluster_spec) as connected:
        yield connected


def variables_of(cluster: LocalCluster, scope: str) -> list[str]:
    """Names of the variables under a scope, once for each ps task that holds one."""
    names = []
    for index, address in enumerate(cluster.cluster_spec.ps_addresses()):
        service = grpc_transport.connect(address, task=f"ps:{index}")
        names += [each.spec.name for each in service.list_variables(timeout_s=10)]
        service.close()
    return sorted(name for name in names if name.startswith(f"{scope}/"))


# -- sharing --------------------------------------------------------------------------------------


def test_three_worker_processes_add_concurrently_and_every_addition_counts(cluster: LocalCluster) -> None:
    script = (
        "import worker_client as ss\n"
        "with ss.connect():\n"
        "    counter = ss.get_variable('adds/counter', [], dtype='int64', initializer=ss.zeros_initializer())\n"
        "    for _ in range(2000):\n"
        "        counter.assign_add(1)\n"
    )
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "TF_CONFIG": cluster.tf_config("worker", index)},
        )
        for index in range(3)
    ]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0]
    with ss.connect(cluster.cluster_spec):
        counter = ss.get_variable("adds/counter", [], dtype="int64")
        assert int(counter) == 6000
        assert counter.version == 6000


def test_ten_orders_of_creation_give_ten_variables(cluster: LocalCluster) -> None:
    names = [f"v{number}" for number in range(10)]
    together = threading.Barrier(10, timeout=120)

    def create(seed: int) -> dict[str, str]:
        order = random.Random(seed).sample(names, len(names))
        strategies: list[PsStrategy] = [
            ss.RoundRobinStrategy(2),
            ss.GreedyLoadBalancingStrategy(2, ss.byte_size_load_fn),
            ss.HashStrategy(2),
        ]
        with ss.connect(cluster.cluster_spec, ps_strategy=strategies[seed % 3]), ss.variable_scope("orders"):
            together.wait()
            return {name: ss.get_variable(name, [int(name[1:]) + 1]).device for name in order}

    with ThreadPoolExecutor(10) as pool:
        devices = list(pool.map(create, range(10)))
    assert variables_of(cluster, "orders") == sorted(f"orders/{name}" for name in names)
    assert all(each == devices[0] for each in devices)


def test_initial_values_do_not_depend_on_the_cluster() -> None:
    values = []
    for num_ps in (1, 3):
        with LocalCluster(num_ps=num_ps) as cluster, ss.connect(cluster.cluster_spec):
            names = ["a", "b", "c"] if num_ps == 1 else ["c", "a", "b"]
            made = {name: ss.get_variable(name, [5, 4]).numpy() for name in names}
            with ss.variable_scope("parted", partitioner=ss.fixed_size_partitioner(num_ps)):
                made["parted"] = np.asarray(ss.get_variable("w", [7, 3]))
            values.append(made)
    for name in values[0]:
        np.testing.assert_array_equal(values[0][name], values[1][name])
    assert not np.array_equal(values[0]["a"], values[0]["b"])


def test_the_model_is_one_for_all_workers(cluster: LocalCluster) -> None:
    with ss.connect(cluster.cluster_spec, task_index=0) as first:
        with ss.variable_scope("shared"):
            weights = ss.get_variable("weights", [3, 2])
        assert first.is_chief
        with ss.connect(cluster.cluster_spec, task_index=1) as second:
            with ss.variable_scope("shared"):
                same = ss.get_variable("weights", [3, 2])
            assert not second.is_chief
            assert same is not weights
            same.assign_add(np.ones((3, 2)))
            np.testing.assert_array_equal(weights.numpy(), same.numpy())
    assert variables_of(cluster, "shared") == ["shared/weights"]


# -- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint16", "int64", "complex64", "bool", ml_dtypes.bfloat16]
)
@pytest.mark.parametrize("shape", [[], [0], [3, 2], [600, 700]])
def test_values_of_every_kind_come_back_as_they_went(client: ss.Client, dtype: Any, shape: list[int]) -> None:
    name = f"kinds/{np.dtype(dtype).name}_{'x'.join(map(str, shape)) or 'scalar'}"
    variable = ss.get_variable(name, shape, dtype=dtype, initializer=ss.zeros_initializer())
    value = (np.arange(int(np.prod(shape))) % 5).reshape(shape).astype(dtype)
    variable.assign(value)
    read = variable.read_value()
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read, value)
    read[...] = 1  # the caller's own
    np.testing.assert_array_equal(variable.read_value(), value)


def test_many_variables_in_one_exchange_for_each_task(client: ss.Client, cluster: LocalCluster) -> None:
    with ss.variable_scope("many"):
        variables = [ss.get_variable(f"v{number}", [2], initializer=ss.zeros_initializer()) for number in range(9)]
    assert {variable.ps_task for variable in variables} == {0, 1}
    batches = [status_of(cluster, task).batches for task in range(2)]
    ss.assign_add_all((variable, [number, 1]) for number, variable in enumerate(variables))
    values = ss.read_all(variables)
    assert [value.tolist() for value in values] == [[number, 1] for number in range(9)]
    assert [status_of(cluster, task).batches - batches[task] for task in range(2)] == [2, 2]


def status_of(cluster: LocalCluster, task: int) -> Any:
    service = grpc_transport.connect(cluster.cluster_spec.ps_addresses()[task], task=f"ps:{task}")
    try:
        return service.status(timeout_s=10)
    finally:
        service.close()


def test_partitioned_variables_move_with_the_others(client: ss.Client, cluster: LocalCluster) -> None:
    with ss.variable_scope("moved", initializer=ss.zeros_initializer()):
        whole = ss.get_variable("whole", [2])
        parted = ss.get_variable("parted", [5, 2], partitioner=ss.fixed_size_partitioner(2))
    batches = [status_of(cluster, task).batches for task in range(2)]
    ss.assign_add_all([(parted, np.arange(10).reshape(5, 2)), (whole, [1, 2])])
    read_parted, read_whole = ss.read_all([parted, whole])
    assert read_parted.tolist() == np.arange(10).reshape(5, 2).tolist()
    assert read_whole.tolist() == [1, 2]
    assert [status_of(cluster, task).batches - batches[task] for task in range(2)] == [2, 2]
    with pytest.raises(ValueError, match=r"moved/parted.*\[4, 2\]"):
        ss.assign_add_all([(whole, [1, 2]), (parted, np.ones((4, 2)))])
    assert whole.numpy().tolist() == [1, 2]


def test_updates_that_are_not_waited_for_are_seen_by_the_next_read(client: ss.Client) -> None:
    counter = ss.get_variable("later/counter", [], initializer=ss.zeros_initializer())
    futures = [counter.assign_add(1.0, wait=False) for _ in range(50)]
    assert float(counter) == 50
    assert all(future.result(0) is counter for future in futures)


def test_rows_are_gathered_and_scattered(client: ss.Client) -> None:
    table = ss.get_variable("rows/table", [5, 2], initializer=ss.ones_initializer())
    table.scatter_add([1, 1, 4], np.ones((3, 2)))
    table.scatter_mul([0], 3.0)
    assert table.gather([0, 1, 4, 2]).tolist() == [[3, 3], [3, 3], [2, 2], [1, 1]]


def test_without_initialising_on_declaration_a_read_is_refused(cluster: LocalCluster) -> None:
    with ss.connect(cluster.cluster_spec, initialize=False):
        variable = ss.get_variable("explicit/v", [2], initializer=ss.constant_initializer(3))
        assert not variable.initialized
        with pytest.raises(ss.errors.FailedPreconditionError, match=r"explicit/v.*not been initialised"):
            variable.read_value()
        variable.initialize()
        assert variable.numpy().tolist() == [3, 3]
        assert variable.version == 0


# -- exactly once ---------------------------------------------------------------------------------


def test_lost_replies_are_repeated_and_count_once(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: Counter[int] = Counter()
    exchange = GrpcPsService.exchange

    def lossy(self: GrpcPsService, batch: Batch, *, timeout_s: float) -> BatchReply:
        reply = exchange(self, batch, timeout_s=timeout_s)
        number = batch.sequence
        if number % 3 == 1 and dropped[number] < (6 if number == 4 else 2):
            dropped[number] += 1
            raise ss.errors.UnavailableError("the reply was dropped on purpose")
        return reply

    with ss.connect(cluster.cluster_spec, transport="grpc"):
        counter = ss.get_variable("lossy/counter", [], initializer=ss.zeros_initializer())
        before = sum(status_of(cluster, task).duplicate_batches for task in range(2))
        monkeypatch.setattr(GrpcPsService, "exchange", lossy)
        for _ in range(30):
            counter.assign_add(1.0)
        assert dropped.total() > 20
        assert float(counter) == 30
        assert counter.version == 30
    assert sum(status_of(cluster, task).duplicate_batches for task in range(2)) - before == dropped.total()


def test_a_ps_that_comes_back_without_its_state_is_recognised() -> None:
    with LocalCluster(num_ps=2) as cluster, ss.connect(cluster.cluster_spec):
        variables = [ss.get_variable(name, [], initializer=ss.zeros_initializer()) for name in ("a", "b")]
        on_second = next(variable for variable in variables if variable.ps_task == 1)
        on_first = next(variable for variable in variables if variable.ps_task == 0)
        cluster.kill_ps(1)
        cluster.restart_ps(1)
        for operation in (on_second.read_value, lambda: on_second.assign_add(1.0)):
            with pytest.raises(ss.errors.StateLostError, match="ps:1"):
                operation()
        assert float(on_first.assign_add(1.0)) == 1


def test_a_directory_that_was_lost_is_recognised_before_a_name_is_placed_twice() -> None:
    with LocalCluster(num_ps=2) as cluster, ss.connect(cluster.cluster_spec, ps_strategy=lambda op: 1):
        kept = ss.get_variable("kept", [], initializer=ss.zeros_initializer())
        cluster.kill_ps(0)
        cluster.restart_ps(0)
        with pytest.raises(ss.errors.StateLostError, match="ps:0"):
            ss.get_variable("new", [], initializer=ss.zeros_initializer())
        assert float(kept.assign_add(1.0)) == 1


# -- waiting --------------------------------------------------------------------------------------


def test_a_worker_waits_for_a_ps_that_starts_later(caplog: pytest.LogCaptureFixture, eventually: Any) -> None:
    with LocalCluster(num_ps=2) as cluster:
        cluster.stop_ps(1)
        with caplog.at_level(logging.WARNING), ThreadPoolExecutor(1) as pool:
            connecting = pool.submit(ss.connect, cluster.cluster_spec)
            address = cluster.cluster_spec.ps_addresses()[1]
            eventually(
                lambda: re.search(rf"waiting for ps:1 at {address}, \d+ s of up to 60 s: ", caplog.text),
                message="the worker says it waits",
            )
            cluster.restart_ps(1)
            client = connecting.result(120)
        with client:
            assert float(ss.get_variable("v", [], initializer=ss.ones_initializer())) == 1


def test_a_ps_that_never_comes_is_named() -> None:
    with LocalCluster(num_ps=1) as cluster:
        cluster.stop_ps(0)
        address = cluster.cluster_spec.ps_addresses()[0]
        with pytest.raises(ss.errors.UnavailableError, match=rf"no ps answers at {address} after") as caught:
            ss.connect(cluster.cluster_spec, connect_timeout_s=0.5)
        assert "".join(traceback.format_exception(caught.value)).count("Traceback") == 1


# -- bad input ------------------------------------------------------------------------------------


def unknown_task(_: LocalCluster) -> None:
    with ss.device("/job:ps/task:7"):
        ss.get_variable("bad/v", [2])


def wrong_shape(_: LocalCluster) -> None:
    ss.get_variable("bad/shape", [2, 3]).assign_add(np.ones(4))


def wrong_dtype(_: LocalCluster) -> None:
    ss.get_variable("bad/dtype", [2], dtype="int32").assign([0.5, 1.5])


def row_out_of_range(_: LocalCluster) -> None:
    ss.get_variable("bad/rows", [2, 2]).scatter_add([0, 2], np.ones((2, 2)))


def unknown_variable(_: LocalCluster) -> None:
    with ss.variable_scope("bad", reuse=True):
        ss.get_variable("nowhere", [2])


def refused_name(_: LocalCluster) -> None:
    ss.get_variable("bad name!", [2])


def no_ps(_: LocalCluster) -> None:
    ss.connect({"worker": ["localhost:1"]})


def unknown_worker(cluster: LocalCluster) -> None:
    ss.connect(cluster.cluster_spec, task_index=9)


def two_shapes(cluster: LocalCluster) -> None:
    ss.get_variable("bad/two", [2, 3])
    with ss.connect(cluster.cluster_spec, task_index=1):
        ss.get_variable("bad/two", [3, 2])


def two_dtypes(cluster: LocalCluster) -> None:
    ss.get_variable("bad/types", [2], dtype="float32")
    with ss.connect(cluster.cluster_spec, task_index=1):
        ss.get_variable("bad/types", [2], dtype="int32")


@pytest.mark.parametrize(
    ("mistake", "error", "message"),
    [
        (unknown_task, ss.errors.InvalidArgumentError, r"bad/v is placed on ps task 7.*has 2 ps tasks"),
        (wrong_shape, ss.errors.ShapeMismatchError, r"bad/shape.*\[4\].*\[2, 3\]"),
        (wrong_dtype, ss.errors.DTypeMismatchError, r"bad/dtype holds int32, the value is float64"),
        (row_out_of_range, ss.errors.InvalidArgumentError, r"row 2 .*bad/rows"),
        (unknown_variable, ValueError, r"bad/nowhere does not exist"),
        (refused_name, ValueError, r"bad name!"),
        (no_ps, ValueError, r"ps"),
        (unknown_worker, ValueError, r"9"),
        (two_shapes, ss.errors.ShapeMismatchError, r"bad/two.*\[3, 2\].*\[2, 3\]|bad/two.*\[2, 3\].*\[3, 2\]"),
        (two_dtypes, ss.errors.DTypeMismatchError, r"bad/types"),
    ],
)
def test_bad_input_is_named_and_the_ps_goes_on(
    cluster: LocalCluster,
    client: ss.Client,
    mistake: Callable[[LocalCluster], None],
    error: type[Exception],
    message: str,
) -> None:
    witness = ss.get_variable("bad/witness", [2], initializer=ss.constant_initializer(4))
    version = witness.version
    with pytest.raises(error, match=message):
        mistake(cluster)
    assert (witness.numpy().tolist(), witness.version) == ([4, 4], version)
    witness.assign_add([0, 0])
    assert witness.version == version + 1
