"""Programs with what TensorFlow 1's training programs consist of, and what each makes.

Each is some lines over ``tf``, ``np`` and the functions below, which leave what is looked at in ``result``. Recorded
are names, types, dtypes, shapes and values of it, which variables and collections there are, the values that it has
when it is run several times, and its gradients by the operands that the program names in ``by``; or the type of the
error. ``recorded`` works with every module that has TensorFlow 1's names. To record all again (needs tensorflow and
tf_keras):

    TF_USE_LEGACY_KERAS=1 python training_programs.py traces/training.json
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

CONVOLUTIONS = [
    f"x, f = tf.constant(ramp(2, 5, 6, 3)), tf.constant(ramp(3, 2, 3, 4)); by = [x, f]; result = tf.nn.{call}"
    for call in (
        "conv2d(x, f, [1, 1, 1, 1], 'SAME')",
        "conv2d(x, f, [1, 1, 1, 1], 'VALID')",
        "conv2d(x, f, strides=[1, 2, 2, 1], padding='SAME')",
        "conv2d(x, f, [1, 2, 3, 1], 'VALID', name='own')",
        "conv2d(x, filters=f, strides=2, padding='SAME', dilations=1)",
        "conv2d(x, f, [1, 1, 1, 1], 'VALID', dilations=[1, 2, 2, 1])",
        "conv2d(x, f, [2, 1], [[0, 0], [1, 2], [3, 0], [0, 0]])",
        "convolution(x, f, 'SAME')",
        "convolution(x, f, padding='VALID', strides=[2, 2])",
    )
] + [
    "x, f = tf.constant(ramp(2, 3, 3, 4)), tf.constant(ramp(3, 2, 5, 4)); by = [x, f]; result = "
    f"tf.nn.conv2d_transpose(x, f, {call})"
    for call in (
        "[2, 3, 3, 5], [1, 1, 1, 1]",
        "[2, 6, 5, 5], [1, 2, 2, 1], name='up'",
        "[2, 7, 4, 5], [1, 2, 1, 1], 'VALID'",
        "output_shape=tf.constant([2, 6, 6, 5]), strides=2",
    )
] + [
    "x, f = tf.constant(ramp(2, 5, 6, 3)), tf.constant(ramp(3, 2, 3, 2)); by = [x, f]; result = "
    f"tf.nn.depthwise_conv2d(x, f, {call})"
    for call in (
        "[1, 1, 1, 1], 'SAME'",
        "[1, 2, 2, 1], 'VALID', name='own'",
        "[1, 1, 1, 1], [[0, 0], [1, 0], [0, 2], [0, 0]]",
    )
] + [
    "x, d, p = tf.constant(ramp(2, 5, 6, 3)), tf.constant(ramp(3, 2, 3, 2)), tf.constant(ramp(1, 1, 6, 4))\n"
    "by = [x, d, p]; result = tf.nn.separable_conv2d(x, d, p, [1, 1, 1, 1], 'SAME')",
    "x, f = tf.constant(ramp(2, 7, 3)), tf.constant(ramp(3, 3, 4)); by = [x, f]\n"
    "result = tf.nn.conv1d(x, f, 2, 'SAME')",
    "x, f = tf.constant(ramp(2, 7, 3)), tf.constant(ramp(3, 3, 4)); by = [x, f]\n"
    "result = tf.nn.conv1d(x, f, stride=1, padding='VALID', name='own', dilations=2)",
    "x, f = tf.placeholder(tf.float32, [None, None, 6, 3]), tf.constant(ramp(3, 2, 3, 4))\n"
    "result = tf.nn.conv2d(x, f, [1, 1, 1, 1], 'SAME')",
    "x, f = tf.placeholder(tf.float32, [None, None, 6, 3]), tf.constant(ramp(3, 2, 3, 4))\n"
    "result = tf.nn.conv2d(x, f, [1, 2, 2, 1], 'VALID')",
    "x, f = tf.placeholder(tf.float32), tf.constant(ramp(3, 2, 3, 4)); result = tf.nn.conv2d(x, f, [1]*4, 'SAME')",
    "x, f = tf.placeholder(tf.float32, [8, 3, 10, 12]), tf.constant(ramp(3, 2, 3, 4))\n"
    "result = tf.nn.conv2d(x, f, [1, 1, 2, 2], 'VALID', data_format='NCHW')",
    "x = tf.placeholder(tf.float32, [8, 3, 10, 12])\n"
    "result = tf.nn.max_pool(x, [1, 1, 2, 2], [1, 1, 2, 2], 'SAME', data_format='NCHW')",
    "result = tf.nn.conv2d(tf.constant(ramp(2, 5, 6, 2)), tf.constant(ramp(3, 2, 3, 4)), [1, 1, 1, 1], 'SAME')",
    "result = tf.nn.conv2d(tf.constant(ramp(2, 2, 6, 3)), tf.constant(ramp(3, 2, 3, 4)), [1, 1, 1, 1], 'VALID')",
    "result = tf.nn.conv2d(tf.constant(ramp(2, 5, 6)), tf.constant(ramp(3, 2, 3, 4)), [1, 1, 1, 1], 'SAME')",
    "result = tf.nn.conv2d(tf.constant(ramp(2, 5, 6, 3)), tf.constant(ramp(3, 2, 3, 4)), [1, 1, 1], 'SAME')",
    "result = tf.nn.conv2d(tf.constant(ramp(2, 5, 6, 3)), tf.constant(ramp(3, 2, 3, 4)), [1, 1, 1, 1], 'LIKE')",
    "result = tf.nn.conv2d(tf.ones([2, 5, 6, 3], tf.float64), tf.constant(ramp(3, 2, 3, 4)), [1, 1, 1, 1], 'SAME')",
    "result = tf.nn.conv2d(tf.ones([2, 5, 6, 3]), tf.ones([3, 2, 3, 4]), [1, 1, 1, 1], 'SAME', data_format='NHCW')",
    "result = tf.nn.conv2d_transpose(tf.ones([2, 3, 3, 4]), tf.ones([3, 2, 5, 4]), [2, 9, 9, 5], [1, 2, 2, 1])",
]

POOLS = [
    f"x = tf.constant(ramp(2, 5, 6, 3)); by = [x]; result = tf.nn.{call}"
    for call in (
        "max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], 'SAME')",
        "max_pool(x, [1, 3, 2, 1], [1, 1, 2, 1], 'VALID', name='own')",
        "max_pool(x, ksize=[1, 3, 3, 1], strides=[1, 1, 1, 1], padding='SAME')",
        "max_pool(x, 2, 2, [[0, 0], [1, 0], [0, 1], [0, 0]])",
        "max_pool2d(x, 2, 2, 'VALID')",
        "avg_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], 'SAME')",
        "avg_pool(x, [1, 3, 2, 1], [1, 1, 2, 1], 'VALID', name='own')",
        "avg_pool(x, [1, 3, 3, 1], [1, 1, 1, 1], 'SAME')",
        "avg_pool2d(x, 2, 2, 'VALID')",
        "pool(x, [2, 2], 'MAX', 'VALID', strides=[2, 2])",
        "pool(x, [2, 2], 'AVG', 'SAME', strides=[2, 1])",
        "local_response_normalization(x)",
        "lrn(x, 1, bias=1.0, alpha=0.001 / 9.0, beta=0.75, name='norm1')",
    )
] + [
    "x = tf.constant(ramp(2, 7, 3)); by = [x]; result = tf.nn.max_pool1d(x, 2, 2, 'SAME')",
    "x = tf.constant(ramp(2, 7, 3)); by = [x]; result = tf.nn.avg_pool1d(x, [3], [2], 'VALID')",
    "x = tf.constant([[[[1.0], [1.0]], [[1.0], [0.0]]]]); by = [x]\nresult = tf.nn.max_pool(x, 2, 2, 'VALID')",
    "x = tf.placeholder(tf.float32, [None, 5, None, 3]); result = tf.nn.max_pool(x, 2, 2, 'SAME')",
    "x = tf.placeholder(tf.float32, [None, 5, None, 3]); result = tf.nn.avg_pool(x, 2, 2, 'VALID')",
    "x = tf.placeholder(tf.float32); result = tf.nn.max_pool(x, 2, 2, 'VALID')",
    "result = tf.nn.max_pool(tf.ones([2, 5, 6]), 2, 2, 'SAME')",
    "result = tf.nn.max_pool(tf.ones([2, 2, 2, 1]), 3, 1, 'VALID')",
    "result = tf.nn.avg_pool(tf.ones([2, 5, 6, 3], tf.int32), 2, 2, 'SAME')",
    "result = tf.nn.max_pool(tf.ones([2, 5, 6, 3]), 2, 2, 'FULL')",
    "result = tf.nn.lrn(tf.ones([2, 5]))",
]

ACTIVATIONS = [
    f"x = tf.constant([[1.5, -2.25, 0.0], [-0.5, 7.5, 3.5]]); by = [x]; result = tf.nn.{call}"
    for call in (
        "relu(x)",
        "relu6(x)",
        "elu(x)",
        "selu(x)",
        "leaky_relu(x)",
        "leaky_relu(x, alpha=0.1, name='own')",
        "softplus(x)",
        "softsign(x)",
        "sigmoid(x)",
        "tanh(x)",
        "crelu(x)",
        "softmax(x)",
        "softmax(x, axis=0)",
        "log_softmax(x)",
        "log_softmax(x, 0)",
        "l2_loss(x)",
        "l2_normalize(x, 1)",
        "l2_normalize(x, axis=0, epsilon=0.5)",
        "bias_add(x, tf.constant([1.0, 2.0, 3.0]))",
        "dropout(x, keep_prob=1.0)",
        "dropout(x, rate=0.0)",
        "moments(x, [0])[1]",
        "moments(x, [0, 1], keep_dims=True)[1]",
        "top_k(x, 2).values",
        "weighted_cross_entropy_with_logits(labels=tf.sigmoid(x), logits=x, pos_weight=2.0)",
        "sigmoid_cross_entropy_with_logits(labels=tf.ones_like(x) * 0.25, logits=x)",
        "softmax_cross_entropy_with_logits(labels=tf.constant([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]), logits=x)",
        "softmax_cross_entropy_with_logits_v2(labels=tf.constant([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]), logits=x)",
        "softmax_cross_entropy_with_logits_v2(labels=tf.nn.softmax(x * x), logits=x)",
        "sparse_softmax_cross_entropy_with_logits(labels=tf.constant([2, 0]), logits=x)",
        "embedding_lookup(x, [1, 1, 0])",
        "batch_normalization(x, tf.reduce_mean(x, 0), tf.constant([1.0, 2.0, 3.0]), 1.0, 2.0, 0.01)",
        "sufficient_statistics(x, [0])[1]",
        "sufficient_statistics(x, [0], tf.constant(0.5), keepdims=True)[2]",
        "normalize_moments(*tf.nn.sufficient_statistics(x, [0], 0.5))[1]",
        "weighted_moments(x, [0], tf.constant([[1.0], [3.0]]))[1]",
    )
] + [
    "x = tf.constant(ramp(2, 3, 4, 3)); s, o = tf.constant([1.0, 2.0, -1.0]), tf.constant([0.5, 0.0, 1.0])\n"
    f"by = [x, s, o]; result = tf.nn.fused_batch_norm(x, s, o{more})[0]"
    for more in (
        "",
        ", name='own', epsilon=0.1",
        ", mean=tf.constant([0.1, 0.2, 0.3]), variance=tf.constant([1.0, 2.0, 3.0]), is_training=False",
    )
] + [
    "x = tf.constant(ramp(2, 3, 4, 3)); result = tf.nn.fused_batch_norm(x, tf.ones([3]), tf.zeros([3]))",
    "x = tf.placeholder(tf.float32, [None, 3, 4, None])\n"
    "result = tf.nn.fused_batch_norm(x, tf.ones([3]), tf.zeros([3]))",
    "result = tf.nn.fused_batch_norm(tf.ones([2, 3, 4, 3]), tf.ones([3]), tf.zeros([3]), is_training=False)",
    "result = tf.nn.fused_batch_norm(tf.ones([2, 3, 4, 3]), tf.ones([2]), tf.zeros([3]))",
    "result = tf.nn.in_top_k(tf.constant([[0.1, 0.9], [0.8, 0.2]]), [1, 1], 1)",
    "result = tf.nn.dropout(tf.ones([2, 3]), 0.5, noise_shape=[2, 1])",
    "result = tf.nn.dropout(tf.ones([2, 3]), rate=1.5)",
    "result = tf.nn.dropout(tf.ones([2, 3], tf.int32), rate=0.5)",
    "result = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[[1]], logits=[[1.0, 2.0]])",
    "result = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[2], logits=[[1.0, 2.0]])",
    "result = tf.nn.softmax_cross_entropy_with_logits(labels=[[1.0, 2.0, 3.0]], logits=[[1.0, 2.0]])",
]

SAMPLED = [
    "w, b, x = tf.constant(ramp(10, 3)), tf.constant(ramp(10)), tf.constant(ramp(4, 3)); by = [w, b, x]\n"
    "drawn = tf.constant([7, 1, 5], tf.int64), tf.fill([4, 2], 0.3), tf.constant([0.1, 0.9, 0.2])\n"
    "labels = tf.constant([[1, 2], [5, 0], [9, 9], [3, 1]], tf.int64)\n"
    f"result = tf.nn.{call}(w, b, labels, x, 3, 10, 2, sampled_values=drawn{more})"
    for call in ("nce_loss", "sampled_softmax_loss")
    for more in ("", ", remove_accidental_hits=True", ", remove_accidental_hits=False, name='own'")
]

PROGRAMS = CONVOLUTIONS + POOLS + ACTIVATIONS + SAMPLED


def ramp(*shape: int) -> Any:
    """Returns numbers between -1 and 1 that do not repeat."""
    return np.sin(np.arange(math.prod(shape), dtype=np.float64) * 0.7 + 0.3).reshape(shape).astype(np.float32)


def recorded(tf: Any, program: str) -> dict[str, Any]:
    """Returns what a program makes with one implementation of TensorFlow 1's names."""

    def ramps(shape: Any, dtype: Any = None, partition_info: Any = None) -> Any:  # noqa: ARG001 - an initializer's
        return tf.constant(ramp(*[int(size) for size in shape]))

    names: dict[str, Any] = {"tf": tf, "np": np, "ramp": ramp, "ramps": ramps}
    with tf.Graph().as_default():
        try:
            exec(program, names)  # noqa: S102 - the programs are those above
        except Exception as error:
            return {"program": program, "error": type(error).__name__}
        found = {"program": program, "made": _described(tf, names["result"])}
        variables = [_variable(tf, each) for each in tf.global_variables() + tf.local_variables()]
        collections = {key: _names(tf.get_collection(key)) for key in _COLLECTIONS}
        found |= {"variables": variables} if variables else {}
        found |= {key: made for key, made in collections.items() if made}
        if "placeholder" not in program and "dropout(tf.ones" not in program:
            found["runs"] = _ran(tf, names["result"], names.get("runs", 1), names.get("feeds", [{}]))
        return found


_COLLECTIONS = ("update_ops", "losses", "regularization_losses", "trainable_variables", "metric_variables")


def gradients(tf: Any, program: str) -> list[Any] | None:
    """Returns the gradients of the sum of the result, each element with its own weight, by what is in ``by``."""
    names: dict[str, Any] = {"tf": tf, "np": np, "ramp": ramp}
    with tf.Graph().as_default():
        exec(program, names)  # noqa: S102
        if "by" not in names:
            return None
        result = names["result"]
        weights = tf.constant(ramp(*(int(size) for size in result.shape.as_list())))
        found = tf.gradients(tf.reduce_sum(result * weights), names["by"])
        try:
            with tf.Session() as session:
                return [_plain(session.run(tf.convert_to_tensor(each))) for each in found]
        except tf.errors.InvalidArgumentError:  # TensorFlow's kernels for a CPU have no gradients of dilated filters
            return None


def _variable(tf: Any, variable: Any) -> list[Any]:
    return [variable.name, variable.shape.as_list(), variable.dtype.base_dtype.name]


def _names(made: Any) -> list[str]:
    return [each.name for each in made]


def _described(tf: Any, made: Any) -> Any:
    if isinstance(made, dict):
        return {key: _described(tf, each) for key, each in made.items()}
    if isinstance(made, tuple | list):
        return [_described(tf, each) for each in made]
    if isinstance(made, tf.Operation):
        return {"name": made.name, "type": made.type}
    if isinstance(made, tf.Tensor):
        shape = made.shape
        facts = {"name": made.name, "type": made.op.type, "dtype": made.dtype.name}
        return {**facts, "shape": None if shape.ndims is None else shape.as_list()}
    return _plain(made)


def _ran(tf: Any, fetches: Any, runs: int, feeds: Any) -> Any:
    try:
        with tf.Session() as session:
            session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
            return [_plain(session.run(fetches, feeds[run % len(feeds)])) for run in range(runs)]
    except Exception as error:
        return {"error": type(error).__name__}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.7g}")
    return value if value is None or type(value) in (bool, int, float, str) else str(value)


def main(path: str) -> None:
    """Records the answers of TensorFlow."""
    import tensorflow.compat.v1 as tf  # noqa: PLC0415 - not where this is replayed

    tf.disable_v2_behavior()
    records = []
    for program in PROGRAMS:
        record = recorded(tf, program)
        has_value = isinstance(record.get("runs"), list)
        found = gradients(tf, program) if has_value else None
        records.append(record if found is None else {**record, "gradients": found})
    Path(path).write_text("[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
