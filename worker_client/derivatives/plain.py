"""Short ways for plain arrays, which are all that a session works with unless a derivative is differentiated again.

autograd's functions look for boxes among their arguments in each call, which takes longer than NumPy needs for a small
array. What is here does the same without that where there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.numpy.numpy_vjps import unbroadcast
from autograd.tracer import isbox


def namespace(*values: Any) -> Any:
    """Returns the module whose functions suit some values: ``numpy``, or ``autograd.numpy`` if one is traced."""
    return anp if any(isbox(each) for each in values) else np


def fitted(argument: Any, gradient: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Returns a function of the gradient of the output, whose result is brought to the shape of an argument.

    Args:
        argument: Which may have been broadcast.
        gradient: Computes the gradient of what it was broadcast to.
    """
    return lambda g: summed_to(argument, gradient(g))


def summed_to(argument: Any, gradient: Any) -> Any:
    """Returns a gradient summed over the dimensions along which an argument was broadcast."""
    if isbox(gradient) or isbox(argument):
        return unbroadcast(gradient, anp.metadata(argument))
    shape = argument.shape
    if gradient.shape == shape:
        return gradient
    added = gradient.ndim - len(shape)
    axes = [*range(added), *(at + added for at, size in enumerate(shape) if size == 1)]
    return np.add.reduce(gradient, axis=tuple(axes)).reshape(shape)
