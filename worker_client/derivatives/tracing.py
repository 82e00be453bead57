"""Derivatives that autograd finds by tracing a function in each run: of rare functions, and of derivatives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
from autograd.builtins import tuple as traced_tuple
from autograd.core import backward_pass
from autograd.extend import VJPNode, vspace
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.numpy.numpy_vspaces import ArrayVSpace
from autograd.tracer import isbox, new_box

from worker_client.derivatives.registry import Vjp

for _scalar in (ml_dtypes.bfloat16,):  # what a function of one number returns
    ArrayBox.register(_scalar)
    ArrayVSpace.register(_scalar)


class _Depth(threading.local):
    """How many traces of this thread are open. autograd counts those of all threads together, which mixes them up."""

    open = 0


_depth = _Depth()


def traced(
    function: Callable[..., Any],
    argnums: Sequence[int],
    ans: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Vjp:
    """Is the rule of a function that is made of primitives of autograd's."""
    del ans

    def of_chosen(chosen: Any) -> Any:
        filled = list(args)
        for place, argnum in enumerate(argnums):
            filled[argnum] = chosen[place]
        result = function(*filled, **kwargs)
        return traced_tuple(result) if isinstance(result, list | tuple) else result

    chosen = tuple(args[argnum] for argnum in argnums)

    def vjp(g: Any) -> Any:
        _depth.open += 1
        try:
            start = new_box(chosen, _depth.open, VJPNode.new_root())
            end = of_chosen(start)
        finally:
            _depth.open -= 1
        if not isbox(end) or end._trace != start._trace:
            return vspace(chosen).zeros()
        return backward_pass(g, end._node)

    return vjp
