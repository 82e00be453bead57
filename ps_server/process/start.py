"""Makes the task of a ps process: its state is empty, from the disk, or shared with a second process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from ps_protocol.cluster_spec import PS_JOB, TaskId
from ps_protocol.errors import ResourceExhaustedError
from ps_protocol.service_types import DurabilityMode
from ps_server.batches.update_ledger import LedgerLimits
from ps_server.cluster.address_book import AddressBook
from ps_server.coordination.addresses import open_store
from ps_server.coordination.store import CoordinationStore
from ps_server.core.parameter_server import ParameterServer
from ps_server.core.state import MemoryState, State, TaskRole
from ps_server.durability.disk.data_directory import DataDirectory, DataDirectoryError, DirectoryInUseError
from ps_server.durability.disk.known_peers import KnownPeers
from ps_server.durability.journal.journal import CorruptJournalError
from ps_server.durability.recovery import Recovered, StateOnDisk
from ps_server.durability.snapshots.files import CorruptSnapshotError
from ps_server.durability.task import DurableSettings, DurableTask
from ps_server.log.logged_state import LoggedState
from ps_server.log.replay import MissingFunctionError, ReplayError
from ps_server.log.state_parts import StateParts
from ps_server.process.function_module import FunctionModuleError, known_functions
from ps_server.process.options import ServerOptions
from ps_server.process.pair_on_disk import PairNotReadyError, open_kept_state, refuse_half_of_a_pair
from ps_server.replication.decisions import EXIT_SUPERSEDED
from ps_server.replication.kept_state import KeptState
from ps_server.replication.replicated_task import ReplicatedTask, ReplicationSettings

EXIT_CANNOT_START: Final = 1
"""A later start, or one with other options, may succeed."""

EXIT_STATE_REFUSED: Final = 3
"""The state on disk is damaged; starting again will not help."""

EXIT_NOT_SAFE: Final = 4
"""The process has ended itself: updates could no longer be made safe."""

_DAMAGE: Final = (CorruptSnapshotError, CorruptJournalError, ReplayError, DataDirectoryError)
_LOG = structlog.stdlib.get_logger(__name__)


class CannotStartError(Exception):
    """The state of a task cannot be used; the message says why and what to do.

    Attributes:
        exit_code: Of the process.
    """

    def __init__(self, reason: str, exit_code: int):
        super().__init__(reason)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class OpenedTask:
    """A ps task with its state.

    Attributes:
        core: Ready to serve.
        durable: Keeps its state on disk; None if nothing does.
        replicated: Its part in a pair of processes; None if there is one process.
    """

    core: ParameterServer
    durable: DurableTask | None = None
    replicated: ReplicatedTask | None = None


def open_task(options: ServerOptions, announce: Callable[[int], None], on_ready: Callable[[bool], None]) -> OpenedTask:
    """Returns a task that is ready to serve.

    Args:
        options: Of the process.
        announce: Called when this process becomes the primary of a replicated task, with the epoch.
        on_ready: Told whether a process of a replicated task may be relied on, when that has changed.

    Raises:
        CannotStartError: There is a state, and it cannot be restored; or the module of functions is none.
    """
    try:
        functions = known_functions(options.functions)
    except FunctionModuleError as error:
        raise CannotStartError(str(error), EXIT_CANNOT_START) from error
    parts = StateParts(
        options.cluster_spec,
        options.task_index,
        memory_limit_bytes=options.memory_limit_bytes,
        second_limit_bytes=options.second_limit_bytes,
        ledger_limits=LedgerLimits(clients=options.max_clients),
        functions=functions,
    )
    if options.durability is DurabilityMode.NONE or options.data_dir is None:
        if options.is_replicated:
            return _replicated(options, LoggedState(parts), _coordinator(options), announce, on_ready)
        return OpenedTask(_core(options, MemoryState(parts)))
    settings = DurableSettings(options.durability, options.data_dir, options.snapshot_interval_s)
    with refusals(settings.data_dir):
        if options.is_replicated:
            coordinator = _coordinator(options)
            state, durable, kept = open_kept_state(options, parts, settings, coordinator)
            _report(state, durable.recovered)
            return _replicated(options, state, coordinator, announce, on_ready, kept)
        durable, known_peers = _brought_back(options, parts, settings)
    addresses = AddressBook(
        len(options.cluster_spec.ps_addresses()), remembered=known_peers.read(), remember=known_peers.write
    )
    return OpenedTask(_core(options, durable.state, addresses=addresses), durable=durable)


@contextlib.contextmanager
def refusals(data_dir: Path) -> Iterator[None]:
    """Says why the state cannot be used, and whether it may be later."""
    try:
        yield
    except (DirectoryInUseError, MissingFunctionError, PairNotReadyError) as error:
        raise CannotStartError(str(error), EXIT_CANNOT_START) from error
    except _DAMAGE as error:
        raise CannotStartError(str(error), EXIT_STATE_REFUSED) from error
    except ResourceExhaustedError as error:
        raise CannotStartError(f"the state does not fit: {error.message}", EXIT_CANNOT_START) from error
    except MemoryError as error:
        raise CannotStartError(
            f"there is not enough memory for the state in {data_dir}; give the host as much as before",
            EXIT_CANNOT_START,
        ) from error
    except OSError as error:
        raise CannotStartError(f"the state in {data_dir} cannot be used: {error}", EXIT_CANNOT_START) from error


def _coordinator(options: ServerOptions) -> CoordinationStore:
    assert options.coordinator is not None
    return open_store(options.coordinator, namespace=options.cluster_name)


def _replicated(
    options: ServerOptions,
    state: LoggedState,
    coordinator: CoordinationStore,
    announce: Callable[[int], None],
    on_ready: Callable[[bool], None],
    kept: KeptState | None = None,
) -> OpenedTask:
    settings = ReplicationSettings(
        options.cluster_spec,
        options.task_index,
        options.is_backup,
        options.lease_s,
        coordinator,
        durability=options.durability.name.lower(),
        cluster_name=options.cluster_name,
        job_seed=options.job_seed,
        memory_limit_bytes=options.memory_limit_bytes,
        functions=options.functions,
    )
    task = ReplicatedTask(
        state, settings, announce, on_fatal=_end_unsafe, on_superseded=_end_superseded, on_ready=on_ready, kept=kept
    )
    return OpenedTask(_core(options, state, task.replica), replicated=task)


def _brought_back(
    options: ServerOptions, parts: StateParts, settings: DurableSettings
) -> tuple[DurableTask, KnownPeers]:
    num_ps = len(options.cluster_spec.ps_addresses())
    task = TaskId(PS_JOB, options.task_index)
    directory = DataDirectory.open(settings.data_dir, task=task, num_ps=num_ps)
    try:
        refuse_half_of_a_pair(directory, options.task)
    except BaseException:
        directory.close()
        raise
    on_disk = StateOnDisk.of(directory, mode=settings.mode)
    state = LoggedState(parts, on_disk.store_incarnation)
    durable = DurableTask(state, on_disk, settings).serve(on_fatal=_end_unsafe)
    _report(state, durable.recovered)
    return durable, KnownPeers(on_disk.directory.path)


def _core(
    options: ServerOptions, state: State, role: TaskRole | None = None, addresses: AddressBook | None = None
) -> ParameterServer:
    return ParameterServer(
        cluster_spec=options.cluster_spec,
        task_index=options.task_index,
        job_seed=options.job_seed,
        state=state,
        role=role,
        addresses=addresses,
        max_waits=options.max_concurrent // 4,
    )


def _report(state: LoggedState, recovered: Recovered) -> None:
    if recovered.loss:
        _LOG.warning("updates were lost", reason=recovered.loss, store=str(state.store_incarnation))
    _LOG.info(
        "brought the state back",
        position=recovered.position,
        snapshot=recovered.snapshot.position if recovered.snapshot else 0,
        replayed=recovered.num_replayed,
        variable_bytes=state.parts.store.variable_bytes,
        seconds=round(recovered.duration_s, 3),
    )


def _end_unsafe(error: BaseException) -> None:
    """Ends the process at once: the log's sinks have all that was promised, and nothing more can be promised."""
    _LOG.critical("updates can no longer be made safe, ending at once", reason=str(error), exc_info=error)
    os._exit(EXIT_NOT_SAFE)


def _end_superseded(reason: str) -> None:
    _LOG.warning("ending at once", reason=reason)
    os._exit(EXIT_SUPERSEDED)
