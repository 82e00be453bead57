"""Where the tensors of a reply are to be put, for transports that receive straight into the caller's arrays."""

from __future__ import annotations

from collections.abc import Sequence

from ps_protocol import tensor_codec
from ps_protocol.errors import InternalError
from ps_protocol.operations import Array, Gather, Operation, Read
from ps_protocol.tensor_codec import TensorLayout
from ps_protocol.v1 import batch_pb2


def reply_targets(header: batch_pb2.BatchReply, operations: Sequence[Operation]) -> list[Array | None]:
    """Returns, for each tensor of a reply in its order, the array that the caller gave for it, if any.

    Args:
        header: Of the reply, as received.
        operations: Of the batch that it answers.
    """
    return [
        operation.out if isinstance(operation, Read | Gather) else None
        for message, operation in zip(header.replies, operations, strict=False)
        if message.HasField("tensor")
    ]


def target_bytes(target: Array, layout: TensorLayout) -> memoryview:
    """Returns the bytes of an array that a tensor is to be received into.

    Raises:
        InternalError: It does not fit the tensor; whoever made the operation has not checked it.
    """
    if target.dtype != layout.dtype or target.shape != layout.shape:
        raise InternalError(
            f"the reply holds {layout.dtype}{list(layout.shape)}, but `out` is {target.dtype}{list(target.shape)}"
        )
    if not (target.flags.c_contiguous and target.flags.writeable):
        raise InternalError("`out` is not a writable array in C order")
    return tensor_codec.bytes_of(target)
