"""TensorFlow 1's dtypes on top of NumPy's.

Inside, a dtype is always a ``numpy.dtype``: it compares, hashes and travels, and ``as_dtype`` makes one of whatever a
user gives. That alone cannot serve code written for TensorFlow 1, which asks a dtype for ``base_dtype``,
``is_floating`` or ``as_numpy_dtype``; ``numpy.dtype`` has none of these, takes no attributes and cannot be subclassed.
So users are handed a ``DType``, a thin face on the NumPy dtype that equals it and hashes like it, and that NumPy takes
wherever it takes a dtype: ``v.dtype == np.float32``, ``np.zeros(3, v.dtype)`` and ``v.dtype.base_dtype`` all work.

TensorFlow's strings have no length, the bytes of NumPy and of the contract have one. ``string`` is bytes of a length
still to be said; ``as_dtype("S16")`` says it. In deferred graphs text has the dtype ``string`` and elements of any
length, as in TensorFlow; see the module ``text``.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np

from ps_protocol.dtype_traits import DTypeCategory, dtype_category, float_limits, integer_limits
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.interrupts import raise_interrupt

__all__ = [  # TensorFlow's names; its ``as_dtype`` returns a ``DType``
    "DType",
    "bfloat16",
    "bool",
    "complex64",
    "complex128",
    "double",
    "float16",
    "float32",
    "float64",
    "half",
    "int8",
    "int16",
    "int32",
    "int64",
    "string",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DType:
    """The type of a variable's elements, with TensorFlow 1's attributes. Immutable.

    Equal to, and in dictionaries the same key as, the NumPy dtype it stands for; also equal to whatever ``as_dtype``
    makes the same of, such as ``np.float32`` or ``"float32"``.

    Attributes:
        dtype: The NumPy dtype, in native byte order; NumPy itself looks for it under this name.
    """

    dtype: np.dtype[Any]

    def __post_init__(self) -> None:
        if not isinstance(self.dtype, np.dtype):
            object.__setattr__(self, "dtype", as_dtype(self.dtype))

    @staticmethod
    @lru_cache(maxsize=256)
    def of(dtype: np.dtype[Any]) -> DType:
        """Returns the face of a NumPy dtype, the same one each time."""
        return DType(dtype)

    # What code for NumPy's dtypes asks for.

    @property
    def kind(self) -> str:
        """NumPy's letter for the kind of elements."""
        return self.dtype.kind

    @property
    def type(self) -> builtins.type[np.generic]:
        """The NumPy scalar type, as ``as_numpy_dtype``."""
        return self.dtype.type

    @property
    def itemsize(self) -> int:
        """Bytes of one element, as ``size``."""
        return self.dtype.itemsize

    @property
    def name(self) -> str:
        """NumPy's name, as "float32"; of bytes "string", or "S16" if their length is known."""
        if self._category is not DTypeCategory.BYTES:
            return self.dtype.name
        return f"S{self.size}" if self.size else "string"

    @property
    def base_dtype(self) -> DType:
        """The type without what only some variables have: of bytes of any length ``string``, else the type itself."""
        return string if self._category is DTypeCategory.BYTES else self

    @property
    def as_numpy_dtype(self) -> builtins.type[Any]:
        """The NumPy scalar type; of ``string``, whose elements have any length, ``object``."""
        return object if self.name == "string" else self.dtype.type

    @property
    def is_numpy_compatible(self) -> builtins.bool:
        """Whether NumPy has arrays of it: always."""
        return True

    @property
    def is_quantized(self) -> builtins.bool:
        """Whether it is one of TensorFlow's quantized types: never."""
        return False

    @property
    def size(self) -> int:
        """Bytes of one element; 0 for ``string``, whose length is not known."""
        return self.dtype.itemsize

    @property
    def is_bool(self) -> builtins.bool:
        """Whether it is the type of truth values."""
        return self._category is DTypeCategory.BOOL

    @property
    def is_integer(self) -> builtins.bool:
        """Whether it holds integers, signed or not."""
        return self._category is DTypeCategory.INTEGER

    @property
    def is_unsigned(self) -> builtins.bool:
        """Whether it holds unsigned integers."""
        return self.is_integer and self.dtype.name.startswith("u")

    @property
    def is_floating(self) -> builtins.bool:
        """Whether it holds real floating-point numbers, those of ml-dtypes included."""
        return self._category is DTypeCategory.FLOAT

    @property
    def is_complex(self) -> builtins.bool:
        """Whether it holds complex numbers."""
        return self._category is DTypeCategory.COMPLEX

    @property
    def min(self) -> Any:
        """The least number that it can hold; TypeError if it holds no real numbers."""
        return self._limits()[0]

    @property
    def max(self) -> Any:
        """The greatest number that it can hold; TypeError if it holds no real numbers."""
        return self._limits()[1]

    @property
    def limits(self) -> tuple[Any, Any]:
        """The least and the greatest intensity of an image: (0, greatest) of integers, (0, 1) of floats.

        ValueError of all other types, as of floats of 16 bits.
        """
        if self.is_bool:
            return 0, True
        if not self.is_integer and self.name not in ("float32", "float64"):
            raise ValueError(f"{self.name} has no limits")
        return (0, self.max) if self.is_integer else (0, 1)

    @property
    def real_dtype(self) -> DType:
        """The type of the real part of complex numbers; of others the type itself."""
        return DType(np.zeros((), self.dtype).real.dtype) if self.is_complex else self

    @property
    def as_datatype_enum(self) -> int:
        """TensorFlow's number for it; TypeError if TensorFlow has none."""
        number = _ENUM.get(self.base_dtype.dtype)
        if number is None:
            raise TypeError(f"TensorFlow has no number for {self.name}")
        return number

    def is_compatible_with(self, other: object) -> builtins.bool:
        """Whether values of another type can be used as they are where this one is expected."""
        return self.base_dtype == DType(as_dtype(other)).base_dtype

    def _limits(self) -> tuple[Any, Any]:
        match self._category:
            case DTypeCategory.INTEGER:
                return integer_limits(self.dtype)
            case DTypeCategory.FLOAT:
                limits = float_limits(self.dtype)
                return self.dtype.type(limits[0]), self.dtype.type(limits[1])
        raise TypeError(f"{self.name} holds no real numbers, of which there would be a least and a greatest")

    @property
    def _category(self) -> DTypeCategory:
        return dtype_category(self.dtype)

    def __eq__(self, other: object) -> builtins.bool:
        if isinstance(other, DType | np.dtype):
            return self.dtype == (other.dtype if isinstance(other, DType) else other)
        try:
            return self.dtype == as_dtype(other)
        except TypeError as error:
            raise_interrupt(error)
            return False

    def __hash__(self) -> int:
        return hash(self.dtype)

    def __int__(self) -> int:
        return self.as_datatype_enum

    def __str__(self) -> str:
        return f"<dtype: {self.name!r}>"

    def __repr__(self) -> str:
        return f"tf.{self.name}"


# NumPy asks for it when it compares, and takes any error for a no, a signal handler's too: so no line of Python runs.
DType.__numpy_dtype__ = DType.__dict__["dtype"]  # type: ignore[attr-defined]


def as_dtype(value: object) -> np.dtype[Any]:
    """Returns the NumPy dtype that ``value`` means, in native byte order.

    Takes a ``DType``, whatever NumPy takes, names of TensorFlow or ml-dtypes, and TensorFlow's numbers. As in
    TensorFlow 1, Python's ``float`` and the name "float" mean float32; ``str``, ``bytes`` and "string" mean bytes.

    Raises:
        TypeError: It means no dtype, or one that a variable cannot hold.
    """
    if isinstance(value, DType):
        return value.dtype
    if isinstance(value, str | builtins.type) and value in _MEANINGS:
        return _MEANINGS[value]
    if type(value) is int and value in _OF_ENUM:
        return _OF_ENUM[value]
    if value is None:  # to NumPy it means float64
        raise TypeError("None is not a dtype; name one, such as float32")
    try:
        dtype = np.dtype(_ml_dtype(value) or value)  # type: ignore[call-overload]  # that is the question
        dtype_category(dtype)
    except (TypeError, ValueError, InvalidArgumentError) as error:
        raise_interrupt(error)
        raise TypeError(
            f"{value!r} is not a dtype that a variable can hold; use a name such as 'float32', a NumPy type or a DType"
        ) from None
    native: np.dtype[Any] = dtype.newbyteorder("=")
    return native


def _ml_dtype(value: object) -> object:
    return getattr(ml_dtypes, value, None) if isinstance(value, str) else None


float16 = half = DType.of(np.dtype(np.float16))
bfloat16 = DType.of(np.dtype(ml_dtypes.bfloat16))
float32 = DType.of(np.dtype(np.float32))
float64 = double = DType.of(np.dtype(np.float64))
int8 = DType.of(np.dtype(np.int8))
int16 = DType.of(np.dtype(np.int16))
int32 = DType.of(np.dtype(np.int32))
int64 = DType.of(np.dtype(np.int64))
uint8 = DType.of(np.dtype(np.uint8))
uint16 = DType.of(np.dtype(np.uint16))
uint32 = DType.of(np.dtype(np.uint32))
uint64 = DType.of(np.dtype(np.uint64))
complex64 = DType.of(np.dtype(np.complex64))
complex128 = DType.of(np.dtype(np.complex128))
bool = DType.of(np.dtype(np.bool_))  # noqa: A001 - TensorFlow's name
string = DType.of(np.dtype(np.bytes_))

_MEANINGS: dict[str | builtins.type, np.dtype[Any]] = {
    float: float32.dtype,
    "float": float32.dtype,
    str: string.dtype,
    bytes: string.dtype,
    "string": string.dtype,
    "str": string.dtype,
}

_ENUM: dict[np.dtype[Any], int] = {
    each.dtype: number
    for number, each in {
        1: float32,
        2: float64,
        3: int32,
        4: uint8,
        5: int16,
        6: int8,
        7: string,
        8: complex64,
        9: int64,
        10: bool,
        14: bfloat16,
        17: uint16,
        18: complex128,
        19: float16,
        22: uint32,
        23: uint64,
    }.items()
}
"""The numbers of ``types.proto`` of TensorFlow."""
_OF_ENUM = {number: dtype for dtype, number in _ENUM.items()}
