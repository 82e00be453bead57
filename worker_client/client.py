"""A worker's connection to a cluster: its ps tasks and its own table of names."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Literal, Self, overload
from uuid import uuid4

import numpy.typing as npt

from ps_protocol import fault_points
from ps_protocol.cluster_spec import ClusterSpec, ClusterSpecLike, TfConfig
from ps_protocol.errors import InvalidArgumentError, ShardscopeError
from ps_protocol.operations import Array, UpdateRule, reply_bytes
from ps_protocol.ps_service import PsService
from ps_protocol.task_id import TaskId
from worker_client import default_client, part_reads, pushes
from worker_client.address_lookup import AddressLookup
from worker_client.declaration import Declarer
from worker_client.fanout import Fanout, Routed
from worker_client.graph import Graph
from worker_client.heartbeat import Heartbeat
from worker_client.mirror import Mirror
from worker_client.out_arrays import check_disjoint, received
from worker_client.partitioned_variable import PartitionedVariable
from worker_client.placement_strategies import PsStrategy, RoundRobinStrategy
from worker_client.ps_handle import PsHandle, Settings
from worker_client.ps_way import Reconnect
from worker_client.push_buffers import push_buffer
from worker_client.retry import Deadline
from worker_client.transport import in_process
from worker_client.transport.selection import connect_service, transport_choice
from worker_client.variable import Variable
from worker_client.variable_factory import VariableFactory
from worker_client.variable_parts import (
    AnyVariable,
    AnyVersion,
    AnyVersionedValue,
    Pair,
    new_array,
    of_one_part,
    part_versions,
    parts_of,
    pieces_of,
    spec_of,
    whole_read,
)
from worker_client.wire_names import WireDTypeName

_LOG = logging.getLogger(__name__)

PS_GRACE_VARIABLE = "SHARDSCOPE_PS_GRACE"
LEASE_VARIABLE = "SHARDSCOPE_LEASE"

_DEFAULT_PS_GRACE_S = 60.0
_DEFAULT_LEASE_S = 10.0
_REPORT_EVERY_S = 0.5
_REPORT_TIMEOUT_S = 1.0


def connect(
    cluster_spec: ClusterSpecLike | None = None,
    job_name: str = "worker",
    task_index: int = 0,
    *,
    ps_strategy: PsStrategy | None = None,
    initialize: bool = True,
    operation_timeout_s: float = 60.0,
    connect_timeout_s: float = 60.0,
    transport: str | None = None,
    ps_grace_s: float | None = None,
    lease_s: float | None = None,
) -> Client:
    """Connects this process to a cluster, waiting for ps tasks that have not started yet.

    Args:
        cluster_spec: The cluster; without it everything is taken from the environment's ``TF_CONFIG``.
        job_name: This process's job.
        task_index: Its number in the job; worker 0 is the chief.
        ps_strategy: Chooses a ps task for variables that no ``device`` scope places: round robin by default.
        initialize: Whether a variable is initialised when it is declared. If not, it stays uninitialised until
            ``variable.initialize()``.
        operation_timeout_s: Bound on each operation, retries included, as long as its ps is there, in seconds.
        connect_timeout_s: Bound on waiting for the ps tasks, in seconds.
        transport: How batches reach the ps tasks: "auto" for the fastest way that each offers and that can be reached,
            "grpc", "socket" ("tcp" or "unix"), or "shm"; by default what ``SHARDSCOPE_TRANSPORT`` says, or "auto".
        ps_grace_s: How long operations wait for a ps that has died or cannot be reached, in seconds, if that is more
            than ``operation_timeout_s``. When it is back with its state, here or at another address, they go on where
            they were. By default what ``SHARDSCOPE_PS_GRACE`` says, or 60.
        lease_s: How long this process may be silent before the cluster takes it for dead, in seconds; a thread tells
            it three times as often that it lives. 0 for ever, without a thread. By default what ``SHARDSCOPE_LEASE``
            says, or 10.

    Returns:
        The connection, which from now on the module-level functions use. Close it, or use it in a ``with`` statement.

    Raises:
        ValueError: The cluster spec or TF_CONFIG is not usable, or has no such task; there is no such transport; or a
            number of seconds is none.
        UnavailableError: A ps did not answer in time, or not over the transport asked for.
    """
    fault_points.install_from_environment()
    choice = transport_choice(transport)
    if cluster_spec is None:
        config = TfConfig.from_env()
        spec = config.cluster
        task = config.task or TaskId(job_name, task_index)
    else:
        spec, task = ClusterSpec(cluster_spec), TaskId(job_name, task_index)
    addresses = spec.ps_addresses()
    if task.job in spec.jobs:
        spec.task_address(task.job, task.index)
    return Client(
        spec,
        task,
        services=[(each, connect_service(each, f"ps:{index}", choice)) for index, each in enumerate(addresses)],
        settings=Settings(
            operation_timeout_s=operation_timeout_s,
            connect_timeout_s=connect_timeout_s,
            ps_grace_s=_seconds("ps_grace_s", ps_grace_s, PS_GRACE_VARIABLE, _DEFAULT_PS_GRACE_S),
            lease_s=_seconds("lease_s", lease_s, LEASE_VARIABLE, _DEFAULT_LEASE_S),
        ),
        ps_strategy=ps_strategy or RoundRobinStrategy(len(addresses)),
        initialize=initialize,
        reconnect=lambda address, ps_task: connect_service(address, str(ps_task), choice),
    )


def _seconds(name: str, given: float | None, variable: str, default: float) -> float:
    """A setting: as given, else from the environment; ValueError if it is no number of seconds."""
    source: str = name
    value: float | str | None = given
    if value is None:
        source, value = variable, os.environ.get(variable) or default
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{source} is {value!r}; it should be a number of seconds from 0.")
    return seconds


class Client:
    """One process's connection to a cluster. Made by ``connect``. Thread-safe.

    As a context manager it is the default connection inside and is closed at the end.

    Args:
        cluster_spec: The cluster.
        task: Which task this process is.
        services: Address and service of each ps task, in order; owned.
        settings: Bounds on waiting.
        ps_strategy: Chooses a ps task for variables that no ``device`` scope places.
        initialize: Whether declaring a variable initialises it.
        reconnect: Makes the way to a ps task that has moved; None if none will.

    Attributes:
        cluster_spec: The cluster.
        task: Which task this process is.
        settings: Bounds on waiting.
        incarnation: Identity of this connection, never used again.
        graph: This connection's names, scopes and collections.
        fanout: The way to the ps tasks.
        declarer: Declares variables on them.
        job_seed: Seed from which initial values follow.
    """

    def __init__(
        self,
        cluster_spec: ClusterSpec,
        task: TaskId,
        *,
        services: Sequence[tuple[str, PsService]],
        settings: Settings,
        ps_strategy: PsStrategy,
        initialize: bool,
        reconnect: Reconnect | None = None,
    ):
        self.cluster_spec = cluster_spec
        self.task = task
        self.incarnation = uuid4()
        self.settings = settings
        self._reconnect = reconnect
        self._addresses = AddressLookup(lambda: [handle.service for handle in self._handles])
        self._handles = [
            self._handle(TaskId("ps", index), address, service) for index, (address, service) in enumerate(services)
        ]
        self._local_lock = threading.Lock()  # guards: _local
        self._local: PsHandle | None = None
        self.fanout = Fanout(self._handles, self._local_handle)
        self._report_lock = threading.Lock()  # guards: _reported_s, _step
        self._reported_s = -_REPORT_EVERY_S
        self._step = 0
        self._entered: list[contextlib.ExitStack] = []
        self._heartbeat = Heartbeat(
            self._handles[0],
            task=str(task),
            incarnation=self.incarnation,
            host=socket.gethostname(),
            pid=os.getpid(),
            lease_s=settings.lease_s,
        )
        try:
            deadline = Deadline(settings.connect_timeout_s)
            welcomes = [handle.connect(deadline) for handle in self._handles]
            self._handles[0].call(self._heartbeat.join, what="to let this task join")
            self._heartbeat.start()
        except BaseException:
            self._close_handles()
            raise
        self.job_seed = welcomes[0].job_seed
        self.declarer = Declarer(
            self.fanout,
            cluster_spec=cluster_spec,
            task=task,
            ps_strategy=ps_strategy,
            retry=settings.retry,
            timeout_s=settings.operation_timeout_s,
        )
        self.graph = Graph(VariableFactory(self.fanout, self.declarer, job_seed=self.job_seed, initialize=initialize))
        default_client.opened(self)

    @property
    def is_chief(self) -> bool:
        """Whether this is the process that does what must be done once: worker 0, or the only "chief" or "master"."""
        return self.task.job in ("chief", "master") or (self.task.index == 0 and not self._has_chief_job)

    @property
    def _has_chief_job(self) -> bool:
        return any(job in self.cluster_spec.jobs for job in ("chief", "master"))

    @property
    def num_workers(self) -> int:
        """Tasks of the worker job, 0 if the cluster spec names none."""
        return self.cluster_spec.num_tasks("worker") if "worker" in self.cluster_spec.jobs else 0

    def as_default(self) -> contextlib.AbstractContextManager[Client]:
        """Makes this the connection that the module-level functions use, on this thread, inside the block."""
        return default_client.as_default(self)

    # -- many variables at once ---------------------------------------------------------------

    def read_all(
        self,
        variables: Iterable[AnyVariable],
        *,
        out: Sequence[Array] | None = None,
        wire_dtype: WireDTypeName | None = None,
        copy: bool = True,
    ) -> list[Array]:
        """Returns the values of many variables: one exchange for each ps task, all tasks at once.

        Each value is of one version of its variable (of a partitioned variable, of each of its parts); the variables
        are not read at one instant.

        Args:
            variables: What to read.
            out: One array for each variable, of which each is as in ``Variable.read_value`` and no two overlap in
                memory. The parts of a variable that is cut along its first dimension are read straight into their
                places. After an error the content of all is undefined.
            wire_dtype: The form in which the values travel, as in ``Variable.read_value``.
            copy: If not, the arrays are read-only, as in ``Variable.read_value``. Over shared memory the memory of all
                values that one ps task has sent is in use as long as one of them is held.

        Returns:
            One array for each variable: those of ``out``, or new ones.

        Raises:
            FailedPreconditionError: One of them has not been initialised.
            InvalidArgumentError: An array does not fit its variable, there are not as many as variables, or two
                overlap.
        """
        whole = list(variables)
        reads = [whole_read(*each, wire_dtype, view=not copy) for each in _with_outs(whole, out)]
        return part_reads.read(self.fanout, reads)

    def read_all_if_newer(
        self,
        variables: Iterable[AnyVariable],
        versions: Iterable[AnyVersion | None],
        *,
        out: Sequence[Array] | None = None,
        wire_dtype: WireDTypeName | None = None,
    ) -> list[AnyVersionedValue | None]:
        """Reads those of many variables that have changed, otherwise as ``read_all``.

        Args:
            variables: What to read.
            versions: For each the version known, as for its ``read_if_newer``.
            out: As in ``read_all``. The arrays of variables that have not changed are left as they are.
            wire_dtype: As in ``read_all``.

        Returns:
            For each variable the value and its version, or None if the version is still the one known.
        """
        whole, known = list(variables), list(versions)
        if len(known) != len(whole):
            raise InvalidArgumentError(
                f"there are {len(whole)} variables, but {len(known)} versions; give one for each"
            )
        reads = [whole_read(*each, wire_dtype) for each in _with_outs(whole, out)]
        parts = [part_versions(*each) for each in zip(whole, known, strict=True)]
        newer = part_reads.read_if_newer(self.fanout, reads, parts)
        return [
            each if each is None or isinstance(variable, PartitionedVariable) else of_one_part(each)
            for variable, each in zip(whole, newer, strict=True)
        ]

    def mirror(self, variables: Iterable[AnyVariable]) -> Mirror:
        """Returns copies of many variables, read now, whose ``pull`` reads anew in place what has changed.

        Raises:
            FailedPreconditionError: One of them has not been initialised.
        """
        mirror = Mirror(self.fanout, list(variables))
        mirror.pull()
        return mirror

    def gather_all(
        self,
        pairs: Iterable[tuple[Variable, npt.ArrayLike]],
        *,
        out: Sequence[Array] | None = None,
        wire_dtype: WireDTypeName | None = None,
    ) -> list[Array]:
        """Returns rows of many variables, given with their indices as for ``Variable.gather``.

        It makes one exchange for each ps task, all tasks at once; otherwise as ``read_all``.

        Raises:
            InvalidArgumentError: An index is out of range, or an array of ``out`` does not fit.
            DTypeMismatchError: Indices are not integers.
        """
        asked = list(pairs)
        outs = [each for _, each in _with_outs([variable for variable, _ in asked], out)]
        gathers = [
            variable.gathering(rows, out=each, wire_dtype=wire_dtype)
            for (variable, rows), each in zip(asked, outs, strict=True)
        ]
        routed = [
            Routed(variable.ps_task, gather, reply_bytes(gather, variable.spec))
            for (variable, _), gather in zip(asked, gathers, strict=True)
        ]
        return [received(result, each) for result, each in zip(self.fanout.run_all(routed), outs, strict=True)]

    @overload
    def assign_add_all(
        self, pairs: Iterable[Pair], *, wait: Literal[True] = True, wire_dtype: WireDTypeName | None = None
    ) -> None: ...
    @overload
    def assign_add_all(
        self, pairs: Iterable[Pair], *, wait: Literal[False], wire_dtype: WireDTypeName | None = None
    ) -> Future[None]: ...
    def assign_add_all(
        self, pairs: Iterable[Pair], *, wait: bool = True, wire_dtype: WireDTypeName | None = None
    ) -> Future[None] | None:
        """Adds to many variables: one exchange for each ps task, all tasks at once.

        All deltas are checked before any is sent. Each addition is atomic, all together are not.

        Args:
            pairs: Variables and their deltas, as for ``Variable.assign_add``.
            wait: Whether to wait until all are applied. If not, the deltas are copied and a future is returned.
            wire_dtype: The form in which the deltas travel, as in ``Variable.assign_add``.
        """
        return self._update_all(UpdateRule.ASSIGN_ADD, pairs, wait, wire_dtype)

    def assign_all(self, pairs: Iterable[Pair], *, wire_dtype: WireDTypeName | None = None) -> None:
        """Replaces the values of many variables; otherwise as ``assign_add_all``."""
        self._update_all(UpdateRule.ASSIGN, pairs, True, wire_dtype)

    def _update_all(
        self, rule: UpdateRule, pairs: Iterable[Pair], wait: bool, wire_dtype: WireDTypeName | None
    ) -> Future[None] | None:
        updates = [
            (part, part.update(rule, piece, copy=not wait, wire_dtype=wire_dtype))
            for variable, value in pairs
            for part, piece in zip(parts_of(variable), pieces_of(variable, value), strict=True)
        ]
        routed = pushes.prepared(updates)
        if not wait:
            return pushes.run_all_later(self.fanout, routed)
        pushes.run_all(self.fanout, routed)
        return None

    def push_buffers(self, variables: Iterable[AnyVariable]) -> list[Array]:
        """Returns an array to compute updates in for each variable, as ``Variable.push_buffer``.

        That of a variable of several parts is an ordinary array: no memory is shared with several ps tasks.
        """
        whole = list(variables)
        parts = [parts_of(variable) for variable in whole]
        return [
            push_buffer(each[0]) if len(each) == 1 else new_array(variable)
            for variable, each in zip(whole, parts, strict=True)
        ]

    # -- taking part --------------------------------------------------------------------------

    def report_step(self, step: int) -> None:
        """Tells the cluster how many training steps this task has done, for those who watch.

        Cheap enough for every step: most calls only remember the number. Never fails.
        """
        with self._report_lock:
            self._step = self._heartbeat.step = step
            now_s = time.monotonic()
            if now_s - self._reported_s < _REPORT_EVERY_S:
                return
            self._reported_s = now_s
        self._send_report()

    def _send_report(self) -> None:
        try:
            self._handles[0].service.report_progress(
                str(self.task), self.incarnation, self._step, timeout_s=_REPORT_TIMEOUT_S
            )
        except ShardscopeError as error:
            _LOG.debug("progress not reported: %s", error)

    def _leave(self) -> None:
        if self._step:
            self._send_report()
        try:
            self._handles[0].service.leave(str(self.task), self.incarnation, timeout_s=_REPORT_TIMEOUT_S)
        except ShardscopeError as error:
            _LOG.debug("leave not reported: %s", error)

    def _handle(self, task: TaskId, address: str, service: PsService) -> PsHandle:
        return PsHandle(
            service,
            task=task,
            address=address,
            client=self.incarnation,
            client_task=str(self.task),
            settings=self.settings,
            locate=self._addresses.find,
            reconnect=self._reconnect,
        )

    def _local_handle(self) -> PsHandle:
        """The store of variables that live in this process, made when the first of them is."""
        with self._local_lock:
            if self._local is None:
                service = in_process.private_store(job_seed=self._handles[0].welcome.job_seed)
                self._local = self._handle(TaskId("ps", 0), "this process", service)
                self._local.connect(Deadline(self.settings.connect_timeout_s))
            return self._local

    # -- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Sends what is queued and ends the connection. The variables stay on their ps tasks. May be repeated."""
        if default_client.closed(self):
            self._heartbeat.stop()
            self._leave()
            self._close_handles()

    def _close_handles(self) -> None:
        for handle in [*self._handles, *([self._local] if self._local else [])]:
            handle.close()

    def __enter__(self) -> Self:
        self._entered.append(contextlib.ExitStack())
        self._entered[-1].enter_context(self.as_default())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.pop().close()
        self.close()


def _with_outs(
    variables: Sequence[AnyVariable], outs: Sequence[Array] | None
) -> list[tuple[AnyVariable, Array | None]]:
    """Pairs variables with the arrays to read them into; InvalidArgumentError if those are not usable together."""
    if outs is None:
        return [(variable, None) for variable in variables]
    if len(outs) != len(variables):
        raise InvalidArgumentError(
            f"there are {len(variables)} variables, but {len(outs)} arrays in `out`; give one each"
        )
    pairs: list[tuple[AnyVariable, Array | None]] = list(zip(variables, outs, strict=True))
    check_disjoint(outs, [spec_of(variable).name for variable in variables])
    return pairs
