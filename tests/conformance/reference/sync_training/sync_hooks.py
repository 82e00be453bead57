"""The hook of ``SyncReplicasOptimizer``, and monitored sessions that train with it."""

import tempfile
import threading

from tests.conformance.reference.sync_training.notes import program, refusal
from tests.conformance.reference.sync_training.replicas import Replica, free_addresses

GRACE_S = 1
"""How long a session waits at its end for its threads: the chief's waits in an accumulator, for all of this time."""


def model(tf, aggregate=1, total=None, start=0, optimizer=None):
    """A vector whose gradient is ones, and its synchronous optimizer."""
    step = tf.get_variable("global_step", [], tf.int64, tf.constant_initializer(start), trainable=False)
    tf.add_to_collection(tf.GraphKeys.GLOBAL_STEP, step)
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
    made = tf.train.SyncReplicasOptimizer(optimizer or tf.train.GradientDescentOptimizer(0.5), aggregate, total)
    return made, w, step, made.apply_gradients([(tf.constant([1.0, -2.0]), w)], step)


def threads_since(before):
    """Returns the names of the threads of queue runners that run and were not there before."""
    found = [each.name for each in threading.enumerate() if each not in before]
    return sorted(each for each in found if each.startswith("QueueRunnerThread"))


@program
def hook_before_apply_gradients(tf, notes):
    optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), 1)
    for is_chief in (True, False):
        hook = optimizer.make_session_run_hook(is_chief)
        notes.made(f"is_chief {is_chief}", lambda hook=hook: hook.begin())
    tf.train.get_or_create_global_step()
    notes.made("session", lambda: tf.train.MonitoredTrainingSession(stop_grace_period_secs=GRACE_S, hooks=[optimizer.make_session_run_hook(True)]))


@program
def hook_adds_to_the_graph(tf, notes):
    optimizer, *_ = model(tf, 2)
    notes.skip_operations()
    chief, worker = optimizer.make_session_run_hook(True), optimizer.make_session_run_hook(False)
    notes.operations("of the hooks")
    chief.begin()
    notes.operations("of begin of the chief: tokens")
    worker.begin()
    notes.operations("of begin of a worker")
    chief.begin()
    notes.operations("of begin again")
    optimizer.make_session_run_hook(True, num_tokens=0).begin()
    notes.operations("of begin without tokens")


@program
def hook_with_wrong_tokens(tf, notes):
    optimizer, *_ = model(tf, 5, 2)
    for given in (2, 3, 0, -1, -2):
        hook = optimizer.make_session_run_hook(True, given)
        notes.made(f"{given} tokens", lambda hook=hook: hook.begin())
        notes.made(f"{given} tokens, not the chief", lambda given=given: optimizer.make_session_run_hook(False, given).begin())


@program
def hook_of_a_chief_runs_in_a_session(tf, notes):
    optimizer, w, step, train = model(tf, 2, 2, start=5)
    local = tf.local_variables()[-1]
    size = optimizer.get_chief_queue_runner().queue.size()
    hook, before = optimizer.make_session_run_hook(True, 3), threading.enumerate()
    hook.begin()
    notes.run("init", tf.global_variables_initializer())
    coordinator = tf.train.Coordinator()
    hook.after_create_session(notes.session, coordinator)
    notes.run("local step", local)
    notes.run("tokens", size)
    notes.value("threads", threads_since(before))
    notes.run("train, pending", [train])
    coordinator.request_stop()
    notes.made("join", lambda: coordinator.join(stop_grace_period_secs=GRACE_S))
    notes.value("threads", threads_since(before))
    notes.run("the tokens are closed", optimizer.get_chief_queue_runner().queue.is_closed())
    notes.run("tokens that are left", size)
    notes.run("values", {"w": w, "step": step})


@program
def hook_of_a_worker_runs_in_a_session(tf, notes):
    optimizer, _, _, _ = model(tf, 2, 2, start=5)
    local = tf.local_variables()[-1]
    size = optimizer.get_chief_queue_runner().queue.size()
    hook, before = optimizer.make_session_run_hook(False), threading.enumerate()
    hook.begin()
    notes.run("init", tf.global_variables_initializer())
    hook.after_create_session(notes.session, tf.train.Coordinator())
    notes.run("local step", local)
    notes.run("tokens", size)
    notes.value("threads", threads_since(before))


@program
def hook_when_the_model_is_not_ready(tf, notes):
    optimizer, w, _, _ = model(tf)
    for is_chief in (True, False):
        hook = optimizer.make_session_run_hook(is_chief)
        hook.begin()
        notes.made(f"nothing, is_chief {is_chief}", lambda hook=hook: hook.after_create_session(notes.session, None))
    notes.run("init of w", w.initializer)
    notes.made("w alone", lambda: hook.after_create_session(notes.session, None))


@program
def hook_before_begin(tf, notes):
    optimizer, *_ = model(tf)
    hook = optimizer.make_session_run_hook(True)
    notes.made("after_create_session", lambda: hook.after_create_session(notes.session, None))


@program
def hook_methods(tf, notes):
    optimizer, *_ = model(tf)
    hook = optimizer.make_session_run_hook(True)
    notes.value("class", type(hook).__name__)
    own = [each for each in ("begin", "after_create_session", "before_run", "after_run", "end") if each in vars(type(hook))]
    notes.value("its own methods", own)
    notes.made("without is_chief", lambda: optimizer.make_session_run_hook())


@program
def session_of_one_chief(tf, notes):
    optimizer, w, step, train = model(tf)
    local, found, before = tf.local_variables()[-1], [], threading.enumerate()
    with tf.train.MonitoredTrainingSession(stop_grace_period_secs=GRACE_S, hooks=[optimizer.make_session_run_hook(True, num_tokens=0)]) as session:
        found.append(session.run([w, step, local]))
        notes.value("threads", threads_since(before))
        for _ in range(4):
            found.append([session.run(train), session.run([w, step, local])])
    notes.value("values", found)


def _session_with(name, make):
    def session_with(tf, notes):
        optimizer, w, step, train = model(tf, optimizer=make(tf))
        found = []
        with tf.train.MonitoredTrainingSession(stop_grace_period_secs=GRACE_S, hooks=[optimizer.make_session_run_hook(True, num_tokens=0)]) as session:
            for _ in range(3):
                session.run(train)
                found.append(session.run([w, step, *optimizer.variables()]))
        notes.value("values", found)

    session_with.__name__ = f"session_with_{name}"
    program(session_with)


_session_with("momentum", lambda tf: tf.train.MomentumOptimizer(0.5, 0.9))
_session_with("adam", lambda tf: tf.train.AdamOptimizer(0.125))


@program
def session_that_stops_at_a_step(tf, notes):
    optimizer, w, step, train = model(tf)
    hooks = [optimizer.make_session_run_hook(True, num_tokens=0), tf.train.StopAtStepHook(last_step=3)]
    found = []
    with tf.train.MonitoredTrainingSession(stop_grace_period_secs=GRACE_S, hooks=hooks) as session:
        while not session.should_stop():
            found.append(session.run(train))
    notes.value("tokens", found)


@program
def session_that_goes_on_from_a_checkpoint(tf, notes):
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2):
            with tf.Graph().as_default():
                optimizer, w, step, train = model(tf)
                local = tf.local_variables()[-1]
                hook = optimizer.make_session_run_hook(True, num_tokens=0)
                with tf.train.MonitoredTrainingSession(checkpoint_dir=folder, hooks=[hook], save_summaries_steps=None, save_summaries_secs=None, stop_grace_period_secs=GRACE_S) as session:
                    notes.value(f"session {number} begins", session.run([w, step, local]))
                    for _ in range(2):
                        notes.value("train", session.run(train))
                    notes.value("values", session.run([w, step, local]))
                notes.made("saved", lambda: sorted(name for name, _ in tf.train.list_variables(folder)))


@program
def session_without_the_hook(tf, notes):
    optimizer, w, step, train = model(tf)
    with tf.train.MonitoredTrainingSession(stop_grace_period_secs=GRACE_S) as session:
        options = tf.RunOptions(timeout_in_ms=400)
        notes.made("train waits for ever", lambda: session.run(train, options=options))
    with tf.train.MonitoredTrainingSession(stop_grace_period_secs=GRACE_S) as session:
        notes.value("values", session.run([w, step]))


@program
def session_with_the_runner_in_the_collection(tf, notes):
    """As older tutorials do without the hook."""
    optimizer, w, step, train = model(tf)
    tf.train.add_queue_runner(optimizer.get_chief_queue_runner())
    tokens, local = optimizer.get_init_tokens_op(0), tf.local_variables()[-1]
    found = []
    with tf.train.MonitoredTrainingSession(stop_grace_period_secs=GRACE_S) as session:
        session.run(optimizer.chief_init_op)
        session.run(tokens)
        for _ in range(3):
            found.append([session.run(train), session.run([w, step, local])])
    notes.value("values", found)


@program
def session_of_a_chief_and_a_worker(tf, notes):
    """Two threads, each with its session; a step begins when both have ended the one before."""
    with free_addresses(3) as (chief_address, ps_address, worker_address):
        spec = tf.train.ClusterSpec({"ps": [ps_address], "worker": [chief_address, worker_address]})
        servers = [tf.train.Server(spec, job_name="ps", task_index=0)]
        servers += [tf.train.Server(spec, job_name="worker", task_index=task) for task in range(2)]
    made, found, barrier = threading.Event(), [[], []], threading.Barrier(2, timeout=60)

    def train(task):
        setter = tf.train.replica_device_setter(cluster=spec, worker_device=f"/job:worker/task:{task}")
        try:
            with tf.Graph().as_default(), tf.device(setter):
                optimizer, w, step, operation = model(tf, 2)
                local = tf.local_variables()[-1]
                hook = optimizer.make_session_run_hook(task == 0, num_tokens=0)
                if task:
                    made.wait(60)
                with tf.train.MonitoredTrainingSession(servers[task + 1].target, task == 0, hooks=[hook], stop_grace_period_secs=GRACE_S) as session:
                    made.set()
                    for _ in range(3):
                        barrier.wait()
                        found[task].append([session.run(operation)])
                        barrier.wait()
                        found[task][-1].append(session.run([w, step, local]))
                    barrier.wait()
                    if task == 0:
                        barrier.wait()
            if task:
                barrier.wait()
        except Exception as error:  # noqa: BLE001 - it is noted
            found[task].append(refusal(error))

    threads = [threading.Thread(target=train, args=(task,)) for task in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(120)
    notes.value("chief", found[0])
    notes.value("worker", found[1])


@program
def session_local_init_sees_the_local_step(tf, notes):
    """A monitored session sets local variables first; the hook then sets the local step to the global one."""
    optimizer, _, _, train = model(tf, start=5)
    local = tf.local_variables()[-1]
    seen = []

    class Watch(tf.train.SessionRunHook):
        def after_create_session(self, session, coord):
            seen.append(session.run(local))

    hooks = [Watch(), optimizer.make_session_run_hook(True, num_tokens=0), Watch()]
    with tf.train.MonitoredTrainingSession(stop_grace_period_secs=GRACE_S, hooks=hooks) as session:
        seen.append(session.run(train))
    notes.value("local step before the hook and after it, and after a step", seen)


@program
def replica_attributes(tf, notes):
    worker = Replica(tf, notes, tf.train.GradientDescentOptimizer(0.5), 2)
    notes.value("local_step", worker.local_step)
    notes.value("pushes", [each.type for each in worker.pushes])
    notes.value("train", [worker.train, [each.name for each in worker.train.op.inputs]])
    notes.value("round", worker.round)
