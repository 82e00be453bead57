from __future__ import annotations

import io

import pytest

from ps_protocol.command_line.word_wrap import wrap_for, wrap_words


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        pytest.param("", [""], id="empty"),
        pytest.param("x" * 20, ["x" * 20], id="fits"),
        pytest.param("the address is 127.0.0.1:2222, once", ["the address is", "127.0.0.1:2222, once"], id="words"),
        pytest.param("see " + "x" * 30 + " there", ["see", "x" * 30, "there"], id="a-word-too-long"),
        pytest.param("   in as far as the first row", ["   in as far as the", "   first row"], id="indent"),
        pytest.param("two  blanks stay within a row", ["two  blanks stay", "within a row"], id="blanks"),
        pytest.param("\x1b[31mred\x1b[0m does not count", ["\x1b[31mred\x1b[0m does not count"], id="escapes"),
        pytest.param("\u4e2d" * 8 + " \u6587" * 3, ["\u4e2d" * 8 + " \u6587", "\u6587 \u6587"], id="wide"),
        pytest.param("a\tb and the rest of it", ["a       b and the", "rest of it"], id="tab"),
        pytest.param("ends with blanks    " * 2, ["ends with blanks", "ends with blanks"], id="trailing"),
    ],
)
def test_rows_of_twenty_columns(line: str, rows: list[str]) -> None:
    assert wrap_words(line, 20) == rows


def test_a_terminal_of_no_known_width_breaks_as_it_likes() -> None:
    assert wrap_words("one two " * 20, 0) == ["one two " * 20]


def test_only_a_terminal_is_wrapped_for() -> None:
    text = f"{'word ' * 30}end\nand one more line"
    assert wrap_for(io.StringIO(), text) == text
    assert [len(row) for row in wrap_for(Terminal(), text).split("\n")] == [79, 73, 17]
