"""A member of etcd in a process of its own, at ports and with data that stay its own through every end and start."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pytest

from ps_cluster.local.reserved_ports import LOOPBACK, ReservedPorts
from ps_server.coordination.etcd_store import EtcdStore

NO_ETCD: Final = "there is no program `etcd`; run deploy/install_etcd.sh"
_TIMEOUT_S: Final = 60.0


class EtcdProcess:
    """One member of etcd. As a context manager it starts its process, and ends it for good. Skips without etcd.

    Args:
        directory: Where its data and its log are.
        ports: Of clients and of peers; reserved for it if not given.
        peers: Peer ports of all members of the cluster; it is alone if not given.
        host: Where it listens; with ports of its own if that is another host.
        command: What runs a program there.

    Attributes:
        address: Where clients find it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        ports: tuple[int, int] | None = None,
        peers: Sequence[int] = (),
        host: str = LOOPBACK,
        command: Sequence[str] = (),
    ):
        if shutil.which("etcd") is None:
            pytest.skip(NO_ETCD)
        self._directory = directory
        self._resources = ExitStack()
        self._client_port, self._peer_port = ports or self._reserved()
        self._peers = peers or [self._peer_port]
        self._process: subprocess.Popen[bytes] | None = None
        self._host = host
        self._command = command
        self.address = f"{host}:{self._client_port}"

    def _reserved(self) -> tuple[int, int]:
        reserved = ReservedPorts(2)
        self._resources.callback(reserved.close)
        return reserved.ports[0], reserved.ports[1]

    @property
    def url(self) -> str:
        """Address of the store in it."""
        return f"etcd://{self.address}"

    @property
    def data(self) -> Path:
        """All that it keeps."""
        return self._directory / "data"

    def start(self) -> None:
        """Starts the process with the data that it has; returns at once."""
        assert self._process is None
        self._directory.mkdir(exist_ok=True)
        client, peer = f"http://{self.address}", self._peer_url(self._peer_port)
        command = [
            *self._command,
            "etcd",
            *("--name", str(self._peer_port), "--data-dir", str(self.data), "--logger", "zap", "--log-level", "error"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", ",".join(f"{port}={self._peer_url(port)}" for port in self._peers)),
            *("--heartbeat-interval", "50", "--election-timeout", "500"),
        ]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def wait_until_ready(self) -> None:
        """Returns when it has answered a read, for which it needs a quorum."""
        store = EtcdStore([self.address], "ready")
        try:
            store.read("ready", timeout_s=_TIMEOUT_S)
        finally:
            store.close()

    def kill(self) -> None:
        """Kills the process; everything it has answered stays."""
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait(_TIMEOUT_S)

    def restart(self) -> None:
        """Kills the process and starts it again."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Stops the process as it is, and waits until it has: connections to it stay open, and nobody answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def wake(self) -> None:
        """Has a stopped process go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove_data(self) -> None:
        """Removes what it has kept; it must not run."""
        assert self._process is None
        shutil.rmtree(self.data)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._resources.close()

    def _peer_url(self, port: int) -> str:
        return f"http://{self._host}:{port}"


@contextmanager
def etcd_cluster(directory: Path, size: int = 3) -> Iterator[list[EtcdProcess]]:
    """Gives the members of a cluster, which can be reached."""
    with ExitStack() as stack:
        reserved = ReservedPorts(2 * size)
        stack.callback(reserved.close)
        clients, peers = reserved.ports[:size], reserved.ports[size:]
        members = [
            stack.enter_context(EtcdProcess(directory / f"etcd-{number}", ports=ports, peers=peers))
            for number, ports in enumerate(zip(clients, peers, strict=True))
        ]
        for member in members:
            member.wait_until_ready()
        yield members
