"""Estimators of scikit-learn that learn by ``partial_fit``, shared by workers; use it as ``ss.sklearn``.

    shared = ss.sklearn.share(SGDClassifier(), "clf")
    for x, y in batches:
        shared.partial_fit(x, y, classes=[0, 1])
    shared.pull().score(held_out_x, held_out_y)

What each worker learns is added to what the others have learned.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
from sklearn.base import is_classifier

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError
from ps_protocol.not_copied import NotCopied
from ps_protocol.operations import Array
from worker_client.adapters.shared_arrays import SharedArrays
from worker_client.adapters.sklearn_estimators import (
    CLASSES,
    check_estimator,
    check_like,
    classes_of,
    first_values,
    learned,
    put,
)
from worker_client.client import Client
from worker_client.default_client import get_default_client
from worker_client.objects.training_report import TrainingReport
from worker_client.optimizers.rules import GradientDescent
from worker_client.variables.parts import EagerVariable

__all__ = ["SharedEstimator", "share"]


class SharedEstimator(
    NotCopied,
    bound_to="a connection of this process",
    instead="connect in the other process, make the estimator there and share it under the same name",
):
    """An estimator whose coefficients a cluster keeps. Made by ``share``.

    One thread at a time may use it. As a context manager it is closed at the end.

    Attributes:
        estimator: The caller's own. Its coefficients change in place.
        client: The connection.
    """

    def __init__(self, estimator: Any, name: str, sync: str | None, client: Client):
        check_estimator(estimator, name)
        self.estimator = estimator
        self.client = client
        self._name = name
        self._sync = sync
        self._arrays: SharedArrays | None = None
        self._deltas: dict[str, Array] = {}
        self._is_closed = False
        own = learned(estimator, name)
        if own:
            self._share({each: array.copy(order="C") for each, array in own.items()}, classes_of(estimator))

    @property
    def variables(self) -> Mapping[str, EagerVariable]:
        """Its variables, as ``coef_`` and ``intercept_``; none before the first ``partial_fit``."""
        return {} if self._arrays is None else self._arrays.variables

    def partial_fit(self, X: Any, y: Any, classes: Any = None, **more: Any) -> Self:  # noqa: N803 - scikit-learn's name
        """Learns from some samples: pulls the shared coefficients, lets the estimator learn, and adds what has changed.

        Afterwards the estimator holds what it has made of them; ``pull`` brings what the others have added meanwhile.
        If the estimator raises an error, the shared coefficients have not changed.

        Args:
            X: Samples, as the estimator takes them.
            y: Their targets.
            classes: All classes that any worker will see; needed with the first call of a classifier that has not
                learned yet, as with scikit-learn.
            **more: As ``sample_weight``, for the estimator's own ``partial_fit``.

        Raises:
            InvalidArgumentError: The classes are missing, or are not those of the other workers; or the cluster has
                another model under the name; or what was learned is not finite.
            ShardscopeError: As of ``read_all``, ``assign_add_all`` and ``Optimizer.apply_gradients``.
        """
        self._check_open()
        if classes is not None:
            more["classes"] = classes
        arrays = self._arrays
        if arrays is not None:
            self.pull(fresh=True)
            self.estimator.partial_fit(X, y, **more)
        else:
            arrays = self._begin(X, y, more)
        own = learned(self.estimator, self._name)
        check_like(own, self._deltas, self.estimator, self._name)
        for name, delta in self._deltas.items():
            before, after = arrays.arrays[name], own[name]
            # A gradient points the other way.
            np.subtract(*((after, before) if self._sync is None else (before, after)), out=delta)
            if not np.isfinite(delta).all():
                raise InvalidArgumentError(
                    f"{self._name}: partial_fit has made {name} infinite or NaN, and nothing was shared of it; scale "
                    f"the samples, or lower the learning rate",
                    variable=name,
                )
        arrays.push(self._deltas, pull=False)
        return self

    def pull(self, *, fresh: bool = True) -> Any:
        """Puts the shared coefficients into the estimator, and returns that.

        Args:
            fresh: Whether to read in any case; as ``ss.numpy``'s.

        Raises:
            FailedPreconditionError: Nothing has been learned yet, or the estimator has other coefficients by now, as
                after ``fit`` with other features.
        """
        self._check_open()
        if self._arrays is None:
            raise FailedPreconditionError(f"{self._name} has not learned yet; call partial_fit first")
        self._arrays.pull(fresh=fresh)
        put(self.estimator, self._arrays.arrays, self._name)
        return self.estimator

    def _begin(self, samples: Any, targets: Any, more: Mapping[str, Any]) -> SharedArrays:
        """Learns from the first samples, so that there are arrays to share; on what the others have, if they have."""
        if is_classifier(self.estimator) and more.get("classes") is None:
            raise InvalidArgumentError(
                f"{self._name}: the first partial_fit of a classifier needs classes=, with all that any worker will "
                f"see, as classes=np.unique(all_targets)"
            )
        trial = copy.deepcopy(self.estimator)  # which learns as the estimator would, to see what there is to share
        trial.partial_fit(samples, targets, **more)
        begun_with = first_values(learned(trial, self._name))
        if not begun_with:
            raise InvalidArgumentError(f"{self._name}: {type(trial).__name__} has no coef_ after partial_fit")
        arrays = self._share(begun_with, classes_of(trial))
        self.estimator.partial_fit(samples, targets, **more)  # so that it has arrays
        self.pull(fresh=False)
        self.estimator.partial_fit(samples, targets, **more)
        return arrays

    def _share(self, values: dict[str, Array], classes: Array | None) -> SharedArrays:
        optimizer = None
        if self._sync is not None:
            optimizer = GradientDescent(1.0, name=f"{self._name.replace('/', '_')}_deltas", sync=self._sync)
        arrays = SharedArrays(
            self.client,
            self._name,
            values,
            optimizer=optimizer,
            untrained={} if classes is None else {CLASSES: classes.copy()},
            what="what is learned,",
        )
        if classes is not None and not np.array_equal(arrays.arrays[CLASSES], classes):
            arrays.close()
            raise InvalidArgumentError(
                f"{arrays.name} tells apart the classes {arrays.arrays[CLASSES].tolist()}, and this one "
                f"{classes.tolist()}; give all workers the same classes="
            )
        self._arrays = arrays
        self._deltas = {name: np.empty_like(array) for name, array in values.items()}
        return arrays

    def finish(self) -> None:
        """With ``sync``, tells the other workers that this one learns no more; the next ``partial_fit`` joins again.

        Raises:
            FailedPreconditionError: There is no ``sync``.
        """
        self._check_sync("finish")
        if self._arrays is not None:
            self._arrays.finish()

    def training_report(self) -> TrainingReport:
        """With ``sync``, returns how all workers are that learn together.

        Raises:
            FailedPreconditionError: There is no ``sync``, or nothing has been learned yet.
        """
        self._check_sync("training_report")
        if self._arrays is None:
            raise FailedPreconditionError(f"{self._name} has not learned yet; call partial_fit first")
        return self._arrays.training_report()

    def close(self) -> None:
        """Lets the name go; the variables stay, and the estimator as it is. May be repeated."""
        self._is_closed = True
        if self._arrays is not None:
            self._arrays.close()

    def _check_sync(self, asked: str) -> None:
        if self._sync is None:
            raise FailedPreconditionError(
                f"{self._name} is shared without sync, and so has no {asked}; give it to share(), as sync='bsp'"
            )

    def _check_open(self) -> None:
        if self._is_closed:
            raise FailedPreconditionError(f"{self._name} is closed; share the estimator again")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SharedEstimator {self._name!r} of {self.estimator!r}>"


def share(estimator: Any, name: str, *, sync: str | None = None, client: Client | None = None) -> SharedEstimator:
    """Has the coefficients of an estimator be those of a cluster, to which all workers add what they learn.

    Any estimator with ``partial_fit`` will do that keeps ``coef_`` and ``intercept_``, as ``SGDClassifier``,
    ``SGDRegressor`` and ``Perceptron``, or ``coefs_`` and ``intercepts_``, as ``MLPClassifier``. The count of samples,
    ``t_``, from which the learning rate follows, is that of all workers. What else it keeps, as the moments of an MLP's
    Adam, is each worker's own.

    Args:
        estimator: It may have learned already; if this worker comes first, the cluster begins with its coefficients.
            One that has not begins with zeros, or an MLP with what its first samples have made of it.
        name: A scope below the current variable scope, with the variables ``coef_`` and so on under it.
        sync: None: what a worker has learned is added at once. Else as the argument of optimizers: "bsp", say, adds in
            rounds, in each of which the workers learn from the same coefficients, and the mean of what they learn is
            added.
        client: The connection; by default the default one.

    Raises:
        InvalidArgumentError: It has no ``partial_fit``, or no coefficients, or averages them; or, where it has learned
            already, the cluster has another model under the name.
    """
    return SharedEstimator(estimator, name, sync, client or get_default_client())
