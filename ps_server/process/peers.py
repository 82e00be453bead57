"""A ps task's calls to the other ps tasks, by which they learn where it is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import grpc

from ps_protocol.cluster_spec import PS_JOB
from ps_protocol.codec import service_codec, spec_codec
from ps_protocol.errors import ShardscopeError
from ps_protocol.grpc_edge import channel_options, status
from ps_protocol.service_types import PsAddress
from ps_protocol.task_id import TaskId
from ps_protocol.v1 import membership_pb2, membership_pb2_grpc

_LOG = logging.getLogger(__name__)

_FIRST_PS: Final = str(TaskId(PS_JOB, 0))


@dataclass(frozen=True, slots=True)
class PeerAnswers:
    """What the other ps tasks have answered to an announcement.

    Attributes:
        addresses: Those that they know.
        failures: An error for each that has not answered.
        cluster: Identity of the cluster, if ps task 0 is among those that have answered.
    """

    addresses: list[PsAddress]
    failures: list[ShardscopeError]
    cluster: UUID | None = None


class Peers:
    """The other ps tasks of the cluster. To be used by one thread.

    Args:
        addresses: Where each of them is, by its name, as the cluster spec says.
    """

    def __init__(self, addresses: dict[str, str]):
        self._addresses = dict(addresses)
        self._channels: dict[str, grpc.Channel] = {}

    def learn_address(self, address: PsAddress) -> None:
        """Sets where a ps task is; ignored for one that is not a peer."""
        if self._addresses.get(address.task, address.address) != address.address:
            self._addresses[address.task] = address.address
            self._close(address.task)

    def announce(
        self,
        address: PsAddress,
        host: str,
        pid: int,
        *,
        lease_s: float,
        age_s: float,
        cluster: UUID | None,
        timeout_s: float,
    ) -> PeerAnswers:
        """Announces this task to all peers at once; ``cluster`` is for ps task 0 to say."""
        request = membership_pb2.AnnounceRequest(
            address=service_codec.encode_ps_address(address),
            host=host,
            pid=pid,
            lease_s=lease_s,
            age_s=age_s,
            cluster_incarnation=b"" if cluster is None else cluster.bytes,
            num_ps_tasks=len(self._addresses) + 1,
        )
        calls = [
            (task, membership_pb2_grpc.MembershipStub(self._channel(task)).Announce.future(request, timeout=timeout_s))
            for task in self._addresses
        ]
        learned: list[PsAddress] = []
        failures: list[ShardscopeError] = []
        learned_cluster: UUID | None = None
        for task, call in calls:
            try:
                reply = call.result()
                learned += [service_codec.decode_ps_address(each) for each in reply.addresses]
                if reply.cluster_incarnation and task == _FIRST_PS:
                    learned_cluster = spec_codec.decode_uuid(reply.cluster_incarnation, "incarnation of the cluster")
            except grpc.RpcError as error:
                failures.append(status.from_rpc_error(error, task=task, address=self._addresses[task]))
            except ShardscopeError as error:
                failures.append(error)
        return PeerAnswers(learned, failures, learned_cluster)

    def leave(self, first_ps: str, address: PsAddress, *, timeout_s: float) -> None:
        """Tells ps task 0, if it is a peer, that this task has ended in good order; logs it if ps task 0 is gone."""
        if first_ps not in self._addresses:
            return
        request = membership_pb2.LeaveRequest(task=address.task, incarnation=address.incarnation.bytes)
        try:
            membership_pb2_grpc.MembershipStub(self._channel(first_ps)).Leave(request, timeout=timeout_s)
        except grpc.RpcError as error:
            _LOG.debug("%s could not be told that this task has ended: %s", first_ps, error)

    def close(self) -> None:
        """Closes the connections."""
        for task in list(self._channels):
            self._close(task)

    def _channel(self, task: str) -> grpc.Channel:
        channel = self._channels.get(task)
        if channel is None:
            channel = self._channels[task] = grpc.insecure_channel(
                self._addresses[task], options=channel_options.client_options()
            )
        return channel

    def _close(self, task: str) -> None:
        channel = self._channels.pop(task, None)
        if channel is not None:
            channel.close()


def peers_of(task: str, addresses: Sequence[str]) -> Peers:
    """Returns the other ps tasks, given the addresses of all in the order of the tasks."""
    names = [str(TaskId(PS_JOB, index)) for index in range(len(addresses))]
    return Peers({name: address for name, address in zip(names, addresses, strict=True) if name != task})
