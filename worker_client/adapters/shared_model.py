"""What the shared models of all libraries have in common."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from ps_protocol.not_copied import NotCopied
from worker_client.adapters.shared_arrays import SharedArrays
from worker_client.client import Client
from worker_client.objects.training_report import TrainingReport
from worker_client.optimizers.optimizer import Optimizer
from worker_client.variables.parts import EagerVariable


class SharedModel(
    NotCopied,
    bound_to="a connection of this process",
    instead="connect in the other process, make the model there and share it under the same name",
):
    """A model of this process whose parameters a cluster keeps. As a context manager it is closed at the end.

    One thread at a time may use it.

    Args:
        arrays: Its arrays.
    """

    def __init__(self, arrays: SharedArrays):
        self._arrays = arrays

    @property
    def name(self) -> str:
        """Full name of the scope of its variables."""
        return self._arrays.name

    @property
    def client(self) -> Client:
        """The connection."""
        return self._arrays.client

    @property
    def variables(self) -> Mapping[str, EagerVariable]:
        """Its variables, by the names of the parameters with "/" between their parts."""
        return self._arrays.variables

    @property
    def optimizer(self) -> Optimizer | None:
        """What changes the variables; None if deltas do."""
        return self._arrays.optimizer

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._arrays.is_closed

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step; that of a schedule follows from the count of steps, which is read.

        A number may be set at any time, as ``Optimizer.learning_rate``.
        """
        return self._arrays.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: float) -> None:
        self._arrays.learning_rate = learning_rate

    def training_report(self) -> TrainingReport:
        """Returns how all workers are that train together, as ``Optimizer.training_report``."""
        return self._arrays.training_report()

    def finish(self) -> None:
        """Tells the workers that train together that this one makes no more steps; the next one joins again."""
        self._arrays.finish()

    def close(self) -> None:
        """Lets the model's name and optimizer go; the variables stay. With ``overlap`` it waits for the last step.

        The workers that train together no longer wait for this one, as after ``finish``.
        May be repeated.
        """
        self._arrays.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._arrays.__exit__(kind, error, trace)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} of {len(self.variables)} variables>"
