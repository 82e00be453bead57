"""When a snapshot is due. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

LEAST_JOURNAL_BYTES: Final = 256 * 1024**2
"""A journal that is smaller than this is not worth a snapshot, however little the variables take."""

MANY_TIMES: Final = 8
"""A journal may be so many times as large as the variables: snapshots then add an eighth to what is written."""

LARGE_JOURNAL_BYTES: Final = 1024**3
"""``MANY_TIMES`` holds up to this size. Above it, a journal may be as large as the variables."""

MOST_RECORDS: Final = 50_000
"""They take about five seconds to replay."""

_PAUSES: Final = 20.0


class SizedJournal(Protocol):
    """What a policy uses of ``Journal``."""

    @property
    def size_bytes(self) -> int:
        """What it takes on disk."""
        ...


@dataclass(frozen=True, slots=True)
class SinceLast:
    """What has happened since the last snapshot was tried, or since the start.

    Attributes:
        seconds: The time that has passed.
        records: Changes that the last snapshot on disk does not have.
        took_s: How long the last one took; 0 if none was taken.
    """

    seconds: float
    records: int
    took_s: float


class SnapshotPolicy(Protocol):
    """Says when a snapshot is due."""

    def is_due(self, since: SinceLast) -> bool:
        """Whether one should be taken."""
        ...


class AtIntervals:
    """A snapshot every so many seconds."""

    def __init__(self, interval_s: float):
        self._interval_s = interval_s

    def is_due(self, since: SinceLast) -> bool:
        return since.seconds >= self._interval_s


class WhenJournalIsLong:
    """A snapshot when the journal is large beside the variables, or would take long to replay.

    A journal that is many times larger than the variables makes a snapshot cheap beside it. So disk and recovery are
    bounded, and a stream of large updates does not go to the disk twice. Snapshots for the number of records take at
    most a twentieth of the time.

    Args:
        journal: The journal.
        value_bytes: Returns what the variables' values take; one that was declared only is in no snapshot.
        least_bytes: Size up to which a journal is left alone.
        records: The most records to replay at a start.
    """

    def __init__(
        self,
        journal: SizedJournal,
        value_bytes: Callable[[], int],
        *,
        least_bytes: int = LEAST_JOURNAL_BYTES,
        records: int = MOST_RECORDS,
    ):
        self._journal = journal
        self._value_bytes = value_bytes
        self._least_bytes = least_bytes
        self._records = records

    def is_due(self, since: SinceLast) -> bool:
        if since.records > self._records and since.seconds >= _PAUSES * since.took_s:
            return True
        size_bytes = self._journal.size_bytes
        return size_bytes > self._least_bytes and size_bytes > self._most_bytes()

    def _most_bytes(self) -> int:
        value_bytes = self._value_bytes()
        return max(value_bytes, min(MANY_TIMES * value_bytes, LARGE_JOURNAL_BYTES))
