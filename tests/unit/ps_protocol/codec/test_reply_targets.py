"""Where the tensors of a reply are put."""

from __future__ import annotations

import numpy as np
import pytest

from ps_protocol.codec import message_codec
from ps_protocol.codec.reply_targets import target_bytes
from ps_protocol.codec.tensor_codec import TensorLayout
from ps_protocol.errors import InternalError, NotFoundError
from ps_protocol.operations import Array, BatchReply, Describe, Gather, Read, Result

FLOAT = np.dtype(np.float32)


def test_targets_follow_the_tensors_and_not_the_operations() -> None:
    first, third = np.zeros(2, FLOAT), np.zeros(3, FLOAT)
    operations = (
        Read("failed", out=np.zeros(1, FLOAT)),
        Read("first", out=first),
        Describe("second"),
        Gather("third", np.zeros(3, np.int64), out=third),
        Read("fourth"),
    )
    reply = BatchReply(
        (NotFoundError("no"), Result(1, True, first), Result(1, True), Result(1, True, third), Result(1, True, first))
    )
    header, _ = message_codec.encode_reply(reply)
    targets = message_codec.reply_head(header, operations).targets
    assert len(targets) == 3
    assert targets[0] is first
    assert targets[1] is third
    assert targets[2] is None


def test_bytes_are_those_of_the_array() -> None:
    array = np.zeros((2, 3), FLOAT)
    target_bytes(array, TensorLayout(FLOAT, (2, 3), 24))[:4] = np.float32(5).tobytes()
    assert array[0, 0] == 5


@pytest.mark.parametrize(
    "target",
    [
        np.zeros((3, 2), FLOAT),
        np.zeros((2, 3), np.float64),
        np.zeros((3, 2), FLOAT).T,
        np.broadcast_to(np.float32(0), (2, 3)),
    ],
    ids=["shape", "dtype", "order", "read-only"],
)
def test_refuses_an_array_that_does_not_fit(target: Array) -> None:
    with pytest.raises(InternalError, match="out"):
        target_bytes(target, TensorLayout(FLOAT, (2, 3), 24))
