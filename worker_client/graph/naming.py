r"""Which names are valid, and which are still free.

The rules are TensorFlow's. A name is made of letters, digits and ``_ . \ / > -``; at the root, where it begins the
name of an operation, the first character is a letter, a digit or a dot. Names that differ only in case count as the
same, so that they stay apart where they become files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ps_protocol.forks import new_lock

_ROOT_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
_NESTED_NAME = re.compile(r"[A-Za-z0-9_.\\/>-]*")
_NUMBER = re.compile(r"[1-9][0-9]*")

_CHARACTERS = r"use only letters, digits and _ . \ / > -"
_FIRST_CHARACTER = "begin it with a letter, a digit or a dot"


def check_scope_name(name: object, outer_scope: str) -> None:
    """Makes sure that a name scope can be opened under ``outer_scope``, which is "" at the root.

    Raises:
        TypeError: The name is not a string.
        ValueError: It has a character that is not allowed, or not allowed first.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a scope should be a string, not {name!r}")
    if outer_scope:
        if not _NESTED_NAME.fullmatch(name):
            raise ValueError(f"{name!r}, opened in {outer_scope!r}, is not a valid scope name; {_CHARACTERS}")
    elif not _ROOT_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid scope name at the root; {_CHARACTERS}, and {_FIRST_CHARACTER}")


def check_variable_name(name: str, outer_scope: str) -> None:
    """Makes sure that a variable can have this name under ``outer_scope``, "" at the root; ValueError if not."""
    if not (_NESTED_NAME if outer_scope else _ROOT_NAME).fullmatch(name):
        first = "" if outer_scope else f", and {_FIRST_CHARACTER}"
        raise ValueError(f"{name!r} is not a valid name of a variable; {_CHARACTERS}{first}")


def check_operation_name(name: str) -> None:
    """Makes sure that an operation can have this full name; ValueError if not."""
    if not _ROOT_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid name of an operation; {_CHARACTERS}, and {_FIRST_CHARACTER}")


class NameTable:
    """The full names that a graph has given out, to operations and to name scopes alike. Thread-safe.

    Of a family ``x``, ``x_1``, ``x_2``, ... only the next number is remembered, so that a loop that opens the same
    scope over and over takes no more memory.
    """

    def __init__(self) -> None:
        self._lock = new_lock()  # guards: _next_number
        self._next_number: dict[str, int] = {}

    def unique(self, name: str, *, mark_as_used: bool = True) -> str:
        """Returns ``name``, or ``name`` with the lowest number that makes it unused.

        Args:
            name: Full name, scopes included.
            mark_as_used: Whether the returned name counts as given out from now on.
        """
        key = name.lower()
        with self._lock:
            number = self._next_number.get(key, 0) or int(self._is_numbered(key))
            if number == 0:
                unique_name = name
            else:
                while f"{key}_{number}" in self._next_number:
                    number += 1
                unique_name = f"{name}_{number}"
            if mark_as_used:
                self._next_number[key] = number + 1
            return unique_name

    def forget(self, names: Iterable[str]) -> None:
        """Makes names, and their numbered forms, free again; ``names`` are as ``unique`` returned them."""
        with self._lock:
            for name in names:
                self._next_number.pop(name.lower(), None)

    def forget_tree(self, name: str) -> None:
        """Makes a name and all names inside a scope of that name free again."""
        key = name.lower()
        with self._lock:
            for each in [each for each in self._next_number if each == key or each.startswith(f"{key}/")]:
                del self._next_number[each]

    def _is_numbered(self, key: str) -> bool:
        """Whether ``key`` is a numbered name that was given out for its base."""
        base, underscore, number = key.rpartition("_")
        next_number = self._next_number.get(base, 0) if underscore else 0
        return next_number > 1 and _NUMBER.fullmatch(number) is not None and int(number) < next_number
