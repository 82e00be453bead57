"""Modules of functions that a team has written, as a ps takes them at its start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ps_protocol.errors import NotFoundError
from ps_server.process.function_module import FunctionModuleError, known_functions


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which is empty; modules that a test imports are forgotten after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def test_without_a_module_there_are_the_built_in_functions() -> None:
    functions = known_functions("")
    assert functions.knows("adam")
    assert functions.knows("moving_average")
    with pytest.raises(NotFoundError):
        functions.find("swapped", "w")


def test_those_of_a_module_in_the_working_directory_are_there_too(here: Path) -> None:
    (here / "own_rules.py").write_text("FUNCTIONS = {'doubled': lambda value, slots, arguments: (2 * value, slots)}")
    functions = known_functions("own_rules")
    assert functions.knows("doubled")
    assert functions.knows("adam")
    functions.find_reduction("sum", "w")
    assert sys.path[-1] == str(here)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_this_name", "cannot be imported: ModuleNotFoundError: .*nothing_of_this_name.*or lie in"),
        ("FUNCTIONS = {", "cannot be imported: SyntaxError"),
        ("X = 1", "has neither FUNCTIONS nor REDUCTIONS"),
        ("FUNCTIONS = [print]", "FUNCTIONS of the .* wrong_rules is .*should be a dictionary"),
        ("REDUCTIONS = {1: print}", "REDUCTIONS .*should be a dictionary"),
        ("FUNCTIONS = {'f': 1}", r"FUNCTIONS\['f'\] .* is 1, which is no function"),
        ("FUNCTIONS = {'adam': print}", r"FUNCTIONS\['adam'\] .* has the name of a function that every ps has"),
        ("REDUCTIONS = {'sum': print}", r"REDUCTIONS\['sum'\] .*give it another name"),
    ],
)
def test_a_module_that_is_wrong_is_refused(here: Path, text: str, message: str) -> None:
    (here / "wrong_rules.py").write_text(text)
    with pytest.raises(FunctionModuleError, match=message) as refused:
        known_functions("wrong_rules")
    assert "wrong_rules" in str(refused.value)


def test_a_module_that_is_not_there_says_where_it_should_be(here: Path) -> None:
    for name, missing in (("absent_rules", "absent_rules"), ("absent_team.rules", "absent_team")):
        with pytest.raises(FunctionModuleError) as refused:
            known_functions(name)
        assert str(refused.value) == (
            f"the --functions module {name} cannot be imported: no {missing} is installed or lies in {here}"
        )


def test_a_file_is_no_module(here: Path) -> None:
    (here / "given_rules.py").write_text("FUNCTIONS = {'f': print}")
    with pytest.raises(FunctionModuleError, match=r"cannot be imported: .*; give it without \.py, as given_rules$"):
        known_functions("given_rules.py")
