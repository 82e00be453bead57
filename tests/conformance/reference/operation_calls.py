"""Calls of TensorFlow 1's functions, and what each makes: name, type, dtype, shape and value, or the error's type.

Each call is one expression over ``tf`` and the operands below, evaluated in a graph of its own. Of a call that draws
random numbers the value is left out. ``recorded`` works with every module that has TensorFlow 1's names, so that the
answers of TensorFlow in ``traces/operations.json`` can be compared with those of an implementation. To add a call, write
it there without an answer and record all of them again (needs tensorflow):

    python operation_calls.py traces/operations.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

OPERANDS = {
    "f": "tf.constant([[1.5, -2.25, 0.0], [-0.5, 2.5, 3.5]], name='f')",
    "g": "tf.constant([[2.0, 0.5, -3.0], [1.0, -1.5, 4.0]], name='g')",
    "p": "tf.constant([0.25, 1.0, 4.0], name='p')",
    "d": "tf.constant([0.5, -1.25], tf.float64, name='d')",
    "i": "tf.constant([7, -7, 5], name='i')",
    "j": "tf.constant([2, 2, -3], name='j')",
    "b": "tf.constant([True, False, True], name='b')",
    "c": "tf.constant([1 + 2j, -3j], tf.complex64, name='c')",
    "s": "tf.constant(['ab', 'c'], name='s')",
    "m": "tf.constant([[2.0, 1.0], [1.0, 3.0]], name='m')",
    "w": "tf.constant([float('nan'), float('inf'), 1.0], name='w')",
    "u": "tf.placeholder_with_default([[1.0, 2.0, 3.0]], [None, 3], name='u')",
    "r": "tf.placeholder_with_default([1.0, -2.0], None, name='r')",
}
DRAWING = ("random", "truncated_normal(", "multinomial", "dropout(f, 0.5", "dropout(f, rate=0.5", "noisy")


def recorded(tf: Any, call: str) -> dict[str, Any]:
    """Returns what a call makes with one implementation of TensorFlow 1's names."""
    words = set(re.findall(r"\w+", call))
    with tf.Graph().as_default():
        names: dict[str, Any] = {"tf": tf, "np": np}
        names.update({name: eval(made, names) for name, made in OPERANDS.items() if name in words})
        try:
            made = eval(call, names)
        except Exception as error:
            return {"call": call, "error": type(error).__name__}
        return {"call": call, "made": _described(tf, made, any(word in call for word in DRAWING))}


def _described(tf: Any, made: Any, is_random: bool) -> Any:
    if isinstance(made, tf.TensorShape):
        return {"value": str(made)}
    if isinstance(made, tuple | list):
        return [_described(tf, each, is_random) for each in made]
    if isinstance(made, tf.Operation):
        return {"name": made.name, "type": made.type, "run": _ran(tf, made)}
    if isinstance(made, tf.Tensor):
        shape = made.shape
        facts = {"name": made.name, "type": made.op.type, "dtype": made.dtype.name}
        facts["shape"] = None if shape.ndims is None else shape.as_list()
        return {**facts, "run": None if is_random else _ran(tf, made)}
    return {"value": _plain(made)}


def _ran(tf: Any, fetch: Any) -> Any:
    try:
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            return _plain(session.run(fetch))
    except Exception as error:
        return {"error": type(error).__name__}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.astype(np.float32) if value.dtype.name == "bfloat16" else value
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, bytes):
        return value.decode()
    if value is None or type(value) in (bool, int, float, str):
        return value
    return str(value)


def main(path: str) -> None:
    """Records the answers of TensorFlow to the calls in a file."""
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    calls = [each["call"] for each in json.loads(Path(path).read_text(encoding="utf-8"))]
    lines = [json.dumps(recorded(tf, call)) for call in calls]
    Path(path).write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
