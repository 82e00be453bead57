"""Makes the recordings and the data directories anew: ``python -m tests.compatibility.record``.

To be run with the version whose form is to be kept, which is then written into README.md. What was recorded with an
earlier version stays as it is, as long as that version is to be understood.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ps_protocol.v1 import data_pb2
from tests.compatibility import scenario
from tests.compatibility.byte_peers import Asker, Relay
from tests.compatibility.ps_process import Ps, running_ps
from tests.compatibility.recordings import (
    ERROR,
    EXCHANGE_STREAM,
    FAR_VERSION,
    FRAME,
    HELLO,
    OPEN,
    REQUEST,
    Exchange,
    frame_bytes,
    save,
)
from tests.compatibility.replication_peers import (
    WAYS,
    Around,
    Follower,
    Registrar,
    replicated_ps,
    wait_until_it_serves,
)

DATA = Path(__file__).parent / "data"

CONVERSATIONS: dict[str, tuple[str, Callable[[scenario.Client], None]]] = {
    "operations-grpc": ("grpc", scenario.every_operation),
    "operations-tcp": ("tcp", scenario.every_operation),
    "shared-memory": ("shm", scenario.shared_tensors),
    "services": ("grpc", scenario.every_service),
}

RAW = "malformed"


def record_conversation(name: str) -> None:
    transport, converse = CONVERSATIONS[name]
    with running_ps() as ps, Relay(ps.address) as relay:
        client = scenario.Client(relay.server.address, transport)
        converse(client)
        client.close()
        save(name, relay.exchanges, client.outcomes)


def record_raw() -> None:
    """What no client of ours sends, and what it is refused with."""
    client = scenario.CLIENT.bytes
    hello = data_pb2.HelloRequest(client_incarnation=client, task="worker:0", protocol_version=1)
    newer = data_pb2.HelloRequest(client_incarnation=client, task="worker:0", protocol_version=FAR_VERSION)
    magic, version, no_ticket = b"\x89SHDSCP\n", (1).to_bytes(4, "little"), bytes(32)
    with running_ps() as ps, Asker(ps.address) as asker:
        exchanges = [asker.ask(Exchange(HELLO, 0, (each.SerializeToString(),))) for each in (newer, hello)]
        ticket = data_pb2.HelloReply.FromString(exchanges[-1].received[0]).ticket
        handshakes = [
            magic[::-1] + version + client + ticket + bytes(4),
            magic + (9).to_bytes(4, "little") + client + ticket + bytes(4),
            magic + version + client + no_ticket + bytes(4),
            magic + version + client + ticket + bytes(4),
        ]
        for number, handshake in enumerate(handshakes, 1):
            exchanges.append(asker.ask(Exchange(OPEN + "tcp", number, (handshake,))))
        frames = [frame_bytes(REQUEST, b"", timeout_ms=20_000), frame_bytes(ERROR, b"no header of this kind")]
        exchanges += [asker.ask(Exchange(FRAME, len(handshakes), (frame,))) for frame in frames]
        exchanges.append(asker.ask(Exchange("/ps_protocol.v1.Data/Exchange", 0, (b"no message",))))
        exchanges.append(asker.ask(Exchange(EXCHANGE_STREAM, 0, (b"no message",))))
        save(RAW, exchanges)


class Run(NamedTuple):
    """One run of a ps on a data directory."""

    mode: str
    changes: Callable[[scenario.Client], Any]
    ends_well: bool


DIRECTORIES: dict[str, tuple[Run, ...]] = {
    "journal": (Run("journal", scenario.first_changes, True), Run("journal", scenario.last_changes, True)),
    "journal-killed": (Run("journal", scenario.first_changes, False), Run("journal", scenario.last_changes, False)),
    "snapshot": (Run("snapshot", scenario.first_changes, True), Run("snapshot", scenario.last_changes, True)),
    "snapshot-killed": (Run("snapshot", scenario.first_changes, True), Run("snapshot", scenario.last_changes, False)),
    "both-killed": (Run("snapshot", scenario.first_changes, True), Run("journal", scenario.last_changes, False)),
}
"""Data directories, by how they came about."""


def mode_of(name: str) -> str:
    """How the ps is started that reads a directory: as the one that wrote it last."""
    return DIRECTORIES[name][-1].mode


@contextmanager
def ps_on(directory: Path, mode: str) -> Iterator[Ps]:
    """Starts a ps on a data directory."""
    with running_ps("--durability", mode, "--data-dir", str(directory), "--snapshot-interval", "3600") as ps:
        yield ps


def record_directory(name: str) -> None:
    """Makes a data directory, and records what the ps that wrote it answers when it is started on it again."""
    client: scenario.Client | None = None
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary, "data")
        for run in DIRECTORIES[name]:
            with ps_on(directory, run.mode) as ps:
                if client is None:
                    client = scenario.Client(ps.address, "grpc")
                else:
                    client.meet(ps.address)
                last = run.changes(client)
                client.close()
                if run.ends_well:
                    assert ps.end() == 0
                else:
                    ps.kill()
        assert client is not None
        DATA.mkdir(exist_ok=True)
        with tarfile.open(DATA / f"{name}.tar.xz", "w:xz") as archive:
            archive.add(directory, ".", filter=_without_owner)
        with ps_on(directory, mode_of(name)) as ps, Relay(ps.address) as relay:
            client.meet(relay.server.address)
            scenario.looks_at_the_state(client, last)
            client.close()
        save(f"directory-{name}", relay.exchanges)


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if Path(member.name).name == "lock":  # names the machine, and is made at each start
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def record_replication(way: str) -> None:
    """Keeps what a primary sends its followers: the first has no state to begin with, the second gets an image."""
    follower = Follower()
    with Around(way, follower) as around, Registrar() as registrar, replicated_ps(around, registrar) as ps:
        client = scenario.Client(ps.address, "grpc")
        client.close()  # it meets the ps through relays
        changes: list[Callable[[scenario.Client], Any]] = [scenario.first_and_huge_changes, scenario.last_changes]
        for number, change in enumerate(changes, 1):
            wait_until_it_serves(ps, registrar, number)
            with Relay(ps.address) as relay:
                client.meet(relay.server.address)
                last = change(client)
                client.close()
            save(f"replication-{way}-client-{number}", relay.exchanges)
            frames = follower.streams[number - 1]
            follower.replace()
            save(f"replication-{way}-stream-{number}", [Exchange(f"follow/{way}", 0, tuple(frames))])
        wait_until_it_serves(ps, registrar, 3)
        with Relay(ps.address) as relay:
            client.meet(relay.server.address)
            scenario.looks_at_the_state(client, last)
            client.close()
        save(f"replication-{way}-state", relay.exchanges)


def main() -> None:
    """Makes all, or those kinds that are named."""
    kinds: dict[str, list[Callable[[], None]]] = {
        "conversations": [partial(record_conversation, name) for name in CONVERSATIONS] + [record_raw],
        "directories": [partial(record_directory, name) for name in DIRECTORIES],
        "replication": [partial(record_replication, way) for way in WAYS],
    }
    for kind in sys.argv[1:] or kinds:
        for record in kinds[kind]:
            record()


if __name__ == "__main__":
    main()
