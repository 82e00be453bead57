"""Messages of the services beside batches: what is sent is what arrives."""

from __future__ import annotations

import enum
from uuid import UUID

import numpy as np
import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from ps_protocol.codec import service_codec
from ps_protocol.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    ShapeMismatchError,
)
from ps_protocol.initializer_spec import (
    Distribution,
    FanMode,
)
from ps_protocol.operations import (
    PartitionSlice,
    ScatterRule,
    UpdateRule,
    VariableSpec,
)
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
    ReplicaRole,
    ReplicationStatus,
    ServingState,
    Status,
    VariableInfo,
    Welcome,
)
from ps_protocol.v1 import batch_pb2, data_pb2, directory_pb2, inspection_pb2, membership_pb2, variable_pb2

CLIENT, STORE = UUID(int=1), UUID(int=2)
SPEC = VariableSpec("scope/w", np.dtype(np.float32), (2, 3))
PART = VariableSpec("w/part_1", np.dtype("S4"), (2, 3), PartitionSlice("w", (4, 3), (2, 0)))


class TestServiceMessages:
    def test_welcome(self) -> None:
        welcome = Welcome("ps:0", STORE, -(2**63))
        message = service_codec.encode_welcome(welcome)
        assert service_codec.decode_welcome(message) == welcome
        message.store_incarnation = b""
        with pytest.raises(InvalidArgumentError, match="store incarnation has 0 bytes"):
            service_codec.decode_welcome(message)

    def test_welcome_offers_fast_paths(self) -> None:
        tcp, unix = FastPath(FastPathKind.TCP, ":2223"), FastPath(FastPathKind.UNIX, "shardscope-1", shared_memory=True)
        welcome = Welcome("ps:0", STORE, 7, (unix, tcp), b"ticket")
        message = service_codec.encode_welcome(welcome)
        assert service_codec.decode_welcome(message) == welcome

    def test_a_fast_path_of_a_later_version_is_left_out(self) -> None:
        message = service_codec.encode_welcome(Welcome("ps:0", STORE, 7, (FastPath(FastPathKind.TCP, ":2223"),)))
        message.fast_paths.add(kind=data_pb2.FastPath.Kind.ValueType(99), address="new")
        assert service_codec.decode_welcome(message).fast_paths == (FastPath(FastPathKind.TCP, ":2223"),)

    @pytest.mark.parametrize("version", [0, PROTOCOL_VERSION + 1])
    def test_welcome_in_another_version(self, version: int) -> None:
        message = data_pb2.HelloReply(task="ps:0", store_incarnation=STORE.bytes, protocol_version=version)
        with pytest.raises(FailedPreconditionError, match=f"ps:0 speaks version {version}"):
            service_codec.decode_welcome(message)

    def test_proposal(self) -> None:
        proposal = Proposal(PART, 3)
        assert service_codec.decode_proposal(service_codec.encode_proposal(proposal)) == proposal
        with pytest.raises(InvalidArgumentError, match="lacks the name"):
            service_codec.decode_proposal(directory_pb2.Proposal(ps_task=1))

    def test_placement(self) -> None:
        placement = Placement(SPEC, 1)
        assert service_codec.decode_placement(service_codec.encode_placement(placement)) == placement
        with pytest.raises(InvalidArgumentError, match="lacks the name"):
            service_codec.decode_placement(directory_pb2.Placement())

    def test_placement_that_was_refused(self) -> None:
        error = ShapeMismatchError("differs", variable="w")
        decoded = service_codec.decode_placement(service_codec.encode_placement(error))
        assert isinstance(decoded, ShapeMismatchError)
        assert vars(decoded) == vars(error)

    @pytest.mark.parametrize("state", MemberState)
    def test_member(self, state: MemberState) -> None:
        member = Member("worker:1", CLIENT, "host", 42, state, 1.25, 2.5, 1000)
        message = service_codec.encode_member(member)
        assert service_codec.decode_member(message) == member
        message.ClearField("state")
        with pytest.raises(InvalidArgumentError, match="state of a member is 0"):
            service_codec.decode_member(message)

    def test_variable_info(self) -> None:
        info = VariableInfo(PART, 7, True, 24)
        assert service_codec.decode_variable_info(service_codec.encode_variable_info(info)) == info
        with pytest.raises(InvalidArgumentError, match="lacks the name"):
            service_codec.decode_variable_info(inspection_pb2.VariableInfo())

    @pytest.mark.parametrize("state", ServingState)
    def test_status(self, state: ServingState) -> None:
        status = Status("ps:0", state, STORE, 1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10, steps_skipped=11, steps_refused=12)
        message = service_codec.encode_status(status)
        assert service_codec.decode_status(message) == status
        message.state = inspection_pb2.GetStatusReply.STATE_UNSPECIFIED
        with pytest.raises(InvalidArgumentError, match="state of a ps task is 0"):
            service_codec.decode_status(message)

    @pytest.mark.parametrize("mode", DurabilityMode)
    def test_status_of_what_is_kept(self, mode: DurabilityMode) -> None:
        kept = DurabilityStatus(mode, 1, 2, 3, 4, 5.5, 6, "the disk is full")
        status = Status("ps:0", ServingState.SERVING, STORE, 1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10, kept)
        message = service_codec.encode_status(status)
        assert service_codec.decode_status(message) == status
        assert inspection_pb2.DurabilityStatus.Mode.Name(message.durability.mode) == f"MODE_{mode.name}"

    @pytest.mark.parametrize("role", ReplicaRole)
    def test_status_of_one_of_two_processes(self, role: ReplicaRole) -> None:
        replication = ReplicationStatus(role, 7, True, "its backup is silent")
        status = Status("ps:0", ServingState.SERVING, STORE, 1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10, replication=replication)
        message = service_codec.encode_status(status)
        assert service_codec.decode_status(message) == status
        assert inspection_pb2.ReplicationStatus.Role.Name(message.replication.role) == f"ROLE_{role.name}"
        assert status.answers_clients == (role is ReplicaRole.PRIMARY)
        message.ClearField("replication")  # as from a ps of an older version
        assert service_codec.decode_status(message).answers_clients
        message.replication.role = inspection_pb2.ReplicationStatus.ROLE_UNSPECIFIED
        with pytest.raises(InvalidArgumentError, match="role of a ps task's process is 0"):
            service_codec.decode_status(message)


@pytest.mark.parametrize(
    ("ours", "wire", "prefix"),
    [
        (UpdateRule, batch_pb2.Update.Rule, "RULE_"),
        (ScatterRule, batch_pb2.Scatter.Rule, "RULE_"),
        (FanMode, variable_pb2.Initializer.FanMode, "FAN_MODE_"),
        (Distribution, variable_pb2.Initializer.Distribution, "DISTRIBUTION_"),
        (MemberState, membership_pb2.Member.State, "STATE_"),
        (ServingState, inspection_pb2.GetStatusReply.State, "STATE_"),
        (ReplicaRole, inspection_pb2.ReplicationStatus.Role, "ROLE_"),
    ],
)
def test_enums_have_the_numbers_of_the_contract(ours: type[enum.IntEnum], wire: EnumTypeWrapper, prefix: str) -> None:
    assert {f"{prefix}{member.name}": member.value for member in ours} | {f"{prefix}UNSPECIFIED": 0} == dict(
        wire.items()
    )
