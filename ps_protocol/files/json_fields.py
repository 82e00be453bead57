"""The fields of a manifest by name and type: what is not as it should be is an error that names the field."""

from __future__ import annotations

import math
from typing import Any, Final

MOST: Final = 2**64 - 1
"""The largest whole number that a field may have if nothing else is said."""

_SHOWN: Final = 60


class ManifestError(ValueError):
    """This version cannot read the manifest; the message says why."""


class Fields:
    """An object of a manifest. Its methods raise ``ManifestError`` if a field is missing or not of that kind.

    Args:
        content: What JSON has there.
        where: How errors name it, as "parts[0]"; empty for the manifest itself.

    Attributes:
        content: Likewise.
        where: Likewise.
    """

    __slots__ = ("content", "where")

    def __init__(self, content: Any, where: str = ""):
        if type(content) is not dict:
            raise _wrong(where or "the manifest", content, "an object")
        self.content: dict[str, Any] = content
        self.where = where

    def __contains__(self, name: str) -> bool:
        return name in self.content

    def path(self, name: str) -> str:
        """How errors name a field."""
        return f"{self.where}.{name}" if self.where else name

    def wrong(self, name: str, expected: str) -> ManifestError:
        """What to raise for a field, which should be something else."""
        return _wrong(self.path(name), self.content.get(name), expected)

    def is_null(self, name: str) -> bool:
        """Whether a field has nothing."""
        return self._value(name) is None

    def text(self, name: str) -> str:
        """A text."""
        value = self._value(name)
        if type(value) is not str:
            raise self.wrong(name, "text")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._value(name)
        if type(value) is not bool:
            raise self.wrong(name, "true or false")
        return value

    def whole(self, name: str, most: int = MOST) -> int:
        """A whole number from 0 on."""
        value = self._value(name)
        if type(value) is not int or not 0 <= value <= most:
            raise self.wrong(name, f"a whole number from 0 to {most}")
        return value

    def wholes(self, name: str, most: int = MOST) -> tuple[int, ...]:
        """A list of whole numbers from 0 on."""
        values = self._list(name)
        for each in values:
            if type(each) is not int or not 0 <= each <= most:
                raise self.wrong(name, f"a list of whole numbers from 0 to {most}")
        return tuple(values)

    def number(self, name: str) -> float:
        """A number, perhaps "nan" or "inf", which JSON has no numbers for."""
        return _number(self._value(name), self.path(name))

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of such."""
        return tuple([_number(each, f"{self.path(name)}[{index}]") for index, each in enumerate(self._list(name))])

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        values = self._list(name)
        for each in values:
            if type(each) is not str:
                raise self.wrong(name, "a list of texts")
        return tuple(values)

    def names(self) -> list[str]:
        """Of all fields."""
        return list(self.content)

    def object(self, name: str) -> Fields:
        """An object in this one."""
        return Fields(self._value(name), self.path(name))

    def objects(self, name: str) -> list[Fields]:
        """A list of objects."""
        path = self.path(name)
        return [Fields(each, f"{path}[{index}]") for index, each in enumerate(self._list(name))]

    def _list(self, name: str) -> list[Any]:
        value = self._value(name)
        if type(value) is not list:
            raise self.wrong(name, "a list")
        return value

    def _value(self, name: str) -> Any:
        try:
            return self.content[name]
        except KeyError:
            raise ManifestError(f"{self.path(name)} is missing") from None


def _number(value: Any, path: str) -> float:
    if type(value) is int or type(value) is float or type(value) is str:
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise _wrong(path, value, "a number") from None
        if type(value) is str or math.isfinite(number):
            return number
    raise _wrong(path, value, "a number")


def _wrong(path: str, value: Any, expected: str) -> ManifestError:
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits; a list in a list in a list
        shown = f"a {type(value).__name__}"
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    return ManifestError(f"{path} is {shown}; it should be {expected}")
