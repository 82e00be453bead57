"""The sockets of a ps are in trouble while its gRPC works: a client soon reconnects, or goes over gRPC.

A try would take longer than a test may, so that what ends it is the doubt about a silent connection, and nothing else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.service_types import DurabilityMode, FastPath, FastPathKind
from ps_server.transport.sockets.session import SocketSession
from tests.chaos.proxy import Proxy
from tests.chaos.testbed import PsInProcess, connected, impatient_settings
from worker_client.transport.sockets import addresses, path, trust

pytestmark = pytest.mark.chaos

TIMEOUT_S: Final = 60.0
LONGER_THAN_A_TEST_S: Final = 1000.0
ONES: Final = np.ones((2, 3), np.float32)


class Link:
    """A ps task; a client that reaches its TCP socket through a proxy, and its gRPC without."""

    def __init__(self, transport: str, resources: ExitStack, data_dir: Path, monkeypatch: pytest.MonkeyPatch):
        connect = addresses.connect

        def through_proxy(offered: FastPath, host: str, timeout_s: float) -> Any:
            if offered.kind is not FastPathKind.TCP:
                raise ConnectionRefusedError("a host that is not this one")
            port = offered.address.rpartition(":")[2]
            return connect(FastPath(offered.kind, f"{self.proxy.address.rpartition(':')[0]}:{port}"), host, timeout_s)

        monkeypatch.setattr(path, "connect", through_proxy)
        self.ps = PsInProcess(0, DurabilityMode.NONE, data_dir, num_ps=1)
        resources.callback(self.ps.close)
        self.proxy = resources.enter_context(Proxy(self.ps.socket_port))
        self.client = connected([self.ps.address], transport, impatient_settings(LONGER_THAN_A_TEST_S))
        resources.enter_context(self.client)
        self.variable = ss.get_variable("variable", (2, 3), np.float32, initializer=ss.zeros_initializer())
        self.variable.assign_add(ONES)
        self.variable.assign_add(ONES, wait=False).result(TIMEOUT_S)

    @property
    def uses_sockets(self) -> bool:
        (handle,) = self.client._handles
        return isinstance(handle.endpoint.transport, path.SocketTransport)

    def check_that_each_update_counts_once(self, updates: int) -> None:
        np.testing.assert_array_equal(self.variable.read_value(), updates * ONES)
        assert self.variable.version == updates


@pytest.fixture
def make_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Link]]:
    with ExitStack() as resources:
        yield lambda transport: Link(transport, resources, tmp_path, monkeypatch)


def update(link: Link) -> None:
    link.variable.assign_add(ONES)


def update_without_waiting(link: Link) -> None:
    futures: list[Future[Any]] = [link.variable.assign_add(ONES, wait=False) for _ in range(3)]
    for each in futures:
        each.result(TIMEOUT_S)


def read(link: Link) -> None:
    link.variable.read_value()


OPERATIONS: Final = pytest.mark.parametrize(
    ("operation", "updates"), [(update, 1), (update_without_waiting, 3), (read, 0)], ids=["update", "queued", "read"]
)


def lines_about_grpc(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if "go over gRPC from now on" in each.message]


@OPERATIONS
@pytest.mark.parametrize("trouble", [Proxy.black_hole, Proxy.stall], ids=["black_hole", "stall"])
def test_a_client_of_silent_sockets_goes_over_grpc_with_one_line(
    make_link: Callable[[str], Link],
    trouble: Callable[[Proxy], None],
    operation: Callable[[Link], None],
    updates: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    link = make_link("auto")
    assert link.uses_sockets
    caplog.clear()
    trouble(link.proxy)
    operation(link)
    assert not link.uses_sockets
    (line,) = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    assert [line] == lines_about_grpc(caplog)
    link.check_that_each_update_counts_once(2 + updates)
    link.proxy.heal()
    assert link.proxy.num_withheld > 0


@OPERATIONS
@pytest.mark.parametrize("transport", ["auto", "tcp"])
def test_a_connection_that_the_network_has_forgotten_is_replaced(
    make_link: Callable[[str], Link],
    transport: str,
    operation: Callable[[Link], None],
    updates: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    link = make_link(transport)
    link.proxy.forget()
    operation(link)
    assert link.proxy.num_withheld > 0
    assert link.uses_sockets
    assert not lines_about_grpc(caplog)
    assert "was silent for too long; a new one takes its place" in caplog.text
    link.check_that_each_update_counts_once(2 + updates)


def test_a_ps_whose_sockets_are_stuck_is_gone_around(
    make_link: Callable[[str], Link], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    link = make_link("auto")
    stuck, may_go_on = threading.Semaphore(0), threading.Event()

    def keep(_: SocketSession) -> bool:
        stuck.release()
        assert may_go_on.wait(TIMEOUT_S)
        return False

    monkeypatch.setattr(SocketSession, "serve_frame", keep)
    try:
        update(link)
        assert stuck.acquire(timeout=TIMEOUT_S)
        assert not link.uses_sockets
        assert len(lines_about_grpc(caplog)) == 1
        link.check_that_each_update_counts_once(3)
    finally:
        may_go_on.set()


@pytest.mark.parametrize("transport", ["auto", "tcp"])
def test_a_slow_batch_is_no_trouble(
    make_link: Callable[[str], Link],
    transport: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(trust, "SILENCE_S", 0.1)
    link = make_link(transport)
    exchange = link.ps.core.exchange
    slow: list[int] = []
    again = threading.Semaphore(0)

    def slow_once(batch: Any, **keywords: Any) -> Any:
        if batch.sequence and not slow:
            slow.append(batch.sequence)
            again.acquire(timeout=TIMEOUT_S)
        elif batch.sequence in slow:
            again.release()
        return exchange(batch, **keywords)

    monkeypatch.setattr(link.ps.core, "exchange", slow_once)
    update(link)
    assert slow
    assert link.uses_sockets
    assert not lines_about_grpc(caplog)
    link.check_that_each_update_counts_once(3)
