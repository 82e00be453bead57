"""Trains a classifier of images on a cluster, as programs for TensorFlow 1 do.

One program serves for all tasks. Every worker builds the same graph; the
variables are on the ps tasks, the operations on the worker. Only the import is
not TensorFlow's. Started by hand, each in a terminal of its own:

    hosts="--ps_hosts=localhost:2222,localhost:2223
        --worker_hosts=localhost:2224,localhost:2225"
    python examples/tf1/mnist_replica.py $hosts --job_name=ps --task_index=0
    python examples/tf1/mnist_replica.py $hosts --job_name=ps --task_index=1
    python examples/tf1/mnist_replica.py $hosts --job_name=worker --task_index=0
    python examples/tf1/mnist_replica.py $hosts --job_name=worker --task_index=1

Or all at once, where each task finds its place in TF_CONFIG:

    shardscope up --ps 2 --workers 3 -- python examples/tf1/mnist_replica.py

With --train_dir=DIR the chief saves checkpoints there, in TensorFlow's form.
Started again, with more --train_steps or after an interrupt, on as many ps
tasks as you like, it goes on from the newest.
"""

import json
import logging
import os
import time

import image_data
import numpy as np

import worker_client.compat.v1 as tf

flags = tf.app.flags
flags.DEFINE_list("ps_hosts", [], "host:port of each ps task")
flags.DEFINE_list("worker_hosts", [], "host:port of each worker")
flags.DEFINE_enum("job_name", None, ["ps", "worker"], "the job of this process")
flags.DEFINE_integer("task_index", 0, "the number of this process in its job; worker 0 is the chief", lower_bound=0)
flags.DEFINE_string("data_dir", "", 'files in MNIST\'s form; "digits" for the small images of the digits example')
flags.DEFINE_integer("hidden_units", 100, "units of the hidden layer", lower_bound=1)
flags.DEFINE_integer("train_steps", 3000, "steps of all workers together", lower_bound=1)
flags.DEFINE_string("train_dir", "", "where the chief saves checkpoints, and goes on from the newest")
flags.DEFINE_integer("batch_size", 100, "images in a step", lower_bound=1)
flags.DEFINE_float("learning_rate", 0.001, "of Adam", lower_bound=0.0)
flags.DEFINE_integer("lines", 10, "how many times each worker says how far it is", lower_bound=1)
flags.DEFINE_float("min_accuracy", 0.0, "end with exit code 1 if the model becomes less accurate")
FLAGS = flags.FLAGS


def this_task():
    """Returns the cluster, and the job and the index of this process: from the flags, else from TF_CONFIG."""
    if FLAGS.job_name:
        cluster = {"ps": FLAGS.ps_hosts, "worker": FLAGS.worker_hosts}
        if not all(cluster.values()):
            raise SystemExit("--job_name needs --ps_hosts and --worker_hosts beside it")
        return cluster, FLAGS.job_name, FLAGS.task_index
    config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    if not config:
        raise SystemExit(
            "Which task is this? Give --ps_hosts, --worker_hosts, --job_name and\n"
            "--task_index, or start it with `shardscope up`, which sets TF_CONFIG."
        )
    return config["cluster"], config["task"]["type"], config["task"]["index"]


def build_model(num_pixels):
    """Adds a network of one hidden layer to the graph; returns its placeholders and what a session can ask for."""
    images = tf.placeholder(tf.float32, [None, num_pixels], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    with tf.variable_scope("hidden"):
        weights = tf.get_variable("weights", [num_pixels, FLAGS.hidden_units])
        biases = tf.get_variable("biases", [FLAGS.hidden_units], initializer=tf.zeros_initializer())
        hidden = tf.nn.relu(tf.nn.xw_plus_b(images, weights, biases))
    with tf.variable_scope("softmax"):
        weights = tf.get_variable("weights", [FLAGS.hidden_units, 10])
        biases = tf.get_variable("biases", [10], initializer=tf.zeros_initializer())
        logits = tf.nn.xw_plus_b(hidden, weights, biases)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, 1), labels), tf.float32))
    return images, labels, loss, accuracy


def train(cluster, index, server):
    """Trains as one of the workers; returns the accuracy on the test images."""
    data = image_data.load(FLAGS.data_dir, index, len(cluster["worker"]))
    if index == 0:
        print(f"training on {data.name}", flush=True)
    worker = f"/job:worker/task:{index}"
    with tf.device(tf.train.replica_device_setter(worker_device=worker, cluster=tf.train.ClusterSpec(cluster))):
        global_step = tf.train.get_or_create_global_step()
        images, labels, loss, accuracy = build_model(data.side**2)
        train_op = tf.train.AdamOptimizer(FLAGS.learning_rate).minimize(loss, global_step=global_step)

    random = np.random.RandomState(index)
    every = max(1, FLAGS.train_steps // FLAGS.lines)
    next_line = every
    hooks = [tf.train.StopAtStepHook(last_step=FLAGS.train_steps)]
    start = time.time()
    is_going_on = bool(FLAGS.train_dir and tf.train.latest_checkpoint(FLAGS.train_dir))
    saving = {"checkpoint_dir": FLAGS.train_dir or None, "save_checkpoint_secs": 60}
    with tf.train.MonitoredTrainingSession(server.target, is_chief=index == 0, hooks=hooks, **saving) as session:
        made = session.run_step_fn(lambda step_context: step_context.session.run(global_step))
        if index == 0 and is_going_on:
            print(f"going on after step {made}", flush=True)
        while not session.should_stop():
            rows = random.randint(len(data.train), size=FLAGS.batch_size)
            batch = {images: data.train[rows], labels: data.train_labels[rows]}
            _, step, batch_loss, right = session.run([train_op, global_step, loss, accuracy], batch)
            step += 1  # was read before it went up
            if step >= next_line:
                next_line += every * (1 + (step - next_line) // every)
                so_far = f"step {step:>5}  batch loss {batch_loss:.3f}  accuracy {right:.3f}"
                print(f"{so_far}  {time.time() - start:.1f} s", flush=True)

    with tf.Session(server.target) as session:  # the variables are on the ps tasks, as they were left
        of_test = {images: data.test, labels: data.test_labels}
        step, test_loss, test_accuracy = session.run([global_step, loss, accuracy], of_test)
    print(f"test accuracy {test_accuracy:.3f}, loss {test_loss:.3f}, after {step} steps of all workers", flush=True)
    return test_accuracy


def main(argv):
    if argv[1:]:
        raise SystemExit(f"No such flags: {' '.join(argv[1:])}\n--help lists those that there are.")
    logging.getLogger().setLevel(logging.WARNING)  # absl would show a line for every step of the start
    cluster, job, index = this_task()
    server = tf.train.Server(cluster, job_name=job, task_index=index)
    if job == "ps":
        print(f"ps:{index} serves until the workers are done", flush=True)
        server.join()
        return 0
    if train(cluster, index, server) < FLAGS.min_accuracy:
        print(f"the test accuracy is below {FLAGS.min_accuracy}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    tf.app.run()
