"""A ps is flooded up to its limit of descriptors, and has none at all for a moment."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import numpy as np
import psutil
import pytest

import worker_client as ss
from ps_protocol.service_types import FastPathKind
from tests.conftest import Eventually
from tests.integration.durable_ps import DurablePs
from worker_client.transport.selection import TransportChoice, connect_endpoint

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.integration,
    pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux sets the limits of another process"),
]

TIMEOUT_S: Final = 30.0
RESERVE: Final = 12
ROOM: Final = 20
STRANGERS: Final = 4 * ROOM
MAX_GRPC: Final = 10
IDLE_S: Final = 2.0
_BEGINNING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""Of a connection of HTTP/2, with empty settings (RFC 9113)."""


class Flooded:
    """A ps with snapshots, and a client of it by TCP."""

    def __init__(self, ps: DurablePs, data_dir: Path, resources: contextlib.ExitStack):
        self.ps = ps
        self._data_dir = data_dir
        self._resources = resources
        self._process = psutil.Process(ps.ready["pid"])
        _, self._hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.spec = ss.ClusterSpec({"ps": [f"127.0.0.1:{ps.ready['port']}"], "worker": ["a:1", "b:1", "c:1"]})
        resources.enter_context(ss.connect(self.spec, "worker", 0, transport="tcp", lease_s=0))
        self.variable = ss.get_variable("variable", (4,), np.float32, initializer=ss.zeros_initializer())
        self.add()
        endpoint = connect_endpoint(self.spec.ps_addresses()[0], "ps:0", TransportChoice.GRPC)
        with contextlib.closing(endpoint):
            paths = endpoint.hello(uuid4(), "evaluator:0", timeout_s=TIMEOUT_S).fast_paths
        (self._port,) = [int(each.address[1:]) for each in paths if each.kind is FastPathKind.TCP]

    @property
    def num_descriptors(self) -> int:
        return self._process.num_fds()

    def allow(self, num_descriptors: int) -> None:
        """Sets the limit of the ps."""
        resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, (num_descriptors, self._hard))

    def add(self) -> None:
        self.variable.assign_add(np.ones(4, np.float32))

    def stranger(self) -> socket.socket:
        """A connection that shows no ticket."""
        sock = self._resources.enter_context(socket.create_connection(("127.0.0.1", self._port), TIMEOUT_S))
        sock.setblocking(False)
        with contextlib.suppress(ConnectionError):  # a ps that ends it at once
            sock.send(b"\x89")
        return sock

    def new_client_reads(self, task_index: int) -> float:
        """What a client that comes now reads."""
        with ss.connect(self.spec, "worker", task_index, transport="tcp", lease_s=0) as client, client.as_default():
            variable = ss.get_variable("variable", (4,), np.float32, initializer=ss.zeros_initializer())
            return float(variable.read_value()[0])

    def idle_grpc_connection(self) -> socket.socket:
        """A connection that begins as gRPC does, and has no call."""
        sock = self._resources.enter_context(socket.create_connection(("127.0.0.1", self.ps.ready["port"]), TIMEOUT_S))
        sock.setblocking(False)
        with contextlib.suppress(ConnectionError):  # a ps that ends it at once
            sock.send(_BEGINNING)
        return sock

    @property
    def snapshots(self) -> set[str]:
        return {each.name for each in (self._data_dir / "ps-0" / "snapshots").iterdir() if each.name.isdigit()}

    def events(self, part: str) -> list[str]:
        return [each["event"] for each in self.ps.log if part in str(each["event"])]


@pytest.fixture
def flooded(tmp_path: Path) -> Iterator[Flooded]:
    data_dir = tmp_path / "data"
    arguments = ("--durability", "snapshot", "--data-dir", str(data_dir), "--snapshot-interval", "0.2")
    limits = ("--descriptor-reserve", str(RESERVE), "--handshake-timeout", "600")
    grpc_limits = ("--max-grpc-connections", str(MAX_GRPC), "--idle-timeout", str(IDLE_S))
    with DurablePs(tmp_path, *arguments, *limits, *grpc_limits) as ps, contextlib.ExitStack() as resources:
        yield Flooded(ps, data_dir, resources)


def is_ended(sock: socket.socket) -> bool:
    try:
        while sock.recv(4096):
            pass  # what gRPC sends of its own
    except BlockingIOError:
        return False
    except ConnectionResetError:
        pass
    return True


def test_strangers_leave_descriptors_to_clients_and_snapshots(flooded: Flooded, eventually: Eventually) -> None:
    limit = flooded.num_descriptors + ROOM
    flooded.allow(limit + RESERVE)
    strangers = [flooded.stranger() for _ in range(STRANGERS)]
    eventually(lambda: sum(map(is_ended, strangers)) >= STRANGERS // 2, message="most of the flood had to go")
    assert not all(map(is_ended, strangers)), "there is room for some of it"
    assert flooded.events("connection ended: it was the oldest of")
    before = flooded.snapshots
    flooded.add()
    eventually(lambda: bool(flooded.snapshots - before), message="a snapshot is taken in the middle of the flood")
    assert flooded.new_client_reads(task_index=1) == 2.0
    assert flooded.num_descriptors <= limit + RESERVE


def test_a_moment_without_descriptors_ends_nothing(flooded: Flooded, eventually: Eventually) -> None:
    allowed = flooded.num_descriptors + 10 * RESERVE
    flooded.allow(flooded.num_descriptors)
    stranger = flooded.stranger()
    eventually(lambda: bool(flooded.events("no connection can be accepted")), message="there is none left")
    for _ in range(3):
        flooded.add()
    assert not is_ended(stranger), "the kernel keeps it meanwhile"
    assert len(flooded.events("no connection can be accepted")) < 10, "it does not try again and again"
    flooded.allow(allowed)
    assert flooded.new_client_reads(task_index=2) == 4.0
    before = flooded.snapshots
    flooded.add()
    eventually(lambda: bool(flooded.snapshots - before), message="snapshots are taken again")


def test_idle_connections_over_grpc_leave_descriptors_to_all_others(flooded: Flooded, eventually: Eventually) -> None:
    limit = flooded.num_descriptors + MAX_GRPC + ROOM
    flooded.allow(limit)
    strangers = [flooded.idle_grpc_connection() for _ in range(STRANGERS)]
    eventually(lambda: sum(map(is_ended, strangers)) >= STRANGERS - MAX_GRPC, message="those beyond the number go")
    before = flooded.snapshots
    flooded.add()
    eventually(lambda: bool(flooded.snapshots - before), message="a snapshot is taken in the middle of the flood")
    assert flooded.num_descriptors < limit
    eventually(lambda: all(map(is_ended, strangers)), message="a connection without a call goes too")
    assert flooded.new_client_reads(task_index=1) == 2.0


def test_a_client_does_not_notice_that_its_idle_connection_was_ended(flooded: Flooded, eventually: Eventually) -> None:
    before = flooded.num_descriptors
    with ss.connect(flooded.spec, "worker", 1, transport="grpc", lease_s=0) as client, client.as_default():
        variable = ss.get_variable("variable", (4,), np.float32, initializer=ss.zeros_initializer())
        variable.assign_add(np.ones(4, np.float32))
        eventually(lambda: flooded.num_descriptors <= before, message="the connections are ended")
        variable.assign_add(np.ones(4, np.float32))
        assert variable.numpy().tolist() == [3.0] * 4
