"""How functions say what their derivative is. Imports no autograd, which only gradients need."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

Vjp: TypeAlias = Callable[[Any], Iterable[Any]]
"""Given the gradient of the output, returns those of the wanted arguments."""

Rule: TypeAlias = Callable[[Sequence[int], Any, Sequence[Any], Mapping[str, Any]], Vjp]
"""Given the wanted arguments' places, the output, the arguments and keyword arguments, returns what computes it."""


class Selecting:
    """Stands for the rule of functions whose output consists of elements of their float arguments, and zeros."""


@dataclass(frozen=True, slots=True)
class Traced:
    """Stands for the rule that autograd finds by tracing a function in each run.

    Attributes:
        twin: Takes what the function takes, and computes the same by functions of ``autograd.numpy``.
    """

    twin: Callable[..., Any]


class Constant:
    """Stands for the rule of functions through which no gradient passes: rounding, comparison, shapes."""


Derivative: TypeAlias = Rule | Selecting | Traced | Constant

SELECTING: Final = Selecting()
CONSTANT: Final = Constant()

_BY_FUNCTION: Final[dict[Any, Derivative]] = {}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def differentiable(derivative: Derivative) -> Callable[[_Function], _Function]:
    """Returns a decorator that registers how a function, or what a class makes functions of, is differentiated."""

    def register(function: _Function) -> _Function:
        _BY_FUNCTION[function] = derivative
        return function

    return register


def each(*rules: Callable[..., Callable[[Any], Any]] | None) -> Rule:
    """Returns a rule made of one for each argument, as ``autograd.extend.defvjp`` takes them.

    Args:
        *rules: For each argument a function ``(ans, *args)`` that returns a function of the gradient; None where there
            is none. The last one stands for all arguments that follow.
    """

    def rule(argnums: Sequence[int], ans: Any, args: Sequence[Any], _: Mapping[str, Any]) -> Vjp:
        functions = []
        for argnum in argnums:
            maker = rules[min(argnum, len(rules) - 1)]
            if maker is None:
                raise NotImplementedError(f"there is no derivative by argument {argnum}")
            functions.append(maker(ans, *args))
        return lambda g: [function(g) for function in functions]

    return rule


def registered(function: Any) -> Derivative | None:
    """Returns how a function is differentiated, if it or its class was registered."""
    for key in (function, type(function)):
        found = _BY_FUNCTION.get(key) if isinstance(key, Hashable) else None
        if found is not None:
            return found
    return None
