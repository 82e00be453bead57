"""Functions that are much alike, made instead of written, and what their arguments have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])


def named(function: _F, name: str, doc: str) -> _F:
    """Returns a function that was made inside another one, with the name and the docstring that ``help`` shows."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def one_of(function: str, **names: Any) -> Any:
    """Returns the value of an argument that has a newer and an older name; ValueError if both are given."""
    given = [value for value in names.values() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{function}: {' and '.join(names)} mean the same; give one of them")
    return given[0] if given else None
