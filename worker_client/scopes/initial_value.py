"""What a new variable starts with: an initializer that the ps carries out, or a value that is computed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ps_protocol.initial_values.compute import initial_value as initial_array
from ps_protocol.initializer_spec import InitializerSpec, ValueKind
from ps_protocol.operations import Array, PartitionSlice, VariableSpec
from worker_client.deferred.building import constant_op
from worker_client.deferred.conversion import tensor_value
from worker_client.deferred.drawn_values import drawn_kind, drawn_value
from worker_client.deferred.operands import tensor_of
from worker_client.graph.computation import SeededKernel
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.graph import Graph
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.initializers.arrays import call_initializer
from worker_client.initializers.base import DescribedInitializer, Initializer
from worker_client.initializers.standard import initializer_spec
from worker_client.values.dtypes import DType, as_dtype, int32, string
from worker_client.values.partition_info import PartitionInfo, Shape
from worker_client.values.shapes import TensorShape
from worker_client.values.text import graph_dtype, is_text, text_array


@dataclass(frozen=True, slots=True)
class BoundInitializer:
    """An initializer together with all that its value depends on but the name; called, it returns the value.

    Attributes:
        initializer: An ``Initializer``, or a function of shape and dtype.
        dtype: Of the variable.
        shape: Of the variable, or of the part of a partitioned one.
        slice: Place of the part in the whole.
        is_default: Whether it was chosen to suit the variable, so that it need not be checked.
    """

    initializer: Any
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    slice: PartitionSlice | None = None
    is_default: bool = False

    @property
    def is_described(self) -> bool:
        """Whether it is one of this library's, which tell the ps what to do instead of making the value here."""
        return isinstance(self.initializer, DescribedInitializer) and self.initializer.is_described

    def spec(self, name: str) -> VariableSpec:
        """Returns what is fixed about the variable, given its name."""
        return VariableSpec(name, self.dtype, self.shape, self.slice)

    def __call__(self) -> Any:
        return call_initializer(self.initializer, self.spec(""))


class ComputedValue(Initializer):
    """A value that was computed when its variable was defined.

    Args:
        value: Of the variable's own shape, which of a part is the part's.
    """

    def __init__(self, value: Array):
        self.value = value
        self.dtype = string if value.dtype == object else DType(value.dtype)

    def __call__(
        self,
        shape: Shape,
        dtype: npt.DTypeLike | None = None,
        partition_info: PartitionInfo | None = None,  # noqa: ARG002 - the value is that of the part
    ) -> Array:
        return self.value.astype(self.value.dtype if dtype is None else as_dtype(dtype)).reshape(shape)

    def spec(self, variable: VariableSpec, job_seed: int) -> InitializerSpec:  # noqa: ARG002 - nothing depends on it
        return InitializerSpec(ValueKind(self.value), job_seed)


@dataclass(frozen=True, slots=True)
class InitialValue:
    """What a variable starts with, and what follows about the variable.

    Attributes:
        initializer: An ``Initializer``, or a deferred tensor.
        dtype: Of the variable.
        shape: Of the variable.
        tensor: In a deferred graph what stands for the value: the initializer itself, if that is a tensor.
    """

    initializer: Initializer | Tensor
    dtype: np.dtype[Any]
    shape: TensorShape
    tensor: Tensor | None = None


def initial_value(given: object, name: str, dtype: np.dtype[Any] | None) -> InitialValue:
    """Settles what a variable starts with; functions that users gave are called, initializers of ours are not.

    Args:
        given: A ``BoundInitializer``, a function without arguments, a deferred tensor, or what NumPy makes an array of.
        name: Full name of the variable, for errors.
        dtype: Of the variable; None to take the value's.

    Raises:
        ValueError: The initializer does not suit the variable.
        TypeError: The value is not of the variable's kind of elements.
        Exception: Whatever a user's function raises.
    """
    if isinstance(given, BoundInitializer):
        if given.is_default:
            return InitialValue(given.initializer, given.dtype, TensorShape(given.shape))
        spec = given.spec(name)
        if given.is_described:
            kind = initializer_spec(given.initializer, spec, job_seed=0).kind  # raises now what it would raise later
            initializer = ComputedValue(kind.array) if isinstance(kind, ValueKind) else given.initializer
            return InitialValue(initializer, given.dtype, TensorShape(given.shape))
        value = _value(call_initializer(given.initializer, spec), name, given.dtype)
    else:
        value = _value(given() if callable(given) else given, name, dtype)
    element = string.dtype if value.dtype == object else value.dtype
    return InitialValue(
        value if isinstance(value, Tensor) else ComputedValue(value), as_dtype(element), TensorShape(value.shape)
    )


def in_graph(graph: Graph, initial: InitialValue, name: str) -> InitialValue:
    """Makes a value that was computed here a constant of a deferred graph, of this name."""
    if not graph.deferred:
        return initial
    tensor = initial.initializer
    if isinstance(tensor, ComputedValue):
        value = tensor.value
        if not is_text(value.dtype):
            value.flags.writeable = False  # it is nobody else's, so that it need not be copied
        tensor = constant_op(graph, value, name)
    if not isinstance(tensor, Tensor):
        return initial
    return InitialValue(initial.initializer, initial.dtype, initial.shape, tensor)


def described_in_graph(graph: Graph, initial: InitialValue, bound: BoundInitializer, name: str) -> InitialValue:
    """Adds the operation that stands for a value that the ps makes: run, it computes the same."""
    initializer, spec = initial.initializer, bound.spec(name)
    with graph.name_scope(bound.initializer.op_name) as scope:
        inputs, op_type = [], bound.initializer.op_type
        if op_type == "Const" and not bound.initializer.is_one_constant and (initial.shape.num_elements() or 0) >= 1000:
            sizes = np.array(bound.shape, np.int32)
            element = initial_array(VariableSpec(name, spec.dtype, ()), initializer_spec(initializer, spec, 0))
            inputs = [constant_op(graph, sizes, "shape_as_tensor"), constant_op(graph, element, "Const")]
            op_type = "Fill"

        def computed(job_seed: int, *_: Array) -> Array:
            return initial_array(spec, initializer_spec(initializer, spec, job_seed))

        output = OutputSpec(graph_dtype(initial.dtype), initial.shape)
        drawn = drawn_kind(initializer_spec(initializer, spec, 0).kind, spec)
        if drawn is not None:
            sizes = np.array(bound.shape, np.int32)
            tensor = drawn_value(graph, drawn, sizes, output, computed, scope)
            return InitialValue(initializer, initial.dtype, initial.shape, tensor)
        attributes: dict[str, Any] = {"dtype" if op_type == "Const" else "T": DType(output.dtype)}
        if op_type == "Fill":
            attributes["index_type"] = int32
        elif op_type == "Const":
            attributes["value"] = computed(0)
        op = graph.create_op(
            op_type, inputs, [output], name=scope, attributes=attributes, computation=SeededKernel(computed)
        )
    return InitialValue(initializer, initial.dtype, initial.shape, op.outputs[0])


def _value(given: object, name: str, dtype: np.dtype[Any] | None) -> Tensor | Array:
    tensor = tensor_of(given, dtype, "initial_value")
    if tensor is None and get_default_graph().deferred and is_text(dtype or np.asarray(given).dtype):
        return text_array(given)
    return tensor_value(given if tensor is None else tensor, name, dtype)


def check_initializer_dtype(name: str, initializer: object, dtype: np.dtype[Any], graph: Graph) -> None:
    """Makes sure that a constant initializer has the dtype that was asked for; ValueError if not."""
    tensor = tensor_of(initializer)
    value = _value(initializer, name, None) if tensor is None else tensor
    if graph.deferred and not isinstance(value, Tensor):
        constant_op(graph, value, "Const")  # it takes a name
    if not (is_text(value.dtype) and is_text(dtype)) and as_dtype(value.dtype) != dtype:
        raise ValueError(
            f"the initializer of variable {name} is {value.dtype.name}, but dtype={dtype.name} is asked for; "
            f"leave out dtype, or convert the initializer"
        )
