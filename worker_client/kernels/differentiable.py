"""Gives functions of arrays their derivatives, by the rules of the library autograd.

A function marked ``differentiable`` is one of autograd's primitives: called with arrays it only computes, and whoever
takes gradients finds the rules that ``derivatives`` gave it. The rules call such functions and ``autograd.numpy``
themselves, so that second derivatives follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

from autograd.extend import defvjp, primitive

Function = TypeVar("Function", bound=Callable[..., Any])

Rule: TypeAlias = Callable[..., Callable[[Any], Any]]
"""Is given the result and the arguments; returns what makes the gradient of an argument of that of the result."""


def differentiable(function: Function) -> Function:
    """Marks a function of arrays as one that has derivatives of its own."""
    return cast(Function, primitive(function))


def derivatives(function: Callable[..., Any], *rules: Rule | None) -> None:
    """Gives a differentiable function its derivatives.

    Args:
        function: Which.
        rules: One for each argument that is an array, from the first on; None for one without derivative.
    """
    defvjp(function, *rules)
