"""What happens to shared objects: variables that hold the state of a barrier, of a queue, ... on their ps task.

An object is a small state machine of the ps (``ps_server/objects``). Its state, what happens to it, what it is asked
and what it answers are JSON objects, which travel as bytes.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.interrupts import raise_interrupt

Json: TypeAlias = dict[str, Any]
"""A JSON object: text, finite numbers, truth values and None, in lists and objects."""

Array: TypeAlias = npt.NDArray[Any]

Bytes: TypeAlias = npt.NDArray[np.uint8]
"""Of shape ``[n]``."""

MAX_OBJECT_BYTES: Final = 1024 * 1024
"""The most bytes of JSON that an object's state has, and that an ``Act`` or a ``Look`` carries and returns."""

MAX_SHORT_ANSWER_BYTES: Final = 4096
"""The most bytes of the answer to an event that comes with tensors."""

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
        event: JSON: what happens. The new state follows from the old one, this and the tensors alone.
        tensors: What an object that holds tensors is given with the event; it answers that in few bytes.
    """

    name: str
    kind: str
    event: npt.NDArray[Any]
    tensors: tuple[npt.NDArray[Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """Asks a shared object something, and waits a while until it has an answer.

    The tensor of the reply is the answer. Without one in time the verdict is ``Verdict.NOT_YET``. A ps at which too
    many wait already says so at once, as it does when nobody must wait there any longer.

    It waits only if it is the first of its batch, or has behind it none that change something: what stands behind it
    is read as soon as there is an answer, and not at all without one (``NOT_YET`` too). What stands before it is
    carried out, and acknowledged, as a batch of its own. So a batch that is sent again waits and reads again. An
    earlier ps waits only for a ``Look`` that is alone.

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


# -- with arrays ----------------------------------------------------------------------------------
#
# Objects that hold tensors have them behind their JSON, as have their answers. In 8 bytes, little-endian, is how many
# bytes of JSON follow: {"content": {...}, "arrays": [[dtype, [size, ...]], ...]}. The arrays come then, in C order and
# little-endian, each at a multiple of 64 bytes.

_LENGTH: Final = struct.Struct("<Q")
_ALIGNMENT: Final = 64
_DTYPES: Final = {
    np.dtype(each).name: np.dtype(each).newbyteorder("<")
    for each in (np.int32, np.int64, np.float16, np.float32, np.float64)
} | {"bfloat16": np.dtype(ml_dtypes.bfloat16)}
"""Those that are packed, by name; a name that comes from elsewhere is never given to NumPy."""


@dataclass(frozen=True, slots=True)
class Computed:
    """An array that is computed where it is packed.

    Attributes:
        dtype: Of the array.
        shape: Of the array.
        fill: Puts all elements into an array of that dtype and shape.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fill: Callable[[Array], object]


def _new_bytes(number: int) -> Bytes:
    return np.empty(number, np.uint8)


def packed(content: Json, arrays: Sequence[Array | Computed], memory: Callable[[int], Bytes] = _new_bytes) -> Bytes:
    """Returns the bytes of a JSON object and of arrays; always the same for the same.

    Args:
        content: The object.
        arrays: Which come behind it.
        memory: Gives the memory for so many bytes.

    Raises:
        InvalidArgumentError: It is no JSON, or an array has a dtype that is not packed.
    """
    for each in arrays:
        if each.dtype.name not in _DTYPES:
            raise InvalidArgumentError(f"a {each.dtype.name} array cannot be packed; it can be {', '.join(_DTYPES)}")
    layouts = [[each.dtype.name, list(each.shape)] for each in arrays]
    header = json_text({"content": content, "arrays": layouts}).encode("ascii")
    places, size_bytes = [], _LENGTH.size + len(header)
    for each in arrays:
        places.append(_aligned(size_bytes))
        size_bytes = places[-1] + each.dtype.itemsize * math.prod(each.shape)
    data = memory(size_bytes)
    begin = places[0] if places else size_bytes
    data[:begin] = np.frombuffer((_LENGTH.pack(len(header)) + header).ljust(begin, b"\0"), np.uint8)
    for index, each in enumerate(arrays):
        end = places[index] + each.dtype.itemsize * math.prod(each.shape)
        data[end : places[index + 1] if index + 1 < len(places) else size_bytes] = 0
        out = data[places[index] : end].view(_DTYPES[each.dtype.name]).reshape(each.shape)
        if isinstance(each, Computed):
            each.fill(out)
        else:
            out[...] = each
    return data


def unpacked(data: Bytes, what: str) -> tuple[Json, list[Array]]:
    """Returns the JSON object and the arrays in some bytes; the arrays are views of those.

    Args:
        data: uint8 ``[n]``.
        what: What that is, for the error.

    Raises:
        InvalidArgumentError: That is not what they hold.
    """
    try:
        end = _LENGTH.size + _LENGTH.unpack(bytes(data[: _LENGTH.size]))[0]
        header = decode_json(data[_LENGTH.size : end], what)
        content, arrays = dict(header["content"]), []
        for name, shape in header["arrays"]:
            begin = _aligned(end)
            dtype = _DTYPES[name]
            end = begin + dtype.itemsize * math.prod(shape)
            arrays.append(data[begin:end].view(dtype).reshape(shape))
    except (ValueError, TypeError, LookupError, struct.error, OverflowError) as error:
        raise_interrupt(error)
        raise InvalidArgumentError(f"{what} is no JSON with arrays behind it: {error}") from error
    return content, arrays


def _aligned(place: int) -> int:
    return -(-place // _ALIGNMENT) * _ALIGNMENT
