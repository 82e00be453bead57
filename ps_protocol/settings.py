"""Settings of a process: an argument, else an environment variable, else the settings file, else the default.

A process has a table of its settings: a dataclass with a field made by ``setting`` for each. The first source that has
a value gives it. What cannot be right is one line: which source, which value, and what it should be.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

SETTINGS_FILE: Final = "shardscope.toml"

_HELP: Final = {"help_option_names": ["-h", "--help"]}
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_MOST_SECONDS: Final = 1e9
"""What the system's timers can wait for, and more than anyone does."""

_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)

_T = TypeVar("_T")


class SettingError(ValueError):
    """A setting is missing, malformed or contradicts another; the message says in one line what to change."""


class Setting(click.Option):
    """One setting, which is an option of a command line as well.

    Attributes:
        key: Its name in the settings file; ``SHARDSCOPE_<KEY>`` is its environment variable, if it has one.
    """

    def __init__(self, flag: str, name: str, *, in_environment: bool, **attributes: Any):
        self.key = flag.removeprefix("--").replace("-", "_")
        variable = f"SHARDSCOPE_{self.key.upper()}" if in_environment else None
        super().__init__([flag, name], envvar=variable, **attributes)

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        environ: Mapping[str, str] = os.environ if ctx.obj is None else ctx.obj
        return environ.get(self.envvar) or None if isinstance(self.envvar, str) else None

    def source(self, ctx: click.Context) -> str:
        """Where the value comes from, as a user knows it."""
        source = ctx.get_parameter_source(str(self.name))
        if source is ParameterSource.ENVIRONMENT:
            return str(self.envvar)
        if source is ParameterSource.DEFAULT_MAP:
            return f"{self.key} in {SETTINGS_FILE}"
        return str(self.name) if ctx.info_name is None else self.opts[0]


class _Parsed(click.ParamType):  # type: ignore[type-arg]  # older releases of click have none
    name = "text"

    def __init__(self, parse: Callable[[str], object]):
        self._parse = parse

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        try:
            return self._parse(str(value))
        except ValueError as error:
            source = param.source(ctx) if isinstance(param, Setting) and ctx is not None else "the value"
            raise click.UsageError(f"{source} is {value!r}; it should be {error}.", ctx) from error


def setting(
    flag: str, parse: Callable[[str], object], default: str | None = None, *, in_environment: bool = True, **option: Any
) -> Any:
    """Makes a field of a table.

    Args:
        flag: The option of a command line, as "--memory-limit".
        parse: Makes the value of a text, or raises a ValueError that says what the text should be: "a whole number".
        default: The text that counts if there is no other; without it, the value is then None, or () where there may
            be several.
        in_environment: Whether the environment may give it.
        option: What else ``click.Option`` is to know.
    """
    unsaid = () if option.get("multiple") else None
    return dataclasses.field(
        default=unsaid if default is None else parse(default),
        metadata={
            "option": {
                "flag": flag,
                "type": _Parsed(parse),
                "default": default,
                "show_default": default is not None,
                "in_environment": in_environment,
                **option,
            }
        },
    )


def switch(flag: str, *, help: str) -> Any:  # noqa: A002  # as click calls it
    """Makes a field of a table that is True if the command line has the flag, which takes no value."""
    option = {"flag": flag, "in_environment": False, "is_flag": True, "help": help}
    return dataclasses.field(default=False, metadata={"option": option})


def settings_of(table: type) -> list[Setting]:
    """The settings of a table."""
    return [
        Setting(name=field.name, **field.metadata["option"])
        for field in dataclasses.fields(table)
        if "option" in field.metadata
    ]


def read_arguments(
    table: type,
    arguments: Sequence[str],
    *,
    program: str,
    environ: Mapping[str, str] = os.environ,
    file: Mapping[str, Any] = _NOTHING,
    **description: str,
) -> dict[str, Any]:
    """Reads a table from a command line, completed by the other sources.

    Args:
        table: The table.
        arguments: The command line.
        program: What was called.
        environ: The environment.
        file: What the settings file says, by key.
        description: Head and end of the help, as ``click.Command`` calls them.

    Returns:
        A value for each field.

    Raises:
        SettingError: An argument or a value makes no sense.
        SystemExit: Help was asked for, and has been printed.
    """
    settings = settings_of(table)
    command = click.Command(program, params=list(settings), context_settings=_HELP, **description)  # type: ignore[arg-type]  # all are texts
    try:
        context = command.make_context(program, list(arguments), obj=environ, default_map=_by_name(settings, file))
    except click.exceptions.Exit as ended:
        raise SystemExit(ended.exit_code) from None
    except click.UsageError as error:
        raise SettingError(_one_line(error)) from error
    return context.params


def read_values(
    table: type,
    given: Mapping[str, object],
    *,
    environ: Mapping[str, str] = os.environ,
    file: Mapping[str, Any] = _NOTHING,
) -> dict[str, Any]:
    """Reads a table from the arguments of a call, completed by the other sources; None is no value.

    Returns:
        A value for each field.

    Raises:
        SettingError: A value makes no sense.
    """
    settings = settings_of(table)
    command = click.Command(None, params=list(settings))
    context = click.Context(command, obj=environ, default_map=_by_name(settings, file))
    values = {name: value for name, value in given.items() if value is not None}
    try:
        for each in settings:
            each.handle_parse_result(context, values, [])
    except click.UsageError as error:
        raise SettingError(_one_line(error)) from error
    return context.params


def environment_of(settings: object) -> dict[str, str]:
    """The environment that tells another process what these settings are."""
    named = {str(each.envvar): getattr(settings, str(each.name)) for each in settings_of(type(settings)) if each.envvar}
    return {variable: str(value) for variable, value in named.items() if value is not None}


def _by_name(settings: Iterable[Setting], file: Mapping[str, Any]) -> dict[str, Any]:
    return {str(each.name): file[each.key] for each in settings if each.key in file}


def _one_line(error: click.ClickException) -> str:
    return " ".join(error.format_message().split())


# -- what a text may be -------------------------------------------------------------------------


def whole_number(low: int = 0, high: int = 10**9 - 1, *, name: str = "") -> Callable[[str], int]:
    """Parses a number in ``low..high``, which is called ``name`` if it is not taken."""
    expected = name or (f"a whole number, at least {low}" if high == 10**9 - 1 else f"a whole number in {low}..{high}")

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,19}", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError(expected)
        return int(text)

    return parse


PORT: Final = whole_number(0, 65535)


def seconds(text: str) -> float:
    """Parses a time."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= _MOST_SECONDS:
        raise ValueError("a number of seconds from 0, such as 10 or 0.5")
    return value


def size_bytes(text: str) -> int:
    """Parses a size."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("a size: bytes, or as in 512M or 4G")
    return int(Decimal(match[1]) * _UNITS[match[2].upper()])


def directory(text: str) -> Path:
    """Parses the path of a directory."""
    if not text.strip():
        raise ValueError("the path of a directory, and is empty")
    return Path(text)


def one_of(values: Mapping[str, _T], *, ignore_case: bool = False) -> Callable[[str], _T]:
    """Parses one of the names of some values."""

    def parse(text: str) -> _T:
        name = text.lower() if ignore_case else text
        if name not in values:
            raise ValueError(f"one of {', '.join(values)}")
        return values[name]

    return parse
