"""Tables and the numbers in them."""

from __future__ import annotations

import pytest

from benchmarks.harness.tables import Table, auto_duration, duration, number, size


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.000"), (0.0123, "0.012"), (1.0, "1.00"), (9.994, "9.99"), (9.996, "10.0"), (1234.5, "1,234")],
)
def test_numbers_have_three_digits_or_all_before_the_point(value: float, text: str) -> None:
    assert number(value) == text


def test_durations_and_sizes_have_units() -> None:
    assert duration(36e-6, "us") == "36.0 µs"
    assert duration(0.0312, "ms") == "31.2 ms"
    assert (auto_duration(4e-4), auto_duration(4e-2)) == ("400 µs", "40.0 ms")
    assert (size(4), size(32 * 1024), size(100 * 2**20), size(2**30)) == ("4 B", "32.0 KiB", "100 MiB", "1.00 GiB")


def test_markdown_aligns_words_left_and_numbers_right() -> None:
    table = Table("Title", ["work", "who", "median"], [["pull", "us", "1 ms"]], labels=2, notes=["A note."])
    assert table.markdown().splitlines() == [
        "### Title",
        "",
        "| work | who | median |",
        "| --- | --- | ---: |",
        "| pull | us | 1 ms |",
        "",
        "A note.",
    ]
