"""Loops around a body, by the number of arrays that change; ``compiled_loops`` fills in the body and compiles them.

Those for rows take matrices, ``[rows, width]``; row ``rows[k]`` gets the gradient at ``k``. ``sum_by_row`` has no body.
"""

from __future__ import annotations

from typing import Any, Final

body: Any = None
"""The body, in each copy of a template another one."""
prefetch: Any = None
"""In a copy that of ``prefetching``."""
ROWS_AHEAD: Final = 8
"""So many rows are fetched before they are needed."""


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


def rows_of_one(value: Any, gradient: Any, rows: Any, constants: Any) -> None:
    for k in range(rows.size):
        ahead = rows[min(k + ROWS_AHEAD, rows.size - 1)]
        prefetch(value, ahead)
        own, pull = value[rows[k]], gradient[k]
        for j in range(own.size):
            (own[j],) = body(own[j], pull[j], *constants)


def rows_of_two(value: Any, slot: Any, gradient: Any, rows: Any, constants: Any) -> None:
    for k in range(rows.size):
        ahead = rows[min(k + ROWS_AHEAD, rows.size - 1)]
        prefetch(value, ahead)
        prefetch(slot, ahead)
        own, first, pull = value[rows[k]], slot[rows[k]], gradient[k]
        for j in range(own.size):
            own[j], first[j] = body(own[j], first[j], pull[j], *constants)


def rows_of_three(value: Any, slot: Any, slot2: Any, gradient: Any, rows: Any, constants: Any) -> None:
    for k in range(rows.size):
        ahead = rows[min(k + ROWS_AHEAD, rows.size - 1)]
        prefetch(value, ahead)
        prefetch(slot, ahead)
        prefetch(slot2, ahead)
        own, first, second, pull = value[rows[k]], slot[rows[k]], slot2[rows[k]], gradient[k]
        for j in range(own.size):
            own[j], first[j], second[j] = body(own[j], first[j], second[j], pull[j], *constants)


def rows_of_four(value: Any, slot: Any, slot2: Any, slot3: Any, gradient: Any, rows: Any, constants: Any) -> None:
    for k in range(rows.size):
        ahead = rows[min(k + ROWS_AHEAD, rows.size - 1)]
        prefetch(value, ahead)
        prefetch(slot, ahead)
        prefetch(slot2, ahead)
        prefetch(slot3, ahead)
        own, first, second, third, pull = value[rows[k]], slot[rows[k]], slot2[rows[k]], slot3[rows[k]], gradient[k]
        for j in range(own.size):
            own[j], first[j], second[j], third[j] = body(own[j], first[j], second[j], third[j], pull[j], *constants)


def sum_by_row(rows: Any, gradient: Any, numbers: Any, found: Any, sums: Any) -> Any:
    """Adds up what each row gets, in the order of occurrence; returns how many rows there are.

    Args:
        rows: ``[n]``.
        gradient: ``[n, width]``.
        numbers: Room for a hash table, -1 everywhere: a power of two of places, more than ``n``.
        found: Gets each row once, in the order of their first occurrences; room for ``n``.
        sums: Gets their sums; room for ``[n, width]``.
    """
    mask, count = numbers.size - 1, 0
    for i in range(rows.size):
        row, pull = rows[i], gradient[i]
        place = (row ^ (row >> 15)) * 40503 & mask
        while numbers[place] >= 0 and found[numbers[place]] != row:
            place = (place + 1) & mask
        if numbers[place] < 0:
            numbers[place] = count
            found[count] = row
            total = sums[count]
            for j in range(pull.size):
                total[j] = pull[j]
            count += 1
        else:
            total = sums[numbers[place]]
            for j in range(pull.size):
                total[j] += pull[j]
    return count
