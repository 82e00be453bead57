"""What a kind of shared object is: how it begins, what happens to it, and what it can be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ps_protocol.shared_objects import Json

Step: TypeAlias = "tuple[Json, Json] | None"
"""The state after an event and the answer to it; None if it cannot be carried out yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectKind:
    """A kind of object, as three pure functions. A log repeats events, so the same arguments give the same result.

    A function that is refused what it needs raises a ``ShardscopeError``, and nothing has changed. None of them changes
    a state that it is given.

    Attributes:
        empty: Returns the state of a new object with these settings.
        step: Returns what an event makes of a state, and the answer. The very state that it was given, if nothing
            changes.
        look: Returns the answer of a state to a question; None if there is none yet.
        passes: Of a kind that guards its batch: whether, after an event that was answered so, the updates behind it in
            the batch are carried out. If an event is refused, they are not.
    """

    empty: Callable[[Json], Json]
    step: Callable[[Json, Json], Step]
    look: Callable[[Json, Json], Json | None]
    passes: Callable[[Json], bool] | None = None
