"""What headers made and read by hand win: ``python -m benchmarks.header_codecs [--rounds 15]``.

Encodes and decodes requests and replies, once with the generated protobuf classes (``message_codec``) and once by hand
(``request_bytes``, ``reply_bytes``), in one thread and without a socket. The two take turns; printed are medians over
the rounds, in microseconds for one batch with its reply, and for each of the four steps. What a ps has kept from
earlier batches of the same operations helps the one by hand, as it does in training.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import numpy as np

from ps_protocol import message_codec
from ps_protocol.operations import Batch, BatchReply, Gather, Operation, Read, Result, Update, UpdateRule
from ps_protocol.reply_bytes import encode_answer, parse_reply
from ps_protocol.request_bytes import RequestHead, encode_request
from ps_protocol.v1 import batch_pb2

CLIENT: Final = UUID(int=1)
STORE: Final = UUID(int=2)
STEPS: Final = ("request encoded", "request decoded", "reply encoded", "reply decoded")
NUM_MANY: Final = 161
_OPERATIONS_A_TURN: Final = 1000


class Case(NamedTuple):
    """A batch and what it is answered.

    Attributes:
        name: What the table calls it.
        batch: What to send.
        reply: Its answer.
    """

    name: str
    batch: Batch
    reply: BatchReply


class Codec(NamedTuple):
    """One way to make and read headers.

    Attributes:
        name: What the table calls it.
        encode_request: Returns the header and the bytes of the tensors.
        decode_request: Returns the batch, given those.
        encode_reply: As for a request; it is given what was asked.
        decode_reply: Likewise.
    """

    name: str
    encode_request: Callable[[Batch], tuple[bytes, list[memoryview]]]
    decode_request: Callable[[bytes, memoryview], Batch]
    encode_reply: Callable[[BatchReply, Sequence[Operation]], tuple[bytes, list[memoryview]]]
    decode_reply: Callable[[bytes, memoryview, Sequence[Operation]], BatchReply]


def _generated_request(batch: Batch) -> tuple[bytes, list[memoryview]]:
    message, buffers = message_codec.encode_batch(batch)
    return message.SerializeToString(), buffers


def _generated_reply(reply: BatchReply, operations: Sequence[Operation]) -> tuple[bytes, list[memoryview]]:
    message, buffers = message_codec.encode_reply(reply, operations)
    return message.SerializeToString(), buffers


CODECS: Final = (
    Codec(
        "generated classes",
        _generated_request,
        lambda header, data: message_codec.decode_batch_of(batch_pb2.BatchRequest.FromString(header), data),
        _generated_reply,
        lambda header, data, operations: message_codec.decode_reply_of(
            batch_pb2.BatchReply.FromString(header), data, operations
        ),
    ),
    Codec(
        "by hand",
        lambda batch: encode_request(batch, names_client=True),
        lambda header, data: RequestHead(header, None).batch_of(data),
        encode_answer,
        lambda header, data, operations: parse_reply(header, operations).reply_of(data),
    ),
)


def cases() -> list[Case]:
    """The batches that are measured."""
    scalar, row = np.ones((), np.float32), np.ones(64, np.float32)
    rows = np.arange(16)
    names = [f"model/layer_{number}/weights" for number in range(NUM_MANY)]
    updates = tuple([Update(name, UpdateRule.ASSIGN_ADD, row) for name in names])
    reads = tuple([Read(name) for name in names])
    done = tuple([Result(version + 100, True) for version in range(NUM_MANY)])
    value = tuple([Result(version + 100, True, row) for version in range(NUM_MANY)])
    return [
        Case("an update", Batch(CLIENT, STORE, 300, (Update("w", UpdateRule.ASSIGN_ADD, scalar),)), _reply(done[:1])),
        Case("a read", Batch(CLIENT, STORE, 0, (Read("w"),)), _reply([Result(300, True, scalar)])),
        Case(
            "a gather of 16 rows",
            Batch(CLIENT, STORE, 0, (Gather("w", rows),)),
            _reply([Result(300, True, np.ones((16, 64), np.float32))]),
        ),
        Case(f"{NUM_MANY} updates", Batch(CLIENT, STORE, 300, updates), _reply(done)),
        Case(f"{NUM_MANY} reads", Batch(CLIENT, STORE, 0, reads), _reply(value)),
    ]


def _reply(results: Sequence[Result]) -> BatchReply:
    return BatchReply(tuple(results))


def measure(case: Case, codec: Codec) -> list[float]:
    """Returns the seconds that each of the steps takes, of one batch."""
    operations = case.batch.operations
    header, buffers = codec.encode_request(case.batch)
    answer, parts = codec.encode_reply(case.reply, operations)
    data, tensors = memoryview(b"".join(buffers)), memoryview(b"".join(parts))
    calls: tuple[Callable[[], object], ...] = (
        lambda: codec.encode_request(case.batch),
        lambda: codec.decode_request(header, data),
        lambda: codec.encode_reply(case.reply, operations),
        lambda: codec.decode_reply(answer, tensors, operations),
    )
    times = max(1, _OPERATIONS_A_TURN // len(operations))
    taken_s = []
    for call in calls:
        began_s = time.perf_counter()
        for _ in range(times):
            call()
        taken_s.append((time.perf_counter() - began_s) / times)
    return taken_s


def main() -> None:
    """Measures in turns and prints the table of the decision page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    measured = cases()
    taken: dict[tuple[str, str], list[list[float]]] = {}
    for turn in range(rounds + 1):
        for case in measured:
            for codec in CODECS:
                each_s = measure(case, codec)
                if turn:  # the first round only warms up
                    taken.setdefault((case.name, codec.name), []).append(each_s)
    print(f"| batch | headers | {' | '.join(STEPS)} | together |")
    print(f"|---|---|{'---:|' * (len(STEPS) + 1)}")
    for (case_name, codec_name), each in taken.items():
        steps = [f"{1e6 * statistics.median(step):.1f}" for step in zip(*each, strict=True)]
        print(f"| {case_name} | {codec_name} | {' | '.join(steps)} | {1e6 * statistics.median(map(sum, each)):.1f} |")


if __name__ == "__main__":
    main()
