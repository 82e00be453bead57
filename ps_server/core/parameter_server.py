"""One ps task: its state, its role, the members and the admission of batches. No protobuf, no gRPC."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Concatenate, Final, ParamSpec, TypeGuard, TypeVar
from uuid import UUID

from ps_protocol.cluster_spec import PS_JOB, ClusterSpec, TaskId
from ps_protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    ShardscopeError,
    StateLostError,
)
from ps_protocol.operation_kinds import names_of
from ps_protocol.operations import Batch, BatchReply, PsOperation, Reply, Result, Verdict
from ps_protocol.operations import mutates as any_mutates
from ps_protocol.ps_service import Transport
from ps_protocol.service_types import (
    KnownCluster,
    Member,
    Placement,
    Proposal,
    PsAddress,
    Status,
    VariableInfo,
    Welcome,
)
from ps_protocol.shared_objects import Look
from ps_server.background.loops import OF_PROCESS
from ps_server.cluster.address_book import AddressBook
from ps_server.cluster.membership import Change, Membership
from ps_server.core.admission import Admission
from ps_server.core.state import MemoryState, SingleRole, State, TaskRole
from ps_server.core.waits import LOOK_S, Waits
from ps_server.log.restore_mark import RestoreMark
from ps_server.log.state_parts import StateParts

_MAX_WAIT_S: Final = 86_400.0
_MAX_TASK_LENGTH: Final = 255

DEFAULT_MAX_WAITS: Final = 16


_UNREAD: Final = Result(0, False, verdict=Verdict.NOT_YET)


def _always() -> bool:
    return True


def _end_of_changes(operations: Sequence[PsOperation]) -> int:
    """Where in a batch that changes something a ``Look`` begins what only reads; its length if nowhere."""
    for place, each in enumerate(operations):
        if type(each) is Look:
            return len(operations) if any_mutates(operations[place:]) else place
    return len(operations)


def _is_not_yet(answer: Reply) -> TypeGuard[Result]:
    return not isinstance(answer, ShardscopeError) and answer.verdict is Verdict.NOT_YET


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _errors_name_task(
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


def incomplete_restore(mark: RestoreMark) -> FailedPreconditionError:
    """The error for a batch to a task that has been restored, while others may not have been."""
    return FailedPreconditionError(
        f"this task has been restored from the checkpoint {mark.source}, but whether all others have is not known; "
        f"until then it takes no batches. Wait for the restore, or if that has failed, run it again (or another one)"
    )


class ParameterServer(Transport):
    """The typed core of a ps task: a ``ClusterService``, and a ``Transport``, that is called directly. Thread-safe.

    Args:
        cluster_spec: The cluster; must have ps tasks.
        task_index: Which ps task this is; task 0 keeps the directory and the members.
        job_seed: Seed from which initial values follow.
        state: The variables, the ledger and the directory; None for an empty one that ends with the process.
        role: Whether this process may answer for the task; None if it is the only one.
        addresses: Where the ps tasks of the cluster are; None to know nothing of them yet.
        clock: Monotonic seconds.
        wall_clock: Seconds since the epoch.
        max_waits: How many clients may wait here at a time for an answer of a shared object.

    Attributes:
        state: The one given, or the empty one.
        admission: Lets batches in.
        num_ps: Ps tasks of the cluster.

    Raises:
        ValueError: The cluster spec has no ps tasks, or none of this index.
    """

    def __init__(
        self,
        *,
        cluster_spec: ClusterSpec,
        task_index: int,
        job_seed: int = 0,
        state: State | None = None,
        role: TaskRole | None = None,
        addresses: AddressBook | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        max_waits: int = DEFAULT_MAX_WAITS,
    ):
        ps_addresses = cluster_spec.ps_addresses()
        self.task: Final = str(TaskId(PS_JOB, task_index))
        self.shutdown_requested: Final = threading.Event()
        self.state: Final = state or MemoryState(StateParts(cluster_spec, task_index, clock=clock))
        self._role: Final = role or SingleRole()
        self.check_may_answer: Final = self._role.check_may_answer
        self._check_may_read: Final = self._role.check_may_read
        self._job_seed = job_seed
        self._clock = clock
        self._wall_clock = wall_clock
        self._started_s = clock()
        self._first_ps_address = ps_addresses[0]
        self.num_ps: Final = len(ps_addresses)
        self._is_first_ps = task_index == 0
        self._learned_cluster: UUID | None = None  # what ps task 0 has said; set and read as a whole
        self._parts: Final = self.state.parts
        self._store: Final = self._parts.store
        self._second_values: Final = self._store.second_values
        self._runner: Final = self._parts.runner
        self._ledger: Final = self._parts.ledger
        self.troubles: Final = self._parts.troubles
        self.admission: Final = Admission(clock)
        self._waits: Final = Waits(max_waits)
        self._membership = Membership() if task_index == 0 else None
        self._addresses = addresses or AddressBook(len(ps_addresses))

    @property
    def store_incarnation(self) -> UUID:
        """Identity of the state held here."""
        return self.state.store_incarnation

    @property
    def own_cluster(self) -> UUID | None:
        """Identity of the cluster, if this is ps task 0, which makes it; None of a process that is not its primary."""
        return self.store_incarnation if self._is_first_ps and self._role.is_primary else None

    @property
    def cluster(self) -> UUID | None:
        """Identity of the cluster; None as long as this task has not met ps task 0."""
        return self.own_cluster or self._learned_cluster

    def learn_cluster(self, cluster: UUID) -> None:
        """Takes what ps task 0 says is the identity of the cluster; ps task 0 itself knows better."""
        self._learned_cluster = cluster

    # -- clients ------------------------------------------------------------------------------

    @_errors_name_task
    def hello(
        self, client: UUID, task: str, *, num_ps_tasks: int = 0, for_reads: bool = False, timeout_s: float
    ) -> Welcome:
        if self.admission.is_draining:
            raise self.admission.refusal()
        if len(task) > _MAX_TASK_LENGTH:
            raise InvalidArgumentError(
                f"the name of the client's task has {len(task)} characters; at most 255 are possible"
            )
        if for_reads and not self._role.is_primary:
            self._check_may_read()
            self._ledger.check_joined(client)
        else:
            self.check_may_answer()
            self.state.hello(client, task, timeout_s)
            self.check_may_answer()
        cluster = KnownCluster(self.num_ps, self.cluster, self._first_ps_address) if num_ps_tasks else None
        return Welcome(self.task, self.store_incarnation, self._job_seed, cluster=cluster)

    @_errors_name_task
    def goodbye(self, client: UUID, *, timeout_s: float) -> None:
        self.check_may_answer()
        self.state.goodbye(client, timeout_s)

    # -- batches ------------------------------------------------------------------------------

    def exchange(
        self,
        batch: Batch,
        *,
        timeout_s: float,
        lend_values: bool = False,
        take_operands: bool = False,
        is_wanted: Callable[[], bool] = _always,
    ) -> BatchReply:
        """Carries out a batch; an error of one operation is its reply.

        What a batch that changes something reads behind a ``Look`` at its end is a batch of its own, which comes next:
        others may change something meanwhile, and no ledger or log remembers what was read.

        Args:
            batch: What to do.
            timeout_s: Bound on waiting for other work.
            lend_values: Whether tensors in the reply may be read-only views of the values themselves. They never
                change; but while one is held, an update of its variable needs memory for a second value.
            take_operands: Whether the store may keep arrays of the batch as values: the caller does not write to them
                any more.
            is_wanted: Says whether the client is still there; asked now and then while a ``Look`` waits.

        Raises:
            StateLostError: The batch is meant for another store.
            UnavailableError: The task is draining. A batch that was applied earlier still gets its answer.
            FailedPreconditionError: The client is not known, or its sequence number was overtaken or forgotten.
            DeadlineExceededError: Time ran out waiting for other work on the same variables, or of the same client.
            ResourceExhaustedError: Too many batches of this client wait for their turn.
        """
        now_s = self._clock()
        timeout_s = min(timeout_s, _MAX_WAIT_S)
        mutates = batch.mutates
        if mutates and (end := _end_of_changes(batch.operations)) < len(batch.operations):
            changes = replace(batch, operations=batch.operations[:end])
            changed = self._answered(changes, True, now_s, timeout_s, lend_values, take_operands, is_wanted)
            behind = Batch(batch.client, batch.store, 0, batch.operations[end:])
            began_s, now_s = now_s, self._clock()
            timeout_s = max(0.0, timeout_s - (now_s - began_s))
            read = self._answered(behind, False, now_s, timeout_s, lend_values, False, is_wanted)
            return BatchReply((*changed.replies, *read.replies))
        return self._answered(batch, mutates, now_s, timeout_s, lend_values, take_operands, is_wanted)

    def _answered(
        self,
        batch: Batch,
        mutates: bool,
        now_s: float,
        timeout_s: float,
        lend_values: bool,
        take_operands: bool,
        is_wanted: Callable[[], bool],
    ) -> BatchReply:
        check = self.check_may_answer if mutates else self._check_may_read
        try:
            check()
            if batch.store != self.state.store_incarnation:
                raise self._state_lost(batch.store)
            restored = self._parts.restored
            if restored is not None and not restored.is_complete:
                raise incomplete_restore(restored)
            if not self.admission.enter(len(batch.operations), changes=mutates, timeout_s=timeout_s):
                reply = self._answer_while_draining(batch, timeout_s)
            else:
                try:
                    if batch.store != self.state.store_incarnation:  # a restore came while it was held back
                        raise self._state_lost(batch.store)
                    if not mutates and batch.operations and type(batch.operations[0]) is Look:
                        look = batch.operations[0]
                        reply = self._look(batch, look, now_s, timeout_s, lend_values, check, is_wanted)
                    else:
                        reply = self._exchange(batch, mutates, now_s, timeout_s, lend_values, take_operands)
                finally:
                    self.admission.leave(changes=mutates)
            check()
            if not mutates and batch.store != self.state.store_incarnation:  # a restore came in the middle
                raise self._state_lost(batch.store)
        except ShardscopeError as error:
            error.task = error.task or self.task
            raise
        return reply

    def _exchange(
        self, batch: Batch, mutates: bool, now_s: float, timeout_s: float, lend_values: bool, take_operands: bool
    ) -> BatchReply:
        operations, deadline_s = batch.operations, now_s + timeout_s
        if not mutates:
            if batch.sequence:
                raise InvalidArgumentError(f"a batch that changes nothing has the sequence {batch.sequence}; send 0")
            if self._role.is_primary:
                self._ledger.check_known(batch.client, now_s)
            else:  # a backup's ledger changes by records alone
                self._ledger.check_joined(batch.client)
            return self.state.read(operations, deadline_s, lend_values)
        self._runner.wait_for_initializations(operations, deadline_s)
        if self._second_values.is_open:
            self._second_values.take(names_of(operations), deadline_s - self._clock())
        if timeout_s > 0 and self._clock() >= deadline_s:
            raise DeadlineExceededError(
                f"time ran out before a batch of {len(operations)} operations was begun, and nothing was applied; send "
                f"it again"
            )
        reply = self.state.apply(batch, deadline_s, now_s, lend_values, take_operands)
        if len(reply.replies) != len(operations):
            raise InvalidArgumentError(
                f"the sequence {batch.sequence} was used before, for a batch of {len(reply.replies)} operations; a "
                f"batch is sent again unchanged, and a new one has a new number"
            )
        return reply

    def _look(
        self,
        batch: Batch,
        look: Look,
        now_s: float,
        timeout_s: float,
        lend_values: bool,
        check: Callable[[], None],
        is_wanted: Callable[[], bool],
    ) -> BatchReply:
        """Asks a shared object until it has an answer, as long as this thread may wait for that; then reads the rest.

        Behind a question that has no answer nothing is read.
        """
        until_s = now_s + min(look.wait_s, timeout_s / 2)
        asked = batch if len(batch.operations) == 1 else replace(batch, operations=(look,))
        (answer,) = self._exchange(asked, False, now_s, timeout_s, False, False).replies
        if _is_not_yet(answer) and look.wait_s:
            with self._waits.place() as may_wait:
                while may_wait and _is_not_yet(answer):
                    remaining_s = until_s - self._clock()
                    if remaining_s <= 0 or self.admission.is_draining:
                        break
                    check()
                    if batch.store != self.state.store_incarnation or not is_wanted():
                        break
                    self._runner.objects.wait_for_change(look.name, answer.version, min(remaining_s, LOOK_S))
                    (answer,) = self._exchange(asked, False, now_s, timeout_s, False, False).replies
        rest = batch.operations[1:]
        if _is_not_yet(answer) or not rest:
            return BatchReply((answer, *[_UNREAD] * len(rest)))
        read = self._exchange(replace(batch, operations=rest), False, now_s, timeout_s, lend_values, False)
        return BatchReply((answer, *read.replies))

    def _answer_while_draining(self, batch: Batch, timeout_s: float) -> BatchReply:
        reply = None
        if batch.sequence:
            reply = self._ledger.recall(batch.client, batch.sequence, timeout_s=timeout_s, checksum=batch.checksum)
        if reply is None:
            raise self.admission.refusal()
        self.state.wait_for_all(timeout_s)
        return reply

    def _state_lost(self, meant: UUID | None) -> StateLostError:
        stores = f"it holds the store {self.store_incarnation}, the call is meant for {meant}"
        restored = self._parts.restored
        if restored is not None and not self.state.loss:
            return StateLostError(
                f"the variables were restored from the checkpoint {restored.source}. Connect again, and go on from "
                f"that state ({stores})"
            )
        if self.state.loss:
            return StateLostError(
                f"the ps did not end in good order; {self.state.loss}. Connect again, and go on from that state or put "
                f"values back ({stores})"
            )
        return StateLostError(
            f"the ps was started again {self._clock() - self._started_s:.0f} s ago, without the variables that it had. "
            f"Connect again, and put their values back or initialise them ({stores})"
        )

    @property
    def num_waiting(self) -> int:
        """How many clients wait for an answer of a shared object."""
        return self._waits.number

    @property
    def keeps_operands(self) -> bool:
        """Whether arrays of a mutating batch may still be needed after ``exchange`` has raised an error.

        If so, they must not change any more: the caller must copy operands in memory that a client can write to.
        """
        return self.state.keeps_operands

    def reply_size_bytes(self, operations: Sequence[PsOperation]) -> int:
        """Bytes of the tensors in the reply to these operations, so that a transport can reserve room first."""
        return self._runner.reply_size_bytes(operations)

    # -- directory and members ----------------------------------------------------------------

    @_errors_name_task
    def place(
        self,
        proposals: Sequence[Proposal],
        *,
        store: UUID | None = None,
        timeout_s: float,
    ) -> list[Placement | ShardscopeError]:
        directory = self._require_first_ps(self._parts.directory, "the directory")
        self.check_may_answer()
        if store not in (None, self.store_incarnation):
            raise self._state_lost(store)
        placements = self.state.place(directory, proposals, timeout_s)
        self.check_may_answer()
        return placements

    @_errors_name_task
    def list_placements(self, *, timeout_s: float) -> list[Placement]:  # noqa: ARG002 - it does not wait
        placements = self._require_first_ps(self._parts.directory, "the directory").list_placements()
        self.check_may_answer()
        return placements

    @_errors_name_task
    def join(
        self,
        task: str,
        incarnation: UUID,
        host: str,
        pid: int,
        *,
        lease_s: float = 0.0,
        age_s: float = 0.0,
        if_free: bool = False,
        job_sizes: Mapping[str, int] | None = None,
        timeout_s: float,  # noqa: ARG002 - it does not wait
    ) -> str | None:
        return self._members.join(
            task,
            incarnation,
            host,
            pid,
            self._wall_clock(),
            clock_s=self._clock(),
            lease_s=lease_s,
            age_s=age_s,
            if_free=if_free,
            job_sizes=job_sizes,
        )

    @_errors_name_task
    def leave(
        self,
        task: str,
        incarnation: UUID,
        *,
        end: str = "",
        timeout_s: float,  # noqa: ARG002 - it does not wait
    ) -> None:
        self._members.leave(task, incarnation, self._wall_clock(), end=end)

    def report_progress(self, task: str, incarnation: UUID, step: int, *, timeout_s: float) -> None:
        self.heartbeat(task, incarnation, step, timeout_s=timeout_s)

    @_errors_name_task
    def heartbeat(
        self,
        task: str,
        incarnation: UUID,
        step: int | None = None,
        *,
        timeout_s: float,  # noqa: ARG002 - it does not wait
    ) -> str | None:
        return self._members.heartbeat(task, incarnation, self._wall_clock(), clock_s=self._clock(), step=step)

    def connection_lost(self, client: UUID) -> None:
        """Called by a transport when the last connection of a client has ended, in whatever way."""
        if self._membership is not None:
            self._membership.connection_lost(client)

    @_errors_name_task
    def list_members(self, *, timeout_s: float) -> list[Member]:  # noqa: ARG002 - it does not wait
        return self._members.list_members(self._clock())

    def member_changes(self) -> list[Change]:
        """Members that have died or come back since the last call; none on another task than ps 0."""
        return [] if self._membership is None else self._membership.changes(self._clock())

    @_errors_name_task
    def announce(
        self,
        address: PsAddress,
        host: str,
        pid: int,
        *,
        lease_s: float = 0.0,
        age_s: float = 0.0,
        cluster: UUID | None = None,
        timeout_s: float,
    ) -> list[PsAddress]:
        self._addresses.announce(address)
        if cluster is not None and address.task == str(TaskId(PS_JOB, 0)):
            self.learn_cluster(cluster)
        if self._membership is not None:
            self.join(address.task, address.incarnation, host, pid, lease_s=lease_s, age_s=age_s, timeout_s=timeout_s)
        return self._addresses.heard()

    @_errors_name_task
    def learn_address(self, address: PsAddress) -> None:
        """Records what another ps task knows of a third one; see ``AddressBook.learn``."""
        self._addresses.learn(address)

    def list_addresses(self, *, timeout_s: float) -> list[PsAddress]:  # noqa: ARG002 - it does not wait
        return self._addresses.addresses()

    @property
    def _members(self) -> Membership:
        return self._require_first_ps(self._membership, "the list of members")

    def _require_first_ps(self, kept: _T | None, what: str) -> _T:
        if kept is None:
            raise FailedPreconditionError(f"{what} is kept by ps:0 at {self._first_ps_address}; ask there")
        return kept

    # -- inspection ---------------------------------------------------------------------------

    def list_variables(self, *, timeout_s: float) -> list[VariableInfo]:  # noqa: ARG002 - it does not wait
        return self._store.list_variables()

    def status(self, *, timeout_s: float) -> Status:  # noqa: ARG002 - it does not wait
        traffic, steps = self.admission.traffic, self._runner.calls.counts
        return Status(
            task=self.task,
            state=self.admission.state,
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
            durability=self.state.durability(),
            replication=self._role.status(),
            steps_skipped=steps.skipped,
            steps_refused=steps.refused,
            troubles=self.troubles.reasons() + OF_PROCESS.reasons(),
        )

    @property
    def variable_bytes(self) -> int:
        """Bytes counted for the variables declared."""
        return self._store.variable_bytes

    def count_bytes(self, *, received: int, sent: int) -> None:
        """Called by a transport with the bytes that it has moved."""
        self.admission.count_bytes(received=received, sent=sent)

    # -- control ------------------------------------------------------------------------------

    @_errors_name_task
    def drain(self, reason: str, *, timeout_s: float) -> None:
        self.admission.start_draining(reason)
        self.admission.wait_until_empty(min(timeout_s, _MAX_WAIT_S))

    @_errors_name_task
    def shutdown(self, reason: str, *, timeout_s: float) -> None:  # noqa: ARG002 - it does not wait
        """Stops accepting batches, and sets ``shutdown_requested``: the process then drains and ends."""
        self.admission.start_draining(reason)
        self.shutdown_requested.set()

    @_errors_name_task
    def promote(self, *, accept_loss: bool = False, timeout_s: float) -> None:  # noqa: ARG002 - it does not wait
        self._role.promote(accept_loss=accept_loss)

    def when_draining(self, notify: Callable[[], None]) -> None:
        """Calls ``notify`` once: when draining starts, or now if it has. It must be quick and not raise."""
        self.admission.when_draining(notify)

    def close(self) -> None:
        """Nothing is held for one caller."""
