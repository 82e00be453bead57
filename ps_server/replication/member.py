"""Which member of a pair the state in a data directory belongs to, and what a process does with it at its start.

A process that begins without state draws a number for itself. The register in the coordination store names the primary
and the backup by these numbers. Where the state is on disk, the number is beside it, so that a process that is started
again finds itself in the register. It is removed with the state: a process whose disk was lost has another number, and
cannot claim to have what was lost.
"""

from __future__ import annotations

import enum
import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID, uuid4

from ps_protocol.files.synced_files import replace_file
from ps_server.durability.disk.data_directory import DataDirectoryError
from ps_server.replication.register import Register

_LOG = logging.getLogger(__name__)

MEMBER_FILE: Final = "pair.json"


class Part(enum.StrEnum):
    """What the process was when it last noted it."""

    EMPTY = "empty"
    CATCHING_UP = "catching up"
    BACKUP = "backup"
    PRIMARY = "primary"


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a pair, as noted beside its state.

    Attributes:
        process: Its number.
        epoch: An epoch in which it was primary or backup; it may have been so in later ones. 0 for none.
        part: What it was.
    """

    process: UUID
    epoch: int = 0
    part: Part = Part.EMPTY


class Notes(Protocol):
    """Where a process notes what it is."""

    def note(self, epoch: int, part: Part) -> None:
        """Notes it; what cannot be noted now is noted with the next change."""
        ...


class NoNotes:
    """Of a process that keeps nothing on disk."""

    def note(self, epoch: int, part: Part) -> None: ...


class MemberFile:
    """The note in a data directory. One thread at a time.

    Args:
        directory: The data directory, held.

    Attributes:
        member: As it was last read or written; None if there is no note.

    Raises:
        DataDirectoryError: The note is damaged.
    """

    def __init__(self, directory: Path):
        self._path = directory / MEMBER_FILE
        self.member = self._read()

    def _read(self) -> Member | None:
        try:
            said = json.loads(self._path.read_bytes())
            return Member(UUID(said["process"]), int(said["epoch"]), Part(said["part"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataDirectoryError(
                f"{self._path} is damaged ({error}): it says which process of a pair the state belongs to. Put back a "
                f"copy of it; or move the directory away, and the process gets the state from the other one"
            ) from error

    def write(self, member: Member) -> None:
        """Writes the note.

        Raises:
            OSError: It could not be written; the one before stays.
        """
        content = asdict(member) | {"process": str(member.process)}
        replace_file(self._path, (json.dumps(content) + "\n").encode())
        self.member = member

    def draw(self) -> Member:
        """Draws a number, and writes it.

        Raises:
            OSError: It could not be written.
        """
        member = Member(uuid4())
        self.write(member)
        return member

    def note(self, epoch: int, part: Part) -> None:
        """See ``Notes``."""
        assert self.member is not None
        noted = replace(self.member, epoch=epoch, part=part)
        if noted == self.member:
            return
        try:
            self.write(noted)
        except OSError as error:
            # An older epoch does no harm: the register says what the process is.
            _LOG.warning("%s cannot be written: %s", self._path, error)


class Found(enum.Enum):
    """What a process does with what is in its data directory."""

    NOTHING = enum.auto()
    """There is nothing: it begins without state."""
    RETURNS = enum.auto()
    """It brings the state back, and asks to be the member that it was."""
    CLAIMS = enum.auto()
    """The state is of a task that had no backup, and the task has no entry yet: it asks to be its primary."""
    IS_STALE = enum.auto()
    """The task has gone on without it: it sets the directory aside, and begins without state."""
    IS_FOREIGN = enum.auto()
    """The state is of a task that had no backup, and another one has begun in the pair."""


def found_at_start(member: Member | None, holds_state: bool, register: Register | None, was_read: bool) -> Found:
    """Says what to do with a data directory.

    Args:
        member: The note in it.
        holds_state: Whether there are records or snapshots.
        register: What the coordination store says; None if it has no entry of the task.
        was_read: Whether it has said anything.
    """
    is_named = member is not None and register is not None and member.process in register.members
    if is_named:
        return Found.RETURNS
    if member is None or member.part is Part.EMPTY:
        if not holds_state:
            return Found.NOTHING
        # Without an answer of the store it is not known whether the task has begun without this state.
        return Found.CLAIMS if register is None and was_read else Found.IS_FOREIGN
    if register is None:
        return Found.RETURNS
    return Found.IS_STALE if register.has_gone_on_from(member.epoch) else Found.RETURNS
