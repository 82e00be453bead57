"""Finds the rule of a function: registered beside it, by the type of the operation, or autograd's for NumPy's."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final

import autograd.numpy as anp
import numpy as np
from autograd.core import primitive_vjps
from autograd.extend import VJPNode
from autograd.tracer import notrace_primitives, trace_primitives_map

from worker_client.derivatives import arrays, elementwise, embeddings, matrices, networks, reductions, segments
from worker_client.derivatives.registry import CONSTANT, Derivative, Rule, Traced, registered

BY_TYPE: Final[Mapping[str, Derivative]] = {
    **arrays.RULES,
    **elementwise.RULES,
    **embeddings.RULES,
    **matrices.RULES,
    **networks.RULES,
    **reductions.RULES,
    **segments.RULES,
}
"""The rules of operations by their type."""


def find(function: Callable[..., Any], op_type: str) -> Derivative | None:
    """Returns how what a function computes is differentiated; None if nobody has said.

    Args:
        function: An object that is one may say so itself, in an attribute ``derivative``.
        op_type: Type of the operation that calls it.
    """
    own: Derivative | None = getattr(function, "derivative", None)
    if own is not None:
        return own
    return registered(function) or BY_TYPE.get(op_type) or _numpys(function)


def _numpys(function: Any) -> Derivative | None:
    """Returns autograd's rule of a function of NumPy's."""
    primitive = trace_primitives_map.get(function) if isinstance(function, Hashable) else None
    if primitive in primitive_vjps:
        found: Rule = primitive_vjps[primitive]
        return found
    if primitive in notrace_primitives[VJPNode]:
        return CONSTANT
    name = getattr(function, "__name__", "")
    made_of_others = getattr(anp, name, None)
    if primitive is None or made_of_others is primitive or getattr(np, name, None) is not function:
        return None
    return Traced(made_of_others) if callable(made_of_others) else None
