"""Rounds of synchronous training, driven one operation after the other: values, steps, tokens, what is dropped.

``w`` begins as ones; a gradient is fed, so that it is what the program says.
"""

import numpy as np

from tests.conformance.reference.sync_training.notes import program
from tests.conformance.reference.sync_training.replicas import Replica, Replicas, replica, together

OPTIMIZERS = {
    "gradient_descent": lambda tf: tf.train.GradientDescentOptimizer(0.5),
    "momentum": lambda tf: tf.train.MomentumOptimizer(0.5, 0.9),
    "adam": lambda tf: tf.train.AdamOptimizer(0.125),
}


def descent(tf):
    return tf.train.GradientDescentOptimizer(0.5)


def slots(worker):
    """Notes the slots of the trained variable."""
    names = worker.optimizer.get_slot_names()
    worker.run("slots", {name: worker.optimizer.get_slot(worker.w, name) for name in names})


def _for_each_optimizer(make):
    for name, optimizer in OPTIMIZERS.items():
        def of_one(tf, notes, optimizer=optimizer):
            make(tf, notes, optimizer)

        of_one.__name__ = f"{make.__name__}_{name}"
        program(of_one)
    return make


@_for_each_optimizer
def one_replica_by_its_parts(tf, notes, optimizer):
    worker = replica(tf, notes, optimizer(tf), 1)
    worker.state("at the start")
    for gradient in ([1.0, 2.0], [-4.0, 0.5], [0.0, 3.0]):
        worker.push(gradient)
        worker.run("round", worker.round)
        worker.state("after the round")
        worker.take_token()
        slots(worker)


@_for_each_optimizer
def one_replica_rows(tf, notes, optimizer):
    worker = replica(tf, notes, optimizer(tf), 1, rows=True)
    for gradient in ([(0, 1.0), (2, 2.0)], [(2, 1.0), (2, 3.0)], [(3, 1.0), (1, 2.0)], [(0, 5.0)]):
        worker.push(gradient)
        worker.run("round", worker.round)
        worker.take_token()
        worker.state()
        slots(worker)


@_for_each_optimizer
def two_replicas_together(tf, notes, optimizer):
    with Replicas(tf, notes, 2, lambda: optimizer(tf), 2) as workers:
        for number in range(4):
            together(notes, workers, [[1.0, number], [3.0, -1.0]])
            for each in workers:
                each.state()
            slots(workers[0])


@_for_each_optimizer
def three_replicas_together(tf, notes, optimizer):
    with Replicas(tf, notes, 3, lambda: optimizer(tf), 3) as workers:
        for number in range(3):
            together(notes, workers, [[1.0, number], [3.0, -1.0], [-1.0, 4.0]])
            workers[2].state()


@_for_each_optimizer
def two_replicas_rows(tf, notes, optimizer):
    with Replicas(tf, notes, 2, lambda: optimizer(tf), 2, rows=True) as workers:
        for first, second in (
            ([(0, 1.0), (1, 2.0)], [(1, 6.0), (3, 8.0)]),
            ([(2, 1.0), (2, 3.0)], [(2, 6.0)]),
            ([(1, 1.0)], [(1, 3.0), (1, 5.0)]),
        ):
            workers[0].push(first)
            workers[1].push(second)
            workers[0].run("round", workers[0].round)
            for each in workers:
                each.take_token()
            workers[0].state()


@program
def two_replicas_rows_and_no_rows(tf, notes):
    with Replicas(tf, notes, 2, lambda: descent(tf), 2, rows=True) as workers:
        workers[0].push([(1, 4.0)])
        workers[1].push([])
        workers[0].run("round", workers[0].round)
        workers[0].state()
        workers[0].push([])
        workers[1].push([])
        workers[0].run("the gradients are of step 0 and stale", workers[0].pending)
        for each in workers:
            each.take_token()
            each.push([])
        workers[0].run("round of no rows", workers[0].round)
        workers[0].state()


@program
def tokens_carry_the_step_after_the_update(tf, notes):
    worker = replica(tf, notes, descent(tf), 1, 3)
    worker.push([1.0, 1.0])
    worker.run("round", worker.round)
    worker.state("three tokens")
    for _ in range(3):
        worker.take_token()
    worker.waits("a fourth token", worker.token)


@program
def a_round_waits_for_enough_gradients(tf, notes):
    with Replicas(tf, notes, 2, lambda: descent(tf), 2) as (chief, other):
        chief.waits("round of none", chief.round)
        chief.push([1.0, 1.0])
        chief.waits("round of one", chief.round)
        chief.state()
        other.push([3.0, 3.0])
        chief.run("round of two", chief.round)
        chief.state()


@program
def a_worker_waits_for_its_token(tf, notes):
    with Replicas(tf, notes, 2, lambda: descent(tf), 2) as (chief, other):
        chief.waits("train: pushes, then waits", chief.train, chief.fed([1.0, 1.0]))
        chief.state("the gradient stays although train gave up")
        other.push([3.0, 3.0])
        chief.run("round", chief.round)
        chief.state()
        chief.run("train again: its gradient is stale, its token is there", chief.train, chief.fed([100.0, 100.0]))
        chief.state()
        other.take_token()


@program
def a_worker_counts_twice(tf, notes):
    with Replicas(tf, notes, 2, lambda: descent(tf), 2) as (chief, other):
        other.push([1.0, 1.0])
        other.push([3.0, 3.0])
        chief.run("round of two gradients of one worker", chief.round)
        chief.state()
        chief.push([100.0, 100.0])
        chief.state("the gradient of the worker that comes late is dropped")
        chief.take_token()
        chief.state()


@program
def a_worker_takes_the_token_of_another(tf, notes):
    with Replicas(tf, notes, 2, lambda: descent(tf), 2) as (chief, other):
        chief.push([1.0, 1.0])
        other.push([3.0, 3.0])
        chief.run("round", chief.round)
        other.take_token()
        other.push([5.0, 5.0])
        other.take_token()
        chief.waits("the other worker has no token", chief.token)
        other.push([7.0, 7.0])
        chief.run("and the round goes without it", chief.round)
        chief.state()
        chief.run("train of the one that was left behind", chief.train, chief.fed([100.0, 100.0]))
        chief.state()


@program
def a_worker_that_ends_stops_all(tf, notes):
    with Replicas(tf, notes, 2, lambda: descent(tf), 2) as (chief, other):
        together(notes, [chief, other], [[1.0, 1.0], [3.0, 3.0]])
        other.session.close()
        chief.waits("train", chief.train, chief.fed([1.0, 1.0]))
        chief.waits("round", chief.round)
        chief.state()


@program
def a_worker_that_dies_with_a_token(tf, notes):
    with Replicas(tf, notes, 3, lambda: descent(tf), 2, 2) as (chief, other, third):
        chief.push([1.0, 1.0])
        other.push([3.0, 3.0])
        chief.run("round", chief.round)
        other.take_token()
        other.session.close()
        chief.take_token()
        third.waits("the token is gone", third.token)
        chief.push([5.0, 5.0])
        chief.waits("round", chief.round)


@program
def backups_late_gradients_are_dropped(tf, notes):
    with Replicas(tf, notes, 3, lambda: descent(tf), 2, 3) as (chief, second, third):
        for number in range(3):
            chief.push([1.0, number])
            second.push([3.0, 0.0])
            chief.run("round of the two that are first", chief.round)
            chief.state("three tokens")
            third.push([100.0, 100.0])
            chief.state("the third one is late: nothing is pending")
            for each in (chief, second, third):
                each.take_token()
        third.state()


@program
def backups_that_are_in_time_count(tf, notes):
    with Replicas(tf, notes, 3, lambda: descent(tf), 2, 3) as (chief, second, third):
        for each, gradient in ((chief, 1.0), (second, 2.0), (third, 6.0)):
            each.push([gradient, 1.0])
        chief.state("three are pending")
        chief.run("round: the mean of three", chief.round)
        chief.state()


@program
def backups_may_change_from_round_to_round(tf, notes):
    with Replicas(tf, notes, 3, lambda: descent(tf), 2, 3) as workers:
        for late in range(3):
            for number, each in enumerate(workers):
                if number != late:
                    each.push([float(number), 1.0])
            workers[0].run("round", workers[0].round)
            workers[late].push([100.0, 100.0])
            for each in workers:
                each.take_token()
            workers[0].state()


@program
def backups_a_worker_that_is_two_rounds_late(tf, notes):
    with Replicas(tf, notes, 3, lambda: descent(tf), 2, 3) as (chief, second, third):
        for _ in range(2):
            chief.push([1.0, 1.0])
            second.push([3.0, 3.0])
            chief.run("round", chief.round)
            chief.take_token()
            second.take_token()
        chief.state("the chief has taken a token of round 1 in round 2; two are left")
        third.run("train: dropped, and takes a token", third.train, third.fed([100.0, 100.0]))
        third.state()
        third.run("train: counts, and takes the other token", third.train, third.fed([100.0, 100.0]))
        third.state()
        third.waits("train: counts, and waits", third.train, third.fed([5.0, 5.0]))
        third.state()


@program
def more_to_aggregate_than_replicas(tf, notes):
    worker = replica(tf, notes, descent(tf), 3, 1, tokens=-1)
    worker.state("three tokens at the start")
    for gradient in (1.0, 2.0, 6.0):
        worker.run("train", worker.train, worker.fed([gradient, 0.0]))
        worker.state()
    worker.run("round", worker.round)
    worker.state("after the round")
    worker.run("train of step 0: dropped, takes a token", worker.train, worker.fed([100.0, 100.0]))
    for gradient in (1.0, 2.0):
        worker.run("train", worker.train, worker.fed([gradient, 1.0]))
    worker.state("all tokens are gone, and one gradient is missing")
    worker.waits("round", worker.round)
    worker.waits("train: pushes the third, and waits", worker.train, worker.fed([6.0, 1.0]))
    worker.run("round", worker.round)
    worker.state("after the round")


@program
def more_to_aggregate_than_replicas_with_the_fewest_tokens(tf, notes):
    worker = replica(tf, notes, descent(tf), 3, 1, tokens=2)
    for gradient in (1.0, 2.0):
        worker.run("train", worker.train, worker.fed([gradient, 0.0]))
    worker.push([6.0, 0.0])
    worker.run("round", worker.round)
    worker.state("after the round")


@program
def tokens_at_the_start_let_a_gradient_be_stale(tf, notes):
    worker = replica(tf, notes, descent(tf), 1, tokens=-1)
    worker.state("one token at the start")
    worker.run("train 1: the token of step 0", worker.train, worker.fed([1.0, 1.0]))
    worker.run("round", worker.round)
    worker.state()
    worker.run("train 2: of step 0, dropped", worker.train, worker.fed([100.0, 100.0]))
    worker.state()
    worker.waits("train 3: counts, and waits", worker.train, worker.fed([2.0, 2.0]))
    worker.run("round", worker.round)
    worker.state()


@program
def tokens_at_the_start_let_two_gradients_be_one_round(tf, notes):
    worker = replica(tf, notes, descent(tf), 1, tokens=-1)
    worker.run("train 1", worker.train, worker.fed([1.0, 1.0]))
    worker.waits("train 2 before the round", worker.train, worker.fed([3.0, 3.0]))
    worker.run("round: the mean of both", worker.round)
    worker.state()


@program
def step_of_a_restored_model(tf, notes):
    worker = replica(tf, notes, descent(tf), 1, start=7, tokens=-1)
    worker.state("after chief_init_op")
    worker.take_token()
    worker.push([1.0, 1.0])
    worker.run("round", worker.round)
    worker.state()
    worker.push([100.0, 100.0])
    worker.state("of step 7: dropped")
    worker.take_token()
    worker.push([1.0, 1.0])
    worker.state("of step 8: counts")


@program
def step_of_a_restored_model_without_chief_init(tf, notes):
    worker = Replica(tf, notes, descent(tf), 1, start=7)
    worker.session = notes.session
    worker.run("init", worker.init)
    worker.run("local_step_init_op", worker.optimizer.local_step_init_op)
    worker.push([1.0, 1.0])
    worker.run("round", worker.round)
    worker.state("the accumulator has step 1, the global step is 8")
    worker.push([3.0, 3.0])
    worker.state("a gradient of step 7 counts in the round of step 8")


@program
def local_step_that_was_not_set(tf, notes):
    worker = Replica(tf, notes, descent(tf), 1, start=7)
    worker.session = notes.session
    worker.run("init", worker.init)
    worker.run("chief_init_op", worker.optimizer.chief_init_op)
    worker.run("tokens", worker.optimizer.get_init_tokens_op(1))
    worker.run("local step 0", worker.local_step.initializer)
    worker.run("train: dropped, but takes a token", worker.train, worker.fed([100.0, 100.0]))
    worker.state()


@program
def worker_that_comes_back(tf, notes):
    with Replicas(tf, notes, 2, lambda: descent(tf), 2) as (chief, other):
        together(notes, [chief, other], [[1.0, 1.0], [3.0, 3.0]])
        together(notes, [chief, other], [[1.0, 1.0], [3.0, 3.0]])
        other.run("a new process has no local step: set to 0", other.local_step.initializer)
        other.push([100.0, 100.0])
        other.state("dropped")
        other.run("local_step_init_op", other.optimizer.local_step_init_op)
        other.push([5.0, 5.0])
        other.state("counts")
        chief.push([1.0, 1.0])
        chief.run("round", chief.round)
        chief.state()


@program
def chief_that_comes_back(tf, notes):
    with Replicas(tf, notes, 2, lambda: descent(tf), 2) as (chief, other):
        other.push([3.0, 3.0])
        chief.run("chief_init_op again", chief.optimizer.chief_init_op)
        chief.state("what was pending stays")
        chief.run("tokens again", chief.optimizer.get_chief_queue_runner().queue.size())
        chief.push([1.0, 1.0])
        chief.run("round", chief.round)
        chief.state()


@program
def a_push_for_one_variable_of_two(tf, notes):
    step = tf.train.get_or_create_global_step()
    w, v = (tf.get_variable(name, [2], initializer=tf.ones_initializer()) for name in "wv")
    of_w, of_v = tf.placeholder(tf.float32, [2]), tf.placeholder(tf.float32, [2])
    optimizer = tf.train.SyncReplicasOptimizer(descent(tf), 1)
    train = optimizer.apply_gradients([(of_w, w), (of_v, v)], step)
    push_w, push_v = train.op.inputs[1].op.control_inputs
    notes.run("init", tf.global_variables_initializer())
    notes.run("chief_init_op", optimizer.chief_init_op)
    notes.run("push for w alone", push_w, {of_w: [1.0, 1.0]})
    notes.run("push for both", [push_w, push_v], {of_w: [3.0, 3.0], of_v: [5.0, 5.0]})
    notes.run("round", optimizer.get_chief_queue_runner().enqueue_ops[0])
    notes.run("w has the mean of two, v its only one", {"w": w, "v": v, "step": step})


@program
def a_round_that_gives_up_has_taken_what_was_there(tf, notes):
    step = tf.train.get_or_create_global_step()
    w, v = (tf.get_variable(name, [2], initializer=tf.ones_initializer()) for name in "wv")
    of_w, of_v = tf.placeholder(tf.float32, [2]), tf.placeholder(tf.float32, [2])
    optimizer = tf.train.SyncReplicasOptimizer(descent(tf), 1)
    train = optimizer.apply_gradients([(of_w, w), (of_v, v)], step)
    push_w, push_v = train.op.inputs[1].op.control_inputs
    pending = [
        tf.ConditionalAccumulator(tf.float32, [2], f"{name}:0/grad_accum").num_accumulated() for name in "wv"
    ]
    run_round = optimizer.get_chief_queue_runner().enqueue_ops[0]
    notes.run("init", tf.global_variables_initializer())
    notes.run("chief_init_op", optimizer.chief_init_op)
    notes.run("push for w alone", push_w, {of_w: [1.0, 1.0]})
    notes.waits("round", run_round)
    notes.run("pending", pending)
    notes.run("values", {"w": w, "v": v, "step": step})
    notes.run("push for both", [push_w, push_v], {of_w: [3.0, 3.0], of_v: [5.0, 5.0]})
    notes.run("pending: the gradient of w is of a step before that of its accumulator", pending)
    notes.waits("round", run_round)
    notes.run("values", {"w": w, "v": v, "step": step})


@program
def a_variable_without_gradients(tf, notes):
    step = tf.train.get_or_create_global_step()
    w, v = (tf.get_variable(name, [2], initializer=tf.ones_initializer()) for name in "wv")
    optimizer = tf.train.SyncReplicasOptimizer(descent(tf), 1)
    train = optimizer.apply_gradients([(tf.ones([2]), w), (None, v)], step)
    tokens = optimizer.get_init_tokens_op(1)
    notes.run("init", tf.global_variables_initializer())
    notes.run("chief_init_op", optimizer.chief_init_op)
    notes.run("tokens", tokens)
    notes.run("train", train)
    notes.run("round", optimizer.get_chief_queue_runner().enqueue_ops[0])
    notes.run("values", {"w": w, "v": v, "step": step})


@program
def dense_and_rows_in_one_round(tf, notes):
    step = tf.train.get_or_create_global_step()
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
    table = tf.get_variable("table", [4, 2], initializer=tf.ones_initializer())
    rows = tf.placeholder(tf.int32, [None])
    loss = tf.reduce_sum(w) + tf.reduce_sum(tf.gather(table, rows) * 2.0)
    optimizer = tf.train.SyncReplicasOptimizer(descent(tf), 2)
    train = optimizer.minimize(loss, step)
    push, run_round = train.op.inputs[1].op.control_inputs, optimizer.get_chief_queue_runner().enqueue_ops[0]
    notes.run("init", tf.global_variables_initializer())
    notes.run("chief_init_op", optimizer.chief_init_op)
    notes.run("push 0, 1, 1", push, {rows: [0, 1, 1]})
    notes.run("push 1, 2", push, {rows: [1, 2]})
    notes.run("round", run_round)
    notes.run("values", {"w": w, "table": table, "step": step})


@program
def averages_are_made_after_the_tokens(tf, notes):
    averages = tf.train.ExponentialMovingAverage(0.5)
    step = tf.train.get_or_create_global_step()
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
    optimizer = tf.train.SyncReplicasOptimizer(descent(tf), 1, variable_averages=averages, variables_to_average=[w])
    value = tf.placeholder(tf.float32, [2])
    train = optimizer.apply_gradients([(value, w)], step)
    push, runner = train.op.inputs[1].op.control_inputs, optimizer.get_chief_queue_runner()
    finish = tf.assign(tf.local_variables()[-1], runner.queue.dequeue())
    notes.run("init", tf.global_variables_initializer())
    notes.run("chief_init_op", optimizer.chief_init_op)
    for _ in range(2):
        notes.run("push", push, {value: [2.0, -2.0]})
        notes.run("round", runner.enqueue_ops[0])
        notes.run("token", finish)
        notes.run("values", {"w": w, "average": averages.average(w), "step": step})


@program
def step_of_int32(tf, notes):
    worker = replica(tf, notes, descent(tf), 1, step_dtype=tf.int32, tokens=-1)
    worker.take_token()
    worker.push([1.0, 1.0])
    worker.run("round", worker.round)
    worker.state()
    worker.take_token()


@program
def two_optimizers_share_the_tokens(tf, notes):
    w, v = (tf.get_variable(name, [2], initializer=tf.ones_initializer()) for name in "wv")
    steps = [tf.get_variable(name, [], tf.int64, tf.constant_initializer(start), trainable=False) for name, start in (("a", 10), ("b", 20))]
    optimizers = [tf.train.SyncReplicasOptimizer(descent(tf), 1) for _ in range(2)]
    trains = [
        optimizer.apply_gradients([(tf.ones([2]), each)], step) for optimizer, each, step in zip(optimizers, (w, v), steps)
    ]
    queues = [each.get_chief_queue_runner().queue for each in optimizers]
    notes.value("queues", [each.name for each in queues])
    sizes, tokens = [each.size() for each in queues], [each.dequeue() for each in queues]
    notes.run("init", tf.global_variables_initializer())
    for each in optimizers:
        notes.run("chief_init_op", each.chief_init_op)
    notes.run("pushes of the first", trains[0].op.inputs[1].op.control_inputs)
    notes.run("round of the first", optimizers[0].get_chief_queue_runner().enqueue_ops[0])
    notes.run("sizes", sizes)
    notes.run("the second takes the token of the first", tokens[1])


@program
def losses_of_a_regression(tf, notes):
    """What a tutorial does: a worker's loss by its own data, minimized by two workers."""
    step = tf.train.get_or_create_global_step()
    w = tf.get_variable("w", [2], initializer=tf.zeros_initializer())
    x, y = tf.placeholder(tf.float32, [None, 2]), tf.placeholder(tf.float32, [None])
    loss = tf.reduce_mean(tf.square(tf.reduce_sum(x * w, 1) - y))
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.MomentumOptimizer(0.1, 0.9), 2)
    train = optimizer.minimize(loss, global_step=step)
    push, runner = train.op.inputs[1].op.control_inputs, optimizer.get_chief_queue_runner()
    local_step = tf.local_variables()[-1]
    notes.value("local_step", local_step)
    finish = tf.assign(local_step, runner.queue.dequeue())
    notes.run("init", tf.global_variables_initializer())
    notes.run("chief_init_op", optimizer.chief_init_op)
    data = np.sin(np.arange(16.0)).reshape(2, 4, 2).astype(np.float32)
    for _ in range(4):
        for each in data:
            feeds = {x: each, y: each @ np.array([2.0, -1.0], np.float32)}
            notes.run("loss", loss, feeds)
            notes.run("push", push, feeds)
        notes.run("round", runner.enqueue_ops[0])
        notes.run("tokens", [finish])
        notes.run("token of the second", finish)
        notes.run("values", {"w": w, "step": step})


@program
def closed_tokens_end_the_workers(tf, notes):
    with Replicas(tf, notes, 2, lambda: descent(tf), 2, tokens=1) as (chief, other):
        runner = chief.optimizer.get_chief_queue_runner()
        chief.run("cancel_op", runner.cancel_op)
        other.run("train takes the token that is there", other.train, other.fed([1.0, 1.0]))
        other.run("train", other.train, other.fed([1.0, 1.0]))
        chief.push([1.0, 1.0])
        chief.run("round", chief.round)
        chief.state("the update was applied, the tokens were not made")
