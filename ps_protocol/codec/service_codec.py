"""What a ps answers beside batches (welcome, placements, members, status) as messages of the contract, and back.

What is decoded comes from another process: whatever is malformed in it is an ``InvalidArgumentError`` that says what.
"""

from __future__ import annotations

from ps_protocol.codec.error_codec import decode_error, encode_error
from ps_protocol.codec.spec_codec import decode_enum, decode_spec, decode_uuid, encode_spec
from ps_protocol.errors import FailedPreconditionError, ShardscopeError
from ps_protocol.ps_service import PROTOCOL_VERSION
from ps_protocol.service_types import (
    DurabilityMode,
    DurabilityStatus,
    FastPath,
    FastPathKind,
    Member,
    MemberState,
    Placement,
    Proposal,
    PsAddress,
    ReplicaRole,
    ReplicationStatus,
    ServingState,
    Status,
    VariableInfo,
    Welcome,
)
from ps_protocol.v1 import data_pb2, directory_pb2, inspection_pb2, membership_pb2

_FAST_PATH_KINDS = {int(kind): kind for kind in FastPathKind}
_MEMBER_STATES = {int(state): state for state in MemberState}
_DURABILITY_MODES = {int(mode): mode for mode in DurabilityMode}
_REPLICA_ROLES = {int(role): role for role in ReplicaRole}
_SERVING_STATES = {int(state): state for state in ServingState}


def check_protocol_version(version: int, whose: str) -> None:
    """Makes sure that the other side speaks this version of the contract; ``whose`` names it, as "worker:1".

    Raises:
        FailedPreconditionError: It does not.
    """
    if version != PROTOCOL_VERSION:
        raise FailedPreconditionError(
            f"{whose} speaks version {version} of the protocol, but this side version {PROTOCOL_VERSION}; "
            "install the same version of shardscope everywhere"
        )


def encode_welcome(welcome: Welcome) -> data_pb2.HelloReply:
    """Returns the answer to hello, in this version of the protocol."""
    return data_pb2.HelloReply(
        task=welcome.task,
        store_incarnation=welcome.store.bytes,
        protocol_version=PROTOCOL_VERSION,
        job_seed=welcome.job_seed,
        fast_paths=[
            data_pb2.FastPath(
                kind=data_pb2.FastPath.Kind.ValueType(path.kind), address=path.address, shared_memory=path.shared_memory
            )
            for path in welcome.fast_paths
        ],
        ticket=welcome.ticket,
    )


def decode_welcome(message: data_pb2.HelloReply) -> Welcome:
    """Returns what a ps answered to hello.

    Raises:
        FailedPreconditionError: It speaks another version of the protocol.
        InvalidArgumentError: It is malformed.
    """
    check_protocol_version(message.protocol_version, message.task or "the ps")
    return Welcome(
        message.task,
        decode_uuid(message.store_incarnation, "store incarnation"),
        message.job_seed,
        # A kind that a later version added is one that this client cannot use.
        tuple(
            FastPath(_FAST_PATH_KINDS[path.kind], path.address, path.shared_memory)
            for path in message.fast_paths
            if path.kind in _FAST_PATH_KINDS
        ),
        message.ticket,
    )


def encode_proposal(proposal: Proposal) -> directory_pb2.Proposal:
    """Returns a proposal as a message."""
    return directory_pb2.Proposal(spec=encode_spec(proposal.spec), ps_task=proposal.ps_task)


def decode_proposal(message: directory_pb2.Proposal) -> Proposal:
    """Returns the proposal that a message holds; InvalidArgumentError if it is malformed."""
    return Proposal(decode_spec(message.spec), message.ps_task)


def encode_placement(placement: Placement | ShardscopeError) -> directory_pb2.Placement:
    """Returns a placement, or why there is none, as a message."""
    if isinstance(placement, ShardscopeError):
        return directory_pb2.Placement(error=encode_error(placement))
    return directory_pb2.Placement(spec=encode_spec(placement.spec), ps_task=placement.ps_task)


def decode_placement(message: directory_pb2.Placement) -> Placement | ShardscopeError:
    """Returns the placement, or the error, that a message holds; InvalidArgumentError is raised if it is malformed."""
    if message.HasField("error"):
        return decode_error(message.error)
    return Placement(decode_spec(message.spec), message.ps_task)


def encode_member(member: Member) -> membership_pb2.Member:
    """Returns a member as a message."""
    return membership_pb2.Member(
        task=member.task,
        incarnation=member.incarnation.bytes,
        host=member.host,
        pid=member.pid,
        state=membership_pb2.Member.State.ValueType(member.state),
        joined_at_s=member.joined_at_s,
        last_seen_s=member.last_seen_s,
        step=member.step,
        lease_s=member.lease_s,
    )


def decode_member(message: membership_pb2.Member) -> Member:
    """Returns the member that a message holds; InvalidArgumentError if it is malformed."""
    return Member(
        task=message.task,
        incarnation=decode_uuid(message.incarnation, "incarnation of a member"),
        host=message.host,
        pid=message.pid,
        state=decode_enum(_MEMBER_STATES, message.state, "state of a member"),
        joined_at_s=message.joined_at_s,
        last_seen_s=message.last_seen_s,
        step=message.step,
        lease_s=message.lease_s,
    )


def encode_ps_address(address: PsAddress) -> membership_pb2.PsAddress:
    """Returns where a ps task is as a message."""
    return membership_pb2.PsAddress(
        task=address.task, address=address.address, incarnation=address.incarnation.bytes, epoch=address.epoch
    )


def decode_ps_address(message: membership_pb2.PsAddress) -> PsAddress:
    """Returns where a message says that a ps task is; InvalidArgumentError if it is malformed."""
    return PsAddress(
        message.task, message.address, decode_uuid(message.incarnation, "incarnation of a ps task"), message.epoch
    )


def encode_variable_info(info: VariableInfo) -> inspection_pb2.VariableInfo:
    """Returns what inspection shows of a variable as a message."""
    return inspection_pb2.VariableInfo(
        spec=encode_spec(info.spec), version=info.version, initialized=info.initialized, size_bytes=info.size_bytes
    )


def decode_variable_info(message: inspection_pb2.VariableInfo) -> VariableInfo:
    """Returns what a message shows of a variable; InvalidArgumentError if it is malformed."""
    return VariableInfo(decode_spec(message.spec), message.version, message.initialized, message.size_bytes)


def encode_status(status: Status) -> inspection_pb2.GetStatusReply:
    """Returns the status of a ps task as a message."""
    return inspection_pb2.GetStatusReply(
        task=status.task,
        state=inspection_pb2.GetStatusReply.State.ValueType(status.state),
        store_incarnation=status.store.bytes,
        uptime_s=status.uptime_s,
        num_variables=status.num_variables,
        variable_bytes=status.variable_bytes,
        memory_limit_bytes=status.memory_limit_bytes,
        num_clients=status.num_clients,
        batches=status.batches,
        operations=status.operations,
        duplicate_batches=status.duplicate_batches,
        bytes_received=status.bytes_received,
        bytes_sent=status.bytes_sent,
        durability=None if status.durability is None else _encode_durability(status.durability),
        replication=None if status.replication is None else _encode_replication(status.replication),
    )


def decode_status(message: inspection_pb2.GetStatusReply) -> Status:
    """Returns the status that a message holds; InvalidArgumentError if it is malformed."""
    return Status(
        task=message.task,
        state=decode_enum(_SERVING_STATES, message.state, "state of a ps task"),
        store=decode_uuid(message.store_incarnation, "store incarnation"),
        uptime_s=message.uptime_s,
        num_variables=message.num_variables,
        variable_bytes=message.variable_bytes,
        memory_limit_bytes=message.memory_limit_bytes,
        num_clients=message.num_clients,
        batches=message.batches,
        operations=message.operations,
        duplicate_batches=message.duplicate_batches,
        bytes_received=message.bytes_received,
        bytes_sent=message.bytes_sent,
        durability=_decode_durability(message.durability) if message.HasField("durability") else None,
        replication=_decode_replication(message.replication) if message.HasField("replication") else None,
    )


def _encode_durability(status: DurabilityStatus) -> inspection_pb2.DurabilityStatus:
    return inspection_pb2.DurabilityStatus(
        mode=inspection_pb2.DurabilityStatus.Mode.ValueType(status.mode),
        last_position=status.last_position,
        committed_position=status.committed_position,
        snapshot_position=status.snapshot_position,
        snapshot_bytes=status.snapshot_bytes,
        snapshot_taken_at_s=status.snapshot_taken_at_s,
        journal_bytes=status.journal_bytes,
        obstacle=status.obstacle,
    )


def _decode_durability(message: inspection_pb2.DurabilityStatus) -> DurabilityStatus:
    return DurabilityStatus(
        mode=decode_enum(_DURABILITY_MODES, message.mode, "durability of a ps task"),
        last_position=message.last_position,
        committed_position=message.committed_position,
        snapshot_position=message.snapshot_position,
        snapshot_bytes=message.snapshot_bytes,
        snapshot_taken_at_s=message.snapshot_taken_at_s,
        journal_bytes=message.journal_bytes,
        obstacle=message.obstacle,
    )


def _encode_replication(status: ReplicationStatus) -> inspection_pb2.ReplicationStatus:
    return inspection_pb2.ReplicationStatus(
        role=inspection_pb2.ReplicationStatus.Role.ValueType(status.role),
        epoch=status.epoch,
        has_backup=status.has_backup,
        obstacle=status.obstacle,
    )


def _decode_replication(message: inspection_pb2.ReplicationStatus) -> ReplicationStatus:
    return ReplicationStatus(
        role=decode_enum(_REPLICA_ROLES, message.role, "role of a ps task's process"),
        epoch=message.epoch,
        has_backup=message.has_backup,
        obstacle=message.obstacle,
    )
