"""Queues of small items that all workers share: first in, first out."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, Final, SupportsIndex, TypeAlias

import numpy as np

from ps_protocol.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
)
from ps_protocol.operations import Array, VariableSpec
from ps_protocol.settings import POSITIVE_SECONDS
from ps_protocol.shared_objects import Json
from worker_client.connection.retry import Deadline
from worker_client.graph import defaults
from worker_client.objects.queue_items import Dequeueing, Enqueueing, QueueItems
from worker_client.objects.shared_object import SharedObject
from worker_client.values.conversion import convert
from worker_client.values.dtypes import as_dtype
from worker_client.values.shapes import TensorShape
from worker_client.values.text import is_text, text_array

Values: TypeAlias = "Any | Sequence[Any] | Mapping[str, Any]"
"""The components of an item in a list or tuple, of one alone also that; in a queue with names in a dictionary."""

TIMEOUT_S: Final = 600.0


class FIFOQueue:
    """A queue that all workers of the cluster share by its name. TensorFlow 1's, eager, for small items. Thread-safe.

    It is kept by ps task 0, as variables are: with a journal or a backup each item that was enqueued is dequeued once,
    whatever dies meanwhile. Checkpoints have it. All items together take at most 512 KiB, in a form that makes numbers
    a third longer: names, numbers and indices of what is to be done, not the data itself.

        files = ss.FIFOQueue(100, "string", shapes=[[]], name="files")
        files.enqueue("part-17")
        name = files.dequeue()

    An interrupt of ``dequeue`` leaves open whether an item was taken, which is lost then; one of ``enqueue`` whether it
    was put in.

    Args:
        capacity: The most items; below 0 for as many as there is room for.
        dtypes: Of the components of an item; one alone need not be in a list.
        shapes: Of the components, all sizes known. Without, items may differ, and can only be dequeued one by one.
        names: Of the components: then items are dictionaries.
        shared_name: What the cluster calls the queue; ``name`` if not given.
        name: Likewise.

    Raises:
        InvalidArgumentError: The cluster has a queue of that name that was made with other arguments, or something
            else; or the capacity is 0.
        ValueError: Dtypes, shapes and names do not agree.
        FailedPreconditionError: No connection is open.
    """

    def __init__(
        self,
        capacity: SupportsIndex,
        dtypes: Any,
        shapes: Any = None,
        names: str | Sequence[str] | None = None,
        shared_name: str | None = None,
        name: str = "fifo_queue",
    ):
        entered = [entry.client for entry in defaults.STACK if entry.client is not None]
        client = entered[0] if entered else defaults.find_newest_client()
        if client is None:
            raise defaults.not_connected()
        self.name: Final = shared_name or name
        self.dtypes: Final = tuple([as_dtype(each) for each in _listed(dtypes)])
        self.shapes: Final = None if shapes is None else _shapes(shapes, self.dtypes)
        self.names: Final = None if names is None else tuple(_listed(names))
        if not self.dtypes:
            raise ValueError(f"queue {self.name}: dtypes is empty; name the dtype of each component of an item")
        if self.names is not None and len(self.names) != len(self.dtypes):
            raise ValueError(
                f"queue {self.name}: names has {len(self.names)} names for {len(self.dtypes)} dtypes; give as many"
            )
        self.capacity: Final = max(-1, operator.index(capacity))
        if not self.capacity:
            raise InvalidArgumentError(f"queue {self.name}: a capacity of 0 has no room for any item")
        self._items: Final = QueueItems(self.name, self.dtypes, self.shapes)
        settings = QueueItems.settings(self.capacity, self.dtypes, self.shapes, self.names)
        self._object: Final[SharedObject] = client.shared_object(f"queue/{self.name}", "fifo_queue", settings)

    # -- in -----------------------------------------------------------------------------------

    def enqueue(self, vals: Values, timeout_s: float = TIMEOUT_S) -> None:
        """Puts an item in; waits for room.

        Args:
            vals: Its components.
            timeout_s: How long to wait, in seconds.

        Raises:
            CancelledError: The queue is closed; or was while this waited, and what waits was cancelled.
            DeadlineExceededError: There was no room in time; the item was not put in.
            InvalidArgumentError: It is too large.
            ShapeMismatchError, DTypeMismatchError, ValueError: It does not fit.
        """
        self._enqueue([self._items.encoded(self._components(vals))], timeout_s)

    def enqueue_many(self, vals: Values, timeout_s: float = TIMEOUT_S) -> None:
        """Puts items in, in their order, as there is room for them; others may put theirs between.

        Args:
            vals: Their components, each with one more dimension than an item's, the first: it counts the items.
            timeout_s: How long to wait for room for all, in seconds.

        Raises:
            DeadlineExceededError: There was no room for all in time; the error says how many were put in.
            CancelledError, InvalidArgumentError, ShapeMismatchError, DTypeMismatchError, ValueError: As of ``enqueue``.
        """
        self._enqueue(self._items.encoded_many(self._components(vals)), timeout_s)

    def _enqueue(self, items: list[Any], timeout_s: float) -> None:
        deadline, enqueueing = self._deadline(timeout_s), Enqueueing(self.name, items)
        while enqueueing.attempt(self._object) is None:
            if self._object.wait(enqueueing.question(), deadline) is None:
                raise DeadlineExceededError(
                    f"queue {self.name} had no room for an item after {deadline.timeout_s:.1f} s ({self._size()}), and "
                    f"{enqueueing.done} of {len(items)} were put in; have more dequeued, or wait longer with timeout_s",
                    retryable=False,
                )

    # -- out ----------------------------------------------------------------------------------

    def dequeue(self, timeout_s: float = TIMEOUT_S) -> Any:
        """Takes the first item; waits for one.

        Args:
            timeout_s: How long to wait, in seconds.

        Returns:
            Its components: of one alone the array, else a list of them, or a dictionary in a queue with names.

        Raises:
            OutOfRangeError: The queue is closed and empty.
            DeadlineExceededError: There was none in time.
        """
        return self._elements(self._dequeue(1, timeout_s, up_to=False, stacks=False))

    def dequeue_many(self, n: SupportsIndex, timeout_s: float = TIMEOUT_S) -> Any:
        """Takes so many items at once; waits until they are there.

        Args:
            n: How many; at most the capacity.
            timeout_s: How long to wait, in seconds.

        Returns:
            Their components, each with one more dimension, the first, of size ``n``.

        Raises:
            OutOfRangeError: The queue is closed and has fewer, which stay there.
            DeadlineExceededError: They were not there in time; none was taken.
            InvalidArgumentError: The queue's shapes are not given, or it never has so many.
        """
        return self._batch(n, timeout_s, up_to=False)

    def dequeue_up_to(self, n: SupportsIndex, timeout_s: float = TIMEOUT_S) -> Any:
        """Takes so many items at once, or all that a closed queue has left; arguments and errors of ``dequeue_many``.

        Raises:
            OutOfRangeError: The queue is closed and empty.
        """
        return self._batch(n, timeout_s, up_to=True)

    def _batch(self, n: SupportsIndex, timeout_s: float, *, up_to: bool) -> Any:
        number = operator.index(n)
        self._items.check_number(number)
        return self._elements(self._dequeue(number, timeout_s, up_to=up_to, stacks=True))

    def _dequeue(self, number: int, timeout_s: float, *, up_to: bool, stacks: bool) -> list[Array]:
        deadline, dequeueing = self._deadline(timeout_s), Dequeueing(self._items, number, up_to=up_to, stacks=stacks)
        while True:
            components = dequeueing.attempt(self._object)
            if components is not None:
                return list(components)
            if self._object.wait(dequeueing.question(), deadline) is None:
                raise DeadlineExceededError(
                    f"queue {self.name} had not {number} items after {deadline.timeout_s:.1f} s ({self._size()}); have "
                    f"more enqueued, close it when no more come, or wait longer with timeout_s",
                    retryable=False,
                )

    # -- state --------------------------------------------------------------------------------

    def size(self) -> int:
        """How many items there are."""
        return int(self._asked()["size"])

    def is_closed(self) -> bool:
        """Whether it takes no more items."""
        return bool(self._asked()["closed"])

    def close(self, cancel_pending_enqueues: bool = False) -> None:
        """Takes no more items; those that there are can still be dequeued.

        Args:
            cancel_pending_enqueues: Whether what waits for room now is refused as well.

        Raises:
            CancelledError: It is closed already.
        """
        self._object.act({"do": "close", "cancel": bool(cancel_pending_enqueues)})

    def _asked(self) -> Json:
        answer = self._object.wait({"ask": "size"}, Deadline(0.0))
        if answer is None:
            raise InternalError(f"queue {self.name} has not said what its size is")
        return answer

    def _size(self) -> str:
        asked = self._asked()
        return f"it has {asked['size']} items{' and is closed' if asked['closed'] else ''}"

    def _deadline(self, timeout_s: float) -> Deadline:
        return Deadline(POSITIVE_SECONDS.check(timeout_s, "timeout_s"))

    def __repr__(self) -> str:
        return f"<FIFOQueue {self.name!r}>"

    # -- items --------------------------------------------------------------------------------

    def _components(self, vals: Values) -> list[Array]:
        """The components that a caller gives, as arrays of the queue's dtypes."""
        if self.names is not None:
            if not isinstance(vals, Mapping):
                raise ValueError(f"queue {self.name} has names: give a dictionary with {', '.join(self.names)}")
            if sorted(vals) != sorted(self.names):
                raise ValueError(
                    f"queue {self.name} has the names {', '.join(self.names)}, and the dictionary "
                    f"{', '.join(map(str, vals))}; give the same"
                )
            given = [vals[each] for each in self.names]
        elif isinstance(vals, Mapping):
            raise ValueError(f"queue {self.name} has no names; give the components in a list, or make it with names=")
        else:
            given = list(vals) if isinstance(vals, tuple | list) else [vals]
        if len(given) != len(self.dtypes):
            raise InvalidArgumentError(
                f"queue {self.name}: {len(given)} components were given, and an item has {len(self.dtypes)} "
                f"({', '.join(map(str, self.dtypes))}); a list or tuple holds the components, so that a component that "
                f"is a list itself is given in one"
            )
        return [self._component(each, dtype) for each, dtype in zip(given, self.dtypes, strict=True)]

    def _component(self, value: Any, dtype: np.dtype[Any]) -> Array:
        if is_text(dtype):
            return text_array(value)
        return convert(value, VariableSpec(f"queue/{self.name}", dtype, ()))

    def _elements(self, components: list[Array]) -> Any:
        if self.names is not None:
            return dict(zip(self.names, components, strict=True))
        return components[0] if len(components) == 1 else components


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _shapes(shapes: Any, dtypes: Sequence[np.dtype[Any]]) -> tuple[tuple[int, ...], ...]:
    found = []
    for each in shapes if isinstance(shapes, list | tuple) else [shapes]:
        shape = TensorShape(each)
        if not shape.is_fully_defined():
            raise ValueError(f"the shapes of a queue must be known, and one is {shape}")
        found.append(tuple([int(size) for size in shape if size is not None]))
    if len(found) != len(dtypes):
        raise ValueError(f"a queue has {len(found)} shapes for {len(dtypes)} dtypes; give as many")
    return tuple(found)
