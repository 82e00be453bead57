"""A worker's connection to a cluster: its ps tasks and its own table of names."""

from __future__ import annotations

import atexit
import contextlib
import logging
import operator
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Literal, NoReturn, Self, SupportsIndex, TypeAlias
from uuid import uuid4

from ps_protocol import fault_points
from ps_protocol.cluster_spec import (
    BACKUP_JOB,
    CHIEF_JOBS,
    EVALUATOR_JOB,
    PS_JOB,
    ClusterSpec,
    ClusterSpecLike,
    process_addresses,
)
from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, ShardscopeError
from ps_protocol.forks import new_lock, tell_in_child
from ps_protocol.html_tables import html_table
from ps_protocol.interrupts import is_interrupt, raise_interrupt, sheltered, sheltered_to_the_end
from ps_protocol.not_copied import NotCopied
from ps_protocol.service_types import listed_incarnation
from ps_protocol.settings import read
from ps_protocol.task_id import TaskId
from worker_client.checkpoints.background import BackgroundSaves
from worker_client.checkpoints.methods import CheckpointMethods
from worker_client.connection.address_lookup import AddressLookup
from worker_client.connection.backup_reads import BackupReads
from worker_client.connection.cluster_check import connect_all
from worker_client.connection.copied import parents_connection
from worker_client.connection.ending import Ending, take_steps
from worker_client.connection.fanout import Fanout
from worker_client.connection.handle import PsHandle
from worker_client.connection.heartbeat import STOP_TIMEOUT_S, Heartbeat
from worker_client.connection.retry import Deadline
from worker_client.connection.route import Reconnect
from worker_client.connection.settings import Settings
from worker_client.connection.whole_reads import WHOLE_READS
from worker_client.graph import defaults
from worker_client.graph.definition import VariableDefinition
from worker_client.graph.graph import Graph
from worker_client.launch import find_place
from worker_client.objects.methods import SharedObjectMethods
from worker_client.objects.shared_object import WaitPlaces
from worker_client.objects.taking_part import TakingPart
from worker_client.objects.training_group import TAKING_PART, TrainingGroup
from worker_client.objects.whole_rounds import WholeRounds
from worker_client.placement.declaration import Declarer
from worker_client.placement.strategies import PsStrategy, RoundRobinStrategy
from worker_client.settings import ConnectSettings
from worker_client.transport.endpoint import PsEndpoint
from worker_client.transport.selection import ReadFrom, connect_endpoint, private_store
from worker_client.variables.bulk import ManyVariables
from worker_client.variables.catalog import Catalog, VariableEntry
from worker_client.variables.factory import EagerVariableFactory
from worker_client.variables.parts import EagerVariable

_LOG = logging.getLogger(__name__)

ObserverMode: TypeAlias = Literal[False, True, "update"]
"""Whether a connection looks on without being a task, and whether it may change variables then."""

_OBSERVER_JOB: Final = "observer"
_REPORT_EVERY_S = 0.5
_REPORT_TIMEOUT_S = 1.0


def connect(
    cluster_spec: ClusterSpecLike | str | None = None,
    job_name: str | None = None,
    task_index: int | None = None,
    *,
    ps_strategy: PsStrategy | None = None,
    initialize: bool = True,
    operation_timeout_s: float = 60.0,
    connect_timeout_s: float = 60.0,
    transport: str | None = None,
    ps_grace_s: float | None = None,
    lease_s: float | None = None,
    read_from: str | None = None,
    replace: bool = False,
    observer: ObserverMode = False,
) -> Client:
    """Connects this process to a cluster, waiting for ps tasks that have not started yet.

    Args:
        cluster_spec: The cluster, also as on the command line, "ps=host:2222;worker=..."; without it everything is
            taken from the environment's ``TF_CONFIG``.
        job_name: This process's job; "worker" if nothing is said.
        task_index: Its number in the job; worker 0 is the chief. If neither this nor another job is given, nor a task
            in ``TF_CONFIG``, it is the rank that torchrun gives this process (``RANK``, ``WORLD_SIZE``), else 0. Where
            the cluster spec names no workers, the processes that torchrun has started are its workers.
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
        lease_s: How long this process may be silent before the cluster takes it for dead, in seconds; a thread
            reports three times in that time. 0: for ever, without a thread. By default what ``SHARDSCOPE_LEASE``
            says, or 10.
        read_from: Which of the two processes of a ps task with a backup are read: "primary", or "any" for both in turn,
            so that twice as much can be read. Either way a read sees every update that was acknowledged before it
            began. By default what ``SHARDSCOPE_READ_FROM`` says, or "primary".
        replace: Whether to take the place of another process that is this task and lives. One that is dead needs
            no leave: it is known to be when it has closed its connections, or its lease is over. Processes that
            torchrun has started again do, since it has ended those before them.
        observer: Whether to look on without taking part: this process is no task (``job_name`` and ``task_index`` say
            nothing), has no lease, takes nobody's place and is never the chief. True: what would change a variable, or
            make one, is refused before anything is sent; ``get_variable`` finds those that others have made.
            "update": it may.

    Returns:
        The connection, which from now on the module-level functions use. Close it, or use it in a ``with`` statement.

    Raises:
        ValueError: The cluster spec, TF_CONFIG or what torchrun says is not usable, or has no such task (a spec of ps
            tasks alone takes any, and an evaluator need not be in it), or they contradict each other; this process is a
            ps; there is no such transport, choice of
            processes to read or kind of observer; or a number of seconds is none, or one that waits is 0.
        FailedPreconditionError: The ps tasks are not those of one cluster, or are not all of it.
        AlreadyExistsError: Another process is this task, and lives.
        UnavailableError: A ps did not answer in time, or not over the transport asked for.
    """
    fault_points.install_from_environment(is_allowed=False)
    given = {
        "operation_timeout_s": operation_timeout_s,
        "connect_timeout_s": connect_timeout_s,
        "transport": transport,
        "ps_grace_s": ps_grace_s,
        "lease_s": lease_s,
        "read_from": read_from,
    }
    chosen = ConnectSettings(**sheltered(read, ConnectSettings, given))
    choice = chosen.transport
    if observer not in (False, True, "update"):
        raise ValueError(f'observer is {observer!r}; it should be True, or "update" to change variables as well')
    place = find_place(cluster_spec, job_name, task_index, asks_launcher=not observer)
    spec, task = place.cluster_spec, place.task
    addresses = spec.ps_addresses()
    if task.job in (PS_JOB, BACKUP_JOB) and not observer:
        raise ValueError(
            f"this process is {task}; start `shardscope ps` there or call ss.serve(): ps tasks hold variables, and do "
            f"not connect"
        )
    if not observer:
        spec.check_takes_part(task)
    settings = Settings(
        operation_timeout_s=chosen.operation_timeout_s,
        connect_timeout_s=chosen.connect_timeout_s,
        ps_grace_s=chosen.ps_grace_s,
        lease_s=chosen.lease_s,
        read_from=chosen.read_from,
    )
    if chosen.read_from is ReadFrom.ANY and BACKUP_JOB not in spec.jobs:
        _LOG.info('read_from is "any", but the cluster spec names no backups: the ps tasks answer all reads')
    endpoints: list[PsEndpoint] = []

    def reconnect(address: str, ps_task: TaskId) -> PsEndpoint:
        return connect_endpoint(address, str(ps_task), choice)

    def reach_backup(address: str, ps_task: TaskId) -> PsEndpoint:
        return connect_endpoint(address, str(ps_task), choice, for_reads=True)

    def open_endpoints() -> None:
        for index, address in enumerate(addresses):
            endpoints.append(reconnect(address, TaskId(PS_JOB, index)))

    def close_endpoints() -> None:
        for each in endpoints:
            each.close()

    try:
        sheltered_to_the_end(open_endpoints)
        return Client(
            spec,
            task,
            endpoints=endpoints,
            settings=settings,
            ps_strategy=ps_strategy or RoundRobinStrategy(len(addresses)),
            initialize=initialize,
            reconnect=reconnect,
            reach_backup=reach_backup,
            replace=replace or place.replaces,
            observer=observer,
        )
    except BaseException as error:
        for client in defaults.open_clients():
            if client._reconnect is reconnect:  # and an interrupt has come before it was returned
                client.end(Ending.by(error))
        sheltered(close_endpoints)
        raise


class Client(
    ManyVariables,
    CheckpointMethods,
    SharedObjectMethods,
    NotCopied,
    bound_to="this process",
    instead="pass on its cluster_spec, and connect in the other process",
):
    """One process's connection to a cluster. Made by ``connect``. Thread-safe.

    As a context manager it is the default connection inside and is closed at the end.

    Args:
        cluster_spec: The cluster.
        task: Which task this process is.
        endpoints: Of each ps task, in order; owned.
        settings: Bounds on waiting.
        ps_strategy: Chooses a ps task for variables that no ``device`` scope places.
        initialize: Whether declaring a variable initialises it.
        reconnect: Makes the endpoint of a ps task that has moved; None if none will.
        reach_backup: Makes the endpoint of a backup that is read; None if none is.
        replace: Whether to take the place of a living process that is this task.
        observer: Whether it looks on without being a task, and whether it may change variables then.

    Attributes:
        cluster_spec: The cluster.
        task: Which task this process is.
        settings: Bounds on waiting.
        observer: True or "update" if this is an observer, which is no task of the cluster.
        incarnation: Identity of this connection, and of no other.
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
        endpoints: Sequence[PsEndpoint],
        settings: Settings,
        ps_strategy: PsStrategy,
        initialize: bool,
        reconnect: Reconnect | None = None,
        reach_backup: Reconnect | None = None,
        replace: bool = False,
        observer: ObserverMode = False,
    ):
        self.cluster_spec = cluster_spec
        self.task = task = TaskId(_OBSERVER_JOB, 0) if observer else task
        self.incarnation = uuid4()
        self.settings = settings
        self.observer = observer
        self._reconnect = reconnect
        self._reach_backup = reach_backup if settings.read_from is ReadFrom.ANY else None
        self._addresses = AddressLookup(lambda: [handle.service for handle in self._handles], cluster_spec)
        may_update = observer in (False, "update")
        self._handles = [
            self._handle(TaskId("ps", index), endpoint, may_update=may_update, backup=self._backup_of(index))
            for index, endpoint in enumerate(endpoints)
        ]
        self._local_lock = new_lock()  # guards: _local
        self._local: PsHandle | None = None
        self.fanout = Fanout(self._handles, self._local_handle)
        self._catalog = Catalog(self.fanout, len(self._handles))
        self._report_lock = new_lock()  # guards: _reported_s, _step
        self._reported_s = -_REPORT_EVERY_S
        self._step = 0
        self._entered: list[contextlib.ExitStack] = []
        self._background = BackgroundSaves()
        self._periodic = []
        self._wait_places = WaitPlaces()
        self._barriers = {}
        self._shards = {}
        self._taking_part: TakingPart[TrainingGroup] = TakingPart(
            str(self.task),
            str(listed_incarnation(self.incarnation)),
            is_observer=bool(observer),
            num_ps=len(self._handles),
            num_workers=self.num_workers,
            lease_s=settings.lease_s,
            places=self._wait_places,
            list_members=self._list_members,
            groups=[],
        )
        TAKING_PART.setdefault(self.fanout, self._taking_part)
        WHOLE_READS.setdefault(self.fanout, WholeRounds(self.fanout, self._wait_places, len(self._handles)))
        self._heartbeat = Heartbeat(
            self._handles[0],
            task=str(task),
            incarnation=self.incarnation,
            host=socket.gethostname(),
            pid=os.getpid(),
            lease_s=settings.lease_s,
            job_sizes={job: cluster_spec.num_tasks(job) for job in cluster_spec.jobs if job != PS_JOB},
            replace=replace,
        )
        try:
            deadline = Deadline(settings.connect_timeout_s)
            welcomes = connect_all(self._handles, cluster_spec, deadline, settings.retry)
            if not observer:
                self._handles[0].call(self._heartbeat.join, what="to let this task join")
                sheltered(self._heartbeat.start)
            self.job_seed = welcomes[0].job_seed
            self.declarer = Declarer(
                self.fanout,
                cluster_spec=cluster_spec,
                task=task,
                ps_strategy=ps_strategy,
                retry=settings.retry,
                timeout_s=settings.operation_timeout_s,
                may_declare=may_update,
            )
            self.graph = Graph(
                EagerVariableFactory(self.fanout, self.declarer, job_seed=self.job_seed, initialize=initialize)
            )
            defaults.opened(self)
            _end_with_a_child_of_multiprocessing()
            tell_in_child(self)
        except BaseException as error:
            defaults.closed(self)
            sheltered(take_steps, [self._stop_heartbeat, *self._closing_handles()], Ending.by(error))
            raise

    @property
    def is_chief(self) -> bool:
        """Whether this is the process that does what must be done once: worker 0, or the only "chief" or "master"."""
        if self.observer or self.task.job == EVALUATOR_JOB:
            return False
        return self.task.job in CHIEF_JOBS or (self.task.index == 0 and not self._has_chief_job)

    @property
    def _has_chief_job(self) -> bool:
        return not set(CHIEF_JOBS).isdisjoint(self.cluster_spec.jobs)

    @property
    def num_workers(self) -> int:
        """Tasks of the worker job, 0 if the cluster spec names none."""
        return self.cluster_spec.num_tasks("worker") if "worker" in self.cluster_spec.jobs else 0

    @property
    def shard(self) -> tuple[int, int]:
        """This worker's place among the workers of the cluster spec, from 0, and their number.

        With ``index, count = client.shard`` the worker's part of the input is ``data[index::count]``. A job "chief" or
        "master" counts as a worker, and comes first.

        Raises:
            FailedPreconditionError: This process is none of these tasks, or the cluster spec names no workers.
        """
        workers = self.cluster_spec.workers()
        if self.task not in workers:
            named = ", ".join(map(str, workers)) or "none"
            raise FailedPreconditionError(
                f"{self.task} is no worker of the cluster spec, so that it has no part of the input; workers are: "
                f"{named}. Name all workers in the cluster spec that connect() is given"
            )
        return workers.index(self.task), len(workers)

    def as_default(self) -> contextlib.AbstractContextManager[Client]:
        """Makes this the connection that the module-level functions use, on this thread, inside the block."""
        return defaults.client_as_default(self)

    # -- what there is ------------------------------------------------------------------------

    def variables(self) -> list[VariableEntry]:
        """Returns what variables the cluster has, by name: shape, dtype, ps task and parts of each.

        They need not be known to this process; partitioned ones are listed as wholes.
        """
        return self._catalog.entries()

    def variable(self, name: str) -> Any:
        """Finds a variable of the cluster by its name alone, whoever has made it; a partitioned one as a whole.

        It is no part of this connection's table of names, and is the same object each time.

        Args:
            name: Its full name, as "scope/name", with ":0" or without; or that of a part.

        Returns:
            A ``Variable``, or a ``PartitionedVariable``.

        Raises:
            NotFoundError: There is none of that name.
            FailedPreconditionError: Parts of it are missing.
        """
        return self._catalog.variable(name)

    def _find(self, name: str) -> EagerVariable:
        found: EagerVariable = self._catalog.known(name)
        return found

    def __repr__(self) -> str:
        addresses = ", ".join(handle.address for handle in self._handles)
        return f"<Client {self.task} of the ps tasks at {addresses}: {self._state}>"

    def _repr_html_(self) -> str:
        """For notebooks: what is known here; nobody is asked."""
        rows = [(handle.task, handle.address, handle.state) for handle in self._handles]
        return html_table(f"Client {self.task}: {self._state}", rows)

    @property
    def _state(self) -> str:
        return "open" if self in defaults.open_clients() else "closed"

    # -- taking part --------------------------------------------------------------------------

    def report_step(self, step: SupportsIndex) -> None:
        """Tells the cluster how many training steps this task has done, which ``shardscope ls`` and ``up`` show.

        Cheap enough for every step: most calls only remember the number. Never fails but in a forked child. An observer
        has nothing to tell.

        Raises:
            InvalidArgumentError: ``step`` is no whole number, or below 0.
        """
        self._handles[0].check_not_copy()
        try:
            number = operator.index(step)
        except TypeError as error:
            raise_interrupt(error)
            number = -1
        if not 0 <= number < 1 << 64:
            raise InvalidArgumentError(f"the step that {self.task} reports is {step!r}; give a count, as 100")
        if self.observer:
            return
        with self._report_lock:
            self._step = self._heartbeat.step = number
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
            if is_interrupt(error):
                raise
            _LOG.debug("progress not reported: %s", error)

    def _leave(self, ending: Ending | None) -> None:
        if self.observer or (ending is not None and ending.is_crash):
            return
        if self._step:
            self._send_report()
        timeout_s = _REPORT_TIMEOUT_S if ending is None else ending.at_most(_REPORT_TIMEOUT_S)
        try:
            self._handles[0].service.leave(str(self.task), self.incarnation, timeout_s=timeout_s)
        except ShardscopeError as error:
            _LOG.debug("leave not reported: %s", error)

    def _backup_of(self, index: int) -> BackupReads | None:
        places = process_addresses(self.cluster_spec, index)
        if self._reach_backup is None or len(places) < 2:
            return None
        return BackupReads(
            places,
            task=TaskId(PS_JOB, index),
            client=self.incarnation,
            client_task=str(self.task),
            reconnect=self._reach_backup,
            retry=self.settings.retry,
        )

    def _handle(
        self, task: TaskId, endpoint: PsEndpoint, *, may_update: bool = True, backup: BackupReads | None = None
    ) -> PsHandle:
        return PsHandle(
            endpoint,
            task=task,
            client=self.incarnation,
            client_task=str(self.task),
            settings=self.settings,
            num_ps_tasks=self.cluster_spec.num_tasks(PS_JOB),
            may_update=may_update,
            locate=self._addresses.find,
            reconnect=self._reconnect,
            backup=backup,
        )

    def _local_handle(self) -> PsHandle:
        """The store of variables that live in this process, made when the first of them is."""
        with self._local_lock:
            if self._local is None:
                endpoint = private_store(job_seed=self._handles[0].welcome.job_seed)
                local = self._handle(TaskId("ps", 0), endpoint)
                local.connect(Deadline(self.settings.connect_timeout_s))
                self._local = local
            return self._local

    def become_copy(self) -> None:
        """In a forked child: makes no variables any more. The handles refuse all else."""

        def refuse(definition: VariableDefinition) -> NoReturn:
            raise parents_connection(variable=definition.name)

        self.graph = Graph(refuse)
        self._background.become_copy()

    # -- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Sends what is queued and ends the connection. The variables stay on their ps tasks. May be repeated.

        What is queued for a ps that is away is waited for as long as an operation is; saves that go on are waited for,
        and periodic ones save once more. Leaving the ``with`` block by an
        error, Ctrl-C included, and the end of the program do not wait that long; nor does what is left after an
        interrupt, which daemon threads do.
        """
        self.end(None)

    def end(self, ending: Ending | None) -> None:
        """Does what ``close`` does, in the time that ``ending`` has."""
        try:
            if self in defaults.open_clients():
                sheltered(self._end_once, ending)
        except BaseException as error:
            if is_interrupt(error):  # which has ended the wait for the steps, or has come before they were begun
                hurries = [handle.hurry for handle in self._all_handles()]
                take_steps([lambda haste: sheltered(self._end_once, haste), *hurries], Ending.by(error))
            raise

    def _end_once(self, ending: Ending | None) -> None:
        """Takes the steps of the end; where no interrupt comes between saying that they are taken and taking them."""
        if defaults.closed(self):
            steps = [self._end_saves, self._finish_groups, self._stop_heartbeat, self._leave, *self._closing_handles()]
            take_steps(steps, ending)

    def _finish_groups(self, ending: Ending | None) -> None:
        if ending is None or not ending.is_crash:
            self._taking_part.finish()

    def _stop_heartbeat(self, ending: Ending | None) -> None:
        self._heartbeat.stop(STOP_TIMEOUT_S if ending is None else ending.at_most(STOP_TIMEOUT_S))

    def _closing_handles(self) -> list[Callable[[Ending | None], None]]:
        return [handle.close for handle in self._all_handles()]

    def _all_handles(self) -> list[PsHandle]:
        return [*self._handles, *([self._local] if self._local else [])]

    def __enter__(self) -> Self:
        entered = contextlib.ExitStack()
        entered.enter_context(self.as_default())
        self._entered.append(entered)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._entered.pop().close()
        except BaseException as interrupt:
            self.end(Ending.by(interrupt))
            raise
        self.end(Ending.by(error))


def _end_with_a_child_of_multiprocessing() -> None:
    """Has the connections that are open at the end of such a child ended, since those that are forked run no atexit."""
    process, util = (sys.modules.get(f"multiprocessing.{name}") for name in ("process", "util"))
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _end_with_the_program, exitpriority=0)


@atexit.register
def _end_with_the_program() -> None:
    """Ends the connections that the program has left open, after its last thread that is no daemon has ended."""
    take_steps([client.end for client in defaults.open_clients()], Ending.of_program())
