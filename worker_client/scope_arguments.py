"""The words in which variable scopes and ``get_variable`` are told what to do."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias


class ReuseMode(enum.Enum):
    """How a scope treats names that exist, beside True (they must exist) and False or None (they must not)."""

    AUTO_REUSE = 1


AUTO_REUSE: Final = ReuseMode.AUTO_REUSE
"""Reuse a variable that exists and create one that does not."""

Reuse: TypeAlias = bool | Literal[ReuseMode.AUTO_REUSE] | None
Initializer: TypeAlias = Any
Partitioner: TypeAlias = Callable[..., Any]
Getter: TypeAlias = Callable[..., Any]


def no_regularizer(_: object) -> None:
    """A regularizer that makes no loss, to leave out the scope's own."""
