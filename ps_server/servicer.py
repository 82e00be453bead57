"""The gRPC services that move no tensors: decode, call the core, encode, nothing else."""

from __future__ import annotations

import grpc

from ps_protocol import service_codec, spec_codec
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
from ps_server.parameter_server import ParameterServer
from ps_server.rpc_boundary import unary


class DirectoryServicer(directory_pb2_grpc.DirectoryServicer):
    """``Directory`` of ``directory.proto``."""

    def __init__(self, core: ParameterServer):
        self._core = core

    def Place(  # noqa: N802 - the name is the contract's
        self, request: directory_pb2.PlaceRequest, context: grpc.ServicerContext
    ) -> directory_pb2.PlaceReply:
        return unary(self._place, request, context, self._core.task)

    def ListPlacements(  # noqa: N802 - the name is the contract's
        self, request: directory_pb2.ListPlacementsRequest, context: grpc.ServicerContext
    ) -> directory_pb2.ListPlacementsReply:
        return unary(self._list_placements, request, context, self._core.task)

    def _place(self, request: directory_pb2.PlaceRequest, timeout_s: float) -> directory_pb2.PlaceReply:
        proposals = [service_codec.decode_proposal(each) for each in request.proposals]
        store = spec_codec.decode_uuid(request.store_incarnation, "store") if request.store_incarnation else None
        placements = self._core.place(proposals, store=store, timeout_s=timeout_s)
        return directory_pb2.PlaceReply(placements=[service_codec.encode_placement(each) for each in placements])

    def _list_placements(
        self, _request: directory_pb2.ListPlacementsRequest, timeout_s: float
    ) -> directory_pb2.ListPlacementsReply:
        placements = self._core.list_placements(timeout_s=timeout_s)
        return directory_pb2.ListPlacementsReply(
            placements=[service_codec.encode_placement(each) for each in placements]
        )


class MembershipServicer(membership_pb2_grpc.MembershipServicer):
    """``Membership`` of ``membership.proto``."""

    def __init__(self, core: ParameterServer):
        self._core = core

    def Join(  # noqa: N802 - the name is the contract's
        self, request: membership_pb2.JoinRequest, context: grpc.ServicerContext
    ) -> membership_pb2.JoinReply:
        return unary(self._join, request, context, self._core.task)

    def Leave(  # noqa: N802 - the name is the contract's
        self, request: membership_pb2.LeaveRequest, context: grpc.ServicerContext
    ) -> membership_pb2.LeaveReply:
        return unary(self._leave, request, context, self._core.task)

    def ReportProgress(  # noqa: N802 - the name is the contract's
        self, request: membership_pb2.ReportProgressRequest, context: grpc.ServicerContext
    ) -> membership_pb2.ReportProgressReply:
        return unary(self._report_progress, request, context, self._core.task)

    def ListMembers(  # noqa: N802 - the name is the contract's
        self, request: membership_pb2.ListMembersRequest, context: grpc.ServicerContext
    ) -> membership_pb2.ListMembersReply:
        return unary(self._list_members, request, context, self._core.task)

    def Heartbeat(  # noqa: N802 - the name is the contract's
        self, request: membership_pb2.HeartbeatRequest, context: grpc.ServicerContext
    ) -> membership_pb2.HeartbeatReply:
        return unary(self._heartbeat, request, context, self._core.task)

    def Announce(  # noqa: N802 - the name is the contract's
        self, request: membership_pb2.AnnounceRequest, context: grpc.ServicerContext
    ) -> membership_pb2.AnnounceReply:
        return unary(self._announce, request, context, self._core.task)

    def ListAddresses(  # noqa: N802 - the name is the contract's
        self, request: membership_pb2.ListAddressesRequest, context: grpc.ServicerContext
    ) -> membership_pb2.ListAddressesReply:
        return unary(self._list_addresses, request, context, self._core.task)

    def _join(self, request: membership_pb2.JoinRequest, timeout_s: float) -> membership_pb2.JoinReply:
        incarnation = spec_codec.decode_uuid(request.incarnation, "incarnation")
        self._core.join(
            request.task,
            incarnation,
            request.host,
            request.pid,
            lease_s=request.lease_s,
            age_s=request.age_s,
            timeout_s=timeout_s,
        )
        return membership_pb2.JoinReply()

    def _leave(self, request: membership_pb2.LeaveRequest, timeout_s: float) -> membership_pb2.LeaveReply:
        incarnation = spec_codec.decode_uuid(request.incarnation, "incarnation")
        self._core.leave(request.task, incarnation, timeout_s=timeout_s)
        return membership_pb2.LeaveReply()

    def _report_progress(
        self, request: membership_pb2.ReportProgressRequest, timeout_s: float
    ) -> membership_pb2.ReportProgressReply:
        incarnation = spec_codec.decode_uuid(request.incarnation, "incarnation")
        self._core.report_progress(request.task, incarnation, request.step, timeout_s=timeout_s)
        return membership_pb2.ReportProgressReply()

    def _list_members(
        self, _request: membership_pb2.ListMembersRequest, timeout_s: float
    ) -> membership_pb2.ListMembersReply:
        members = self._core.list_members(timeout_s=timeout_s)
        return membership_pb2.ListMembersReply(members=[service_codec.encode_member(each) for each in members])

    def _heartbeat(self, request: membership_pb2.HeartbeatRequest, timeout_s: float) -> membership_pb2.HeartbeatReply:
        incarnation = spec_codec.decode_uuid(request.incarnation, "incarnation")
        step = request.step if request.HasField("step") else None
        self._core.heartbeat(request.task, incarnation, step, timeout_s=timeout_s)
        return membership_pb2.HeartbeatReply()

    def _announce(self, request: membership_pb2.AnnounceRequest, timeout_s: float) -> membership_pb2.AnnounceReply:
        addresses = self._core.announce(
            service_codec.decode_ps_address(request.address),
            request.host,
            request.pid,
            lease_s=request.lease_s,
            age_s=request.age_s,
            timeout_s=timeout_s,
        )
        return membership_pb2.AnnounceReply(addresses=[service_codec.encode_ps_address(each) for each in addresses])

    def _list_addresses(
        self, _request: membership_pb2.ListAddressesRequest, timeout_s: float
    ) -> membership_pb2.ListAddressesReply:
        addresses = self._core.list_addresses(timeout_s=timeout_s)
        return membership_pb2.ListAddressesReply(
            addresses=[service_codec.encode_ps_address(each) for each in addresses]
        )


class InspectionServicer(inspection_pb2_grpc.InspectionServicer):
    """``Inspection`` of ``inspection.proto``."""

    def __init__(self, core: ParameterServer):
        self._core = core

    def ListVariables(  # noqa: N802 - the name is the contract's
        self, request: inspection_pb2.ListVariablesRequest, context: grpc.ServicerContext
    ) -> inspection_pb2.ListVariablesReply:
        return unary(self._list_variables, request, context, self._core.task)

    def GetStatus(  # noqa: N802 - the name is the contract's
        self, request: inspection_pb2.GetStatusRequest, context: grpc.ServicerContext
    ) -> inspection_pb2.GetStatusReply:
        return unary(self._get_status, request, context, self._core.task)

    def _list_variables(
        self, _request: inspection_pb2.ListVariablesRequest, timeout_s: float
    ) -> inspection_pb2.ListVariablesReply:
        variables = self._core.list_variables(timeout_s=timeout_s)
        return inspection_pb2.ListVariablesReply(
            variables=[service_codec.encode_variable_info(each) for each in variables]
        )

    def _get_status(self, _request: inspection_pb2.GetStatusRequest, timeout_s: float) -> inspection_pb2.GetStatusReply:
        return service_codec.encode_status(self._core.status(timeout_s=timeout_s))


class ControlServicer(control_pb2_grpc.ControlServicer):
    """``Control`` of ``control.proto``."""

    def __init__(self, core: ParameterServer):
        self._core = core

    def Drain(  # noqa: N802 - the name is the contract's
        self, request: control_pb2.DrainRequest, context: grpc.ServicerContext
    ) -> control_pb2.DrainReply:
        return unary(self._drain, request, context, self._core.task)

    def Shutdown(  # noqa: N802 - the name is the contract's
        self, request: control_pb2.ShutdownRequest, context: grpc.ServicerContext
    ) -> control_pb2.ShutdownReply:
        return unary(self._shutdown, request, context, self._core.task)

    def _drain(self, request: control_pb2.DrainRequest, timeout_s: float) -> control_pb2.DrainReply:
        self._core.drain(request.reason, timeout_s=timeout_s)
        return control_pb2.DrainReply()

    def _shutdown(self, request: control_pb2.ShutdownRequest, timeout_s: float) -> control_pb2.ShutdownReply:
        self._core.shutdown(request.reason, timeout_s=timeout_s)
        return control_pb2.ShutdownReply()
