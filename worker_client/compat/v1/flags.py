"""``tf.flags``: Abseil's options of a program, which are imported when the first of their names is asked for.

As in TensorFlow 1, ``FLAGS`` reads the command line by itself when an option is first asked for, and ``DEFINE_string``
and its like take the older names of their arguments as well.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

from worker_client.values.left_out import getattr_of

_NAMES: Final = (
    "ArgumentParser ArgumentSerializer BaseListParser BooleanFlag BooleanParser CantOpenFlagFileError "
    "CsvListSerializer DEFINE DEFINE_alias DEFINE_bool DEFINE_boolean DEFINE_enum DEFINE_enum_class DEFINE_flag "
    "DEFINE_float DEFINE_integer DEFINE_list DEFINE_multi DEFINE_multi_enum DEFINE_multi_enum_class "
    "DEFINE_multi_float DEFINE_multi_integer DEFINE_multi_string DEFINE_spaceseplist DEFINE_string "
    "DuplicateFlagError EnumClassFlag EnumClassListSerializer EnumClassParser EnumClassSerializer EnumFlag "
    "EnumParser Error FLAGS Flag FlagHolder FlagNameConflictsWithMethodError FlagValues FloatParser "
    "IllegalFlagValueError IntegerParser ListParser ListSerializer MultiEnumClassFlag MultiFlag "
    "UnparsedFlagAccessError UnrecognizedFlagError ValidationError WhitespaceSeparatedListParser "
    "adopt_module_key_flags declare_key_flag disclaim_key_flags doc_to_help flag_dict_to_args get_help_width "
    "mark_bool_flags_as_mutual_exclusive mark_flag_as_required mark_flags_as_mutual_exclusive "
    "mark_flags_as_required multi_flags_validator register_multi_flags_validator register_validator set_default "
    "text_wrap validator "
)
_WITH_OLDER_NAMES: Final = ("DEFINE_bool", "DEFINE_boolean", "DEFINE_float", "DEFINE_integer", "DEFINE_string")
_NEWER: Final = {"flag_name": "name", "default_value": "default", "docstring": "help"}


__all__: list[str] = []
__all__ += list(_NAMES.split())  # no module has them until they are asked for

_missing = getattr_of("flags")


class _Flags:
    """Abseil's ``FLAGS``, which reads the command line when an option is first asked for."""

    def __init__(self, values: Any):
        self.__dict__["_values"] = values

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__["_values"]
        if name in values and not values.is_parsed():
            values(sys.argv, known_only=True)
        return getattr(values, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_values"], name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__dict__["_values"], name)

    def __call__(self, *args: Any, **kwargs: Any) -> list[str]:
        """Reads a command line; returns what of it is no option."""
        rest: list[str] = self.__dict__["_values"](*args, **kwargs)
        return rest

    def __getitem__(self, name: str) -> Any:
        return self.__dict__["_values"][name]

    def __setitem__(self, name: str, flag: Any) -> None:
        self.__dict__["_values"][name] = flag

    def __contains__(self, name: str) -> bool:
        return name in self.__dict__["_values"]

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__["_values"])

    def __len__(self) -> int:
        return len(self.__dict__["_values"])

    def __dir__(self) -> list[str]:
        return dir(self.__dict__["_values"])

    def __str__(self) -> str:
        return str(self.__dict__["_values"])


@functools.cache
def _library() -> ModuleType:
    library = importlib.import_module("absl.flags")
    library.disclaim_key_flags()  # the options that are defined here are those of the module that calls
    return library


def _with_older_names(define: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(define)
    def defined(*args: Any, **kwargs: Any) -> Any:
        return define(*args, **{_NEWER.get(name, name): value for name, value in kwargs.items()})

    return defined


def __getattr__(name: str) -> Any:
    if name == "FLAGS":
        found: Any = _Flags(_library().FLAGS)
    elif name in _WITH_OLDER_NAMES:
        found = _with_older_names(getattr(_library(), name))
    elif name in __all__:
        found = getattr(_library(), name)
    else:
        _missing(name)
    globals()[name] = found
    return found
