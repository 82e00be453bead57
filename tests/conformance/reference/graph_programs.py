"""Small programs, and what TensorFlow adds to the graph for each: every operation, its inputs, and what they wait for.

A record has one of four kinds of programs, which are run in a graph of their own with the tensors of ``SETUP``:

- ``program``: ``operations`` are those that it adds, in their order; ``error`` is the kind of its error, "" if it has none.
- ``refused``: an expression of which only ``error`` is recorded.
- ``attributes``: a program; ``made`` has the name of each operation that it adds, with its attributes.
- ``dtypes``: an expression over ``x``; ``made`` has, for each dtype of ``x``, the dtype of the result or the error.

``recorded`` works with every module that has TensorFlow 1's names. To add a program, write it into the file without an
answer and record all of them again (needs tensorflow):

    python graph_programs.py traces/graphs.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

SETUP = """
q = tf.constant([4.0, 2.0], name='q'); on = tf.constant([True, False], name='on'); bits = tf.constant([6, 3], name='bits')
m = tf.constant([[1., 2.], [3., 4.]], name='m'); u = tf.placeholder(tf.float32, name='u'); n = tf.placeholder(tf.int32, [], name='n')
p = tf.placeholder(tf.float32, [None, 6], name='p'); b = tf.placeholder(tf.float32, [8, 6], name='b')
vi = tf.placeholder(tf.int32, [None], name='vi'); iv = tf.placeholder(tf.int32, [2], name='iv')
"""
DTYPES = (
    "float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 complex64 complex128 bool string"
).split()


def recorded(tf: Any, record: dict[str, Any]) -> dict[str, Any]:
    """Returns the record with the answers of one implementation of TensorFlow 1's names."""
    if "dtypes" in record:
        return {"dtypes": record["dtypes"], "made": {dtype: _made(tf, dtype, record["dtypes"]) for dtype in DTYPES}}
    if "attributes" in record:
        return {"attributes": record["attributes"], "made": _attributes(tf, record["attributes"])}
    kind = "program" if "program" in record else "refused"
    answer: dict[str, Any] = {kind: record[kind], "error": ""}
    with tf.Graph().as_default() as graph:
        names: dict[str, Any] = {"tf": tf, "np": np}
        exec(SETUP, names)  # noqa: S102 - programs of this folder
        number = len(graph.get_operations())
        try:
            exec(record[kind], names)  # noqa: S102
        except Exception as error:  # noqa: BLE001 - its kind is the answer
            answer["error"] = _kind(error)
        if not answer["error"] and kind == "program":
            answer["operations"] = [_described(each) for each in graph.get_operations()[number:]]
    return answer


def _attributes(tf: Any, program: str) -> dict[str, Any]:
    with tf.Graph().as_default() as graph:
        names: dict[str, Any] = {"tf": tf, "np": np}
        exec(SETUP, names)  # noqa: S102 - programs of this folder
        number = len(graph.get_operations())
        exec(program, names)  # noqa: S102
        return {each.name: _attributes_of(tf, each) for each in graph.get_operations()[number:] if each.type != "Const"}


def _attributes_of(tf: Any, operation: Any) -> dict[str, Any]:
    return {key: _plain(tf, operation.get_attr(key)) for key in sorted(operation.node_def.attr) if key not in _LEFT_OUT}


_LEFT_OUT = {"_has_manual_control_dependencies", "shape"}


def _plain(tf: Any, value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list | tuple):
        return [_plain(tf, each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value.name if isinstance(value, tf.DType) else value


def _described(operation: Any) -> list[Any]:
    outputs = [[tensor.dtype.base_dtype.name, _sizes(tensor)] for tensor in operation.outputs]
    inputs, waits_for = ([each.name for each in group] for group in (operation.inputs, operation.control_inputs))
    return [operation.type, operation.name, inputs, waits_for, operation.device, outputs]


def _sizes(tensor: Any) -> list[int | None] | None:
    return None if tensor.shape.ndims is None else tensor.shape.as_list()


def _made(tf: Any, dtype: str, expression: str) -> str:
    with tf.Graph().as_default():
        try:
            made = eval(expression, {"tf": tf, "np": np, "x": tf.placeholder(getattr(tf, dtype), [2])})  # noqa: S307
        except Exception as error:  # noqa: BLE001
            return _kind(error)
    return "list" if isinstance(made, list) else made.dtype.base_dtype.name


def _kind(error: Exception) -> str:
    return next((kind.__name__ for kind in (TypeError, ValueError) if isinstance(error, kind)), type(error).__name__)


if __name__ == "__main__":
    import tensorflow.compat.v1 as tensorflow  # type: ignore[import-not-found]

    tensorflow.disable_v2_behavior()
    path = Path(sys.argv[1])
    lines = path.read_text(encoding="utf-8").splitlines()
    answers = [recorded(tensorflow, json.loads(line)) for line in lines]
    path.write_text("".join(json.dumps(each) + "\n" for each in answers), encoding="utf-8")
