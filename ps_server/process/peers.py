"""A ps task's calls to the other ps tasks, by which they learn where it is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import grpc

from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, ClusterSpec
from ps_protocol.codec import service_codec, spec_codec
from ps_protocol.errors import DeadlineExceededError, ShardscopeError, UnavailableError
from ps_protocol.grpc_edge import channel_options, status
from ps_protocol.service_types import PsAddress
from ps_protocol.task_id import TaskId
from ps_protocol.v1 import membership_pb2, membership_pb2_grpc

_LOG = logging.getLogger(__name__)

_FIRST_PS: Final = str(TaskId(PS_JOB, 0))
_FIRST_PS_PLACES: Final = (_FIRST_PS, str(TaskId(BACKUP_JOB, 0)))
_MAX_PLACES: Final = 4
"""Addresses of each task at which it is looked for."""


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

    Several addresses may be known of a task: the one of the cluster spec, and others where it is said to be or to have
    been. It is called at the one where it has answered or was announced last, and at the others if it is not there.

    Args:
        addresses: Where each of them is, by its name, as the cluster spec says; of a replicated task both processes.
        num_ps_tasks: How many ps tasks the cluster has.
    """

    def __init__(self, addresses: dict[str, str], num_ps_tasks: int):
        self._num_ps_tasks = num_ps_tasks
        self._spec = dict(addresses)
        self._places = {task: [address] for task, address in addresses.items()}  # best first
        self._channels: dict[tuple[str, str], grpc.Channel] = {}

    def learn_address(self, address: PsAddress) -> None:
        """Sets where a ps task is; ignored for one that is not a peer."""
        if address.task in self._places:
            self._prefer(address.task, address.address)

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
        """Announces this task to all peers at once, then where else they may be to those that have not answered.

        Args:
            address: Of this task.
            host: Where its process runs.
            pid: Of its process.
            lease_s: How long it may be silent, in seconds.
            age_s: How long it has been there, in seconds.
            cluster: For ps task 0 to say.
            timeout_s: Bound on each of the two steps.
        """
        request = membership_pb2.AnnounceRequest(
            address=service_codec.encode_ps_address(address),
            host=host,
            pid=pid,
            lease_s=lease_s,
            age_s=age_s,
            cluster_incarnation=b"" if cluster is None else cluster.bytes,
            num_ps_tasks=self._num_ps_tasks,
        )
        # Where this task is itself, no other one is.
        places = {task: [each for each in known if each != address.address] for task, known in self._places.items()}
        answered, failures = self._announce_at(
            [(task, known[0]) for task, known in places.items() if known], request, timeout_s
        )
        elsewhere = [(task, each) for task, error in failures.items() if _is_absent(error) for each in places[task][1:]]
        found, _ = self._announce_at(elsewhere, request, timeout_s)
        for task in found:
            del failures[task]
        learned: list[PsAddress] = []
        learned_cluster: UUID | None = None
        for task, reply in (answered | found).items():
            try:
                learned += [service_codec.decode_ps_address(each) for each in reply.addresses]
                if reply.cluster_incarnation and task in _FIRST_PS_PLACES:
                    learned_cluster = spec_codec.decode_uuid(reply.cluster_incarnation, "incarnation of the cluster")
            except ShardscopeError as error:
                failures[task] = error
        for each in learned:
            self._add(each.task, each.address)
        return PeerAnswers(learned, list(failures.values()), learned_cluster)

    def _announce_at(
        self, places: Sequence[tuple[str, str]], request: membership_pb2.AnnounceRequest, timeout_s: float
    ) -> tuple[dict[str, membership_pb2.AnnounceReply], dict[str, ShardscopeError]]:
        """Calls tasks at addresses, all at once; returns an answer of each task that has given one, else an error."""
        calls = [
            (
                task,
                address,
                membership_pb2_grpc.MembershipStub(self._channel(task, address)).Announce.future(
                    request, timeout=timeout_s
                ),
            )
            for task, address in places
        ]
        answers: dict[str, membership_pb2.AnnounceReply] = {}
        failures: dict[str, ShardscopeError] = {}
        for task, address, call in calls:
            try:
                answers[task] = call.result()
                self._prefer(task, address)
            except grpc.RpcError as error:
                failures[task] = status.from_rpc_error(error, task=task, address=address)
        return answers, {task: error for task, error in failures.items() if task not in answers}

    def _prefer(self, task: str, address: str) -> None:
        """Puts an address of a task before the others."""
        known = self._places[task]
        if known[0] != address:
            self._add(task, address)
            known.remove(address)
            known.insert(0, address)

    def _add(self, task: str, address: str) -> None:
        """Puts an address of a task behind the others; beyond a few, the last is forgotten that is not the spec's."""
        known = self._places.get(task, [address])
        if address in known:
            return
        if len(known) == _MAX_PLACES:
            forgotten = next(each for each in reversed(known) if each != self._spec[task])
            known.remove(forgotten)
            self._close(task, forgotten)
        known.append(address)

    def leave(self, first_ps: str, address: PsAddress, *, timeout_s: float) -> None:
        """Tells ps task 0, if it is a peer, that this task has ended in good order; logs it if ps task 0 is gone."""
        if first_ps not in self._places:
            return
        request = membership_pb2.LeaveRequest(task=address.task, incarnation=address.incarnation.bytes)
        try:
            channel = self._channel(first_ps, self._places[first_ps][0])
            membership_pb2_grpc.MembershipStub(channel).Leave(request, timeout=timeout_s)
        except grpc.RpcError as error:
            _LOG.debug("%s could not be told that this task has ended: %s", first_ps, error)

    def close(self) -> None:
        """Closes the connections."""
        for task, address in list(self._channels):
            self._close(task, address)

    def _channel(self, task: str, address: str) -> grpc.Channel:
        channel = self._channels.get((task, address))
        if channel is None:
            channel = grpc.insecure_channel(address, options=channel_options.client_options())
            self._channels[task, address] = channel
        return channel

    def _close(self, task: str, address: str) -> None:
        channel = self._channels.pop((task, address), None)
        if channel is not None:
            channel.close()


def _is_absent(error: ShardscopeError) -> bool:
    """Whether the task may be at another address."""
    return isinstance(error, UnavailableError | DeadlineExceededError)


def peers_of(place: str, cluster_spec: ClusterSpec) -> Peers:
    """Returns the processes of all ps tasks, as "ps:0" and "backup:0", but for the one at a place."""
    num_ps_tasks = len(cluster_spec.ps_addresses())
    places = [TaskId(PS_JOB, index) for index in range(num_ps_tasks)]
    if BACKUP_JOB in cluster_spec.jobs:
        places += [TaskId(BACKUP_JOB, index) for index in cluster_spec.task_indices(BACKUP_JOB)]
    addresses = {str(each): cluster_spec.task_address(each.job, each.index) for each in places if str(each) != place}
    return Peers(addresses, num_ps_tasks)
