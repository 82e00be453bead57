"""The gRPC service ``Checkpoints``: decode, call, encode, nothing else."""
# ruff: noqa: N802 - the names of the methods are the contract's

from __future__ import annotations

from ps_protocol.checkpoints.retention import Retention
from ps_protocol.checkpoints.service import CheckpointPath, CheckpointService, Progress, Source, Target, names_sha256
from ps_protocol.codec import service_codec, spec_codec
from ps_protocol.errors import InvalidArgumentError, ShardscopeError
from ps_protocol.service_types import Placement
from ps_protocol.v1 import checkpoints_pb2 as messages
from ps_protocol.v1 import checkpoints_pb2_grpc
from ps_server.transport.grpc.boundary import unary

_MAX_LEASE_S = 60.0


class CheckpointsServicer(checkpoints_pb2_grpc.CheckpointsServicer):
    """``Checkpoints`` of ``checkpoints.proto``.

    Args:
        service: Does the work.
        task: The ps task, as "ps:0".
    """

    def __init__(self, service: CheckpointService, task: str):
        self._service = service
        self.task = task

    @unary
    def BeginSave(self, request: messages.BeginSaveRequest, timeout_s: float) -> messages.BeginSaveReply:
        save = spec_codec.decode_uuid(request.save, "save")
        return messages.BeginSaveReply(marks=self._service.begin(save, _path(request.path), timeout_s=timeout_s))

    @unary
    def Hold(self, request: messages.HoldRequest, timeout_s: float) -> messages.HoldReply:
        self._service.hold(spec_codec.decode_uuid(request.save, "save"), _lease_s(request.lease_s), timeout_s=timeout_s)
        return messages.HoldReply()

    @unary
    def Release(self, request: messages.ReleaseRequest, timeout_s: float) -> messages.ReleaseReply:
        save = spec_codec.decode_uuid(request.save, "save")
        return messages.ReleaseReply(was_held=self._service.release(save, timeout_s=timeout_s))

    @unary
    def Write(self, request: messages.WriteRequest, timeout_s: float) -> messages.WriteReply:
        progress = self._service.write(spec_codec.decode_uuid(request.save, "save"), timeout_s=timeout_s)
        return messages.WriteReply(progress=_progress(progress))

    @unary
    def Fetch(self, request: messages.FetchRequest, timeout_s: float) -> messages.FetchReply:
        save = spec_codec.decode_uuid(request.save, "save")
        piece = self._service.fetch(save, request.offset, timeout_s=timeout_s)
        return messages.FetchReply(
            content=piece.content, part_bytes=piece.part_bytes, progress=_progress(piece.progress)
        )

    @unary
    def Publish(self, request: messages.PublishRequest, timeout_s: float) -> messages.PublishReply:
        size_bytes = self._service.publish(
            spec_codec.decode_uuid(request.save, "save"),
            _path(request.path),
            request.num_parts,
            request.step if request.HasField("step") else None,
            dict(request.metrics),
            _retention(request),
            timeout_s=timeout_s,
        )
        return messages.PublishReply(size_bytes=size_bytes)

    @unary
    def Discard(self, request: messages.DiscardRequest, timeout_s: float) -> messages.DiscardReply:
        self._service.discard(spec_codec.decode_uuid(request.session, "session"), timeout_s=timeout_s)
        return messages.DiscardReply()

    @unary
    def ReadManifest(self, request: messages.ReadManifestRequest, timeout_s: float) -> messages.ReadManifestReply:
        piece = self._service.read_manifest(request.path, request.offset, timeout_s=timeout_s)
        return messages.ReadManifestReply(
            path=messages.CheckpointPath(store=piece.path.store, name=piece.path.name),
            content=piece.content,
            size_bytes=piece.size_bytes,
        )

    @unary
    def Stage(self, request: messages.StageRequest, timeout_s: float) -> messages.StageReply:
        self._service.stage(
            spec_codec.decode_uuid(request.restore, "restore"),
            _path(request.path),
            request.manifest_crc32,
            [_target(each) for each in request.targets],
            [_placement(service_codec.decode_placement(each)) for each in request.placements],
            timeout_s=timeout_s,
        )
        return messages.StageReply()

    @unary
    def Fill(self, request: messages.FillRequest, timeout_s: float) -> messages.FillReply:
        progress = self._service.fill(spec_codec.decode_uuid(request.restore, "restore"), timeout_s=timeout_s)
        return messages.FillReply(progress=_progress(progress))

    @unary
    def Supply(self, request: messages.SupplyRequest, timeout_s: float) -> messages.SupplyReply:
        restore = spec_codec.decode_uuid(request.restore, "restore")
        self._service.supply(restore, request.index, request.offset, request.content, timeout_s=timeout_s)
        return messages.SupplyReply()

    @unary
    def Prepare(self, request: messages.PrepareRequest, timeout_s: float) -> messages.PrepareReply:
        self._service.prepare(
            spec_codec.decode_uuid(request.restore, "restore"),
            request.expected_sha256 or names_sha256(request.expected),
            _lease_s(request.lease_s),
            timeout_s=timeout_s,
        )
        return messages.PrepareReply()

    @unary
    def Switch(self, request: messages.SwitchRequest, timeout_s: float) -> messages.SwitchReply:
        self._service.switch(spec_codec.decode_uuid(request.restore, "restore"), timeout_s=timeout_s)
        return messages.SwitchReply()

    @unary
    def Finish(self, request: messages.FinishRequest, timeout_s: float) -> messages.FinishReply:
        self._service.finish(spec_codec.decode_uuid(request.restore, "restore"), timeout_s=timeout_s)
        return messages.FinishReply()


def _path(message: messages.CheckpointPath) -> CheckpointPath:
    return CheckpointPath(message.store, message.name)


def _retention(request: messages.PublishRequest) -> Retention:
    if not request.HasField("retention"):
        return Retention(last=request.keep)
    given = request.retention
    return Retention(
        last=given.last,
        every_hours=given.every_hours,
        best=given.best,
        metric=given.metric,
        mode="min" if given.lowest_is_best else "max",
        max_age_hours=given.max_age_hours,
    )


def _lease_s(seconds: float) -> float:
    if not 0.0 < seconds <= _MAX_LEASE_S:
        raise InvalidArgumentError(f"a hold of {seconds} s is asked for; more than 0 and at most 60 are possible")
    return seconds


def _progress(progress: Progress) -> messages.CheckpointProgress:
    return messages.CheckpointProgress(
        done_bytes=progress.done_bytes, total_bytes=progress.total_bytes, done=progress.is_done
    )


def _target(message: messages.CheckpointTarget) -> Target:
    return Target(
        spec_codec.decode_spec(message.spec),
        message.version,
        tuple([Source(each.part, each.index) for each in message.sources]),
        spec_codec.decode_spec(message.declared) if message.HasField("declared") else None,
    )


def _placement(placement: Placement | ShardscopeError) -> Placement:
    if isinstance(placement, ShardscopeError):
        raise InvalidArgumentError(f"a placement is an error: {placement.message}")
    return placement
