"""TensorFlow 1's queues in graphs: the same queues on the ps that ``ss.FIFOQueue`` has, used by sessions."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array
from worker_client.graph.computation import Constant as KnownValue
from worker_client.graph.computation import GraphObject, SharedCall, TrainingHome
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation, OutputSpec, Tensor
from worker_client.objects.queue_items import Dequeueing, Enqueueing, QueueItems
from worker_client.ops.constant_ops import convert_to_tensor
from worker_client.resources.graph_objects import (
    SCALAR,
    acting,
    add_op,
    asking,
    graph_of_sessions,
    made_object,
    whole_number,
)
from worker_client.values.dtypes import DType, as_dtype
from worker_client.values.shapes import TensorShape
from worker_client.values.text import graph_dtype

_INT32: Final = OutputSpec(np.dtype(np.int32), SCALAR)
_BOOL: Final = OutputSpec(np.dtype(np.bool_), SCALAR)
_NO_TIMEOUT: Final = -1


class QueueBase:
    """What queues have. One is on a ps task, and shared by its ``shared_name``; without one it is this process's own.

    Attributes:
        name: Of its operation.
        dtypes: Of the components of an item.
        shapes: Of the components; unknown ones if they were not given.
        names: Of the components, None if they have none.
    """

    _names_closer: ClassVar[bool] = False

    def __init__(
        self,
        dtypes: Sequence[DType],
        shapes: Sequence[TensorShape] | None,
        names: Sequence[str] | None,
        shared: GraphObject,
    ):
        self._dtypes = dtypes
        self._shapes = [TensorShape(None)] * len(dtypes) if shapes is None else list(shapes)
        self._names = names
        self._object = shared
        known = None if shapes is None else [_sizes(each) for each in shapes]
        self._items = QueueItems(self._short_name, [each.dtype for each in dtypes], known)

    @property
    def name(self) -> str:
        """Of its operation, with scopes."""
        name: str = self._object.op.name
        return name

    @property
    def shared(self) -> GraphObject:
        """What a session opens."""
        return self._object

    @property
    def queue_ref(self) -> Tensor:
        """The tensor that stands for it in the graph."""
        return self._object.op.outputs[0]

    @property
    def dtypes(self) -> list[DType]:
        """Of the components of an item."""
        return list(self._dtypes)

    @property
    def shapes(self) -> list[TensorShape]:
        """Of the components; unknown ones if they were not given."""
        return list(self._shapes)

    @property
    def names(self) -> list[str] | None:
        """Of the components; None if they have none."""
        return None if self._names is None else list(self._names)

    # -- in -----------------------------------------------------------------------------------

    def enqueue(self, vals: Any, name: str | None = None) -> Operation:
        """Puts an item in each time that a session runs it; the run waits for room.

        Args:
            vals: The components: one, a list or tuple of them, or a dictionary in a queue with names.
            name: Of the operation.

        Raises:
            ValueError, TypeError: They have other shapes, dtypes, names, or are more or fewer.
        """
        with self._graph.name_scope(name or f"{self._short_name}_enqueue") as scope:
            tensors = self._components(vals)
            for tensor, shape in zip(tensors, self._shapes, strict=False):
                _check_compatible(tensor, tensor.shape, shape)
            return self._enqueueing("QueueEnqueueV2", tensors, lambda *given: [self._items.encoded(given)], scope)

    def enqueue_many(self, vals: Any, name: str | None = None) -> Operation:
        """Puts items in each time that a session runs it, as there is room for them; the run waits for room for all.

        Args:
            vals: As for ``enqueue``, each with one more dimension, the first, which counts the items.
            name: Of the operation.

        Raises:
            ValueError, TypeError: As of ``enqueue``.
        """
        with self._graph.name_scope(name or f"{self._short_name}_EnqueueMany") as scope:
            tensors = self._components(vals)
            number = TensorShape([None])
            for tensor, shape in zip(tensors, self._shapes, strict=False):
                if tensor.shape.ndims == 0:
                    raise ValueError(f"{tensor.name} is a scalar; it lacks the dimension that counts items")
                if tensor.shape.ndims is not None:
                    number = number.merge_with(tensor.shape[:1])
                    _check_compatible(tensor, tensor.shape[1:], shape)
            return self._enqueueing(
                "QueueEnqueueManyV2", tensors, lambda *given: self._items.encoded_many(given), scope
            )

    def _enqueueing(self, op_type: str, tensors: Sequence[Tensor], encode: Any, scope: str) -> Operation:
        name = self._short_name

        def begin(*given: Array) -> Enqueueing:
            if len(given) != len(self._dtypes):
                raise InvalidArgumentError(
                    f"queue {name}: an item has {len(self._dtypes)} components, and {len(given)} were given"
                )
            try:
                return Enqueueing(name, encode(*given))
            except ValueError as error:
                raise_interrupt(error)
                raise InvalidArgumentError(getattr(error, "message", str(error))) from error

        return self._enqueue_op(op_type, tensors, SharedCall(self._object, begin), scope)

    def _enqueue_op(self, op_type: str, tensors: Sequence[Tensor], call: SharedCall, scope: str) -> Operation:
        attributes = {"Tcomponents": [DType.of(each.dtype) for each in tensors], "timeout_ms": _NO_TIMEOUT}
        return add_op(self._object, op_type, tensors, [], call, scope, attributes=attributes)

    def _components(self, vals: Any) -> list[Tensor]:
        if isinstance(vals, Mapping):
            if self._names is None:
                raise ValueError("Queue must have names to enqueue a dictionary")
            if sorted(map(str, vals)) != sorted(self._names):
                raise ValueError(
                    f"Keys in dictionary to enqueue do not match names of Queue.  Dictionary: {sorted(vals)},"
                    f"Queue: {sorted(self._names)}"
                )
            given = [vals[each] for each in self._names]
        elif self._names is not None:
            raise ValueError("You must enqueue a dictionary in a Queue with names")
        else:
            given = list(vals) if isinstance(vals, list | tuple) else [vals]
        if [each for each in given if each is None]:
            raise ValueError(f"queue {self._short_name}: a component is None; a value is needed")
        return [
            convert_to_tensor(each, dtype, name=f"component_{index}")
            for index, (each, dtype) in enumerate(zip(given, self._dtypes, strict=False))
        ]

    # -- out ----------------------------------------------------------------------------------

    def dequeue(self, name: str | None = None) -> Any:
        """Takes the first item each time that a session runs it; the run waits for one.

        Returns:
            Its components: of one alone the tensor, else a list of them, or a dictionary in a queue with names.
        """
        call = SharedCall(self._object, lambda: Dequeueing(self._items, 1, up_to=False, stacks=False))
        return self._dequeued("QueueDequeueV2", [], self._shapes, call, name or f"{self._short_name}_Dequeue")

    def dequeue_many(self, n: Any, name: str | None = None) -> Any:
        """Takes ``n`` items at once each time that a session runs it; the run waits until they are there.

        Returns:
            As ``dequeue``, each component with one more dimension, the first, of size ``n``.
        """
        return self._dequeued_many("QueueDequeueManyV2", n, name or f"{self._short_name}_DequeueMany", up_to=False)

    def dequeue_up_to(self, n: Any, name: str | None = None) -> Any:
        """Takes ``n`` items at once each time that a session runs it, or all that a closed queue has left.

        Returns:
            As ``dequeue_many``; how many items there are is known when it has run.
        """
        return self._dequeued_many("QueueDequeueUpToV2", n, name or f"{self._short_name}_DequeueUpTo", up_to=True)

    def _dequeued_many(self, op_type: str, n: Any, name: str, *, up_to: bool) -> Any:
        items = self._items

        def begin(given: Array) -> Dequeueing:
            number = int(given.reshape(-1)[0]) if given.size == 1 else -1
            items.check_number(number)
            return Dequeueing(items, number, up_to=up_to, stacks=True)

        with self._graph.name_scope(name) as scope:
            number = whole_number(n, "n", f"{op_type}: n")
            known = number.op.computation
            size: int | None = None
            if isinstance(known, KnownValue):
                if known.value.ndim:
                    raise TypeError(f"{op_type}: n is {known.value.tolist()}; it should be a number")
                size = int(known.value)
                if size < 0:
                    raise ValueError(f"{op_type}: n is {size}; ask for 0 items or more")
            whole = TensorShape([None if up_to else size])
            shapes = [TensorShape(None) if each.ndims is None else whole.concatenate(each) for each in self._shapes]
            return self._dequeued(op_type, [number], shapes, SharedCall(self._object, begin), scope)

    def _dequeued(
        self, op_type: str, inputs: Sequence[Tensor], shapes: Sequence[TensorShape], call: SharedCall, name: str
    ) -> Any:
        outputs = [
            OutputSpec(graph_dtype(dtype.dtype), shape) for dtype, shape in zip(self._dtypes, shapes, strict=True)
        ]
        attributes = {"component_types": list(self._dtypes), "timeout_ms": _NO_TIMEOUT}
        made = add_op(self._object, op_type, inputs, outputs, call, name, attributes=attributes).outputs
        if self._names is not None:
            return dict(zip(self._names, made, strict=True))
        return made[0] if len(made) == 1 else list(made)

    # -- state --------------------------------------------------------------------------------

    def size(self, name: str | None = None) -> Tensor:
        """Returns how many items there are, int32 ``[]``."""
        access = asking(self._object, {"ask": "size"}, lambda answer: np.array(answer["size"], np.int32))
        return add_op(self._object, "QueueSizeV2", [], [_INT32], access, name or f"{self._short_name}_Size").outputs[0]

    def is_closed(self, name: str | None = None) -> Tensor:
        """Returns whether it takes no more items, bool ``[]``."""
        access = asking(self._object, {"ask": "size"}, lambda answer: np.array(answer["closed"]))
        name = name or f"{self._short_name}_Is_Closed"
        return add_op(self._object, "QueueIsClosedV2", [], [_BOOL], access, name).outputs[0]

    def close(self, cancel_pending_enqueues: bool = False, name: str | None = None) -> Operation:
        """Closes it each time that a session runs it: it takes no more items, and has those that there are taken.

        Args:
            cancel_pending_enqueues: Whether what waits for room then is refused as well.
            name: Of the operation.
        """
        cancel = bool(cancel_pending_enqueues)
        access = acting(self._object, partial(_closing, cancel), names_worker=self._names_closer)
        attributes = {"cancel_pending_enqueues": cancel}
        name = name or f"{self._short_name}_Close"
        return add_op(self._object, "QueueCloseV2", [], [], access, name, attributes=attributes)

    def is_left_open_by(self, home: TrainingHome) -> bool:
        """Whether a session that has lost a task, and is made again, leaves it open for the next one."""
        del home
        return False

    def is_given_up_by(self, home: TrainingHome) -> None:
        """What puts something into it has failed in a session, which may stay open."""

    @property
    def _graph(self) -> Graph:
        graph: Graph = self._object.op.graph
        return graph

    @property
    def _short_name(self) -> str:
        return self.name.rpartition("/")[2]


class FIFOQueue(QueueBase):
    """A queue of small items: first in, first out. All items together take at most 512 KiB on the ps.

    Args:
        capacity: The most items; below 0 for as many as there is room for.
        dtypes: Of the components of an item; one alone need not be in a list.
        shapes: Of the components, all sizes known. Without, items may differ, and can only be dequeued one by one.
        names: Of the components: then items are dictionaries.
        shared_name: What the cluster calls it; without one it is this process's own.
        name: Of the operation.

    Raises:
        ValueError, TypeError: Dtypes, shapes and names do not agree, or are none.
        InvalidArgumentError: The capacity is 0.
    """

    def __init__(
        self,
        capacity: Any,
        dtypes: Any,
        shapes: Any = None,
        names: Any = None,
        shared_name: str | None = None,
        name: str = "fifo_queue",
    ):
        found = [DType(as_dtype(each)) for each in _listed(dtypes)]
        known = None if shapes is None else _known_shapes(shapes, len(found))
        called = None if names is None else [str(each) for each in _listed(names)]
        if called is not None and len(called) != len(found):
            raise ValueError(
                f"List of names must have the same length as the list of dtypes, received len(names)={len(called)},"
                f"len(dtypes)={len(found)}"
            )
        if not found:
            raise ValueError("dtypes is empty; name the dtype of each component of an item")
        number = max(-1, operator.index(capacity))
        if not number:
            raise InvalidArgumentError("a queue with a capacity of 0 has no room for any item")
        sizes = None if known is None else [_sizes(each) for each in known]
        graph = graph_of_sessions("FIFOQueue")
        with graph.control_dependencies(None), graph.device("/device:CPU:*"):
            shared = made_object(
                "FIFOQueueV2",
                name,
                folder="queue",
                kind="fifo_queue",
                settings=QueueItems.settings(number, [each.dtype for each in found], sizes, called),
                shared_name=shared_name,
                attributes={
                    "capacity": number,
                    "component_types": found,
                    "shapes": [] if sizes is None else [list(each) for each in sizes],
                },
                handle_shape=[],
            )
        super().__init__(found, known, called, shared)


def _closing(cancel: bool, told: Any) -> tuple[dict[str, Any], tuple[Array, ...]]:
    by = {"by": told} if isinstance(told, str) else {}
    return {"do": "close", "cancel": cancel, **by}, ()


def _sizes(shape: TensorShape) -> tuple[int, ...]:
    return tuple([int(size) for size in shape.as_list() if size is not None])


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _known_shapes(shapes: Any, number: int) -> list[TensorShape]:
    """One shape for each component; a shape alone is that of the only one."""
    given = list(shapes) if isinstance(shapes, list | tuple) else [shapes]
    if number == 1 and (not isinstance(shapes, list | tuple) or not given or isinstance(given[0], int)):
        given = [shapes]
    found = [TensorShape(each) for each in given]
    if len(found) != number:
        raise ValueError(
            f"Queue shapes must have the same length as dtypes, received len(shapes)={len(found)}, len(dtypes)={number}"
        )
    if [each for each in found if not each.is_fully_defined()]:
        raise ValueError(f"All shapes must be fully defined: {found}")
    return found


def _check_compatible(tensor: Tensor, shape: TensorShape, wanted: TensorShape) -> None:
    if not shape.is_compatible_with(wanted):
        raise ValueError(f"{tensor.name} has items of the shape {shape}; those of the queue have {wanted}")
