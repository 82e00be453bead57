from __future__ import annotations

import pytest

from ps_cluster.local.line_splitter import MAX_LINE_BYTES, LineSplitter, OutputLine


def split(*pieces: bytes) -> list[OutputLine]:
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    return [*lines, *splitter.flush()]


def test_lines_are_cut_wherever_the_bytes_are() -> None:
    whole = "one\ntwo\r\n\nvier €\n".encode()
    expected = [OutputLine("one"), OutputLine("two"), OutputLine(""), OutputLine("vier €")]
    assert split(whole) == expected
    assert split(*(whole[index : index + 1] for index in range(len(whole)))) == expected


def test_states_of_a_progress_bar_are_transient_and_its_last_one_is_a_line() -> None:
    assert split(b"\r 10%\r 20%\r100%\ndone\n") == [
        OutputLine(" 10%", transient=True),
        OutputLine(" 20%", transient=True),
        OutputLine("100%"),
        OutputLine("done"),
    ]


def test_a_state_is_given_as_soon_as_the_next_one_begins() -> None:
    splitter = LineSplitter()
    assert list(splitter.feed(b"10%\r")) == []
    assert list(splitter.feed(b"20%")) == [OutputLine("10%", transient=True)]


@pytest.mark.parametrize("tail", [b"tail", b"tail\r"])
def test_an_unfinished_last_line_is_not_lost(tail: bytes) -> None:
    assert split(b"line\n", tail) == [OutputLine("line"), OutputLine("tail")]


def test_a_line_without_end_is_cut() -> None:
    lines = split(*[b"x" * 1000] * 200)
    assert [len(line.text) for line in lines] == [MAX_LINE_BYTES] * 3 + [200_000 - 3 * MAX_LINE_BYTES]


def test_what_is_not_utf8_is_replaced() -> None:
    assert split(b"\xff ok\n") == [OutputLine("\N{REPLACEMENT CHARACTER} ok")]
