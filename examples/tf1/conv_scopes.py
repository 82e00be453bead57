"""Trains a convolutional network whose layers find their variables by scope.

As in TensorFlow 1's guide on sharing variables, ``conv_relu`` asks for
"weights" and "biases", and which ones it gets is up to the scope around it. The
network is built twice: for the images of a training step, and, in a scope that
reuses, for the test images. Both have the same variables. Only the import is
not TensorFlow's. In one process, or on a cluster:

    python examples/tf1/conv_scopes.py
    shardscope up --ps 2 --workers 2 -- python examples/tf1/conv_scopes.py
"""

import json
import logging
import os
import time

import image_data
import numpy as np

import worker_client.compat.v1 as tf

flags = tf.app.flags
flags.DEFINE_string("data_dir", "", 'files in MNIST\'s form; "digits" for the small images of the digits example')
flags.DEFINE_integer("train_steps", 300, "steps of all workers together", lower_bound=1)
flags.DEFINE_integer("batch_size", 32, "images in a step", lower_bound=1)
flags.DEFINE_float("learning_rate", 0.003, "of Adam", lower_bound=0.0)
flags.DEFINE_integer("lines", 10, "how many times each worker says how far it is", lower_bound=1)
flags.DEFINE_bool("constant_start", False, "start from constants instead of random numbers, for comparisons")
flags.DEFINE_float("min_accuracy", 0.0, "end with exit code 1 if the model becomes less accurate")
FLAGS = flags.FLAGS


def weights_initializer(shape):
    """Returns what gives weights their first values."""
    if FLAGS.constant_start:
        return tf.constant_initializer(0.1 * np.sin(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape))
    return tf.random_normal_initializer(stddev=0.1)


def conv_relu(images, kernel_shape, bias_shape):
    """A convolution with its biases and what is above zero of it; its variables are the scope's."""
    weights = tf.get_variable("weights", kernel_shape, initializer=weights_initializer(kernel_shape))
    biases = tf.get_variable("biases", bias_shape, initializer=tf.constant_initializer(0.0))
    return tf.nn.relu(tf.nn.conv2d(images, weights, strides=[1, 1, 1, 1], padding="SAME") + biases)


def my_image_filter(images):
    """Two of them, one after the other, each in a scope of its own."""
    with tf.variable_scope("conv1"):
        filtered = conv_relu(images, [5, 5, 1, 8], [8])
    with tf.variable_scope("conv2"):
        return conv_relu(filtered, [5, 5, 8, 8], [8])


def network(images, side):
    """Returns a score for each class, shape ``[n, 10]``; makes its variables, or finds them where the scope reuses."""
    with tf.variable_scope("image_filters"):
        filtered = my_image_filter(tf.reshape(images, [-1, side, side, 1]))
    pooled = tf.nn.max_pool(filtered, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")
    num_inputs = 8 * ((side + 1) // 2) ** 2
    with tf.variable_scope("classes"):
        weights = tf.get_variable("weights", [num_inputs, 10], initializer=weights_initializer([num_inputs, 10]))
        biases = tf.get_variable("biases", [10], initializer=tf.constant_initializer(0.0))
        return tf.nn.xw_plus_b(tf.reshape(pooled, [-1, num_inputs]), weights, biases)


def train(server, cluster, index):
    """Trains as one of the workers; returns the accuracy on the test images."""
    data = image_data.load(FLAGS.data_dir, index, len(cluster.get("worker", [0])))
    device = tf.train.replica_device_setter(cluster=tf.train.ClusterSpec(cluster)) if "ps" in cluster else None
    with tf.device(device), tf.variable_scope("model") as scope:
        global_step = tf.train.get_or_create_global_step()
        images = tf.placeholder(tf.float32, [None, data.side**2])
        labels = tf.placeholder(tf.int64, [None])
        logits = network(images, data.side)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
        train_op = tf.train.AdamOptimizer(FLAGS.learning_rate).minimize(loss, global_step=global_step)

        scope.reuse_variables()
        test_images = tf.placeholder(tf.float32, [None, data.side**2])
        predictions = tf.argmax(network(test_images, data.side), 1)

    if index == 0:
        print(f"training on {data.name}")
        for variable in tf.trainable_variables():
            print(f"  {variable.name:38} {variable.shape.as_list()}", flush=True)
    random = np.random.RandomState(index)
    every = max(1, FLAGS.train_steps // FLAGS.lines)
    next_line = every
    hooks = [tf.train.StopAtStepHook(last_step=FLAGS.train_steps)]
    start = time.time()
    with tf.train.MonitoredTrainingSession(server.target, is_chief=index == 0, hooks=hooks) as session:
        while not session.should_stop():
            rows = random.randint(len(data.train), size=FLAGS.batch_size)
            feeds = {images: data.train[rows], labels: data.train_labels[rows]}
            _, step, batch_loss = session.run([train_op, global_step, loss], feeds)
            step += 1  # was read before it went up
            if step >= next_line:
                next_line += every * (1 + (step - next_line) // every)
                print(f"step {step:>5}  batch loss {batch_loss:.5f}  {time.time() - start:.1f} s", flush=True)

    with tf.Session(server.target) as session:
        parts = np.array_split(data.test, max(1, len(data.test) // 500))
        predicted = np.concatenate([session.run(predictions, {test_images: part}) for part in parts])
    accuracy = float(np.mean(predicted == data.test_labels))
    print(f"test accuracy {accuracy:.3f}", flush=True)
    return accuracy


def main(argv):
    if argv[1:]:
        raise SystemExit(f"No such flags: {' '.join(argv[1:])}\n--help lists those that there are.")
    logging.getLogger().setLevel(logging.WARNING)  # absl would show a line for every step of the start
    config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    cluster, task = config.get("cluster", {}), config.get("task", {"type": "worker", "index": 0})
    if cluster:
        server = tf.train.Server(cluster, job_name=task["type"], task_index=task["index"])
    else:
        server = tf.train.Server.create_local_server()
    if task["type"] == "ps":
        server.join()
        return 0
    with tf.Graph().as_default():
        accuracy = train(server, cluster, task["index"])
    if accuracy < FLAGS.min_accuracy:
        print(f"the test accuracy is below {FLAGS.min_accuracy}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    tf.app.run()
