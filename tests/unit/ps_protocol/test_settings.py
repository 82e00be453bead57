from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ps_protocol.errors import SettingError
from ps_protocol.settings import (
    ARGUMENT,
    DIRECTORY,
    DURATION,
    SECONDS,
    SIZE,
    TEXT,
    environment_of,
    one_of,
    read,
    setting,
    settings_of,
    switch,
    whole_number,
)


@dataclass(frozen=True, kw_only=True)
class Kitchen:
    """A table of settings."""

    num_cooks: int = setting("--cooks", whole_number(1), "2", "who cooks")
    patience_s: float | None = setting("--patience", SECONDS, None, "how long guests wait")
    is_closed: bool = switch("--closed", "nobody comes in")
    secret: str = setting("--secret", TEXT, "salt", in_environment=False)
    music: str | None = setting("--music", ARGUMENT, None, "what the cook hears", in_environment=False)


def arguments(*given: str, environ: dict[str, str] | None = None, file: dict[str, Any] | None = None) -> Kitchen:
    return Kitchen(**read(Kitchen, given, program="kitchen", environ=environ or {}, file=file or {}))


def values(environ: dict[str, str] | None = None, file: dict[str, Any] | None = None, **given: object) -> Kitchen:
    return Kitchen(**read(Kitchen, given, environ=environ or {}, file=file or {}))


def test_defaults_are_those_of_the_table() -> None:
    assert Kitchen() == Kitchen(num_cooks=2, patience_s=None, is_closed=False, secret="salt") == arguments() == values()


def test_an_argument_wins_over_the_environment_over_the_file_over_the_default() -> None:
    environ, file = {"SHARDSCOPE_COOKS": "4"}, {"cooks": 5}
    assert arguments("--cooks", "3", environ=environ, file=file).num_cooks == 3
    assert values(environ, file, num_cooks=3).num_cooks == 3
    assert arguments(environ=environ, file=file).num_cooks == values(environ, file).num_cooks == 4
    assert arguments(file=file).num_cooks == values(file=file).num_cooks == 5


def test_what_is_empty_or_none_is_not_said() -> None:
    assert arguments(environ={"SHARDSCOPE_COOKS": ""}).num_cooks == 2
    assert values({"SHARDSCOPE_COOKS": "4"}, num_cooks=None).num_cooks == 4


def test_the_environment_is_that_of_the_process_unless_another_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDSCOPE_COOKS", "7")
    assert read(Kitchen, {})["num_cooks"] == 7


def test_a_switch_and_what_is_for_the_command_line_alone_have_no_variable() -> None:
    assert arguments("--closed", "--secret", "pepper") == Kitchen(is_closed=True, secret="pepper")
    assert arguments(environ={"SHARDSCOPE_CLOSED": "1", "SHARDSCOPE_SECRET": "pepper"}) == Kitchen()
    assert [each.envvar for each in settings_of(Kitchen)] == [
        "SHARDSCOPE_COOKS",
        "SHARDSCOPE_PATIENCE",
        None,
        None,
        None,
    ]


@pytest.mark.parametrize("call", [arguments, values])
def test_an_error_names_the_source_the_value_and_what_it_should_be(call: Any) -> None:
    with pytest.raises(SettingError) as refused:
        call(environ={"SHARDSCOPE_COOKS": "none"})
    assert str(refused.value) == "SHARDSCOPE_COOKS is 'none'; it should be a whole number, at least 1."
    with pytest.raises(SettingError) as refused:
        call(file={"cooks": 0})
    assert str(refused.value) == "cooks in shardscope.toml is 0; it should be a whole number, at least 1."


def test_an_argument_is_named_as_it_was_given() -> None:
    expected = "a number of seconds from 0, such as 10 or 0.5"
    with pytest.raises(SettingError) as refused:
        arguments("--patience", "long")
    assert str(refused.value) == f"--patience is 'long'; it should be {expected}."
    with pytest.raises(SettingError) as refused:
        values(patience_s=-1.0)
    assert str(refused.value) == f"patience_s is -1.0; it should be {expected}."


def test_help_shows_what_can_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments("-h")
    assert ended.value.code == 0
    assert "--cooks N           who cooks  [default: 2]" in capsys.readouterr().out


def test_settings_go_to_other_processes_by_the_environment() -> None:
    settings = Kitchen(num_cooks=3, patience_s=0.5, secret="pepper")
    assert environment_of(settings) == {"SHARDSCOPE_COOKS": "3", "SHARDSCOPE_PATIENCE": "0.5"}
    assert values(environment_of(settings)) == Kitchen(num_cooks=3, patience_s=0.5)


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "1e300", "", "soon"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="number of seconds"):
        SECONDS.parse(text)


@pytest.mark.parametrize("text", ["", " 7", "1_0", "7.0", "11", "-1", "\u0663"])
def test_what_is_no_whole_number_of_a_range(text: str) -> None:
    assert whole_number(0, 10).parse("10") == 10
    with pytest.raises(ValueError, match=r"a whole number in 0\.\.10"):
        whole_number(0, 10).parse(text)


def test_other_kinds_of_values() -> None:
    assert [DURATION.parse(text) for text in ("90", "60s", "1.5m", "2 min", "2h", "1d")] == [
        90,
        60,
        90,
        120,
        7200,
        86400,
    ]
    assert (SIZE.parse("1.5K"), DIRECTORY.parse("a/b")) == (1536, Path("a/b"))
    assert one_of({"x": 1}, "LETTER", ignore_case=True).parse("X") == 1
    assert one_of(["x"], "LETTER").parse("x") == "x"
    for kind, text, expected in (
        (SIZE, "lots", "a size"),
        (DURATION, "0s", "a time above 0"),
        (DURATION, "1w", "a time above 0, such as 60s, 10m or 2h"),
        (DIRECTORY, " ", "empty"),
        (one_of(["x", "y"], "LETTER"), "X", "one of x, y"),
    ):
        with pytest.raises(ValueError, match=expected):
            kind.parse(text)


@pytest.mark.parametrize("text", [" 5 ", "+5", "1_000", "-0", "\u0663", "inf", "nan", "1e99", "."])
def test_a_number_of_seconds_is_written_as_one(text: str) -> None:
    with pytest.raises(SettingError, match=r"--patience is .* it should be a number of seconds"):
        arguments(f"--patience={text}")


def test_seconds_that_python_shows_with_an_exponent_are_read() -> None:
    assert values(patience_s=1e-7).patience_s == 1e-7


def test_an_option_does_not_take_the_next_one_as_its_value() -> None:
    with pytest.raises(SettingError, match="--secret is '--closed'; it should be TEXT, not the next option"):
        arguments("--secret", "--closed")


def test_an_argument_for_another_program_may_look_like_an_option() -> None:
    assert arguments("--music", "--loud").music == "--loud"
