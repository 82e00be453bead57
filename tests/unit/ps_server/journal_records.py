"""Records for tests of the journal, and a process that writes them until it is killed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

import numpy as np

from ps_protocol import fault_points
from ps_protocol.operations import BatchReply, Result, Update, UpdateRule
from ps_server.durability.journal import frames as journal_frames
from ps_server.durability.journal.journal import Journal
from ps_server.log.records import AppliedBatch, LoggedRecord

CLIENT = UUID(int=7)


def record(position: int, elements: int = 1) -> LoggedRecord:
    """A record whose contents follow from its position."""
    value = np.full(elements, position, np.float64)
    return LoggedRecord(
        position,
        AppliedBatch(
            CLIENT, position, (Update("w", UpdateRule.ASSIGN_ADD, value),), BatchReply((Result(position, True),))
        ),
    )


def records(first: int, last: int, elements: int = 1) -> list[LoggedRecord]:
    return [record(position, elements) for position in range(first, last + 1)]


def check(found: Iterable[LoggedRecord], first: int, last: int) -> None:
    """Makes sure that what was found are the records made above, from the first to the last."""
    position = first - 1
    for logged in found:
        position += 1
        assert logged.position == position
        assert isinstance(logged.record, AppliedBatch)
        update = logged.record.operations[0]
        assert isinstance(update, Update)
        assert update.value.flags.writeable
        assert update.value.size
        assert (update.value == position).all()
    assert position == last


def positions(directory: Path, after: int = 0) -> list[int]:
    """Opens a journal, reads all of it, closes it."""
    journal = Journal.open(directory, after=after)
    try:
        found = list(journal.replay(after))
        if found:
            check(found, found[0].position, found[-1].position)
        return [logged.position for logged in found]
    finally:
        journal.close()


def main() -> None:
    """Writes groups of records, small and large, with snapshots pretended between; says what is acknowledged."""
    fault_points.install_from_environment(is_allowed=True)
    journal_frames.INLINE_BYTES = 4096  # type: ignore[misc] # smaller, so that a test need not write megabytes
    directory, count = Path(sys.argv[1]), int(sys.argv[2])
    after = int(sys.argv[3])
    journal = Journal.open(directory, after=after)
    for _ in journal.replay(after):
        pass
    position = journal.last_position
    end = position + count
    while position < end:
        group = records(position + 1, position + 1 + position % 3, 1000 if position % 5 == 0 else 2)
        journal.write(group)
        position = group[-1].position
        sys.stdout.write(f"{position}\n")
        sys.stdout.flush()
        if position % 4 == 0:
            journal.start_new_file(position)
        if position % 6 == 0 and position > 12:
            # What was said before this line is covered by a snapshot, as whoever reads it has to know.
            sys.stdout.write(f"snapshot {position - 8}\n")
            sys.stdout.flush()
            journal.drop_before(position - 8)
    journal.close()


if __name__ == "__main__":
    main()
