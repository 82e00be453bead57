"""``ConditionalAccumulator``: what is in the graph, means and sums, stale gradients, steps, sharing."""

import numpy as np

from tests.conformance.reference.sync_training.notes import program

ONES, TWOS, FOURS = [1.0, 1.0], [2.0, 2.0], [4.0, 4.0]


def pushed(tf, notes, **options):
    """An accumulator of two floats with operations over fed values: push, count, set the step, take."""
    accumulator = tf.ConditionalAccumulator(tf.float32, [2], **options)
    value, step = tf.placeholder(tf.float32, [2]), tf.placeholder(tf.int64, [])
    push = accumulator.apply_grad(value, local_step=step)
    count, take = accumulator.num_accumulated(), accumulator.take_grad(1)
    return accumulator, (lambda name, grad, at=0: notes.run(name, push, {value: grad, step: at})), count, take


@program
def dense_graph(tf, notes):
    accumulator = tf.ConditionalAccumulator(tf.float32, shape=[2])
    accumulator.apply_grad([1.0, 2.0])
    accumulator.take_grad(2)
    accumulator.num_accumulated()
    accumulator.set_global_step(3)
    notes.operations("operations")


@program
def dense_graph_with_names(tf, notes):
    accumulator = tf.ConditionalAccumulator(tf.float64, [], "shared", "mine", "SUM")
    accumulator.apply_grad(1.0, 0, "push")
    accumulator.take_grad(1, "take")
    accumulator.num_accumulated("count")
    accumulator.set_global_step(1, "advance")
    notes.operations("operations")


@program
def dense_graph_in_scopes(tf, notes):
    with tf.name_scope("outer"), tf.device("/job:ps/task:1"):
        accumulator = tf.ConditionalAccumulator(tf.float32)
        second = tf.ConditionalAccumulator(tf.float32)
    with tf.name_scope("elsewhere"):
        accumulator.apply_grad(tf.zeros([2], name="grad"), local_step=tf.constant(1, name="step"))
        accumulator.num_accumulated()
        accumulator.take_grad(tf.constant(1, name="required"))
    second.num_accumulated()
    notes.value("names", [accumulator.name, second.name])
    notes.operations("operations")


@program
def dense_attributes(tf, notes):
    accumulator = tf.ConditionalAccumulator(tf.float32, [None, 2], name="mine")
    notes.value("name", accumulator.name)
    notes.value("dtype", accumulator.dtype)
    notes.value("accumulator_ref", accumulator.accumulator_ref)
    notes.value("base", isinstance(accumulator, tf.ConditionalAccumulatorBase))
    notes.made("shape", lambda: accumulator.shape)
    notes.value("take", accumulator.take_grad(1))
    notes.value("take of unknown shape", tf.ConditionalAccumulator(tf.float32).take_grad(1))
    notes.value("push", accumulator.apply_grad(tf.zeros([1, 2])))
    notes.value("set", accumulator.set_global_step(1))


@program
def dense_mean(tf, notes):
    accumulator, push, count, _ = pushed(tf, notes)
    notes.run("count at first", count)
    for number, grad in enumerate((ONES, TWOS, [9.0, -3.0])):
        push(f"push {number}", grad)
        notes.run("count", count)
    notes.run("take 3", accumulator.take_grad(3))
    notes.run("count after", count)


@program
def dense_sum(tf, notes):
    accumulator, push, count, _ = pushed(tf, notes, reduction_type="SUM")
    push("push", ONES)
    push("push", TWOS)
    push("push", FOURS)
    notes.run("take 2 of 3", accumulator.take_grad(2))
    notes.run("count after", count)


@program
def dense_take_fewer_than_are_there(tf, notes):
    accumulator, push, count, _ = pushed(tf, notes)
    for grad in (ONES, TWOS, [6.0, 6.0]):
        push("push", grad)
    notes.run("take 2: the mean of all 3", accumulator.take_grad(2))
    notes.run("none is left", count)


@program
def dense_take_waits(tf, notes):
    accumulator, push, count, _ = pushed(tf, notes)
    take = accumulator.take_grad(2)
    notes.waits("take of none", take)
    push("push", ONES)
    notes.waits("take of too few", take)
    notes.run("count after", count)
    push("push", [3.0, 3.0])
    notes.run("take", take)
    notes.run("count after taking", count)


@program
def dense_take_that_gave_up_takes_nothing(tf, notes):
    accumulator, push, count, take = pushed(tf, notes)
    notes.waits("take gives up", take)
    push("push", ONES, 0)
    notes.run("the gradient is still there", count)
    push("a gradient of step 0 is not stale: the step was not counted", TWOS, 0)
    notes.run("count", count)
    notes.run("take", take)


@program
def dense_stale_gradients_are_dropped(tf, notes):
    accumulator, push, count, take = pushed(tf, notes)
    notes.run("set 3", accumulator.set_global_step(3))
    for step in (0, 2, 3, 4, 100):
        push(f"push of step {step}", [float(step), 1.0], step)
        notes.run("count", count)
    notes.run("take", take)


@program
def dense_take_counts_the_step(tf, notes):
    _, push, count, take = pushed(tf, notes)
    for step in (0, 1, 2):
        push(f"push of step {step}", ONES, step)
        notes.run("take", take)
        push(f"push of step {step} is stale now", ONES, step)
        notes.run("count", count)


@program
def dense_take_counts_from_the_set_step(tf, notes):
    accumulator, push, count, take = pushed(tf, notes)
    notes.run("set 5", accumulator.set_global_step(5))
    push("push of step 9", ONES, 9)
    notes.run("take", take)
    for step in (5, 6, 9):
        push(f"push of step {step}", ONES, step)
        notes.run("count", count)


@program
def dense_set_step_keeps_what_is_pending(tf, notes):
    accumulator, push, count, take = pushed(tf, notes)
    push("push of step 0", FOURS, 0)
    notes.run("set 7", accumulator.set_global_step(7))
    notes.run("count", count)
    push("push of step 6", ONES, 6)
    push("push of step 7", TWOS, 7)
    notes.run("take: the mean of 4 and 2", take)


@program
def dense_step_set_back(tf, notes):
    accumulator, push, count, take = pushed(tf, notes)
    notes.run("set 7", accumulator.set_global_step(7))
    notes.run("set 2", accumulator.set_global_step(2))
    push("push of step 1", ONES, 1)
    notes.run("count", count)
    push("push of step 2", TWOS, 2)
    notes.run("count", count)
    notes.run("take", take)
    push("push of step 2", TWOS, 2)
    push("push of step 3", TWOS, 3)
    notes.run("count", count)


@program
def dense_negative_steps(tf, notes):
    accumulator, push, count, _ = pushed(tf, notes)
    push("push of step -1", ONES, -1)
    notes.run("count", count)
    notes.run("set -3", accumulator.set_global_step(-3))
    push("push of step -1", ONES, -1)
    push("push of step -4", ONES, -4)
    notes.run("count", count)


@program
def dense_kinds_of_steps(tf, notes):
    accumulator = tf.ConditionalAccumulator(tf.float32, [])
    step = tf.Variable(2, name="step")
    notes.run("init", step.initializer)
    notes.run("set by an int32 variable", accumulator.set_global_step(step))
    count = accumulator.num_accumulated()
    for name, given in (
        ("an int32 variable", step),
        ("an int32 tensor", tf.constant(1)),
        ("a float", 2.9),
        ("a float below", 1.9),
        ("a NumPy number", np.int16(5)),
        ("true", True),
    ):
        push = notes.made(f"push of {name}", lambda given=given: accumulator.apply_grad(1.0, given))
        if push is not None:
            notes.run("run", push)
        notes.run("count", count)


@program
def dense_default_step_is_zero(tf, notes):
    accumulator = tf.ConditionalAccumulator(tf.float32, [])
    push, count = accumulator.apply_grad(1.0), accumulator.num_accumulated()
    notes.run("push", push)
    notes.run("count", count)
    notes.run("take", accumulator.take_grad(1))
    notes.run("push", push)
    notes.run("count", count)


@program
def dense_a_worker_may_push_twice(tf, notes):
    accumulator, push, _, _ = pushed(tf, notes)
    push("worker a", ONES)
    push("worker a again", ONES)
    push("worker b", [4.0, 4.0])
    notes.run("take 3", accumulator.take_grad(3))


@program
def dense_push_and_take_in_one_run(tf, notes):
    accumulator = tf.ConditionalAccumulator(tf.float32, [2])
    push = accumulator.apply_grad(ONES)
    with tf.control_dependencies([push]):
        take = accumulator.take_grad(1)
    notes.run("both", take)
    notes.waits("the gradient of step 0 is stale in the second round", take)


@program
def dense_mean_of_integers(tf, notes):
    for dtype in (tf.int32, tf.int64):
        accumulator = tf.ConditionalAccumulator(dtype, [3])
        push = [accumulator.apply_grad(tf.constant(each, dtype)) for each in ([1, -1, 7], [2, -2, 0])]
        for each in push:
            notes.run(f"push {dtype.name}", each)
        notes.run("take", accumulator.take_grad(2))


@program
def dense_dtypes(tf, notes):
    for name in (
        "float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 complex64 complex128 bool string"
    ).split():
        dtype = getattr(tf, name)
        with tf.Graph().as_default(), tf.Session() as session:
            whole = notes.made(f"{name} made", lambda dtype=dtype: tf.ConditionalAccumulator(dtype, [2]) and dtype)
            if whole is None:
                continue
            whole = tf.ConditionalAccumulator(dtype, [2])
            value = tf.placeholder(dtype, [2])
            for given in ([1, 3], [2, 3]):
                notes.run(f"{name} push", whole.apply_grad(value), {value: given}, session)
            notes.waits(f"{name} take", whole.take_grad(2), session=session)


@program
def dense_shape_of_the_first_gradient(tf, notes):
    accumulator = tf.ConditionalAccumulator(tf.float32)
    value = tf.placeholder(tf.float32)
    push, count, take = accumulator.apply_grad(value, 5), accumulator.num_accumulated(), accumulator.take_grad(1)
    notes.run("push [2]", push, {value: ONES})
    notes.run("push [3]", push, {value: [1.0, 1.0, 1.0]})
    notes.run("push scalar", push, {value: 1.0})
    notes.run("push [1, 2]", push, {value: [[1.0, 1.0]]})
    notes.run("count", count)
    notes.run("take", take)
    notes.run("push [3] in the next round", push, {value: [1.0, 1.0, 1.0]})
    notes.run("count", count)
    notes.run("take", take)


@program
def dense_partial_shape(tf, notes):
    accumulator = tf.ConditionalAccumulator(tf.float32, [None, 2])
    value = tf.placeholder(tf.float32)
    push, count = accumulator.apply_grad(value, 5), accumulator.num_accumulated()
    notes.run("push [1, 2]", push, {value: [[1.0, 1.0]]})
    notes.run("push [2, 2]", push, {value: [[1.0, 1.0], [1.0, 1.0]]})
    notes.run("push [1, 3]", push, {value: [[1.0, 1.0, 1.0]]})
    notes.run("count", count)
    notes.run("take", accumulator.take_grad(1))
    notes.run("push [2, 2] in the next round", push, {value: [[1.0, 1.0], [1.0, 1.0]]})
    notes.run("count", count)


@program
def dense_scalars_and_empty_gradients(tf, notes):
    for shape in ([], [0], [0, 3]):
        accumulator = tf.ConditionalAccumulator(tf.float32, shape)
        notes.run(f"push {shape}", accumulator.apply_grad(tf.ones(shape)))
        notes.run("take", accumulator.take_grad(1))


@program
def dense_shared_names(tf, notes):
    one = tf.ConditionalAccumulator(tf.float32, [2], shared_name="together")
    two = tf.ConditionalAccumulator(tf.float32, [2], shared_name="together")
    notes.value("names", [one.name, two.name])
    notes.run("push to one", one.apply_grad(ONES))
    notes.run("push to two", two.apply_grad([3.0, 3.0]))
    notes.run("counts", [one.num_accumulated(), two.num_accumulated()])
    notes.run("take from two", two.take_grad(2))
    notes.run("count of one", one.num_accumulated())


@program
def dense_shared_name_of_another_name(tf, notes):
    one = tf.ConditionalAccumulator(tf.float32, [2], name="mine")
    two = tf.ConditionalAccumulator(tf.float32, [2], shared_name="mine")
    notes.run("push to one", one.apply_grad(ONES))
    notes.run("counts", [one.num_accumulated(), two.num_accumulated()])


@program
def dense_names_that_differ_only_by_number(tf, notes):
    one, two = tf.ConditionalAccumulator(tf.float32, [2]), tf.ConditionalAccumulator(tf.float32, [2])
    notes.value("names", [one.name, two.name])
    notes.run("push to one", one.apply_grad(ONES))
    notes.run("counts", [one.num_accumulated(), two.num_accumulated()])


@program
def dense_sessions_of_one_process_have_their_own(tf, notes):
    accumulator, push, count, _ = pushed(tf, notes, shared_name="together")
    push("push", ONES)
    with tf.Session() as other:
        notes.run("count in another session", count, session=other)
    notes.run("count", count)


@program
def dense_sessions_of_one_server_share(tf, notes):
    accumulator = tf.ConditionalAccumulator(tf.float32, [2], shared_name="together")
    alone = tf.ConditionalAccumulator(tf.float32, [2])
    push, counts = [accumulator.apply_grad(ONES), alone.apply_grad(ONES)], [accumulator.num_accumulated(), alone.num_accumulated()]
    server = tf.train.Server.create_local_server()
    with tf.Session(server.target) as one, tf.Session(server.target) as two:
        for each in push:
            notes.run("push", each, session=one)
        notes.run("counts in the same session", counts, session=one)
        notes.run("counts in another session", counts, session=two)
    with tf.Session(server.target) as three:
        notes.run("counts after both are closed", counts, session=three)


@program
def dense_lives_as_long_as_its_session(tf, notes):
    _, push, count, _ = pushed(tf, notes)
    push("push", ONES)
    notes.close()
    with tf.Session() as session:
        notes.run("count", count, session=session)


@program
def dense_round_after_round(tf, notes):
    accumulator, push, count, _ = pushed(tf, notes)
    take = accumulator.take_grad(2)
    for step in range(4):
        for worker in range(3):
            push(f"round {step} worker {worker}", [float(step), float(worker)], step)
        notes.run("count", count)
        notes.run("take", take)
