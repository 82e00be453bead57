"""What optimizers are given, checked: names, rates, dtypes, counters and mirrors."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from ps_protocol.dtype_traits import DTypeCategory, dtype_category
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import UpdateRule
from ps_protocol.training.sync_policy import policy_with
from worker_client.connection.fanout import Fanout, Routed
from worker_client.values.dtypes import as_dtype
from worker_client.variables.mirror import Mirror
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.parts import EagerVariable
from worker_client.variables.variable import Variable

_RATES: Final = ("lr", "rate", "alpha", "eta")
"""Names that others have for learning rates."""


def check_counter(global_step: Variable, fanout: Fanout) -> None:
    """Makes sure that a variable can count steps."""
    if not isinstance(global_step, Variable) or global_step.runner is not fanout:
        raise InvalidArgumentError(f"the global step should be a variable of the same connection, not {global_step!r}")
    spec = global_step.whole_spec
    if spec.shape or dtype_category(spec.dtype) is not DTypeCategory.INTEGER:
        raise InvalidArgumentError(
            f"the global step should be a scalar variable of integers, not variable {spec}", variable=spec.name
        )


def dtype_of_slots(name: str, given: npt.DTypeLike) -> np.dtype[Any]:
    """Reads the dtype of slots, which are of floats."""
    dtype = as_dtype(given)
    if dtype_category(dtype) is not DTypeCategory.FLOAT:
        raise InvalidArgumentError(
            f'{name}: slot_dtype is {dtype.name}; slots are of floats, as "float32" or "bfloat16"'
        )
    return dtype


def in_short(given: object) -> str:
    """Something for a message of one line: an array by its type and shape."""
    return f"an array of the shape {list(given.shape)}" if isinstance(given, np.ndarray) else repr(given)


def check_mirror(pull: object) -> None:
    """Makes sure that what is to be pulled is a mirror."""
    if not isinstance(pull, Mirror):
        raise InvalidArgumentError(f"pull= takes a mirror, as client.mirror(variables) makes it, not {pull!r}")


def rate_of(number: object) -> float:
    """Reads a learning rate."""
    try:
        rate = float(cast(Any, number))
    except (TypeError, ValueError) as error:
        raise_interrupt(error)
        rate = math.nan
    if not math.isfinite(rate):
        raise InvalidArgumentError(f"the learning rate is {number!r}; give a finite number, or a schedule")
    return rate


def checked_name(name: str) -> str:
    """Reads the name of an optimizer."""
    if not isinstance(name, str) or not name or name.startswith("/") or name.endswith("/"):
        raise InvalidArgumentError(f"the name of an optimizer is {name!r}; it should be some letters, as 'Adam'")
    return name


def parts_of(variable: EagerVariable) -> list[Variable]:
    """The parts of a variable; of one that is not partitioned, itself."""
    return list(variable) if isinstance(variable, PartitionedVariable) else [variable]


def counted(global_step: Variable, fanout: Fanout) -> Routed:
    """Returns what adds one to a counter."""
    check_counter(global_step, fanout)
    return Routed(
        global_step.ps_task, global_step.update(UpdateRule.ASSIGN_ADD, np.array(1, global_step.dtype), copy=False)
    )


def reads_of(pull: Mirror, fanout: Fanout, *, wait: bool) -> Sequence[Routed]:
    """Returns the reads of a mirror that go with updates."""
    check_mirror(pull)
    if not wait:
        raise InvalidArgumentError("a mirror is pulled by who waits: give pull= without wait=False, or call its pull()")
    return pull.begin_behind(fanout)


def has_no_argument(optimizer: type, base: type, name: str) -> str:
    """What to say of an argument that a kind of optimizer does not have.

    Args:
        optimizer: Which kind.
        base: That of all kinds.
        name: Of the argument.
    """
    if name in _RATES:
        return f"{optimizer.__name__}() has no argument {name!r}; the learning rate is called learning_rate"
    if (policy := policy_with(name)) is not None:
        return f"{optimizer.__name__}() has no argument {name!r}, which is written in its policy: sync={policy!r}"
    own, common = (inspect.signature(each).parameters for each in (optimizer, base))
    shared = [each for each in common if each not in ("rule", "settings", "unknown") and each not in own]
    known = [*[each for each in own if each not in ("common", "unknown")], *shared]
    return f"{optimizer.__name__}() has no argument {name!r}; it takes {', '.join(known)}"
