"""Dataclasses as JSON and back: compact, with keys in order, and strict about what is read.

What has its default is left out, so that a later version can add a field that an earlier one does not know until it is
used. The types that fields may have: bool, int, float, str, enumerations of strings, dataclasses, None beside any of
these, and tuples of them.
"""

from __future__ import annotations

import enum
import functools
import json
import math
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Final, TypeVar

from ps_protocol.errors import InvalidArgumentError

_Record = TypeVar("_Record")
_Reader = Callable[[Any], Any]

_AS_THEY_ARE: Final = frozenset({bool, int, float, str, types.NoneType})


def to_json(record: Any) -> bytes:
    """Returns a dataclass as JSON; equal for equal ones."""
    return json.dumps(as_record(record), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def from_json(cls: type[_Record], content: bytes, what: str) -> _Record:
    """Reads a dataclass.

    Args:
        cls: Which.
        content: What ``to_json`` gives.
        what: It is, for messages.

    Raises:
        InvalidArgumentError: It is not JSON of such a dataclass.
    """
    try:
        said = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"{content[:100]!r} is no {what}: {error}") from None
    return from_record(cls, said, what)


def as_record(value: Any) -> Any:
    """Returns a value of a field as JSON has it."""
    kind: Any = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is tuple:
        return [as_record(each) for each in value]
    if isinstance(value, enum.Enum):
        return value.value
    said = {}
    for name, default in _defaults(kind):
        each = getattr(value, name)
        if each != default:
            said[name] = as_record(each)
    return said


def from_record(cls: type[_Record], said: Any, what: str) -> _Record:
    """Reads a dataclass that is in JSON already; arguments and errors as of ``from_json``."""
    try:
        return typing.cast(_Record, _reader(typing.cast(Any, cls))(said))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgumentError(
            f"this is no {what}: {error}; another program, or another version, made it"
        ) from None


@functools.cache
def _reader(kind: Any) -> _Reader:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        [inner] = [each for each in typing.get_args(kind) if each is not types.NoneType]
        read = _reader(inner)
        return lambda said: None if said is None else read(said)
    if typing.get_origin(kind) is tuple:
        read = _reader(typing.get_args(kind)[0])
        return lambda said: tuple([read(each) for each in _checked(said, list)])
    if is_dataclass(kind):
        return functools.partial(_read_fields, kind)
    if issubclass(kind, enum.Enum):
        return typing.cast(_Reader, kind)
    if kind is float:
        return _number
    return lambda said: said if type(said) is kind else _checked(said, kind)


@functools.cache
def _defaults(cls: Any) -> tuple[tuple[str, Any], ...]:
    return tuple([(each.name, each.default) for each in fields(cls)])


@functools.cache
def _readers(cls: Any) -> dict[str, _Reader]:
    hints = typing.get_type_hints(cls)
    return {name: _reader(hints[name]) for name, _ in _defaults(cls)}


def _read_fields(cls: Any, said: Any) -> Any:
    readers = _readers(cls)
    values = {}
    for name, value in _checked(said, dict).items():
        if name not in readers:
            raise ValueError(f"{cls.__name__} has no field {name!r}")
        values[name] = readers[name](value)
    for name, default in _defaults(cls):
        if default is MISSING and name not in values:
            raise ValueError(f"{cls.__name__} needs the field {name!r}")
    return cls(**values)


def _checked(said: Any, kind: type) -> Any:
    if type(said) is not kind:
        raise ValueError(f"{said!r:.100} is not of the type {kind.__name__}")
    return said


def _number(said: Any) -> float:
    number = float(said) if type(said) is int else _checked(said, float)
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number
