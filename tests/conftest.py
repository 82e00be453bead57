"""What every test gets: polling with a deadline, a check that it leaves nothing behind, and settings of properties."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import psutil
import pytest
from hypothesis import HealthCheck, settings

from ps_protocol.interrupts import SHELTER, num_idle_threads
from ps_server.rules import compiled_row_kernels
from ps_server.rules.optimizers import compiled_loops
from tests import forked_ps
from tests.descriptors import open_descriptors, opened_since
from worker_client.connection.forgotten_failures import FORGOTTEN

_LEAK_TIMEOUT_S = 10.0
_COMPILING_TIMEOUT_S = 60.0
_POLL_INTERVAL_S = 0.01
_MAX_LEAKED_DESCRIPTORS = 64
_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# How long an example of a property takes depends on what else the machine does, and proves nothing here.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_xdist_auto_num_workers() -> int:
    """How many test processes ``--numprocesses auto`` means: two for each core, since many tests wait for processes."""
    return 2 * (os.cpu_count() or 1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Ends the process of a test that may take longer than others, and does not end, as much later."""
    marker = item.get_closest_marker("timeout")
    usual_s, end_s = (float(item.config.getini(each)) for each in ("timeout", "faulthandler_timeout"))
    if marker is not None and marker.args[0] > usual_s:
        assert sys.__stderr__ is not None
        faulthandler.dump_traceback_later(marker.args[0] + end_s - usual_s, exit=True, file=sys.__stderr__)


def pytest_collection_finish() -> None:
    """Has the garbage collector pass over the 20,000 tests and what they import, none of which ever is garbage.

    Else each full collection takes a third of a second, and tests of what nobody holds any more make thousands of them.
    """
    gc.collect()
    gc.freeze()


class Eventually(Protocol):
    """Polls until a condition holds."""

    def __call__(self, condition: Callable[[], Any], *, timeout_s: float = 60.0, message: str = "") -> Any:
        """Returns the first true value of ``condition``; fails the test when time runs out."""
        ...


@pytest.fixture(scope="session")
def eventually() -> Eventually:
    """Waits for a condition: ``eventually(lambda: queue.empty(), message="the queue is drained")``."""

    def poll(condition: Callable[[], Any], *, timeout_s: float = 60.0, message: str = "") -> Any:
        deadline_s = time.monotonic() + timeout_s
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline_s:
                pytest.fail(f"{message or 'the condition'}: not within {timeout_s:g} s; last value: {value!r}")
            time.sleep(_POLL_INTERVAL_S)

    return poll


@pytest.fixture(autouse=True, scope="module")
def _heap_at_rest() -> Iterator[None]:
    """Has the collector pass over what a module leaves, such as clients, as ``pytest_collection_finish`` does."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _ps_tasks_as_copies() -> Iterator[None]:
    """Makes every ps that a test starts a copy of a process that has imported what a ps needs."""
    with forked_ps.copies():
        yield
    forked_ps.end_parents()


@pytest.fixture(scope="module")
def new_interpreters() -> Iterator[None]:
    """Has ps tasks start as those of users do, for a module that tests just that."""
    with forked_ps.new_interpreters():
        yield


@pytest.fixture
def resources() -> Iterator[contextlib.ExitStack]:
    """Closes what a test has entered, when it ends."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    with no_leaks():
        yield


@contextlib.contextmanager
def no_leaks() -> Iterator[None]:
    """Fails a test that leaves a child process or a thread; gRPC's own threads get a moment to end."""
    threads_before = _num_threads()
    children_before = len(_children())
    yield
    deadline_s = time.monotonic() + _LEAK_TIMEOUT_S
    while _num_threads() > threads_before or len(_children()) > children_before:
        if time.monotonic() > deadline_s:
            threads = [thread.name for thread in threading.enumerate()]
            pytest.fail(f"left behind: of the threads {threads} or the child processes {_children()}")
        gc.collect()  # the threads of an executor that nobody holds any more end then
        time.sleep(_POLL_INTERVAL_S)


def _num_threads() -> int:
    """How many threads there are, without those that shelter calls of the main thread and have nothing to do.

    Nor does the one count that compiles rules of a ps: it has as many to do as were asked for, and then ends.

    They are looked at once, as some begin and end meanwhile: one that was not there, but counts as idle a moment later,
    would make one too few before a test, and any that is there after it seem to be left.
    """
    names = Counter(thread.name for thread in threading.enumerate())
    num_sheltering, _ = names.pop(SHELTER, 0), names.pop("kernels", 0)
    return names.total() + max(0, num_sheltering - num_idle_threads())


@pytest.fixture(autouse=True)
def _no_left_signal_handlers() -> Iterator[None]:
    """Fails a test that leaves a handler behind: with it the next Ctrl-C of a test might end the process."""
    before = {signum: signal.getsignal(signum) for signum in _HANDLED}
    yield
    after = {signum: signal.getsignal(signum) for signum in _HANDLED}
    if after != before:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        pytest.fail(f"left behind: signal handlers {after} instead of {before}")


@pytest.fixture(autouse=True)
def _levels_of_logs() -> Iterator[None]:
    """Puts back what a ps task in the test's own process, or a program with ``tf.logging``, says of what is logged."""
    loggers = [logging.getLogger(name) for name in ("ps_server", "tensorflow")]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.fixture(autouse=True, scope="module")
def _settings_of_the_process() -> Iterator[None]:
    """Puts back what a ps task in the test's own process sets for all of it.

    Else it depended on the modules that this process has tested before whether rules are compiled beside a test, which
    takes memory, and whether what was compiled does the work or NumPy.
    """
    modules = (compiled_loops, compiled_row_kernels)
    compilers, switch_interval_s = [each._compiler for each in modules], sys.getswitchinterval()
    yield
    for module, compiler in zip(modules, compilers, strict=True):
        assert module.wait(_COMPILING_TIMEOUT_S), "the compiler of rules has not ended"
        module._compiler = compiler  # type: ignore[attr-defined]
    sys.setswitchinterval(switch_interval_s)


@pytest.fixture(autouse=True)
def _no_forgotten_failures() -> None:
    """Has a failure that nobody asks for be told though one like it, of the test before, was told within the second."""
    FORGOTTEN._last = None
    FORGOTTEN._num_untold = 0


@pytest.fixture(autouse=True, scope="session")
def _no_descriptor_leaks() -> Iterator[None]:
    """Fails the session if it ends with many more open files and sockets than it began with."""
    before = open_descriptors()
    yield
    left = opened_since(before)
    if left.total() > _MAX_LEAKED_DESCRIPTORS:
        pytest.fail(f"{left.total()} descriptors were left open, of these most: {left.most_common(10)}")


def _children() -> list[psutil.Process]:
    try:
        # Asks the kernel whether there is any child at all, which is a thousand times faster than to look for them.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return []
    return [child for child in psutil.Process().children() if child.pid not in forked_ps.parent_pids()]
