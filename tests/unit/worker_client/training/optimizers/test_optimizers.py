"""What a step asks the ps for: in how many exchanges, where slots are, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Apply, Read
from tests.unit.worker_client.clusters import InProcessCluster
from tests.unit.worker_client.sessions.test_evaluation import RecordingRuntime
from worker_client.sessions.evaluation import Evaluation


@pytest.fixture(autouse=True)
def _graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


@pytest.fixture
def runtime() -> Iterator[RecordingRuntime]:
    runtime = RecordingRuntime()
    yield runtime
    runtime.close()


def initialized(runtime: RecordingRuntime) -> None:
    initializer = tf.global_variables_initializer()
    assert initializer is not None
    Evaluation(runtime, {}).run([initializer], [])
    runtime.exchanges.clear()


def model() -> tuple[list[Any], Any]:
    w = tf.get_variable("w", [3, 2], initializer=tf.ones_initializer())
    b = tf.get_variable("b", [2], initializer=tf.zeros_initializer())
    return [w, b], tf.reduce_sum(tf.square(tf.matmul(tf.ones([4, 3]), w) + b))


def test_a_step_reads_in_one_exchange_and_updates_in_another(runtime: RecordingRuntime) -> None:
    _, loss = model()
    step = tf.train.AdamOptimizer(0.1).minimize(loss)
    initialized(runtime)
    Evaluation(runtime, {}).run([step], [loss])
    assert runtime.kinds == [["Read"] * 4, ["Apply"] * 4]
    assert {each.name for each in runtime.exchanges[0]} == {"w", "b", "beta1_power", "beta2_power"}
    assert [(each.name, each.slots) for each in runtime.exchanges[1][:2]] == [
        ("w", ("w/Adam", "w/Adam_1")),
        ("b", ("b/Adam", "b/Adam_1")),
    ]


def test_the_global_step_is_counted_behind_the_updates_and_in_their_exchange(runtime: RecordingRuntime) -> None:
    counter = tf.train.get_or_create_global_step()
    _, loss = model()
    step = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss, global_step=counter)
    initialized(runtime)
    Evaluation(runtime, {}).run([step], [])
    assert runtime.kinds == [["Read"] * 2, ["Apply", "Apply", "Update"]]
    assert runtime.exchanges[1][2].name == "global_step"


def test_the_global_step_waits_for_updates_that_wait_for_others(runtime: RecordingRuntime) -> None:
    counter = tf.train.get_or_create_global_step()
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer(), constraint=lambda value: value * 2)
    step = tf.train.GradientDescentOptimizer(0.1).apply_gradients([([1.0, 2.0], w)], global_step=counter)
    initialized(runtime)
    Evaluation(runtime, {}).run([step], [])
    assert runtime.kinds == [["Apply"], ["Read"], ["Update", "Update"]]
    assert [each.name for each in runtime.exchanges[2]] == ["w", "global_step"]


def test_the_step_that_was_counted_is_read_behind_it(runtime: RecordingRuntime) -> None:
    counter = tf.train.get_or_create_global_step()
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
    step = tf.train.GradientDescentOptimizer(0.1).apply_gradients([([1.0, 2.0], w)], global_step=counter)
    with tf.control_dependencies([step]):
        after = counter.read_value()
    initialized(runtime)
    assert Evaluation(runtime, {}).run([step], [step.outputs[0], after]) == [1, 1]
    assert runtime.kinds == [["Apply", "Update", "Read"], ["Read"]]


def test_settings_travel_in_the_rules_order(runtime: RecordingRuntime) -> None:
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
    rate = tf.placeholder(tf.float32, [])
    step = tf.train.AdamOptimizer(rate, beta1=0.5, beta2=0.25, epsilon=0.125).apply_gradients([([1.0, 2.0], w)])
    initialized(runtime)
    Evaluation(runtime, {rate: np.array(0.75, np.float32)}).run([step], [])
    sent: Apply = runtime.exchanges[-1][0]
    assert sent.function == "adam"
    assert sent.numbers.dtype == np.float64
    np.testing.assert_array_equal(sent.numbers, [0.75, 0.5, 0.25, 0.125, 0.5, 0.25, 0])
    (gradient,) = sent.operands
    np.testing.assert_array_equal(gradient, [1, 2])


def test_a_learning_rate_may_follow_the_global_step(runtime: RecordingRuntime) -> None:
    counter = tf.train.get_or_create_global_step()
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
    rate = tf.train.exponential_decay(1.0, counter, 1, 0.5)
    step = tf.train.GradientDescentOptimizer(rate).apply_gradients([([1.0, 2.0], w)], global_step=counter)
    initialized(runtime)
    for _ in range(3):
        Evaluation(runtime, {}).run([step], [])
    rates = [each.numbers[0] for exchange in runtime.exchanges for each in exchange if isinstance(each, Apply)]
    assert rates == [1.0, 0.5, 0.25]


def test_gradients_of_a_row_are_added_up_before_they_are_sent(runtime: RecordingRuntime) -> None:
    table = tf.get_variable("table", [4, 1], initializer=tf.zeros_initializer())
    rows = tf.IndexedSlices(tf.constant([[1.0], [2.0], [4.0], [8.0]]), tf.constant([2, 0, 2, 3]), [4, 1])
    step = tf.train.AdagradOptimizer(0.1).apply_gradients([(rows, table)])
    initialized(runtime)
    Evaluation(runtime, {}).run([step], [])
    indices, values = runtime.exchanges[-1][0].operands
    assert indices.tolist() == [0, 2, 3]
    assert values.tolist() == [[2], [5], [8]]


def test_parts_have_slots_of_their_own_in_their_place() -> None:
    parts = tf.get_variable("w", [5, 2], initializer=tf.ones_initializer(), partitioner=tf.fixed_size_partitioner(2))
    optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
    step = optimizer.minimize(tf.reduce_sum(tf.square(parts)))
    slots = [optimizer.get_slot(part, "momentum") for part in parts]
    assert [each.name for each in slots] == ["w/part_0/Momentum:0", "w/part_1/Momentum:0"]
    places = [each._get_save_slice_info() for each in slots]
    assert [(each.full_name, each.spec) for each in places] == [
        ("w/Momentum", "5 2 0,3:0,2"),
        ("w/Momentum", "5 2 3,2:0,2"),
    ]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(step)
        np.testing.assert_allclose(np.concatenate(session.run(list(parts))), np.full((5, 2), 0.8), rtol=1e-6)


def test_slots_are_on_the_ps_task_of_their_variable(cluster: InProcessCluster) -> None:
    _, loss = model()
    step = tf.train.AdamOptimizer(0.1).minimize(loss)
    with tf.Session(cluster.client()) as session:
        session.run(tf.global_variables_initializer())
        before = session.run(loss)
        session.run(step)
        assert session.run(loss) < before
    names = [{info.spec.name for info in task.list_variables(timeout_s=1)} for task in cluster.tasks]
    assert {"w", "w/Adam", "w/Adam_1"} in [each & {"w", "w/Adam", "w/Adam_1"} for each in names]
    assert {"b", "b/Adam", "b/Adam_1", "beta1_power", "beta2_power"} in [
        each & {"b", "b/Adam", "b/Adam_1", "beta1_power", "beta2_power"} for each in names
    ]
    assert {"w", "b"} not in [each & {"w", "b"} for each in names], "both are on one task, so that this shows nothing"


def test_a_worker_that_did_not_initialise_the_slots_uses_them(cluster: InProcessCluster) -> None:
    chief, worker = cluster.client(0), cluster.client(1)
    _, loss = model()
    step = tf.train.AdamOptimizer(0.1).minimize(loss)
    with tf.Session(chief) as session, tf.Session(worker) as other:
        session.run(tf.global_variables_initializer())
        before = session.run(loss)
        other.run(step)
        assert session.run(loss) < before


def test_a_constraint_is_applied_to_the_new_value() -> None:
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer(), constraint=lambda value: tf.maximum(value, 0.5))
    step = tf.train.GradientDescentOptimizer(1.0).apply_gradients([([0.25, 4.0], w)])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(step)
        assert session.run(w).tolist() == [0.75, 0.5]


def test_an_optimizer_of_ones_own_uses_the_same_hooks() -> None:
    class Halves(tf.train.Optimizer):
        def __init__(self) -> None:
            super().__init__(False, "Halves")

        def _create_slots(self, var_list: Any) -> None:
            for each in var_list:
                self._zeros_slot(each, "count", self._name)

        def _apply_dense(self, grad: Any, var: Any) -> Any:
            count = self.get_slot(var, "count").assign_add(tf.ones_like(grad))
            return tf.group(count, var.assign_sub(grad * 0.5))

    w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
    optimizer = Halves()
    step = optimizer.minimize(tf.reduce_sum(w * w))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(step)
        assert session.run([w, optimizer.get_slot(w, "count")])[0].tolist() == [0, 0]
        assert optimizer.get_slot_names() == ["count"]
        assert optimizer.get_slot(w, "other") is None


def test_gradients_are_computed_of_the_variables_asked_for_and_may_be_changed() -> None:
    (w, b), loss = model()
    optimizer = tf.train.GradientDescentOptimizer(1.0)
    for gate in (optimizer.GATE_NONE, optimizer.GATE_OP, optimizer.GATE_GRAPH):
        assert [each for _, each in optimizer.compute_gradients(loss, gate_gradients=gate)] == [w, b]
    found = optimizer.compute_gradients(loss, var_list=[[b]], grad_loss=tf.constant(2.0))
    step = optimizer.apply_gradients([(gradient * 0.0 + 0.25, each) for gradient, each in found])
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(found[0][0]).tolist() == [48, 48]
        session.run(step)
        assert session.run(b).tolist() == [-0.25, -0.25]


def test_a_gradient_of_another_shape_is_refused_and_changes_nothing(runtime: RecordingRuntime) -> None:
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
    with pytest.raises(ValueError, match=r"does not fit its variable w:0 of the shape \[2\]"):
        tf.train.AdamOptimizer().apply_gradients([([1.0, 2.0, 3.0], w)])
    gradient = tf.placeholder(tf.float32, None)
    step = tf.train.AdamOptimizer().apply_gradients([(gradient, w)])
    initialized(runtime)
    with pytest.raises(InvalidArgumentError, match=r"gradient of variable w has the shape \[3\], needed is \[2\]"):
        Evaluation(runtime, {gradient: np.ones(3, np.float32)}).run([step], [])
    assert all(isinstance(each, Read) for exchange in runtime.exchanges for each in exchange)


def test_a_gradient_of_another_dtype_is_refused() -> None:
    w = tf.get_variable("w", [2], tf.float64, tf.ones_initializer())
    with pytest.raises(TypeError, match="cast the gradient"):
        tf.train.AdamOptimizer().apply_gradients([(tf.constant([1.0, 2.0]), w)])


@pytest.mark.parametrize(
    ("train", "error", "message"),
    [
        (lambda loss, _: tf.train.AdamOptimizer("x").minimize(loss), TypeError, "learning_rate of Adam is 'x'; give a"),
        (
            lambda loss, _: tf.train.AdamOptimizer().minimize(loss, global_step=5),
            TypeError,
            r"the global step is 5; give a variable of the graph, as tf\.train\.get_or_create",
        ),
        (
            lambda loss, fed: tf.train.AdamOptimizer().minimize(loss, var_list=[fed]),
            NotImplementedError,
            "Trying to update a Tensor ', <tf.Tensor 'fed:0'",
        ),
    ],
    ids=["learning rate", "global step", "placeholder"],
)
def test_what_cannot_be_trained_makes_no_slots(train: Any, error: type[Exception], message: str) -> None:
    w, fed = tf.get_variable("w", [2]), tf.placeholder(tf.float32, [2], name="fed")
    with pytest.raises(error, match=message):
        train(tf.reduce_sum(w * fed), fed)
    assert tf.global_variables() == [w]


def test_a_partitioned_variable_is_trained_by_its_parts() -> None:
    parts = tf.get_variable("w", [4, 2], partitioner=tf.fixed_size_partitioner(2))
    with pytest.raises(NotImplementedError, match=r"give the parts of w, as list\(variable\)"):
        tf.train.AdamOptimizer().minimize(tf.reduce_sum(parts), var_list=[parts])


def test_powers_are_multiplied_once_for_each_of_the_steps_that_overlap(cluster: InProcessCluster) -> None:
    graph = tf.get_default_graph()
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
    others: list[Any] = []

    def steps_of_others(x: Any) -> Any:
        while others:
            others.pop()()
        return x

    through = tf.numpy_function(steps_of_others, [w], tf.float32)
    step = tf.train.AdamOptimizer(0.1, beta1=0.5, beta2=0.75).minimize(tf.reduce_sum(w * through))
    with tf.Session(cluster.client()) as session, tf.Session(cluster.client(), graph=graph) as other:
        session.run(tf.global_variables_initializer())
        others.append(lambda: other.run(step))  # while the session below has read the powers, and computes
        session.run(step)
        assert not others
        powers = session.run(["beta1_power:0", "beta2_power:0"])
    assert powers == [0.5**3, 0.75**3]


OPTIMIZERS = (tf.train.MomentumOptimizer(0.1, 0.9), tf.train.AdamOptimizer(), tf.train.ProximalAdagradOptimizer(0.1))
"""Some whose steps for rows are rules of a ps."""


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda each: each.get_name())
@pytest.mark.parametrize(
    ("rows", "values", "message"),
    [
        ([1, 3], np.ones([3, 2]), r"values of the shape \[3, 2\] and row indices of the shape \[2\]"),
        ([1, 3], np.ones([1, 2]), r"values of the shape \[1, 2\] and row indices of the shape \[2\]"),
        ([[1, 3]], np.ones([2, 2]), r"row indices of the shape \[1, 2\]"),
        (1, np.ones([2, 2]), r"row indices of the shape \[\]"),
        ([1, 3], np.ones([2, 3]), r"gradient of variable w has the shape \[2, 3\], needed is \[2, 2\]"),
        (
            [1, 4],
            np.ones([2, 2]),
            r"row 4 in the gradient of variable w .* is outside of \[0, 4\); nothing was changed",
        ),
        ([-1], np.ones([1, 2]), r"row -1 in the gradient of variable w .* is outside of \[0, 4\)"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_of_the_run_is_changed(
    optimizer: Any, rows: Any, values: Any, message: str, runtime: RecordingRuntime
) -> None:
    w, b = tf.get_variable("w", [4, 2]), tf.get_variable("b", [])
    given, indices = tf.placeholder(tf.float32, None), tf.placeholder(tf.int32, None)
    step = optimizer.apply_gradients([(tf.IndexedSlices(given, indices), w), (tf.constant(1.0), b)])
    initialized(runtime)
    with pytest.raises(InvalidArgumentError, match=message):
        Evaluation(runtime, {given: values.astype(np.float32), indices: np.array(rows, np.int32)}).run([step], [])
    assert all(isinstance(each, Read) for exchange in runtime.exchanges for each in exchange)


def test_rows_that_cannot_fit_are_refused_while_building() -> None:
    w = tf.get_variable("w", [4, 2])
    with pytest.raises(ValueError, match=r"values of the shape \[3, 2\] and row indices of the shape \[2\]"):
        tf.train.AdamOptimizer().apply_gradients([(tf.IndexedSlices(tf.ones([3, 2]), tf.constant([1, 2])), w)])
    with pytest.raises(TypeError, match=r"row indices .* of a gradient are float32; integers are needed"):
        tf.train.AdamOptimizer().apply_gradients([(tf.IndexedSlices(tf.ones([2, 2]), tf.constant([1.0, 2.0])), w)])


def test_a_learning_rate_that_is_no_scalar_is_refused_and_changes_nothing(runtime: RecordingRuntime) -> None:
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
    rate = tf.placeholder(tf.float32, None)
    step = tf.train.MomentumOptimizer(rate, 0.9).minimize(tf.reduce_sum(w))
    initialized(runtime)
    with pytest.raises(InvalidArgumentError, match=r"learning_rate of the step of variable w has the shape \[2\]"):
        Evaluation(runtime, {rate: np.ones(2, np.float32)}).run([step], [])
    assert all(isinstance(each, Read) for exchange in runtime.exchanges for each in exchange)
    with pytest.raises(ValueError, match=r"learning_rate of the step of variable w has the shape \[2\]"):
        tf.train.MomentumOptimizer([0.1, 0.2], 0.9).minimize(tf.reduce_sum(w))


@pytest.mark.parametrize("value", [1, True, b"text", 1j], ids=str)
def test_what_is_not_of_floats_is_not_trained(value: Any) -> None:
    v = tf.Variable([value], name="v")
    before = len(tf.global_variables())
    with pytest.raises(TypeError, match=r"v:0 holds .* and cannot be trained: Momentum changes variables of .*float32"):
        tf.train.MomentumOptimizer(0.1, 0.9).apply_gradients([(tf.constant([value]), v)])
    assert len(tf.global_variables()) == before


def test_a_variable_of_another_graph_is_not_trained() -> None:
    with tf.Graph().as_default():
        v = tf.get_variable("v", [])
    with pytest.raises(ValueError, match="v:0 belongs to another graph than the default one"):
        tf.train.AdamOptimizer().apply_gradients([(tf.constant(1.0), v)])
    assert (v.graph.get_collection("train_op"), len(v.graph.get_collection("variables"))) == ([], 1)
