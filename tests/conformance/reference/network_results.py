"""What a program of ``network_programs`` makes with a module that has TensorFlow 1's names, and its gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def ramp(*shape: int) -> Any:
    """Returns numbers between -1 and 1 that do not repeat."""
    return np.sin(np.arange(math.prod(shape), dtype=np.float64) * 0.7 + 0.3).reshape(shape).astype(np.float32)


def recorded(tf: Any, program: str) -> dict[str, Any]:
    """Returns what a program makes with one implementation of TensorFlow 1's names."""
    names = _names_of(tf)
    with tf.Graph().as_default():
        try:
            exec(program, names)  # noqa: S102 - the programs are those of this project
        except Exception as error:
            return {"program": program, "error": type(error).__name__}
        found = {"program": program, "made": _described(tf, names["result"])}
        variables = [_variable(tf, each) for each in tf.global_variables() + tf.local_variables()]
        collections = {key: _names(tf.get_collection(key)) for key in _COLLECTIONS}
        found |= {"variables": variables} if variables else {}
        found |= {key: made for key, made in collections.items() if made}
        if "placeholder(" not in program and "dropout(tf.ones" not in program and "dropout(x, 0.5, training" not in program and "set_random_seed" not in program:
            found["runs"] = _ran(tf, names["result"], names.get("runs", 1), names.get("feeds", [{}]))
        return found


def _names_of(tf: Any) -> dict[str, Any]:
    def ramps(shape: Any, dtype: Any = None, partition_info: Any = None) -> Any:  # noqa: ARG001 - an initializer's
        return tf.constant(ramp(*[int(size) for size in shape]))

    return {"tf": tf, "np": np, "ramp": ramp, "ramps": ramps}


_COLLECTIONS = ("update_ops", "losses", "regularization_losses", "trainable_variables", "metric_variables")


def gradients(tf: Any, program: str) -> list[Any] | None:
    """Returns the gradients of the sum of the result, each element with its own weight, by what is in ``by``."""
    names = _names_of(tf)
    with tf.Graph().as_default():
        exec(program, names)  # noqa: S102
        if "by" not in names:
            return None
        result = names["result"]
        weights = tf.constant(ramp(*(int(size) for size in result.shape.as_list())))
        found = tf.gradients(tf.reduce_sum(result * weights), names["by"])
        try:
            with tf.Session() as session:
                session.run(tf.global_variables_initializer())
                return [None if each is None else _plain(session.run(tf.convert_to_tensor(each))) for each in found]
        except tf.errors.InvalidArgumentError as error:
            if "dilation rates larger than 1" not in str(error):  # of which TensorFlow has no gradients on a CPU
                raise
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
        facts = {"name": made.name, "type": made.op.type, "dtype": made.dtype.base_dtype.name}
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
        return float(f"{value:.6g}")
    return value if value is None or type(value) in (bool, int, float, str) else str(value)
