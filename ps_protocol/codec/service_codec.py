"""What a ps answers beside batches (welcome, placements, members, status) as messages of the contract, and back.

What is decoded comes from another process. Whatever is malformed in it is an ``InvalidArgumentError`` that says what.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from ps_protocol.codec.error_codec import decode_error, encode_error
from ps_protocol.codec.spec_codec import check_features, decode_enum, decode_spec, decode_uuid, encode_spec
from ps_protocol.errors import FailedPreconditionError, ShardscopeError
from ps_protocol.ps_service import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION
from ps_protocol.service_types import (
    DurabilityMode,
    DurabilityStatus,
    FastPath,
    FastPathKind,
    KnownCluster,
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

_Value = TypeVar("_Value")
_Message = TypeVar("_Message", bound=Message)


def common_version(oldest: int, newest: int, whose: str) -> int:
    """Returns the newest version of the contract that both sides speak.

    Args:
        oldest: That the other side speaks.
        newest: Likewise; 0 if it says only one.
        whose: Names the other side, as "worker:1".

    Raises:
        FailedPreconditionError: There is none.
    """
    newest = newest or oldest
    common = min(newest, PROTOCOL_VERSION)
    if not max(oldest, OLDEST_PROTOCOL_VERSION) <= common:
        theirs, ours = _versions(oldest, newest), _versions(OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION)
        raise FailedPreconditionError(
            f"{whose} speaks version {theirs} of the protocol, but this side version {ours}; "
            "install versions of shardscope that have one in common"
        )
    return common


def _versions(oldest: int, newest: int) -> str:
    return f"{oldest}" if oldest == newest else f"{oldest} to {newest}"


def encode_hello(client: UUID, task: str, num_ps_tasks: int, *, for_reads: bool = False) -> data_pb2.HelloRequest:
    """Returns the hello of a client, in all versions that this side speaks."""
    return data_pb2.HelloRequest(
        client_incarnation=client.bytes,
        task=task,
        protocol_version=OLDEST_PROTOCOL_VERSION,
        newest_protocol_version=PROTOCOL_VERSION,
        num_ps_tasks=num_ps_tasks,
        for_reads=for_reads,
    )


def version_of_hello(message: data_pb2.HelloRequest) -> int:
    """Returns the version in which to answer a hello.

    Raises:
        FailedPreconditionError: This side speaks none that the client does.
        InvalidArgumentError: The hello needs something that this side does not know.
    """
    whose = message.task or "the client"
    check_features(message.required_features, f"the hello of {whose}")
    return common_version(message.protocol_version, message.newest_protocol_version, whose)


def encode_welcome(welcome: Welcome, version: int = PROTOCOL_VERSION) -> data_pb2.HelloReply:
    """Returns the answer to hello, in that version of the protocol."""
    return data_pb2.HelloReply(
        task=welcome.task,
        store_incarnation=welcome.store.bytes,
        protocol_version=version,
        oldest_protocol_version=OLDEST_PROTOCOL_VERSION,
        newest_protocol_version=PROTOCOL_VERSION,
        job_seed=welcome.job_seed,
        fast_paths=[
            data_pb2.FastPath(
                kind=data_pb2.FastPath.Kind.ValueType(path.kind),
                address=path.address,
                shared_memory=path.shared_memory,
                newest_version=path.version,
                checks_tensors=path.checks_tensors,
            )
            for path in welcome.fast_paths
        ],
        ticket=welcome.ticket,
        cluster=None if welcome.cluster is None else _CLUSTER.encode(welcome.cluster),
        max_message_bytes=welcome.max_message_bytes,
    )


def decode_welcome(message: data_pb2.HelloReply) -> Welcome:
    """Returns what a ps answered to hello.

    Raises:
        FailedPreconditionError: It speaks another version of the protocol.
        InvalidArgumentError: It is malformed.
    """
    common_version(message.protocol_version, message.protocol_version, message.task or "the ps")
    return Welcome(
        message.task,
        decode_uuid(message.store_incarnation, "store incarnation"),
        message.job_seed,
        # A kind that a later version added is one that this client cannot use.
        tuple(
            FastPath(
                _FAST_PATH_KINDS[path.kind],
                path.address,
                path.shared_memory,
                path.newest_version or 1,  # one that does not say so is older than this field
                path.checks_tensors,
            )
            for path in message.fast_paths
            if path.kind in _FAST_PATH_KINDS
        ),
        message.ticket,
        _CLUSTER.decode(message.cluster) if message.HasField("cluster") else None,
        message.max_message_bytes,
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


class _Field(NamedTuple):
    """How a field of a message differs from that of the value.

    Attributes:
        encode: Makes the message's field of the value's.
        decode: The reverse.
        name: In the message, if it is another.
        is_optional: Whether it is absent for None.
    """

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    name: str | None = None
    is_optional: bool = False


class _Codec(Generic[_Value, _Message]):
    """Turns values of a dataclass into messages, field by field, and back.

    Args:
        value_type: The dataclass.
        message_type: The message.
        different: The fields that are not the same in both, by their names in the dataclass.
    """

    def __init__(self, value_type: type[_Value], message_type: type[_Message], **different: _Field):
        self._value_type: Callable[..., _Value] = value_type
        self._message_type = message_type
        names: list[str] = [field.name for field in dataclasses.fields(value_type)]  # type: ignore[arg-type]  # it is one
        self._same = [name for name in names if name not in different]
        self._different = [(name, field.name or name, field) for name, field in different.items()]

    def encode(self, value: _Value) -> _Message:
        """Returns a value as a message."""
        fields = {name: getattr(value, name) for name in self._same}
        for name, in_message, field in self._different:
            part = getattr(value, name)
            fields[in_message] = None if part is None else field.encode(part)
        return self._message_type(**fields)

    def decode(self, message: _Message) -> _Value:
        """Returns the value that a message holds; InvalidArgumentError if it is malformed."""
        fields = {name: getattr(message, name) for name in self._same}
        for name, in_message, field in self._different:
            is_absent = field.is_optional and not message.HasField(in_message)
            fields[name] = None if is_absent else field.decode(getattr(message, in_message))
        return self._value_type(**fields)


def _enum_field(kind: type[enum.IntEnum], what: str) -> _Field:
    members = {int(member): member for member in kind}
    return _Field(int, lambda number: decode_enum(members, number, what))


def _uuid_field(what: str, name: str | None = None) -> _Field:
    return _Field(lambda uuid: uuid.bytes, lambda data: decode_uuid(data, what), name)


def _known_uuid_field(what: str) -> _Field:
    """A UUID that is empty if it is not known."""
    return _Field(lambda uuid: uuid.bytes, lambda data: decode_uuid(data, what) if data else None)


def _optional(codec: _Codec[Any, Any]) -> _Field:
    return _Field(codec.encode, codec.decode, is_optional=True)


_SPEC: Final = _Field(encode_spec, decode_spec)
_CLUSTER: Final = _Codec(KnownCluster, data_pb2.Cluster, incarnation=_known_uuid_field("incarnation of the cluster"))
_MEMBER: Final = _Codec(
    Member,
    membership_pb2.Member,
    incarnation=_uuid_field("incarnation of a member"),
    state=_enum_field(MemberState, "state of a member"),
)
_PS_ADDRESS: Final = _Codec(PsAddress, membership_pb2.PsAddress, incarnation=_uuid_field("incarnation of a ps task"))
_VARIABLE_INFO: Final = _Codec(VariableInfo, inspection_pb2.VariableInfo, spec=_SPEC)
_DURABILITY: Final = _Codec(
    DurabilityStatus,
    inspection_pb2.DurabilityStatus,
    mode=_enum_field(DurabilityMode, "durability of a ps task"),
)
_REPLICATION: Final = _Codec(
    ReplicationStatus,
    inspection_pb2.ReplicationStatus,
    role=_enum_field(ReplicaRole, "role of a ps task's process"),
)
_STATUS: Final = _Codec(
    Status,
    inspection_pb2.GetStatusReply,
    state=_enum_field(ServingState, "state of a ps task"),
    store=_uuid_field("store incarnation", "store_incarnation"),
    durability=_optional(_DURABILITY),
    replication=_optional(_REPLICATION),
    troubles=_Field(list, tuple),
)

encode_member, decode_member = _MEMBER.encode, _MEMBER.decode
encode_ps_address, decode_ps_address = _PS_ADDRESS.encode, _PS_ADDRESS.decode
encode_variable_info, decode_variable_info = _VARIABLE_INFO.encode, _VARIABLE_INFO.decode
encode_status, decode_status = _STATUS.encode, _STATUS.decode
