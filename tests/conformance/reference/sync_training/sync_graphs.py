"""What a ``SyncReplicasOptimizer`` adds to a graph: variables, accumulators, the queue of tokens, and all between."""

from tests.conformance.reference.sync_training.notes import program


def model(tf, notes, rows=False):
    """A vector or a table, a gradient of it, the global step; the operations so far are not noted."""
    step = tf.train.get_or_create_global_step()
    w = tf.get_variable("w", [4, 2] if rows else [2], initializer=tf.ones_initializer())
    if rows:
        values, indices = tf.placeholder(tf.float32, [None, 2], name="values"), tf.placeholder(tf.int32, [None], name="indices")
        gradient = tf.IndexedSlices(values, indices, tf.constant([4, 2], name="shape"))
    else:
        gradient = tf.placeholder(tf.float32, [2], name="gradient")
    notes.skip_operations()
    return step, w, gradient


def variables(tf, notes):
    """Notes all variables and collections."""
    for name, found in (("global variables", tf.global_variables()), ("local variables", tf.local_variables())):
        notes.value(name, found)
    notes.value("trainable", [each.name for each in tf.trainable_variables()])
    notes.value("train_op", [each.name for each in tf.get_collection(tf.GraphKeys.TRAIN_OP)])
    notes.value("queue_runners", len(tf.get_collection(tf.GraphKeys.QUEUE_RUNNERS)))


def made_by(tf, notes, optimizer, train):
    """Notes what an optimizer has after ``apply_gradients``."""
    notes.value("train", train)
    for name in ("chief_init_op", "local_step_init_op", "ready_for_local_init_op"):
        notes.value(name, getattr(optimizer, name))
    runner = optimizer.get_chief_queue_runner()
    notes.value("queue", [runner.name, runner.queue.dtypes, runner.queue.shapes])
    notes.value("enqueue_ops", runner.enqueue_ops)
    notes.value("close_op, cancel_op", [runner.close_op, runner.cancel_op])


@program
def graph_of_a_vector(tf, notes):
    step, w, gradient = model(tf, notes)
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 2)
    notes.operations("of the constructor")
    train = optimizer.apply_gradients([(gradient, w)], step)
    notes.operations("of apply_gradients")
    made_by(tf, notes, optimizer, train)
    optimizer.get_init_tokens_op()
    notes.operations("of get_init_tokens_op")
    optimizer.make_session_run_hook(True)
    notes.operations("of make_session_run_hook")
    variables(tf, notes)


@program
def graph_of_a_table(tf, notes):
    step, w, gradient = model(tf, notes, rows=True)
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 2)
    train = optimizer.apply_gradients([(gradient, w)], step)
    notes.operations("operations")
    made_by(tf, notes, optimizer, train)
    variables(tf, notes)


@program
def graph_of_several_variables(tf, notes):
    step, w, gradient = model(tf, notes)
    with tf.variable_scope("layer"):
        table = tf.get_variable("table", [4, 2], tf.float64, tf.zeros_initializer())
        unused = tf.get_variable("unused", [3])
    rows = tf.IndexedSlices(tf.zeros([1, 2], tf.float64), tf.constant([1]))
    notes.skip_operations()
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.MomentumOptimizer(0.5, 0.9), 3, 4)
    optimizer.apply_gradients([(gradient, w), (None, unused), (rows, table)], step)
    notes.operations("operations")
    variables(tf, notes)


def _graph_of(name, make):
    def graph(tf, notes):
        step, w, gradient = model(tf, notes)
        optimizer = tf.train.SyncReplicasOptimizer(make(tf), 2)
        train = optimizer.apply_gradients([(gradient, w)], step)
        notes.operations("operations")
        made_by(tf, notes, optimizer, train)
        variables(tf, notes)
        notes.value("slots", {slot: optimizer.get_slot(w, slot) for slot in optimizer.get_slot_names()})
        notes.value("variables", optimizer.variables())

    graph.__name__ = f"graph_of_{name}"
    program(graph)


_graph_of("momentum", lambda tf: tf.train.MomentumOptimizer(0.5, 0.9))
_graph_of("adam", lambda tf: tf.train.AdamOptimizer(0.5))
_graph_of("adagrad_with_a_name", lambda tf: tf.train.AdagradOptimizer(0.5, name="mine"))


@program
def graph_with_a_name(tf, notes):
    step, w, gradient = model(tf, notes)
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 2, name="mine")
    notes.value("get_name", optimizer.get_name())
    optimizer.apply_gradients([(gradient, w)], step, name="not_used")
    notes.operations("operations")


@program
def graph_in_scopes(tf, notes):
    with tf.variable_scope("outer"):
        step, w, gradient = model(tf, notes)
        optimizer = tf.train.SyncReplicasOptimizer(tf.train.AdamOptimizer(0.5), 2)
        train = optimizer.apply_gradients([(gradient, w)], step)
        notes.operations("operations")
        made_by(tf, notes, optimizer, train)
        optimizer.get_init_tokens_op(0)
        optimizer.get_init_tokens_op(1)
        notes.operations("of get_init_tokens_op")
    variables(tf, notes)


@program
def graph_on_devices(tf, notes):
    setter = tf.train.replica_device_setter(
        cluster=tf.train.ClusterSpec({"ps": ["a:1", "b:1"], "worker": ["c:1", "d:1"]}), worker_device="/job:worker/task:1"
    )
    with tf.device(setter):
        step, w, gradient = model(tf, notes)
        other = tf.get_variable("other", [3])
        notes.skip_operations()
        optimizer = tf.train.SyncReplicasOptimizer(tf.train.MomentumOptimizer(0.5, 0.9), 2)
        optimizer.apply_gradients([(gradient, w), (tf.ones([3], name="ones"), other)], step)
        optimizer.get_init_tokens_op()
        notes.operations("operations")
    variables(tf, notes)
    notes.value("devices", {each.name: each.device for each in [*tf.global_variables(), *tf.local_variables()]})


@program
def graph_with_a_step_of_int32(tf, notes):
    _, w, gradient = model(tf, notes)
    step = tf.Variable(0, name="counter", trainable=False)
    notes.skip_operations()
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 2)
    optimizer.apply_gradients([(gradient, w)], step)
    optimizer.get_init_tokens_op()
    notes.operations("operations")
    variables(tf, notes)


@program
def graph_with_averages(tf, notes):
    step, w, gradient = model(tf, notes)
    averages = tf.train.ExponentialMovingAverage(0.9, step)
    optimizer = tf.train.SyncReplicasOptimizer(
        tf.train.GradientDescentOptimizer(0.5), 2, variable_averages=averages, variables_to_average=[w]
    )
    train = optimizer.apply_gradients([(gradient, w)], step)
    made_by(tf, notes, optimizer, train)
    notes.operations("operations")
    variables(tf, notes)


@program
def graph_of_minimize(tf, notes):
    step, w, gradient = model(tf, notes)
    loss = tf.reduce_sum(w * gradient)
    notes.skip_operations()
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 2)
    train = optimizer.minimize(loss, global_step=step)
    notes.operations("operations")
    made_by(tf, notes, optimizer, train)
    variables(tf, notes)


@program
def graph_of_parts(tf, notes):
    step = tf.train.get_or_create_global_step()
    parts = tf.get_variable("parts", [3, 2], initializer=tf.ones_initializer(), partitioner=tf.fixed_size_partitioner(2))
    gradients = [(tf.ones(each.shape), each) for each in parts]
    notes.skip_operations()
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.AdamOptimizer(0.5), 2)
    optimizer.apply_gradients(gradients, step)
    notes.operations("operations")
    variables(tf, notes)


@program
def graph_of_resource_variables(tf, notes):
    step = tf.get_variable("global_step", [], tf.int64, tf.zeros_initializer(), trainable=False, use_resource=True)
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer(), use_resource=True)
    gradient = tf.placeholder(tf.float32, [2], name="gradient")
    notes.skip_operations()
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 2)
    optimizer.apply_gradients([(gradient, w)], step)
    optimizer.get_init_tokens_op()
    notes.operations("operations")


@program
def graph_of_two_optimizers(tf, notes):
    step, w, gradient = model(tf, notes)
    for number in range(2):
        optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 2)
        train = optimizer.apply_gradients([(gradient, w)], step)
        made_by(tf, notes, optimizer, train)
        notes.operations(f"of optimizer {number}")
    variables(tf, notes)


@program
def graph_of_apply_gradients_twice(tf, notes):
    step, w, gradient = model(tf, notes)
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 2)
    first = optimizer.apply_gradients([(gradient, w)], step)
    runner, init = optimizer.get_chief_queue_runner(), optimizer.chief_init_op
    notes.skip_operations()
    second = optimizer.apply_gradients([(gradient, w)], step)
    notes.operations("of the second call")
    notes.value("trains", [first, second])
    notes.value("same runner, same chief_init_op", [optimizer.get_chief_queue_runner() is runner, optimizer.chief_init_op is init])
    notes.value("chief_init_op waits for", [each.name for each in optimizer.chief_init_op.control_inputs])
    variables(tf, notes)
