"""What happens to shared objects: variables that hold the state of a barrier, of a queue, ... on their ps task.

An object is a small state machine of the ps (``ps_server/objects``). Its state, what happens to it, what it is asked
and what it answers are JSON objects, which travel as bytes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.interrupts import raise_interrupt

Json: TypeAlias = dict[str, Any]
"""A JSON object: text, finite numbers, truth values and None, in lists and objects."""

Bytes: TypeAlias = npt.NDArray[np.uint8]
"""Of shape ``[n]``."""

MAX_OBJECT_BYTES: Final = 1024 * 1024
"""The most bytes of an object's state, and of what an ``Act`` or a ``Look`` carries and returns."""

OBJECT_DTYPE: Final = np.dtype("S1")
"""That of an object as it is declared. With a state, it is as long as that."""

OBJECTS_PS_TASK: Final = 0
"""Which ps task has the objects, as it has the members and the directory."""

OPEN: Final = "open"
"""Names the settings in the event that opens an object."""


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_DECODER: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


@dataclass(frozen=True, slots=True)
class Act:
    """Has something happen to a shared object. What cannot be done yet changes nothing: ``Verdict.NOT_YET``.

    The tensor of the reply is the object's answer.

    Attributes:
        name: Full name of the variable.
        kind: Of the object.
        event: JSON: what happens. The new state follows from the old one and this alone.
    """

    name: str
    kind: str
    event: npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Look:
    """Asks a shared object something, and waits a while until it has an answer; only if it is alone in its batch.

    The tensor of the reply is the answer. Without one in time the verdict is ``Verdict.NOT_YET``. A ps at which too
    many wait already says so at once, as it does when nobody must wait there any longer.

    Attributes:
        name: Full name of the variable.
        kind: Of the object.
        question: JSON.
        wait_s: How long to wait at most, in seconds.
    """

    name: str
    kind: str
    question: npt.NDArray[Any]
    wait_s: float = 0.0


def encode_json(content: Json) -> Bytes:
    """Returns the bytes of a JSON object; always the same for the same content in the same order.

    Raises:
        InvalidArgumentError: It holds what JSON has not, or is too deep.
    """
    return np.frombuffer(json_text(content).encode("ascii"), np.uint8)


def json_text(content: Json) -> str:
    """Returns a JSON object as text of ASCII characters; errors as of ``encode_json``."""
    try:
        return _ENCODER.encode(content)
    except (TypeError, ValueError, RecursionError) as error:
        raise_interrupt(error)
        raise InvalidArgumentError(f"it cannot be written as JSON: {error}") from error


def decode_json(data: bytes | memoryview | npt.NDArray[Any], what: str) -> Json:
    """Returns the JSON object in some bytes; ``what`` says what that is, for the error.

    Raises:
        InvalidArgumentError: They hold no JSON object.
    """
    try:
        content = _DECODER.decode(bytes(data).decode())
    except (ValueError, RecursionError) as error:
        raise_interrupt(error)
        raise InvalidArgumentError(f"{what} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidArgumentError(f"{what} is no JSON object but a {type(content).__name__}")
    return content
