"""Functions that a team has written itself, made into functions of the ps: what they return is checked first.

A function is ``(value, slots, arguments) -> (value, slots)``, a reduction ``(value, arguments) -> array``. They are
given arrays that are read-only; an argument without dimensions is a Python number, so that it takes on the dtype of
what it is computed with. They must be pure: a journal and a backup call them again with the same arrays.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np

from ps_protocol.errors import InvalidArgumentError, ShardscopeError
from ps_protocol.operation_kinds import MAX_REDUCED_BYTES
from ps_protocol.operations import Array, VariableSpec, Verdict
from ps_server.rules.functions import FunctionPlan, FunctionSubject, VariableFunction
from ps_server.rules.reductions import Reduction

TeamFunction: TypeAlias = Callable[[Array, list[Array], list[Any]], Any]
TeamReduction: TypeAlias = Callable[[Array, list[Any]], Any]

_RETURNED_KINDS: Final = "biufcV"  # V: the types of ml-dtypes


def variable_function(name: str, function: TeamFunction) -> VariableFunction:
    """Returns the function of the ps that calls one of a team."""

    def planned(subject: FunctionSubject, operands: Sequence[Array], numbers: Array) -> FunctionPlan:
        _check_no_numbers(name, subject.spec, numbers)
        return _Call(name, function, subject, operands)

    return lambda subject: partial(planned, subject)


def reduction(name: str, function: TeamReduction) -> Reduction:
    """Returns the reduction of the ps that calls one of a team."""

    def reduced(spec: VariableSpec, value: Array, operands: Sequence[Array], numbers: Sequence[float]) -> Array:
        _check_no_numbers(name, spec, numbers)
        result = np.asarray(_called(name, spec, function, _read_only(value), _arguments(operands)))
        if result.dtype.kind not in _RETURNED_KINDS or result.nbytes > MAX_REDUCED_BYTES:
            raise InvalidArgumentError(
                f"variable {spec}: the reduction {name!r} has returned {_layout(result)} of {result.nbytes:,} bytes; "
                f"it should return numbers, at most {MAX_REDUCED_BYTES:,} bytes of them",
                variable=spec.name,
            )
        return result.copy()  # it may be a view of the value

    return reduced


class _Call:
    """A call of a team's function."""

    __slots__ = ("_function", "_name", "_operands", "_subject", "num_read", "refusal", "verdict")

    def __init__(self, name: str, function: TeamFunction, subject: FunctionSubject, operands: Sequence[Array]):
        self._name, self._function, self._subject, self._operands = name, function, subject, operands
        self.num_read = 0
        self.refusal: ShardscopeError | None = None
        self.verdict = Verdict.APPLIED

    def apply(self, value: Array, slots: Sequence[Array], step: int) -> None:  # noqa: ARG002 - nothing counts steps
        spec, targets = self._subject.spec, (value, *slots)
        given = [_read_only(each) for each in targets]
        returned = _called(self._name, spec, self._function, given[0], given[1:], _arguments(self._operands))
        results = self._checked(returned)
        # Before anything changes: what is returned may be a view of what is overwritten.
        results = [
            new.copy() if any(np.may_share_memory(new, target) for target in targets) else new for new in results
        ]
        for target, new in zip(targets, results, strict=True):
            np.copyto(target, new)

    def _checked(self, returned: Any) -> list[Array]:
        subject = self._subject
        try:
            value, slots = returned
            results = [np.asarray(value), *map(np.asarray, slots)]
        except (TypeError, ValueError) as error:
            raise self._wrong(f"something that is no pair of a value and a list of slots ({error})") from None
        if len(results) != 1 + len(subject.slots):
            raise self._wrong(f"{len(results) - 1} slots instead of {len(subject.slots)}")
        for spec, result in zip((subject.spec, *subject.slots), results, strict=True):
            if result.shape != spec.shape or result.dtype != spec.dtype:
                raise self._wrong(f"{_layout(result)} for {spec}; it should keep the shape and the dtype")
        return results

    def _wrong(self, what: str) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"variable {self._subject.spec}: the function {self._name!r} has returned {what}; nothing was changed",
            variable=self._subject.spec.name,
        )


def _called(name: str, spec: VariableSpec, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        with np.errstate(all="ignore"):  # as everywhere on a ps: what overflows or is no number is the client's affair
            return function(*arguments)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
        raise InvalidArgumentError(
            f"variable {spec}: the function {name!r} has raised {type(error).__name__}: {error}{place}; nothing was "
            f"changed",
            variable=spec.name,
        ) from error


def _arguments(operands: Sequence[Array]) -> list[Any]:
    return [_read_only(each) if each.ndim else each.item() for each in operands]


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _check_no_numbers(name: str, spec: VariableSpec, numbers: Sequence[float] | Array) -> None:
    if len(numbers):
        raise InvalidArgumentError(
            f"variable {spec}: {name!r} is a function that a team has written and takes arrays, no numbers apart from "
            f"them; call it by apply or reduce of the variable",
            variable=spec.name,
        )


def _layout(array: Array) -> str:
    return f"{array.dtype.name}{list(array.shape)}"
