"""Values beside objects that others own."""

from __future__ import annotations

import sys

from ps_protocol.weak_table import WeakTable


class Key:
    """An object, hashed by its identity."""


def test_it_is_a_table() -> None:
    table: WeakTable[Key, int] = WeakTable()
    first, second = Key(), Key()
    assert table.get(first) is None
    assert table.setdefault(first, 1) == 1
    assert table.setdefault(first, 2) == 1
    table.update({first: 3, second: 4})
    assert [table.get(first), table.get(second), len(table)] == [3, 4, 2]


def test_a_key_is_dropped_with_its_value_and_without_a_line_of_python() -> None:
    """What a signal handler raised there would be lost."""
    table: WeakTable[Key, int] = WeakTable()
    keys = [Key(), Key()]
    table.update(dict.fromkeys(keys, 1))
    called: list[str] = []
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    keys.pop()
    sys.setprofile(None)
    assert called == []
    assert len(table) == 1
