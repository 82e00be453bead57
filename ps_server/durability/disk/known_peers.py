"""A note of where the ps tasks of the cluster were last: a task that starts again finds those that have moved by it."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

from ps_protocol.files.synced_files import replace_file
from ps_protocol.service_types import PsAddress

_LOG = logging.getLogger(__name__)
_FILE: Final = "peers.json"


class KnownPeers:
    """The note in one task's data directory. One call at a time.

    Args:
        directory: Of the task, which holds it.
    """

    def __init__(self, directory: Path):
        self._path = directory / _FILE
        self._is_failing = False

    def read(self) -> list[PsAddress]:
        """Returns what was noted; nothing if there is no note, or it cannot be read."""
        try:
            noted = json.loads(self._path.read_bytes())
            return [
                PsAddress(task, str(each["address"]), UUID(each["incarnation"]), int(each["epoch"]))
                for task, each in noted.items()
            ]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _LOG.warning(
                "%s cannot be read (%s); the other ps tasks are looked for by the cluster spec", self._path, error
            )
            return []

    def write(self, addresses: Sequence[PsAddress]) -> None:
        """Notes addresses in the place of those before; logs it if the disk fails."""
        noted = {
            each.task: {"address": each.address, "incarnation": str(each.incarnation), "epoch": each.epoch}
            for each in addresses
        }
        try:
            replace_file(self._path, (json.dumps(noted, indent=2) + "\n").encode())
        except OSError as error:
            if not self._is_failing:
                _LOG.warning("where the other ps tasks are could not be noted in %s: %s", self._path, error)
            self._is_failing = True
        else:
            self._is_failing = False
