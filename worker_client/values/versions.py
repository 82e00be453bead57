"""A value together with the version that it is of, so that it need not be read again while it is the newest."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Generic, Self, SupportsIndex, TypeVar
from uuid import UUID

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array

_VersionT_co = TypeVar("_VersionT_co", covariant=True)


class Version(int):
    """Number of updates applied to a variable since it was initialised, within one store.

    A number like any other, which also knows where it was counted: a ps that was restarted without its
    variables counts from 0 again, so equal numbers of two stores may stand for different values
    (``Read.unless_version`` in ``batch.proto``).

    Args:
        number: Updates applied.
        store: Incarnation of the store that applied them.
    """

    store: UUID

    def __new__(cls, number: int, store: UUID) -> Self:
        version = super().__new__(cls, number)
        version.store = store
        return version

    def __getnewargs__(self) -> tuple[int, UUID]:  # type: ignore[override] # an int knows only one argument
        return int(self), self.store


@dataclass(frozen=True, slots=True)
class VersionedValue(Generic[_VersionT_co]):
    """A value of one version.

    Attributes:
        value: The value.
        version: The version that it is of; of a partitioned variable one for each part, in their order.
    """

    value: Array
    version: _VersionT_co


def unless_version(version: SupportsIndex | None, store: UUID, name: str) -> int | None:
    """Returns what a read names so that it is answered with a value only if there is a newer one.

    Args:
        version: Of the value that the reader has, None if it has none. A plain number is taken for one of this store.
        store: Incarnation of the store that will be asked.
        name: Full name of the variable.

    Raises:
        InvalidArgumentError: ``version`` is no version.
    """
    if version is None or (isinstance(version, Version) and version.store != store):
        return None
    try:
        number = operator.index(version)
    except TypeError as error:
        raise_interrupt(error)
        number = -1
    if not 0 <= number < 2**64:
        raise InvalidArgumentError(
            f"variable {name} has no version {version!r}; give the version of a value that was read, or None to read "
            f"always",
            variable=name,
        )
    return number
