"""The network between a client and a ps breaks, stalls, or loses everything without a word."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.service_types import DurabilityMode
from tests.chaos import operations
from tests.chaos.namespaces import OtherNetwork
from tests.chaos.operations import Operation
from tests.chaos.proxy import Direction, Proxy
from tests.chaos.ps_processes import PsTask
from tests.chaos.testbed import PsInProcess, connected, impatient_settings
from tests.conftest import Eventually

pytestmark = [pytest.mark.chaos, pytest.mark.usefixtures("impatient")]

TIMEOUT_S: Final = 30.0
PATIENCE_S: Final = 0.3
"""How long the client waits for an answer before it asks whether the ps is there."""


class Link:
    """A ps task, and a client whose every way to it leads through a proxy."""

    def __init__(self, transport: str, resources: ExitStack, data_dir: Path):
        ps = PsInProcess(0, DurabilityMode.JOURNAL, data_dir, num_ps=1)
        resources.callback(ps.close)
        ports = [ps.port, *([] if transport == "grpc" else [ps.socket_port])]
        self.proxies = [resources.enter_context(Proxy(port)) for port in ports]
        self.client = connected([self.proxies[0].address], transport, impatient_settings(PATIENCE_S))
        resources.enter_context(self.client)

    @property
    def data(self) -> Proxy:
        """The one that batches go through."""
        return self.proxies[-1]

    def in_background(self, variable: ss.Variable) -> Future[Any]:
        """Begins an update."""
        return variable.assign_add(np.ones(variable.shape, np.float32), wait=False)


@pytest.fixture(params=["grpc", "tcp"])
def link(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Link]:
    with ExitStack() as resources:
        yield Link(request.param, resources, tmp_path)


@pytest.mark.parametrize("operation", [operations.assign_add, operations.window], ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    ("size_bytes", "direction"),
    [(1, Direction.TO_PS), (150_000, Direction.TO_PS), (1, Direction.TO_CLIENT)],
    ids=["first_byte", "middle", "reply"],
)
def test_a_connection_that_breaks_in_an_update_counts_it_once(
    link: Link, operation: Operation, size_bytes: int, direction: Direction
) -> None:
    steps = operation(link.client, "variable")
    next(steps)
    link.data.cut_after(size_bytes, direction)
    next(steps)
    assert link.data.num_cut == 1
    assert next(steps, "done") == "done"


def test_a_connection_that_breaks_in_a_reply_is_read_again(link: Link) -> None:
    steps = operations.read(link.client, "variable")
    next(steps)
    link.data.cut_after(150_000, Direction.TO_CLIENT)
    next(steps)
    assert link.data.num_cut == 1
    assert next(steps, "done") == "done"


@pytest.mark.parametrize("loses", [False, True], ids=["stalls", "loses_all"])
def test_a_network_that_is_silent_is_waited_for_with_a_reason(
    link: Link, loses: bool, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    variable = ss.get_variable("variable", (2, 3), np.float32, initializer=ss.zeros_initializer())
    for proxy in link.proxies:
        if loses:
            proxy.black_hole()
        else:
            proxy.stall()
    update = link.in_background(variable)
    waiting = f"waiting for ps:0 at {link.proxies[0].address}"
    eventually(lambda: waiting in caplog.text or update.done(), message="the client says what it waits for")
    assert not update.done(), update.exception()
    for proxy in link.proxies:
        proxy.heal()
    update.result(TIMEOUT_S)
    assert any(proxy.num_withheld for proxy in link.proxies)
    np.testing.assert_array_equal(variable.read_value(), np.ones((2, 3), np.float32))
    assert variable.version == 1
    assert "is back after" in caplog.text


def test_a_network_that_breaks_again_and_again_loses_nothing(link: Link) -> None:
    variable = ss.get_variable("variable", (2, 3), np.float32, initializer=ss.zeros_initializer())
    for number in range(1, 11):
        update = link.in_background(variable)
        for proxy in link.proxies:
            proxy.cut()
        update.result(TIMEOUT_S)
        assert variable.version == number
    assert sum(proxy.num_cut for proxy in link.proxies) >= 10
    np.testing.assert_array_equal(variable.read_value(), np.full((2, 3), 10, np.float32))


@pytest.mark.integration
@pytest.mark.parametrize("transport", ["grpc", "tcp"])
def test_a_cable_that_is_pulled_out_is_waited_for_with_a_reason(
    tmp_path: Path, transport: str, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    with (
        OtherNetwork() as other,
        PsTask(tmp_path, "journal", host=other.host, command=other.command).start() as ps,
        connected([ps.address], transport, impatient_settings(PATIENCE_S)),
    ):
        variable = ss.get_variable("variable", (2, 3), np.float32, initializer=ss.zeros_initializer())
        variable.assign_add(np.ones((2, 3), np.float32))
        other.pull_out()
        updates = [variable.assign_add(np.ones((2, 3), np.float32), wait=False) for _ in range(3)]
        waiting = f"waiting for ps:0 at {ps.address}"
        eventually(lambda: waiting in caplog.text or updates[0].done(), message="the client says what it waits for")
        assert not any(update.done() for update in updates)
        other.plug_in()
        for update in updates:
            update.result(TIMEOUT_S)
        np.testing.assert_array_equal(variable.read_value(), np.full((2, 3), 4, np.float32))
