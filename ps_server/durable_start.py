"""How a ps process comes by its core: an empty one, or one with the state that an earlier process left on disk."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Final

import structlog

from ps_protocol.cluster_spec import PS_JOB, TaskId
from ps_protocol.errors import ResourceExhaustedError
from ps_protocol.service_types import DurabilityMode
from ps_server.data_directory import DataDirectoryError, DirectoryInUseError
from ps_server.durable_task import DurableSettings, DurableTask
from ps_server.journal import CorruptJournalError
from ps_server.options import ServerOptions
from ps_server.parameter_server import ParameterServer
from ps_server.recovery import Recovered, StateOnDisk
from ps_server.replay import ReplayError
from ps_server.snapshot_files import CorruptSnapshotError

EXIT_CANNOT_START: Final = 1
"""It may work later, or with other options."""

EXIT_STATE_REFUSED: Final = 3
"""The state on disk is damaged; starting again will not help."""

EXIT_NOT_SAFE: Final = 4
"""The process has ended itself, since updates could no longer be made safe."""

_DAMAGE: Final = (CorruptSnapshotError, CorruptJournalError, ReplayError, DataDirectoryError)
_LOG = structlog.stdlib.get_logger(__name__)


class CannotStartError(Exception):
    """A task cannot take up its state; the message says why and what to do.

    Attributes:
        exit_code: Of the process.
    """

    def __init__(self, reason: str, exit_code: int):
        super().__init__(reason)
        self.exit_code = exit_code


def open_core(options: ServerOptions) -> tuple[ParameterServer, DurableTask | None]:
    """Returns a core that is ready to serve, and what keeps its state on disk, if anything does.

    Raises:
        CannotStartError: There is a state, and it cannot be brought back. Nothing is served then.
    """
    if options.durability is DurabilityMode.NONE or options.data_dir is None:
        return _core(options, None), None
    settings = DurableSettings(options.durability, options.data_dir, options.snapshot_interval_s)
    try:
        return _brought_back(options, settings)
    except DirectoryInUseError as error:
        raise CannotStartError(str(error), EXIT_CANNOT_START) from error
    except _DAMAGE as error:
        raise CannotStartError(str(error), EXIT_STATE_REFUSED) from error
    except ResourceExhaustedError as error:
        raise CannotStartError(f"the state does not fit: {error.message}", EXIT_CANNOT_START) from error
    except MemoryError as error:
        raise CannotStartError(
            f"there is not enough memory for the state in {settings.data_dir}; give the host as much as before",
            EXIT_CANNOT_START,
        ) from error
    except OSError as error:
        raise CannotStartError(
            f"the state in {settings.data_dir} cannot be used: {error}", EXIT_CANNOT_START
        ) from error


def _brought_back(options: ServerOptions, settings: DurableSettings) -> tuple[ParameterServer, DurableTask]:
    num_ps = len(options.cluster_spec.ps_addresses())
    task = TaskId(PS_JOB, options.task_index)
    with ExitStack() as opened:
        state = StateOnDisk.open(settings.data_dir, task=task, num_ps=num_ps, mode=settings.mode)
        opened.callback(state.close, ended_at=None)
        core = _core(options, state)
        opened.pop_all()
    durable = DurableTask(core, state, settings, on_fatal=_end_at_once)
    _report(core, durable.recovered)
    return core, durable


def _core(options: ServerOptions, state: StateOnDisk | None) -> ParameterServer:
    return ParameterServer(
        cluster_spec=options.cluster_spec,
        task_index=options.task_index,
        job_seed=options.job_seed,
        memory_limit_bytes=options.memory_limit_bytes,
        store_incarnation=state.store_incarnation if state else None,
        durable=state is not None or options.is_replicated,
    )


def _report(core: ParameterServer, recovered: Recovered) -> None:
    if recovered.lacks:
        _LOG.warning("updates were lost", reason=recovered.lacks, store=str(core.store_incarnation))
    _LOG.info(
        "brought the state back",
        position=recovered.position,
        snapshot=recovered.snapshot.position if recovered.snapshot else 0,
        replayed=recovered.num_replayed,
        variable_bytes=core.variable_bytes,
        seconds=round(recovered.duration_s, 3),
    )


def _end_at_once(error: BaseException) -> None:
    """Ends the process where it stands: what was promised is on disk, and nothing more can be."""
    _LOG.critical("updates can no longer be made safe, ending at once", reason=str(error), exc_info=error)
    os._exit(EXIT_NOT_SAFE)
