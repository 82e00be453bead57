"""The derivative of functions whose output consists of elements of their arguments, in other places, and zeros.

One rule for all of them: reshaping, slicing, turning, taking, padding, putting together and apart. Where the elements
come from is seen by applying the function: to zeros, of which it may return a view, or to the numbers of the elements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from autograd.extend import defvjp, defvjp_argnum

from ps_protocol.operations import Array
from worker_client.derivatives.primitives import primitive
from worker_client.derivatives.registry import Vjp

Choice: TypeAlias = Callable[[Array], Array | tuple[Array, ...]]
"""Applied to an argument alone, returns the output with zeros where it consists of other arguments."""


def selection(
    function: Callable[..., Any],
    argnums: Sequence[int],
    ans: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Vjp:
    """Is the rule of such a function."""
    del ans

    def choice_of(argnum: int) -> Choice:
        def choice(argument: Array) -> Array | tuple[Array, ...]:
            filled = [_without_elements(each, argument.dtype) for each in args]
            filled[argnum] = argument
            result: Array | tuple[Array, ...] = function(*filled, **kwargs)
            return result

        return choice

    choices = [(choice_of(argnum), np.shape(args[argnum])) for argnum in argnums]
    return lambda g: [brought_back(g, choice, shape) for choice, shape in choices]


def _without_elements(value: Any, wanted: np.dtype[Any]) -> Any:
    """Returns an argument with zeros as elements, if it is one that has elements, and says nothing about places."""
    dtype = getattr(value, "dtype", None)
    holds_floats = dtype is not None and dtype.kind in "fcV"  # ml_dtypes have the kind "V"
    return np.zeros(np.shape(value), wanted) if holds_floats else value


def brought_back(g: Any, choice: Choice, shape: tuple[int, ...]) -> Any:
    """Returns for each element of an argument the sum of the gradients of where it was put.

    Args:
        g: The gradient of the output, or a tuple of several.
        choice: What was done to the argument.
        shape: Of the argument.
    """
    return _back_of_several(choice, shape, *g) if isinstance(g, tuple) else _back(g, choice, shape)


@primitive
def _back(g: Array, choice: Choice, shape: tuple[int, ...]) -> Array:
    return _added([g], choice, shape)


@primitive
def _back_of_several(choice: Choice, shape: tuple[int, ...], *gs: Array) -> Array:
    return _added(gs, choice, shape)


@primitive
def _chosen(argument: Array, choice: Choice, shape: tuple[int, ...]) -> Any:
    del shape
    return choice(argument)


def _added(gs: Sequence[Array], choice: Choice, shape: tuple[int, ...]) -> Array:
    total = np.zeros(shape, gs[0].dtype)
    views = _all(choice(total))
    if all(view.flags.writeable and np.may_share_memory(view, total) for view in views if view.size):
        for view, g in zip(views, gs, strict=True):
            view[...] += g
        return total
    numbers = _all(choice(np.arange(1, total.size + 1).reshape(shape)))
    places = np.concatenate([each.reshape(-1) for each in numbers])
    weights = np.concatenate([np.reshape(g, -1) for g in gs])
    counted = np.bincount(places, weights=weights.astype(np.float64), minlength=total.size + 1)[1:]
    return counted.reshape(shape).astype(total.dtype)


def _all(result: Array | tuple[Array, ...]) -> Iterable[Array]:
    return result if isinstance(result, tuple) else (result,)


defvjp(_back, lambda _, g, choice, shape: lambda h: _chosen(h, choice, shape))
defvjp(_chosen, lambda _, argument, choice, shape: lambda g: brought_back(g, choice, shape))


def _chosen_of_several(argnum: int, ans: Array, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Callable[[Any], Any]:
    del ans, kwargs
    choice, shape = args[:2]
    return lambda h: _chosen(h, lambda argument: choice(argument)[argnum - 2], shape)


defvjp_argnum(_back_of_several, _chosen_of_several)
