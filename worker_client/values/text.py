"""Text in deferred graphs: elements of any length, as TensorFlow's strings, and their fixed-width form on a ps.

In a graph the dtype of text is ``string``, and its values are arrays of Python's ``bytes``. A ps holds bytes of one
length, NumPy's, which lose zero bytes at their end. So an element that ends in a zero byte, or in the mark itself, has
the mark behind it there. All other text is stored as it is.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ps_protocol.operations import Array
from worker_client.values.dtypes import string

STORED: Final = np.dtype("S1")
"""The dtype that a variable of text is declared with; its values may be longer."""

_MARK: Final = b"\x01"
_MARKED: Final = (b"\x00", _MARK)


def is_text(dtype: np.dtype[Any]) -> bool:
    """Whether an array of a dtype holds text in one of its forms."""
    return dtype.kind in "SUO"


def graph_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns the dtype that a tensor with such values has in a graph."""
    return string.dtype if is_text(dtype) else dtype


def text_array(value: Any) -> Array:
    """Returns text as an array of ``bytes``; ``str`` becomes UTF-8. The array may be the one given.

    Raises:
        TypeError: An element is no text.
    """
    array = value if isinstance(value, np.ndarray) else np.array(value, dtype=object)
    if array.dtype != object:
        array = array.astype(object)
    if all(type(each) is bytes for each in array.flat):
        return array
    made = np.empty(array.shape, object)
    made.reshape(-1)[:] = [_encoded(each) for each in array.flat]
    return made


def graph_array(value: Any) -> Array:
    """Returns what a function has computed as an array, text in its form in a graph."""
    if isinstance(value, bytes | str):
        return text_array(value)
    array = np.asarray(value)
    return text_array(array) if is_text(array.dtype) else array


def stored(array: Array) -> Array:
    """Returns text as the bytes that a ps holds."""
    elements = [each + _MARK if each.endswith(_MARKED) else each for each in text_array(array).flat]
    return np.array(elements, f"S{max(map(len, elements), default=1) or 1}").reshape(array.shape)


def taken(array: Array) -> Array:
    """Returns the text that bytes of a ps stand for; other arrays as they are."""
    if array.dtype.kind != "S":
        return array
    made = np.empty(array.shape, object)
    made.reshape(-1)[:] = [each.removesuffix(_MARK) for each in array.ravel().tolist()]
    return made


def _encoded(element: Any) -> bytes:
    if isinstance(element, str):
        return element.encode()
    if isinstance(element, bytes):
        return bytes(element)
    raise TypeError(f"text is made of str and bytes, not of {element!r}")
