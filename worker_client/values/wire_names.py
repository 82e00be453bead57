"""The names under which users choose how tensors travel."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from ps_protocol.codec import wire_dtypes
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array, VariableSpec, WireDType

WireDTypeName: TypeAlias = Literal["exact", "bfloat16", "float16", "int8"]

_NAMES: Final[dict[WireDType, WireDTypeName]] = {
    WireDType.EXACT: "exact",
    WireDType.BFLOAT16: "bfloat16",
    WireDType.FLOAT16: "float16",
    WireDType.INT8: "int8",
}
_WIRE_DTYPES: Final[dict[str, WireDType]] = {name: wire for wire, name in _NAMES.items()}


def wire_dtype_of(name: str | None, spec: VariableSpec) -> WireDType:
    """Returns the form that a user names for tensors of a variable; None is "exact".

    Raises:
        InvalidArgumentError: There is no such form, or the variable's dtype has no lossy forms.
    """
    if name is None:
        return WireDType.EXACT
    wire = _WIRE_DTYPES.get(name) if isinstance(name, str) else None
    if wire is None:
        raise InvalidArgumentError(
            f"variable {spec.name}: {name!r} is no wire dtype; use one of {', '.join(map(repr, _WIRE_DTYPES))}",
            variable=spec.name,
        )
    if wire is not WireDType.EXACT and not wire_dtypes.is_lossy_for(spec.dtype):
        raise InvalidArgumentError(
            f"variable {spec.name} holds {spec.dtype.name}, and only float32 and float64 can travel as {name}; leave "
            f'the wire dtype out for it, or give "exact"',
            variable=spec.name,
        )
    return wire


def wire_of(array: Array, wire: WireDType) -> WireDType:
    """Returns the form in which an array travels: the one chosen, but exact for a scalar."""
    return wire if array.ndim else WireDType.EXACT


def name_of(wire: WireDType) -> WireDTypeName:
    """Returns the name of a form."""
    return _NAMES[wire]
