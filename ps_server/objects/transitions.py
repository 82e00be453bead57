"""What an event makes of an object as it is stored: its state as bytes, with the settings that it was opened with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError
from ps_protocol.shared_objects import MAX_OBJECT_BYTES, OPEN, Bytes, Json, decode_json, encode_json, json_text
from ps_server.objects import fields
from ps_server.objects.object_kind import ObjectKind

_SETTINGS: Final = "settings"
_BY: Final = "by"
STATE: Final = "state"
"""Names the state in what is stored; beside it are the settings, and who has given them."""


class Content(NamedTuple):
    """What is stored of an object, read.

    Attributes:
        stored: JSON of all of it; of the state only where its kind has no form of its own.
        state: In the form of its kind.
    """

    stored: Json
    state: Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of an event.

    Attributes:
        answer: None if it cannot be carried out yet.
        state: The object from now on; None if it has not changed.
        content: What ``state`` says, if its kind has another form of that.
    """

    answer: Bytes | None
    state: bytes | None = None
    content: Content | None = None


_NOT_YET: Final = Outcome(None)
OPENED: Final = encode_json({})


def content_of(kind: ObjectKind, stored: bytes) -> Content:
    """Reads an object that is stored.

    Raises:
        InvalidArgumentError: It is none.
        FailedPreconditionError: A later version has written it.
    """
    said = _decoded(stored)
    if kind.read is None:
        return Content(said, said[STATE])
    return Content({**said, STATE: None}, kind.read(said[STATE]))


def carried_out(kind: ObjectKind, before: bytes | Content | None, event: Json) -> Outcome:
    """Carries out an event.

    Args:
        kind: Of the object.
        before: The object as it is stored, or what that says; None if it has not been opened.
        event: What happens.

    Raises:
        InvalidArgumentError: The event is malformed, or opens the object with other settings than it has.
        FailedPreconditionError: The object has not been opened.
        ResourceExhaustedError: The state or the answer would be too large.
        ShardscopeError: The object has refused it.
    """
    if OPEN in event:
        return _opened(kind, before, event)
    if before is None:
        raise not_opened()
    content = content_of(kind, before) if isinstance(before, bytes) else before
    step = kind.step(content.state, event)
    if step is None:
        return _NOT_YET
    state, answer = step
    encoded_answer = checked_answer(answer)
    if state is content.state:
        return Outcome(encoded_answer)
    after = Content(content.stored, state)
    return Outcome(encoded_answer, _encoded(kind, after), None if kind.read is None else after)


def answered(kind: ObjectKind, stored: bytes | Content, question: Json) -> Bytes | None:
    """Returns the answer of a stored object to a question; None if it has none yet.

    Raises:
        InvalidArgumentError: The question is malformed.
        ResourceExhaustedError: The answer would be too large.
    """
    content = content_of(kind, stored) if isinstance(stored, bytes) else stored
    answer = kind.look(content.state, question)
    return None if answer is None else checked_answer(answer)


def _opened(kind: ObjectKind, before: bytes | Content | None, event: Json) -> Outcome:
    if before is None:
        first = first_content(kind.empty, event)
        return Outcome(OPENED, _encoded(kind, Content(first, first[STATE])))
    check_settings(_decoded(before) if isinstance(before, bytes) else before.stored, event)
    return Outcome(OPENED)


def not_opened() -> FailedPreconditionError:
    """The error for an event of an object that has no settings yet."""
    return FailedPreconditionError("it has not been opened; open it first, with its settings")


def first_content(empty: Callable[[Json], Json], event: Json) -> Json:
    """Returns what is stored of an object that an event opens first.

    Raises:
        InvalidArgumentError: The event is malformed.
    """
    settings, by = _opening(event)
    return {_SETTINGS: settings, _BY: by, STATE: empty(settings)}


def check_settings(stored: Json, event: Json) -> None:
    """Makes sure that an event opens an object with the settings that it has.

    Raises:
        InvalidArgumentError: The event is malformed, or has other settings.
    """
    settings, by = _opening(event)
    there = stored[_SETTINGS]
    differing = sorted([name for name in {**there, **settings} if there.get(name) != settings.get(name)])
    if differing:
        sides = [
            ", ".join([f"{name}={json.dumps(side.get(name))}" for name in differing]) for side in (there, settings)
        ]
        raise InvalidArgumentError(
            f"{stored[_BY]} has made it with {sides[0]}, but {by} gives {sides[1]}; give the same everywhere, or "
            f"another name"
        )


def _opening(event: Json) -> tuple[Json, str]:
    settings, by = event[OPEN], fields.text(event, _BY)
    if not isinstance(settings, dict):
        raise InvalidArgumentError("the settings that it is opened with are no JSON object")
    return settings, by


def _decoded(stored: bytes) -> Json:
    return checked_content(decode_json(stored, "what it holds"))


def checked_content(content: Json) -> Json:
    """Returns what is stored of an object; InvalidArgumentError if that is something else."""
    if not content.keys() >= {_SETTINGS, _BY, STATE}:
        raise InvalidArgumentError("it does not hold the state of an object; was another value assigned to it?")
    return content


def _encoded(kind: ObjectKind, content: Content) -> bytes:
    state = content.state if kind.write is None else kind.write(content.state)
    encoded = json_text({**content.stored, STATE: state}).encode("ascii")
    if len(encoded) > MAX_OBJECT_BYTES:
        raise ResourceExhaustedError(
            f"its state would take {len(encoded):,} bytes, of which it may have {MAX_OBJECT_BYTES:,}; nothing changed",
            retryable=False,
        )
    return encoded


def checked_answer(answer: Json) -> Bytes:
    """Returns the bytes of an answer; ResourceExhaustedError if it is too large."""
    encoded = encode_json(answer)
    if encoded.nbytes > MAX_OBJECT_BYTES:
        raise ResourceExhaustedError(
            f"its answer would take {encoded.nbytes:,} bytes, of which it may have {MAX_OBJECT_BYTES:,}; nothing was "
            f"changed: ask for less at a time",
            retryable=False,
        )
    return encoded
