"""What a save asks of ps task 0 arrives there as it was asked, from clients of this version and of earlier ones."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from ps_protocol.checkpoints.retention import Retention
from ps_protocol.checkpoints.service import CheckpointPath, Source, Target, names_sha256
from ps_protocol.codec.limits import MAX_TAKEN_BYTES
from ps_protocol.operations import VariableSpec
from ps_protocol.service_types import Placement
from ps_protocol.v1 import checkpoints_pb2 as messages
from ps_server.transport.grpc.checkpoints import CheckpointsServicer
from worker_client.transport.grpc_checkpoints import GrpcCheckpoints


class Recorder:
    """Stands in the place of the service of a ps task."""

    def __init__(self) -> None:
        self.published: tuple[Any, ...] = ()
        self.prepared: tuple[Any, ...] = ()
        self.targets: list[Target] = []
        self.placements: list[Placement] = []

    def publish(self, *given: Any, timeout_s: float) -> int:
        self.published = given
        return 7

    def prepare(self, *given: Any, timeout_s: float) -> None:
        self.prepared = given

    def stage(self, *given: Any, timeout_s: float) -> None:
        self.targets += given[3]
        self.placements += given[4]


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


def test_an_earlier_client_says_all_names_when_it_prepares() -> None:
    recorder, restore = Recorder(), uuid4()
    request = messages.PrepareRequest(restore=restore.bytes, expected=["b", "a"], lease_s=2.0)
    CheckpointsServicer(recorder, "ps:0").Prepare(request, Context())  # type: ignore[arg-type]
    assert recorder.prepared == (restore, names_sha256(["a", "b"]), 2.0)


def test_names_that_are_divided_otherwise_are_others() -> None:
    assert names_sha256(["ab", "c"]) != names_sha256(["a", "bc"])
    assert names_sha256(["é"]) != names_sha256(["e"])


def test_no_message_of_a_restore_is_larger_than_a_ps_takes() -> None:
    """Though names are as long as they may be, and a variable is read from as many parts."""
    recorder, sizes = Recorder(), list[int]()
    servicer = CheckpointsServicer(recorder, "ps:0")  # type: ignore[arg-type]

    def call(method: Any, request: Any, timeout_s: float) -> Any:
        sizes.append(request.ByteSize())
        return method(request, Context())

    class Stub:
        Stage = servicer.Stage
        Prepare = servicer.Prepare

    client = GrpcCheckpoints(call, Stub)  # type: ignore[arg-type]
    specs = [VariableSpec("n" * 4090 + f"{index:06}", np.dtype(np.float32), (1,)) for index in range(1100)]
    sources = tuple([Source(0, index) for index in range(200_000)])
    targets = [Target(each, 1, sources if not index % 300 else ()) for index, each in enumerate(specs)]
    placements = [Placement(each, 0) for each in specs]
    restore = uuid4()
    client.stage(restore, CheckpointPath("/folder", "x"), 7, targets, placements, timeout_s=30.0)
    client.prepare(restore, names_sha256([each.name for each in specs]), 2.0, timeout_s=30.0)
    assert max(sizes) < MAX_TAKEN_BYTES
    assert recorder.targets == targets
    assert recorder.placements == placements
