"""Which models this process shares, so that no name and no optimizer belongs to two of them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.forks import new_lock
from ps_protocol.weak_table import WeakTable
from worker_client.client import Client
from worker_client.optimizers.optimizer import Optimizer


class Model(Protocol):
    """A model that is shared."""

    @property
    def name(self) -> str:
        """Its full name in the cluster."""
        ...

    @property
    def optimizer(self) -> Optimizer | None:
        """What trains it."""
        ...


_Reference: TypeAlias = Callable[[], Model | None]


class SharedModels:
    """The models that are shared and not closed, without keeping them alive. Thread-safe."""

    def __init__(self) -> None:
        self._lock = new_lock()  # guards: _by_client, and check and change of _by_optimizer together
        self._by_client: WeakTable[Client, dict[str, _Reference]] = WeakTable()
        self._by_optimizer: WeakTable[Optimizer, _Reference] = WeakTable()

    def enter(self, model: Model, client: Client) -> None:
        """Takes a model up.

        Raises:
            InvalidArgumentError: The connection shares another one of its name, or its optimizer trains another one.
        """
        with self._lock:
            there = self._by_client.setdefault(client, {})
            others = [other for other in [each() for each in there.values()] if other is not None]
            if [other for other in others if other.name == model.name]:
                raise InvalidArgumentError(
                    f"this connection shares a model called {model.name} already; share the other one under another "
                    f"name, or close() the first"
                )
            optimizer = model.optimizer
            if optimizer is not None:
                trained = self._by_optimizer.get(optimizer) or _gone
                for other in [*filter(None, [trained()]), *others]:
                    _check_not_trained_by(optimizer, model, other)
                self._by_optimizer.update({optimizer: weakref.ref(model)})
            there[model.name] = weakref.ref(model)

    def leave(self, model: Model, client: Client) -> None:
        """Lets a model's name and optimizer go, if they are its own. May be repeated."""
        with self._lock:
            there = self._by_client.get(client)
            if there is not None and there.get(model.name, _gone)() is model:
                del there[model.name]
            optimizer = model.optimizer
            if optimizer is not None and (self._by_optimizer.get(optimizer) or _gone)() is model:
                self._by_optimizer.update({optimizer: _gone})


def _check_not_trained_by(optimizer: Optimizer, model: Model, other: Model) -> None:
    theirs = other.optimizer
    if theirs is None or (theirs is not optimizer and (theirs.name != optimizer.name or not optimizer.sync)):
        return
    what = f"the optimizer {optimizer.name}" if theirs is optimizer else f"an optimizer of the name {optimizer.name}"
    raise InvalidArgumentError(
        f"{what} trains the model {other.name}, and was given to {model.name} too; make another one, of another name, "
        f"as with name='{optimizer.name}_{model.name.rpartition('/')[2]}'"
    )


def _gone() -> None:
    """A reference to nothing."""


SHARED_MODELS: Final = SharedModels()
"""Those of this process."""
