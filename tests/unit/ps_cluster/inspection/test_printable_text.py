from __future__ import annotations

import pytest

from ps_cluster.inspection.printable_text import printable


@pytest.mark.parametrize("text", ["", "plain", "two words, \\n and [brackets]", "größe 変数"])
def test_what_can_be_seen_stays(text: str) -> None:
    assert printable(text) is text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x9b2J\x00\x7f", r"\x9b2J\x00\x7f"),
        ("\u202eleft\u2028line\ud800", r"\u202eleft\u2028line\ud800"),
    ],
)
def test_what_would_do_something_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
