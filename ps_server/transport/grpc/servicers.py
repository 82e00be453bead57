"""The gRPC services that move no tensors: decode, call the core, encode, nothing else."""
# ruff: noqa: N802 - the names of the methods are the contract's

from __future__ import annotations

from ps_protocol.codec import service_codec, spec_codec
from ps_protocol.v1 import (
    control_pb2,
    control_pb2_grpc,
    directory_pb2,
    directory_pb2_grpc,
    inspection_pb2,
    inspection_pb2_grpc,
    membership_pb2,
    membership_pb2_grpc,
)
from ps_server.core.parameter_server import ParameterServer
from ps_server.transport.grpc.boundary import unary


class _Servicer:
    def __init__(self, core: ParameterServer):
        self._core = core
        self.task = core.task


class DirectoryServicer(_Servicer, directory_pb2_grpc.DirectoryServicer):
    """``Directory`` of ``directory.proto``."""

    @unary
    def Place(self, request: directory_pb2.PlaceRequest, timeout_s: float) -> directory_pb2.PlaceReply:
        proposals = [service_codec.decode_proposal(each) for each in request.proposals]
        store = spec_codec.decode_uuid(request.store_incarnation, "store") if request.store_incarnation else None
        placements = self._core.place(proposals, store=store, timeout_s=timeout_s)
        return directory_pb2.PlaceReply(placements=[service_codec.encode_placement(each) for each in placements])

    @unary
    def ListPlacements(
        self, _request: directory_pb2.ListPlacementsRequest, timeout_s: float
    ) -> directory_pb2.ListPlacementsReply:
        placements = self._core.list_placements(timeout_s=timeout_s)
        return directory_pb2.ListPlacementsReply(
            placements=[service_codec.encode_placement(each) for each in placements]
        )


class MembershipServicer(_Servicer, membership_pb2_grpc.MembershipServicer):
    """``Membership`` of ``membership.proto``."""

    @unary
    def Join(self, request: membership_pb2.JoinRequest, timeout_s: float) -> membership_pb2.JoinReply:
        incarnation = spec_codec.decode_uuid(request.incarnation, "incarnation")
        disagreement = self._core.join(
            request.task,
            incarnation,
            request.host,
            request.pid,
            lease_s=request.lease_s,
            age_s=request.age_s,
            if_free=request.if_free,
            job_sizes=request.job_sizes,
            timeout_s=timeout_s,
        )
        return membership_pb2.JoinReply(disagreement=disagreement or "")

    @unary
    def Leave(self, request: membership_pb2.LeaveRequest, timeout_s: float) -> membership_pb2.LeaveReply:
        incarnation = spec_codec.decode_uuid(request.incarnation, "incarnation")
        self._core.leave(request.task, incarnation, end=request.end, timeout_s=timeout_s)
        return membership_pb2.LeaveReply()

    @unary
    def ReportProgress(
        self, request: membership_pb2.ReportProgressRequest, timeout_s: float
    ) -> membership_pb2.ReportProgressReply:
        incarnation = spec_codec.decode_uuid(request.incarnation, "incarnation")
        self._core.report_progress(request.task, incarnation, request.step, timeout_s=timeout_s)
        return membership_pb2.ReportProgressReply()

    @unary
    def ListMembers(
        self, _request: membership_pb2.ListMembersRequest, timeout_s: float
    ) -> membership_pb2.ListMembersReply:
        members = self._core.list_members(timeout_s=timeout_s)
        return membership_pb2.ListMembersReply(members=[service_codec.encode_member(each) for each in members])

    @unary
    def Heartbeat(self, request: membership_pb2.HeartbeatRequest, timeout_s: float) -> membership_pb2.HeartbeatReply:
        incarnation = spec_codec.decode_uuid(request.incarnation, "incarnation")
        step = request.step if request.HasField("step") else None
        disagreement = self._core.heartbeat(request.task, incarnation, step, timeout_s=timeout_s)
        return membership_pb2.HeartbeatReply(disagreement=disagreement or "")

    @unary
    def Announce(self, request: membership_pb2.AnnounceRequest, timeout_s: float) -> membership_pb2.AnnounceReply:
        cluster = request.cluster_incarnation
        addresses = self._core.announce(
            service_codec.decode_ps_address(request.address),
            request.host,
            request.pid,
            lease_s=request.lease_s,
            age_s=request.age_s,
            cluster=spec_codec.decode_uuid(cluster, "incarnation of the cluster") if cluster else None,
            timeout_s=timeout_s,
        )
        own = self._core.own_cluster if request.num_ps_tasks else None
        return membership_pb2.AnnounceReply(
            addresses=[service_codec.encode_ps_address(each) for each in addresses],
            cluster_incarnation=b"" if own is None else own.bytes,
        )

    @unary
    def ListAddresses(
        self, _request: membership_pb2.ListAddressesRequest, timeout_s: float
    ) -> membership_pb2.ListAddressesReply:
        addresses = self._core.list_addresses(timeout_s=timeout_s)
        return membership_pb2.ListAddressesReply(
            addresses=[service_codec.encode_ps_address(each) for each in addresses]
        )


class InspectionServicer(_Servicer, inspection_pb2_grpc.InspectionServicer):
    """``Inspection`` of ``inspection.proto``."""

    @unary
    def ListVariables(
        self, _request: inspection_pb2.ListVariablesRequest, timeout_s: float
    ) -> inspection_pb2.ListVariablesReply:
        variables = self._core.list_variables(timeout_s=timeout_s)
        return inspection_pb2.ListVariablesReply(
            variables=[service_codec.encode_variable_info(each) for each in variables]
        )

    @unary
    def GetStatus(self, _request: inspection_pb2.GetStatusRequest, timeout_s: float) -> inspection_pb2.GetStatusReply:
        return service_codec.encode_status(self._core.status(timeout_s=timeout_s))


class ControlServicer(_Servicer, control_pb2_grpc.ControlServicer):
    """``Control`` of ``control.proto``."""

    @unary
    def Drain(self, request: control_pb2.DrainRequest, timeout_s: float) -> control_pb2.DrainReply:
        self._core.drain(request.reason, timeout_s=timeout_s)
        return control_pb2.DrainReply()

    @unary
    def Shutdown(self, request: control_pb2.ShutdownRequest, timeout_s: float) -> control_pb2.ShutdownReply:
        self._core.shutdown(request.reason, timeout_s=timeout_s)
        return control_pb2.ShutdownReply()

    @unary
    def Promote(self, request: control_pb2.PromoteRequest, timeout_s: float) -> control_pb2.PromoteReply:
        self._core.promote(accept_loss=request.accept_loss, timeout_s=timeout_s)
        return control_pb2.PromoteReply()
