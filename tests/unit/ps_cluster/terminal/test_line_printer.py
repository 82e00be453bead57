from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console

from ps_cluster.terminal.line_printer import LinePrinter, PrintedLine

NAMES = ["ps:0", "worker:10"]


def printed(lines: Sequence[PrintedLine], *, is_terminal: bool, colours: bool = False) -> tuple[str, str]:
    """Returns what goes to the console and what to the errors."""
    output, errors = io.StringIO(), io.StringIO()
    console = Console(
        file=output,
        width=60,
        force_terminal=is_terminal,
        color_system="standard" if colours else None,
        no_color=not colours,
    )
    LinePrinter(console, Console(file=errors, width=60), NAMES).print(lines)
    return output.getvalue(), errors.getvalue()


def test_names_are_all_of_one_width() -> None:
    lines = [PrintedLine("ps:0", "one", "cyan"), PrintedLine("worker:10", "", "cyan"), PrintedLine("ps:0", "a\nb", "")]
    expected = "ps:0      | one\nworker:10 | \nps:0      | a\nps:0      | b\n"
    assert printed(lines, is_terminal=False) == (expected, "")
    assert printed(lines, is_terminal=True) == (expected, "")


def test_a_line_is_neither_wrapped_nor_cut_nor_read_as_markup() -> None:
    line = "[bold]x[/bold] :smile: " + "long " * 100
    for is_terminal in (True, False):
        assert printed([PrintedLine("ps:0", line, "")], is_terminal=is_terminal)[0] == f"ps:0      | {line}\n"


def test_a_terminal_shows_colours_but_does_nothing_else_that_a_task_may_say() -> None:
    line = PrintedLine("ps:0", "\x1b[2J\x1b[10;10H\x1b[32mgreen\x1b[0m\x07\ttab", "cyan")
    assert (
        printed([line], is_terminal=True, colours=True)[0] == "\x1b[36mps:0      | \x1b[0m\x1b[32mgreen\x1b[0m\ttab\n"
    )


def test_failures_stand_out_on_a_terminal() -> None:
    output, errors = printed([PrintedLine("ps:0", "died", "red", is_failure=True)], is_terminal=True, colours=True)
    assert output == "\x1b[31mps:0      | \x1b[0m\x1b[31mdied\x1b[0m\n"
    assert errors == ""


def test_without_a_terminal_failures_go_to_the_errors_in_order() -> None:
    lines = [
        PrintedLine("ps:0", "one", ""),
        PrintedLine("ps:0", "died", "", is_failure=True),
        PrintedLine("ps:0", "two", ""),
    ]
    assert printed(lines, is_terminal=False) == ("ps:0      | one\nps:0      | two\n", "ps:0      | died\n")


def test_a_file_gets_a_line_as_it_is() -> None:
    assert printed([PrintedLine("ps:0", "\x1b[32mgreen\x1b[0m", "cyan")], is_terminal=False)[0].endswith(
        "| \x1b[32mgreen\x1b[0m\n"
    )
