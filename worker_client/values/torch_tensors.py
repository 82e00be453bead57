"""Tensors of PyTorch as NumPy arrays, also those of which torch makes none by itself. Does not import torch."""

from __future__ import annotations

import sys
from typing import Any, Final

import ml_dtypes
import numpy as np

from ps_protocol.operations import Array

_FLOATS: Final = (
    "bfloat16",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
)
_ML_DTYPES: Final = {f"torch.{name}": np.dtype(getattr(ml_dtypes, name)) for name in _FLOATS}
"""Dtypes of torch whose elements have no dtype of NumPy's own."""


def is_tensor(value: object) -> bool:
    """Whether a value is a tensor of PyTorch, which somebody else has imported then."""
    kind = getattr(sys.modules.get("torch"), "Tensor", None)
    return kind is not None and isinstance(value, kind)


def tensor_defect(tensor: Any) -> tuple[str, str] | None:
    """Returns why a tensor has no elements that can be sent, and what to do; None if it has."""
    if tensor.is_nested:
        return "is a nested tensor", "pad it, as with value.to_padded_tensor(0.0)"
    if tensor.requires_grad:
        return "requires a gradient, which would be lost", "give value.detach()"
    if str(tensor.layout) != "torch.strided":
        return f"is a tensor of the layout {tensor.layout}", "use value.to_dense(), or IndexedSlices for rows"
    if tensor.device.type == "meta":
        return "is on the device meta and has no elements", "make it on the device cpu"
    if tensor.device.type != "cpu":
        return f"is on the device {tensor.device}", "copy it to the host first, as with value.cpu()"
    if tensor.is_quantized:
        return f"is quantized ({tensor.dtype})", "use value.dequantize()"
    return None


def tensor_array(tensor: Any) -> Array:
    """Returns the elements of a tensor without a defect, in its own memory unless they lie there conjugated or negated.

    Those that NumPy does not know have a dtype of ml-dtypes.

    Raises:
        Exception: torch refuses, with what it says.
    """
    tensor = tensor.resolve_conj().resolve_neg()  # itself, if it is neither
    dtype = _ML_DTYPES.get(str(tensor.dtype))
    if dtype is None:
        array: Array = tensor.numpy()
        return array
    torch = sys.modules["torch"]
    bits = tensor.view(torch.int16 if dtype.itemsize == 2 else torch.uint8)
    viewed: Array = bits.numpy().view(dtype)
    return viewed


def sparse_rows(value: object) -> tuple[Any, Any, tuple[int, ...]] | None:
    """Returns values and indices of the rows that a sparse tensor has, and its shape; None if it is no such tensor.

    That is what ``torch.nn.Embedding(sparse=True)`` has as its gradient. Rows may repeat.
    """
    if not is_tensor(value):
        return None
    tensor: Any = value
    if str(tensor.layout) != "torch.sparse_coo" or tensor.sparse_dim() != 1 or tensor.requires_grad:
        return None
    # Those of the public names want a tensor whose rows have been added up, which the ps does.
    return tensor._values(), tensor._indices()[0], tuple(tensor.shape)
