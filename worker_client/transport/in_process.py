"""The direct way to a ps in this very process: its typed core, nothing encoded; and a whole ps task that listens here.

The only module of the client that imports ``ps_server``. Variables that live in the worker, servers of TensorFlow 1's
kind and the contract tests use it.

A core that is interrupted in the middle of a batch would not be whole, so the main thread does not enter it: another
thread makes its calls, which costs some 20 to 100 µs.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import ShardscopeError
from ps_protocol.interrupts import sheltered, sheltered_to_the_end
from ps_protocol.operations import Batch, BatchReply
from ps_protocol.ps_service import Transport
from ps_server.checkpoints.service import TaskCheckpoints
from ps_server.core.parameter_server import ParameterServer
from worker_client.transport.endpoint import PsEndpoint
from worker_client.transport.hosting import PsHost


def endpoint_of(core: ParameterServer) -> PsEndpoint:
    """Returns a core of this process as a client calls it."""
    service: Any = _Service(core)
    return PsEndpoint(service, _InProcess(core), address="this process")


def host_ps(options: Mapping[str, object]) -> PsHost:
    """Starts a ps task that other processes reach, in this process; returns when it serves.

    Args:
        options: Those of ``shardscope ps``, by the names of their fields; the environment completes them.

    Raises:
        TypeError: There is no such option.
        ValueError: Something is missing, malformed or contradictory.
        RuntimeError: It cannot start; the message says why.
    """
    from ps_server.process import hosted  # noqa: PLC0415 - all of the ps and gRPC, which only ps tasks need

    return hosted.HostedPs(options)


def private_store(*, job_seed: int = 0) -> PsEndpoint:
    """Returns a ps task of its own, in memory, that no other process can reach."""
    core = ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0, job_seed=job_seed)
    service: Any = _Service(core)
    return PsEndpoint(service, _Private(core), address="this process")


class _InProcess(Transport):
    def __init__(self, core: ParameterServer):
        self._core = core

    def exchange(self, batch: Batch, *, timeout_s: float) -> BatchReply:
        return sheltered_to_the_end(self._core.exchange, batch, timeout_s=timeout_s)

    def close(self) -> None:
        sheltered(self._core.close)


class _Private(_InProcess):
    """That of a store which is no task of a cluster, so that its errors name none."""

    def exchange(self, batch: Batch, *, timeout_s: float) -> BatchReply:
        try:
            answer = super().exchange(batch, timeout_s=timeout_s)
        except ShardscopeError as error:
            error.task = ""
            raise
        for each in answer.replies:
            if isinstance(each, ShardscopeError):
                each.task = ""
        return answer


class _Sheltered:
    """An object, each method of it sheltered."""

    def __init__(self, sheltered_object: object):
        self._object = sheltered_object

    def __getattr__(self, name: str) -> Any:
        return functools.partial(sheltered, getattr(self._object, name))


class _Service(_Sheltered):
    """The services of a core."""

    def __init__(self, core: ParameterServer):
        super().__init__(core)
        self.checkpoints = _Sheltered(TaskCheckpoints(core))
