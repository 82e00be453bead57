"""What a forked child finds: locks that are free, descriptors of its parent closed, objects that know."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ps_protocol import forks
from tests.forked import in_child

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@contextmanager
def held_by_another_thread(lock: threading.Lock) -> Iterator[None]:
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            over.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    try:
        yield
    finally:
        over.set()
        thread.join(60)


def test_a_lock_that_another_thread_held_is_free_in_the_child() -> None:
    lock, plain = forks.new_lock(), threading.Lock()
    with held_by_another_thread(lock), held_by_another_thread(plain):
        free, plain_free = in_child(lambda: (lock.acquire(blocking=False), plain.acquire(blocking=False)))
        assert lock.locked(), "the parent's thread holds it all the time"
    assert free
    assert not plain_free, "which is what new_lock is there for"


def test_a_descriptor_is_closed_in_the_child_alone() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        forks.close_in_child(ours)
        assert in_child(ours.fileno) == -1
        assert ours.fileno() != -1
        ours.sendall(b"still there")
        assert theirs.recv(100) == b"still there"


def test_the_child_alone_is_told_once() -> None:
    told = []

    class Inherited:
        def become_copy(self) -> None:
            told.append(os.getpid())

    inherited = Inherited()
    forks.tell_in_child(inherited)
    assert in_child(lambda: told == [os.getpid()])
    assert told == []


def test_what_is_gone_is_not_told() -> None:
    told = []

    class Inherited:
        def become_copy(self) -> None:
            told.append(True)

    forks.tell_in_child(Inherited())
    assert in_child(lambda: told) == []
