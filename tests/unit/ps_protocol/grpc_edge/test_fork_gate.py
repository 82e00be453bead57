"""Calls of gRPC are not on their way while the process is forked, or the child may not use gRPC."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ps_protocol.errors import FailedPreconditionError
from ps_protocol.grpc_edge.fork_gate import ForkGate

TIMEOUT_S = 60.0


def test_a_fork_waits_for_a_call_and_holds_off_the_next() -> None:
    gate = ForkGate(TIMEOUT_S)
    begun, over = threading.Event(), threading.Event()
    order: list[str] = []

    def first() -> None:
        begun.set()
        over.wait(TIMEOUT_S)
        order.append("first call")

    def fork() -> None:
        gate.before_fork()
        order.append("fork")
        gate.after_fork_in_parent()

    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(gate.call, first)]
        assert begun.wait(TIMEOUT_S)
        forked = pool.submit(fork)
        while not gate._forks:
            assert not forked.done(), "the fork does not wait"
        calls.append(pool.submit(gate.call, order.append, "second call"))
        over.set()
        for each in (*calls, forked):
            each.result(TIMEOUT_S)
    assert order == ["first call", "fork", "second call"]


def test_a_child_that_was_forked_in_spite_of_a_call_is_refused_with_the_remedy() -> None:
    gate = ForkGate(0.0)

    def fork() -> None:
        gate.before_fork()
        gate.after_fork_in_child()

    with ThreadPoolExecutor(1) as pool:
        begun, over = threading.Event(), threading.Event()

        def call() -> None:
            begun.set()
            over.wait(TIMEOUT_S)

        parents = pool.submit(gate.call, call)
        assert begun.wait(TIMEOUT_S)
        fork()
        with pytest.raises(FailedPreconditionError, match="'spawn'"):
            gate.call(over.set)
        over.set()
        with pytest.raises(IndexError):  # there is no such thread in a real child
            parents.result(TIMEOUT_S)


def test_a_fork_whose_wait_was_interrupted_at_once_holds_nothing_off() -> None:
    gate = ForkGate(TIMEOUT_S)
    gate.after_fork_in_parent()
    assert gate.call(lambda: 1) == 1


class KeptStream:
    """A stream that ends when it is told to, a moment later."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []
        self.has_ended = False

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.callbacks.append(callback)
        return not self.has_ended

    def end(self) -> None:
        self.has_ended = True
        for each in self.callbacks:
            each()


def test_a_fork_has_streams_end_that_are_kept_open() -> None:
    gate, stream = ForkGate(TIMEOUT_S), KeptStream()
    assert gate.keep(lambda: stream, stream.end) is stream
    gate.before_fork()
    assert stream.has_ended
    gate.after_fork_in_child()
    gate.call(lambda: None)  # the child may use gRPC


def test_a_child_that_was_forked_beside_a_stream_is_refused() -> None:
    gate, asked = ForkGate(0.01), []
    gate.keep(KeptStream, lambda: asked.append("to end"))
    gate.before_fork()
    gate.after_fork_in_child()
    assert asked
    with pytest.raises(FailedPreconditionError, match="forked while a call"):
        gate.call(lambda: None)


def test_a_stream_that_has_ended_at_once_holds_up_no_fork() -> None:
    gate, stream = ForkGate(TIMEOUT_S), KeptStream()
    stream.end()
    gate.keep(lambda: stream, lambda: None)
    gate.before_fork()


def test_a_stream_that_cannot_be_opened_holds_up_no_fork() -> None:
    gate = ForkGate(TIMEOUT_S)

    def fail() -> KeptStream:
        raise OSError("no channel")

    with pytest.raises(OSError, match="no channel"):
        gate.keep(fail, lambda: None)
    gate.before_fork()
