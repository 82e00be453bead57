"""Opens the data directory of a process of a pair, and decides whether its state is still of use."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import structlog

from ps_protocol.cluster_spec import PS_JOB
from ps_protocol.errors import ShardscopeError
from ps_protocol.task_id import TaskId
from ps_server.coordination.store import CoordinationStore
from ps_server.durability.disk.data_directory import DataDirectory, DataDirectoryError
from ps_server.durability.recovery import StateOnDisk
from ps_server.durability.task import DurableSettings, DurableTask
from ps_server.log.logged_state import LoggedState
from ps_server.log.state_parts import StateParts
from ps_server.process.options import ServerOptions
from ps_server.replication.kept_state import KeptState
from ps_server.replication.member import MEMBER_FILE, Found, MemberFile, Part, found_at_start
from ps_server.replication.register import Asker, Register, Wish
from ps_server.replication.register_store import RegisterStore

_LOG = structlog.stdlib.get_logger(__name__)

_READ_TIMEOUT_S: Final = 2.0


class PairNotReadyError(Exception):
    """The state can be used later, or by somebody who knows more; the message says what to do."""


def open_kept_state(
    options: ServerOptions, parts: StateParts, settings: DurableSettings, coordinator: CoordinationStore
) -> tuple[LoggedState, DurableTask, KeptState]:
    """Brings the state of a process of a pair back, if it is of use; else it begins without.

    Raises:
        PairNotReadyError: It is not known whether it is of use.
        DataDirectoryError, CorruptSnapshotError, CorruptJournalError, ReplayError: It is damaged.
        ResourceExhaustedError: The variables are beyond the memory limit.
        OSError: The disk fails.
    """
    registers = RegisterStore(coordinator, task=options.task)
    directory = _open_directory(options, settings.data_dir)
    try:
        found, notes = _find(directory, registers, options)
        if found in (Found.IS_STALE, Found.NOTHING):
            directory = _emptied(directory, notes, options, settings.data_dir)
            notes = MemberFile(directory.path)
            notes.draw()
        on_disk = StateOnDisk.of(directory, mode=settings.mode, renews=found is Found.CLAIMS)
    except BaseException:
        directory.close()
        raise
    returns = found in (Found.RETURNS, Found.CLAIMS)
    if found is Found.RETURNS and not on_disk.is_complete:
        on_disk.close(ended_at=None)
        raise DataDirectoryError(
            f"{directory.path} lacks updates that were acknowledged: files of it were removed or are damaged. Put them "
            f"back; or move the directory away, and the process gets the state from the other one of {options.task}"
        )
    state = LoggedState(parts, on_disk.store_incarnation)
    durable = DurableTask(state, on_disk, settings)
    return state, durable, KeptState(durable, notes, returns=returns)


def refuse_half_of_a_pair(directory: DataDirectory, task: str) -> None:
    """Raises DataDirectoryError if what is in a directory was one of two copies, and the newest may be the other."""
    path = directory.path / MEMBER_FILE
    if path.exists():
        raise DataDirectoryError(
            f"{directory.path} is of one of two processes of {task}, and the other one may have a newer state. Start "
            f"the task with its backup again. To do without from now on: where this process was the primary at the "
            f"end, as `shardscope ls --tasks` has said, remove {path}"
        )


def _open_directory(options: ServerOptions, root: Path) -> DataDirectory:
    return DataDirectory.open(root, task=TaskId.parse(options.place), num_ps=options.cluster_spec.num_tasks(PS_JOB))


def _find(directory: DataDirectory, registers: RegisterStore, options: ServerOptions) -> tuple[Found, MemberFile]:
    """Finds out what to do with what is in a directory; the number of the process is drawn if it may be of use."""
    notes = MemberFile(directory.path)
    register, trouble = _read(registers)
    found = found_at_start(notes.member, directory.holds_state, register, was_read=not trouble)
    if found is Found.IS_FOREIGN:
        raise PairNotReadyError(
            f"{directory.path} has the state of {options.task} from when it had no backup. "
            + (
                f"Whether the task has begun without it is not known: {trouble}"
                if trouble
                else "The task has begun without it, with its backup. Move the directory away; or, to go on with this "
                "state instead, end both processes, and give them another --cluster-name"
            )
        )
    if found is Found.CLAIMS:
        member = notes.member or notes.draw()
        asker = Asker(member.process, options.is_backup)
        try:
            verdict = registers.ask(asker, Wish.CLAIM, timeout_s=_READ_TIMEOUT_S)
        except ShardscopeError as error:
            raise PairNotReadyError(f"{options.task} cannot begin with its state: {error.message}") from error
        if not verdict.granted:
            raise PairNotReadyError(f"{options.task} cannot begin with its state: {verdict.reason}")
    return found, notes


def _read(registers: RegisterStore) -> tuple[Register | None, str]:
    """Returns the register, and why it could not be read, if it could not."""
    try:
        return registers.read(timeout_s=_READ_TIMEOUT_S), ""
    except ShardscopeError as error:
        _LOG.warning("the coordination store does not answer", reason=error.message)
        return None, error.message


def _emptied(directory: DataDirectory, notes: MemberFile, options: ServerOptions, root: Path) -> DataDirectory:
    """Returns an empty directory in the place of one that is of no use."""
    if directory.is_new:
        return directory
    member = notes.member
    aside = directory.set_aside(keeps=member is not None and member.part in (Part.BACKUP, Part.PRIMARY))
    if aside is not None and member is not None:
        _LOG.warning(
            "the task has gone on without this process: its state is set aside, and it gets the newest one",
            was=str(member.part),
            epoch=member.epoch,
            aside=str(aside),
        )
    return _open_directory(options, root)
