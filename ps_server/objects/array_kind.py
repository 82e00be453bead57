"""What a kind of shared object is that holds tensors: how it begins, what happens to it, and what it can be asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ps_protocol.shared_objects import Array, Computed, Json


@dataclass(frozen=True, slots=True)
class Contents:
    """What an object holds, or answers.

    Attributes:
        state: JSON.
        arrays: Which nobody changes; those that are computed are so when this is stored.
    """

    state: Json
    arrays: Sequence[Array | Computed] = ()


ArrayStep: TypeAlias = "tuple[Contents | None, Contents] | None"
"""What an object holds after an event, None if it has not changed, and the answer; None if it cannot be carried out
yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayObjectKind:
    """A kind of object whose state has arrays. What is said of ``ObjectKind`` is true of its functions as well.

    Attributes:
        empty: Returns the state of a new object with these settings; it has no arrays.
        step: Returns what an event with its tensors makes of a state and its arrays, and the answer.
        look: Returns the answer of a state to a question; None if there is none yet.
    """

    empty: Callable[[Json], Json]
    step: Callable[[Json, Sequence[Array], Json, Sequence[Array]], ArrayStep]
    look: Callable[[Json, Json], Json | None]
