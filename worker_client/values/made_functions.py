"""Functions that are much alike, made instead of written, and what their arguments have in common."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

_F = TypeVar("_F", bound=Callable[..., Any])


def named(function: _F, name: str, doc: str) -> _F:
    """Returns a function that was made inside another one, with the name and the docstring that ``help`` shows."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def with_body(body: Callable[[dict[str, Any]], Any]) -> Callable[[_F], _F]:
    """Gives a function that is only a signature and a docstring its body.

    Signature and docstring stay as written, for users and for type checkers.

    Args:
        body: Returns what the function returns. Gets the arguments by their names, defaults filled in.
    """

    def made(declared: _F) -> _F:
        signature = inspect.signature(declared)

        @functools.wraps(declared)
        def function(*args: Any, **kwargs: Any) -> Any:
            declared(*args, **kwargs)  # does nothing, but raises Python's own error where an argument is missing
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            return body(given.arguments)

        return cast(_F, function)

    return made


def one_of(function: str, **names: Any) -> Any:
    """Returns the value of an argument that has a newer and an older name; ValueError if both are given."""
    given = [value for value in names.values() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{function}: {' and '.join(names)} mean the same; give one of them")
    return given[0] if given else None
