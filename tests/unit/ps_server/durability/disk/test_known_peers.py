"""The note of where the other ps tasks are: read again as it was written; a damaged one is no reason not to start."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from ps_protocol.service_types import PsAddress
from ps_server.durability.disk.known_peers import KnownPeers

FIRST = PsAddress("ps:0", "host:1", UUID(int=1))
SECOND = PsAddress("ps:1", "[::1]:2", UUID(int=2), 3)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    peers = KnownPeers(tmp_path)
    assert peers.read() == []
    peers.write([FIRST])
    peers.write([FIRST, SECOND])
    assert KnownPeers(tmp_path).read() == [FIRST, SECOND]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"ps:0": 1}', '{"ps:0": {"address": "host:1", "incarnation": "x", "epoch": 0}}'],
    ids=["empty", "list", "torn", "number", "incarnation"],
)
def test_a_damaged_note_is_told_and_counts_as_none(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "peers.json").write_text(content)
    assert KnownPeers(tmp_path).read() == []
    assert "the other ps tasks are looked for by the cluster spec" in caplog.text


def test_a_disk_that_fails_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    peers = KnownPeers(tmp_path / "missing")
    peers.write([FIRST])
    peers.write([FIRST, SECOND])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    (tmp_path / "missing").mkdir()
    peers.write([SECOND])
    assert peers.read() == [SECOND]
