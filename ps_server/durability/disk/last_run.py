"""A note of a task's last run: in which mode the state was kept, and how the run ended.

It shows whether the state on disk has every acknowledged update. The note is there twice, so that clients need not
start over where one is damaged. Each is overwritten where it lies, first the copy, so that one of them is whole
whenever the process or the machine stops. A full disk has room for that too.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ps_protocol.files.synced_files import overwrite_file
from ps_protocol.service_types import DurabilityMode

_LOG = logging.getLogger(__name__)
_FILE: Final = "last_run.json"
_COPY: Final = "last_run.copy.json"
_FILE_BYTES: Final = 64
"""The note is filled up to this size, so that it never needs more room than the one before."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """One run, from its beginning on.

    Attributes:
        mode: How the state was kept.
        ended_at: Position of the last record, if the run ended in good order with all of the state on disk; else None.
    """

    mode: DurabilityMode
    ended_at: int | None = None

    def has_all_up_to(self, position: int) -> bool:
        """Whether a state on disk that reaches up to ``position`` has all that the run acknowledged."""
        return self.mode is DurabilityMode.JOURNAL or self.ended_at == position


def read_last_run(directory: Path) -> LastRun | None:
    """Returns the note; None if there is none, or it cannot be read."""
    is_damaged = False
    for path in (directory / _FILE, directory / _COPY):
        try:
            content = json.loads(path.read_bytes())
            ended_at = content["ended_at"]
            return LastRun(DurabilityMode[content["mode"].upper()], None if ended_at is None else int(ended_at))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _LOG.warning("%s cannot be read: %s", path, error)
            is_damaged = True
    if is_damaged:
        _LOG.warning("the last run of %s counts as one that was cut off", directory)
    return None


def write_last_run(directory: Path, run: LastRun) -> None:
    """Writes the note to disk.

    Raises:
        OSError: It could not be written; the note before stays.
    """
    content = json.dumps({"mode": run.mode.name.lower(), "ended_at": run.ended_at})
    note = content.ljust(_FILE_BYTES - 1).encode("ascii") + b"\n"
    for name in (_COPY, _FILE):
        try:
            overwrite_file(directory / name, note)
        except OSError as error:
            if name == _FILE:
                raise
            _LOG.warning("%s cannot be written: %s", directory / name, error)
