"""Dataclasses as JSON and back: compact, with keys in order, and strict about what is read.

What has its default is left out, so that a later version can add a field that an earlier one does not know until it is
used. The types that fields may have: bool, int, float, str, enumerations of strings, dataclasses, None beside any of
these, and tuples of them.
"""

from __future__ import annotations

import enum
import functools
import json
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, TypeVar

from ps_protocol.errors import InvalidArgumentError

_Record = TypeVar("_Record")
_Reader = Callable[[Any], Any]


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
    except ValueError as error:
        raise InvalidArgumentError(f"{content[:100]!r} is no {what}: {error}") from None
    return from_record(cls, said, what)


def as_record(value: Any) -> Any:
    """Returns a value of a field as JSON has it."""
    if isinstance(value, tuple):
        return [as_record(each) for each in value]
    if is_dataclass(value):
        values = [(each, getattr(value, each.name)) for each in fields(value)]
        return {each.name: as_record(said) for each, said in values if said != each.default}
    return value.value if isinstance(value, enum.Enum) else value


def from_record(cls: type[_Record], said: Any, what: str) -> _Record:
    """Reads a dataclass that is in JSON already; arguments and errors as of ``from_json``."""
    try:
        return typing.cast(_Record, _reader(typing.cast(Any, cls))(said))
    except (TypeError, ValueError) as error:
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
        return lambda said: float(_checked(said, (int, float)))
    return lambda said: _checked(said, kind)


@functools.cache
def _fields(cls: Any) -> dict[str, tuple[Field[Any], _Reader]]:
    hints = typing.get_type_hints(cls)
    return {each.name: (each, _reader(hints[each.name])) for each in fields(cls)}


def _read_fields(cls: Any, said: Any) -> Any:
    known = _fields(cls)
    unknown = set(_checked(said, dict)) - set(known)
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {min(unknown)!r}")
    missing = [name for name, (each, _) in known.items() if name not in said and each.default is MISSING]
    if missing:
        raise ValueError(f"{cls.__name__} needs the field {missing[0]!r}")
    return cls(**{name: known[name][1](value) for name, value in said.items()})


def _checked(said: Any, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(said, kind) or (isinstance(said, bool) and kind is not bool):
        raise ValueError(f"{said!r:.100} is not of the type {getattr(kind, '__name__', 'float')}")
    return said
