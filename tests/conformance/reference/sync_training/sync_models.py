"""Synchronous training of models of all kinds: other optimizers, dtypes, ranks, parts, decays, scopes, supervisors."""

import tempfile

import numpy as np

from tests.conformance.reference.sync_training.notes import program
from tests.conformance.reference.sync_training.sync_hooks import GRACE_S
from tests.conformance.reference.sync_training.sync_graphs import made_by, model, variables

OPTIMIZERS = {
    "adadelta": lambda tf: tf.train.AdadeltaOptimizer(0.5),
    "adagrad": lambda tf: tf.train.AdagradOptimizer(0.5),
    "ftrl": lambda tf: tf.train.FtrlOptimizer(0.5, l1_regularization_strength=0.01),
    "nesterov": lambda tf: tf.train.MomentumOptimizer(0.25, 0.5, use_nesterov=True),
    "proximal": lambda tf: tf.train.ProximalGradientDescentOptimizer(0.5, 0.01, 0.01),
    "rmsprop": lambda tf: tf.train.RMSPropOptimizer(0.125, centered=True),
}


class Trained:
    """One worker that trains what a program has built, by the parts of ``train``."""

    def __init__(self, tf, notes, optimizer, train):
        self.runner = optimizer.get_chief_queue_runner()
        self.notes, self.train = notes, train
        self.push = list(train.op.inputs[1].op.control_inputs)
        self.token = tf.assign(tf.local_variables()[-1], self.runner.queue.dequeue())
        self.init, self.chief_init = tf.global_variables_initializer(), optimizer.chief_init_op

    def steps(self, feeds, fetches):
        """Notes what there is after each step."""
        self.notes.run("init", self.init)
        self.notes.run("chief_init_op", self.chief_init)
        for each in feeds:
            self.notes.run("push", self.push, each)
            self.notes.run("round", self.runner.enqueue_ops[0])
            self.notes.run("token", self.token)
            self.notes.run("values", fetches)


def vector(tf, shape=(2,), dtype="float32"):
    step = tf.train.get_or_create_global_step()
    w = tf.get_variable("w", list(shape), tf.as_dtype(dtype), tf.ones_initializer())
    return step, w, tf.placeholder(tf.as_dtype(dtype), list(shape), name="given")


def _for_each_optimizer(make):
    for name, optimizer in OPTIMIZERS.items():
        def of_one(tf, notes, optimizer=optimizer):
            make(tf, notes, optimizer(tf))

        of_one.__name__ = f"{make.__name__}_{name}"
        program(of_one)


@_for_each_optimizer
def model_trained_by(tf, notes, inner):
    step, w, given = vector(tf)
    optimizer = tf.train.SyncReplicasOptimizer(inner, 1)
    trained = Trained(tf, notes, optimizer, optimizer.apply_gradients([(given, w)], step))
    trained.steps([{given: [1.0, -2.0]}, {given: [0.5, 3.0]}, {given: [-1.0, 0.25]}], {"w": w, "step": step})
    notes.value("slots", optimizer.get_slot_names())


@_for_each_optimizer
def model_of_rows_trained_by(tf, notes, inner):
    step = tf.train.get_or_create_global_step()
    table = tf.get_variable("table", [4, 2], initializer=tf.ones_initializer())
    rows = tf.placeholder(tf.int64, [None])
    loss = tf.reduce_sum(tf.square(tf.gather(table, rows)) * 0.5)
    optimizer = tf.train.SyncReplicasOptimizer(inner, 1)
    trained = Trained(tf, notes, optimizer, optimizer.minimize(loss, step))
    trained.steps([{rows: [0, 2]}, {rows: [2, 2, 3]}, {rows: [1]}], {"table": table, "step": step})


@program
def model_of_scalars_and_more_dimensions(tf, notes):
    step = tf.train.get_or_create_global_step()
    scalar = tf.get_variable("scalar", [], initializer=tf.ones_initializer())
    cube = tf.get_variable("cube", [2, 1, 2], initializer=tf.ones_initializer())
    loss = tf.square(scalar) * 2.0 + tf.reduce_sum(tf.square(cube))
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.125), 1)
    trained = Trained(tf, notes, optimizer, optimizer.minimize(loss, step))
    trained.steps([None] * 2, {"scalar": scalar, "cube": cube, "step": step})


@program
def model_of_two_dtypes(tf, notes):
    step = tf.train.get_or_create_global_step()
    wide = tf.get_variable("wide", [2], tf.float64, tf.ones_initializer())
    narrow = tf.get_variable("narrow", [2], tf.float16, tf.ones_initializer())
    pairs = [(tf.constant([1.0, 2.0], tf.float64), wide), (tf.constant([0.5, 0.25], tf.float16), narrow)]
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 1)
    trained = Trained(tf, notes, optimizer, optimizer.apply_gradients(pairs, step))
    trained.steps([None] * 2, {"wide": wide, "narrow": narrow})


@program
def model_of_parts(tf, notes):
    step = tf.train.get_or_create_global_step()
    parts = tf.get_variable("parts", [5, 2], initializer=tf.ones_initializer(), partitioner=tf.fixed_size_partitioner(2))
    loss = tf.reduce_sum(tf.square(tf.convert_to_tensor(parts)) * np.arange(10.0, dtype=np.float32).reshape(5, 2))
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.MomentumOptimizer(0.125, 0.5), 1)
    trained = Trained(tf, notes, optimizer, optimizer.minimize(loss, step))
    trained.steps([None] * 2, [*parts, step])
    notes.value("slots", [optimizer.get_slot(each, "momentum") for each in parts])


@program
def model_with_clipped_gradients(tf, notes):
    step, w, given = vector(tf)
    other = tf.get_variable("other", [1], initializer=tf.ones_initializer())
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 1)
    found = optimizer.compute_gradients(tf.reduce_sum(w * given) + tf.reduce_sum(other * 4.0))
    clipped, norm = tf.clip_by_global_norm([grad for grad, _ in found], 1.0)
    pairs = list(zip(clipped, [each for _, each in found]))
    trained = Trained(tf, notes, optimizer, optimizer.apply_gradients(pairs, step))
    trained.steps([{given: [3.0, 0.0]}, {given: [0.0, -3.0]}], {"w": w, "other": other})
    notes.run("norm", norm, {given: [3.0, 0.0]})


@program
def model_with_a_decay_by_the_step(tf, notes):
    step, w, given = vector(tf)
    rate = tf.train.exponential_decay(0.5, step, 1, 0.5, staircase=True)
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(rate), 1)
    trained = Trained(tf, notes, optimizer, optimizer.apply_gradients([(given, w)], step))
    trained.steps([{given: [1.0, 1.0]}] * 3, {"w": w, "rate": rate, "step": step})


@program
def model_of_some_variables(tf, notes):
    step, w, given = vector(tf)
    fixed = tf.get_variable("fixed", [2], initializer=tf.ones_initializer())
    loss = tf.reduce_sum(w * given + tf.square(fixed))
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 1)
    train = optimizer.minimize(loss, step, var_list=[w], name="not_used", gate_gradients=tf.train.Optimizer.GATE_GRAPH)
    trained = Trained(tf, notes, optimizer, train)
    trained.steps([{given: [1.0, 2.0]}] * 2, {"w": w, "fixed": fixed})
    notes.value("train", train.op.name)


@program
def model_of_two_optimizers_with_names(tf, notes):
    step, w, given = vector(tf)
    v = tf.get_variable("v", [2], initializer=tf.ones_initializer())
    for name, each in (("first", w), ("second", v)):
        optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 1, name=name)
        train = optimizer.apply_gradients([(given, each)], step)
        notes.value(name, [optimizer.get_name(), train.name, optimizer.chief_init_op.name])
        notes.value("accumulators", [each.name for each in tf.get_default_graph().get_operations() if each.type == "ResourceConditionalAccumulator"])


@program
def model_in_a_name_scope(tf, notes):
    with tf.name_scope("tower"):
        step, w, gradient = model(tf, notes)
        optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 2)
        train = optimizer.apply_gradients([(gradient, w)], step)
        notes.operations("operations")
        made_by(tf, notes, optimizer, train)
        notes.value("tokens", optimizer.get_init_tokens_op().name)
    variables(tf, notes)


@program
def model_that_waits_for_something(tf, notes):
    step, w, given = vector(tf)
    count = tf.get_variable("count", [], tf.int32, tf.zeros_initializer(), trainable=False)
    with tf.control_dependencies([tf.assign_add(count, 1)]):
        optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 1)
        train = optimizer.apply_gradients([(given, w)], step)
    notes.run("init", tf.global_variables_initializer())
    notes.value("the push waits for", [each.name for each in train.op.inputs[1].op.control_inputs[0].control_inputs])
    notes.value("the token waits for", [each.name for each in train.op.inputs[1].op.control_inputs])


@program
def model_whose_train_is_fetched_with_others(tf, notes):
    step, w, given = vector(tf)
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 1)
    train = optimizer.apply_gradients([(given, w)], step)
    tokens = optimizer.get_init_tokens_op(2)
    loss = tf.reduce_sum(w * given)
    notes.run("init", tf.global_variables_initializer())
    notes.run("chief_init_op", optimizer.chief_init_op)
    notes.run("tokens", tokens)
    notes.run("train, loss", [train, loss], {given: [1.0, 2.0]})
    notes.run("round", optimizer.get_chief_queue_runner().enqueue_ops[0])
    notes.run("train.op", train.op, {given: [1.0, 2.0]})
    notes.run("loss", [loss, step, w], {given: [1.0, 2.0]})


@program
def model_with_averages_in_a_session(tf, notes):
    step, w, _ = vector(tf)
    averages = tf.train.ExponentialMovingAverage(0.5, num_updates=step)
    optimizer = tf.train.SyncReplicasOptimizer(
        tf.train.GradientDescentOptimizer(0.5), 1, variable_averages=averages, variables_to_average=[w]
    )
    train = optimizer.apply_gradients([(tf.constant([1.0, -1.0]), w)], step)
    notes.value("variables", [each.name for each in tf.global_variables()])
    hook = optimizer.make_session_run_hook(True, num_tokens=0)
    with tf.train.MonitoredTrainingSession(stop_grace_period_secs=GRACE_S, hooks=[hook]) as session:
        notes.value("tokens", [session.run(train) for _ in range(3)])
        notes.value("values", session.run([w, step]))


@program
def model_of_a_supervisor(tf, notes):
    """As ``mnist_replica.py`` of TensorFlow 1 has it."""
    step = tf.Variable(0, name="global_step", trainable=False)
    w = tf.Variable([1.0, 1.0], name="w")
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), replicas_to_aggregate=1, total_num_replicas=1)
    train = optimizer.minimize(tf.reduce_sum(w * [1.0, 2.0]), global_step=step)
    runner, tokens = optimizer.get_chief_queue_runner(), optimizer.get_init_tokens_op(0)
    with tempfile.TemporaryDirectory() as folder:
        supervisor = tf.train.Supervisor(
            logdir=folder,
            init_op=tf.global_variables_initializer(),
            local_init_op=optimizer.chief_init_op,
            ready_for_local_init_op=optimizer.ready_for_local_init_op,
            recovery_wait_secs=1,
            global_step=step,
            summary_op=None,
            save_model_secs=0,
        )
        session = supervisor.prepare_or_wait_for_session("")
        session.run(tokens)
        threads = supervisor.start_queue_runners(session, [runner])
        notes.value("threads", sorted(each.name for each in threads))
        notes.value("tokens", [session.run(train) for _ in range(3)])
        notes.value("values", session.run([w, step]))
        notes.value("stops", supervisor.should_stop())
        supervisor.request_stop()
        session.close()


@program
def model_whose_chief_begins_again(tf, notes):
    step, w, given = vector(tf)
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 1)
    trained = Trained(tf, notes, optimizer, optimizer.apply_gradients([(given, w)], step))
    size = trained.runner.queue.size()
    trained.steps([{given: [1.0, 1.0]}] * 2, {"w": w, "step": step})
    trained.steps([{given: [2.0, 1.0]}], {"w": w, "step": step})
    notes.run("tokens", size)


@program
def model_whose_gradient_is_not_finite(tf, notes):
    step, w, given = vector(tf)
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 1)
    trained = Trained(tf, notes, optimizer, optimizer.apply_gradients([(given, w)], step))
    trained.steps([{given: [float("inf"), 1.0]}, {given: [float("nan"), 1.0]}], {"w": w, "step": step})


@program
def model_of_a_constraint(tf, notes):
    step = tf.train.get_or_create_global_step()
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer(), constraint=lambda value: tf.clip_by_value(value, 0.25, 2.0))
    given = tf.placeholder(tf.float32, [2])
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 1)
    trained = Trained(tf, notes, optimizer, optimizer.apply_gradients([(given, w)], step))
    trained.steps([{given: [1.0, -1.0]}, {given: [1.0, -4.0]}], {"w": w})


@program
def model_whose_token_is_fed(tf, notes):
    step, w, given = vector(tf)
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 1)
    train = optimizer.apply_gradients([(given, w)], step)
    notes.run("init", tf.global_variables_initializer())
    notes.run("chief_init_op", optimizer.chief_init_op)
    notes.run("train with a token that is fed", train, {given: [1.0, 1.0], train.op.inputs[1]: 7})
    notes.run("local step", tf.local_variables()[-1])
    notes.waits("round: nothing was pushed", optimizer.get_chief_queue_runner().enqueue_ops[0])
