"""What an event makes of an object that holds tensors, as it is stored: its state with arrays behind it, as bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ps_protocol.errors import ResourceExhaustedError
from ps_protocol.shared_objects import OPEN, Array, Bytes, Json, packed, unpacked
from ps_server.objects.array_kind import ArrayObjectKind, Contents
from ps_server.objects.transitions import (
    OPENED,
    STATE,
    check_settings,
    checked_answer,
    checked_content,
    first_content,
    not_opened,
)

_MOST_BYTES: Final = 2**31 - 1
"""Of a variable that holds bytes, which NumPy counts in 32 bits."""

_ROOM_FOR_JSON: Final = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ArrayOutcome:
    """What has become of an event; as ``transitions.Outcome``, but for the form of the state."""

    answer: Bytes | None
    state: Bytes | None = None


def carried_out_with(
    kind: ArrayObjectKind,
    before: Bytes | None,
    event: Json,
    tensors: Sequence[Array],
    memory: Callable[[int], Bytes],
) -> ArrayOutcome:
    """Carries out an event that may come with tensors; errors as of ``transitions.carried_out``.

    The answer of an event that takes arrays out is packed as the state is; any other is JSON.

    Args:
        kind: Of the object.
        before: The object as it is stored; None if it has not been opened.
        event: What happens.
        tensors: What comes with it.
        memory: Gives memory for so many bytes of the new state.
    """
    if OPEN in event:
        if before is None:
            return ArrayOutcome(OPENED, packed(first_content(kind.empty, event), ()))
        check_settings(_unpacked(before)[0], event)
        return ArrayOutcome(OPENED)
    if before is None:
        raise not_opened()
    stored, arrays = _unpacked(before)
    step = kind.step(stored[STATE], arrays, event, tensors)
    if step is None:
        return ArrayOutcome(None)
    after, answer = step
    encoded = packed(answer.state, answer.arrays) if answer.arrays else checked_answer(answer.state)
    return ArrayOutcome(encoded, None if after is None else _stored(stored, after, memory))


def answered_with(kind: ArrayObjectKind, stored: Bytes, question: Json) -> Bytes | None:
    """Returns the answer to a question; arguments and errors as of ``transitions.answered``."""
    answer = kind.look(_unpacked(stored)[0][STATE], question)
    return None if answer is None else checked_answer(answer)


def _unpacked(stored: Bytes) -> tuple[Json, list[Array]]:
    content, arrays = unpacked(stored, "what it holds")
    return checked_content(content), arrays


def _stored(stored: Json, after: Contents, memory: Callable[[int], Bytes]) -> Bytes:
    size_bytes = sum([each.dtype.itemsize * math.prod(each.shape) for each in after.arrays])
    if size_bytes > _MOST_BYTES - _ROOM_FOR_JSON:
        raise ResourceExhaustedError(
            f"its tensors would take {size_bytes:,} bytes, of which it may have {_MOST_BYTES - _ROOM_FOR_JSON:,}; "
            f"nothing changed: partition the variable",
            retryable=False,
        )
    return packed({**stored, STATE: after.state}, after.arrays, memory)
