"""Turns a call of a NumPy function on lazy tensors into an operation that makes the call when a session runs it.

Which function, is for the caller: any NumPy function that takes arrays and returns one can be deferred. What its result
will look like is found out by calling it on stand-ins, arrays of the arguments' dtypes and shapes that take no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from ps_protocol.operations import Array
from worker_client.computation import Kernel
from worker_client.default_graph import graph_of
from worker_client.operation import OutputSpec, Tensor
from worker_client.tensor_shape import TensorShape

_UNKNOWN_SIZES: Final = (1021, 1031)
"""Stand for an unknown size: what comes out different for the two is unknown in the result as well."""

_MAX_TRIAL_ELEMENTS: Final = 1 << 20
_SHRUNK_SIZE: Final = 16
"""Tensors with more elements are shrunk, and then only the result's dtype is found out."""


def lazy_call(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    keywords: Mapping[str, Any] | None = None,
    *,
    op_type: str,
    name: str | None = None,
    output: OutputSpec | None = None,
) -> Tensor:
    """Adds an operation that calls a function.

    Args:
        function: Returns one array; must not change its arguments.
        arguments: Its arguments; tensors, variables, and lists of them are replaced by their values when it runs.
        keywords: Its keyword arguments, likewise.
        op_type: What the operation is called, such as "AddV2".
        name: Name within the name scope; ``op_type`` if not given.
        output: What the result will look like, if the caller knows; otherwise it is found out.

    Returns:
        The operation's output.

    Raises:
        ValueError: The shapes do not fit each other, or the tensors belong to different graphs.
        TypeError: The function does not take such dtypes.
    """
    inputs: list[Tensor] = []
    template = _template(list(arguments), inputs), _template(dict(keywords or {}), inputs)

    def kernel(*values: Array) -> Array:
        positional, named = _filled(template[0], values), _filled(template[1], values)
        with np.errstate(all="ignore"):  # as TensorFlow's kernels: no warnings, but infinities and nan
            return np.asarray(function(*positional, **named))

    graph = graph_of(inputs)
    if output is None:
        output = _inferred(kernel, inputs, op_type)
    return graph.create_op(op_type, inputs, [output], name=name, computation=Kernel(kernel)).outputs[0]


class _Slot:
    """Where the value of an input belongs in a call's arguments."""

    __slots__ = ("position",)

    def __init__(self, position: int):
        self.position = position


def _template(value: Any, inputs: list[Tensor]) -> Any:
    """Returns the arguments with slots instead of tensors, which are added to ``inputs``."""
    if isinstance(value, list | tuple):
        return type(value)([_template(each, inputs) for each in value]) if _is_plain(value) else value
    if isinstance(value, dict):
        return {key: _template(each, inputs) for key, each in value.items()}
    tensor = tensor_or_none(value)
    if tensor is None:
        return value
    inputs.append(tensor)
    return _Slot(len(inputs) - 1)


def tensor_or_none(value: Any) -> Tensor | None:
    """Returns a lazy tensor, that of a lazy variable included, or None for anything else."""
    if isinstance(value, Tensor):
        return value
    as_tensor = getattr(value, "as_graph_tensor", None)
    return as_tensor() if as_tensor is not None else None


def _is_plain(value: Sequence[Any]) -> bool:
    return type(value) in (list, tuple)


def _filled(template: Any, values: Sequence[Array]) -> Any:
    if isinstance(template, _Slot):
        return values[template.position]
    if isinstance(template, list | tuple) and _is_plain(template):
        return type(template)([_filled(each, values) for each in template])
    if isinstance(template, dict):
        return {key: _filled(each, values) for key, each in template.items()}
    return template


# -- what the result will look like -----------------------------------------------------------------


def _inferred(kernel: Callable[..., Array], inputs: Sequence[Tensor], op_type: str) -> OutputSpec:
    """Calls the kernel on stand-ins. What fails for fully known shapes would fail in a session as well."""
    known = all(tensor.shape.is_fully_defined() for tensor in inputs)
    large = sum(tensor.shape.num_elements() or 0 for tensor in inputs) > _MAX_TRIAL_ELEMENTS
    if known and not large:
        try:
            result = _trial(kernel, inputs)
        except (ValueError, IndexError) as error:
            described = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in inputs)
            raise ValueError(f"{op_type} does not fit the shapes of {described}: {error}") from error
        return OutputSpec(result.dtype, TensorShape(result.shape))
    try:
        one, other = (_trial(kernel, inputs, unknown=size, shrink=large) for size in _UNKNOWN_SIZES)
    except (ValueError, IndexError):  # sizes have to agree in a way that stand-ins do not
        return OutputSpec(np.result_type(*(tensor.dtype for tensor in inputs)))
    if large or one.ndim != other.ndim or any(tensor.shape.ndims is None for tensor in inputs):
        return OutputSpec(one.dtype)
    sizes = zip(one.shape, other.shape, strict=True)
    return OutputSpec(one.dtype, TensorShape(size if size == changed else None for size, changed in sizes))


def _trial(kernel: Callable[..., Array], inputs: Sequence[Tensor], *, unknown: int = 0, shrink: bool = False) -> Array:
    """Calls the kernel on arrays of ones (zeros of integers, which may be indices) without memory of their own."""
    stand_ins = []
    for tensor in inputs:
        sizes = () if tensor.shape.ndims is None else tuple(tensor.shape)
        shape = [unknown if size is None else min(size, _SHRUNK_SIZE) if shrink else size for size in sizes]
        element = np.zeros((), tensor.dtype) if tensor.dtype.kind in "iu" else np.ones((), tensor.dtype)
        stand_ins.append(np.broadcast_to(element, shape))
    return kernel(*stand_ins)
