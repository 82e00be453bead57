"""The variables of a task whose state survives its process: declarations are noted, images taken and restored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import numpy as np

from ps_protocol.errors import NotFoundError
from ps_protocol.initializer_spec import InitializerSpec
from ps_protocol.operations import Array, Declare, Initialize, map_tensors, tensor_bytes
from ps_server.records import Declared
from ps_server.spare_arrays import SMALL_BYTES
from ps_server.state_image import VariableImage
from ps_server.stored_variable import StoredVariable
from ps_server.variable_store import VariableStore

NoteRecord = Callable[[Declared, int], int]
"""Appends a record of about so many bytes to the log, and returns its position."""

_DECLARATION_BYTES: Final = 256


def _note_nothing(_record: Declared, _size_bytes: int) -> int:
    return 0


class DurableStore(VariableStore):
    """A ``VariableStore`` that appends its declarations to a log and knows which record each variable stands at.

    Thread-safe like that, but for ``restore``, ``set_position`` and ``note``, which are used before anybody else is
    there. ``locked`` holds the locks of several variables together, taken in the order of their names; nobody waits for
    the gate of a name meanwhile.

    Attributes:
        note: Appends the record of a declaration; called with the locks of the variable held.
    """

    note: NoteRecord = staticmethod(_note_nothing)

    @contextmanager
    def locked(self, names: Iterable[str]) -> Iterator[list[StoredVariable]]:
        """Holds the locks of those of the variables that exist; yields them."""
        variables = [self._variables[name] for name in sorted(names) if name in self._variables]
        with ExitStack() as locks:
            for variable in variables:
                locks.enter_context(variable.lock)
            yield variables

    def newest_position(self, names: Iterable[str]) -> int:
        """Position of the newest record that is about any of the variables."""
        found = (self._variables.get(name) for name in names)
        return max((variable.position for variable in found if variable is not None), default=0)

    def set_position(self, name: str, position: int) -> None:
        """Notes which record a variable stands at."""
        self._find(name).position = position

    def is_initialized(self, name: str) -> bool:
        """Whether there is such a variable and it has a value."""
        variable = self._variables.get(name)
        return variable is not None and variable.value is not None

    def missing(self, name: str) -> NotFoundError | None:
        """The error for an operation on a variable that there is not; None if there is."""
        try:
            self._find(name)
        except NotFoundError as error:
            return error.with_traceback(None)
        return None

    def first_value(self, operation: Initialize) -> Array:
        """Returns a new array with the initial value of a variable, and leaves that alone.

        Raises:
            NotFoundError: There is no such variable.
            InvalidArgumentError: The initializer does not fit it.
        """
        return self._initial_value(self._find(operation.name).spec, operation.initializer, take=False)

    def images(self) -> tuple[VariableImage, ...]:
        """All variables by name; called while nothing changes them. Large values are lent, not copied."""
        return tuple([_image(self._variables[name]) for name in sorted(self._variables)])

    def restore(self, image: VariableImage) -> None:
        """Makes a variable as an image has it, whose value is from now on the store's own.

        Raises:
            ResourceExhaustedError: The memory limit would be exceeded.
        """
        if not self._memory.try_take(image.spec.size_bytes):
            raise self._out_of_memory(image.spec)
        variable = StoredVariable(image.spec, image.value)
        variable.version = image.version
        super()._publish(variable, None)

    def _publish(self, variable: StoredVariable, initializer: InitializerSpec | None) -> None:
        variable.position = self._noted(Declare(variable.spec, initializer))
        super()._publish(variable, initializer)

    def _note_first_value(self, variable: StoredVariable, initializer: InitializerSpec) -> None:
        variable.position = self._noted(Initialize(variable.spec.name, initializer))

    def _noted(self, operation: Declare | Initialize) -> int:
        # With a copy of a given value: the array is the sender's own again when the batch is answered.
        declared = Declared(map_tensors(operation, np.ndarray.copy))
        return self.note(declared, _DECLARATION_BYTES + tensor_bytes([operation]))


def _image(variable: StoredVariable) -> VariableImage:
    with variable.lock:
        value = variable.value
        if value is not None:
            value = value.copy() if variable.size_bytes <= SMALL_BYTES else variable.lend()
        return VariableImage(variable.spec, value, variable.version)
