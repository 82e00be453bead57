"""What a kind of shared object is: how it begins, what happens to it, and what it can be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ps_protocol.shared_objects import Json

Step: TypeAlias = "tuple[Any, Json] | None"
"""The state after an event and the answer to it; None if it cannot be carried out yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectKind:
    """A kind of object, as three pure functions. A log repeats events, so the same arguments give the same result.

    A function that is refused what it needs raises a ``ShardscopeError``, and nothing has changed. None of them changes
    a state that it is given. A state is JSON, unless the kind says how it reads and writes another form: that is what a
    ps then remembers of an object, to spare reading it for each event.

    Attributes:
        empty: Returns the state of a new object with these settings.
        step: Returns what an event makes of a state, and the answer. The very state that it was given, if nothing
            changes.
        look: Returns the answer of a state to a question; None if there is none yet.
        passes: Of a kind that guards its batch: whether, after an event that was answered so, the updates behind it in
            the batch are carried out. If an event is refused, they are not.
        checks_first: Of such a kind: whether the event does not happen if one of these updates would be refused.
        takes: Of a kind that stands behind another one's guard: whether, by the answer, it has taken what the event
            brings. If not, what the guard has noted of that is taken back.
        read: Of a kind whose states have another form: returns that of the JSON that is stored.
        write: Of such a kind: returns the JSON of a state, always the same for equal ones.
        wakes: Of such a kind: whether a question that had no answer in the state before may have one in the state
            after. Else whoever waits looks at every state.
    """

    empty: Callable[[Json], Any]
    step: Callable[[Any, Json], Step]
    look: Callable[[Any, Json], Json | None]
    passes: Callable[[Json], bool] | None = None
    checks_first: bool = True
    takes: Callable[[Json], bool] | None = None
    read: Callable[[Json], Any] | None = None
    write: Callable[[Any], Json] | None = None
    wakes: Callable[[Any, Any], bool] | None = None
