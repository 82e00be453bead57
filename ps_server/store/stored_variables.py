"""The table of one ps task's variables, by name."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np

from ps_protocol.errors import NotFoundError, ResourceExhaustedError
from ps_protocol.operation_kinds import KINDS
from ps_protocol.operations import Array, PsOperation, VariableSpec
from ps_server.memory.byte_budget import ByteBudget, readable_bytes
from ps_server.memory.lent_arrays import LendableArray
from ps_server.store.stored_variable import HeldLocks, StoredVariable, VariableImage


class StoredVariables:
    """Finds variables, counts their memory, and takes and restores their images. Thread-safe, but for ``restore``.

    Variables are added and never removed.

    Args:
        memory_limit_bytes: The most that the values may take together; 0 for no limit.

    Attributes:
        memory: What is counted for the variables.
    """

    def __init__(self, memory_limit_bytes: int = 0):
        self.memory = ByteBudget(memory_limit_bytes)
        # guards: _variables. A single look-up is atomic and done without it.
        self._lock = threading.Lock()
        self._variables: dict[str, StoredVariable] = {}

    def __len__(self) -> int:
        return len(self._variables)

    def get(self, name: str) -> StoredVariable | None:
        """The variable, or None if there is none."""
        return self._variables.get(name)

    def find(self, name: str) -> StoredVariable:
        """The variable; NotFoundError if there is none."""
        variable = self._variables.get(name)
        if variable is None:
            raise NotFoundError(
                f"variable {name} does not exist here; declare it first, or check its name and ps task", variable=name
            )
        return variable

    def find_all(self, operation: PsOperation) -> list[StoredVariable]:
        """The variable that an operation is about, then the others it works on; NotFoundError if one is missing."""
        found = [self.find(operation.name)]
        others = KINDS[type(operation)].others
        for name in others(operation) if others is not None else ():
            variable = self._variables.get(name)
            if variable is None:
                raise NotFoundError(
                    f"variable {operation.name}: the operation also works on {name}, which does not exist on this ps "
                    f"task; declare the optimizer for the variable first",
                    variable=operation.name,
                )
            found.append(variable)
        return found

    def by_name(self) -> list[StoredVariable]:
        """All of them, in the order of their names."""
        with self._lock:
            variables = list(self._variables.values())
        return sorted(variables, key=lambda each: each.spec.name)

    def names(self) -> list[str]:
        """Of all of them, the one that was declared last at the end."""
        with self._lock:
            return list(self._variables)

    def take_memory(self, spec: VariableSpec, more_bytes: int | None = None) -> None:
        """Counts the memory of a variable, or what it needs more; ResourceExhaustedError if there is not enough."""
        if not self.memory.try_take(spec.size_bytes if more_bytes is None else more_bytes):
            raise ResourceExhaustedError(
                f"variable {spec} needs {readable_bytes(spec.size_bytes)}, but of the memory limit of "
                f"{readable_bytes(self.memory.limit_bytes)} {readable_bytes(self.memory.used_bytes)} are used; raise "
                f"--memory-limit, add ps tasks, or partition the variable over them",
                variable=spec.name,
                retryable=False,
            )

    def add(self, variable: StoredVariable) -> None:
        """Adds a variable whose memory has been counted; all threads see it from here on."""
        with self._lock:
            self._variables[variable.spec.name] = variable

    def relayout(
        self, variable: StoredVariable, spec: VariableSpec, value: Array, *, wakes: bool = True
    ) -> LendableArray | None:
        """With its lock held, gives a variable a value of a layout, and counts its memory; returns the value before.

        ``wakes`` says whether those who wait for another state of it are to look at this one.

        Raises:
            ResourceExhaustedError: The memory limit would be exceeded; nothing changed.
        """
        more_bytes = spec.size_bytes - variable.size_bytes
        if more_bytes > 0:
            self.take_memory(spec, more_bytes)
        replaced = variable.relaid(spec, value, wakes=wakes)
        if more_bytes < 0:
            self.memory.give_back(-more_bytes)
        return replaced

    # -- for the log --------------------------------------------------------------------------

    def locked(self, names: Iterable[str]) -> HeldLocks:
        """Returns a context of those that exist, which holds their locks, taken in the order of their names."""
        return HeldLocks([self._variables[name] for name in sorted(names) if name in self._variables])

    def newest_position(self, names: Iterable[str]) -> int:
        """Position of the newest record that is about any of the variables."""
        found = (self._variables.get(name) for name in names)
        return max((variable.position for variable in found if variable is not None), default=0)

    def images(self) -> tuple[VariableImage, ...]:
        """All variables by name; called while nothing changes them. Large values are lent, not copied."""
        images = []
        for variable in self.by_name():
            with variable.lock:
                images.append(variable.image())
        return tuple(images)

    def put(self, image: VariableImage, position: int) -> None:
        """Gives a variable another value and version, or makes it; other threads may read meanwhile, not update.

        The memory of the image has been counted, and its array belongs to the store. What agrees with declarations
        stays: an existing variable keeps how it was declared. Without a value in the image it also keeps its own.
        """
        variable = self._variables.get(image.spec.name)
        if variable is None:
            variable = StoredVariable(image.spec, image.value, image.declared)
            variable.version, variable.position = image.version, position
            self.add(variable)
            return
        size_bytes, replaced = image.spec.size_bytes, None
        with variable.lock:
            if image.value is not None:
                size_bytes = variable.size_bytes
                # Another object, by which those who look at it without the lock notice that the value is another one.
                spec = replace(image.spec, optimizer=variable.spec.optimizer)
                replaced = variable.relaid(spec, image.value)
                variable.position = position
                # Never one that it has had: who has seen that must not take the value of before for this one.
                variable.version = max(image.version, variable.version + 1)
        self.memory.give_back(size_bytes)
        del replaced

    def empty(self, object_kinds: Collection[str], position: int) -> None:
        """Gives all variables of some object kinds nothing but zeros, as they were declared; as ``put``."""
        for variable in self.by_name():
            if variable.declared.object_kind in object_kinds and variable.value is not None:
                declared = variable.declared
                with variable.lock:
                    # Another object, by which those who look at it without the lock notice it.
                    replaced = self.relayout(variable, replace(declared), np.zeros(declared.shape, declared.dtype))
                    variable.version += 1
                    variable.position = position
                del replaced

    def restore(self, image: VariableImage) -> None:
        """Makes a variable from an image; the image's array becomes its value.

        Raises:
            ResourceExhaustedError: The memory limit would be exceeded.
        """
        self.take_memory(image.spec)
        variable = StoredVariable(image.spec, image.value, image.declared)
        variable.version = image.version
        self.add(variable)
