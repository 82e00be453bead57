"""``replica_device_setter`` and its strategies."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from tests.unit.worker_client.naming_fakes import deferred_graph
from worker_client.graph.operation import Operation, OutputSpec
from worker_client.placement.device_setter import replica_device_setter
from worker_client.placement.strategies import (
    GreedyLoadBalancingStrategy,
    HashStrategy,
    PsStrategy,
    RandomStrategy,
    RoundRobinStrategy,
    byte_size_load_fn,
)
from worker_client.values.shapes import TensorShape


def variable_op(
    name: str = "v", shape: list[int | None] | None = None, dtype: type[np.generic] = np.float32, device: str = ""
) -> Operation:
    output = OutputSpec(np.dtype(dtype), TensorShape([] if shape is None else shape))
    operation = deferred_graph().create_op("VariableV2", outputs=[output], name=name)
    operation.device = device
    return operation


def other_op(device: str = "") -> Operation:
    operation = deferred_graph().create_op("Add")
    operation.device = device
    return operation


def setter(*devices: str, **options: Any) -> list[str]:
    function = replica_device_setter(**options)
    assert function is not None
    return [cast(str, function(variable_op(device=device))) for device in devices]


def test_variables_go_round_the_ps_tasks_and_the_rest_to_the_worker() -> None:
    function = replica_device_setter(ps_tasks=2, worker_device="/job:worker/task:1/gpu:0")
    assert function is not None
    devices = [function(variable_op()), function(other_op()), function(variable_op()), function(variable_op())]
    assert devices == ["/job:ps/task:0", "/job:worker/task:1/device:GPU:0", "/job:ps/task:1", "/job:ps/task:0"]


@pytest.mark.parametrize("options", [{}, {"ps_tasks": 0}, {"cluster": {"worker": ["w:1"]}}, {"cluster": {"ps": []}}])
def test_without_ps_tasks_there_is_no_function(options: dict[str, Any]) -> None:
    assert replica_device_setter(**options) is None


@pytest.mark.parametrize("cluster", [{"ps": ["a:1", "b:1"], "worker": ["c:1"]}, ClusterSpec({"ps": ["a:1", "b:1"]})])
def test_the_cluster_says_how_many_ps_tasks_there_are(cluster: Any) -> None:
    assert setter("", "", "", cluster=cluster, ps_tasks=9) == ["/job:ps/task:0", "/job:ps/task:1", "/job:ps/task:0"]


def test_the_job_of_ps_device_is_looked_up_in_the_cluster() -> None:
    cluster = {"master": ["a:1"], "ps": ["b:1", "c:1"]}
    assert setter("", "", cluster=cluster, ps_device="/job:master") == ["/job:master/task:0"] * 2


def test_an_explicit_task_stays_but_takes_its_turn() -> None:
    devices = setter("", "/job:ps/task:7", "", ps_tasks=3)
    assert devices == ["/job:ps/task:0", "/job:ps/task:7", "/job:ps/task:2"]


def test_another_job_stays_and_takes_no_turn() -> None:
    devices = setter("", "/job:worker", "", ps_tasks=3)
    assert devices == ["/job:ps/task:0", "/job:worker", "/job:ps/task:1"]


def test_a_device_inside_is_completed_unless_merging_is_off() -> None:
    assert setter("/gpu:1", "/cpu:0", ps_tasks=2) == ["/job:ps/task:0/device:GPU:1", "/job:ps/task:1/device:CPU:0"]
    assert setter("/gpu:1", "", ps_tasks=2, merge_devices=False) == ["/gpu:1", "/job:ps/task:0"]


def test_a_ps_device_without_a_job_takes_no_task_from_the_strategy() -> None:
    assert setter("", ps_tasks=2, ps_device="/cpu:0") == ["/device:CPU:0"]


def test_without_a_ps_device_variables_stay_with_the_worker() -> None:
    assert setter("", ps_tasks=2, ps_device="") == ["/job:worker"]


def test_the_types_of_operations_for_the_ps_can_be_chosen() -> None:
    function = replica_device_setter(ps_tasks=1, ps_ops=["Add"])
    assert function is not None
    assert (function(other_op()), function(variable_op())) == ("/job:ps/task:0", "/job:worker")


def test_a_strategy_is_given_the_operation() -> None:
    seen = []

    def strategy(op: Operation) -> int:
        seen.append((op.type, op.name, op.outputs[0].get_shape().as_list(), op.outputs[0].dtype.name, op.node_def.op))
        return 1

    function = replica_device_setter(ps_tasks=2, ps_strategy=strategy)
    assert function is not None
    assert function(variable_op("a/v", [2, 3])) == "/job:ps/task:1"
    assert seen == [("VariableV2", "a/v", [2, 3], "float32", "VariableV2")]


def test_a_strategy_that_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="ps_strategy"):
        replica_device_setter(ps_tasks=1, ps_strategy=cast(Any, 3))


def test_devices_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        replica_device_setter(ps_tasks=1, worker_device="/nonsense")


def test_greedy_puts_each_on_the_least_loaded_and_prefers_low_tasks() -> None:
    strategy = GreedyLoadBalancingStrategy(3, byte_size_load_fn)
    sizes = [4, 1, 1, 1, 1, 4]
    assert [strategy(variable_op(shape=[size])) for size in sizes] == [0, 1, 2, 1, 2, 1]


def test_the_load_in_bytes() -> None:
    assert byte_size_load_fn(variable_op(shape=[2, 3], dtype=np.float64)) == 48
    assert byte_size_load_fn(variable_op(shape=[2**40, 2**30], dtype=np.int8)) == float(2**70)
    with pytest.raises(ValueError, match=r"\[2, \?\]"):
        byte_size_load_fn(variable_op(shape=[2, None]))


def names(count: int) -> list[str]:
    return [f"layer_{index}/weights" for index in range(count)]


def test_random_depends_on_name_and_seed_only() -> None:
    tasks = {name: RandomStrategy(4, seed=1)(variable_op(name)) for name in names(40)}
    again = RandomStrategy(4, seed=1)
    assert {name: again(variable_op(name)) for name in reversed(names(40))} == tasks
    assert {name: RandomStrategy(4, seed=2)(variable_op(name)) for name in names(40)} != tasks
    assert set(tasks.values()) == {0, 1, 2, 3}


def test_random_draws_what_tensorflow_1_draws() -> None:
    """MD5 of "name_seed", from ``contrib.training``'s own source."""
    op = variable_op("layer/kernel")
    assert [RandomStrategy(5, seed=seed)(op) for seed in range(4)] == [0, 0, 2, 3]


def test_hash_gives_every_worker_the_same_task_in_any_process() -> None:
    strategy = HashStrategy(3)
    # Written down: they must never change, or running clusters would disagree.
    assert [strategy(variable_op(name)) for name in ("w", "conv1/weights", "conv1/biases", "table/part_0")] == [
        2,
        0,
        0,
        0,
    ]


def test_hash_spreads_and_moves_little_when_a_task_is_added() -> None:
    three, four = HashStrategy(3), HashStrategy(4)
    before = {name: three(variable_op(name)) for name in names(300)}
    after = {name: four(variable_op(name)) for name in names(300)}
    assert min(Counter(before.values()).values()) > 60
    moved = {name for name in before if before[name] != after[name]}
    assert {after[name] for name in moved} == {3}
    assert len(moved) < 120


@pytest.mark.parametrize(
    "make",
    [
        RoundRobinStrategy,
        RandomStrategy,
        HashStrategy,
        lambda tasks: GreedyLoadBalancingStrategy(tasks, byte_size_load_fn),
    ],
)
def test_no_strategy_without_tasks(make: Any) -> None:
    with pytest.raises(ValueError, match="at least one"):
        make(0)


@pytest.mark.parametrize(
    "strategy", [RoundRobinStrategy(4), GreedyLoadBalancingStrategy(4, lambda _: 1.0)], ids=["round robin", "greedy"]
)
def test_concurrent_calls_are_counted_once_each(strategy: PsStrategy) -> None:
    op = variable_op()
    with ThreadPoolExecutor(8) as pool:
        tasks = Counter(pool.map(lambda _: strategy(op), range(400)))
    assert tasks == {0: 100, 1: 100, 2: 100, 3: 100}
