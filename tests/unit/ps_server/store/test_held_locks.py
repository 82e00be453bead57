"""Locks of several variables are held together, or none of them is."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from ps_protocol.operations import VariableSpec
from ps_server.store.stored_variable import HeldLocks, StoredVariable


class CannotBeTaken:
    """Stands for a lock whose acquisition is interrupted."""

    def acquire(self) -> bool:
        raise KeyboardInterrupt


def some_variables(count: int) -> list[Any]:
    return [StoredVariable(VariableSpec(name, np.dtype(np.float32), ()), None) for name in "abcdef"[:count]]


def are_free(variables: list[Any]) -> list[bool]:
    """Asks on another thread, since the locks are re-entrant."""
    found: list[bool] = []

    def look() -> None:
        for each in variables:
            found.append(each.lock.acquire(blocking=False))
            if found[-1]:
                each.lock.release()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(60.0)
    return found


def test_all_are_held_inside_and_none_afterwards() -> None:
    variables = some_variables(3)
    with HeldLocks(variables[:2]):
        assert are_free(variables) == [False, False, True]
    assert are_free(variables) == [True, True, True]


def test_an_error_inside_gives_them_back() -> None:
    variables = some_variables(2)
    with pytest.raises(ValueError, match="inside"), HeldLocks(variables):
        raise ValueError("inside")
    assert are_free(variables) == [True, True]


def test_those_taken_are_given_back_if_another_cannot_be() -> None:
    variables = some_variables(3)
    variables[2].lock = CannotBeTaken()
    with pytest.raises(KeyboardInterrupt), HeldLocks(variables):
        pytest.fail("not all are held")
    assert are_free(variables[:2]) == [True, True]
