"""Operations and tensors of a graph: their names, inputs and places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ps_protocol.forks import new_lock
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.not_copied import NotCopied
from worker_client.graph.deferred_array import DeferredArray
from worker_client.graph.runners import Runner, runner_for
from worker_client.values.dtypes import DType
from worker_client.values.left_out import SaysWhatIsLeftOut
from worker_client.values.shapes import ShapeLike, TensorShape
from worker_client.values.text import graph_dtype


@dataclass(frozen=True, slots=True)
class NodeDef:
    """A view of an operation with TensorFlow's names for its parts, for placement functions.

    Attributes:
        name: Full name.
        op: The operation's type, such as "VariableV2".
        device: Where it is.
        input: Names of what it reads, as TensorFlow writes them: that of an operation for its first output, and with
            "^" before it that of what must have run before.
        attr: Its attributes.
    """

    name: str
    op: str
    device: str
    input: tuple[str, ...]
    attr: Mapping[str, Any]


class Computation:
    """How an operation gets its outputs when a session runs it. The kinds are in the module ``computation``.

    Attributes:
        mutates: Whether it changes a variable.
        listed_inputs: What the graph lists as the operation's inputs, where that is not what it works with; else None.
    """

    __slots__ = ()

    mutates = False
    listed_inputs: tuple[Tensor, ...] | None = None


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What is known about an output before the operation runs.

    Attributes:
        dtype: NumPy or ml-dtypes type.
        shape: As far as it is known.
    """

    dtype: np.dtype[Any]
    shape: TensorShape = field(default_factory=TensorShape)

    def __post_init__(self) -> None:
        given: Any = self.dtype
        if type(given) is DType:
            object.__setattr__(self, "dtype", given.dtype)


class Operation(
    SaysWhatIsLeftOut, NotCopied, bound_to="a graph of this process", instead="build the graph in the other process"
):
    """A named operation of a graph. Made by ``Graph.create_op``.

    Attributes:
        graph: The ``Graph`` it belongs to, a class that stands on this one.
        type: What it does, such as "VariableV2" or "Add".
        name: Full name, unique in the graph.
        references: Of what accesses a variable: tensors that stand for the variable itself. They are among the inputs,
            but no value of theirs is computed for it.
        operands: The other inputs: the tensors whose values it works with.
        outputs: The tensors that it makes.
        device: Where it runs, as "/job:ps/task:1"; "" if that is left open.
        attributes: What else its type needs to know.
        computation: How it gets its output when a session runs it; None if it only names something.
        waits_for: What must have run before it, all that was said.
        follows_update: Whether it, or anything that must have run before it, changes a variable.
        rewirings: How often any operation has been made to wait for more after it was made.
    """

    public_name = "Operation"
    rewirings: ClassVar[int] = 0

    __slots__ = (
        "_colocation_groups",
        "_control_inputs",
        "attributes",
        "computation",
        "device",
        "follows_update",
        "graph",
        "name",
        "operands",
        "outputs",
        "references",
        "type",
        "waits_for",
    )

    def __init__(
        self,
        graph: Any,
        op_type: str,
        name: str,
        *,
        inputs: Sequence[Tensor] = (),
        outputs: Sequence[OutputSpec] = (),
        attributes: Mapping[str, Any] | None = None,
        computation: Computation | None = None,
        references: Sequence[Tensor] = (),
        waits_for: Sequence[Operation] = (),
        control_inputs: Sequence[Operation] | None = None,
    ):
        self.graph = graph
        self.type = op_type
        self.name = name
        self.references = tuple(references)
        self.operands = tuple(inputs)
        self.outputs = [Tensor(self, index, output) for index, output in enumerate(outputs)]
        self.device = ""
        self.attributes = dict(attributes) if attributes else {}
        self.computation = computation
        self.waits_for = tuple(waits_for)
        self._control_inputs = self.waits_for if control_inputs is None else tuple(control_inputs)
        self.follows_update: bool = (
            (computation is not None and computation.mutates)
            or any(tensor.op.follows_update for tensor in self.operands)
            or any(each.follows_update for each in self.waits_for)
        )
        self._colocation_groups: tuple[str, ...] = ()

    @property
    def op(self) -> Operation:
        """Itself, so that callers can treat operations and tensors alike."""
        return self

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors that it reads, constants that were given as numbers included."""
        listed = None if self.computation is None else self.computation.listed_inputs
        return (*self.references, *self.operands) if listed is None else listed

    @property
    def control_inputs(self) -> list[Operation]:
        """What must have run before it, as TensorFlow lists it, which leaves out what its inputs wait for anyway."""
        return list(self._control_inputs)

    @property
    def node_def(self) -> NodeDef:
        """The operation in TensorFlow's words, as it is now."""
        inputs = [tensor.name.removesuffix(":0") for tensor in self.inputs]
        inputs += [f"^{each.name}" for each in self._control_inputs]
        attributes = dict(self.attributes)
        if self._colocation_groups:
            attributes["_class"] = self.colocation_groups()
        return NodeDef(self.name, self.type, self.device, tuple(inputs), attributes)

    def add_control_inputs(self, operations: Sequence[Operation]) -> None:
        """Makes it wait for more operations.

        Reads that were built behind it before are not moved behind those.
        """
        Operation.rewirings += 1
        self.waits_for = tuple(dict.fromkeys([*self.waits_for, *operations]))
        self._control_inputs = tuple(dict.fromkeys([*self._control_inputs, *operations]))
        self.follows_update = self.follows_update or any(each.follows_update for each in operations)

    def behind(self, control_inputs: Sequence[Operation]) -> Operation:
        """Returns the same operation once more, under the same name and in the same place, behind other operations.

        The graph does not list it, so that it takes no name.
        """
        again = Operation(
            self.graph,
            self.type,
            self.name,
            inputs=self.operands,
            outputs=[OutputSpec(output.dtype, output.shape) for output in self.outputs],
            attributes=self.attributes,
            computation=self.computation,
            references=self.references,
            waits_for=control_inputs,
        )
        again.device, again._colocation_groups = self.device, self._colocation_groups
        return again

    def run(self, feed_dict: Mapping[Any, Any] | None = None, session: Runner | None = None) -> None:
        """Runs it in a session, by default the default one; see ``Session.run``."""
        runner_for(self.graph, session, self.name).run(self, feed_dict)

    def values(self) -> tuple[Tensor, ...]:
        """Returns the outputs."""
        return tuple(self.outputs)

    def get_attr(self, name: str) -> Any:
        """Returns an attribute; ValueError if there is none of that name."""
        if name == "_class" and self._colocation_groups:
            return self.colocation_groups()
        try:
            return self.attributes[name]
        except KeyError as error:
            raise_interrupt(error)
            known = ", ".join(sorted(self.attributes)) or "none"
            raise ValueError(f"operation {self.name} has no attribute {name!r}; it has: {known}") from None

    def colocation_groups(self) -> list[bytes]:
        """Returns what it must stay with, as TensorFlow writes it: ``loc:@`` and the name of an operation."""
        return [group.encode() for group in self._colocation_groups or (f"loc:@{self.name}",)]

    def stay_with(self, name: str) -> None:
        """Says that it stays with an operation of this name, if with no other, which does not place it."""
        self._colocation_groups = self._colocation_groups or (f"loc:@{name}",)

    def join_colocation_groups(self, leaders: Sequence[Operation]) -> None:
        """Makes it stay with other operations, the nearest first, and takes the first device that one of them has."""
        groups: set[str] = set()
        for leader in leaders:
            groups.update(leader._colocation_groups or (f"loc:@{leader.name}",))
        self._colocation_groups = tuple(sorted(groups))
        for leader in leaders:
            if leader.device:
                self.device = leader.device
                break

    def __repr__(self) -> str:
        return f"<tf.Operation {self.name!r} type={self.type}>"


class Tensor(SaysWhatIsLeftOut, DeferredArray):
    """One output of an operation. In arithmetic and NumPy functions it makes further operations.

    Args:
        op: The operation.
        value_index: Which of its outputs.
        spec: What is known about it.

    Attributes:
        dtype: Type of the elements, a ``DType``, which NumPy takes wherever it takes a dtype.
    """

    public_name = "Tensor"

    __slots__ = ("_shape", "dtype", "op", "value_index")

    def __init__(self, op: Operation, value_index: int, spec: OutputSpec):
        self.op = op
        self.value_index = value_index
        self.dtype: Any = DType.of(graph_dtype(spec.dtype))
        self._shape = spec.shape

    @property
    def name(self) -> str:
        """Name of the operation and number of the output, as "scope/add:0"."""
        return f"{self.op.name}:{self.value_index}"

    @property
    def graph(self) -> Any:
        return self.op.graph

    @property
    def device(self) -> str:
        return self.op.device

    @property
    def shape(self) -> TensorShape:
        return self._shape

    def get_shape(self) -> TensorShape:
        """Returns the shape."""
        return self._shape

    def as_shape(self) -> TensorShape:
        """Returns the shape that it stands for, as a tensor of sizes, as far as that is known."""
        return self.arithmetic.sizes(self)

    def set_shape(self, shape: ShapeLike) -> None:
        """Adds to what is known about the shape; ValueError if it contradicts."""
        self._shape = self._shape.merge_with(shape)

    def consumers(self) -> list[Operation]:
        """Returns the operations that have it among their inputs, as often as they have. Looks through the graph."""
        return [
            each
            for each in self.graph.get_operations()
            for tensor in each.inputs
            if tensor.op.name == self.op.name and tensor.value_index == self.value_index
        ]

    def as_graph_tensor(self) -> Tensor:
        return self

    def __getitem__(self, key: Any) -> Tensor:
        item: Tensor = self.arithmetic.item(self, key)
        return item

    def eval(self, feed_dict: Mapping[Any, Any] | None = None, session: Runner | None = None) -> Any:
        """Computes it in a session, by default the default one; see ``Session.run``."""
        return runner_for(self.graph, session, self.name).run(self, feed_dict)

    def __str__(self) -> str:
        shape = f", shape={self._shape!s}" if self._shape.ndims is not None else ""
        device = f", device={self.device}" if self.device else ""
        return f'Tensor("{self.name}"{shape}, dtype={self.dtype.name}{device})'

    def __repr__(self) -> str:
        return f"<tf.Tensor {self.name!r} shape={self._shape!s} dtype={self.dtype.name}>"


def operation_of(value: Any) -> Operation:
    """Returns the operation behind an operation, a tensor or a variable.

    Raises:
        TypeError: There is none.
    """
    operation = getattr(value, "op", None)
    if not isinstance(operation, Operation):
        raise TypeError(f"{value!r} is neither an operation, nor a tensor, nor a variable")
    return operation


class OperationTable:
    """The operations of a graph by full name, in the order in which they were made. Thread-safe."""

    def __init__(self) -> None:
        self._lock = new_lock()  # guards: _operations
        self._operations: dict[str, Operation] = {}

    def add(self, operation: Operation) -> None:
        """Keeps an operation; ValueError if its name is taken."""
        with self._lock:
            if self._operations.setdefault(operation.name, operation) is not operation:
                raise ValueError(
                    f"the graph already has an operation {operation.name!r}; a name with a slash at its end is taken "
                    f"exactly as it is, one without is numbered"
                )

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return not self._operations

    def remove(self, operation: Operation) -> None:
        """Forgets an operation that nothing uses."""
        with self._lock:
            if self._operations.get(operation.name) is operation:
                del self._operations[operation.name]

    def all(self) -> list[Operation]:
        """Returns the operations."""
        with self._lock:
            return list(self._operations.values())

    def operation(self, name: str) -> Operation:
        """Returns the operation of a full name.

        Raises:
            TypeError: The name is no string.
            ValueError: It is the name of a tensor.
            KeyError: There is no such operation.
        """
        _check_string(name)
        with self._lock:
            found = self._operations.get(name)
        if found is not None:
            return found
        if ":" in name:
            raise ValueError(f"{name!r} is the name of a tensor; that of its operation ends before the colon")
        raise KeyError(f"the graph has no operation {name!r}")

    def tensor(self, name: str) -> Tensor:
        """Returns the tensor of a name such as "scope/add:0".

        Raises:
            TypeError: The name is no string.
            ValueError: The name is not of that form.
            KeyError: There is no such operation, or it has no such output.
        """
        _check_string(name)
        operation_name, colon, index = name.rpartition(":")
        if not colon or not index.isdecimal() or ":" in operation_name:
            raise ValueError(f"{name!r} is not the name of a tensor; write the operation and the output, as 'add:0'")
        outputs = self.operation(operation_name).outputs
        if int(index) >= len(outputs):
            raise KeyError(f"operation {operation_name!r} has no output {index}; it has {len(outputs)}")
        return outputs[int(index)]


def _check_string(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"operations and tensors are found by their names, which are strings, not by {name!r}")
