"""A ps of this version, started on what an earlier one has left on disk, has all that the earlier one had.

Variables, versions, placements and what clients were answered: asked as then, it answers as the earlier version did
when it was started on the same directory. A batch that was carried out before is answered, and not applied again.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from uuid import UUID

import pytest

from ps_protocol.v1 import data_pb2
from tests.compatibility.byte_peers import Asker
from tests.compatibility.record import DATA, DIRECTORIES, mode_of, ps_on
from tests.compatibility.recordings import load, meaning_of_received

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_directory_of_an_earlier_version_is_read(name: str, tmp_path: Path) -> None:
    with tarfile.open(DATA / f"{name}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    exchanges, _ = load(f"directory-{name}")
    store = UUID(bytes=data_pb2.HelloReply.FromString(exchanges[0].received[0]).store_incarnation)
    with ps_on(tmp_path, mode_of(name)) as ps, Asker(ps.address) as asker:
        # Clients go on with the store that they know, unless acknowledged updates may be missing from it.
        assert (ps.ready["store"] == str(store)) == (name != "snapshot-killed")
        for number, recorded in enumerate(exchanges):
            now = asker.ask(recorded)
            assert meaning_of_received(now) == meaning_of_received(recorded), f"exchange {number}, {recorded.way}"
        assert ps.end() == 0
