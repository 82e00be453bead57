"""What is said of a type of operation: names of its inputs, the dtypes that they take, the shapes that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from worker_client.op_definitions.shape_functions import ShapeFunction
from worker_client.values import dtypes
from worker_client.values.text import is_text

TEXT: Final = frozenset({dtypes.string.dtype})
BOOL: Final = frozenset({dtypes.bool.dtype})
FLOATS: Final = frozenset(each.dtype for each in (dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64))
COMPLEX: Final = frozenset({dtypes.complex64.dtype, dtypes.complex128.dtype})
SIGNED: Final = frozenset(each.dtype for each in (dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64))
UNSIGNED: Final = frozenset(each.dtype for each in (dtypes.uint8, dtypes.uint16, dtypes.uint32, dtypes.uint64))
REAL: Final = FLOATS | SIGNED | UNSIGNED
NUMBERS: Final = REAL | COMPLEX
INDICES: Final = frozenset({dtypes.int32.dtype, dtypes.int64.dtype})
SHORT_INDICES: Final = INDICES | {dtypes.int16.dtype}

DTypes: TypeAlias = frozenset[np.dtype[Any]]
Output: TypeAlias = str | np.dtype[Any] | tuple[str | np.dtype[Any], ...]
ANY: Final = None


@dataclass(frozen=True, slots=True)
class Argument:
    """An input.

    Attributes:
        name: As TensorFlow's; a constant for it has this name inside that of the operation.
        group: Inputs of the same group have the same dtype, which is the attribute of this name; it is none if the name
            begins with "_".
        is_list: Whether it is a list of tensors.
    """

    name: str
    group: str
    is_list: bool


@dataclass(frozen=True, slots=True)
class OpDef:
    """A type of operation.

    Attributes:
        arguments: Its inputs in their order.
        dtypes: Those that each group may have; any if the group is not there.
        shape: Works out the shapes of the outputs, and raises ValueError where shapes do not fit.
        output: The dtype of the outputs, or the group that has the same, where no other is asked for; or one for each.
    """

    arguments: tuple[Argument, ...]
    dtypes: Mapping[str, DTypes]
    shape: ShapeFunction
    output: Output

    @property
    def has_list(self) -> bool:
        """Whether an input is a list, whose length is the attribute "N"."""
        return any(each.is_list for each in self.arguments)

    def length_of_lists(self, number: int) -> int:
        """Returns how many tensors each list holds, of which all have the same length.

        Args:
            number: How many inputs there are, those of lists counted one by one.
        """
        lists = sum(each.is_list for each in self.arguments)
        return (number - len(self.arguments) + lists) // lists if lists else 0


_DEFAULT_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    **dict.fromkeys(("Tpaddings", "Tidx", "Tk", "Tnumsegments", "Tshape"), dtypes.int32.dtype),
    **dict.fromkeys(("Tperm", "Tdim", "Tmultiples", "index_type"), dtypes.int32.dtype),
    **dict.fromkeys(("Tlen", "Tlabels", "Tindex", "TI"), dtypes.int64.dtype),
}
_OF_PLACES: Final = frozenset({"InvertPermutation", "InTopKV2", "BroadcastArgs"})


def default_dtype(op_type: str, group: str) -> np.dtype[Any] | None:
    """Returns what a constant of a group is made if it is of a dtype that the group does not take, None if nothing."""
    is_int = group == "_int" or (group == "T" and op_type in _OF_PLACES)
    return dtypes.int32.dtype if is_int else _DEFAULT_DTYPES.get(group)


def is_taken(dtype: np.dtype[Any], allowed: DTypes) -> bool:
    """Whether a dtype is among those of a group; text is, whatever its length."""
    return dtype in allowed or (is_text(dtype) and not TEXT.isdisjoint(allowed))


def row(signature: str, shape: ShapeFunction, output: Output = "T", **groups: DTypes) -> OpDef:
    """Returns a row of a table.

    Args:
        signature: Has "name:group" for each input, with "*" before the name of a list.
        shape: See ``OpDef``.
        output: See there.
        **groups: The dtypes of groups.
    """
    arguments = []
    for each in signature.split():
        name, _, group = each.partition(":")
        arguments.append(Argument(name.removeprefix("*"), group, name.startswith("*")))
    return OpDef(tuple(arguments), groups, shape, output)
