"""Interrupts at each place where a connection begins and ends: none leaves a thread behind that nobody can end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.conftest import Eventually
from tests.interrupted_places import CLIENT, Interrupt, interrupted_at
from tests.unit.worker_client.clusters import SPEC, InProcessCluster
from worker_client import client as client_module
from worker_client.client import Client, connect
from worker_client.default_client import get_default_client
from worker_client.graph import defaults
from worker_client.objects.fifo_queue import FIFOQueue
from worker_client.transport.in_process import endpoint_of


def leave(client: Client) -> None:
    with client:
        pass


def fail(client: Client) -> None:
    with contextlib.suppress(ValueError), client:
        raise ValueError


def heartbeats() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name == "shardscope-heartbeat"}


@pytest.fixture
def no_heartbeat_left(eventually: Eventually) -> Iterator[Callable[[], None]]:
    """Waits for the end of the heartbeats that were not there before the test."""
    before = heartbeats()

    def check() -> None:
        eventually(lambda: heartbeats() <= before, timeout_s=20.0, message="the heartbeats have ended")

    yield check
    check()


@pytest.mark.parametrize("end", [Client.close, leave, fail])
def test_an_interrupted_end_leaves_the_connection_open_or_takes_all_steps(
    cluster: InProcessCluster, end: Callable[[Client], None], no_heartbeat_left: Callable[[], None]
) -> None:
    num_ended, number, reached = 0, 0, True
    while reached:
        number += 1
        client = cluster.client()
        reached = interrupted_at(number, partial(end, client), CLIENT)
        if client in defaults.open_clients():
            client.close()
            for entry in defaults.STACK:  # of a block that was interrupted as its end began
                defaults.STACK.cut(entry)
        else:
            num_ended += reached
        assert defaults.STACK.innermost is None
        no_heartbeat_left()
        assert repr(client).endswith("closed>")
        assert [client.fanout.handle(index).state for index in range(2)] == ["closed", "closed"]
    assert num_ended > 5, "the interrupts have hit nothing"


def test_an_interrupt_as_a_block_is_left_ends_the_connection(
    cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(stack: defaults.DefaultStack, entry: defaults.Default) -> None:
        raise Interrupt

    client = cluster.client()
    with monkeypatch.context() as patched:
        patched.setattr(defaults.DefaultStack, "pop", interrupted)
        with pytest.raises(Interrupt):
            leave(client)
    assert repr(client).endswith("closed>")
    assert defaults.STACK.innermost is None


@pytest.mark.parametrize("find", [get_default_client, lambda: FIFOQueue(3, "int64")], ids=["client", "queue"])
def test_an_interrupt_comes_out_of_what_finds_the_default_connection(
    cluster: InProcessCluster, find: Callable[[], object]
) -> None:
    with cluster.client() as outer, outer.as_default():
        number = 1
        while interrupted_at(number, find, CLIENT):  # one that is lost is a warning, and so an error
            number += 1
        assert number > 3, "the interrupts have hit nothing"


@pytest.fixture
def reachable(cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has ``connect`` find the ps tasks of this process at the addresses of the cluster spec."""
    tasks = dict(zip(SPEC.ps_addresses(), cluster.tasks, strict=True))
    monkeypatch.setattr(client_module, "connect_endpoint", lambda address, *_, **__: endpoint_of(tasks[address]))


@pytest.mark.usefixtures("reachable")
def test_an_interrupt_at_each_place_of_a_connect_leaves_nothing_open(no_heartbeat_left: Callable[[], None]) -> None:
    number = 0
    while interrupted_at(number := number + 1, lambda: connect(SPEC), CLIENT):
        assert not defaults.open_clients()
        no_heartbeat_left()
    assert number > 100, "the interrupts have hit nothing"
    [connected] = defaults.open_clients()
    connected.close()


@pytest.mark.usefixtures("reachable")
def test_an_interrupt_as_a_connection_is_returned_ends_it(
    monkeypatch: pytest.MonkeyPatch, no_heartbeat_left: Callable[[], None]
) -> None:
    made = []

    def interrupted(*args: Any, **kwargs: Any) -> None:
        made.append(Client(*args, **kwargs))
        raise Interrupt

    with connect(SPEC, task_index=1) as other:
        with monkeypatch.context() as patched:
            patched.setattr(client_module, "Client", interrupted)
            with pytest.raises(Interrupt):
                connect(SPEC)
        assert defaults.open_clients() == [other]
        assert [repr(each).rpartition(" ")[2] for each in made] == ["closed>"]
    no_heartbeat_left()
