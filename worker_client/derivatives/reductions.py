"""Rules of sums, products and extremes over dimensions, and of running ones along a dimension."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import autograd.numpy as anp
import numpy as np
from autograd.tracer import getval, isbox, trace_primitives_map

from worker_client.derivatives.elementwise import quotient
from worker_client.derivatives.plain import namespace
from worker_client.derivatives.primitives import calling
from worker_client.derivatives.registry import Derivative, Rule, Vjp, each

RULES: Final[dict[str, Derivative]] = {}
"""By the type of the operation."""


def _reducing(primitive: Callable[..., Any]) -> Rule:
    def call(array: Any, axes: Any, **attributes: Any) -> tuple[Callable[..., Any], Any, Mapping[str, Any]]:
        return primitive, (array,), {"axis": _axes(axes), "keepdims": attributes["keep_dims"]}

    return calling(call)


def _spreading(primitive: Callable[..., Any], *, is_mean: bool) -> Rule:
    """Returns autograd's rule of a sum or a mean, and for plain arrays a shorter way to the same."""
    traced = _reducing(primitive)

    def rule(argnums: Sequence[int], ans: Any, args: Sequence[Any], attributes: Mapping[str, Any]) -> Vjp:
        array = args[0]
        if isbox(array):
            return traced(argnums, ans, args, attributes)

        def vjp(g: Any) -> list[Any]:
            if isbox(g):
                return list(traced(argnums, ans, args, attributes)(g))
            part = g / max(1, array.size // max(1, g.size)) if is_mean else g
            return [np.broadcast_to(_with_dimensions(part, array, args[1]), array.shape)]

        return vjp

    return rule


def _axes(axes: Any) -> tuple[int, ...]:
    return tuple(np.ravel(axes).tolist())


def _with_dimensions(reduced: Any, array: Any, axes: Any) -> Any:
    """Returns what was reduced with its dimensions, of size 1."""
    shape = np.shape(array)
    at = {axis % len(shape) for axis in _axes(axes)}
    return namespace(reduced).reshape(reduced, [1 if axis in at else size for axis, size in enumerate(shape)])


def _but_for(array: Any, axes: Any) -> Any:
    """Returns for each element the product of all others over some dimensions, right also where there are zeros."""
    at = [axis % anp.ndim(array) for axis in _axes(axes)]
    rest = [axis for axis in range(anp.ndim(array)) if axis not in at]
    order = rest + at
    turned = anp.transpose(array, order)
    lines = anp.reshape(turned, (*anp.shape(turned)[: len(rest)], -1))
    before = _products_before(lines)
    behind = _products_before(lines[..., ::-1])[..., ::-1]
    found = anp.reshape(before * behind, anp.shape(turned))
    return anp.transpose(found, np.argsort(order))


def _products_before(lines: Any) -> Any:
    """Returns for each element the product of those before it along the last dimension."""
    running = anp.ones(anp.shape(lines)[:-1], lines.dtype)
    found = []
    for place in range(anp.shape(lines)[-1]):
        found.append(running)
        running = running * lines[..., place]
    return anp.stack(found, axis=-1) if found else lines


def _product_vjp(ans: Any, array: Any, axes: Any) -> Callable[[Any], Any]:
    def vjp(g: Any) -> Any:
        has_zeros = bool(np.any(np.equal(getval(array), 0)))
        others = _but_for(array, axes) if has_zeros else _with_dimensions(ans, array, axes) / array
        return _with_dimensions(g, array, axes) * others

    return vjp


RULES["Sum"] = _spreading(anp.sum, is_mean=False)
RULES["Mean"] = _spreading(trace_primitives_map[np.mean], is_mean=True)
RULES["Max"] = _reducing(anp.max)
RULES["Min"] = _reducing(anp.min)
RULES["Prod"] = each(_product_vjp)
RULES["EuclideanNorm"] = each(lambda ans, x, axes: lambda g: x * _with_dimensions(g / ans, x, axes))
RULES["L2Loss"] = each(lambda ans, x: lambda g: g * x)


# -- running ones ---------------------------------------------------------------------------------


def _running_sum(array: Any, axis: int, exclusive: bool, backwards: bool) -> Any:
    line = anp.moveaxis(array, axis, 0)
    line = line[::-1] if backwards else line
    total = anp.cumsum(line, axis=0)
    total = total - line if exclusive else total
    return anp.moveaxis(total[::-1] if backwards else total, 0, axis)


def _sum_rule(_: Any, ans: Any, args: Any, kwargs: Mapping[str, Any]) -> Callable[[Any], Any]:
    del ans
    axis, exclusive, backwards = int(args[1]), kwargs["exclusive"], kwargs["reverse"]
    return lambda g: [_running_sum(g, axis, exclusive, not backwards)]


def _product_rule(_: Any, ans: Any, args: Any, kwargs: Mapping[str, Any]) -> Callable[[Any], Any]:
    axis, exclusive, backwards = int(args[1]), kwargs["exclusive"], kwargs["reverse"]
    return lambda g: [quotient(_running_sum(g * ans, axis, exclusive, not backwards), args[0])]


RULES["Cumsum"] = _sum_rule
RULES["Cumprod"] = _product_rule
