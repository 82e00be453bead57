"""The arbiter, which decides who is the primary, and the client that asks it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from typing import Final
from uuid import UUID

import grpc

from ps_protocol.codec.spec_codec import decode_enum, decode_uuid
from ps_protocol.errors import FailedPreconditionError
from ps_protocol.grpc_edge import channel_options, status
from ps_protocol.v1 import replication_pb2, replication_pb2_grpc
from ps_server.replication.register import ArbiterVerdict, Known, Register, ReplicaReport, Role, Wish, judge

_LOG = logging.getLogger(__name__)

_ROLES: Final = {int(role): role for role in Role}
_WISHES: Final = {int(wish): wish for wish in Wish}


def arbiter_of(task_index: int) -> int:
    """Index of the ps task at whose address the arbiter of a ps task is: never a process of the pair."""
    return 1 if task_index == 0 else 0


class Arbiter:
    """Decides for some ps tasks who is the primary. Thread-safe.

    Args:
        tasks: The tasks that it decides about, as "ps:1".
    """

    def __init__(self, tasks: Collection[str]):
        self._lock = threading.Lock()  # guards: _known; no other lock is taken under it
        self._known = {task: Known() for task in tasks}

    def consult(self, request: replication_pb2.ConsultRequest) -> replication_pb2.ConsultReply:
        """Decides about one call.

        Raises:
            FailedPreconditionError: Another process is the arbiter of this task.
            InvalidArgumentError: The request is malformed.
        """
        report = ReplicaReport(
            process=decode_uuid(request.process, "process"),
            number=request.number,
            role=decode_enum(_ROLES, request.role, "role"),
            epoch=request.epoch,
            backup=decode_uuid(request.backup, "backup") if request.backup else None,
        )
        wish = decode_enum(_WISHES, request.wish, "wish")
        candidate = decode_uuid(request.candidate, "candidate") if request.candidate else None
        with self._lock:
            known = self._known.get(request.task)
            if known is None:
                raise FailedPreconditionError(
                    f"this process is not the arbiter of {request.task!r}: that of ps:0 is the one at the address of "
                    f"ps:1, that of all others the one at the address of ps:0; the cluster specs differ"
                )
            before = known.register
            self._known[request.task], verdict = judge(known, request.is_second, report, wish, candidate)
        if verdict.register != before:
            _LOG.info("%s: %s", request.task, _in_words(verdict.register))  # the process itself says more
        return _encode_verdict(verdict)


class ArbiterClient:
    """Calls an arbiter. One thread.

    Args:
        address: Of the arbiter, "host:port".
        task: About which it decides, as "ps:1".
        is_second: Whether this is the process at the address of the backup.
    """

    def __init__(self, address: str, *, task: str, is_second: bool):
        self._address = address
        self._task = task
        self._is_second = is_second
        self._channel = grpc.insecure_channel(address, options=channel_options.client_options())
        self._stub = replication_pb2_grpc.ReplicationStub(self._channel)

    def consult(
        self, report: ReplicaReport, wish: Wish = Wish.NONE, candidate: UUID | None = None, *, timeout_s: float
    ) -> ArbiterVerdict:
        """Reports to the arbiter what this process is, and asks for a change.

        Raises:
            ShardscopeError: There was no answer. The arbiter may have granted the change.
        """
        request = replication_pb2.ConsultRequest(
            task=self._task,
            is_second=self._is_second,
            process=report.process.bytes,
            number=report.number,
            role=replication_pb2.ConsultRequest.Role.ValueType(report.role),
            epoch=report.epoch,
            backup=report.backup.bytes if report.backup else b"",
            wish=replication_pb2.ConsultRequest.Wish.ValueType(wish),
            candidate=candidate.bytes if candidate else b"",
        )
        try:
            reply = self._stub.Consult(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise status.from_rpc_error(error, task="", address=self._address) from error
        return _decode_verdict(reply)

    def close(self) -> None:
        self._channel.close()


def _encode_verdict(verdict: ArbiterVerdict) -> replication_pb2.ConsultReply:
    reply = replication_pb2.ConsultReply(granted=verdict.granted, reason=verdict.reason)
    if verdict.register is not None:
        reply.epoch, reply.primary = verdict.register.epoch, verdict.register.primary.bytes
        reply.backup = verdict.register.backup.bytes if verdict.register.backup else b""
    return reply


def _decode_verdict(reply: replication_pb2.ConsultReply) -> ArbiterVerdict:
    register = None
    if reply.epoch:
        backup = decode_uuid(reply.backup, "backup") if reply.backup else None
        register = Register(reply.epoch, decode_uuid(reply.primary, "primary"), backup)
    return ArbiterVerdict(register, reply.granted, reply.reason)


def _in_words(register: Register | None) -> str:
    if register is None:
        return "it is not known who is the primary"
    backup = f"with the backup {register.backup}" if register.backup else "without a backup"
    return f"epoch {register.epoch} begins: the primary is {register.primary}, {backup}"
