"""Functions that a ps knows by name: they compute a variable and its slots anew, or something small from its value.

All are pure functions of NumPy arrays, so that a replayed or replicated call has the effect of the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, ParamSpec, Protocol, TypeAlias, TypeVar

from ps_protocol.errors import InvalidArgumentError, NotFoundError, ShardscopeError
from ps_protocol.operations import Array, VariableSpec, Verdict
from ps_protocol.optimizer_spec import OptimizerSpec
from ps_server.rules.reductions import REDUCTIONS, Reduction

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FunctionSubject:
    """What a function computes with, as long as it stays as it is.

    Attributes:
        spec: Of the variable.
        slots: Specs of its slots, in the function's order.
        optimizer: How the optimizer was declared; None if the numbers of each call say all.
    """

    spec: VariableSpec
    slots: tuple[VariableSpec, ...]
    optimizer: OptimizerSpec | None


class FunctionPlan(Protocol):
    """A call that has been checked.

    Attributes:
        verdict: What becomes of it.
        refusal: The error of a step that is refused because its gradient is not finite; None for any other.
        num_read: How many of the slots, the last ones, are only read.
    """

    verdict: Verdict
    refusal: ShardscopeError | None
    num_read: int

    def apply(self, value: Array, slots: Sequence[Array], step: int) -> None:
        """Changes the arrays in place; if it raises (out of memory), nothing has been changed.

        Args:
            value: Of the variable, in C order.
            slots: Those of the slots.
            step: Number of this step, from 1; 0 if nothing counts the steps.
        """
        ...


PreparedFunction: TypeAlias = Callable[[Sequence[Array], Array], FunctionPlan]
"""Checks a call, with its operands and numbers as sent, not copied; raises a ``ShardscopeError`` that names the
variable if it cannot be carried out. It is called from many threads, again and again."""

VariableFunction: TypeAlias = Callable[[FunctionSubject], PreparedFunction]
"""Prepares calls: checks what is the same in all of them. Raises what ``PreparedFunction`` does."""


def checked_for(spec: VariableSpec, check: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
    """Calls a check that does not know the variable; an InvalidArgumentError of it then names the variable."""
    try:
        return check(*arguments, **options)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"variable {spec}: {error.message}", variable=spec.name) from error


class Functions:
    """The functions that one ps knows. Thread-safe.

    Args:
        functions: Those that change variables, by name.
        reductions: Those that compute something small.
    """

    def __init__(
        self,
        functions: Mapping[str, VariableFunction],
        reductions: Mapping[str, Reduction] = REDUCTIONS,
    ):
        self._functions: Final = dict(functions)
        self._reductions: Final = dict(reductions)

    def knows(self, name: str) -> bool:
        """Whether there is a function of that name that changes variables."""
        return name in self._functions

    def find(self, name: str, variable: str) -> VariableFunction:
        """Returns the function of that name that changes variables; NotFoundError if there is none."""
        function = self._functions.get(name)
        if function is None:
            raise _unknown(name, variable, self._functions)
        return function

    def find_reduction(self, name: str, variable: str) -> Reduction:
        """Returns the reduction of that name; NotFoundError if there is none."""
        reduction = self._reductions.get(name)
        if reduction is None:
            raise _unknown(name, variable, self._reductions)
        return reduction


def _unknown(name: str, variable: str, known: Mapping[str, object]) -> NotFoundError:
    return NotFoundError(
        f"variable {variable}: this ps knows no function {name!r}, only {', '.join(sorted(known))}; start every ps "
        f"with the --functions module that has it",
        variable=variable,
    )
