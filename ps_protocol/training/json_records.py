"""Dataclasses and named tuples as JSON and back: compact, with keys in order, and strict about what is read.

What has its default is left out, so that a later version can add a field that an earlier one does not know until it is
used. The types that fields may have: bool, int, float, str, enumerations of strings, dataclasses, named tuples, None
beside any of these, and tuples of them.
"""

from __future__ import annotations

import enum
import functools
import json
import math
import operator
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Final, TypeVar

from ps_protocol.errors import InvalidArgumentError

_Record = TypeVar("_Record")
_Reader = Callable[[Any], Any]
_Writer = Callable[[Any], Any]

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
    """Returns a dataclass, or another value that a field may have, as JSON has it."""
    write = _writer(typing.cast(Any, type(value)))
    return value if write is None else write(value)


def from_record(cls: type[_Record], said: Any, what: str) -> _Record:
    """Reads a dataclass that is in JSON already; arguments and errors as of ``from_json``."""
    try:
        return typing.cast(_Record, _reader(typing.cast(Any, cls))(said))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidArgumentError(
            f"this is no {what}: {error}; another program, or another version, made it"
        ) from None


@functools.cache
def _writer(kind: Any) -> _Writer | None:
    """Returns what makes JSON of a value of a type; None if that is JSON as it is."""
    if kind in _AS_THEY_ARE:
        return None
    if _is_optional(kind):
        write = _writer(_inner(kind))
        return None if write is None else lambda value: None if value is None else write(value)
    if typing.get_origin(kind) is tuple:
        write_each = _writer(typing.get_args(kind)[0])
        return list if write_each is None else lambda value: [write_each(each) for each in value]
    if kind is tuple:
        return lambda value: [as_record(each) for each in value]
    if _is_record(kind):
        return _writer_of_fields(kind)
    return operator.attrgetter("value")


def _writer_of_fields(cls: Any) -> _Writer:
    hints = typing.get_type_hints(cls)
    layout = [(name, default, _writer(hints[name])) for name, default in _defaults(cls)]
    fetch: Callable[[Any], Any] = tuple if issubclass(cls, tuple) else _fetcher([name for name, _, _ in layout])

    def write(record: Any) -> dict[str, Any]:
        said = {}
        for (name, default, write_field), value in zip(layout, fetch(record), strict=True):
            if value != default:
                said[name] = value if write_field is None else write_field(value)
        return said

    return write


def _fetcher(names: Sequence[str]) -> Callable[[Any], Any]:
    """Returns what returns the values of these attributes."""
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda record: [getattr(record, name) for name in names]


@functools.cache
def _reader(kind: Any) -> _Reader:
    if _is_optional(kind):
        read = _reader(_inner(kind))
        return lambda said: None if said is None else read(said)
    if typing.get_origin(kind) is tuple:
        read = _reader(typing.get_args(kind)[0])
        return lambda said: tuple([read(each) for each in _checked(said, list)])
    if _is_record(kind):
        return functools.partial(_read_fields, kind)
    if issubclass(kind, enum.Enum):
        return typing.cast(_Reader, kind)
    if kind is float:
        return _number
    return lambda said: said if type(said) is kind else _checked(said, kind)


def _is_optional(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _inner(kind: Any) -> Any:
    """Returns what else than None a field may be."""
    [inner] = [each for each in typing.get_args(kind) if each is not types.NoneType]
    return inner


def _is_record(kind: Any) -> bool:
    return is_dataclass(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))


@functools.cache
def _defaults(cls: Any) -> tuple[tuple[str, Any], ...]:
    if is_dataclass(cls):
        return tuple([(each.name, each.default) for each in fields(cls)])
    return tuple([(name, cls._field_defaults.get(name, MISSING)) for name in cls._fields])


@functools.cache
def _readers(cls: Any) -> dict[str, _Reader]:
    hints = typing.get_type_hints(cls)
    return {name: _reader(hints[name]) for name, _ in _defaults(cls)}


@functools.cache
def _needed(cls: Any) -> tuple[str, ...]:
    return tuple([name for name, default in _defaults(cls) if default is MISSING])


def _read_fields(cls: Any, said: Any) -> Any:
    readers = _readers(cls)
    values = {}
    for name, value in _checked(said, dict).items():
        read = readers.get(name)
        if read is None:
            raise ValueError(f"{cls.__name__} has no field {name!r}")
        values[name] = read(value)
    for name in _needed(cls):
        if name not in values:
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
