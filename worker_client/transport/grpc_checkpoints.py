"""The checkpoints of a ps task over gRPC."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from ps_protocol.checkpoints.retention import Retention
from ps_protocol.checkpoints.service import (
    MAX_PIECE_BYTES,
    CheckpointPath,
    CheckpointService,
    ManifestPiece,
    PartPiece,
    Progress,
    Target,
)
from ps_protocol.codec import service_codec, spec_codec
from ps_protocol.service_types import Placement
from ps_protocol.v1 import checkpoints_pb2 as messages
from ps_protocol.v1 import checkpoints_pb2_grpc

_Entry = TypeVar("_Entry", bound=Message)


class GrpcCheckpoints(CheckpointService):
    """A ``CheckpointService`` at the other end of a channel. Thread-safe.

    Args:
        call: Given a method of a stub, a request and the seconds that it may take, returns the reply.
        stub: Returns the stub.
    """

    def __init__(
        self,
        call: Callable[[Callable[..., Any], Any, float], Any],
        stub: Callable[[], checkpoints_pb2_grpc.CheckpointsStub],
    ):
        self._call = call
        self._stub = stub

    def begin(self, save: UUID, path: CheckpointPath, *, timeout_s: float) -> Sequence[str]:
        request = messages.BeginSaveRequest(save=save.bytes, path=_path(path))
        return list(self._call(self._stub().BeginSave, request, timeout_s).marks)

    def hold(self, save: UUID, lease_s: float, *, timeout_s: float) -> None:
        self._call(self._stub().Hold, messages.HoldRequest(save=save.bytes, lease_s=lease_s), timeout_s)

    def release(self, save: UUID, *, timeout_s: float) -> bool:
        return bool(self._call(self._stub().Release, messages.ReleaseRequest(save=save.bytes), timeout_s).was_held)

    def write(self, save: UUID, *, timeout_s: float) -> Progress:
        return _progress(self._call(self._stub().Write, messages.WriteRequest(save=save.bytes), timeout_s).progress)

    def fetch(self, save: UUID, offset: int, *, timeout_s: float) -> PartPiece:
        request = messages.FetchRequest(save=save.bytes, offset=offset)
        reply = self._call(self._stub().Fetch, request, timeout_s)
        return PartPiece(reply.content, reply.part_bytes, _progress(reply.progress))

    def publish(
        self,
        save: UUID,
        path: CheckpointPath,
        num_parts: int,
        step: int | None,
        metrics: Mapping[str, float],
        retention: Retention,
        *,
        timeout_s: float,
    ) -> int:
        request = messages.PublishRequest(
            save=save.bytes,
            path=_path(path),
            num_parts=num_parts,
            step=step,
            metrics=metrics,
            keep=retention.last if retention == Retention(last=retention.last) else 0,  # for older ps tasks
            retention=_retention(retention),
        )
        return int(self._call(self._stub().Publish, request, timeout_s).size_bytes)

    def discard(self, session: UUID, *, timeout_s: float) -> None:
        self._call(self._stub().Discard, messages.DiscardRequest(session=session.bytes), timeout_s)

    def read_manifest(self, path: str, offset: int, *, timeout_s: float) -> ManifestPiece:
        request = messages.ReadManifestRequest(path=path, offset=offset)
        reply = self._call(self._stub().ReadManifest, request, timeout_s)
        return ManifestPiece(CheckpointPath(reply.path.store, reply.path.name), reply.content, reply.size_bytes)

    def stage(
        self,
        restore: UUID,
        path: CheckpointPath,
        manifest_crc32: int,
        targets: Sequence[Target],
        placements: Sequence[Placement],
        *,
        timeout_s: float,
    ) -> None:
        restoring = messages.StageRequest(restore=restore.bytes, path=_path(path), manifest_crc32=manifest_crc32)
        requests = [
            *[messages.StageRequest(targets=some) for some in _in_messages([_target(each) for each in targets])],
            *[
                messages.StageRequest(placements=some)
                for some in _in_messages([service_codec.encode_placement(each) for each in placements])
            ],
        ]
        until_s = time.monotonic() + timeout_s
        for request in requests or [messages.StageRequest()]:
            request.MergeFrom(restoring)
            self._call(self._stub().Stage, request, max(0.001, until_s - time.monotonic()))

    def fill(self, restore: UUID, *, timeout_s: float) -> Progress:
        return _progress(self._call(self._stub().Fill, messages.FillRequest(restore=restore.bytes), timeout_s).progress)

    def supply(self, restore: UUID, index: int, offset: int, content: bytes, *, timeout_s: float) -> None:
        request = messages.SupplyRequest(restore=restore.bytes, index=index, offset=offset, content=content)
        self._call(self._stub().Supply, request, timeout_s)

    def prepare(self, restore: UUID, expected: bytes, lease_s: float, *, timeout_s: float) -> None:
        request = messages.PrepareRequest(restore=restore.bytes, expected_sha256=expected, lease_s=lease_s)
        self._call(self._stub().Prepare, request, timeout_s)

    def switch(self, restore: UUID, *, timeout_s: float) -> None:
        self._call(self._stub().Switch, messages.SwitchRequest(restore=restore.bytes), timeout_s)

    def finish(self, restore: UUID, *, timeout_s: float) -> None:
        self._call(self._stub().Finish, messages.FinishRequest(restore=restore.bytes), timeout_s)


def _in_messages(entries: list[_Entry]) -> list[list[_Entry]]:
    """Divides entries among messages that a ps takes: names may be long, and a variable have thousands of sources."""
    divided: list[list[_Entry]] = []
    size_bytes = 0
    for each in entries:
        size_bytes += each.ByteSize()
        if not divided or size_bytes > MAX_PIECE_BYTES:
            divided.append([])
            size_bytes = each.ByteSize()
        divided[-1].append(each)
    return divided


def _path(path: CheckpointPath) -> messages.CheckpointPath:
    return messages.CheckpointPath(store=path.store, name=path.name)


def _retention(retention: Retention) -> messages.CheckpointRetention:
    return messages.CheckpointRetention(
        last=retention.last,
        every_hours=retention.every_hours,
        best=retention.best,
        metric=retention.metric,
        lowest_is_best=retention.mode == "min",
        max_age_hours=retention.max_age_hours,
    )


def _progress(message: messages.CheckpointProgress) -> Progress:
    return Progress(message.done_bytes, message.total_bytes, message.done)


def _target(target: Target) -> messages.CheckpointTarget:
    return messages.CheckpointTarget(
        spec=spec_codec.encode_spec(target.spec),
        version=target.version,
        sources=[messages.CheckpointSource(part=each.part, index=each.index) for each in target.sources],
        declared=None if target.declared is None else spec_codec.encode_spec(target.declared),
    )
