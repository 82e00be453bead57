"""What queues refuse, when they are made and when they run."""

import numpy as np

from tests.conformance.reference.sync_training.notes import program


@program
def queue_wrong_arguments(tf, notes):
    notes.made("no dtypes", lambda: tf.FIFOQueue(10))
    notes.made("dtypes None", lambda: tf.FIFOQueue(10, None))
    notes.made("dtypes empty", lambda: tf.FIFOQueue(10, []).name)
    notes.made("dtype text", lambda: tf.FIFOQueue(10, "float32").dtypes)
    notes.made("dtypes text", lambda: tf.FIFOQueue(10, ["float32", tf.int32]).dtypes)
    notes.made("dtype nonsense", lambda: tf.FIFOQueue(10, "nonsense"))
    notes.made("too few shapes", lambda: tf.FIFOQueue(10, [tf.float32, tf.int32], [[]]))
    notes.made("too many shapes", lambda: tf.FIFOQueue(10, tf.float32, [[], []]))
    notes.made("one shape that is no list of shapes", lambda: tf.FIFOQueue(10, tf.float32, [2]).shapes)
    notes.made("a shape as a TensorShape", lambda: tf.FIFOQueue(10, tf.float32, tf.TensorShape([2])).shapes)
    notes.made("no dimensions as ()", lambda: tf.FIFOQueue(10, tf.float32, ()).shapes)
    notes.made("a shape not known", lambda: tf.FIFOQueue(10, tf.float32, [None]).shapes)
    notes.made("too few names", lambda: tf.FIFOQueue(10, [tf.float32, tf.int32], names=["x"]))
    notes.made("names that are one text", lambda: tf.FIFOQueue(10, tf.float32, names="xy"))
    notes.made("name with a space", lambda: tf.FIFOQueue(10, tf.float32, name="a b"))
    notes.made("shared_name a number", lambda: tf.FIFOQueue(10, tf.float32, shared_name=3).name)


@program
def queue_wrong_values(tf, notes):
    queue = tf.FIFOQueue(10, [tf.float32, tf.int32], shapes=[[2], []])
    for name, given in (
        ("too few", [[1.0, 2.0]]),
        ("too many", [[1.0, 2.0], 3, 4]),
        ("no list", 1.0),
        ("another shape", [[1.0, 2.0, 3.0], 4]),
        ("another rank", [1.0, 4]),
        ("another dtype", [[1.0, 2.0], 1.5]),
        ("a tensor of another dtype", [tf.constant([1.0, 2.0], tf.float64), 4]),
        ("an array of another dtype", [np.array([1.0, 2.0]), 4]),
        ("None", None),
        ("text", ["a", 4]),
        ("a variable", [tf.Variable([1.0, 2.0]), 4]),
    ):
        notes.made(name, lambda given=given: queue.enqueue(given))


@program
def queue_wrong_values_of_many(tf, notes):
    queue = tf.FIFOQueue(10, [tf.float32, tf.int32], shapes=[[2], []])
    for name, given in (
        ("other numbers of elements", [[[1.0, 2.0]], [1, 2]]),
        ("another shape", [[[1.0, 2.0, 3.0]], [1]]),
        ("scalars", [1.0, 1]),
        ("too few components", [[[1.0, 2.0]]]),
        ("no elements", [np.zeros([0, 2], np.float32), np.zeros([0], np.int32)]),
        ("unknown numbers", [tf.placeholder(tf.float32), tf.placeholder(tf.int32)]),
    ):
        notes.made(name, lambda given=given: queue.enqueue_many(given))
    single = tf.FIFOQueue(10, tf.int32, shapes=[[]])
    notes.made("one component without a list around it", lambda: single.enqueue_many([1, 2, 3]))
    notes.made("one component as a tensor", lambda: single.enqueue_many(tf.constant([1, 2, 3])))


@program
def queue_wrong_shapes_when_it_runs(tf, notes):
    queue = tf.FIFOQueue(10, tf.float32, shapes=[[2]])
    value = tf.placeholder(tf.float32)
    push, many = queue.enqueue(value, name="push"), queue.enqueue_many([value], name="push_many")
    notes.run("push [3]", push, {value: [1.0, 2.0, 3.0]})
    notes.run("push scalar", push, {value: 1.0})
    notes.run("push many [1, 3]", many, {value: [[1.0, 2.0, 3.0]]})
    notes.run("push many [2]", many, {value: [1.0, 2.0]})
    notes.run("size", queue.size())


@program
def queue_wrong_numbers_of_elements_when_it_runs(tf, notes):
    queue = tf.FIFOQueue(10, [tf.int32, tf.int32], shapes=[[], []])
    one, two = tf.placeholder(tf.int32, [None]), tf.placeholder(tf.int32, [None])
    notes.run("2 and 3", queue.enqueue_many([one, two], name="push_many"), {one: [1, 2], two: [1, 2, 3]})
    notes.run("size", queue.size())


@program
def queue_wrong_numbers_to_pop(tf, notes):
    queue = tf.FIFOQueue(10, tf.int32, shapes=[[]])
    number = tf.placeholder(tf.int32)
    notes.run("push", queue.enqueue_many([[1, 2]]))
    for given in (-1, 1.5, "x", None, [1]):
        pop = notes.made(f"pop {given!r}", lambda given=given: queue.dequeue_many(given, name="pop"))
        if pop is not None:
            notes.run("run", pop)
    notes.run("-1 fed", queue.dequeue_many(number, name="pop"), {number: -1})
    notes.run("up to -1 fed", queue.dequeue_up_to(number, name="pop"), {number: -1})
    notes.run("[1] fed", queue.dequeue_many(number, name="pop"), {number: [1]})
    notes.run("size", queue.size())


@program
def queue_shared_name_with_other_facts(tf, notes):
    first = tf.FIFOQueue(10, tf.float32, shapes=[[2]], shared_name="together")
    notes.run("first", first.size())
    for name, other in (
        ("another dtype", tf.FIFOQueue(10, tf.int32, shapes=[[2]], shared_name="together")),
        ("more components", tf.FIFOQueue(10, [tf.float32, tf.int32], shapes=[[2], []], shared_name="together")),
        ("another shape", tf.FIFOQueue(10, tf.float32, shapes=[[3]], shared_name="together")),
        ("no shape", tf.FIFOQueue(10, tf.float32, shared_name="together")),
        ("another capacity", tf.FIFOQueue(11, tf.float32, shapes=[[2]], shared_name="together")),
        ("another kind", tf.PaddingFIFOQueue(10, tf.float32, shapes=[[2]], shared_name="together")),
        ("an accumulator", None),
    ):
        if other is None:
            notes.run(name, tf.ConditionalAccumulator(tf.float32, [2], shared_name="together").num_accumulated())
        else:
            notes.run(name, other.size())


@program
def queue_fetched_itself(tf, notes):
    queue = tf.FIFOQueue(10, tf.float32, name="mine")
    notes.run("queue", queue)
    notes.made("in a condition", lambda: bool(queue))


@program
def queue_push_of_what_fails(tf, notes):
    queue = tf.FIFOQueue(10, tf.float32, shapes=[[]])
    variable = tf.Variable(1.0, name="v")
    notes.run("push of a variable without a value", queue.enqueue(variable))
    notes.run("size", queue.size())
