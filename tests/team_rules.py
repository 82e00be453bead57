"""Functions as a team writes them, for tests: ``--functions tests.team_rules``."""

from __future__ import annotations

from typing import Any

import numpy as np


def _swapped(value: Any, slots: Any, arguments: Any) -> Any:
    """The value and its slot change places; the value is scaled."""
    (factor,) = arguments
    return slots[0] * factor, [value]


def _added(value: Any, slots: Any, arguments: Any) -> Any:
    return value + arguments[0], slots


def _read_only(value: Any, slots: Any, arguments: Any) -> Any:
    """Tries to change what it is given; names the first array that lets it."""
    for array in (value, *slots, *arguments):
        if array.flags.writeable:
            raise AssertionError("an array can be written to")
    return value, slots


FUNCTIONS = {
    "swapped": _swapped,
    "added": _added,
    "read_only": _read_only,
    "raises": lambda value, slots, arguments: value + arguments["rate"],
    "no_pair": lambda value, slots, arguments: value,
    "another_shape": lambda value, slots, arguments: (value[:1], slots),
    "another_dtype": lambda value, slots, arguments: (value.astype(np.float64), slots),
    "too_few_slots": lambda value, slots, arguments: (value + 1, []),
    "a_slot_of_another_shape": lambda value, slots, arguments: (value + 1, [slots[0][:1]]),
}

REDUCTIONS = {
    "quantile": lambda value, arguments: np.quantile(value, arguments[0]),
    "rows": lambda value, arguments: value[arguments[0]],
    "broken": lambda value, arguments: value[99],
    "words": lambda value, arguments: "words",
    "huge": lambda value, arguments: np.zeros(1 << 20),
}
