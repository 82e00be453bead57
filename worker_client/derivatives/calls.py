"""What a gradient operation calls: the gradient of one of a function's arguments, by whatever rule it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.extend import SparseObject
from autograd.tracer import isbox

from worker_client.derivatives.registry import Derivative, Rule, Selecting, Traced
from worker_client.derivatives.selection import selection
from worker_client.derivatives.tracing import traced


def rule_of(derivative: Derivative, function: Callable[..., Any]) -> Rule:
    """Returns how a function is differentiated as a rule."""
    if isinstance(derivative, Selecting):
        return lambda argnums, ans, args, kwargs: selection(function, argnums, ans, args, kwargs)
    if isinstance(derivative, Traced):
        twin = derivative.twin
        return lambda argnums, ans, args, kwargs: traced(twin, argnums, ans, args, kwargs)
    if not callable(derivative):
        raise TypeError(f"{derivative!r} is no rule")
    return derivative


def gradient_of(rule: Rule, argnum: int, ans: Any, args: Sequence[Any], kwargs: Mapping[str, Any], g: Any) -> Any:
    """Returns the gradient of one argument, in its shape and dtype."""
    (gradient,) = rule((argnum,), ans, args, kwargs)(g)
    argument = args[argnum]
    if type(gradient) is np.ndarray and gradient.dtype == argument.dtype and gradient.shape == argument.shape:
        return gradient
    return _like(gradient, argument)


def _like(gradient: Any, argument: Any) -> Any:
    if isinstance(gradient, SparseObject):  # autograd's for rows that were taken
        gradient = gradient.mut_add(np.zeros(argument.shape, argument.dtype))
    if isbox(gradient):  # it is being traced for a second derivative
        return gradient if gradient.dtype == argument.dtype else gradient.astype(argument.dtype)
    if isbox(argument):
        return anp.asarray(gradient)
    result = np.asarray(gradient, argument.dtype)
    if result.shape != argument.shape:
        raise ValueError(f"a gradient of the shape {list(result.shape)} for a value of {list(argument.shape)}")
    return result
