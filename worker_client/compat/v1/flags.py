"""``tf.flags``: options of a program, read from its command line when one of them is first asked for.

``--name=value``, ``--name value`` and one dash instead of two mean the same; ``--name`` and ``--noname`` are for
truth values. What follows ``--`` is no option. ``--help`` shows all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker_client.values.left_out import getattr_of

__all__ = [
    "FLAGS",
    "DEFINE_alias",
    "DEFINE_bool",
    "DEFINE_boolean",
    "DEFINE_enum",
    "DEFINE_float",
    "DEFINE_integer",
    "DEFINE_list",
    "DEFINE_multi_float",
    "DEFINE_multi_integer",
    "DEFINE_multi_string",
    "DEFINE_string",
    "DuplicateFlagError",
    "Error",
    "FlagValues",
    "IllegalFlagValueError",
    "UnparsedFlagAccessError",
    "UnrecognizedFlagError",
    "ValidationError",
    "mark_flag_as_required",
    "mark_flags_as_required",
    "register_validator",
]


class Error(Exception):
    """Something is wrong with an option."""


class DuplicateFlagError(Error):
    """Two options have one name."""


class IllegalFlagValueError(Error):
    """An option cannot have the value that it was given."""


class ValidationError(IllegalFlagValueError):
    """An option is missing, or has a value that the program refuses."""


class UnrecognizedFlagError(Error):
    """There is no option of that name."""


class UnparsedFlagAccessError(Error):
    """Kept for code that names it: options are read when they are first asked for."""


@dataclass(slots=True)
class _Flag:
    name: str
    value: Any
    help: str
    parse: Callable[[Any], Any]
    is_bool: bool = False
    is_multi: bool = False
    present: bool = False
    validators: list[tuple[Callable[[Any], bool], str]] = field(default_factory=list)


class FlagValues:
    """The options of a program: an attribute, and an entry, for each. Calling it reads a command line."""

    def __init__(self) -> None:
        self.__dict__["_flags"] = {}
        self.__dict__["_is_parsed"] = False

    def __call__(self, argv: Sequence[str], known_only: bool = False) -> list[str]:
        """Reads options.

        Args:
            argv: The program's name and its arguments.
            known_only: Whether options of other names are left for the program, instead of refused.

        Returns:
            The program's name and the arguments that are no options.

        Raises:
            UnrecognizedFlagError: There is no such option.
            IllegalFlagValueError: One has a value that it cannot have, or none.
            ValidationError: A required one is missing, or a validator refuses its value.
        """
        program, *arguments = argv
        rest = list(self._read(iter(arguments), known_only, program))
        self.__dict__["_is_parsed"] = True
        for flag in set(map(id, self._flags.values())):
            self._validate(next(each for each in self._flags.values() if id(each) == flag))
        return [program, *rest]

    def _read(self, arguments: Iterator[str], known_only: bool, program: str) -> Iterator[str]:
        for argument in arguments:
            if argument == "--":
                yield from arguments
                return
            if not argument.startswith("-") or argument == "-":
                yield argument
                continue
            name, equals, value = argument.lstrip("-").partition("=")
            if name in ("help", "h", "helpfull", "helpshort") and name not in self._flags:
                sys.stdout.write(self.get_help(program))
                raise SystemExit(1)
            flag = self._flags.get(name)
            if flag is None and name.startswith("no") and not equals:
                negated = self._flags.get(name.removeprefix("no"))
                if negated is not None and negated.is_bool:
                    self._give(negated, "false")
                    continue
            if flag is None:
                if not known_only:
                    raise UnrecognizedFlagError(f"there is no option --{name}; --help shows those that there are")
                yield argument
            elif flag.is_bool and not equals:
                self._give(flag, "true")
            elif equals:
                self._give(flag, value)
            else:
                following = next(arguments, None)
                if following is None:
                    raise IllegalFlagValueError(f"option --{name} needs a value: --{name}=...")
                self._give(flag, following)

    def _give(self, flag: _Flag, text: Any) -> None:
        try:
            value = flag.parse(text)
        except ValueError as error:
            raise IllegalFlagValueError(f"option --{flag.name} cannot be {text!r}: {error}") from error
        flag.value = [*(flag.value or [] if flag.present else []), value] if flag.is_multi else value
        flag.present = True

    def _validate(self, flag: _Flag) -> None:
        for accepts, message in flag.validators:
            if not accepts(flag.value):
                raise ValidationError(f"option --{flag.name}: {message}")

    def _define(self, flag: _Flag) -> None:
        if flag.name in self._flags:
            raise DuplicateFlagError(f"there is an option --{flag.name} already")
        self._flags[flag.name] = flag

    def _require_parsed(self) -> None:
        if not self.__dict__["_is_parsed"]:
            self(sys.argv, known_only=True)

    def is_parsed(self) -> bool:
        """Whether a command line has been read."""
        return bool(self.__dict__["_is_parsed"])

    def mark_as_parsed(self) -> None:
        """Makes the options have their defaults, whatever the command line says."""
        self.__dict__["_is_parsed"] = True

    def get_help(self, program: str = "") -> str:
        """Returns what ``--help`` shows."""
        lines = [f"{Path(program).name or 'options'}:"]
        for name, flag in sorted(self._flags.items()):
            shown = f"--[no]{name}" if flag.is_bool else f"--{name}"
            lines.append(f"  {shown}: {flag.help} (default: {flag.value!r})")
        return "\n".join(lines) + "\n"

    def flag_values_dict(self) -> dict[str, Any]:
        """Returns the values of all options by name."""
        self._require_parsed()
        return {name: flag.value for name, flag in self._flags.items()}

    def set_default(self, name: str, value: Any) -> None:
        """Changes the default of an option."""
        if not self._flag(name).present:
            self._flag(name).value = value

    def unparse_flags(self) -> None:
        """Makes the command line be read again when an option is next asked for."""
        self.__dict__["_is_parsed"] = False

    def _flag(self, name: str) -> _Flag:
        try:
            flag: _Flag = self._flags[name]
        except KeyError:
            raise AttributeError(
                f"there is no option {name!r}; define it with DEFINE_string or one of its like"
            ) from None
        return flag

    def __getattr__(self, name: str) -> Any:
        flag = self._flag(name)
        self._require_parsed()
        return flag.value

    def __setattr__(self, name: str, value: Any) -> None:
        flag = self._flag(name)
        flag.value, flag.present = value, True

    def __delattr__(self, name: str) -> None:
        self._flag(name)
        for alias in [key for key, flag in self._flags.items() if flag.name == name]:
            del self._flags[alias]

    def __getitem__(self, name: str) -> Any:
        return self._flag(name)

    def __contains__(self, name: str) -> bool:
        return name in self._flags

    def __iter__(self) -> Iterator[str]:
        return iter(self._flags)

    def __len__(self) -> int:
        return len(self._flags)

    def __dir__(self) -> list[str]:
        return sorted([*self._flags, *super().__dir__()])


FLAGS = FlagValues()


def _bool(text: Any) -> bool:
    if isinstance(text, bool):
        return text
    lower = str(text).lower()
    if lower in ("true", "t", "1", "yes"):
        return True
    if lower in ("false", "f", "0", "no"):
        return False
    raise ValueError("a truth value is true or false")


def _within(parse: Callable[[Any], Any], lower_bound: Any, upper_bound: Any) -> Callable[[Any], Any]:
    def checked(text: Any) -> Any:
        value = parse(text)
        if (lower_bound is not None and value < lower_bound) or (upper_bound is not None and value > upper_bound):
            raise ValueError(f"it should be in [{lower_bound}, {upper_bound}]")
        return value

    return checked


def _integer(text: Any) -> int:
    return int(text, 0) if isinstance(text, str) else int(text)


def _listed(text: Any) -> list[str]:
    return list(text) if isinstance(text, list | tuple) else [each.strip() for each in text.split(",")] if text else []


def _define(
    name: str,
    default: Any,
    help: str,  # noqa: A002 - TensorFlow's name
    parse: Callable[[Any], Any],
    flag_values: FlagValues,
    required: bool,
    *,
    is_bool: bool = False,
    is_multi: bool = False,
) -> None:
    if default is not None:
        try:
            default = [parse(each) for each in _several(default)] if is_multi else parse(default)
        except ValueError as error:
            raise IllegalFlagValueError(f"option --{name} cannot be {default!r}: {error}") from error
    flag_values._define(_Flag(name, default, help or "", parse, is_bool, is_multi))
    if required:
        mark_flag_as_required(name, flag_values)


def _several(values: Any) -> Iterable[Any]:
    return values if isinstance(values, list | tuple) else [values]


def DEFINE_string(  # noqa: N802 - TensorFlow's name
    name: str,
    default: Any,
    help: str,  # noqa: A002 - TensorFlow's name
    flag_values: FlagValues = FLAGS,
    required: bool = False,
    **args: Any,
) -> None:
    """Defines an option that is text; ``args`` are ignored."""
    del args
    _define(name, default, help, str, flag_values, required)


def DEFINE_integer(  # noqa: N802 - see above
    name: str,
    default: Any,
    help: str,  # noqa: A002 - TensorFlow's name
    lower_bound: int | None = None,
    upper_bound: int | None = None,
    flag_values: FlagValues = FLAGS,
    required: bool = False,
    **args: Any,
) -> None:
    """Defines an option that is an integer between two bounds, which may be None."""
    del args
    _define(name, default, help, _within(_integer, lower_bound, upper_bound), flag_values, required)


def DEFINE_float(  # noqa: N802 - see above
    name: str,
    default: Any,
    help: str,  # noqa: A002 - TensorFlow's name
    lower_bound: float | None = None,
    upper_bound: float | None = None,
    flag_values: FlagValues = FLAGS,
    required: bool = False,
    **args: Any,
) -> None:
    """Defines an option that is a number between two bounds, which may be None."""
    del args
    _define(name, default, help, _within(float, lower_bound, upper_bound), flag_values, required)


def DEFINE_bool(  # noqa: N802 - see above
    name: str,
    default: Any,
    help: str,  # noqa: A002 - TensorFlow's name
    flag_values: FlagValues = FLAGS,
    required: bool = False,
    **args: Any,
) -> None:
    """Defines an option that is a truth value."""
    del args
    _define(name, default, help, _bool, flag_values, required, is_bool=True)


DEFINE_boolean = DEFINE_bool


def DEFINE_enum(  # noqa: N802 - see above
    name: str,
    default: Any,
    enum_values: Sequence[str],
    help: str,  # noqa: A002 - TensorFlow's name
    flag_values: FlagValues = FLAGS,
    required: bool = False,
    **args: Any,
) -> None:
    """Defines an option that is one of some words."""
    del args

    def one_of_them(text: Any) -> str:
        if text not in enum_values:
            raise ValueError(f"it should be one of {', '.join(enum_values)}")
        return str(text)

    _define(name, default, help, one_of_them, flag_values, required)


def DEFINE_list(  # noqa: N802 - see above
    name: str,
    default: Any,
    help: str,  # noqa: A002 - TensorFlow's name
    flag_values: FlagValues = FLAGS,
    required: bool = False,
    **args: Any,
) -> None:
    """Defines an option that is some texts with commas between them."""
    del args
    _define(name, default, help, _listed, flag_values, required)


def DEFINE_multi_string(  # noqa: N802 - see above
    name: str,
    default: Any,
    help: str,  # noqa: A002 - TensorFlow's name
    flag_values: FlagValues = FLAGS,
    required: bool = False,
    **args: Any,
) -> None:
    """Defines an option that may be given several times: a list of texts."""
    del args
    _define(name, default, help, str, flag_values, required, is_multi=True)


def DEFINE_multi_integer(  # noqa: N802 - see above
    name: str,
    default: Any,
    help: str,  # noqa: A002 - TensorFlow's name
    lower_bound: int | None = None,
    upper_bound: int | None = None,
    flag_values: FlagValues = FLAGS,
    required: bool = False,
    **args: Any,
) -> None:
    """Defines an option that may be given several times: a list of integers."""
    del args
    _define(name, default, help, _within(_integer, lower_bound, upper_bound), flag_values, required, is_multi=True)


def DEFINE_multi_float(  # noqa: N802 - see above
    name: str,
    default: Any,
    help: str,  # noqa: A002 - TensorFlow's name
    lower_bound: float | None = None,
    upper_bound: float | None = None,
    flag_values: FlagValues = FLAGS,
    required: bool = False,
    **args: Any,
) -> None:
    """Defines an option that may be given several times: a list of numbers."""
    del args
    _define(name, default, help, _within(float, lower_bound, upper_bound), flag_values, required, is_multi=True)


def DEFINE_alias(  # noqa: N802 - see above
    name: str, original_name: str, flag_values: FlagValues = FLAGS, module_name: str | None = None
) -> None:
    """Defines another name of an option."""
    del module_name
    if name in flag_values:
        raise DuplicateFlagError(f"there is an option --{name} already")
    flag_values._flags[name] = flag_values._flag(original_name)


def register_validator(
    flag_name: str,
    checker: Callable[[Any], bool],
    message: str = "Flag validation failed",
    flag_values: FlagValues = FLAGS,
) -> None:
    """Makes reading a command line fail with ``message`` unless ``checker`` accepts the value of an option."""
    flag_values._flag(flag_name).validators.append((checker, message))


def mark_flag_as_required(flag_name: str, flag_values: FlagValues = FLAGS) -> None:
    """Makes reading a command line fail unless an option has a value."""
    register_validator(flag_name, lambda value: value is not None, "it is required", flag_values)


def mark_flags_as_required(flag_names: Iterable[str], flag_values: FlagValues = FLAGS) -> None:
    """Does what ``mark_flag_as_required`` does, with several."""
    for name in flag_names:
        mark_flag_as_required(name, flag_values)


__getattr__ = getattr_of("flags")
