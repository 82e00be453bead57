"""What a primary sends its follower is what the version before sent, and a follower understands what that one sends.

So the two processes of a task may be of two versions, while one after the other is started anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from uuid import UUID

import grpc
import pytest

from ps_protocol.v1 import replication_pb2
from tests.compatibility.byte_peers import OPTIONS, Asker, call_bytes
from tests.compatibility.recordings import load, masked, meaning_of_received
from tests.compatibility.replication_peers import (
    WAYS,
    Around,
    Follower,
    Registrar,
    leading,
    messages_of,
    parse_frame,
    replicated_ps,
    token_frame,
    wait_until_it_serves,
)
from tests.conftest import Eventually

pytestmark = pytest.mark.integration

STREAMS = (1, 2)
LIST_PLACEMENTS = "/ps_protocol.v1.Directory/ListPlacements"


def recorded_frames(way: str, stream: int) -> tuple[bytes, ...]:
    ((exchange,), _) = load(f"replication-{way}-stream-{stream}")
    return exchange.sent


def meaning_of_frames(frames: Sequence[bytes], store: bytes) -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
    """Returns the parts of the image, which may come in any order, and everything else."""
    image: list[tuple[str, bytes]] = []
    others: list[tuple[str, bytes]] = []
    for message, data in messages_of(frames):
        assert message.attachment.store_incarnation in (b"", store)
        is_part = message.image.HasField("variable") or message.image.HasField("entry")
        (image if is_part else others).append((masked(message), data))
    return sorted(image), others


def attachment_of(frames: Sequence[bytes]) -> replication_pb2.Attachment:
    message, _ = parse_frame(frames[0])
    assert message is not None
    return message.attachment


@pytest.mark.parametrize("way", WAYS)
def test_a_primary_sends_what_was_sent_then(way: str) -> None:
    follower = Follower()
    with (
        Around(way, follower) as around,
        Registrar() as registrar,
        replicated_ps(around, registrar) as ps,
        Asker(ps.address) as asker,
    ):
        for number in STREAMS:
            wait_until_it_serves(ps, registrar, number)
            for recorded in load(f"replication-{way}-client-{number}")[0]:
                assert meaning_of_received(asker.ask(recorded)) == meaning_of_received(recorded)
            frames, expected = follower.streams[-1], recorded_frames(way, number)
            assert meaning_of_frames(frames, UUID(ps.ready["store"]).bytes) == meaning_of_frames(
                expected, attachment_of(expected).store_incarnation
            )
            follower.replace()


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("way", WAYS)
def test_a_follower_takes_what_was_sent_then_and_takes_over(way: str, stream: int, eventually: Eventually) -> None:
    takes_over = stream == 2
    frames = recorded_frames(way, stream)
    attachment = attachment_of(frames)
    lease_s = 8.0 if takes_over else 60.0
    with ExitStack() as stack:
        registrar, around = stack.enter_context(Registrar()), stack.enter_context(Around(way))
        registrar.write(attachment.epoch, attachment.process)
        ps = stack.enter_context(replicated_ps(around, registrar, "--backup", lease_s=lease_s))
        with leading(ps.address, way) as primary:
            primary.send(frames[0])
            answer = replication_pb2.FollowAnswer.FromString(primary.answer())
            assert (answer.attached.needs_image, answer.position) == (True, 0)
            registrar.write(attachment.epoch + 1, attachment.process, answer.attached.process)
            for frame in frames[1:]:
                primary.send(frame)
            newest = messages_of(frames)[-1][0].record.position
            while answer.position < newest:  # one answer may stand for several records
                answer = replication_pb2.FollowAnswer.FromString(primary.answer())
            assert answer.position == newest
            primary.send(token_frame(way, 7))
            assert replication_pb2.FollowAnswer.FromString(primary.answer()).token == 7
        if not takes_over:
            return
        with grpc.insecure_channel(ps.address, options=OPTIONS) as channel:
            eventually(lambda: call_bytes(channel, LIST_PLACEMENTS, [b""])[0] == 0, message="the backup takes over")
        with Asker(ps.address) as asker:
            for recorded in load(f"replication-{way}-state")[0]:
                assert meaning_of_received(asker.ask(recorded)) == meaning_of_received(recorded)
