"""What data shards are, by the number or the list that a program gives."""

from __future__ import annotations

import hashlib
import operator
import os
from collections.abc import Sequence
from typing import Any, Final

from ps_protocol.errors import (
    InvalidArgumentError,
)
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.training.data_shards import (
    MAX_SHARDS,
)

_ITEMS: Final = (str, bytes, int, float, bool, os.PathLike)


def items_of(name: str, shards: object) -> list[Any] | None:
    """A list of what shards are; None if only their number was given."""
    if isinstance(shards, str | bytes) or (not isinstance(shards, Sequence) and not hasattr(shards, "__index__")):
        raise InvalidArgumentError(f"shards {name}: give their number, or a list of what they are, not {shards!r}")
    return list(shards) if isinstance(shards, Sequence) else None


def whole(name: str, what: str, given: object, least: int, most: int = MAX_SHARDS) -> int:
    try:
        number = operator.index(given)  # type: ignore[arg-type] # that is what is found out
    except TypeError as error:
        raise_interrupt(error)
        number = least - 1
    if not least <= number <= most:
        raise InvalidArgumentError(f"shards {name}: the {what} is {given!r}; it should be {least:,} to {most:,}")
    return number


def digest_of(name: str, items: Sequence[Any]) -> str:
    """What a list of shards is known by to those who compare theirs: its ends, and a digest of all."""
    digest = hashlib.blake2b(digest_size=8)
    for each in items:
        digest.update(_described(name, each).encode() + b"\n")
    return f"{_described(name, items[0])} to {_described(name, items[-1])} ({digest.hexdigest()})"


def _described(name: str, item: object) -> str:
    if isinstance(item, tuple | list):
        return f"({', '.join([_described(name, each) for each in item])})"
    if not isinstance(item, _ITEMS) and not hasattr(item, "__index__"):
        raise InvalidArgumentError(
            f"shards {name}: {item!r} is a {type(item).__name__}, of which other workers cannot be told whether theirs "
            f"is the same; give names, numbers or tuples of them"
        )
    if isinstance(item, os.PathLike):
        return repr(os.fspath(item))
    return repr(item) if isinstance(item, str | bytes | float) else str(operator.index(item))
