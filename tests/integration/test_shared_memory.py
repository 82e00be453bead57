"""Shared memory between real processes, and between a ps and a client that share nothing else."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import InvalidArgumentError, UnavailableError
from ps_protocol.memory.segment_mapping import IS_SUPPORTED
from ps_protocol.stopped_clusters import note_stopped
from ps_server.core.parameter_server import ParameterServer
from ps_server.process.server import PsServer
from ps_server.transport.shared_memory.registry import SegmentRegistry
from tests.conftest import Eventually
from worker_client.client import Client, connect
from worker_client.initializers import Constant
from worker_client.scopes.variable_scope import get_variable
from worker_client.transport.shared_memory.pool import Lease, SegmentPool
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.partitioners import fixed_size_partitioner
from worker_client.variables.variable import Variable

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not IS_SUPPORTED, reason="this system has no memfds"),
]

TIMEOUT_S = 120.0
MIB = 1024**2
SIZE = 1_000_000  # float32 elements of a variable: large enough to be shared
WAYS = ("shm", "auto", "unix", "tcp", "grpc")


class LocalPs:
    """A ps task in this process, reached over its sockets."""

    def __init__(self, resources: ExitStack, *, shared_memory_limit_bytes: int = 512 * MIB):
        self.core = ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0)
        self.server = PsServer(self.core, host="127.0.0.1", port=0, shared_memory_limit_bytes=shared_memory_limit_bytes)
        self.address = f"127.0.0.1:{self.server.start()}"
        self._resources = resources
        resources.callback(self.server.stop, "the test is over", timeout_s=TIMEOUT_S)

    @property
    def segments(self) -> SegmentRegistry:
        assert self.server.segments is not None
        return self.server.segments

    def connect(self, transport: str = "shm") -> Client:
        client = connect(ClusterSpec({"ps": [self.address]}), transport=transport)
        self._resources.callback(client.close)
        return client

    def break_connections(self) -> int:
        """Returns how many there were."""
        assert self.server.sockets is not None
        num_broken = 0
        for sock in list(self.server.sockets._connections):
            with contextlib.suppress(OSError):  # it has just ended by itself
                sock.shutdown(socket.SHUT_RDWR)
                num_broken += 1
        return num_broken


@pytest.fixture
def local_ps(resources: ExitStack) -> LocalPs:
    return LocalPs(resources)


def variable(client: Client, name: str = "v", *, size: int = SIZE) -> Variable:
    with client.as_default():
        made = get_variable(name, [size], initializer=Constant(1.0))
    assert isinstance(made, Variable)
    return made


def memfd_maps(pid: int) -> int:
    """Segments that a process has mapped."""
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").count("/memfd:shardscope")


def num_descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if each.levelno >= logging.WARNING and each.name[:6] == "worker"]


# -- what a client gets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", WAYS)
def test_every_way_gives_the_same_values(transport: str, local_ps: LocalPs) -> None:
    weights = variable(local_ps.connect(transport))
    delta = np.arange(SIZE, dtype=np.float32)
    buffer = weights.push_buffer()
    assert buffer.shape == (SIZE,)
    assert buffer.dtype == np.float32
    assert buffer.flags.writeable
    buffer[:] = delta
    weights.assign_add(delta)
    weights.assign_add(buffer)
    weights.assign_add(buffer, wait=False).result(TIMEOUT_S)
    expected = 1 + 3 * delta
    out = np.empty(SIZE, np.float32)
    view = weights.read_value(copy=False)
    copy = weights.read_value()
    np.testing.assert_array_equal(weights.read_value(out=out), expected)
    np.testing.assert_array_equal(view, expected)
    np.testing.assert_array_equal(copy, expected)
    assert copy.flags.writeable
    assert not view.flags.writeable
    rows = weights.gather(np.arange(0, SIZE, 2))
    np.testing.assert_array_equal(rows, expected[::2])
    weights.scatter_update(np.arange(SIZE), buffer)
    np.testing.assert_array_equal(weights.read_value(), delta)
    np.testing.assert_array_equal(view, expected, "a view is of one version for ever")
    assert bool(local_ps.segments.num_segments) == (transport in ("shm", "auto"))


def test_what_is_read_and_written_in_place_lies_in_memory_of_the_ps(local_ps: LocalPs) -> None:
    weights = variable(local_ps.connect())
    before = memfd_ranges()
    buffer, view, copy = weights.push_buffer(), weights.read_value(copy=False), weights.read_value()
    assert len(memfd_ranges()) > len(before)
    for array, is_shared in ((buffer, True), (view, True), (copy, False)):
        address = array.__array_interface__["data"][0]
        assert any(start <= address < end for start, end in memfd_ranges()) == is_shared


def memfd_ranges() -> list[tuple[int, int]]:
    """Where the segments are mapped that this process has, as ps and as client."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    spans = [line.split()[0].split("-") for line in lines if "/memfd:shardscope" in line]
    return [(int(start, 16), int(end, 16)) for start, end in spans]


def test_an_update_in_place_is_not_copied(local_ps: LocalPs, monkeypatch: pytest.MonkeyPatch) -> None:
    client = local_ps.connect()
    weights = variable(client)
    with client.as_default():
        table = get_variable("table", [SIZE // 16, 16], initializer=Constant(0.0))
    buffer, rows = weights.push_buffer(), table.push_buffer()
    buffer[:], rows[:] = 2, 3
    leased: list[int] = []
    lease = SegmentPool.lease

    def counting(self: SegmentPool, size_bytes: int, *, timeout_s: float) -> Lease | None:
        leased.append(size_bytes)
        return lease(self, size_bytes, timeout_s=timeout_s)

    monkeypatch.setattr(SegmentPool, "lease", counting)
    weights.assign_add(buffer)
    table.assign(rows)
    assert leased == []
    indices = np.arange(2000, dtype=np.int64)
    table.scatter_add(indices, rows[4000:6000])
    assert leased == [indices.nbytes]
    leased.clear()
    weights.assign_add(np.full(SIZE, 4, np.float32))
    assert leased == [4 * SIZE]
    assert set(weights.read_value()) == {7.0}
    assert (table.read_value()[:2001, 0] == [*[6.0] * 2000, 3.0]).all()


def test_views_are_good_until_they_are_dropped_and_then_their_memory_is_used_again(local_ps: LocalPs) -> None:
    weights = variable(local_ps.connect())
    views = []
    for step in range(5):
        views.append(weights.read_value(copy=False))
        weights.assign_add(1.0)
        assert set(views[step][:10]) == {step + 1.0}
    assert [set(view[::1000]) for view in views] == [{step + 1.0} for step in range(5)]
    used_bytes = local_ps.segments.used_bytes
    del views
    for _ in range(100):
        weights.read_value(copy=False)
        weights.read_value()
    assert local_ps.segments.used_bytes == used_bytes


def test_many_variables_at_once(local_ps: LocalPs) -> None:
    client = local_ps.connect()
    weights = [variable(client, f"v{number}", size=size) for number, size in enumerate((3, 40_000, 1, 90_001))]
    buffers = client.push_buffers(weights)
    for number, buffer in enumerate(buffers):
        buffer[:] = number
    client.assign_add_all(zip(weights, buffers, strict=True))
    for values in (client.read_all(weights, copy=False), client.read_all(weights)):
        assert [set(value) for value in values] == [{1.0}, {2.0}, {3.0}, {4.0}]
    assert not any(value.flags.writeable for value in client.read_all(weights, copy=False))
    outs = [np.empty(each.shape, np.float32) for each in weights]
    client.read_all(weights, out=outs)
    assert [set(value) for value in outs] == [{1.0}, {2.0}, {3.0}, {4.0}]


def test_partitioned_variables_have_ordinary_buffers_and_read_only_values(local_ps: LocalPs) -> None:
    client = local_ps.connect()
    with client.as_default():
        whole = get_variable("whole", [SIZE, 2], initializer=Constant(1.0), partitioner=fixed_size_partitioner(3))
    assert isinstance(whole, PartitionedVariable)
    (buffer,) = client.push_buffers([whole])
    buffer[:] = 1
    client.assign_add_all([(whole, buffer)])
    (value,) = client.read_all([whole], copy=False)
    assert value.shape == (SIZE, 2)
    assert not value.flags.writeable
    assert (value == 2).all()


def test_a_value_is_either_put_into_an_array_or_not_copied(local_ps: LocalPs) -> None:
    client = local_ps.connect()
    weights = variable(client)
    out = np.empty(SIZE, np.float32)
    with pytest.raises(InvalidArgumentError, match="copy=False"):
        weights.read_value(out=out, copy=False)
    with pytest.raises(InvalidArgumentError, match="copy=False"):
        client.read_all([weights], out=[out], copy=False)


# -- when things break -------------------------------------------------------------------------------------------------


def test_after_a_broken_connection_memory_is_not_used_again(local_ps: LocalPs, eventually: Eventually) -> None:
    """The ps may still use what a batch without an answer has named, so none of it is handed out again."""
    weights = variable(local_ps.connect())
    view, buffer = weights.read_value(copy=False), weights.push_buffer()
    buffer[:] = 1
    local_ps.break_connections()
    weights.assign_add(buffer)
    weights.assign_add(buffer)
    assert set(weights.read_value(copy=False)) == {3.0}
    assert set(view) == {1.0}
    buffer[:] = 2
    weights.assign_add(buffer)
    assert set(weights.read_value()) == {5.0}
    weights.assign_add(weights.read_value(copy=False))
    assert set(weights.read_value()) == {10.0}


def test_segments_that_the_ps_no_longer_knows_are_replaced(local_ps: LocalPs, caplog: pytest.LogCaptureFixture) -> None:
    client = local_ps.connect()
    weights = variable(client)
    buffer = weights.push_buffer()
    buffer[:] = 1
    weights.assign_add(buffer)
    local_ps.segments.forget(client.incarnation, [number for _, number in local_ps.segments._segments])
    weights.assign_add(buffer)
    assert set(weights.read_value(copy=False)) == {3.0}
    assert local_ps.segments.num_segments > 0
    assert any("has no segment" in each.message and "connection ended" in each.message for each in caplog.records)


def test_threads_count_right_while_their_connections_break(local_ps: LocalPs) -> None:
    """Each thread has a variable whose elements are all alike, unless memory was handed out while it was in use."""
    client = local_ps.connect()
    num_threads, num_steps, breaks_every = 4, 24, 6
    weights = [variable(client, f"v{number}", size=100_000) for number in range(num_threads)]
    num_broken: list[int] = []

    def work(number: int) -> None:
        expected = 1.0
        for step in range(num_steps):
            delta = float(number + step)
            if step % 2:
                buffer = weights[number].push_buffer()
                buffer[:] = delta
                weights[number].assign_add(buffer)
            else:
                weights[number].assign_add(np.full(100_000, delta, np.float32))
            expected += delta
            value = weights[number].read_value(copy=bool(step % 3))
            assert set(value) == {expected}
            if number == 0 and step % breaks_every == breaks_every - 1:
                num_broken.append(local_ps.break_connections())

    with ThreadPoolExecutor(num_threads) as executor:
        for done in [executor.submit(work, number) for number in range(num_threads)]:
            done.result(TIMEOUT_S)
    assert len(num_broken) == num_steps // breaks_every
    assert all(num_broken)


def test_a_limit_that_is_reached_sends_tensors_over_the_socket(
    resources: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    local_ps = LocalPs(resources, shared_memory_limit_bytes=2 * MIB)
    weights = variable(local_ps.connect())
    for _ in range(3):
        weights.assign_add(np.ones(SIZE, np.float32))
    assert set(weights.read_value(copy=False)) == {4.0}
    buffer = weights.push_buffer()
    buffer[:] = 1
    weights.assign_add(buffer)
    assert set(weights.read_value()) == {5.0}
    assert local_ps.segments.used_bytes == 0
    (warning,) = warnings_in(caplog)
    assert "go over the socket instead" in warning
    assert "--shared-memory-limit" in warning


@pytest.mark.parametrize(("function", "number"), [("posix_fallocate", errno.ENOSPC), ("memfd_create", errno.ENOMEM)])
def test_a_system_without_memory_left_sends_tensors_over_the_socket(
    function: str,
    number: int,
    local_ps: LocalPs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures: list[str] = []

    def fail(*_arguments: object) -> None:
        failures.append(function)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, function, fail)
    weights = variable(local_ps.connect())
    weights.assign_add(np.ones(SIZE, np.float32))
    assert set(weights.read_value()) == {2.0}
    assert failures == [function], "the system was asked once, and not again at once"
    (warning,) = warnings_in(caplog)
    assert os.strerror(number) in warning
    assert local_ps.segments.used_bytes == 0


def test_memory_that_is_asked_for_and_not_shared_is_an_error(resources: ExitStack) -> None:
    local_ps = LocalPs(resources, shared_memory_limit_bytes=0)
    note_stopped([local_ps.address])  # as if a cluster that this process has stopped had had its port
    with pytest.raises(UnavailableError, match="it shares no memory with this host; start it there with --transports"):
        connect(ClusterSpec({"ps": [local_ps.address]}), transport="shm", connect_timeout_s=6.0)


def test_a_client_that_leaves_gives_its_memory_back(local_ps: LocalPs, eventually: Eventually) -> None:
    client = local_ps.connect()
    view = variable(client).read_value(copy=False)
    assert local_ps.segments.used_bytes > 0
    client.close()
    eventually(lambda: local_ps.segments.num_segments == 0, message="the ps has dropped the client's segments")
    assert set(view) == {1.0}
    del view
    gc.collect()
    eventually(lambda: local_ps.segments.used_bytes == 0, message="the ps has given the memory back")


# -- real processes ----------------------------------------------------------------------------------------------------

CLIENTS = """
import sys
import numpy as np
import worker_client.transport.shared_memory.pool as segment_pool
from worker_client import connect, constant_initializer, get_variable

segment_pool.MIN_SEGMENT_BYTES = 1
held = []
for number in range(int(sys.argv[2])):
    client = connect({"ps": [sys.argv[1]]}, task_index=number, transport="shm")
    with client.as_default():
        weights = get_variable("v", [300_000], initializer=constant_initializer(1.0))
    buffer = weights.push_buffer()
    buffer[:] = 0
    weights.assign_add(buffer)
    held.append((client, buffer, weights.read_value(copy=False)))
print("ready", flush=True)
sys.stdin.read()
"""


class Process:
    """A process of this repository that says in a line when it is ready."""

    def __init__(self, resources: ExitStack, arguments: list[str], *, log: Path | None = None):
        with ExitStack() as files:
            stderr: Any = files.enter_context(log.open("wb")) if log else subprocess.DEVNULL
            self.popen = subprocess.Popen(
                [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        resources.callback(self.kill)
        assert self.popen.stdout is not None
        self.ready = self.popen.stdout.readline()
        assert self.ready, log.read_text(encoding="utf-8") if log else ""

    @property
    def pid(self) -> int:
        return self.popen.pid

    def kill(self) -> None:
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(TIMEOUT_S)
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            pipe.close()


StartPs = Callable[..., Process]


@pytest.fixture
def start_ps(resources: ExitStack, tmp_path: Path) -> StartPs:
    def start(*arguments: str) -> Process:
        cluster = ["--cluster", "ps=127.0.0.1:1", "--task-index", "0", "--port", "0", "--bind", "127.0.0.1"]
        return Process(resources, ["-m", "ps_server", *cluster, *arguments], log=tmp_path / "ps.log")

    return start


def named_memory() -> set[Path]:
    """Memory that has a name; other tests have folders there, and semaphores of ``multiprocessing``."""
    return {path for path in Path("/dev/shm").iterdir() if not path.is_dir() and not path.name.startswith("sem.")}


def address_of(ps: Process) -> str:
    return f"127.0.0.1:{json.loads(ps.ready)['port']}"


def test_fifty_clients_that_are_killed_leave_nothing(
    start_ps: StartPs, resources: ExitStack, eventually: Eventually
) -> None:
    ps = start_ps()
    named_before = named_memory()
    bystander = connect({"ps": [address_of(ps)]}, observer="update", transport="shm")
    resources.callback(bystander.close)
    weights = variable(bystander, "w")
    weights.assign_add(np.ones(SIZE, np.float32))
    mapped_before, open_before = memfd_maps(ps.pid), num_descriptors(ps.pid)
    assert mapped_before > 0
    for _ in range(5):
        clients = Process(resources, ["-c", CLIENTS, address_of(ps), "10"])
        assert memfd_maps(ps.pid) >= mapped_before + 10
        clients.kill()
        eventually(lambda: memfd_maps(ps.pid) == mapped_before, message="the ps has unmapped what it shared")
    eventually(lambda: num_descriptors(ps.pid) <= open_before + 2, message="the ps has closed what belonged to them")
    assert named_memory() <= named_before
    assert set(weights.read_value()) == {2.0}


def test_a_ps_that_is_killed_leaves_nothing(start_ps: StartPs, resources: ExitStack, eventually: Eventually) -> None:
    ps = start_ps()
    gc.collect()  # what tests before this one have left
    named_before, mapped_before = named_memory(), memfd_maps(os.getpid())
    client = connect({"ps": [address_of(ps)]}, transport="shm", operation_timeout_s=20.0)
    weights = variable(client)
    view, buffer = weights.read_value(copy=False), weights.push_buffer()
    ps.kill()
    buffer[:] = view + 1  # both stay mapped, and nothing is raised or signalled
    assert set(buffer) == {2.0}
    client.close()
    del view, buffer
    gc.collect()
    eventually(lambda: memfd_maps(os.getpid()) <= mapped_before, message="the last thread that held it has let go")
    assert named_memory() <= named_before


@pytest.mark.parametrize("arguments", [["--shared-memory-limit", "0"], ["--transports", "grpc,socket"]])
def test_a_ps_that_shares_no_memory_is_reached_over_its_socket(
    arguments: list[str], start_ps: StartPs, resources: ExitStack
) -> None:
    ps = start_ps(*arguments)
    client = connect({"ps": [address_of(ps)]}, transport="auto")
    resources.callback(client.close)
    weights = variable(client)
    weights.assign_add(np.ones(SIZE, np.float32))
    assert set(weights.read_value(copy=False)) == {2.0}
    assert memfd_maps(ps.pid) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_full_dev_shm_does_not_matter(resources: ExitStack, tmp_path: Path) -> None:
    script = (
        "mount -t tmpfs -o size=4k tmpfs /dev/shm && "
        "(head -c 1M /dev/zero > /dev/shm/full 2>/dev/null; true) && "
        f"exec {sys.executable} -m ps_server --cluster ps=127.0.0.1:1 --task-index 0 --port 0 --bind 127.0.0.1"
    )
    can_unshare = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
    if not can_unshare:
        pytest.skip("this system does not let a process have mounts of its own")
    launcher = "import os, sys; os.execvp('unshare', ['unshare', '--mount', 'sh', '-c', sys.argv[1]])"
    ps = Process(resources, ["-c", launcher, script], log=tmp_path / "ps.log")
    free = os.statvfs(f"/proc/{ps.pid}/root/dev/shm")
    assert free.f_bavail == 0, "the fault is there"
    client = connect({"ps": [address_of(ps)]}, transport="shm")
    resources.callback(client.close)
    weights = variable(client)
    weights.assign_add(np.ones(SIZE, np.float32))
    assert set(weights.read_value(copy=False)) == {2.0}
    assert memfd_maps(ps.pid) > 0
