"""A note of a task's last run: in which mode the state was kept, and how the run ended.

It shows whether the state on disk has every acknowledged update.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ps_protocol.service_types import DurabilityMode
from ps_server.durability.disk.synced_files import replace_file

_LOG = logging.getLogger(__name__)
_FILE: Final = "last_run.json"


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
    try:
        content = json.loads((directory / _FILE).read_bytes())
        ended_at = content["ended_at"]
        return LastRun(DurabilityMode[content["mode"].upper()], None if ended_at is None else int(ended_at))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _LOG.warning("%s cannot be read (%s); the last run counts as one that was cut off", directory / _FILE, error)
        return None


def write_last_run(directory: Path, run: LastRun) -> None:
    """Writes the note to disk.

    Raises:
        OSError: It could not be written; the note before stays.
    """
    content = {"mode": run.mode.name.lower(), "ended_at": run.ended_at}
    replace_file(directory / _FILE, (json.dumps(content) + "\n").encode("ascii"))
