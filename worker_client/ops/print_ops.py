"""TensorFlow 1's operations that print when a session runs them. They write to the standard error of this process."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from ps_protocol.forks import new_lock
from ps_protocol.operations import Array
from worker_client.deferred.call import tensor_or_none
from worker_client.graph.computation import Kernel
from worker_client.graph.default_graph import graph_of
from worker_client.graph.operation import Operation, OutputSpec
from worker_client.ops.check_ops import summary
from worker_client.ops.constant_ops import convert_to_tensor
from worker_client.values.dtypes import DType, as_dtype
from worker_client.values.shapes import TensorShape

__all__ = ["Print", "print"]


def Print(  # noqa: N802 - TensorFlow's name
    input_: Any,
    data: Iterable[Any],
    message: str | None = None,
    first_n: int | None = None,
    summarize: int | None = None,
    name: str | None = None,
) -> Any:
    """Returns a tensor that prints other tensors whenever it is computed.

    Args:
        input_: The tensor to return.
        data: What to print.
        message: Printed before it.
        first_n: How often it prints; always if not given or negative.
        summarize: How many elements of each tensor it prints; 3 if not given.
        name: "Print" if not given.
    """
    operand, printed = convert_to_tensor(input_), [convert_to_tensor(each) for each in data]
    may_print, number = _Times(first_n), 3 if summarize is None else summarize

    def show(value: Array, *values: Array) -> Array:
        if may_print():
            sys.stderr.write((message or "") + "".join(f"[{summary(each, number)}]" for each in values) + "\n")
        return value

    tensors = [each for each in (operand, *printed) if tensor_or_none(each) is not None]
    graph = graph_of(tensors)
    if not graph.deferred:
        return show(operand, *printed)
    output = OutputSpec(as_dtype(operand.dtype), TensorShape(operand.shape))
    attributes = {
        "T": DType.of(output.dtype),
        "U": [DType.of(as_dtype(each.dtype)) for each in printed],
        "message": (message or "").encode(),
        "first_n": -1 if first_n is None else first_n,
        "summarize": number,
    }
    return graph.create_op(
        "Print", [operand, *printed], [output], name=name, attributes=attributes, computation=Kernel(show)
    ).outputs[0]


def print(*inputs: Any, **kwargs: Any) -> Operation | None:  # noqa: A001 - TensorFlow's name
    """Makes an operation that prints texts and tensors when it runs.

    Args:
        *inputs: What to print.
        **kwargs: ``output_stream``: a file, standard error if not given. ``summarize``: how many elements it prints at
            each end of a dimension, 3 if not given, -1 for all. ``sep`` and ``end``: as in Python. ``name``: "PrintV2"
            if not given.

    Returns:
        The operation; None outside of a deferred graph, where it prints at once.

    Raises:
        TypeError: There is another keyword.
    """
    stream, summarize = kwargs.pop("output_stream", None), kwargs.pop("summarize", 3)
    separator, end, name = kwargs.pop("sep", " "), kwargs.pop("end", "\n"), kwargs.pop("name", None)
    if kwargs:
        raise TypeError(f"print knows output_stream, summarize, sep, end and name, not {', '.join(sorted(kwargs))}")
    tensors = [tensor_or_none(each) for each in inputs]
    operands = [each for each in tensors if each is not None]
    graph = graph_of(operands)

    def show(*values: Array) -> Array:
        given = iter(values)
        shown = [plain if tensor is None else next(given) for plain, tensor in zip(inputs, tensors, strict=True)]
        (stream or sys.stderr).write(separator.join(_text(each, summarize) for each in shown) + end)
        return np.asarray(True)

    if not graph.deferred:
        show()
        return None
    output = OutputSpec(np.dtype(bool), TensorShape([]))
    return graph.create_op("PrintV2", operands, [output], name=name, computation=Kernel(show))


def _text(value: Any, summarize: int) -> str:
    if not isinstance(value, np.ndarray) or not value.ndim:
        return str(value)
    all_of_it = summarize < 0 or max(value.shape) <= 2 * summarize
    return np.array2string(value, threshold=value.size + 1 if all_of_it else 0, edgeitems=max(1, summarize))


class _Times:
    """Says yes a number of times. Thread-safe."""

    def __init__(self, number: int | None):
        self._left = None if number is None or number < 0 else number
        self._lock = new_lock()  # guards: _left

    def __call__(self) -> bool:
        with self._lock:
            if self._left is None:
                return True
            self._left -= 1
            return self._left >= 0
