"""What is built behind an update reads what the update has made, whatever it does with the variable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from worker_client.connection.fanout import Fanout

READS: dict[str, Callable[[Any], Any]] = {
    "plus": lambda v: v + 0.0,
    "plus, reflected": lambda v: 0.0 + v,
    "minus": lambda v: tf.negative(-v),
    "in a list": lambda v: tf.stack([v, v])[0],
    "in a list of an operand": lambda v: tf.add(np.zeros([2, 2], np.float32), [v, v])[1],
    "identity": tf.identity,
    "convert_to_tensor": tf.convert_to_tensor,
    "value": lambda v: v.value(),
    "read_value": lambda v: v.read_value(),
    "initialized_value": lambda v: v.initialized_value(),
    "an element": lambda v: tf.stack([v[0], v[1]]),
    "a slice": lambda v: v[:],
    "matmul": lambda v: tf.reshape(tf.matmul([[1.0]], tf.reshape(v, [1, 2])), [2]),
    "concat": lambda v: tf.concat([v[:1], v[1:]], 0),
    "cast": lambda v: tf.cast(tf.cast(v, tf.float64), tf.float32),
    "cast to its own": lambda v: tf.cast(v, tf.float32),
    "maximum": lambda v: tf.maximum(v, [0.0, 0.0]),
    "where": lambda v: tf.where([True, True], v, v),
    "split": lambda v: tf.concat(tf.split(v, 2), 0),
    "unstack": lambda v: tf.stack(tf.unstack(v)),
    "add_n": lambda v: tf.add_n([v]),
    "gather": lambda v: tf.gather(v, [0, 1]),
    "gather along another dimension": lambda v: tf.gather(tf.reshape(v, [1, 2]), [0, 1], axis=1)[0],
    "gather_nd": lambda v: tf.gather_nd(v, [[0], [1]]),
    "embedding_lookup": lambda v: tf.nn.embedding_lookup(v, [0, 1]),
    "a NumPy function": lambda v: np.flip(np.flip(v)),
    "with_dependencies": lambda v: tf.tuple([v])[0],
}
"""Ways to read a variable of two elements, each of which gives its value."""


@pytest.fixture(autouse=True)
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def started(session: Any, **options: Any) -> Any:
    variable = tf.get_variable("v", initializer=np.array([1, 2], np.float32), **options)
    session.run(variable.initializer)
    return variable


@pytest.mark.parametrize("resource", [False, True], ids=["plain", "resource"])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_read_behind_an_update_sees_it(session: Any, read: Callable[[Any], Any], resource: bool) -> None:
    v = started(session, use_resource=resource)
    before = read(v)
    with tf.control_dependencies([v.assign_add([10.0, 20.0])]):
        behind = read(v)
    old, new = session.run([before, behind])
    assert (old.tolist(), new.tolist()) == ([1, 2], [11, 22])
    assert session.run(behind).tolist() == [21, 42]
    assert session.run(before).tolist() == [21, 42], "a run of its own updates nothing"


@pytest.mark.parametrize("read", READS)
def test_an_update_takes_what_the_one_before_has_made(session: Any, read: str) -> None:
    v, w = started(session), tf.Variable([0.0, 0.0])
    session.run(w.initializer)
    with tf.control_dependencies([v.assign([5.0, 6.0])]):
        copied = w.assign(READS[read](v))
        counted = v.assign_add(READS[read](v))
    assert [each.tolist() for each in session.run([copied, counted])] == [[5, 6], [10, 12]]


@pytest.mark.parametrize("way", ["scatter", "group", "no_op", "initializer", "tensor of an update", "nested"])
def test_whatever_leads_to_the_update_counts(session: Any, way: str) -> None:
    v = started(session)
    ways: dict[str, Callable[[], Any]] = {
        "scatter": lambda: tf.scatter_update(v, [0, 1], [7.0, 8.0]),
        "group": lambda: tf.group(tf.group(v.assign([7.0, 8.0]))),
        "no_op": lambda: behind_a_no_op(v.assign([7.0, 8.0])),
        "initializer": lambda: tf.variables_initializer([v]),
        "tensor of an update": lambda: tf.reduce_sum(v.assign([7.0, 8.0]) * 2.0),
        "nested": lambda: v.assign([7.0, 8.0]).op,
    }
    update = ways[way]()
    with tf.control_dependencies([update]), tf.control_dependencies([tf.no_op()]):
        behind = v * 1.0
    session.run(v.assign([0.0, 0.0]))
    assert session.run(behind).tolist() == ([1, 2] if way == "initializer" else [7, 8])


def behind_a_no_op(update: Any) -> Any:
    with tf.control_dependencies([update]):
        return tf.no_op()


def test_parts_and_the_whole_of_a_partitioned_variable(session: Any) -> None:
    start = np.arange(4, dtype=np.float32)
    p = tf.get_variable("p", [4], initializer=tf.constant_initializer(start), partitioner=tf.fixed_size_partitioner(2))
    session.run(tf.global_variables_initializer())
    with tf.control_dependencies([part.assign_add([10.0, 10.0]) for part in p]):
        reads = [
            tf.convert_to_tensor(p),
            p.as_tensor(),
            tf.concat([part * 1.0 for part in p], 0),
            tf.add(p, 0.0),
            tf.nn.embedding_lookup(p, [0, 1, 2, 3], partition_strategy="div"),
        ]
    assert [each.tolist() for each in session.run(reads)] == [(start + 10).tolist()] * len(reads)


def test_a_fetch_in_a_block_is_of_the_run_and_not_behind_the_block(session: Any) -> None:
    v = started(session)
    with tf.control_dependencies([v.assign_add([1.0, 1.0])]):
        assert session.run(v).tolist() == v.eval().tolist() == [1, 2]
        assert session.run({"v": v})["v"].tolist() == [1, 2]


def test_what_is_made_in_another_graph_and_thread_is_not_behind_it(session: Any) -> None:
    v = started(session)
    with tf.control_dependencies([v.assign_add([1.0, 1.0])]), tf.control_dependencies(None):
        before = v * 1.0
    assert session.run(before).tolist() == [1, 2]


def test_a_read_behind_an_update_takes_no_name_and_looks_like_the_other(session: Any) -> None:
    v = started(session, caching_device="/job:worker/task:3")
    with tf.control_dependencies([v.assign_add([1.0, 1.0])]):
        behind = tf.identity(v)
    (read,) = behind.op.inputs
    assert read is not v.value()
    assert (read.name, read.device, read.shape.as_list()) == ("v/read:0", "/job:worker/task:3", [2])
    assert (read.op.type, read.op.colocation_groups()) == (v.value().op.type, v.value().op.colocation_groups())
    assert [each.name for each in tf.get_default_graph().get_operations() if "read" in each.name] == ["v/read"]
    assert session.run(behind).tolist() == [2, 3]


# -- exchanges ----------------------------------------------------------------------------------------


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The kinds of operations of each exchange with the store."""
    kinds: list[list[str]] = []
    exchange_all = Fanout.exchange_all

    def recorded(self: Fanout, routed: Any, *arguments: Any, **keywords: Any) -> Any:
        kinds.append([type(each.operation).__name__ for each in routed])
        return exchange_all(self, routed, *arguments, **keywords)

    monkeypatch.setattr(Fanout, "exchange_all", recorded)
    return kinds


def test_reads_behind_the_same_updates_are_one(session: Any, exchanges: list[list[str]]) -> None:
    v, w = started(session), tf.Variable([0.0, 0.0])
    session.run(w.initializer)
    update = v.assign_add([1.0, 1.0])
    with tf.control_dependencies([update]):
        one = v * 2.0 + v
    with tf.control_dependencies([update]):
        other = w.assign(v)
    exchanges.clear()
    session.run([one, other])
    assert exchanges == [["Update"], ["Read"], ["Update", "Read"]]


def test_reads_that_no_update_precedes_are_one_exchange(session: Any, exchanges: list[list[str]]) -> None:
    v, w = started(session), tf.Variable([0.0, 0.0])
    session.run(w.initializer)
    total = v + w
    with tf.control_dependencies([w.read_value(), tf.no_op(), total]):
        behind = v * 2.0
    exchanges.clear()
    session.run([total, behind])
    assert exchanges == [["Read", "Read", "Read"]]
