"""What a save asks of ps task 0 arrives there as it was asked, from clients of this version and of earlier ones."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from ps_protocol.checkpoints.retention import Retention
from ps_protocol.checkpoints.service import CheckpointPath
from ps_protocol.v1 import checkpoints_pb2 as messages
from ps_server.transport.grpc.checkpoints import CheckpointsServicer
from worker_client.transport.grpc_checkpoints import GrpcCheckpoints


class Recorder:
    """Stands in the place of the service of a ps task."""

    def __init__(self) -> None:
        self.published: tuple[Any, ...] = ()

    def publish(self, *given: Any, timeout_s: float) -> int:
        self.published = given
        return 7


class Context:
    """What gRPC hands to a servicer."""

    def time_remaining(self) -> float:
        return 30.0


def published(request: messages.PublishRequest) -> tuple[Any, ...]:
    recorder = Recorder()
    servicer = CheckpointsServicer(recorder, "ps:0")  # type: ignore[arg-type]
    again = messages.PublishRequest.FromString(request.SerializeToString())
    assert servicer.Publish(again, Context()).size_bytes == 7  # type: ignore[arg-type]
    return recorder.published


@pytest.mark.parametrize(
    ("retention", "keep"),
    [
        (Retention(), 0),
        (Retention(last=3), 3),
        (Retention(last=3, best=2, metric="loss", mode="min"), 0),  # who knows no best must not remove it
        (Retention(every_hours=1.5, max_age_hours=48.0), 0),
    ],
    ids=str,
)
def test_a_retention_arrives(retention: Retention, keep: int) -> None:
    sent: list[messages.PublishRequest] = []

    def call(_: Any, request: messages.PublishRequest, timeout_s: float) -> messages.PublishReply:
        sent.append(request)
        return messages.PublishReply(size_bytes=7)

    class Stub:
        Publish = None

    client = GrpcCheckpoints(call, Stub)  # type: ignore[arg-type]
    save, path = uuid4(), CheckpointPath("/folder", "x")
    assert client.publish(save, path, 2, 5, {"loss": 0.5}, retention, timeout_s=1.0) == 7
    assert published(sent[0]) == (save, path, 2, 5, {"loss": 0.5}, retention)
    assert sent[0].keep == keep


def test_an_earlier_client_keeps_the_newest() -> None:
    request = messages.PublishRequest(save=uuid4().bytes, path=messages.CheckpointPath(store="/f", name="x"), keep=4)
    assert published(request)[-3:] == (None, {}, Retention(last=4))
