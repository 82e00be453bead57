"""Fields of events, questions and settings, which come from other processes: checked when they are taken."""

from __future__ import annotations

from typing import Any

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.shared_objects import Json


def text(content: Json, name: str) -> str:
    """Returns a field that is text, and not empty; InvalidArgumentError if it is not."""
    value = content.get(name)
    if not isinstance(value, str) or not value:
        raise _malformed(name, value, "a text")
    return value


def whole(content: Json, name: str, least: int = 0) -> int:
    """Returns a field that is a whole number, at least ``least``; InvalidArgumentError if it is not."""
    value = content.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise _malformed(name, value, f"a whole number from {least} on")
    return value


def step(content: Json, name: str) -> int:
    """Returns a field that is a number of a step, of 64 bits; InvalidArgumentError if it is not."""
    value = content.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise _malformed(name, value, "a whole number of 64 bits")
    return value


def number(content: Json, name: str) -> float:
    """Returns a field that is a number, at least 0; InvalidArgumentError if it is not."""
    value = content.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
        raise _malformed(name, value, "a number from 0 on")
    return value


def flag(content: Json, name: str) -> bool:
    """Returns a field that is true or false; InvalidArgumentError if it is not."""
    value = content.get(name)
    if not isinstance(value, bool):
        raise _malformed(name, value, "true or false")
    return value


def texts(content: Json, name: str) -> list[str]:
    """Returns a field that is a list of texts; InvalidArgumentError if it is not."""
    value = content.get(name)
    if not isinstance(value, list) or [each for each in value if not isinstance(each, str)]:
        raise _malformed(name, value, "a list of texts")
    return value


def unknown(name: str, value: Any) -> InvalidArgumentError:
    """The error for an event or a question that a kind of object does not know."""
    return InvalidArgumentError(f"{name} is {value!r}, which objects of this kind do not know here; update the ps")


def _malformed(name: str, value: Any, wanted: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{name} is {value!r}; it should be {wanted}")
