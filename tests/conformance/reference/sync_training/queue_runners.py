"""``QueueRunner``, ``start_queue_runners`` and coordinators: what is in the graph, how threads end, what is refused.

Threads are joined before anything is noted that they change.
"""

import threading

from tests.conformance.reference.sync_training.notes import program

PATIENCE_S = 20


def counted(tf, capacity=3, limit=None, **options):
    """A queue, and the operation that pushes the numbers 1, 2, 3... up to a limit."""
    count = tf.Variable(0, name="count")
    queue = tf.FIFOQueue(capacity, tf.int32, shapes=[[]], name="numbers")
    # The sum is a number of its own: what a queue is given of a variable may change while it is in the queue.
    number = tf.count_up_to(count, limit) if limit else tf.assign_add(count, 1) + 0
    return count, queue, queue.enqueue(number)


def join(threads):
    """Waits until threads have ended; returns whether they have."""
    for each in threads:
        each.join(PATIENCE_S)
    return [each.is_alive() for each in threads]


@program
def runner_graph(tf, notes):
    _, queue, push = counted(tf)
    notes.skip_operations()
    runner = tf.train.QueueRunner(queue, [push, push])
    notes.operations("operations")
    notes.value("name", runner.name)
    notes.value("queue", runner.queue is queue)
    notes.value("enqueue_ops", runner.enqueue_ops)
    notes.value("close_op", runner.close_op)
    notes.value("cancel_op", runner.cancel_op)
    notes.value("queue_closed_exception_types", [each.__name__ for each in runner.queue_closed_exception_types])
    notes.value("exceptions_raised", runner.exceptions_raised)
    notes.value("collection", tf.get_collection(tf.GraphKeys.QUEUE_RUNNERS))
    tf.train.add_queue_runner(runner)
    notes.value("collection after adding", [each is runner for each in tf.get_collection("queue_runners")])
    tf.train.add_queue_runner(runner, "mine")
    notes.value("collection of mine", [each is runner for each in tf.get_collection("mine")])


@program
def runner_with_its_own_operations(tf, notes):
    _, queue, push = counted(tf)
    close, cancel = queue.close(name="end"), queue.close(cancel_pending_enqueues=True, name="stop")
    notes.skip_operations()
    types = (tf.errors.OutOfRangeError, tf.errors.CancelledError)
    runner = tf.train.QueueRunner(queue, [push], close, cancel, types)
    notes.operations("operations")
    notes.value("close_op", runner.close_op)
    notes.value("cancel_op", runner.cancel_op)
    notes.value("queue_closed_exception_types", [each.__name__ for each in runner.queue_closed_exception_types])


@program
def runner_wrong_arguments(tf, notes):
    _, queue, push = counted(tf)
    notes.made("nothing", lambda: tf.train.QueueRunner())
    notes.made("no queue", lambda: tf.train.QueueRunner(enqueue_ops=[push]))
    notes.made("no operations", lambda: tf.train.QueueRunner(queue, []))
    for name, given in (
        ("types in a list", [tf.errors.OutOfRangeError]),
        ("no types", ()),
        ("a type of Python", (ValueError,)),
        ("one type", tf.errors.OutOfRangeError),
    ):
        notes.made(name, lambda given=given: tf.train.QueueRunner(queue, [push], queue_closed_exception_types=given).name)
    notes.made("one operation without a list", lambda: tf.train.QueueRunner(queue, push).enqueue_ops)


@program
def runner_threads(tf, notes):
    count, queue, push = counted(tf, limit=2)
    runner = tf.train.QueueRunner(queue, [push, push])
    coordinator = tf.train.Coordinator()
    alone = runner.create_threads(notes.session)
    notes.value("names", [each.name for each in alone])
    notes.value("started, daemon", [[each.is_alive(), each.daemon] for each in alone])
    notes.value("threads that have not ended: none anew", runner.create_threads(notes.session))
    with tf.Session() as other:
        together = runner.create_threads(other, coord=coordinator, daemon=True)
        notes.value("names with a coordinator", [each.name for each in together])
        notes.value("daemon", [each.daemon for each in together])
        notes.value("joined by the coordinator", len(coordinator.joinable_threads) if hasattr(coordinator, "joinable_threads") else None)


@program
def runner_fills_until_out_of_range(tf, notes):
    count, queue, push = counted(tf, capacity=10, limit=3)
    runner = tf.train.QueueRunner(queue, [push])
    notes.run("init", count.initializer)
    notes.value("alive after joining", join(runner.create_threads(notes.session, start=True)))
    notes.run("size", queue.size())
    notes.run("the last one closed the queue", queue.is_closed())
    notes.run("pop", queue.dequeue_many(3))
    notes.run("pop of none", queue.dequeue(name="pop"))
    notes.value("exceptions_raised", runner.exceptions_raised)
    notes.value("can be started again", [each.name for each in runner.create_threads(notes.session)])


@program
def runner_of_two_operations_closes_after_both(tf, notes):
    first, queue, push = counted(tf, capacity=20, limit=2)
    second = tf.Variable(100, name="second")
    runner = tf.train.QueueRunner(queue, [push, queue.enqueue(tf.count_up_to(second, 103))])
    notes.run("init", [first.initializer, second.initializer])
    notes.value("alive after joining", join(runner.create_threads(notes.session, start=True)))
    notes.run("closed", queue.is_closed())
    notes.value("all", sorted(notes.session.run(queue.dequeue_many(5)).tolist()))


@program
def runner_whose_queue_is_closed(tf, notes):
    count, queue, push = counted(tf)
    runner = tf.train.QueueRunner(queue, [push])
    coordinator = tf.train.Coordinator()
    notes.run("init", count.initializer)
    notes.run("close", queue.close())
    threads = runner.create_threads(notes.session, coord=coordinator, start=True)
    notes.value("alive after joining", join(threads))
    notes.value("should_stop", coordinator.should_stop())
    notes.made("join", lambda: coordinator.join(threads))


@program
def runner_whose_queue_is_closed_which_it_expects(tf, notes):
    count, queue, push = counted(tf)
    types = (tf.errors.OutOfRangeError, tf.errors.CancelledError)
    runner = tf.train.QueueRunner(queue, [push], queue_closed_exception_types=types)
    coordinator = tf.train.Coordinator()
    notes.run("init", count.initializer)
    notes.run("close", queue.close())
    threads = runner.create_threads(notes.session, coord=coordinator, start=True)
    threads[0].join(PATIENCE_S)
    notes.value("should_stop", coordinator.should_stop())
    coordinator.request_stop()
    notes.made("join", lambda: coordinator.join(threads))


@program
def runner_that_fails_with_a_coordinator(tf, notes):
    _, queue, push = counted(tf)
    runner = tf.train.QueueRunner(queue, [push])
    coordinator = tf.train.Coordinator()
    threads = runner.create_threads(notes.session, coord=coordinator, start=True)
    notes.value("alive after joining", join(threads))
    notes.value("should_stop", coordinator.should_stop())
    notes.made("join", lambda: coordinator.join(threads))
    notes.value("exceptions_raised", runner.exceptions_raised)
    notes.run("the queue is closed: cancel_op was run", queue.is_closed())


@program
def runner_that_fails_alone(tf, notes):
    _, queue, push = counted(tf)
    runner = tf.train.QueueRunner(queue, [push])
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        notes.value("alive after joining", join(runner.create_threads(notes.session, start=True)))
    finally:
        threading.excepthook = hook
    notes.value("exceptions_raised", runner.exceptions_raised)
    notes.run("the queue is not closed", queue.is_closed())


@program
def runner_stopped_by_the_coordinator(tf, notes):
    count, queue, push = counted(tf)
    runner = tf.train.QueueRunner(queue, [push])
    coordinator = tf.train.Coordinator()
    notes.run("init", count.initializer)
    threads = runner.create_threads(notes.session, coord=coordinator, start=True)
    pop = queue.dequeue()
    notes.run("pop 5 of a queue of 3", pop)
    for _ in range(4):
        notes.run("pop", pop)
    coordinator.request_stop()
    notes.made("join", lambda: coordinator.join(threads))
    notes.run("the queue is closed", queue.is_closed())
    notes.run("push", queue.enqueue(1, name="push"))


@program
def runners_started_from_the_collection(tf, notes):
    count, queue, push = counted(tf, capacity=10, limit=3)
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [push]))
    notes.run("init", count.initializer)
    threads = tf.train.start_queue_runners(sess=notes.session)
    notes.value("names", [each.name for each in threads])
    notes.value("daemon", [each.daemon for each in threads])
    notes.value("alive after joining", join(threads))
    notes.run("pop", queue.dequeue_many(3))


@program
def runners_with_a_coordinator(tf, notes):
    count, queue, push = counted(tf, capacity=10, limit=3)
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [push]))
    coordinator = tf.train.Coordinator()
    notes.run("init", count.initializer)
    with notes.session.as_default():
        threads = tf.train.start_queue_runners(coord=coordinator)
    notes.value("names", [each.name for each in threads])
    pop, found = queue.dequeue(), []
    with coordinator.stop_on_exception():
        while not coordinator.should_stop():
            found.append(notes.session.run(pop))
    notes.value("found until the end", found)
    notes.value("should_stop", coordinator.should_stop())
    notes.made("join", lambda: coordinator.join(threads))


@program
def runners_started_wrongly(tf, notes):
    notes.made("without a session", lambda: tf.train.start_queue_runners())
    notes.made("without runners", lambda: tf.train.start_queue_runners(notes.session))
    notes.made("with no session", lambda: tf.train.start_queue_runners("x"))
    notes.made("of another collection", lambda: tf.train.start_queue_runners(notes.session, collection="none"))
    _, queue, push = counted(tf)
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [push]))
    notes.value("not started", [each.is_alive() for each in tf.train.start_queue_runners(notes.session, start=False)])


@program
def runners_of_monitored_sessions(tf, notes):
    count, queue, push = counted(tf, limit=4)
    tf.train.add_queue_runner(tf.train.QueueRunner(queue, [push]))
    pop, found = queue.dequeue(), []
    with tf.train.MonitoredTrainingSession() as session:
        notes.made("start again", lambda: tf.train.start_queue_runners(session))
        while not session.should_stop():
            found.append(session.run(pop))
    notes.value("found until the end", found)


@program
def runner_as_a_message(tf, notes):
    _, queue, push = counted(tf)
    runner = tf.train.QueueRunner(queue, [push])
    notes.made("to_proto", lambda: str(runner.to_proto()).splitlines())
    again = notes.made("from_proto", lambda: tf.train.QueueRunner.from_proto(runner.to_proto()).enqueue_ops)
    notes.value("same", again == [push])
    notes.made("both", lambda: tf.train.QueueRunner(queue, [push], queue_runner_def=runner.to_proto()))


@program
def coordinator_ends_on_out_of_range(tf, notes):
    coordinator = tf.train.Coordinator()
    with coordinator.stop_on_exception():
        raise tf.errors.OutOfRangeError(None, None, "no more")
    notes.value("should_stop", coordinator.should_stop())
    notes.made("join", lambda: coordinator.join([]))
    other = tf.train.Coordinator()
    with other.stop_on_exception():
        raise tf.errors.CancelledError(None, None, "called off")
    notes.value("should_stop", other.should_stop())
    notes.made("join", lambda: other.join([]))
    third = tf.train.Coordinator(clean_stop_exception_types=(tf.errors.CancelledError,))
    third.request_stop(tf.errors.CancelledError(None, None, "called off"))
    notes.made("join of one that expects it", lambda: third.join([]))
