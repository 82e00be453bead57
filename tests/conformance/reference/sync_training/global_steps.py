"""The global step: where it is found, what is refused, what reads it."""

import logging

from tests.conformance.reference.sync_training.notes import program


class Logged(logging.Handler):
    """Keeps what the library logs while it is open."""

    def __init__(self, tf):
        super().__init__()
        self.messages, self.logger = [], tf.get_logger() if hasattr(tf, "get_logger") else logging.getLogger()

    def emit(self, record):
        self.messages.append([record.levelname, record.getMessage()])

    def __enter__(self):
        self.logger.addHandler(self)
        return self.messages

    def __exit__(self, *_):
        self.logger.removeHandler(self)


@program
def step_made(tf, notes):
    notes.value("at first", tf.train.get_global_step())
    step = tf.train.create_global_step()
    notes.value("made", step)
    notes.value("trainable", [each.name for each in tf.trainable_variables()])
    keys = ("variables", "global_step", "trainable_variables", "local_variables")
    notes.value("collections", {key: [each.name for each in tf.get_collection(key)] for key in keys})
    notes.value("found", tf.train.get_global_step() is step)
    notes.value("the same", tf.train.get_or_create_global_step() is step)
    notes.made("made again", lambda: tf.train.create_global_step())
    notes.operations("operations")


@program
def step_in_scopes(tf, notes):
    with tf.name_scope("scope"), tf.variable_scope("variables"):
        step = tf.train.get_or_create_global_step()
    notes.value("made", step)
    notes.value("found", tf.train.get_global_step() is step)


@program
def step_in_a_variable_scope(tf, notes):
    with tf.variable_scope("variables"):
        step = tf.train.create_global_step()
        notes.value("made", step)
        notes.made("again by get_variable", lambda: tf.get_variable("global_step", [], tf.int64))
    notes.value("found", tf.train.get_global_step() is step)
    notes.made("create", lambda: tf.train.create_global_step())


@program
def step_of_another_graph(tf, notes):
    other = tf.Graph()
    step = tf.train.get_or_create_global_step(other)
    notes.value("made", step)
    notes.value("in the graph", step.graph is other)
    notes.value("here", tf.train.get_global_step())
    notes.value("there", tf.train.get_global_step(other) is step)


@program
def step_found_by_its_name(tf, notes):
    variable = tf.Variable(5, name="global_step", trainable=False)
    found = tf.train.get_global_step()
    notes.value("found: the tensor, not the variable", found)
    notes.value("is the variable", found is variable)
    notes.value("or created", tf.train.get_or_create_global_step())
    notes.made("create", lambda: tf.train.create_global_step())
    notes.run("init", variable.initializer)
    notes.made("read", lambda: tf.train.global_step(notes.session, found))


@program
def step_found_by_the_name_of_a_constant(tf, notes):
    tf.constant(7, name="global_step")
    found = tf.train.get_global_step()
    notes.value("found", found)
    notes.made("read", lambda: tf.train.global_step(notes.session, found))


@program
def step_by_name_that_is_no_step(tf, notes):
    for name, make in (
        ("a float", lambda: tf.Variable(1.0, name="global_step")),
        ("a vector", lambda: tf.Variable([1], name="global_step")),
        ("a placeholder of unknown shape", lambda: tf.placeholder(tf.int64, name="global_step")),
        ("of partly known shape", lambda: tf.placeholder(tf.int64, [None], name="global_step")),
        ("an operation without outputs", lambda: tf.no_op("global_step")),
        ("an unsigned number", lambda: tf.constant(1, tf.uint8, name="global_step")),
        ("true", lambda: tf.constant(True, name="global_step")),
    ):
        with tf.Graph().as_default():
            make()
            notes.made(name, lambda: tf.train.get_global_step())
            notes.made(f"or created: {name}", lambda: tf.train.get_or_create_global_step())


@program
def step_in_the_collection(tf, notes):
    variable = tf.Variable(3, name="mine", trainable=False)
    tf.add_to_collection(tf.GraphKeys.GLOBAL_STEP, variable)
    notes.value("found", tf.train.get_global_step() is variable)
    notes.made("create", lambda: tf.train.create_global_step())
    other = tf.Variable(4, name="other", trainable=False)
    tf.add_to_collection(tf.GraphKeys.GLOBAL_STEP, other)
    with Logged(tf) as messages:
        notes.value("of two", tf.train.get_global_step())
    notes.value("levels logged", [level for level, _ in messages])
    made = notes.made("or created", lambda: tf.train.get_or_create_global_step())
    notes.value("then", [each.name for each in tf.get_collection("global_step")])
    notes.made("created again", lambda: tf.train.create_global_step())
    notes.value("made", made)


@program
def step_of_the_collection_twice(tf, notes):
    step = tf.train.create_global_step()
    tf.add_to_collection(tf.GraphKeys.GLOBAL_STEP, step)
    notes.value("found", tf.train.get_global_step())


@program
def step_in_the_collection_that_is_none(tf, notes):
    for name, make in (
        ("a number", lambda: 3),
        ("text", lambda: "global_step"),
        ("a float variable", lambda: tf.Variable(1.0)),
        ("a vector", lambda: tf.Variable([1])),
        ("an operation", lambda: tf.no_op()),
        ("a tensor", lambda: tf.constant(1)),
    ):
        with tf.Graph().as_default():
            tf.add_to_collection(tf.GraphKeys.GLOBAL_STEP, make())
            notes.made(name, lambda: tf.train.get_global_step())


@program
def step_asserted(tf, notes):
    for name, given in (
        ("a variable", tf.Variable(1)),
        ("a tensor", tf.constant(1, tf.int16)),
        ("a float variable", tf.Variable(1.0, name="f")),
        ("a float tensor", tf.constant(1.0)),
        ("a vector", tf.Variable([1, 2])),
        ("of unknown shape", tf.placeholder(tf.int32)),
        ("of partly known shape", tf.placeholder(tf.int32, [None])),
        ("an empty vector", tf.zeros([0], tf.int32)),
        ("a number", 3),
        ("None", None),
        ("text", "global_step"),
        ("true", tf.constant(True)),
    ):
        notes.made(name, lambda given=given: tf.train.assert_global_step(given))


@program
def step_by_get_variable(tf, notes):
    variable = tf.get_variable("global_step", [], tf.int32, initializer=tf.zeros_initializer(), trainable=False)
    found = tf.train.get_or_create_global_step()
    notes.value("found", found)
    notes.value("is the variable", found is variable)
    notes.value("collection", tf.get_collection("global_step"))


@program
def step_of_a_name_that_is_taken(tf, notes):
    with tf.variable_scope("scope"):
        tf.get_variable("global_step", [], tf.int64)
    step = tf.train.create_global_step()
    notes.value("made", step)


@program
def step_under_reuse(tf, notes):
    with tf.variable_scope("", reuse=True):
        notes.made("create", lambda: tf.train.create_global_step())
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        notes.made("create with AUTO_REUSE", lambda: tf.train.create_global_step())


@program
def step_read(tf, notes):
    step = tf.train.create_global_step()
    notes.made("without a value", lambda: tf.train.global_step(notes.session, step))
    notes.run("init", step.initializer)
    notes.made("the variable", lambda: tf.train.global_step(notes.session, step))
    notes.run("add", step.assign_add(3))
    notes.made("its name", lambda: tf.train.global_step(notes.session, "global_step:0"))
    notes.made("the name of the operation", lambda: type(tf.train.global_step(notes.session, "global_step")).__name__)
    notes.made("a sum", lambda: tf.train.global_step(notes.session, step + 1))
    notes.made("a float", lambda: tf.train.global_step(notes.session, tf.constant(2.9)))
    notes.made("a vector", lambda: tf.train.global_step(notes.session, tf.constant([1, 2])))
    notes.made("None", lambda: tf.train.global_step(notes.session, None))
    notes.made("no session", lambda: tf.train.global_step(None, step))
    notes.value("class", type(tf.train.global_step(notes.session, step)).__name__)


@program
def step_on_devices(tf, notes):
    for name, device in (
        ("ps", "/job:ps/task:1"),
        ("setter", tf.train.replica_device_setter(ps_tasks=2)),
    ):
        with tf.Graph().as_default(), tf.device(device):
            tf.Variable(1.0)
            notes.value(name, tf.train.get_or_create_global_step().device)
