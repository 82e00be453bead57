"""With which exit code a ps ends whose state cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from ps_protocol.errors import ResourceExhaustedError
from ps_server.durability.disk.data_directory import DataDirectoryError, DirectoryInUseError
from ps_server.durability.journal.reader import CorruptJournalError
from ps_server.durability.snapshots.files import CorruptSnapshotError
from ps_server.log.replay import MissingFunctionError, ReplayError
from ps_server.process.pair_on_disk import PairNotReadyError
from ps_server.process.start import CannotStartError, refusals


@pytest.mark.parametrize(
    ("error", "exit_code", "says"),
    [
        (DirectoryInUseError("it is held"), 1, "it is held"),
        (MissingFunctionError("no such function"), 1, "no such function"),
        (PairNotReadyError("wait"), 1, "wait"),
        (ResourceExhaustedError("beyond the limit"), 1, "the state does not fit: beyond the limit"),
        (MemoryError(), 1, "there is not enough memory for the state in data; give the host as much as before"),
        (OSError("input/output error"), 1, "the state in data cannot be used: input/output error"),
        (DataDirectoryError("it cannot be used"), 3, "it cannot be used"),
        (CorruptJournalError("damaged"), 3, "damaged"),
        (CorruptSnapshotError("damaged"), 3, "damaged"),
        (ReplayError("another effect"), 3, "another effect"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_a_later_start_may_remedy_has_another_code_than_damage(
    error: Exception, exit_code: int, says: str
) -> None:
    with pytest.raises(CannotStartError, match=says) as refused, refusals(Path("data")):
        raise error
    assert refused.value.exit_code == exit_code
