"""Functions that autograd differentiates as a whole, and rules made of theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from autograd.core import primitive_vjps
from autograd.extend import primitive as _primitive

from worker_client.derivatives.registry import Rule, Vjp

_Function = TypeVar("_Function", bound=Callable[..., Any])


def primitive(function: _Function) -> _Function:
    """Makes a function one that autograd differentiates as a whole, by the rule that ``defvjp`` gives it."""
    made: _Function = _primitive(function)
    return made


def of_primitive(primitive: Callable[..., Any], *, with_attributes: bool = False) -> Rule:
    """Returns autograd's rule of one of its primitives.

    Args:
        primitive: Takes the operation's inputs as its arguments.
        with_attributes: Whether it takes the operation's attributes as keyword arguments as well.
    """
    rule: Rule = primitive_vjps[primitive]
    return rule if with_attributes else lambda argnums, ans, args, _: rule(argnums, ans, tuple(args), {})


def calling(call: Callable[..., tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]]) -> Rule:
    """Returns autograd's rule of the primitive that is called in other words.

    Args:
        call: Takes the arguments and keyword arguments of the operation; returns a primitive with its own, among which
            the differentiable ones have the same places.
    """

    def rule(argnums: Sequence[int], ans: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Vjp:
        primitive, positional, named = call(*args, **kwargs)
        found: Vjp = primitive_vjps[primitive](argnums, ans, positional, named)
        return found

    return rule
