"""Settings of a process: an argument, else an environment variable, else the settings file, else the default.

A process has a table of its settings: a dataclass with a field made by ``setting`` for each. The first source that has
a value gives it. A wrong value is an error of one line: which source, which value, and what it should be.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import click
from click.core import ParameterSource

from ps_protocol.errors import SettingError
from ps_protocol.interrupts import raise_interrupt

SETTINGS_FILE: Final = "shardscope.toml"

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_MOST_SECONDS: Final = 1e9  # more would be more than timers can wait for
_LEAST_LEASE_S: Final = 0.1  # with three reports in each, whoever has a shorter one would do little else
_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_NUMBER: Final = re.compile(r"\d+(\.\d+)?(e-?\d+)?", re.ASCII)  # as Python shows numbers from 0
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)?", re.ASCII)
_UNIT_SECONDS: Final = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)


class Setting(click.Option):
    """One setting, which is an option of a command line as well.

    Attributes:
        key: Its name in the settings file; ``SHARDSCOPE_<KEY>`` is its environment variable, if it has one.
    """

    def __init__(self, flag: str, field: str, *, in_environment: bool, **option: Any):
        self.key = flag.removeprefix("--").replace("-", "_")
        super().__init__([flag, field], envvar=f"SHARDSCOPE_{self.key.upper()}" if in_environment else None, **option)

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        environ: Mapping[str, str] = os.environ if ctx.obj is None else ctx.obj
        return environ.get(str(self.envvar)) or None

    def source(self, ctx: click.Context) -> str:
        """Where the value comes from, as a user knows it."""
        match ctx.get_parameter_source(str(self.name)):
            case ParameterSource.ENVIRONMENT:
                return str(self.envvar)
            case ParameterSource.DEFAULT_MAP:
                return f"{self.key} in {SETTINGS_FILE}"
        return self.opts[0] if ctx.info_name else str(self.name)


class Kind(click.ParamType):  # type: ignore[type-arg]  # it has none in older releases of click
    """What a text may be.

    Args:
        name: Stands for the text in the help.
        parse: Makes the value, or raises a ValueError that says what the text should be: "a whole number".
        takes_options: Whether the text may be an option, one that is meant for another program.
    """

    def __init__(self, name: str, parse: Callable[[str], object], *, takes_options: bool = False):
        self.name = name
        self.parse = parse
        self.takes_options = takes_options

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        try:
            if str(value).startswith("--") and not self.takes_options:
                raise ValueError(f"{self.name}, not the next option")  # noqa: TRY301  # as what cannot be parsed
            return self.parse(str(value))
        except ValueError as error:
            raise_interrupt(error)
            if isinstance(param, Setting) and ctx is not None:
                source = param.source(ctx)
            else:
                source = self.name if param is None else param.opts[0]
            raise click.UsageError(f"{source} is {value!r}; it should be {error}.", ctx) from None

    def check(self, value: object, name: str) -> Any:
        """Makes the value of an argument; SettingError, with the argument's name, if it makes no sense."""
        try:
            return self.parse(str(value))
        except ValueError as error:
            raise_interrupt(error)
            raise SettingError(f"{name} is {value!r}; it should be {error}.") from None


def setting(
    flag: str, kind: Kind, default: str | None = None, purpose: str = "", *, in_environment: bool = True, **option: Any
) -> Any:
    """Makes a field of a table; without a default, its value is None where no source has one.

    Args:
        flag: The option of a command line, as "--memory-limit".
        kind: What the text may be.
        default: Its text if no source has one.
        purpose: What it is for, as the help shows it.
        in_environment: Whether the environment may give it.
        option: Further arguments of ``click.Option``.
    """
    value = None if default is None else kind.parse(default)
    given = {"flag": flag, "type": kind, "default": default, "help": purpose, "in_environment": in_environment}
    return dataclasses.field(default=value, metadata={"setting": given | {"show_default": bool(default)} | option})


option: Final = functools.partial(setting, in_environment=False)
"""Makes a field of a table that the environment does not give."""


def switch(flag: str, purpose: str) -> Any:
    """Makes a field of a table that is True if the command line has the flag, which takes no value."""
    given = {"flag": flag, "is_flag": True, "help": purpose, "in_environment": False}
    return dataclasses.field(default=False, metadata={"setting": given})


def settings_of(table: type) -> list[Setting]:
    """The settings of a table."""
    named = {field.name: field.metadata.get("setting") for field in dataclasses.fields(table)}
    return [Setting(field=name, **given) for name, given in named.items() if given]


def read(
    table: type,
    given: Sequence[str] | Mapping[str, object],
    *,
    environ: Mapping[str, str] = os.environ,
    file: Mapping[str, Any] = _NOTHING,
    program: str | None = None,
    **description: Any,
) -> dict[str, Any]:
    """Reads a table from a command line, or from the arguments of a call, completed by the other sources.

    Args:
        table: The table.
        given: The command line; or a value for each field, None if the caller has given none.
        environ: The environment.
        file: What the settings file says, by key.
        program: Name of the program, for the help.
        description: Head and end of the help, as ``click.Command`` calls them.

    Returns:
        A value for each field.

    Raises:
        SettingError: A value makes no sense, or there is no such option.
        SystemExit: Help was asked for, and has been printed.
    """
    settings = settings_of(table)
    in_file = {str(each.name): file[each.key] for each in settings if each.key in file}
    command = click.Command(program, params=list(settings), **description)
    click.version_option(package_name="shardscope", prog_name=program)(command)
    context = click.Context(
        command, info_name=program, obj=environ, default_map=in_file, help_option_names=["-h", "--help"]
    )
    try:
        with context.scope():
            if isinstance(given, Mapping):
                values = {name: value for name, value in given.items() if value is not None}
                for each in settings:
                    each.handle_parse_result(context, values, [])
            else:
                command.parse_args(context, list(given))
    except click.exceptions.Exit as ended:
        raise SystemExit(ended.exit_code) from None
    except click.UsageError as error:
        raise SettingError(" ".join(error.format_message().split())) from None
    return context.params


def environment_of(settings: object) -> dict[str, str]:
    """The environment variables that give another process these settings."""
    named = {str(each.envvar): getattr(settings, str(each.name)) for each in settings_of(type(settings)) if each.envvar}
    return {variable: str(value) for variable, value in named.items() if value is not None}


# -- kinds --------------------------------------------------------------------------------------


def whole_number(low: int = 0, high: int = 10**9 - 1, *, name: str = "N", expected: str = "") -> Kind:
    """A number in ``low..high``."""
    usual = f"a whole number, at least {low}" if high == 10**9 - 1 else f"a whole number in {low}..{high}"

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,19}", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError(expected or usual)
        return int(text)

    return Kind(name, parse)


def one_of(values: Iterable[str] | Mapping[str, object], name: str, *, ignore_case: bool = False) -> Kind:
    """One of some texts, or what it stands for."""
    known = values if isinstance(values, Mapping) else {each: each for each in values}

    def parse(text: str) -> object:
        try:
            return known[text.lower() if ignore_case else text]
        except KeyError:
            raise ValueError(f"one of {', '.join(known)}") from None

    return Kind(name, parse)


def _seconds(text: str) -> float:
    if _NUMBER.fullmatch(text) and float(text) <= _MOST_SECONDS:
        return float(text)
    raise ValueError("a number of seconds from 0, such as 10 or 0.5")


def _positive_seconds(text: str) -> float:
    if _NUMBER.fullmatch(text) and 0 < float(text) <= _MOST_SECONDS:
        return float(text)
    raise ValueError("a number of seconds above 0, such as 10 or 0.5")


def _lease(text: str) -> float:
    if _NUMBER.fullmatch(text) and (float(text) == 0 or _LEAST_LEASE_S <= float(text) <= _MOST_SECONDS):
        return float(text)
    raise ValueError(f"0 for never, or a number of seconds from {_LEAST_LEASE_S:g}, such as 10")


def _duration(text: str) -> float:
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _UNIT_SECONDS[match[2] or "s"] if match else 0.0
    if not 0 < seconds <= _MOST_SECONDS:
        raise ValueError("a time above 0, such as 60s, 10m or 2h")
    return seconds


def _size_bytes(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("a size: bytes, or as in 512M or 4G")
    return int(Decimal(match[1]) * _UNITS[match[2].upper()])


def _directory(text: str) -> Path:
    if not text.strip():
        raise ValueError("the path of a directory, and is empty")
    return Path(text)


def _module(text: str) -> str:
    name = text.strip()
    if name and not all(part.isidentifier() for part in name.split(".")):
        raise ValueError("the name of a Python module, as in my_team.rules")
    return name


TEXT: Final = Kind("TEXT", str)
ARGUMENT: Final = Kind("ARG", str, takes_options=True)
PORT: Final = whole_number(0, 65535, name="PORT")
SECONDS: Final = Kind("SECONDS", _seconds)
POSITIVE_SECONDS: Final = Kind("SECONDS", _positive_seconds)
LEASE: Final = Kind("SECONDS", _lease)
DURATION: Final = Kind("TIME", _duration)
SIZE: Final = Kind("SIZE", _size_bytes)
DIRECTORY: Final = Kind("DIR", _directory)
MODULE: Final = Kind("MODULE", _module)
