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


def test_a_line_is_neither_cut_nor_read_as_markup() -> None:
    line = "[bold]x[/bold] :smile: " + "long" * 100
    assert printed([PrintedLine("ps:0", line, "")], is_terminal=False)[0] == f"ps:0      | {line}\n"
    first, second = f"ps:0      | {line}".split("long", 1)
    shown = f"{first.rstrip()}\n          | long{second}\n"
    assert printed([PrintedLine("ps:0", line, "")], is_terminal=True)[0] == shown


def test_a_terminal_gets_a_long_line_broken_between_words_behind_the_bar() -> None:
    line = "    waiting for ps:0 at 127.0.0.1:38347, 0 s of up to 60 s: Connection refused"
    assert printed([PrintedLine("worker:10", line, "")], is_terminal=True)[0].splitlines() == [
        "worker:10 |     waiting for ps:0 at 127.0.0.1:38347, 0 s of",
        "          |     up to 60 s: Connection refused",
    ]
    assert printed([PrintedLine("worker:10", line, "")], is_terminal=False)[0] == f"worker:10 | {line}\n"


def test_a_colour_goes_on_in_the_next_row() -> None:
    red = PrintedLine("ps:0", f"\x1b[31m{'red ' * 12}\x1b[0mplain", "")
    assert printed([red], is_terminal=True, colours=True)[0].splitlines() == [
        f"ps:0      | \x1b[31m{'red ' * 11}red\x1b[0m",
        "          | plain",
    ]
    long = PrintedLine("ps:0", f"\x1b[31m{'red ' * 13}\x1b[0m", "")
    assert printed([long], is_terminal=True, colours=True)[0].splitlines()[1] == "          | \x1b[31mred \x1b[0m"


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
