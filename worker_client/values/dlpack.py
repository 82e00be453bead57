"""DLPack tensors of arrays whose elements NumPy does not know, such as bfloat16.

NumPy refuses to export them, though the protocol has names for many. So it exports the same bits as unsigned integers,
and the name of the elements is written into the structure that it has made
(https://dmlc.github.io/dlpack/latest/c_api.html).
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np

from ps_protocol.operations import Array

_CODES: Final = {
    "bfloat16": 4,
    "float8_e3m4": 7,
    "float8_e4m3": 8,
    "float8_e4m3b11fnuz": 9,
    "float8_e4m3fn": 10,
    "float8_e4m3fnuz": 11,
    "float8_e5m2": 12,
    "float8_e5m2fnuz": 13,
    "float8_e8m0fnu": 14,
}
"""DLDataTypeCode of the dtypes that are not NumPy's own."""

_LONG: Final = (np.longdouble, np.clongdouble)
"""Those of NumPy's own numbers that have none: their size differs from machine to machine."""

_CODE_IN_TENSOR: Final = 20  # behind the pointer to the data, the device and the number of dimensions
_CODE: Final = {b"dltensor": _CODE_IN_TENSOR, b"dltensor_versioned": 32 + _CODE_IN_TENSOR}
"""Where the code is in what a capsule of a name points to."""

# Prototypes of our own: those of ``pythonapi`` belong to everybody in the process.
_NAME: Final = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
_POINTER: Final = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def has_dlpack(dtype: np.dtype[Any]) -> bool:
    """Whether ``dlpack_capsule`` can export arrays of a dtype."""
    return dtype.name in _CODES or (dtype.kind in "biufc" and dtype.type not in _LONG)


def dlpack_capsule(array: Array, **options: Any) -> Any:
    """Returns an array as ``__dlpack__`` of NumPy's arrays does, with the arguments of that; shares its memory."""
    code = _CODES.get(array.dtype.name)
    if code is None:
        return array.__dlpack__(**options)
    capsule = array.view(f"u{array.dtype.itemsize}").__dlpack__(**options)
    name = _NAME(capsule)
    ctypes.c_uint8.from_address(_POINTER(capsule, name) + _CODE[name]).value = code
    return capsule
