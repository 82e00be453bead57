"""Calls of functions that a team has written itself, and that every ps has imported: ``--functions module``."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Final, Literal, Self, overload

import numpy as np
import numpy.typing as npt

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from ps_protocol.operation_kinds import reply_bytes
from ps_protocol.operations import Apply, Array, Reduce
from worker_client.connection.fanout import Routed
from worker_client.connection.futures import mapped
from worker_client.values.array_likes import array_of
from worker_client.variables.reductions import PlacedParts, tensor_of

_NO_NUMBERS: Final = np.empty(0)
_KINDS: Final = "biufcV"  # V: the types of ml-dtypes


class TeamCalls(PlacedParts):
    """Calls functions by name, on the ps tasks that have the value. Thread-safe."""

    @overload
    def apply(
        self, function: str, *arguments: npt.ArrayLike, slots: Sequence[PlacedParts] = (), wait: Literal[True] = True
    ) -> Self: ...
    @overload
    def apply(
        self, function: str, *arguments: npt.ArrayLike, slots: Sequence[PlacedParts] = (), wait: Literal[False]
    ) -> Future[Self]: ...
    def apply(
        self, function: str, *arguments: npt.ArrayLike, slots: Sequence[PlacedParts] = (), wait: bool = True
    ) -> Self | Future[Self]:
        """Changes the value, and slots with it, by a function of the ``--functions`` module: in one atomic step.

        Of a partitioned variable the function is called for each part, with the parts of the slots. An argument of the
        shape of the whole is cut as the variable is; any other goes to all parts.

        Args:
            function: A key of the module's ``FUNCTIONS``.
            *arguments: Arrays and numbers, which the function gets as arrays and numbers.
            slots: Variables that it computes with and changes; on the ps tasks of the variable, and partitioned alike.
            wait: Whether to wait until it is applied. If not, arguments are copied and a future is returned.

        Returns:
            The variable itself, or a future of it.

        Raises:
            NotFoundError: The ps knows no such function, or a slot is on another ps task.
            InvalidArgumentError: The function has raised an error, or returned what does not fit; nothing was changed.
            FailedPreconditionError: The variable or a slot has not been initialised.
        """
        slot_names = self._slot_names(slots)
        routed = [
            Routed(part.ps_task, Apply(part.spec.name, function, names, "", operands, _NO_NUMBERS))
            for (part, _), names, operands in zip(
                self.placed_parts(), slot_names, self._operands(function, arguments, copy=not wait), strict=True
            )
        ]
        if wait:
            self.parts_runner.run_all(routed)
            return self
        return mapped(self.parts_runner.run_all_later(routed), lambda _: self)

    def _reduced_by(self, function: str, arguments: Sequence[npt.ArrayLike]) -> list[Array]:
        """What a reduction of the module makes of each part."""
        routed = []
        operands_of_parts = self._operands(function, arguments, copy=False)
        for (part, _), operands in zip(self.placed_parts(), operands_of_parts, strict=True):
            reduce = Reduce(part.spec.name, function, operands, _NO_NUMBERS)
            routed.append(Routed(part.ps_task, reduce, reply_bytes(reduce, part.spec)))
        return [tensor_of(result) for result in self.parts_runner.run_all(routed)]

    def _slot_names(self, slots: Sequence[PlacedParts]) -> list[tuple[str, ...]]:
        """The names of the parts of the slots, for each part."""
        name, placed = self.whole_spec.name, self.placed_parts()
        for slot in slots:
            if not isinstance(slot, PlacedParts):
                raise InvalidArgumentError(
                    f"a slot for variable {name} is {slot!r}; it should be a variable of a connection", variable=name
                )
            theirs = slot.placed_parts()
            if slot.parts_runner is not self.parts_runner:
                raise InvalidArgumentError(
                    f"{slot.whole_spec.name} cannot be a slot for variable {name}: it is of another connection",
                    variable=name,
                )
            if [part.ps_task for part, _ in theirs] != [part.ps_task for part, _ in placed]:
                raise InvalidArgumentError(
                    f"{slot.whole_spec.name} cannot be a slot for variable {name}: it is not on the same ps tasks in "
                    f"the same parts; declare it there, as under ss.device(variable.device)",
                    variable=name,
                )
        return [tuple(slot.placed_parts()[number][0].spec.name for slot in slots) for number in range(len(placed))]

    def _operands(self, function: str, arguments: Sequence[npt.ArrayLike], *, copy: bool) -> list[tuple[Array, ...]]:
        """The arguments for each part."""
        num_parts = len(self.placed_parts())
        of_arguments: list[Sequence[Array]] = []
        for number, argument in enumerate(arguments):
            given = array_of(argument, self.whole_spec, what=f"argument {number} of {function}")
            array = np.array(given, order="C") if copy else np.asarray(given, order="C")
            if array.dtype.kind not in _KINDS:
                raise DTypeMismatchError(
                    f"argument {number} of {function} for variable {self.whole_spec.name} is {argument!r}; it should "
                    f"be a number, or an array of numbers",
                    variable=self.whole_spec.name,
                )
            is_cut = array.ndim and array.shape == self.whole_spec.shape
            of_arguments.append(self.part_pieces(array) if is_cut else [array] * num_parts)
        return [tuple(np.asarray(pieces[number], order="C") for pieces in of_arguments) for number in range(num_parts)]
