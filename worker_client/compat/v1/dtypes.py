"""``tf.dtypes``: dtypes with TensorFlow 1's attributes."""

from worker_client import dtypes as own
from worker_client.array_ops import cast
from worker_client.dtypes import (
    DType,
    bfloat16,
    bool,  # noqa: A004 - TensorFlow's name
    complex64,
    complex128,
    double,
    float16,
    float32,
    float64,
    half,
    int8,
    int16,
    int32,
    int64,
    string,
    uint8,
    uint16,
    uint32,
    uint64,
)

__all__ = [
    "DType",
    "as_dtype",
    "bfloat16",
    "bool",
    "cast",
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


def as_dtype(type_value: object) -> DType:
    """Returns the dtype that ``type_value`` means, TypeError if none; see ``worker_client.dtypes.as_dtype``."""
    return DType(own.as_dtype(type_value))
