"""What ``SyncReplicasOptimizer`` answers: its methods too early, twice, with wrong arguments; messages in full."""

import logging

import numpy as np

from tests.conformance.reference.sync_training.global_steps import Logged
from tests.conformance.reference.sync_training.notes import program


def sync(tf, aggregate=2, total=None, **options):
    """A synchronous optimizer of a vector, before ``apply_gradients``, with its arguments."""
    step = tf.train.get_or_create_global_step()
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), aggregate, total, **options)
    return optimizer, w, step


@program
def sync_class(tf, notes):
    notes.value("bases", [each.__name__ for each in tf.train.SyncReplicasOptimizer.__mro__ if each.__module__ != "builtins"][:2])
    notes.value("V2", hasattr(tf.train, "SyncReplicasOptimizerV2"))
    optimizer, *_ = sync(tf)
    notes.value("is an optimizer", isinstance(optimizer, tf.train.Optimizer))
    notes.value("public", sorted(each for each in dir(optimizer) if not each.startswith("_")))
    notes.value("get_name", optimizer.get_name())


@program
def sync_methods_too_early(tf, notes):
    optimizer, w, _ = sync(tf)
    notes.made("get_init_tokens_op", lambda: optimizer.get_init_tokens_op())
    notes.made("get_init_tokens_op(0)", lambda: optimizer.get_init_tokens_op(0))
    notes.made("get_chief_queue_runner", lambda: optimizer.get_chief_queue_runner())
    for name in ("chief_init_op", "local_step_init_op", "ready_for_local_init_op"):
        notes.made(name, lambda name=name: getattr(optimizer, name))
    hook = notes.made("make_session_run_hook", lambda: optimizer.make_session_run_hook(True) and True)
    notes.value("hook", hook)
    notes.made("begin of the hook", lambda: optimizer.make_session_run_hook(True).begin())
    notes.made("begin of the hook of a worker", lambda: optimizer.make_session_run_hook(False).begin())
    notes.made("get_slot", lambda: optimizer.get_slot(w, "momentum"))
    notes.made("get_slot_names", lambda: optimizer.get_slot_names())
    notes.made("variables", lambda: optimizer.variables())


@program
def sync_wrong_arguments(tf, notes):
    inner = tf.train.GradientDescentOptimizer(0.5)
    for name, arguments, options in (
        ("none", (), {}),
        ("no number", (inner,), {}),
        ("more than there are", (inner, 5, 2), {}),
        ("fewer than there are", (inner, 2, 5), {}),
        ("zero", (inner, 0), {}),
        ("negative", (inner, -1), {}),
        ("zero of two", (inner, 0, 2), {}),
        ("two of zero", (inner, 2, 0), {}),
        ("text", (inner, "x"), {}),
        ("text of two", (inner, "x", 2), {}),
        ("a float", (inner, 1.5), {}),
        ("None", (inner, None), {}),
        ("no optimizer", (None, 2), {}),
        ("empty name", (inner, 2), {"name": ""}),
        ("name None", (inner, 2), {"name": None}),
        ("use_locking", (inner, 2), {"use_locking": True}),
        ("averages of nothing", (inner, 2), {"variable_averages": tf.train.ExponentialMovingAverage(0.9)}),
    ):
        made = notes.made(
            name, lambda arguments=arguments, options=options: tf.train.SyncReplicasOptimizer(*arguments, **options).get_name()
        )
        if made is None or "name" in options:
            continue
        with tf.Graph().as_default():
            step, w = tf.train.get_or_create_global_step(), tf.get_variable("w", [2], initializer=tf.ones_initializer())
            optimizer = tf.train.SyncReplicasOptimizer(*arguments, **options)
            notes.made(f"{name}: apply_gradients", lambda: optimizer.apply_gradients([(tf.ones([2]), w)], step).name)
            notes.made(f"{name}: get_init_tokens_op", lambda: optimizer.get_init_tokens_op().name)


@program
def sync_rounds_of_wrong_numbers(tf, notes):
    for aggregate in (0, -1):
        with tf.Graph().as_default():
            optimizer, w, step = sync(tf, aggregate, 1)
            train = optimizer.apply_gradients([(tf.ones([2]), w)], step)
            with tf.Session() as session:
                session.run(tf.global_variables_initializer())
                session.run(optimizer.chief_init_op)
                notes.run(f"a round of {aggregate}", optimizer.get_chief_queue_runner().enqueue_ops[0], session=session)
                notes.waits("train", train, session=session)


@program
def sync_log(tf, notes):
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        with Logged(tf) as messages:
            sync(tf, 2, 3)
    finally:
        logger.setLevel(level)
    notes.value("logged", [each for each in messages if each[0] == "INFO"])


@program
def sync_tokens_at_the_start(tf, notes):
    for aggregate, total in ((2, 2), (2, 3), (5, 2), (1, 1)):
        with tf.Graph().as_default():
            optimizer, w, step = sync(tf, aggregate, total)
            optimizer.apply_gradients([(tf.ones([2]), w)], step)
            size = optimizer.get_chief_queue_runner().queue.size()
            with tf.Session() as session:
                session.run([tf.global_variables_initializer()])
                session.run(optimizer.chief_init_op)
                before = 0
                for given in (-1, 0, 1, 2, 3, 7, -2, -100):
                    made = notes.made(f"{aggregate} of {total}: {given}", lambda given=given: optimizer.get_init_tokens_op(given))
                    if made is None:
                        continue
                    session.run(made)
                    after = int(session.run(size))
                    notes.value("tokens made", after - before)
                    before = after


@program
def sync_tokens_of_wrong_kinds(tf, notes):
    optimizer, w, step = sync(tf, 2, 2)
    optimizer.apply_gradients([(tf.ones([2]), w)], step)
    for given in (1.5, "x", None, True):
        notes.made(repr(given), lambda given=given: optimizer.get_init_tokens_op(given))
    notes.made("twice", lambda: [optimizer.get_init_tokens_op().name, optimizer.get_init_tokens_op().name])


@program
def sync_without_a_step(tf, notes):
    optimizer, w, step = sync(tf)
    loss = tf.reduce_sum(tf.square(w))
    notes.made("minimize", lambda: optimizer.minimize(loss))
    notes.made("apply_gradients", lambda: optimizer.apply_gradients([(tf.ones([2]), w)]))
    notes.made("the queue runner is still not there", lambda: optimizer.get_chief_queue_runner())
    notes.made("with the step", lambda: optimizer.minimize(loss, step).name)
    notes.value("local variables", [each.name for each in tf.local_variables()])


@program
def sync_empty_gradients(tf, notes):
    optimizer, w, step = sync(tf)
    notes.made("no pairs", lambda: optimizer.apply_gradients([], step))
    notes.made("no pairs, no step", lambda: optimizer.apply_gradients([]))
    notes.made("None", lambda: optimizer.apply_gradients(None, step))
    notes.value("local variables", [each.name for each in tf.local_variables()])
    notes.made("only None", lambda: optimizer.apply_gradients([(None, w)], step))
    notes.value("local variables of what failed", [each.name for each in tf.local_variables()])
    notes.made("the queue runner", lambda: optimizer.get_chief_queue_runner())
    notes.made("minimize of what depends on nothing", lambda: optimizer.minimize(tf.constant(1.0), step))
    notes.made("an iterator", lambda: optimizer.apply_gradients(iter([(tf.ones([2]), w)]), step).name)


@program
def sync_gradients_of_wrong_kinds(tf, notes):
    for name, given in (
        ("text", "x"),
        ("a number", 1.0),
        ("an array", np.ones(2, np.float32)),
        ("a list", [1.0, 1.0]),
        ("a variable", "variable"),
        ("of another shape", "shape"),
        ("of another dtype", "dtype"),
        ("of unknown shape", "unknown"),
    ):
        with tf.Graph().as_default():
            optimizer, w, step = sync(tf)
            made = {
                "variable": lambda: tf.Variable([1.0, 1.0]),
                "shape": lambda: tf.ones([3]),
                "dtype": lambda: tf.ones([2], tf.float64),
                "unknown": lambda: tf.placeholder(tf.float32),
            }
            gradient = made[given]() if isinstance(given, str) and given in made else given
            notes.made(name, lambda: optimizer.apply_gradients([(gradient, w)], step).name)
            notes.value("local variables", [each.name for each in tf.local_variables()])


@program
def sync_variables_of_wrong_kinds(tf, notes):
    optimizer, w, step = sync(tf)
    notes.made("a constant", lambda: optimizer.apply_gradients([(tf.ones([2]), tf.constant([1.0, 1.0]))], step))
    notes.made("None", lambda: optimizer.apply_gradients([(tf.ones([2]), None)], step))
    notes.made("no pair", lambda: optimizer.apply_gradients([w], step))
    notes.made("twice the same", lambda: optimizer.apply_gradients([(tf.ones([2]), w), (tf.ones([2]), w)], step).name)


@program
def sync_steps_of_wrong_kinds(tf, notes):
    for name, make in (
        ("a number", lambda: 3),
        ("a tensor", lambda: tf.constant(3, tf.int64)),
        ("a float variable", lambda: tf.Variable(0.0)),
        ("a vector", lambda: tf.Variable([0, 0])),
        ("text", lambda: "global_step"),
    ):
        with tf.Graph().as_default():
            optimizer, w, _ = sync(tf)
            step = make()
            notes.made(name, lambda: optimizer.apply_gradients([(tf.ones([2]), w)], step).name)


@program
def sync_compute_gradients_are_the_inner_ones(tf, notes):
    optimizer, w, _ = sync(tf)
    table = tf.get_variable("table", [4, 2], initializer=tf.ones_initializer())
    unused = tf.get_variable("unused", [1])
    loss = tf.reduce_sum(tf.square(w)) + tf.reduce_sum(tf.gather(table, [1, 1, 2]))
    found = optimizer.compute_gradients(loss)
    notes.value("kinds", [[None if grad is None else type(grad).__name__, each.name] for grad, each in found])
    notes.value("some", [each.name for _, each in optimizer.compute_gradients(loss, var_list=[w])])
    notes.made("wrong", lambda: optimizer.compute_gradients(loss, gate_gradients=9))
    notes.made("nothing", lambda: optimizer.compute_gradients())
    notes.run("init", tf.global_variables_initializer())
    notes.run("gradients", [each for each, _ in found if each is not None])
    notes.value("unused", unused)


@program
def sync_slots_are_the_inner_ones(tf, notes):
    inner = tf.train.AdamOptimizer(0.5)
    step, w = tf.train.get_or_create_global_step(), tf.get_variable("w", [2], initializer=tf.ones_initializer())
    optimizer = tf.train.SyncReplicasOptimizer(inner, 2)
    notes.value("names before", optimizer.get_slot_names())
    notes.value("variables before", optimizer.variables())
    optimizer.apply_gradients([(tf.ones([2]), w)], step)
    notes.value("names", optimizer.get_slot_names())
    notes.value("slots", [optimizer.get_slot(w, name) for name in ("m", "v", "none")])
    notes.value("the same", optimizer.get_slot(w, "m") is inner.get_slot(w, "m"))
    notes.value("variables", optimizer.variables())
    notes.made("without arguments", lambda: optimizer.get_slot())


@program
def sync_runner_twice(tf, notes):
    optimizer, w, step = sync(tf)
    optimizer.apply_gradients([(tf.ones([2]), w)], step)
    runner = optimizer.get_chief_queue_runner()
    notes.value("the same", optimizer.get_chief_queue_runner() is runner)
    notes.value("in the collection", len(tf.get_collection(tf.GraphKeys.QUEUE_RUNNERS)))
    notes.value("types", [each.__name__ for each in runner.queue_closed_exception_types])
    notes.value("hooks", optimizer.make_session_run_hook(True) is optimizer.make_session_run_hook(True))
    notes.value("a hook of sessions", isinstance(optimizer.make_session_run_hook(True), tf.train.SessionRunHook))


@program
def sync_ready_for_local_init(tf, notes):
    optimizer, w, step = sync(tf)
    optimizer.apply_gradients([(tf.ones([2]), w)], step)
    later = tf.get_variable("later", [1], initializer=tf.zeros_initializer())
    notes.run("before", optimizer.ready_for_local_init_op)
    notes.run("local init too early", optimizer.local_step_init_op)
    notes.run("chief init too early", optimizer.chief_init_op)
    notes.run("init of w", w.initializer)
    notes.run("then", optimizer.ready_for_local_init_op)
    notes.run("init of the step", step.initializer)
    notes.run("variables made after apply_gradients are not asked for", optimizer.ready_for_local_init_op)
    notes.run("local init", optimizer.local_step_init_op)
    notes.run("chief init", optimizer.chief_init_op)
    notes.run("later has no value", tf.is_variable_initialized(later))


@program
def sync_train_before_its_init(tf, notes):
    optimizer, w, step = sync(tf)
    train = optimizer.apply_gradients([(tf.ones([2]), w)], step)
    notes.run("init", [w.initializer, step.initializer])
    notes.run("train without a local step", train)
    notes.run("init of local variables", tf.local_variables_initializer())
    notes.waits("train without tokens", train)
    notes.waits("a round of too few", optimizer.get_chief_queue_runner().enqueue_ops[0])
    notes.run("w", w)
