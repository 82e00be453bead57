"""One variable as the store holds it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ps_protocol.errors import FailedPreconditionError
from ps_protocol.operations import Array, Result, VariableSpec
from ps_server.memory.lent_arrays import LendableArray
from ps_server.memory.spare_arrays import SMALL_BYTES


@dataclass(frozen=True, slots=True)
class VariableImage:
    """One variable, as a snapshot or a backup gets it.

    Attributes:
        spec: What is fixed about it.
        value: None if it has not been initialised. Read-only: a lent value, which no update changes.
        version: Updates applied since it was initialised.
        declared: The spec that declarations must agree with, if the value has another layout now.
    """

    spec: VariableSpec
    value: Array | None
    version: int
    declared: VariableSpec | None = None


class StoredVariable:
    """A spec, a value and its version. Its users take the lock.

    Args:
        spec: What the variable is like now.
        value: The initial value, in C order and the variable's own; None for none yet.
        declared: The spec that declarations must agree with; by default the same.

    Attributes:
        declared: As above; fixed.
        spec: As the value is now, which only a ``Replace`` changes.
    """

    __slots__ = (
        "_lendable",
        "declared",
        "lock",
        "position",
        "reading",
        "relaid_condition",
        "size_bytes",
        "spec",
        "value",
        "version",
    )

    def __init__(self, spec: VariableSpec, value: Array | None, declared: VariableSpec | None = None):
        self.declared = declared or spec
        # Another object each time that it changes. Those who look at it without the lock look again with the lock held
        # whether it is still the same one.
        self.spec = spec
        self.size_bytes = spec.size_bytes
        # guards: spec, size_bytes, version, value and its elements, reading, what of it is lent, and position. Whether
        # `value` is None may be read without it, since a value never becomes None. Re-entrant: a batch may hold it
        # around its operations.
        self.lock = threading.RLock()
        self.value = value
        self.version = 0
        self.position = 0  # of the newest record that is about it, on a task that keeps records
        # A version, and what its value says to those who read it as something else than numbers; None if nobody has.
        self.reading: tuple[int, Any] | None = None
        self._lendable: LendableArray | None = None
        # Of `lock`, for those who wait until a shared object has another state; made by the first of them.
        self.relaid_condition: threading.Condition | None = None

    # -- with the lock held -------------------------------------------------------------------

    def lend(self) -> Array:
        """Returns a read-only view of the value, which must be there and not empty."""
        if self._lendable is None:
            self._lendable = LendableArray(self.initialized_value())
        return self._lendable.lend()

    @property
    def is_lent(self) -> bool:
        """Whether a view of the value is held, so that its elements must not change."""
        return self._lendable is not None and self._lendable.is_lent

    def replace(self, value: Array) -> LendableArray:
        """Puts another array in the place of the value, which must be there; returns the old one, which may be lent."""
        before = self._lendable or LendableArray(self.initialized_value())
        self.value = value
        self._lendable = None
        return before

    def relaid(self, spec: VariableSpec, value: Array, *, wakes: bool = True) -> LendableArray | None:
        """Gives it a value of another layout; returns the old one, if there was one.

        Args:
            spec: The layout.
            value: The value.
            wakes: Whether those who wait for another state are to look at this one.
        """
        before = None
        if self.value is None:
            self.value = value
        else:
            before = self.replace(value)
        self.spec, self.size_bytes = spec, spec.size_bytes
        if wakes:
            self.wake_waiting()
        return before

    def wake_waiting(self) -> None:
        """Has those look again who wait for another state."""
        if self.relaid_condition is not None:
            self.relaid_condition.notify_all()

    def initialized_value(self) -> Array:
        """Returns the value; FailedPreconditionError if there is none."""
        if self.value is None:
            raise uninitialized(self.spec)
        return self.value

    def image(self) -> VariableImage:
        """As it is now; a large value is lent, not copied."""
        value = self.value
        if value is not None:
            value = value.copy() if self.size_bytes <= SMALL_BYTES else self.lend()
        return VariableImage(self.spec, value, self.version, None if self.declared is self.spec else self.declared)

    def updated(self) -> Result:
        """Counts an update; returns the result of one."""
        self.version += 1
        return Result(self.version, True)

    # -- without it ---------------------------------------------------------------------------

    def result(self, *, with_spec: bool) -> Result:
        """Version and state."""
        with self.lock:
            return Result(self.version, self.value is not None, None, self.spec if with_spec else None)


class HeldLocks:
    """A context that holds the locks of some variables; entered once.

    Args:
        variables: In the order of their names, in which their locks are taken.
    """

    __slots__ = ("_num_held", "_variables")

    def __init__(self, variables: Sequence[StoredVariable]):
        self._variables, self._num_held = variables, 0

    def __enter__(self) -> Sequence[StoredVariable]:
        try:
            for each in self._variables:
                each.lock.acquire()
                self._num_held += 1
        except BaseException:
            self.__exit__()
            raise
        return self._variables

    def __exit__(self, *_error: object) -> None:
        for each in self._variables[: self._num_held]:
            each.lock.release()


def uninitialized(spec: VariableSpec) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"variable {spec} has not been initialised; run its initializer (initialize(), or "
        f"global_variables_initializer() in a session), or assign to it first",
        variable=spec.name,
    )
