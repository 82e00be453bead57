"""One ps task: the store, the ledger, the directory, the members and the door, put together. No protobuf, no gRPC."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Concatenate, Final, ParamSpec, TypeVar
from uuid import UUID, uuid4

from ps_protocol.cluster_spec import PS_JOB, ClusterSpec, TaskId
from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, ShardscopeError, StateLostError
from ps_protocol.operations import Batch, BatchReply, Operation
from ps_protocol.ps_service import Transport
from ps_protocol.service_types import (
    DurabilityStatus,
    Member,
    Placement,
    Proposal,
    PsAddress,
    ReplicationStatus,
    Status,
    VariableInfo,
    Welcome,
)
from ps_server.address_book import AddressBook
from ps_server.admission import Admission
from ps_server.batch_runner import BatchRunner
from ps_server.directory import Directory
from ps_server.durability import Durability
from ps_server.durable_store import DurableStore
from ps_server.membership import Change, Membership
from ps_server.update_ledger import LedgerLimits, UpdateLedger
from ps_server.variable_store import VariableStore

_MAX_WAIT_S: Final = 86_400.0
_MAX_TASK_LENGTH: Final = 255


def _answer_always() -> None:
    """There is no other process that could answer for this task."""


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _naming_the_task(
    method: Callable[Concatenate[ParameterServer, _P], _T],
) -> Callable[Concatenate[ParameterServer, _P], _T]:
    """Writes the task into every error that a method raises."""

    @functools.wraps(method)
    def named(self: ParameterServer, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return method(self, *args, **kwargs)
        except ShardscopeError as error:
            error.task = error.task or self.task
            raise

    return named


class ParameterServer(Transport):
    """The typed core of a ps task: a ``ClusterService``, and a ``Transport``, that is called directly. Thread-safe.

    Args:
        cluster_spec: The cluster; must have ps tasks.
        task_index: Which ps task this is; task 0 keeps the directory and the members.
        job_seed: Seed from which initial values follow.
        memory_limit_bytes: The most that the values may take together; 0 for no limit.
        ledger_limits: What is remembered of updates; None for the defaults.
        store_incarnation: Identity of the state held here; None draws one, since the state starts empty.
        durable: Whether the state is to survive the process: then ``durability`` brings it back and is started before
            the task serves.
        clock: Monotonic seconds.
        wall_clock: Seconds since the epoch.

    Attributes:
        durability: Brings the state back and keeps it; None if it is not to survive the process.
        may_answer: Raises if this process must not answer a client now, since another one may be the same task; called
            before and after.
        durability_status: Tells how much of it would survive; set by whoever keeps it on disk.
        replication_status: Tells which of the two processes of its task this is; set where there are two.
        state_lacks: If what was brought back lacks updates that were acknowledged, what there is; set likewise.

    Raises:
        ValueError: The cluster spec has no ps tasks, or none of this index.
    """

    def __init__(
        self,
        *,
        cluster_spec: ClusterSpec,
        task_index: int,
        job_seed: int = 0,
        memory_limit_bytes: int = 0,
        ledger_limits: LedgerLimits | None = None,
        store_incarnation: UUID | None = None,
        durable: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ):
        addresses = cluster_spec.ps_addresses()
        cluster_spec.task_address(PS_JOB, task_index)
        self.task: Final = str(TaskId(PS_JOB, task_index))
        self.store_incarnation = uuid4() if store_incarnation is None else store_incarnation
        self.shutdown_requested: Final = threading.Event()
        self.durability_status: Callable[[], DurabilityStatus] | None = None
        self.replication_status: Callable[[], ReplicationStatus] | None = None
        self.may_answer: Callable[[], None] = _answer_always
        self.state_lacks = ""
        self._job_seed = job_seed
        self._clock = clock
        self._wall_clock = wall_clock
        self._started_s = clock()
        self._first_ps_address = addresses[0]
        store = DurableStore if durable else VariableStore
        self._store = store(memory_limit_bytes=memory_limit_bytes)
        self._runner = BatchRunner(self._store, task=self.task, clock=clock)
        self._ledger = UpdateLedger(ledger_limits)
        self._admission = Admission()
        self._directory = Directory(len(addresses)) if task_index == 0 else None
        self._membership = Membership() if task_index == 0 else None
        self._addresses = AddressBook(len(addresses))
        self.durability: Final = (
            Durability(self._store, self._runner, self._ledger, self._directory, clock)
            if isinstance(self._store, DurableStore)
            else None
        )

    # -- clients ------------------------------------------------------------------------------

    @_naming_the_task
    def hello(self, client: UUID, task: str, *, timeout_s: float) -> Welcome:
        if self._admission.is_draining:
            raise self._admission.refusal()
        if len(task) > _MAX_TASK_LENGTH:
            raise InvalidArgumentError(f"the name of the client's task has {len(task)} characters; at most 255 will do")
        self.may_answer()
        if self.durability is not None:
            self.durability.hello(client, task, timeout_s)
        else:
            self._ledger.hello(client, task, self._clock())
        self.may_answer()
        return Welcome(self.task, self.store_incarnation, self._job_seed)

    @_naming_the_task
    def goodbye(self, client: UUID, *, timeout_s: float) -> None:
        self.may_answer()
        if self.durability is not None:
            self.durability.goodbye(client, timeout_s)
        else:
            self._ledger.goodbye(client)

    # -- batches ------------------------------------------------------------------------------

    def exchange(
        self,
        batch: Batch,
        *,
        timeout_s: float,
        lend_values: bool = False,
        take_operands: bool = False,
    ) -> BatchReply:
        """Carries out a batch; an error of one operation is its reply.

        Args:
            batch: What to do.
            timeout_s: Bound on waiting for other work.
            lend_values: Whether tensors in the reply may be read-only views of the values themselves. They never
                change; but as long as one is held, an update of its variable needs memory for a second value.
            take_operands: Whether arrays in the batch may be kept as values: nobody else writes to them any more.

        Raises:
            StateLostError: The batch is meant for another store.
            UnavailableError: The task is draining. What it applied earlier is still answered again.
            FailedPreconditionError: The client is not known, or its sequence number was overtaken or forgotten.
            DeadlineExceededError: Time ran out waiting for other work on the same variables, or of the same client.
            ResourceExhaustedError: Too many batches of this client wait for their turn.
        """
        now_s = self._clock()
        timeout_s = min(timeout_s, _MAX_WAIT_S)
        try:
            self.may_answer()
            if batch.store != self.store_incarnation:
                raise self._state_lost(batch.store)
            if not self._admission.enter(len(batch.operations)):
                reply = self._answer_while_draining(batch, timeout_s)
            else:
                try:
                    reply = self._exchange(batch, now_s, timeout_s, lend_values, take_operands)
                finally:
                    self._admission.leave()
            self.may_answer()
        except ShardscopeError as error:
            error.task = error.task or self.task
            raise
        return reply

    def _exchange(
        self, batch: Batch, now_s: float, timeout_s: float, lend_values: bool, take_operands: bool
    ) -> BatchReply:
        operations, deadline_s = batch.operations, now_s + timeout_s
        if not batch.mutates:
            if batch.sequence:
                raise InvalidArgumentError(f"a batch that changes nothing has the sequence {batch.sequence}; send 0")
            self._ledger.check_known(batch.client, now_s)
            if self.durability is not None:
                return self.durability.exchange(batch, deadline_s, now_s, lend_values=lend_values)
            return self._runner.run(operations, deadline_s, lend_values=lend_values)
        self._runner.wait_for_initializations(operations, deadline_s)
        if self.durability is not None:
            reply = self.durability.exchange(batch, deadline_s, now_s, lend_values=lend_values)
        else:
            reply = self._ledger.apply_once(
                batch.client,
                batch.sequence,
                lambda: self._runner.run(operations, deadline_s, lend_values=lend_values, take_operands=take_operands),
                timeout_s=deadline_s - self._clock(),
                now_s=now_s,
            )
        if len(reply.replies) != len(operations):
            raise InvalidArgumentError(
                f"the sequence {batch.sequence} was used before, for a batch of {len(reply.replies)} operations; a "
                f"batch is sent again unchanged, and a new one has a new number"
            )
        return reply

    def _answer_while_draining(self, batch: Batch, timeout_s: float) -> BatchReply:
        reply = self._ledger.recall(batch.client, batch.sequence, timeout_s=timeout_s) if batch.sequence else None
        if reply is None:
            raise self._admission.refusal()
        if self.durability is not None:
            self.durability.wait_for_all(timeout_s)
        return reply

    def _state_lost(self, meant: UUID | None) -> StateLostError:
        told = f"the call is meant for the store {meant}, but this ps holds the store {self.store_incarnation}"
        if self.state_lacks:
            return StateLostError(
                f"{told}: its process did not end in good order; {self.state_lacks}. Connect anew, and go on from that "
                f"state or restore a checkpoint"
            )
        return StateLostError(
            f"{told}: it was started anew {self._clock() - self._started_s:.0f} s ago and no longer has the variables "
            f"of before. Connect anew, and restore a checkpoint or initialise again"
        )

    @property
    def keeps_operands(self) -> bool:
        """Whether arrays of a mutating batch are still needed when ``exchange`` has returned, with an error at least.

        Whoever calls must then not change them any more, nor let anybody else: no memory shared with a client.
        """
        return self.durability is not None

    def reply_size_bytes(self, operations: Sequence[Operation]) -> int:
        """Bytes of the tensors that these operations will be answered, so that a transport can make room first."""
        return self._runner.reply_size_bytes(operations)

    # -- directory and members ----------------------------------------------------------------

    @_naming_the_task
    def place(
        self,
        proposals: Sequence[Proposal],
        *,
        store: UUID | None = None,
        timeout_s: float,
    ) -> list[Placement | ShardscopeError]:
        directory = self._kept_by_first_ps(self._directory, "the directory")
        self.may_answer()
        if store not in (None, self.store_incarnation):
            raise self._state_lost(store)
        if self.durability is not None:
            placements = self.durability.place(directory, proposals, timeout_s)
            self.may_answer()
            return placements
        return directory.place(proposals)

    @_naming_the_task
    def list_placements(self, *, timeout_s: float) -> list[Placement]:  # noqa: ARG002 - it does not wait
        placements = self._kept_by_first_ps(self._directory, "the directory").list_placements()
        self.may_answer()
        return placements

    @_naming_the_task
    def join(
        self,
        task: str,
        incarnation: UUID,
        host: str,
        pid: int,
        *,
        lease_s: float = 0.0,
        age_s: float = 0.0,
        timeout_s: float,  # noqa: ARG002 - it does not wait
    ) -> None:
        self._members.join(
            task,
            incarnation,
            host,
            pid,
            self._wall_clock(),
            clock_s=self._clock(),
            lease_s=lease_s,
            age_s=age_s,
        )

    @_naming_the_task
    def leave(self, task: str, incarnation: UUID, *, timeout_s: float) -> None:  # noqa: ARG002 - it does not wait
        self._members.leave(task, incarnation, self._wall_clock())

    @_naming_the_task
    def report_progress(
        self,
        task: str,
        incarnation: UUID,
        step: int,
        *,
        timeout_s: float,  # noqa: ARG002 - it does not wait
    ) -> None:
        self._members.report_progress(task, incarnation, step, self._wall_clock(), clock_s=self._clock())

    @_naming_the_task
    def heartbeat(
        self,
        task: str,
        incarnation: UUID,
        step: int | None = None,
        *,
        timeout_s: float,  # noqa: ARG002 - it does not wait
    ) -> None:
        self._members.heartbeat(task, incarnation, self._wall_clock(), clock_s=self._clock(), step=step)

    @_naming_the_task
    def list_members(self, *, timeout_s: float) -> list[Member]:  # noqa: ARG002 - it does not wait
        return self._members.list_members(self._clock())

    def member_changes(self) -> list[Change]:
        """Members that have died or come back since the last call; none on another task than ps 0."""
        return [] if self._membership is None else self._membership.changes(self._clock())

    @_naming_the_task
    def announce(
        self,
        address: PsAddress,
        host: str,
        pid: int,
        *,
        lease_s: float = 0.0,
        age_s: float = 0.0,
        timeout_s: float,
    ) -> list[PsAddress]:
        self._addresses.announce(address)
        if self._membership is not None:
            self.join(address.task, address.incarnation, host, pid, lease_s=lease_s, age_s=age_s, timeout_s=timeout_s)
        return self._addresses.addresses()

    @_naming_the_task
    def learn_address(self, address: PsAddress) -> None:
        """Takes what another ps task knows of a third one; ``AddressBook.learn``."""
        self._addresses.learn(address)

    def list_addresses(self, *, timeout_s: float) -> list[PsAddress]:  # noqa: ARG002 - it does not wait
        return self._addresses.addresses()

    @property
    def _members(self) -> Membership:
        return self._kept_by_first_ps(self._membership, "the list of members")

    def _kept_by_first_ps(self, kept: _T | None, what: str) -> _T:
        if kept is None:
            raise FailedPreconditionError(f"{what} is kept by ps:0 at {self._first_ps_address}; ask there")
        return kept

    # -- inspection ---------------------------------------------------------------------------

    def list_variables(self, *, timeout_s: float) -> list[VariableInfo]:  # noqa: ARG002 - it does not wait
        return self._store.list_variables()

    def status(self, *, timeout_s: float) -> Status:  # noqa: ARG002 - it does not wait
        traffic = self._admission.traffic
        return Status(
            task=self.task,
            state=self._admission.state,
            store=self.store_incarnation,
            uptime_s=self._clock() - self._started_s,
            num_variables=self._store.num_variables,
            variable_bytes=self._store.variable_bytes,
            memory_limit_bytes=self._store.memory_limit_bytes,
            num_clients=self._ledger.num_clients,
            batches=traffic.batches,
            operations=traffic.operations,
            duplicate_batches=self._ledger.num_duplicates,
            bytes_received=traffic.bytes_received,
            bytes_sent=traffic.bytes_sent,
            durability=None if self.durability_status is None else self.durability_status(),
            replication=None if self.replication_status is None else self.replication_status(),
        )

    @property
    def variable_bytes(self) -> int:
        """Bytes counted for the variables declared."""
        return self._store.variable_bytes

    def count_bytes(self, *, received: int, sent: int) -> None:
        """Told by a transport what it has moved."""
        self._admission.count_bytes(received=received, sent=sent)

    # -- control ------------------------------------------------------------------------------

    @_naming_the_task
    def drain(self, reason: str, *, timeout_s: float) -> None:
        self._admission.start_draining(reason)
        self._admission.wait_until_empty(min(timeout_s, _MAX_WAIT_S))

    @_naming_the_task
    def shutdown(self, reason: str, *, timeout_s: float) -> None:  # noqa: ARG002 - whoever runs the process drains
        """Stops accepting batches and asks whoever runs the process, by ``shutdown_requested``, to drain and end it."""
        self._admission.start_draining(reason)
        self.shutdown_requested.set()

    def when_draining(self, notify: Callable[[], None]) -> None:
        """Has ``notify`` called once, when draining starts or now if it has; it must be quick and not raise."""
        self._admission.when_draining(notify)

    def close(self) -> None:
        """Nothing is held for one caller."""
