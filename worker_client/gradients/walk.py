"""Walks a graph backwards, from what is differentiated to what it is differentiated by, as TensorFlow 1 does.

The walk is made once, while the graph is built. It leaves operations behind, which a session runs like any others.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import Any, Final

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.building import built_op, constant_op
from worker_client.deferred.call import tensor_or_none
from worker_client.deferred.computed import computed
from worker_client.deferred.operands import constant_array
from worker_client.deferred.variable import DeferredVariable
from worker_client.gradients.rules import Wanted, gradients_of_inputs
from worker_client.gradients.sums import Gradient, dense, total
from worker_client.graph.default_graph import graph_of
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation, Tensor
from worker_client.values.conversion import IndexedSlices
from worker_client.values.dtypes import DType, as_dtype


class UnconnectedGradients(Enum):
    """What stands for the gradient by what has no influence: None, or zeros."""

    NONE = "none"
    ZERO = "zero"


class AggregationMethod:
    """How gradients of one tensor are added up. All names mean the same here."""

    ADD_N: Final = 0
    DEFAULT: Final = ADD_N
    EXPERIMENTAL_TREE: Final = 1
    EXPERIMENTAL_ACCUMULATE_N: Final = 2


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    name: str | None = "gradients",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
    stop_gradients: Any = None,
    unconnected_gradients: Any = UnconnectedGradients.NONE,
) -> list[Any]:
    """Returns the derivatives of the sum of ``ys`` by each of ``xs``, as operations that a session runs.

    Args:
        ys: A tensor, or a list of them.
        xs: Tensors or variables, one or a list. The parts of a partitioned variable are asked for one by one.
        grad_ys: For each of ``ys`` the gradient to start from, of its shape; None for ones.
        name: Of the scope; "gradients" if not given.
        colocate_gradients_with_ops: Whether each operation is placed where that is whose derivative it is.
        gate_gradients: Whether no gradient is to be used before all of an operation's are there, which shows in names
            of the gradients; a session computes all before it makes updates.
        aggregation_method: Ignored.
        stop_gradients: Tensors that count as constants.
        unconnected_gradients: "none" or "zero": what stands for the gradient by what has no influence.

    Returns:
        For each of ``xs`` a tensor of its shape and dtype; ``IndexedSlices`` where only rows were taken; None where
        it has no influence, or is not of floats.

    Raises:
        LookupError: An operation in between has no gradient.
        ValueError: There are not as many of ``grad_ys`` as of ``ys``, or they differ in shape; the tensors belong to
            several graphs; ``unconnected_gradients`` is something else.
        TypeError: ``ys`` or ``xs`` is None; or a gradient of ``grad_ys`` has another dtype, or one of ``ys`` holds
            complex numbers.
    """
    del aggregation_method
    for what, given in (("ys", ys), ("xs", xs)):
        if given is None:
            raise TypeError(f"tf.gradients: {what} should be tensors or variables, not None")
    try:
        unconnected = UnconnectedGradients(unconnected_gradients)
    except ValueError:
        raise ValueError(f"Unknown value for unconnected_gradients: {unconnected_gradients!r}") from None
    targets, sources = _listed(ys), _listed(xs)
    stops = _listed(stop_gradients)
    graph = graph_of(each for each in [*targets, *sources, *stops] if hasattr(each, "graph"))
    if not graph.deferred:
        raise RuntimeError("tf.gradients walks a deferred graph; build it in `with tf.Graph().as_default():`")
    with graph.name_scope(name or "gradients"):
        y_tensors = [_tensor(graph, each, "ys") for each in targets]
        x_tensors = [_source(graph, each) for each in sources]
        walk = _Walk(
            x_tensors,
            [_source(graph, each) for each in stops],
            colocate=colocate_gradients_with_ops,
            gated=gate_gradients,
        )
        walk.start(y_tensors, _first_gradients(graph, y_tensors, _listed(grad_ys) if grad_ys is not None else None))
        walk.run()
        found = [walk.gradient(each) for each in x_tensors]
    if unconnected is UnconnectedGradients.ZERO:
        return [_zeros(each) if gradient is None else gradient for each, gradient in zip(x_tensors, found, strict=True)]
    return found


class _Walk:
    """One walk through a graph, from its end to its beginning.

    Args:
        sources: What is differentiated by.
        stops: What counts as constant.
        colocate: Whether gradients are placed where the operations are.
        gated: Whether no gradient is to be used before all of an operation's are there.
    """

    def __init__(self, sources: Sequence[Tensor], stops: Sequence[Tensor], *, colocate: bool, gated: bool):
        self._sources = set(sources)
        self._stops = {each.op for each in stops}
        self._colocate = colocate
        self._wanted = Wanted(self._is_wanted, gated)
        self._gradients: dict[Tensor, list[Gradient]] = {}
        self._totals: dict[Tensor, Gradient | None] = {}
        self._depends: dict[Operation, bool] = {}
        self._pending: Counter[Operation] = Counter()
        self._ready: deque[Operation] = deque()

    def start(self, targets: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Takes the gradients to start from, and finds out which operations lie in between."""
        for target, gradient in zip(targets, gradients, strict=True):
            self._gradients.setdefault(target, []).append(gradient)
        between = self._between([target.op for target in targets])
        for operation in between:
            for tensor in self._followed(operation):
                self._pending[tensor.op] += 1
        self._ready.extend(
            dict.fromkeys(each.op for each in targets if self._depends.get(each.op) and not self._pending[each.op])
        )

    def run(self) -> None:
        """Adds the gradients of all operations in between."""
        while self._ready:
            operation = self._ready.popleft()
            self._pass(operation)
            for tensor in self._followed(operation):
                self._pending[tensor.op] -= 1
                if not self._pending[tensor.op]:
                    self._ready.append(tensor.op)

    def gradient(self, source: Tensor) -> Gradient | None:
        """Returns what has been found for a source."""
        return self._total(source)

    def _pass(self, operation: Operation) -> None:
        """Brings the gradients of an operation's outputs to its inputs."""
        if operation in self._stops:
            return
        outputs = [self._total(each) if _has_gradient(each) else None for each in operation.outputs]
        wanted = [each for each in operation.inputs if self._is_wanted(each)]
        if not wanted or all(each is None for each in outputs):
            return
        graph = operation.graph
        place: AbstractContextManager[Any] = graph.colocate_with(operation) if self._colocate else nullcontext()
        with graph.name_scope(f"{operation.name}_grad"), place:
            found = gradients_of_inputs(operation, outputs, self._wanted)
        for tensor, gradient in zip(operation.inputs, found, strict=True):
            if gradient is not None and self._is_wanted(tensor):
                self._gradients.setdefault(tensor, []).append(gradient)

    def _total(self, tensor: Tensor) -> Gradient | None:
        if tensor not in self._totals:
            self._totals[tensor] = total(self._gradients.pop(tensor, []))
        return self._totals[tensor]

    def _is_wanted(self, tensor: Tensor) -> bool:
        return _has_gradient(tensor) and (tensor in self._sources or self._depends.get(tensor.op, False))

    def _followed(self, operation: Operation) -> list[Tensor]:
        """Returns the inputs of an operation, as often as it has them, behind which there is a source."""
        if operation in self._stops or not self._depends.get(operation):
            return []
        return [each for each in operation.inputs if self._depends.get(each.op)]

    def _between(self, targets: Iterable[Operation]) -> list[Operation]:
        """Returns the operations on the ways from the targets to the sources, and notes which depend on a source."""
        stack = [(target, False) for target in targets]
        order: list[Operation] = []
        while stack:
            operation, is_left = stack.pop()
            if is_left:
                inputs = () if operation in self._stops else operation.inputs
                self._depends[operation] = any(self._depends.get(each.op, False) for each in inputs) or any(
                    output in self._sources for output in operation.outputs
                )
                order.append(operation)
            elif operation not in self._depends:
                self._depends[operation] = False
                stack.append((operation, True))
                if operation not in self._stops:
                    stack.extend((each.op, False) for each in operation.inputs)
        return [each for each in order if self._depends[each]]


def _has_gradient(tensor: Tensor) -> bool:
    return DType(tensor.dtype).is_floating


def _listed(values: Any) -> list[Any]:
    if values is None:
        return []
    return list(values) if isinstance(values, list | tuple) else [values]


def _tensor(graph: Graph, value: Any, what: str) -> Tensor:
    tensor = tensor_or_none(value)
    return constant_op(graph, constant_array(value, None, what), "Const") if tensor is None else tensor


def _source(graph: Graph, value: Any) -> Tensor:
    """Returns the tensor to differentiate by: of a variable the one that all that read it have in common."""
    if isinstance(value, DeferredVariable):
        reference: Tensor = value.op.outputs[0]
        return reference
    return _tensor(graph, value, "xs")


def _first_gradients(graph: Graph, ys: Sequence[Tensor], given: Sequence[Any] | None) -> list[Tensor]:
    if given is not None and len(given) != len(ys):
        raise ValueError(f"Length mismatch. Passed {len(given)} grad_ys for {len(ys)} ys")
    found = []
    for number, y in enumerate(ys):
        if DType(y.dtype).is_complex:
            raise TypeError(f"tf.gradients: {y.name} holds complex numbers, which have no gradients here")
        gradient = None if given is None else given[number]
        name = f"grad_ys_{number}"
        if gradient is None:
            found.append(_ones(graph, y, name))
        else:
            found.append(_checked(graph, gradient, y, name))
    return found


def _ones(graph: Graph, y: Tensor, name: str) -> Tensor:
    one = np.ones((), as_dtype(y.dtype))
    if y.shape.is_fully_defined():
        sizes = constant_op(graph, np.array(y.shape.as_list(), np.int32), "Shape")
    else:
        sizes = computed("Shape", lambda array: np.array(array.shape, np.int32), [y], name="Shape")
    with graph.name_scope(name) as scope:
        filled = built_op(graph, "Fill", _full, [sizes, constant_op(graph, one, "Const")], name=scope).outputs[0]
    filled.set_shape(y.shape)
    return filled


def _full(sizes: Array, value: Array) -> Array:
    return np.full(tuple(sizes.tolist()), value)


def _checked(graph: Graph, gradient: Any, y: Tensor, name: str) -> Tensor:
    tensor = dense(gradient) if isinstance(gradient, IndexedSlices) else tensor_or_none(gradient)
    if tensor is None:
        tensor = constant_op(graph, constant_array(gradient, as_dtype(y.dtype), name), name)
    if tensor.dtype != y.dtype:
        raise TypeError(
            f"Gradient type {tensor.dtype.name} generated for tensor {y.name} does not match its type {y.dtype.name}"
        )
    if not tensor.shape.is_compatible_with(y.shape):
        raise ValueError(f"{name} has the shape {tensor.shape}, the tensor {y.name} has {y.shape}")
    return tensor


def _zeros(x: Tensor) -> Tensor:
    found: Tensor
    sizes: Any = x.shape.as_list() if x.shape.is_fully_defined() else None
    if sizes is not None:
        found = constant_op(x.graph, np.zeros(sizes, as_dtype(x.dtype)), "zeros_like")
    else:
        found = computed("ZerosLike", np.zeros_like, [x], name="zeros_like")
    return found
