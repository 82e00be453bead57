"""``SparseConditionalAccumulator``: what is in the graph, means by row, repeated rows, their order, steps."""

import numpy as np

from tests.conformance.reference.sync_training.notes import program


def pushed(tf, notes, shape=None, **options):
    """An accumulator of rows of two floats, with a push over fed values."""
    accumulator = tf.SparseConditionalAccumulator(tf.float32, shape, **options)
    rows, values, step = tf.placeholder(tf.int64, [None]), tf.placeholder(tf.float32, [None, 2]), tf.placeholder(tf.int64, [])
    operation = accumulator.apply_grad(rows, values, local_step=step)

    def push(name, given, at=0):
        """Pushes rows, each with its number twice as its values."""
        found = np.asarray([[value, value] for _, value in given], np.float32).reshape(-1, 2)
        notes.run(name, operation, {rows: [row for row, _ in given], values: found, step: at})

    return accumulator, push, accumulator.num_accumulated()


@program
def sparse_graph(tf, notes):
    accumulator = tf.SparseConditionalAccumulator(tf.float32, shape=[4, 2])
    slices = tf.IndexedSlices(tf.constant([[1.0, 2.0]], name="values"), tf.constant([0], name="rows"), tf.constant([4, 2]))
    accumulator.apply_grad([1], [[1.0, 2.0]])
    accumulator.apply_indexed_slices_grad(slices, local_step=1)
    notes.value("take_grad", accumulator.take_grad(2))
    notes.value("take_indexed_slices_grad", accumulator.take_indexed_slices_grad(2))
    accumulator.num_accumulated()
    accumulator.set_global_step(3)
    notes.operations("operations")


@program
def sparse_graph_with_names(tf, notes):
    accumulator = tf.SparseConditionalAccumulator(tf.float64, None, "shared", "mine", "SUM")
    values = tf.constant([[1.0]], tf.float64, name="values")
    accumulator.apply_grad(tf.constant([1], tf.int64, name="rows"), values, name="push")
    accumulator.apply_indexed_slices_grad(tf.IndexedSlices(values, tf.constant([0], name="others")), name="push_slices")
    accumulator.take_grad(1, "take")
    accumulator.take_indexed_slices_grad(1, name="take_slices")
    accumulator.num_accumulated("count")
    accumulator.set_global_step(1, "advance")
    notes.operations("operations")


@program
def sparse_attributes(tf, notes):
    accumulator = tf.SparseConditionalAccumulator(tf.float32, [None, 2])
    notes.value("name", accumulator.name)
    notes.value("dtype", accumulator.dtype)
    notes.value("accumulator_ref", accumulator.accumulator_ref)
    notes.value("base", isinstance(accumulator, tf.ConditionalAccumulatorBase))
    notes.value("also here", tf.sparse.SparseConditionalAccumulator is tf.SparseConditionalAccumulator)
    taken = accumulator.take_grad(1)
    notes.value("fields", list(taken._fields))


@program
def sparse_mean_is_of_each_row(tf, notes):
    accumulator, push, count = pushed(tf, notes, [4, 2])
    push("rows 0 and 1", [(0, 1.0), (1, 10.0)])
    push("rows 1 and 2", [(1, 20.0), (2, 8.0)])
    push("row 1", [(1, 60.0)])
    notes.run("count", count)
    notes.run("take 3", accumulator.take_grad(3))
    notes.run("count after", count)


@program
def sparse_sum(tf, notes):
    accumulator, push, _ = pushed(tf, notes, [4, 2], reduction_type="SUM")
    push("rows 0 and 1", [(0, 1.0), (1, 10.0)])
    push("rows 1 and 2", [(1, 20.0), (2, 8.0)])
    notes.run("take 2", accumulator.take_grad(2))


@program
def sparse_repeated_rows_in_the_only_gradient(tf, notes):
    accumulator, push, count = pushed(tf, notes, [4, 2])
    push("row 1 twice", [(1, 1.0), (1, 5.0)])
    notes.run("count", count)
    notes.run("take", accumulator.take_grad(1))


@program
def sparse_repeated_rows_in_the_first_gradient(tf, notes):
    accumulator, push, _ = pushed(tf, notes, [4, 2])
    push("row 1 twice", [(1, 1.0), (1, 5.0)])
    push("row 1", [(1, 6.0)])
    notes.run("take", accumulator.take_grad(2))


@program
def sparse_repeated_rows_in_the_second_gradient(tf, notes):
    accumulator, push, _ = pushed(tf, notes, [4, 2])
    push("row 1", [(1, 6.0)])
    push("row 1 twice", [(1, 1.0), (1, 5.0)])
    notes.run("take", accumulator.take_grad(2))


@program
def sparse_repeated_rows_in_both_gradients(tf, notes):
    for reduction in ("MEAN", "SUM"):
        accumulator, push, _ = pushed(tf, notes, [4, 2], reduction_type=reduction, name=reduction.lower())
        push("rows 0, 1 and 1", [(0, 2.0), (1, 1.0), (1, 5.0)])
        push("rows 1, 1 and 3", [(1, 3.0), (1, 7.0), (3, 4.0)])
        notes.run(f"take {reduction}", accumulator.take_grad(2))


@program
def sparse_rows_out_of_order_in_the_only_gradient(tf, notes):
    accumulator, push, _ = pushed(tf, notes, [4, 2])
    push("rows 3, 0 and 2", [(3, 1.0), (0, 2.0), (2, 3.0)])
    notes.run("take", accumulator.take_grad(1))


@program
def sparse_rows_out_of_order_in_both_gradients(tf, notes):
    accumulator, push, _ = pushed(tf, notes, [4, 2])
    push("rows 3, 0 and 2", [(3, 1.0), (0, 2.0), (2, 3.0)])
    push("rows 2, 3 and 0", [(2, 10.0), (3, 20.0), (0, 30.0)])
    notes.run("take", accumulator.take_grad(2))


@program
def sparse_second_gradient_out_of_order(tf, notes):
    accumulator, push, _ = pushed(tf, notes, [6, 2])
    push("rows 1 and 4", [(1, 1.0), (4, 2.0)])
    push("rows 5, 1 and 0", [(5, 10.0), (1, 20.0), (0, 30.0)])
    notes.run("take", accumulator.take_grad(2))


@program
def sparse_rows_in_between(tf, notes):
    accumulator, push, _ = pushed(tf, notes, [9, 2])
    push("rows 1, 4 and 7", [(1, 1.0), (4, 2.0), (7, 3.0)])
    push("rows 0, 4, 5 and 8", [(0, 10.0), (4, 20.0), (5, 30.0), (8, 40.0)])
    push("rows 4 and 7", [(4, 5.0), (7, 6.0)])
    notes.run("take", accumulator.take_grad(3))


@program
def sparse_gradients_without_rows(tf, notes):
    accumulator, push, count = pushed(tf, notes, [4, 2])
    push("no rows", [])
    notes.run("count", count)
    notes.run("take", accumulator.take_grad(1))


@program
def sparse_gradients_without_rows_count(tf, notes):
    accumulator, push, count = pushed(tf, notes)
    push("no rows", [])
    notes.run("count", count)
    push("row 1", [(1, 4.0)])
    notes.run("count", count)
    notes.run("take 2", accumulator.take_grad(2))


@program
def sparse_stale_gradients_are_dropped(tf, notes):
    accumulator, push, count = pushed(tf, notes, [4, 2])
    notes.run("set 2", accumulator.set_global_step(2))
    for step in (0, 1, 2, 5):
        push(f"push of step {step}", [(step, 1.0)] if step < 4 else [(3, 1.0)], step)
        notes.run("count", count)
    notes.run("take", accumulator.take_grad(1))
    push("push of step 2 is stale now", [(0, 1.0)], 2)
    push("push of step 3", [(0, 1.0)], 3)
    notes.run("count", count)


@program
def sparse_set_step_keeps_what_is_pending(tf, notes):
    accumulator, push, count = pushed(tf, notes, [4, 2])
    push("push of step 0", [(0, 4.0)])
    notes.run("set 7", accumulator.set_global_step(7))
    push("push of step 7", [(0, 2.0)], 7)
    notes.run("count", count)
    notes.run("set back to 1", accumulator.set_global_step(1))
    push("push of step 1", [(0, 1.0)], 1)
    notes.run("count", count)
    notes.run("take", accumulator.take_grad(2))


@program
def sparse_take_waits(tf, notes):
    accumulator, push, count = pushed(tf, notes, [4, 2])
    take = accumulator.take_grad(2)
    notes.waits("take of none", take)
    push("push", [(0, 4.0)])
    notes.waits("take of too few", take)
    notes.run("count", count)
    push("push", [(2, 6.0)])
    notes.run("take", take)


@program
def sparse_slices(tf, notes):
    accumulator = tf.SparseConditionalAccumulator(tf.float32, [4, 2])
    for rows, shape in (([0, 2], [4, 2]), ([2], None)):
        shape = None if shape is None else tf.constant(shape, tf.int64)
        slices = tf.IndexedSlices(tf.ones([len(rows), 2]), tf.constant(rows, tf.int32), shape)
        notes.run(f"push {rows}", accumulator.apply_indexed_slices_grad(slices))
    notes.run("take", accumulator.take_indexed_slices_grad(2))
    notes.run("count", accumulator.num_accumulated())


@program
def sparse_shape_of_the_result(tf, notes):
    for shape, given in (([4, 2], None), (None, None), (None, [4, 2]), ([None, 2], None), ([None, 2], [4, 2]), ([], None)):
        accumulator = tf.SparseConditionalAccumulator(tf.float32, shape)
        push = accumulator.apply_grad([1], [[1.0, 2.0]], grad_shape=given)
        notes.run(f"accumulator of {shape}, gradient of {given}", push)
        notes.waits("take", accumulator.take_grad(1))


@program
def sparse_shape_of_no_dimensions_as_synchronous_training_has_it(tf, notes):
    accumulator = tf.SparseConditionalAccumulator(tf.float32, shape=(), shared_name="table:0/grad_accum")
    for rows in ([0, 3], [3]):
        slices = tf.IndexedSlices(tf.ones([len(rows), 2]), tf.constant(rows), tf.constant([4, 2]))
        notes.run(f"push {rows}", accumulator.apply_indexed_slices_grad(slices))
    notes.run("take", accumulator.take_indexed_slices_grad(1))


@program
def sparse_elements_and_blocks(tf, notes):
    for name, values in (("elements", [1.0, 2.0]), ("blocks", np.arange(8.0).reshape(2, 2, 2))):
        accumulator = tf.SparseConditionalAccumulator(tf.float64)
        for _ in range(2):
            notes.run(f"push {name}", accumulator.apply_grad([0, 5], tf.constant(values, tf.float64)))
        notes.run("take", accumulator.take_grad(2))


@program
def sparse_dtypes(tf, notes):
    for name in "float16 bfloat16 float32 float64 int8 int32 int64 uint8 complex64 bool string".split():
        dtype = getattr(tf, name)
        with tf.Graph().as_default(), tf.Session() as session:
            if notes.made(f"{name} made", lambda dtype=dtype: tf.SparseConditionalAccumulator(dtype) and dtype) is None:
                continue
            accumulator = tf.SparseConditionalAccumulator(dtype)
            value = tf.placeholder(dtype, [1, 1])
            for given in (1, 2):
                notes.run(f"{name} push", accumulator.apply_grad([2], value), {value: [[given]]}, session)
            notes.waits(f"{name} take", accumulator.take_grad(2), session=session)


@program
def sparse_shared_names(tf, notes):
    one = tf.SparseConditionalAccumulator(tf.float32, [4, 2], shared_name="together")
    two = tf.SparseConditionalAccumulator(tf.float32, [4, 2], shared_name="together")
    notes.run("push to one", one.apply_grad([0], [[1.0, 1.0]]))
    notes.run("push to two", two.apply_grad([0], [[3.0, 3.0]]))
    notes.run("counts", [one.num_accumulated(), two.num_accumulated()])
    notes.run("take", one.take_grad(2))


@program
def sparse_result_applied_to_a_variable(tf, notes):
    table = tf.get_variable("table", [4, 2], initializer=tf.zeros_initializer())
    accumulator, push, _ = pushed(tf, notes)
    taken = accumulator.take_indexed_slices_grad(2)
    train = tf.train.GradientDescentOptimizer(1.0).apply_gradients([(taken, table)])
    notes.run("init", table.initializer)
    push("row 1 twice", [(1, 1.0), (1, 5.0)])
    push("rows 1 and 3", [(1, 2.0), (3, 4.0)])
    notes.run("train", train)
    notes.run("table", table)


@program
def sparse_round_after_round(tf, notes):
    accumulator, push, count = pushed(tf, notes)
    take = accumulator.take_grad(2)
    for step in range(3):
        for worker in range(3):
            push(f"round {step} worker {worker}", [(worker, 1.0), (step, 10.0)] if worker < step else [(worker, 5.0)], step)
        notes.run("count", count)
        notes.run("take", take)
