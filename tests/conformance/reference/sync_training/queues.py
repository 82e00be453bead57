"""``FIFOQueue`` and its kin: what is in the graph, what goes in and comes out, what waits, sharing."""

import numpy as np

from tests.conformance.reference.sync_training.notes import program


def of_numbers(tf, notes, capacity=10, **options):
    """A queue of int32 scalars, and a push of fed numbers."""
    queue = tf.FIFOQueue(capacity, tf.int32, shapes=[[]], **options)
    values = tf.placeholder(tf.int32, [None])
    many = queue.enqueue_many([values])
    return queue, lambda name, *given: notes.run(name, many, {values: given})


@program
def queue_graph(tf, notes):
    queue = tf.FIFOQueue(10, tf.float32)
    queue.enqueue(1.0)
    queue.enqueue_many([[1.0, 2.0]])
    notes.value("dequeue", queue.dequeue())
    notes.value("dequeue_many", queue.dequeue_many(2))
    notes.value("dequeue_up_to", queue.dequeue_up_to(2))
    queue.size()
    queue.is_closed()
    queue.close()
    queue.close(cancel_pending_enqueues=True)
    notes.operations("operations")


@program
def queue_graph_of_two_components(tf, notes):
    queue = tf.FIFOQueue(-1, [tf.int64, tf.string], shapes=[[], [2]], name="mine", shared_name="shared")
    queue.enqueue([1, ["a", "b"]], name="push")
    queue.enqueue_many([[1, 2], [["a", "b"], ["c", "d"]]], name="push_many")
    notes.value("dequeue", queue.dequeue("pop"))
    notes.value("dequeue_many", queue.dequeue_many(2, "pop_many"))
    notes.value("dequeue_up_to", queue.dequeue_up_to(2, name="pop_up_to"))
    queue.size("count")
    queue.is_closed("ask")
    queue.close(name="end")
    notes.operations("operations")


@program
def queue_graph_in_scopes(tf, notes):
    with tf.name_scope("outer"), tf.device("/job:ps/task:1"):
        queue = tf.FIFOQueue(10, tf.float32, shapes=[[2]])
        second = tf.FIFOQueue(10, tf.float32)
    with tf.name_scope("elsewhere"):
        queue.enqueue(tf.zeros([2], name="value"))
        queue.enqueue_many(np.zeros([3, 2], np.float32))
        queue.dequeue()
        queue.dequeue_many(tf.constant(2, name="number"))
        queue.size()
        queue.close()
    second.enqueue(1.0)
    notes.value("names", [queue.name, second.name])
    notes.operations("operations")


@program
def queue_graph_of_the_kin(tf, notes):
    tf.PaddingFIFOQueue(10, tf.float32, shapes=[[None]])
    tf.RandomShuffleQueue(10, 2, tf.float32, seed=3)
    tf.PriorityQueue(10, tf.float32, shapes=[[]])
    notes.operations("operations")
    notes.value("also here", [tf.queue.FIFOQueue is tf.FIFOQueue, tf.queue.RandomShuffleQueue is tf.RandomShuffleQueue])
    notes.value("base", issubclass(tf.FIFOQueue, tf.QueueBase))


@program
def queue_attributes(tf, notes):
    for name, queue in (
        ("plain", tf.FIFOQueue(10, tf.float32)),
        ("shapes", tf.FIFOQueue(10, [tf.float32, tf.int64], [[2], []])),
        ("names", tf.FIFOQueue(10, [tf.float32, tf.int64], [[2], []], names=["x", "y"])),
        ("a tuple of dtypes", tf.FIFOQueue(10, (tf.float32, tf.int64))),
    ):
        notes.value(name, [queue.name, queue.dtypes, queue.shapes, queue.names, queue.queue_ref])
    notes.made("partly known shapes", lambda: tf.FIFOQueue(10, [tf.float32], [[None, 2]]))


@program
def queue_first_in_first_out(tf, notes):
    queue, push = of_numbers(tf, notes)
    push("push", 3, 1, 2)
    pop, size = queue.dequeue(), queue.size()
    for _ in range(3):
        notes.run("size", size)
        notes.run("pop", pop)
    notes.run("size", size)


@program
def queue_of_two_components(tf, notes):
    queue = tf.FIFOQueue(10, [tf.float32, tf.string], shapes=[[2], []])
    notes.run("push", queue.enqueue([[1.0, 2.0], "a"]))
    notes.run("push as a tuple", queue.enqueue((np.array([3.0, 4.0], np.float32), b"b")))
    notes.run("push many", queue.enqueue_many([[[5.0, 6.0], [7.0, 8.0]], ["c", "d"]]))
    notes.run("pop", queue.dequeue())
    notes.run("pop many", queue.dequeue_many(2))
    notes.run("pop up to", queue.dequeue_up_to(1))
    notes.run("size", queue.size())


@program
def queue_of_names(tf, notes):
    queue = tf.FIFOQueue(10, [tf.float32, tf.int32], shapes=[[], []], names=["x", "y"])
    notes.run("push", queue.enqueue({"y": 1, "x": 2.0}))
    notes.run("push many", queue.enqueue_many({"x": [3.0, 4.0], "y": [5, 6]}))
    notes.run("pop", queue.dequeue())
    notes.run("pop many", queue.dequeue_many(2))
    notes.made("without names", lambda: queue.enqueue([1.0, 2]))
    notes.made("other names", lambda: queue.enqueue({"x": 1.0, "z": 2}))
    notes.made("too few names", lambda: queue.enqueue({"x": 1.0}))
    notes.made("names where there are none", lambda: tf.FIFOQueue(1, tf.float32).enqueue({"x": 1.0}))
    one = tf.FIFOQueue(10, tf.float32, shapes=[[]], names=["only"])
    notes.run("push one", one.enqueue({"only": 1.0}))
    notes.run("pop one", one.dequeue())


@program
def queue_of_any_shape(tf, notes):
    queue = tf.FIFOQueue(10, tf.float32)
    value = tf.placeholder(tf.float32)
    push, pop = queue.enqueue(value), queue.dequeue()
    for given in ([1.0, 2.0], 3.0, [[4.0]], []):
        notes.run(f"push {given}", push, {value: given})
    for _ in range(4):
        notes.run("pop", pop)
    notes.run("push", push, {value: 1.0})
    notes.run("pop many", queue.dequeue_many(1))
    notes.run("pop up to", queue.dequeue_up_to(1))
    notes.run("size", queue.size())


@program
def queue_of_nothing_pushed(tf, notes):
    queue, push = of_numbers(tf, notes)
    push("push of no numbers")
    notes.run("size", queue.size())
    notes.run("pop 0", queue.dequeue_many(0))
    notes.run("pop up to 0", queue.dequeue_up_to(0))
    push("push", 5)
    notes.run("pop 0", queue.dequeue_many(0))
    notes.run("size", queue.size())


@program
def queue_pop_of_an_empty_queue_waits(tf, notes):
    queue, push = of_numbers(tf, notes)
    pop = queue.dequeue()
    notes.waits("pop", pop)
    push("push", 1, 2)
    notes.run("pop", pop)
    notes.run("size", queue.size())


@program
def queue_pop_of_too_many_waits(tf, notes):
    queue, push = of_numbers(tf, notes)
    push("push", 1, 2)
    notes.waits("pop 3", queue.dequeue_many(3))
    # What is run on this queue then finds it empty, or waits for ever, by chance.


@program
def queue_push_to_a_full_queue_waits(tf, notes):
    queue, push = of_numbers(tf, notes, capacity=2)
    push("push", 1, 2)
    notes.waits("push", queue.enqueue(3))
    notes.run("size", queue.size())
    notes.run("pop", queue.dequeue())
    notes.run("push", queue.enqueue(4))
    notes.run("pop many", queue.dequeue_many(2))


@program
def queue_push_of_more_than_fit_waits(tf, notes):
    queue, push = of_numbers(tf, notes, capacity=2)
    push("push", 1)
    notes.waits("push 3", queue.enqueue_many([[2, 3, 4]]))
    notes.run("what went in stays", queue.size())
    notes.run("pop many", queue.dequeue_many(queue.size()))


@program
def queue_pop_up_to_of_too_many_waits(tf, notes):
    queue, push = of_numbers(tf, notes)
    push("push", 1, 2)
    notes.waits("pop up to 3 of an open queue", queue.dequeue_up_to(3))


@program
def queue_pop_of_many_of_an_empty_queue_waits(tf, notes):
    queue, push = of_numbers(tf, notes)
    notes.waits("pop 3", queue.dequeue_many(3))
    notes.run("size", queue.size())
    push("push", 1, 2, 3)
    notes.run("pop 3", queue.dequeue_many(3))


@program
def queue_capacities(tf, notes):
    for capacity in (-1, 0, -2, 1):
        queue = notes.made(f"capacity {capacity}", lambda capacity=capacity: tf.FIFOQueue(capacity, tf.int32, shapes=[[]]).queue_ref)
        if queue is None:
            continue
        whole = tf.FIFOQueue(capacity, tf.int32, shapes=[[]])
        notes.waits("push", whole.enqueue(1))
        notes.waits("push many", whole.enqueue_many([[2, 3, 4]]))
        notes.run("size", whole.size())
    notes.made("capacity a float", lambda: tf.FIFOQueue(1.5, tf.int32).name)
    notes.made("capacity None", lambda: tf.FIFOQueue(None, tf.int32).name)


@program
def queue_closed_is_emptied_first(tf, notes):
    queue, push = of_numbers(tf, notes)
    pop, closed = queue.dequeue(), queue.is_closed()
    push("push", 1, 2)
    notes.run("is closed", closed)
    notes.run("close", queue.close())
    notes.run("is closed", closed)
    notes.run("size", queue.size())
    notes.run("pop", pop)
    notes.run("pop", pop)
    notes.run("pop of none", pop)
    notes.run("size", queue.size())


@program
def queue_closed_refuses_pushes(tf, notes):
    for cancel in (False, True):
        queue, push = of_numbers(tf, notes, name=f"cancel_{cancel}")
        push("push", 1)
        notes.run("close", queue.close(cancel_pending_enqueues=cancel))
        notes.run("push", queue.enqueue(2))
        push("push many", 2, 3)
        push("push of no numbers")
        notes.run("size", queue.size())
        notes.run("pop", queue.dequeue())


@program
def queue_closed_twice(tf, notes):
    queue, push = of_numbers(tf, notes)
    notes.run("close", queue.close())
    notes.run("close again", queue.close())
    notes.run("close and cancel", queue.close(cancel_pending_enqueues=True))
    notes.run("close and cancel again", queue.close(cancel_pending_enqueues=True))
    notes.run("is closed", queue.is_closed())


@program
def queue_closed_with_too_few(tf, notes):
    queue, push = of_numbers(tf, notes)
    push("push", 1, 2, 3)
    notes.run("close", queue.close())
    notes.run("pop 4", queue.dequeue_many(4))
    notes.run("size", queue.size())
    notes.run("pop 2", queue.dequeue_many(2))
    notes.run("pop up to 5", queue.dequeue_up_to(5))
    notes.run("pop up to 5 of none", queue.dequeue_up_to(5))
    notes.run("pop 0", queue.dequeue_many(0))
    notes.run("pop up to 0", queue.dequeue_up_to(0))


@program
def queue_closed_and_empty(tf, notes):
    queue, _ = of_numbers(tf, notes, name="mine", shared_name="shared")
    notes.run("close and cancel", queue.close(cancel_pending_enqueues=True))
    notes.run("pop", queue.dequeue(name="pop"))
    notes.run("pop 2", queue.dequeue_many(2, name="pop_many"))
    notes.run("push", queue.enqueue(1, name="push"))


@program
def queue_shared_names(tf, notes):
    one = tf.FIFOQueue(10, tf.int32, shapes=[[]], shared_name="together")
    two = tf.FIFOQueue(10, tf.int32, shapes=[[]], shared_name="together")
    notes.value("names", [one.name, two.name])
    notes.run("push to one", one.enqueue(5))
    notes.run("sizes", [one.size(), two.size()])
    notes.run("pop from two", two.dequeue())
    notes.run("close one", one.close())
    notes.run("two is closed", two.is_closed())


@program
def queue_sessions_of_one_server_share(tf, notes):
    queue = tf.FIFOQueue(10, tf.int32, shapes=[[]], shared_name="together")
    push, size = queue.enqueue(1), queue.size()
    server = tf.train.Server.create_local_server()
    with tf.Session(server.target) as one, tf.Session(server.target) as two:
        notes.run("push", push, session=one)
        notes.run("size in another session", size, session=two)
    with tf.Session(server.target) as three:
        notes.run("size after both are closed", size, session=three)
        notes.run("close", queue.close(), session=three)
        notes.run("push", push, session=three)
    with tf.Graph().as_default(), tf.Session(server.target) as four:
        same = tf.FIFOQueue(10, tf.int32, shapes=[[]], shared_name="together", name="another")
        notes.run("of another graph: pop", same.dequeue(), session=four)
        notes.run("pop of none", same.dequeue(), session=four)


@program
def queue_sessions_of_one_process_have_their_own(tf, notes):
    queue, push = of_numbers(tf, notes, shared_name="together")
    push("push", 1)
    with tf.Session() as other:
        notes.run("size in another session", queue.size(), session=other)


@program
def queue_from_list(tf, notes):
    queues = [tf.FIFOQueue(10, tf.int32, shapes=[[]]) for _ in range(3)]
    index = tf.placeholder(tf.int32, [])
    notes.skip_operations()
    chosen = tf.QueueBase.from_list(index, queues)
    push = chosen.enqueue(7)
    sizes = [each.size() for each in queues]
    notes.operations("operations")
    notes.value("chosen", [chosen.name, chosen.dtypes, chosen.shapes, chosen.names])
    notes.run("push to 1", push, {index: 1})
    notes.run("sizes", sizes)
    notes.run("push to 5", push, {index: 5})


@program
def queue_from_wrong_lists(tf, notes):
    one = tf.FIFOQueue(10, tf.int32, shapes=[[2]])
    for name, given in (
        ("empty", []),
        ("a tuple", (one, one)),
        ("no queues", [one, 1]),
        ("other dtypes", [one, tf.FIFOQueue(10, tf.float32, shapes=[[2]])]),
        ("other names", [one, tf.FIFOQueue(10, tf.int32, shapes=[[2]], names=["x"])]),
        ("other shapes", [one, tf.FIFOQueue(10, tf.int32, shapes=[[3]])]),
        ("other ranks", [one, tf.FIFOQueue(10, tf.int32, shapes=[[]])]),
        ("another kind", [one, tf.RandomShuffleQueue(10, 0, tf.int32, shapes=[[2]])]),
    ):
        notes.made(name, lambda given=given: tf.FIFOQueue.from_list(0, given).shapes)


@program
def queue_padding(tf, notes):
    queue = tf.PaddingFIFOQueue(10, tf.int32, shapes=[[None]])
    value = tf.placeholder(tf.int32)
    push = queue.enqueue(value)
    for given in ([1], [2, 3, 4], []):
        notes.run(f"push {given}", push, {value: given})
    notes.run("pop many", queue.dequeue_many(2))
    notes.run("pop", queue.dequeue())
    notes.made("without shapes", lambda: tf.PaddingFIFOQueue(10, tf.int32, shapes=None))
    notes.made("of unknown rank", lambda: tf.PaddingFIFOQueue(10, tf.int32, shapes=[tf.TensorShape(None)]).shapes)


@program
def queue_random_shuffle(tf, notes):
    queue = tf.RandomShuffleQueue(10, min_after_dequeue=2, dtypes=tf.int32, shapes=[[]], seed=1)
    notes.run("push", queue.enqueue_many([[7, 7, 7]]))
    notes.run("pop", queue.dequeue())
    notes.waits("pop leaves 2", queue.dequeue())
    notes.run("close", queue.close())
    notes.run("pop of the rest", queue.dequeue_many(2))
    notes.run("pop of none", queue.dequeue())


@program
def queue_priority(tf, notes):
    queue = tf.PriorityQueue(10, tf.string, shapes=[[]])
    for number, text in ((3, "c"), (1, "a"), (2, "b")):
        notes.run("push", queue.enqueue([tf.constant(number, tf.int64), text]))
    notes.run("pop", queue.dequeue())
    notes.run("pop many", queue.dequeue_many(2))


@program
def queue_as_a_barrier(tf, notes):
    """A queue for each task in which the others put a token: tutorials end all workers together so."""
    done = [tf.FIFOQueue(2, tf.int32, shapes=[[]], shared_name=f"done_queue{task}") for task in range(2)]
    signals = [each.enqueue(1) for each in done]
    wait = done[0].dequeue()
    notes.waits("nobody is done", wait)
    notes.run("worker 0", signals)
    notes.run("worker 1", signals)
    notes.run("ps 0 waits for 2", [wait, wait])
    notes.run("sizes: the same operation twice in one run is run once", [each.size() for each in done])
    notes.run("ps 0 waits", wait)
    notes.run("sizes", [each.size() for each in done])


@program
def queue_barriers_are_not_public(tf, notes):
    notes.value("tf.Barrier", hasattr(tf, "Barrier"))
