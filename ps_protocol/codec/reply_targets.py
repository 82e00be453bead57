"""Where the tensors of a reply go, for transports that receive straight into the caller's arrays.

A transport receives into ``reply_buffers`` and then calls ``ReplyHead.reply``, which turns tensors in a lossy form into
numbers, in the caller's arrays where there are any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ps_protocol.codec import received_memory, tensor_codec
from ps_protocol.codec.tensor_codec import TensorLayout
from ps_protocol.operations import Array, WireDType

_EXACT: Final = WireDType.EXACT


def reply_buffers(layouts: Sequence[TensorLayout], targets: Sequence[Array | None]) -> list[memoryview]:
    """Returns the memory to receive a reply's tensors into, in their order; each has the size of its layout.

    An exact tensor for which the caller has given an array goes straight there, any other into new memory.

    Args:
        layouts: Of the tensors.
        targets: The array that the caller has given for each, if any.

    Raises:
        InternalError: An array does not fit its tensor.
        ResourceExhaustedError: There is no memory for a tensor.
    """
    places = [
        None if target is None or layout.wire is not _EXACT else target_bytes(target, layout)
        for layout, target in zip(layouts, targets, strict=True)
    ]
    new = iter(
        received_memory.blocks.allocate(
            [layout for layout, place in zip(layouts, places, strict=True) if place is None]
        )
    )
    return [next(new) if place is None else place for place in places]


def target_bytes(target: Array, layout: TensorLayout) -> memoryview:
    """Returns the bytes of an array that a tensor is to be received into.

    Raises:
        InternalError: It does not fit the tensor. The code that made the operation must check that.
    """
    tensor_codec.check_target(target, layout.dtype, layout.shape)
    return tensor_codec.bytes_of(target)
