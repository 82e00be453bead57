"""Rules of functions that move, take, put together and sort elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import autograd.numpy as anp
import numpy as np
from autograd.core import primitive_vjps
from autograd.extend import defvjp
from autograd.tracer import getval

from ps_protocol.operations import Array
from worker_client.derivatives.primitives import primitive
from worker_client.derivatives.registry import SELECTING, Derivative, Vjp, differentiable, each

RULES: Final[dict[str, Derivative]] = dict.fromkeys(
    (
        *("Reshape", "Transpose", "ExpandDims", "Squeeze", "Tile", "BroadcastTo"),
        *("Pack", "Unpack", "Split", "SplitV", "DynamicPartition", "DynamicStitch"),
        *("Slice", "StridedSlice", "strided_slice", "GatherV2", "GatherNd", "TensorScatterUpdate"),
        *("Pad", "PadV2", "MirrorPad", "ReverseV2", "ReverseSequence", "Roll"),
    ),
    SELECTING,
)
"""By the type of the operation."""

for _type in [
    "Reshape",
    "Transpose",
    "ExpandDims",
    "Squeeze",
    "Pack",
    "Unpack",
    "Split",
    "SplitV",
    "Tile",
    "Slice",
    "StridedSlice",
    "strided_slice",
    "GatherV2",
    "GatherNd",
    "Pad",
    "PadV2",
    "MirrorPad",
    "BroadcastTo",
    "ReverseV2",
    "ReverseSequence",
    "Roll",
    "DynamicPartition",
    "DynamicStitch",
    "TensorScatterUpdate",
]:
    RULES[_type] = SELECTING

for _function in (np.concatenate, np.stack):  # whose first argument is a list
    differentiable(SELECTING)(_function)

_CONCATENATE: Any = primitive_vjps[anp.concatenate_args]


def _concatenation(argnums: Sequence[int], ans: Any, args: Sequence[Any], _: Mapping[str, Any]) -> Vjp:
    found: Vjp = _CONCATENATE([argnum + 1 for argnum in argnums], ans, (int(args[-1]), *args[:-1]), {})
    return found


RULES["ConcatV2"] = _concatenation
RULES["AddN"] = each(lambda ans, *_: lambda g: g)
RULES["Fill"] = each(None, lambda ans, sizes, value: anp.sum)

# -- in an order ----------------------------------------------------------------------------------


@primitive
def taken_along(array: Array, places: Array, axis: int) -> Array:
    """Returns ``numpy.take_along_axis(array, places, axis)``."""
    return np.take_along_axis(array, places, axis)


@primitive
def put_along(g: Array, places: Array, axis: int, size: int) -> Array:
    """Returns zeros, ``size`` of them along a dimension, with elements put where ``taken_along`` took them from."""
    shape = list(g.shape)
    shape[axis] = size
    result = np.zeros(shape, g.dtype)
    np.put_along_axis(result, places, g, axis)
    return result


defvjp(taken_along, lambda ans, array, places, axis: lambda g: put_along(g, places, axis, anp.shape(array)[axis]))
defvjp(put_along, lambda ans, g, places, axis, size: lambda h: taken_along(h, places, axis))


def _best_rule(_: Sequence[int], ans: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Vjp:
    del kwargs
    return lambda g: [put_along(g[0], ans[1].astype(np.int64), -1, anp.shape(args[0])[-1])]


RULES["TopKV2"] = _best_rule


def sorting_rule(places_of: Callable[..., Array]) -> Callable[..., Vjp]:
    """Returns the rule of sorting, given a function of the same arguments that returns where each element was."""

    def rule(_: Sequence[int], ans: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Vjp:
        del ans, kwargs
        places, axis = places_of(*map(getval, args)), args[1]
        return lambda g: [put_along(g, places, axis, anp.shape(args[0])[axis])]

    return rule


def linspace(start: Any, stop: Any, num: Any, axis: int, dtype: Any) -> Any:
    """Returns numbers at equal distances, as a function that autograd can trace."""
    shares = np.linspace(0, 1, int(num)).reshape(-1, *[1] * max(anp.ndim(start), anp.ndim(stop)))
    return anp.moveaxis(start * (1 - shares) + stop * shares, 0, axis)


# -- at places ------------------------------------------------------------------------------------


def _at(places: Any) -> tuple[Any, ...]:
    return tuple(np.moveaxis(places, -1, 0))


RULES["ScatterNd"] = each(None, lambda ans, places, values, shape: lambda g: g[_at(places)])
RULES["TensorScatterAdd"] = each(
    lambda ans, array, places, values: lambda g: g,
    None,
    lambda ans, array, places, values: lambda g: g[_at(places)],
)
RULES["TensorScatterSub"] = each(
    lambda ans, array, places, values: lambda g: g,
    None,
    lambda ans, array, places, values: lambda g: -g[_at(places)],
)
