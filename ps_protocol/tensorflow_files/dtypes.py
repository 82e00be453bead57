"""TensorFlow's dtypes by their numbers in files, and the NumPy dtypes that hold the same elements.

The numbers are those of ``types.proto``. A quantized type has the elements of the integers of its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import ml_dtypes
import numpy as np

from ps_protocol.errors import DTypeMismatchError, UnimplementedError
from ps_protocol.tensor_files.stored_tensor import Part, StoredTensor


@dataclass(frozen=True, slots=True)
class FileDType:
    """A dtype of TensorFlow's that files can hold.

    Attributes:
        number: In files.
        name: As TensorFlow says it, "float32".
        dtype: Of arrays with such elements; of strings ``object``, the elements being bytes.
    """

    number: int
    name: str
    dtype: np.dtype[Any]

    @property
    def is_string(self) -> bool:
        """Whether the elements are bytes of any length."""
        return self.number == STRING

    def tensor(self, name: str, shape: tuple[int, ...], parts: Sequence[Part], where: str) -> StoredTensor:
        """Returns a tensor of such elements; of variants and their like one that says that it cannot be read."""
        problem = None
        if self.number not in BY_NUMBER:
            what = f"the elements of {name!r} are of {self.name}, which only TensorFlow can read"
            problem = UnimplementedError(what, variable=name)
        return StoredTensor(name, self.dtype, shape, parts, dtype_name=self.name, problem=problem, where=where)


STRING: Final = 7
_RESOURCE, _VARIANT = 20, 21

_NAMES: Final = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    26: "float8_e4m3fnuz",
    27: "float8_e4m3b11fnuz",
    28: "float8_e5m2fnuz",
    29: "int4",
    30: "uint4",
    31: "int2",
    32: "uint2",
    33: "float4_e2m1fn",
}


def _dtype(name: str) -> np.dtype[Any]:
    if name == "string":
        return np.dtype(object)
    plain = name.removeprefix("q") if name.startswith(("qint", "quint")) else name
    return np.dtype(getattr(ml_dtypes, plain, None) or plain)


BY_NUMBER: Final = {
    number: FileDType(number, name, _dtype(name))
    for number, name in _NAMES.items()
    if number not in {_RESOURCE, _VARIANT}
}
BY_NAME: Final = {each.name: each for each in BY_NUMBER.values()}
_OF_ARRAYS: Final = {each.dtype: each for each in BY_NUMBER.values() if not each.name.startswith("q")}


def of_number(number: int) -> FileDType:
    """Returns the dtype of a number in a file; of one that cannot be read, such as "variant", one that says so."""
    return BY_NUMBER.get(number) or FileDType(number, _NAMES.get(number, f"dtype {number}"), np.dtype(object))


def of_array(dtype: np.dtype[Any], name: str) -> FileDType:
    """Returns the dtype in files for the elements of an array.

    Args:
        dtype: Of the array; of bytes and text any length, or ``object``.
        name: Of the tensor, for the error.

    Raises:
        DTypeMismatchError: There is none.
    """
    if dtype.kind in "OSU":
        return BY_NUMBER[STRING]
    found = _OF_ARRAYS.get(dtype.newbyteorder("=") if dtype.kind in "iufc" else dtype)
    if found is None:
        raise DTypeMismatchError(f"TensorFlow's files cannot hold {dtype}, the dtype of {name!r}", variable=name)
    return found
