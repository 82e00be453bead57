"""Runs a body by NumPy: its operations are recorded once, and then carried out on blocks without new memory.

Recording a body with symbols in place of arrays gives its ufunc calls in order. Each call gets a register for its
result, which is used again after its last use; a result that is a new value or slot goes where the old one was, as
soon as nobody needs the old one. So a block is changed in place, in as few passes as possible, and cannot fail for want
of memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ps_protocol.operations import Array

Body = Callable[..., tuple[Any, ...]]


class Call(NamedTuple):
    """One call of a ufunc.

    Places are the arguments of the body, and then the registers.

    Attributes:
        ufunc: What is called.
        arguments: Takes its arguments from a list of all places.
        result: The place of its result.
    """

    ufunc: np.ufunc
    arguments: Callable[[list[Any]], Sequence[Any]]
    result: int


@dataclass(frozen=True, slots=True)
class Tape:
    """A body, recorded.

    Attributes:
        calls: In order.
        num_registers: How many blocks of memory it needs.
        copies: Pairs (to, from) of places, copied at the end.
    """

    calls: tuple[Call, ...]
    num_registers: int
    copies: tuple[tuple[int, int], ...]

    def run(self, operands: Sequence[Any], registers: Sequence[Array]) -> None:
        """Changes the first operands in place.

        Args:
            operands: The arguments of the body: arrays of one shape, or what broadcasts to it.
            registers: ``num_registers`` arrays of that shape and dtype.
        """
        places = [*operands, *registers]
        for ufunc, arguments, result in self.calls:
            ufunc(*arguments(places), out=places[result])
        for to, source in self.copies:
            np.copyto(places[to], places[source])


class _Symbol(NDArrayOperatorsMixin):
    """Stands for an array or a number while a body is recorded."""

    def __init__(self, number: int, recorded: list[tuple[np.ufunc, tuple[int, ...]]], num_arguments: int):
        self.number, self._recorded, self._num_arguments = number, recorded, num_arguments

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: _Symbol, **options: object) -> _Symbol:
        if method != "__call__" or options:
            raise TypeError(f"a body may call {ufunc.__name__} only plainly")
        self._recorded.append((ufunc, tuple(each.number for each in inputs)))
        return _Symbol(self._num_arguments + len(self._recorded) - 1, self._recorded, self._num_arguments)


@functools.cache
def recorded(body: Body, num_targets: int, num_arguments: int) -> Tape:
    """Records a body.

    Args:
        body: The function.
        num_targets: How many of its first arguments it gives anew.
        num_arguments: All that it takes.
    """
    steps: list[tuple[np.ufunc, tuple[int, ...]]] = []
    results = [
        each.number for each in body(*(_Symbol(number, steps, num_arguments) for number in range(num_arguments)))
    ]
    if len(results) != num_targets:
        raise TypeError(f"{body.__name__} gives {len(results)} arrays, not {num_targets}")
    last_use: dict[int, int] = {}
    for at, (_, arguments) in enumerate(steps):
        last_use.update(dict.fromkeys(arguments, at))
    places: dict[int, int] = {number: number for number in range(num_arguments)}
    free: list[int] = []
    num_registers, calls = 0, []
    for at, (ufunc, arguments) in enumerate(steps):
        number = num_arguments + at
        taken = tuple(places[each] for each in arguments)
        free += [
            places[each]
            for each in set(arguments)
            if places[each] >= num_arguments and last_use[each] == at and each not in results
        ]
        if number in results and last_use.get(results.index(number), -1) <= at:
            places[number] = results.index(number)
        elif free:
            places[number] = free.pop()
        else:
            places[number] = num_arguments + num_registers
            num_registers += 1
        getter = itemgetter(*taken) if len(taken) > 1 else itemgetter(slice(taken[0], taken[0] + 1))
        calls.append(Call(ufunc, getter, places[number]))
    copies = tuple((to, places[number]) for to, number in enumerate(results) if places[number] != to)
    return Tape(tuple(calls), num_registers, copies)
