"""Averages that follow variables, on the ps tasks of these: no value moves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, SupportsFloat, cast, overload

import numpy as np

from ps_protocol.dtype_traits import DTypeCategory, dtype_category
from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from ps_protocol.forks import new_lock
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Apply, Describe, VariableSpec
from ps_protocol.optimizer_spec import MOVING_AVERAGE, OptimizerSpec
from ps_protocol.weak_table import WeakTable
from worker_client.connection.fanout import Fanout, Routed
from worker_client.connection.futures import mapped
from worker_client.optimizers.slots import whole_slot
from worker_client.optimizers.steps import of_one_connection
from worker_client.placement.beside import Beside, declare_beside
from worker_client.variables.found import FoundVariables
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.parts import EagerVariable, some_variables
from worker_client.variables.variable import Variable

_COUNT: Final = np.dtype(np.int64)
_ZERO: Final = InitializerSpec(ConstantKind(0.0))


@dataclass(slots=True)
class _Kept:
    """What is kept beside one variable, or one part.

    Attributes:
        shadow: Spec of the average.
        helpers: Specs of the average that began at zero and of the count of its updates; empty without ``zero_debias``.
        is_new: Whether the average has no value but zero yet.
    """

    shadow: VariableSpec
    helpers: tuple[VariableSpec, ...]
    is_new: bool = False


class ExponentialMovingAverage:
    """Keeps an average beside each of some variables: ``average -= (1 - decay) * (average - variable)``. Thread-safe.

    As TensorFlow 1's, but that the ps computes it. An average begins as the value that the variable has at the first
    ``apply``. It is a slot of the variable, ``w/ExponentialMovingAverage``.

    Args:
        decay: How much of the average stays, in [0, 1]; as 0.999.
        num_updates: How many training steps there were, if averages shall move faster at first, as a number or as the
            variable that counts them: the decay is at most ``(1 + num_updates) / (10 + num_updates)``.
        zero_debias: Whether averages begin at zero and are corrected for that (Kingma and Ba 2014).
        name: Name of the averages.

    Raises:
        InvalidArgumentError: ``decay`` is not in [0, 1].
    """

    def __init__(
        self,
        decay: float,
        num_updates: SupportsFloat | None = None,
        zero_debias: bool = False,
        *,
        name: str = "ExponentialMovingAverage",
    ):
        if not 0.0 <= float(decay) <= 1.0:
            raise InvalidArgumentError(f"the decay of {name} is {decay!r}; give a number in [0, 1]")
        self.name: Final = name
        self.decay: Final = float(decay)
        self._num_updates = num_updates
        self._zero_debias = zero_debias
        self._forget()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} decay={self.decay}>"

    def _forget(self) -> None:
        """Has been declared for no variable yet."""
        self._lock = new_lock()  # guards: _kept and _found
        self._kept: WeakTable[Variable, _Kept] = WeakTable()
        self._found: WeakTable[Fanout, FoundVariables] = WeakTable()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_kept", "_found")}

    def __setstate__(self, settings: Mapping[str, Any]) -> None:
        self.__dict__.update(settings)
        self._forget()

    @overload
    def apply(self, variables: Iterable[EagerVariable], *, wait: Literal[True] = True) -> None: ...
    @overload
    def apply(self, variables: Iterable[EagerVariable], *, wait: Literal[False]) -> Future[None]: ...
    def apply(self, variables: Iterable[EagerVariable], *, wait: bool = True) -> Future[None] | None:
        """Moves the averages of variables towards their values, with one exchange for each ps task.

        The first call for a variable makes its average. Each average moves in one atomic step.

        Args:
            variables: Of floats.
            wait: Whether to wait until all have moved, or to return a future.

        Raises:
            DTypeMismatchError: A variable does not hold floats.
            InvalidArgumentError: Another worker has declared the average with another decay.
            FailedPreconditionError: A variable has not been initialised.
        """
        parts = [part for variable in self._asked(variables) for part in _parts(variable)]
        fanout = cast(Fanout, of_one_connection(parts))
        kept = self._declared(fanout, parts)
        numbers = np.array([self.decay, math.nan if self._num_updates is None else float(self._num_updates)])
        first = np.array([0.0, math.nan])  # the average becomes the value
        routed = [
            Routed(
                part.ps_task,
                Apply(
                    each.shadow.name,
                    MOVING_AVERAGE,
                    (*(helper.name for helper in each.helpers), part.spec.name),
                    "",
                    (),
                    first if each.is_new else numbers,
                ),
            )
            for part, each in zip(parts, kept, strict=True)
        ]
        new = [each for each in kept if each.is_new]
        _mark(new, is_new=False)  # before it is known to be done: what is queued behind it comes after it
        try:
            if not wait:
                return mapped(fanout.run_all_later(routed), lambda _: None, on_failure=lambda: _mark(new, is_new=True))
            fanout.run_all(routed)
        except BaseException:
            _mark(new, is_new=True)
            raise
        return None

    def average(self, variable: EagerVariable) -> Any:
        """Returns the average of a variable, as a variable; None if ``apply`` was not called for it here."""
        parts = _parts(variable)
        with self._lock:
            kept = [self._kept.get(part) for part in parts]
            if None in kept:
                return None
            fanout = cast(Fanout, of_one_connection(parts))
            found = self._found.setdefault(fanout, FoundVariables(fanout))
        specs = [each.shadow for each in kept if each is not None]
        shadows = [found.variable(spec, part.ps_task) for spec, part in zip(specs, parts, strict=True)]
        return whole_slot(variable, shadows)

    def average_name(self, variable: EagerVariable) -> str:
        """Returns the full name of a variable's average, whether it has one yet or not."""
        return f"{variable.whole_spec.name}/{self.name}"

    def _asked(self, variables: Iterable[EagerVariable]) -> list[EagerVariable]:
        asked = some_variables(f"{self.name}.apply", variables, self._by_name)
        if not asked:
            raise InvalidArgumentError(f"{self.name}.apply was given no variables")
        for each in asked:
            if dtype_category(each.whole_spec.dtype) is not DTypeCategory.FLOAT:
                raise DTypeMismatchError(
                    f"variable {each.whole_spec} has no moving average: only floats have", variable=each.whole_spec.name
                )
        return asked

    def _by_name(self, name: str) -> EagerVariable:
        raise InvalidArgumentError(
            f"{self.name}.apply was given the name {name!r}; give the variable, as client.variable({name!r})",
            variable=name,
        )

    def _declared(self, fanout: Fanout, parts: Sequence[Variable]) -> list[_Kept]:
        """Returns what is kept beside each part, declared."""
        with self._lock:
            known = {part: self._kept.get(part) for part in parts}
        new = {part: self._specs(part.spec) for part, kept in known.items() if kept is None}
        if new:
            declare_beside(
                fanout,
                [
                    Beside(spec, _ZERO, part.ps_task)
                    for part, kept in new.items()
                    for spec in (kept.shadow, *kept.helpers)
                ],
            )
            if not self._zero_debias:
                asked = [Routed(part.ps_task, Describe(kept.shadow.name)) for part, kept in new.items()]
                for kept, state in zip(new.values(), fanout.run_all(asked), strict=True):
                    kept.is_new = state.version == 0
            with self._lock:
                self._kept.update(new)
        return [known[part] or new[part] for part in parts]

    def _specs(self, spec: VariableSpec) -> _Kept:
        def beside(name: str, slot_of: str) -> VariableSpec:
            place = spec.slice and replace(spec.slice, full_name=f"{spec.slice.full_name}/{name}")
            return VariableSpec(f"{spec.name}/{name}", spec.dtype, spec.shape, place, slot_of)

        shadow = replace(beside(self.name, spec.name), optimizer=OptimizerSpec(MOVING_AVERAGE, (self.decay,)))
        if not self._zero_debias:
            return _Kept(shadow, ())
        count = VariableSpec(f"{shadow.name}/local_step", _COUNT, (), None, shadow.name)
        return _Kept(shadow, (beside(f"{self.name}/biased", shadow.name), count))


def _mark(kept: Sequence[_Kept], *, is_new: bool) -> None:
    for each in kept:
        each.is_new = is_new


def _parts(variable: EagerVariable) -> list[Variable]:
    return list(variable) if isinstance(variable, PartitionedVariable) else [variable]
