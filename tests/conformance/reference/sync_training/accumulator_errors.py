"""What accumulators refuse, when they are made and when they run, and what they keep then."""

import numpy as np

from tests.conformance.reference.sync_training.notes import program


@program
def dense_reduction_types(tf, notes):
    for given in ("MEAN", "SUM", "MAX", "mean", "", None, 1):
        notes.made(repr(given), lambda given=given: tf.ConditionalAccumulator(tf.float32, [], reduction_type=given).name)
    for given in ("MEAN", "SUM", "MIN", None):
        notes.made(
            f"sparse {given!r}",
            lambda given=given: tf.SparseConditionalAccumulator(tf.float32, [2], reduction_type=given).name,
        )


@program
def dense_wrong_arguments(tf, notes):
    notes.made("no dtype", lambda: tf.ConditionalAccumulator())
    notes.made("dtype None", lambda: tf.ConditionalAccumulator(None))
    notes.made("dtype text", lambda: tf.ConditionalAccumulator("float32").dtype)
    notes.made("dtype nonsense", lambda: tf.ConditionalAccumulator("nonsense"))
    notes.made("shape text", lambda: tf.ConditionalAccumulator(tf.float32, "x"))
    notes.made("shape of a negative size", lambda: tf.ConditionalAccumulator(tf.float32, [-1]).accumulator_ref)
    notes.made("shape a number", lambda: tf.ConditionalAccumulator(tf.float32, 3).accumulator_ref)
    notes.made("shape a TensorShape", lambda: tf.ConditionalAccumulator(tf.float32, tf.TensorShape([3])).take_grad(1))
    notes.made("shared_name a number", lambda: tf.ConditionalAccumulator(tf.float32, [], 3).name)
    notes.made("name with a space", lambda: tf.ConditionalAccumulator(tf.float32, [], name="a b").name)
    notes.made("name empty", lambda: tf.ConditionalAccumulator(tf.float32, [], name="").name)
    notes.made("name None", lambda: tf.ConditionalAccumulator(tf.float32, [], name=None).name)


@program
def dense_wrong_gradients(tf, notes):
    accumulator = tf.ConditionalAccumulator(tf.float32, [2])
    for name, given in (
        ("another shape", [1.0, 2.0, 3.0]),
        ("another rank", 1.0),
        ("a tensor of another dtype", tf.constant([1.0, 2.0], tf.float64)),
        ("an array of another dtype", np.array([1.0, 2.0])),
        ("integers", [1, 2]),
        ("a tensor of integers", tf.constant([1, 2])),
        ("None", None),
        ("text", ["a", "b"]),
        ("of unknown shape", tf.placeholder(tf.float32)),
        ("of partly known shape", tf.placeholder(tf.float32, [None])),
        ("of another partly known shape", tf.placeholder(tf.float32, [None, 2])),
        ("a variable", tf.Variable([1.0, 2.0])),
    ):
        notes.made(name, lambda given=given: accumulator.apply_grad(given))


@program
def dense_wrong_shape_when_it_runs(tf, notes):
    accumulator = tf.ConditionalAccumulator(tf.float32, [2])
    value = tf.placeholder(tf.float32)
    push, count = accumulator.apply_grad(value, name="push"), accumulator.num_accumulated()
    notes.run("push [3]", push, {value: [1.0, 2.0, 3.0]})
    notes.run("push scalar", push, {value: 1.0})
    notes.run("push [2, 1]", push, {value: [[1.0], [2.0]]})
    notes.run("count", count)
    notes.run("push [2]", push, {value: [1.0, 2.0]})
    notes.run("push [3]", push, {value: [1.0, 2.0, 3.0]})
    notes.run("take", accumulator.take_grad(1))


@program
def dense_stale_and_of_wrong_shape(tf, notes):
    accumulator = tf.ConditionalAccumulator(tf.float32, [2])
    value = tf.placeholder(tf.float32)
    notes.run("set 3", accumulator.set_global_step(3))
    notes.run("push [3] of step 0", accumulator.apply_grad(value, 0), {value: [1.0, 2.0, 3.0]})
    notes.run("count", accumulator.num_accumulated())


@program
def dense_wrong_number_to_take(tf, notes):
    accumulator = tf.ConditionalAccumulator(tf.float32, [2])
    notes.run("push", accumulator.apply_grad([1.0, 2.0]))
    number = tf.placeholder(tf.int32)
    for given in (0, -1, 1.5, "x", None, 2**31):
        take = notes.made(f"take {given!r}", lambda given=given: accumulator.take_grad(given, "take"))
        if take is not None:
            notes.run("run", take)
    take = notes.made("take a fed number", lambda: accumulator.take_grad(number))
    notes.run("0 fed", take, {number: 0})
    notes.made("a tensor of int64", lambda: accumulator.take_grad(tf.constant(1, tf.int64)))
    notes.run("1 fed", take, {number: 1})


@program
def dense_wrong_steps(tf, notes):
    accumulator = tf.ConditionalAccumulator(tf.float32, [])
    step = tf.placeholder(tf.int64)
    push, set_step = accumulator.apply_grad(1.0, step, "push"), accumulator.set_global_step(step, "set")
    notes.run("push of step [1]", push, {step: [1]})
    notes.run("set [1]", set_step, {step: [1]})
    notes.made("push of step [1], known", lambda: accumulator.apply_grad(1.0, [1]))
    notes.made("set [1], known", lambda: accumulator.set_global_step([1]))
    notes.made("push of step None", lambda: accumulator.apply_grad(1.0, None))
    notes.made("set None", lambda: accumulator.set_global_step(None))
    notes.made("push of step text", lambda: accumulator.apply_grad(1.0, "x"))
    notes.made("set a float", lambda: accumulator.set_global_step(1.5))
    notes.run("count", accumulator.num_accumulated())


@program
def dense_shared_name_with_other_facts(tf, notes):
    # Nothing is taken by another dtype: TensorFlow looks at none here, and its process dies.
    first = tf.ConditionalAccumulator(tf.float32, [2], shared_name="together")
    notes.run("push to the first", first.apply_grad([1.0, 2.0]))
    notes.run("count", first.num_accumulated())
    for name, options in (
        ("another dtype", {"dtype": tf.float64, "shape": [2]}),
        ("another shape", {"dtype": tf.float32, "shape": [3]}),
        ("no shape", {"dtype": tf.float32}),
        ("another reduction", {"dtype": tf.float32, "shape": [2], "reduction_type": "SUM"}),
    ):
        other = tf.ConditionalAccumulator(shared_name="together", **options)
        notes.run(name, other.num_accumulated())
    sparse = tf.SparseConditionalAccumulator(tf.float32, [2], shared_name="together")
    notes.run("a sparse one", sparse.num_accumulated())
    queue = tf.FIFOQueue(1, tf.float32, shared_name="together")
    notes.run("a queue", queue.size())


@program
def dense_push_to_the_other_kind(tf, notes):
    dense = tf.ConditionalAccumulator(tf.float32, [2])
    sparse = tf.SparseConditionalAccumulator(tf.float32, [2, 2])
    notes.made("dense has no slices", lambda: dense.apply_indexed_slices_grad)
    notes.made("a dense gradient to a sparse one", lambda: sparse.apply_grad(tf.constant([[1.0, 1.0], [1.0, 1.0]])))
    notes.made("a tensor as slices", lambda: sparse.apply_indexed_slices_grad(tf.constant([[1.0, 1.0]])))


@program
def sparse_wrong_gradients(tf, notes):
    accumulator = tf.SparseConditionalAccumulator(tf.float32, [3, 2])
    rows, values = tf.placeholder(tf.int64), tf.placeholder(tf.float32)
    push, count = accumulator.apply_grad(rows, values, name="push"), accumulator.num_accumulated()
    for name, given_rows, given_values in (
        ("fewer values than rows", [0, 1], [[1.0, 1.0]]),
        ("more values than rows", [0], [[1.0, 1.0], [1.0, 1.0]]),
        ("values of another length", [0], [[1.0, 1.0, 1.0]]),
        ("values without columns", [0], [1.0]),
        ("values a scalar", [0], 1.0),
        ("rows a scalar", 0, [[1.0, 1.0]]),
        ("rows a matrix", [[0]], [[1.0, 1.0]]),
        ("a negative row", [-1], [[1.0, 1.0]]),
        ("a row beyond", [3], [[1.0, 1.0]]),
        ("no rows", [], np.zeros([0, 2])),
    ):
        notes.run(name, push, {rows: given_rows, values: given_values})
        notes.run("count", count)


@program
def sparse_wrong_gradients_without_a_shape(tf, notes):
    accumulator = tf.SparseConditionalAccumulator(tf.float32)
    rows, values = tf.placeholder(tf.int64), tf.placeholder(tf.float32)
    push, count = accumulator.apply_grad(rows, values, local_step=5, name="push"), accumulator.num_accumulated()
    notes.run("[2 rows, 2]", push, {rows: [0, 7], values: [[1.0, 1.0], [2.0, 2.0]]})
    for name, given_rows, given_values in (
        ("three columns", [0], [[1.0, 1.0, 1.0]]),
        ("no columns", [0], [1.0]),
        ("a negative row", [-5], [[8.0, 8.0]]),
        ("a far row", [10**12], [[9.0, 9.0]]),
    ):
        notes.run(name, push, {rows: given_rows, values: given_values})
        notes.run("count", count)
    notes.run("take", accumulator.take_grad(1))
    notes.run("three columns in the next round", push, {rows: [0], values: [[1.0, 1.0, 1.0]]})
    notes.run("count", count)


@program
def sparse_wrong_shapes_of_gradients(tf, notes):
    accumulator = tf.SparseConditionalAccumulator(tf.float32, [3, 2])
    for shape in ([3, 2], [4, 2], [3, 3], [2], [], None, [-1, 2], [3, 2, 1]):
        push = notes.made(
            f"shape {shape}", lambda shape=shape: accumulator.apply_grad([0], [[1.0, 1.0]], grad_shape=shape, name="push")
        )
        if push is not None:
            notes.run("run", push)
    notes.run("count", accumulator.num_accumulated())
    notes.run("take", accumulator.take_grad(1))


@program
def sparse_shapes_of_gradients_that_differ(tf, notes):
    accumulator = tf.SparseConditionalAccumulator(tf.float32)
    for shape in ([3, 2], [4, 2], None, [3, 3]):
        push = accumulator.apply_grad([0], [[1.0, 1.0]], grad_shape=shape, name="push")
        notes.run(f"shape {shape}", push)
    notes.run("count", accumulator.num_accumulated())
    notes.run("take", accumulator.take_grad(1))


@program
def sparse_wrong_dtypes(tf, notes):
    accumulator = tf.SparseConditionalAccumulator(tf.float32, [3, 2])
    # Neither is run: TensorFlow looks at no dtype here, and its process aborts.
    notes.made("values of float64", lambda: accumulator.apply_grad([0], tf.constant([[1.0, 1.0]], tf.float64)))
    notes.made("values of integers", lambda: accumulator.apply_grad([0], [[1, 1]]))
    push = notes.made("rows of floats", lambda: accumulator.apply_grad([0.7], [[1.0, 1.0]]))
    if push is not None:
        notes.run("run", push)
    notes.made("rows None", lambda: accumulator.apply_grad(None, [[1.0, 1.0]]))
    notes.made("values None", lambda: accumulator.apply_grad([0], None))
    notes.run("count", accumulator.num_accumulated())


@program
def sparse_wrong_number_to_take(tf, notes):
    accumulator = tf.SparseConditionalAccumulator(tf.float32, [3, 2])
    for given in (0, -1):
        take = notes.made(f"take {given!r}", lambda given=given: accumulator.take_grad(given, "take"))
        if take is not None:
            notes.run("run", take)


@program
def sparse_wrong_steps(tf, notes):
    accumulator = tf.SparseConditionalAccumulator(tf.float32, [3, 2])
    step = tf.placeholder(tf.int64)
    notes.run("push of step [1]", accumulator.apply_grad([0], [[1.0, 1.0]], local_step=step, name="push"), {step: [1]})
    notes.run("set [1]", accumulator.set_global_step(step, "set"), {step: [1]})
    notes.run("count", accumulator.num_accumulated())
