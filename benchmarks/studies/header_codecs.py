"""What headers made and read by hand win: ``python -m benchmarks.studies.header_codecs [--rounds 200]``.

Requests and replies are encoded and decoded once with the generated protobuf classes (``message_codec``) and once by
hand (``request_bytes``, ``reply_bytes``): each step alone, and in both ends of a socket connection, with one thread and
no thread to wait for (the connections of ``benchmarks.small_operations``). There the same code takes longer than alone,
since it is cold in the processor's caches.

The two take turns. Printed is the least of many short turns, in microseconds for one batch: what the code itself takes,
whatever else the machine does. What is kept from earlier batches of the same operations helps, as it does in training.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol
from unittest import mock
from uuid import UUID

import numpy as np

from benchmarks.small_operations import NAME, Ps, client_step
from ps_protocol.codec import message_codec
from ps_protocol.codec.fast import reply_bytes, request_bytes
from ps_protocol.codec.message_codec import MessageRequest, ReplyHead, RequestHead
from ps_protocol.operations import Batch, BatchReply, Gather, PsOperation, Read, Result, Update, UpdateRule, mutates
from ps_protocol.v1 import batch_pb2

CLIENT: Final = UUID(int=1)
STORE: Final = UUID(int=2)
STEPS: Final = ("request encoded", "request decoded", "reply encoded", "reply decoded")
ENDS: Final = ("client connection", "ps connection")
NUM_MANY: Final = 161
_OPERATIONS_A_TURN: Final = 40
_CALLS_A_TURN: Final = 20


class EncodeRequest(Protocol):
    """``request_bytes.encode_request``."""

    def __call__(self, batch: Batch, *, names_client: bool) -> tuple[bytes, list[memoryview]]: ...


class Codec(NamedTuple):
    """One way to make and read headers; its functions are those of ``request_bytes`` and ``reply_bytes``."""

    name: str
    encode_request: EncodeRequest
    parse_request: Callable[[bytes, UUID | None], RequestHead]
    encode_answer: Callable[[BatchReply, Sequence[PsOperation]], tuple[bytes, list[memoryview]]]
    parse_reply: Callable[[bytes, Sequence[PsOperation]], ReplyHead]


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


def _encoded_request(batch: Batch, *, names_client: bool) -> tuple[bytes, list[memoryview]]:
    message, buffers = message_codec.encode_batch(batch)
    if not names_client:
        message.client_incarnation = b""
    return message.SerializeToString(), buffers


def _parsed_request(header: bytes, client: UUID | None) -> RequestHead:
    message = batch_pb2.BatchRequest.FromString(header)
    if client is not None:
        message.client_incarnation = client.bytes
    return MessageRequest(message)


def _encoded_reply(reply: BatchReply, operations: Sequence[PsOperation]) -> tuple[bytes, list[memoryview]]:
    message, buffers = message_codec.encode_reply(reply, operations)
    return message.SerializeToString(), buffers


def _parsed_reply(header: bytes, operations: Sequence[PsOperation]) -> ReplyHead:
    return message_codec.reply_head(batch_pb2.BatchReply.FromString(header), operations)


CODECS: Final = (
    Codec("generated classes", _encoded_request, _parsed_request, _encoded_reply, _parsed_reply),
    Codec(
        "by hand",
        request_bytes.encode_request,
        request_bytes.parse_request,
        reply_bytes.encode_answer,
        reply_bytes.parse_reply,
    ),
)


def cases() -> list[Case]:
    """The batches that are measured."""
    scalar, row = np.ones((), np.float32), np.ones(64, np.float32)
    names = [f"model/layer_{number}/weights" for number in range(NUM_MANY)]
    updates = tuple([Update(name, UpdateRule.ASSIGN_ADD, row) for name in names])
    reads = tuple([Read(name) for name in names])
    done = tuple([Result(version + 100, True) for version in range(NUM_MANY)])
    values = tuple([Result(version + 100, True, row) for version in range(NUM_MANY)])
    gathered = Result(300, True, np.ones((16, 64), np.float32))
    return [
        Case("an update", _batch(Update("w", UpdateRule.ASSIGN_ADD, scalar)), BatchReply(done[:1])),
        Case("a read", _batch(Read("w")), BatchReply((Result(300, True, scalar),))),
        Case("a gather of 16 rows", _batch(Gather("w", np.arange(16))), BatchReply((gathered,))),
        Case(f"{NUM_MANY} updates", _batch(*updates), BatchReply(done)),
        Case(f"{NUM_MANY} reads", _batch(*reads), BatchReply(values)),
    ]


def _batch(*operations: PsOperation) -> Batch:
    return Batch(CLIENT, STORE, 300 if mutates(operations) else 0, operations)


def steps_alone(case: Case, codec: Codec) -> list[float]:
    """Returns the seconds that each of the steps takes, of one batch."""
    operations = case.batch.operations
    header, buffers = codec.encode_request(case.batch, names_client=False)
    answer, parts = codec.encode_answer(case.reply, operations)
    data, tensors = memoryview(b"".join(buffers)), memoryview(b"".join(parts))
    calls: tuple[Callable[[], object], ...] = (
        lambda: codec.encode_request(case.batch, names_client=False),
        lambda: codec.parse_request(header, CLIENT).batch_of(data),
        lambda: codec.encode_answer(case.reply, operations),
        lambda: codec.parse_reply(answer, operations).reply_of(tensors),
    )
    times = max(1, _OPERATIONS_A_TURN // len(operations))
    taken_s = []
    for call in calls:
        began_s = time.perf_counter()
        for _ in range(times):
            call()
        taken_s.append((time.perf_counter() - began_s) / times)
    return taken_s


@contextlib.contextmanager
def used(codec: Codec) -> Iterator[None]:
    """Makes both ends of socket connections use a codec meanwhile."""
    with (
        mock.patch.object(request_bytes, "encode_request", codec.encode_request),
        mock.patch("ps_server.transport.sockets.session.parse_request", codec.parse_request),
        mock.patch("ps_server.transport.sockets.batch_answers.encode_answer", codec.encode_answer),
        mock.patch.object(reply_bytes, "parse_reply", codec.parse_reply),
    ):
        yield


def table(title: str, columns: Sequence[str], rounds: int, rows: Mapping[str, Callable[[Codec], list[float]]]) -> None:
    """Measures the rows in turns and prints them as a table of the decision page."""
    least: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, measure in rows.items():
            for codec in CODECS:
                each_s = measure(codec)
                least[name, codec.name] = list(map(min, least.get((name, codec.name), each_s), each_s))
    print(f"| {title} | headers | {' | '.join(columns)} | together |")
    print(f"|---|---|{'---:|' * (len(columns) + 1)}")
    for (name, codec_name), each_s in least.items():
        print(f"| {name} | {codec_name} | {' | '.join([f'{1e6 * step:.1f}' for step in (*each_s, sum(each_s))])} |")
    print()


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    table("each step alone", STEPS, rounds, {case.name: functools.partial(steps_alone, case) for case in cases()})
    ps = Ps()

    def ends(operation: PsOperation) -> Callable[[Codec], list[float]]:
        steps = (client_step(ps, operation), ps.connection_step(operation))

        def measure(codec: Codec) -> list[float]:
            with used(codec):
                return [step(_CALLS_A_TURN) / _CALLS_A_TURN for step in steps]

        return measure

    add = Update(NAME, UpdateRule.ASSIGN_ADD, np.ones((), np.float32))
    table("in a connection", ENDS, rounds, {"an update": ends(add), "a read": ends(Read(NAME))})


if __name__ == "__main__":
    main()
