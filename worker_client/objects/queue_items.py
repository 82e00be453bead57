"""Items of queues as they travel, and what is done with them: put in as there is room, taken when they are there."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ps_protocol.errors import DataLossError, InvalidArgumentError, ShapeMismatchError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array
from ps_protocol.shared_objects import MAX_OBJECT_BYTES, Json, json_text
from worker_client.objects.shared_object import ObjectConnection
from worker_client.values.text import is_text

MAX_ENQUEUED: Final = 256
"""Items that are sent in one event."""


class QueueItems:
    """What the items of one queue are like.

    Args:
        name: What the user calls the queue.
        dtypes: Of the components of an item.
        shapes: Of the components; None if items may differ.
    """

    def __init__(self, name: str, dtypes: Sequence[np.dtype[Any]], shapes: Sequence[tuple[int, ...]] | None):
        self.name: Final = name
        self.dtypes: Final = [np.dtype(object) if is_text(each) else each for each in dtypes]
        self.shapes: Final = shapes

    @staticmethod
    def settings(
        capacity: int,
        dtypes: Sequence[np.dtype[Any]],
        shapes: Sequence[tuple[int, ...]] | None,
        names: Sequence[str] | None,
    ) -> Json:
        """What a queue is opened with: the same for the same queue, whoever makes it."""
        return {
            "capacity": max(0, capacity),
            "dtypes": ["string" if is_text(each) else each.name for each in dtypes],
            "shapes": None if shapes is None else [list(each) for each in shapes],
            "names": None if names is None else list(names),
        }

    def encoded(self, components: Sequence[Array]) -> list[Any]:
        """An item as JSON: of each component its shape, and its bytes as base64; ShapeMismatchError if one differs."""
        for index, component in enumerate(components):
            if self.shapes is not None and component.shape != self.shapes[index]:
                raise ShapeMismatchError(
                    f"queue {self.name}: component {index} of an item has the shape {list(component.shape)}; its shape "
                    f"here is {list(self.shapes[index])}"
                )
        return [[list(each.shape), _data(each)] for each in components]

    def encoded_many(self, components: Sequence[Array]) -> list[Any]:
        """Items whose components lie along the first dimension.

        Raises:
            ValueError: A component lacks that, or they do not have as many items.
            ShapeMismatchError: A component has another shape.
        """
        for each in components:
            if not each.ndim:
                raise ValueError(f"queue {self.name}: a component of shape () lacks the dimension that counts items")
        lengths = {len(each) for each in components}
        if len(lengths) != 1:
            raise ValueError(
                f"queue {self.name}: the components have {', '.join(map(str, sorted(lengths)))} items; give as many"
            )
        items = [[each[index : index + 1].reshape(each.shape[1:]) for each in components] for index in range(*lengths)]
        return [self.encoded(item) for item in items]

    def decoded(self, item: Any) -> list[Array]:
        """The components of an item."""
        try:
            return [_array(shape, data, dtype) for (shape, data), dtype in zip(item, self.dtypes, strict=True)]
        except (ValueError, TypeError, binascii.Error) as error:
            raise_interrupt(error)
            raise DataLossError(f"queue {self.name} holds an item that no FIFOQueue has put there: {error}") from error

    def stacked(self, items: Sequence[Any]) -> list[Array]:
        """The components of items, each with one more dimension, the first; of none, shapes say what they are like."""
        components = [self.decoded(each) for each in items]
        return [
            np.stack([item[index] for item in components]) if components else np.empty((0, *shape), dtype)
            for index, (shape, dtype) in enumerate(zip(self.shapes or (), self.dtypes, strict=True))
        ]

    def check_number(self, number: int) -> None:
        """Makes sure that so many items can be taken at once.

        Raises:
            InvalidArgumentError: The shapes are not given, or the number is negative.
        """
        if self.shapes is None:
            raise InvalidArgumentError(
                f"queue {self.name}: dequeue_many and dequeue_up_to require the components to have specified shapes; "
                f"make the queue with shapes=, or dequeue one item at a time"
            )
        if number < 0:
            raise InvalidArgumentError(f"queue {self.name}: {number} items were asked for; ask for 0 or more")


class Enqueueing:
    """Puts items in, in their order, as there is room for them.

    Attributes:
        done: How many have been put in.
    """

    def __init__(self, name: str, items: Sequence[Any]):
        self._name = name
        self._items = items
        self._is_pending = False
        self.done = 0

    @property
    def waits_for(self) -> str:
        """What is waited for, for the log and for errors."""
        return (
            f"room in queue {self._name} for {len(self._items) - self.done} of {len(self._items)} items; have more "
            f"dequeued"
        )

    def attempt(self, shared: ObjectConnection) -> tuple[Array, ...] | None:
        """Puts in what there is room for; None if that is not all."""
        items = self._items
        while self.done < len(items) or not items:
            event: Json = {
                "do": "enqueue",
                "items": items[self.done : self.done + MAX_ENQUEUED],
                "pending": self._is_pending,
            }
            while len(event["items"]) > 1 and len(json_text(event)) > MAX_OBJECT_BYTES:
                event["items"] = event["items"][: len(event["items"]) // 2]
            answer = shared.act(event)
            if answer is None:
                self._is_pending = True
                return None
            self.done += answer["taken"]
            if not items:
                break
        return ()

    def question(self) -> Json:
        """What the queue answers when there is room for the next one, or never will be."""
        return {"ask": "room", "bytes": len(json_text({"": self._items[self.done]}))}


class Dequeueing:
    """Takes so many items at once.

    Args:
        items: What they are like.
        number: How many.
        up_to: Whether fewer will do when the queue is closed.
        stacks: Whether the components of all items are put together, along a new first dimension.
    """

    def __init__(self, items: QueueItems, number: int, *, up_to: bool, stacks: bool):
        self._items = items
        self._wanted: Final = {"number": number, "up_to": up_to}
        self._stacks = stacks

    @property
    def waits_for(self) -> str:
        """What is waited for, for the log and for errors."""
        return (
            f"{self._wanted['number']} items of queue {self._items.name}; have more enqueued, or close it when no more "
            f"come"
        )

    def attempt(self, shared: ObjectConnection) -> tuple[Array, ...] | None:
        """Takes them; None if there are not so many yet."""
        answer = shared.act({"do": "dequeue", **self._wanted})
        if answer is None:
            return None
        if self._stacks:
            return tuple(self._items.stacked(answer["items"]))
        (item,) = answer["items"]
        return tuple(self._items.decoded(item))

    def question(self) -> Json:
        """What the queue answers when they are there, or never will be."""
        return {"ask": "items", **self._wanted}


def _data(array: Array) -> str | list[str]:
    if array.dtype == object:
        return [base64.b64encode(each).decode() for each in array.reshape(-1)]
    return base64.b64encode(array.tobytes()).decode()


def _array(shape: list[int], data: str | list[str], dtype: np.dtype[Any]) -> Array:
    if isinstance(data, str):
        return np.frombuffer(base64.b64decode(data), dtype).reshape(shape).copy()
    elements = np.empty(len(data), object)
    elements[:] = [base64.b64decode(each) for each in data]
    return elements.reshape(shape)
