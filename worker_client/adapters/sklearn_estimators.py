"""What scikit-learn's estimators learn by ``partial_fit``, as arrays with names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from ps_protocol.dtype_traits import TRAINABLE_DTYPES
from ps_protocol.errors import DTypeMismatchError, FailedPreconditionError, InvalidArgumentError
from ps_protocol.operations import Array

_LINEAR: Final = ("coef_", "intercept_")
_LAYERS: Final = ("coefs_", "intercepts_")
_COUNT: Final = "t_"
"""How many samples it has seen, from which the learning rate follows."""

_COUNT_AT_FIRST: Final = 1.0
CLASSES: Final = "classes_"


def check_estimator(estimator: Any, name: str) -> None:
    """Makes sure that an estimator can be shared.

    Raises:
        InvalidArgumentError: It learns all at once, or keeps averages beside its coefficients.
    """
    kind = type(estimator).__name__
    if isinstance(estimator, type):
        raise InvalidArgumentError(f"{name}: an estimator is shared, not its class; give {estimator.__name__}()")
    if not callable(getattr(estimator, "partial_fit", None)):
        raise InvalidArgumentError(
            f"{name}: {kind} has no partial_fit, so that workers cannot learn from a part at a time; take one that "
            f"has, as SGDClassifier, SGDRegressor, Perceptron, MLPClassifier or MLPRegressor"
        )
    if getattr(estimator, "average", False):
        raise InvalidArgumentError(
            f"{name}: {kind}(average={estimator.average!r}) keeps averages beside what it learns, which are not "
            f"shared; make it with average=False"
        )


def learned(estimator: Any, name: str) -> dict[str, Array]:
    """Returns what the estimator has learned by names, as ``coef_`` or ``coefs_/0``; nothing before it has learned.

    These are its own arrays, but the count of samples, ``t_``.

    Raises:
        InvalidArgumentError: It has learned, but neither coefficients nor layers of them.
        FailedPreconditionError: They are sparse.
        DTypeMismatchError: They are not of floats that the cluster can add to.
    """
    if all(hasattr(estimator, each) for each in _LAYERS):
        found = {f"{kind}/{number}": layer for kind in _LAYERS for number, layer in enumerate(getattr(estimator, kind))}
    elif all(hasattr(estimator, each) for each in _LINEAR):
        found = {each: getattr(estimator, each) for each in _LINEAR}
    else:
        own = [each for each in vars(estimator) if each.endswith("_") and not each.startswith("_")]
        if own:
            raise InvalidArgumentError(
                f"{name}: {type(estimator).__name__} learns {', '.join(own)}, and what is shared are coef_ and "
                f"intercept_, or coefs_ and intercepts_; take a linear estimator or an MLP"
            )
        return {}
    for path, array in found.items():
        if not isinstance(array, np.ndarray):
            raise FailedPreconditionError(
                f"{name}: {path} is a {type(array).__name__}; call densify() of the estimator first", variable=path
            )
        if array.dtype not in TRAINABLE_DTYPES:
            raise DTypeMismatchError(f"{name}: {path} holds {array.dtype}; floats are shared", variable=path)
    if hasattr(estimator, _COUNT):
        found[_COUNT] = np.array(getattr(estimator, _COUNT), np.float64)
    return found


def put(estimator: Any, values: Mapping[str, Array], name: str) -> None:
    """Has an estimator be as if it had learned something.

    Args:
        estimator: It has learned.
        values: By the names of ``learned``.
        name: Of the model.

    Raises:
        FailedPreconditionError: It has other coefficients by now. Nothing was put into it.
        ShardscopeError: As of ``learned``.
    """
    there = learned(estimator, name)
    check_like(there, values, estimator, name)
    for path, own in there.items():
        if path == _COUNT:
            setattr(estimator, _COUNT, type(getattr(estimator, _COUNT))(values[path]))
        else:
            np.copyto(own, values[path])


def check_like(own: Mapping[str, Array], values: Mapping[str, Array], estimator: Any, name: str) -> None:
    """Makes sure that an estimator still has what is shared of it.

    Args:
        own: What it has, as ``learned`` returns it.
        values: What is shared, perhaps with the classes.
        estimator: The estimator.
        name: Of the model.

    Raises:
        FailedPreconditionError: It has something else.
    """
    shared = {path: array.shape for path, array in values.items() if path != CLASSES}
    if {path: array.shape for path, array in own.items()} == shared:
        return
    path = next((each for each in shared if each not in own or own[each].shape != shared[each]), "")
    is_now = f"{path} is {list(own[path].shape)}, not {list(shared[path])}" if path in own else f"it has no {path}"
    raise FailedPreconditionError(
        f"{name}: {type(estimator).__name__} is no longer like what is shared: {is_now if path else 'it has more'}, as "
        f"after fit(); share it under another name, or one like that which was shared"
    )


def classes_of(estimator: Any) -> Array | None:
    """Returns the classes that a classifier tells apart, text as UTF-8; None of others."""
    found = getattr(estimator, CLASSES, None)
    if found is None:
        return None
    classes: Array = np.asarray(found)
    if classes.dtype.kind in "biuf":
        return classes.copy()
    encoded: Array = np.char.encode(classes.astype(str), "utf-8")
    return encoded


def first_values(learned_first: Mapping[str, Array]) -> dict[str, Array]:
    """Returns what the cluster begins with, given what an estimator has made of its first batch.

    A linear one begins with zeros. The layers of a net begin with random numbers that are gone by then; so the cluster
    begins with what the first batch has made of them.
    """
    if "coef_" not in learned_first:
        return {name: np.array(array, order="C") for name, array in learned_first.items()}
    found = {name: np.zeros_like(array, order="C") for name, array in learned_first.items()}
    if _COUNT in found:
        found[_COUNT][...] = _COUNT_AT_FIRST
    return found
