"""Loops around a body, by the number of arrays that change; ``compiled_loops`` fills in the body and compiles them.

Those for rows take matrices, ``[rows, width]``. Row ``rows[k]`` gets the gradients at
``positions[starts[k]:starts[k + 1]]``, added up in that order in ``total``, which is room for a row.
"""

from __future__ import annotations

from typing import Any

body: Any = None
"""The body, in each copy of a template another one."""


def one_changes(value: Any, gradient: Any, constants: Any) -> None:
    for i in range(value.size):
        (value[i],) = body(value[i], gradient[i], *constants)


def one_changes_by_two(value: Any, first: Any, second: Any, constants: Any) -> None:
    for i in range(value.size):
        (value[i],) = body(value[i], first[i], second[i], *constants)


def two_change(value: Any, slot: Any, gradient: Any, constants: Any) -> None:
    for i in range(value.size):
        value[i], slot[i] = body(value[i], slot[i], gradient[i], *constants)


def three_change(value: Any, slot: Any, slot2: Any, gradient: Any, constants: Any) -> None:
    for i in range(value.size):
        value[i], slot[i], slot2[i] = body(value[i], slot[i], slot2[i], gradient[i], *constants)


def four_change(value: Any, slot: Any, slot2: Any, slot3: Any, gradient: Any, constants: Any) -> None:
    for i in range(value.size):
        value[i], slot[i], slot2[i], slot3[i] = body(value[i], slot[i], slot2[i], slot3[i], gradient[i], *constants)


def rows_of_one(value: Any, gradient: Any, rows: Any, starts: Any, positions: Any, total: Any, constants: Any) -> None:
    for k in range(rows.size):
        row, first = rows[k], positions[starts[k]]
        for j in range(value.shape[1]):
            total[j] = gradient[first, j]
        for p in range(starts[k] + 1, starts[k + 1]):
            further = positions[p]
            for j in range(value.shape[1]):
                total[j] += gradient[further, j]
        for j in range(value.shape[1]):
            (value[row, j],) = body(value[row, j], total[j], *constants)


def rows_of_two(
    value: Any, slot: Any, gradient: Any, rows: Any, starts: Any, positions: Any, total: Any, constants: Any
) -> None:
    for k in range(rows.size):
        row, first = rows[k], positions[starts[k]]
        for j in range(value.shape[1]):
            total[j] = gradient[first, j]
        for p in range(starts[k] + 1, starts[k + 1]):
            further = positions[p]
            for j in range(value.shape[1]):
                total[j] += gradient[further, j]
        for j in range(value.shape[1]):
            value[row, j], slot[row, j] = body(value[row, j], slot[row, j], total[j], *constants)


def rows_of_three(
    value: Any, slot: Any, slot2: Any, gradient: Any, rows: Any, starts: Any, positions: Any, total: Any, constants: Any
) -> None:
    for k in range(rows.size):
        row, first = rows[k], positions[starts[k]]
        for j in range(value.shape[1]):
            total[j] = gradient[first, j]
        for p in range(starts[k] + 1, starts[k + 1]):
            further = positions[p]
            for j in range(value.shape[1]):
                total[j] += gradient[further, j]
        for j in range(value.shape[1]):
            value[row, j], slot[row, j], slot2[row, j] = body(
                value[row, j], slot[row, j], slot2[row, j], total[j], *constants
            )


def rows_of_four(
    value: Any,
    slot: Any,
    slot2: Any,
    slot3: Any,
    gradient: Any,
    rows: Any,
    starts: Any,
    positions: Any,
    total: Any,
    constants: Any,
) -> None:
    for k in range(rows.size):
        row, first = rows[k], positions[starts[k]]
        for j in range(value.shape[1]):
            total[j] = gradient[first, j]
        for p in range(starts[k] + 1, starts[k + 1]):
            further = positions[p]
            for j in range(value.shape[1]):
                total[j] += gradient[further, j]
        for j in range(value.shape[1]):
            value[row, j], slot[row, j], slot2[row, j], slot3[row, j] = body(
                value[row, j], slot[row, j], slot2[row, j], slot3[row, j], total[j], *constants
            )
