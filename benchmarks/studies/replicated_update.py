"""Where the time of an update with a backup goes: ``python -m benchmarks.studies.replicated_update [--rounds 10]``.

Four tables:

- *bare chain*: processes that only pass bytes on, and back, over the same kind of socket: what one more process
  costs at least. With both ways to wait, and with and without computing in each process, which takes longer there than
  again and again in one process.
- *updates*: one client that waits for each answer, with and without a backup, in turns: wall time, and processor time
  of each process, as the kernel counts it (Linux only).
- *steps*: what primary and backup compute for an update of 4 B, each step alone, in one thread that waits for no other.
  In the processes the same code takes longer, since it is cold in the processor's caches.
- *large*: what moves and adds the bytes of a push, each part alone.

Printed are least, lowest tenth and median of many: the least is what the machine does when nobody disturbs it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import multiprocessing
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import numpy as np

import worker_client
from benchmarks.harness.tables import auto_duration, size
from ps_cluster import LocalCluster
from ps_protocol.cluster_spec import BACKUP_JOB, ClusterSpec
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Batch, BatchReply, Declare, Result, Update, UpdateRule, VariableSpec
from ps_protocol.sockets import options
from ps_protocol.sockets.frames import FrameKind
from ps_protocol.sockets.framing import Framing
from ps_protocol.sockets.stream import SCRATCH_BYTES, SocketStream
from ps_protocol.task_id import TaskId
from ps_protocol.v1 import replication_pb2
from ps_server.core.parameter_server import ParameterServer
from ps_server.log.logged_state import LoggedState
from ps_server.log.record_bytes import decode_record_bytes
from ps_server.log.records import AppliedBatch, ClientJoined, Declared, LoggedRecord
from ps_server.log.state_image import StateImage
from ps_server.log.state_parts import StateParts
from ps_server.replication.follower import Follower, FollowStream
from ps_server.replication.stream_frames import record_frame, record_in
from worker_client.variables.variable import Variable

TIMEOUT_S: Final = 60.0
PASSED_BYTES: Final = 100
CHAINS: Final = ((2, False), (3, False), (2, True), (3, True))
"""Processes, and whether each but the first computes something for a message."""

ELEMENTS: Final = (1, 1 << 14, 1 << 18, 1 << 22, 25 << 20)
_STEPS_A_TURN: Final = 500
_CLIENT: Final = UUID(int=1)
_CLUSTER: Final = ClusterSpec({"ps": ["localhost:1"], "backup": ["localhost:2"]})
_NAME: Final = "v"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table as the decision pages have them."""
    print(f"| {title} | {' | '.join(columns)} |")
    print(f"|---|{'---:|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(flush=True)


def spread(taken_s: Sequence[float]) -> list[str]:
    """Least, lowest tenth and median, as text."""
    return [auto_duration(float(np.quantile(taken_s, part))) for part in (0.0, 0.1, 0.5)]


# -- the bare chain -----------------------------------------------------------------------------------


def _work() -> Callable[[], object]:
    """Returns something to compute: a record written, and read again."""
    update = Update(_NAME, UpdateRule.ASSIGN_ADD, np.ones(1, np.float32))
    record = AppliedBatch(_CLIENT, 1000, (update,), BatchReply((Result(1000, True),)), 1)

    def work() -> None:
        header, tensors = record_frame(LoggedRecord(1001, record))
        found = record_in(header)
        assert found is not None
        decode_record_bytes(found[0], memoryview(b"".join(tensors)).toreadonly())

    return work


def _stream(sock: socket.socket, *, looks: bool) -> SocketStream:
    options.set_up(sock)
    stream = SocketStream(sock)
    stream.lend_scratch(memoryview(bytearray(SCRATCH_BYTES)))
    stream.looks_first = looks
    return stream


def _pass_on(next_port: int, computes: bool, looks: bool, pipe: Connection) -> None:
    """Passes on what comes, and back, until the other side closes; says then how long it computed each time."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        pipe.send(server.getsockname()[1])
        before = _stream(server.accept()[0], looks=looks)
    after = _stream(socket.create_connection(("127.0.0.1", next_port)), looks=looks) if next_port else None
    work, computed = _work(), []
    try:
        while True:
            data = bytes(before.take(PASSED_BYTES))
            if computes:
                began_s = time.perf_counter()
                work()
                computed.append(time.perf_counter() - began_s)
            if after is not None:
                after.send([data], len(data))
                data = bytes(after.take(PASSED_BYTES))
            before.send([data], len(data))
    except ConnectionError:
        pipe.send(statistics.median(computed or [0.0]))


class Chain:
    """A client, which is this process, and others behind each other.

    Args:
        processes: With this one.
        computes: Whether each but this one computes something for a message.
        looks: Whether all look for bytes before they sleep.
    """

    def __init__(self, processes: int, *, computes: bool, looks: bool):
        self.name = (
            f"{processes} processes, {'computing, ' if computes else ''}{'look first' if looks else 'sleep at once'}"
        )
        spawn = multiprocessing.get_context("spawn")
        self._others: list[tuple[BaseProcess, Connection]] = []
        self.taken: list[float] = []
        port = 0
        for _ in range(processes - 1):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_pass_on, args=(port, computes, looks, theirs), daemon=True)
            process.start()
            port = ours.recv()
            self._others.append((process, ours))
        self._stream = _stream(socket.create_connection(("127.0.0.1", port)), looks=looks)

    def turn(self, seconds: float) -> None:
        """Passes messages for some time, and notes how long each took."""
        data, taken = bytes(PASSED_BYTES), []
        end_s = time.perf_counter() + seconds
        while (began_s := time.perf_counter()) < end_s:
            self._stream.send([data], len(data))
            self._stream.take(PASSED_BYTES)
            taken.append(time.perf_counter() - began_s)
        self.taken += taken

    def end(self) -> float:
        """Ends it; returns how long the first of the other processes computed, the median."""
        self._stream.close()
        computed = [pipe.recv() for _, pipe in reversed(self._others)]
        for process, _ in self._others:
            process.join(TIMEOUT_S)
        return float(computed[0])


def bare_chains(rounds: int, seconds: float) -> None:
    """Prints what passing on costs, and how much longer the same computing takes for it."""
    work = _work()
    alone = statistics.median([_each_s([None] * 100, lambda _: work()) for _ in range(100)])
    chains = [
        Chain(processes, computes=computes, looks=looks) for looks in (False, True) for processes, computes in CHAINS
    ]
    for _ in range(rounds):
        for chain in chains:
            chain.turn(seconds)
    rows = []
    for chain in chains:
        computed_s = chain.end()
        rows.append([chain.name, *spread(chain.taken), auto_duration(computed_s) if computed_s else ""])
    print_table(
        f"there and back (what is computed takes {auto_duration(alone)} again and again)",
        ("least", "lowest tenth", "median", "computing"),
        rows,
    )


# -- updates ------------------------------------------------------------------------------------------


def _processor_s(pid: int) -> float:
    """Processor time of all threads of a process so far, to the nanosecond."""
    used = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread has ended
            used += int(path.read_text().split()[0])
    return used / 1e9


class Updates:
    """A cluster of one ps task, and a client of it.

    Args:
        replicas: 1 with a backup.
        stack: Ends it.
    """

    def __init__(self, replicas: int, stack: contextlib.ExitStack):
        self.name = "with a backup" if replicas else "alone"
        cluster = stack.enter_context(LocalCluster(num_ps=1, replicas=replicas))
        client = stack.enter_context(worker_client.connect(cluster.cluster_spec, transport="socket"))
        self._variables: dict[int, Variable] = {}
        for elements in ELEMENTS:
            with client.as_default():
                zeros = worker_client.zeros_initializer()
                variable = worker_client.get_variable(f"v{elements}", [elements], initializer=zeros)
            assert isinstance(variable, Variable)
            self._variables[elements] = variable
        self._pids = [os.getpid(), cluster.ps_pid(0)]
        if replicas:
            self._pids.append(cluster.process(TaskId(BACKUP_JOB, 0)).pid)
        self.taken: dict[int, list[float]] = {}
        self.processor: dict[int, list[list[float]]] = {}

    def turn(self, elements: int, seconds: float) -> None:
        """Adds for some time, and notes what that took."""
        variable, value = self._variables[elements], np.ones(elements, np.float32)
        for _ in range(3):
            variable.assign_add(value)
        before = [_processor_s(pid) for pid in self._pids]
        taken, end_s = [], time.perf_counter() + seconds
        while (began_s := time.perf_counter()) < end_s:
            variable.assign_add(value)
            taken.append(time.perf_counter() - began_s)
        used = [(_processor_s(pid) - start) / len(taken) for pid, start in zip(self._pids, before, strict=True)]
        self.taken.setdefault(elements, []).extend(taken)
        self.processor.setdefault(elements, []).append(used)

    def row(self, elements: int) -> list[str]:
        """The figures of one size."""
        used = [auto_duration(statistics.median(each)) for each in zip(*self.processor[elements], strict=True)]
        return [f"{size(4 * elements)}, {self.name}", *spread(self.taken[elements]), *used, *[""] * (3 - len(used))]


def updates(rounds: int, seconds: float) -> None:
    """Prints what an update takes with and without a backup."""
    with contextlib.ExitStack() as stack:
        both = [Updates(replicas, stack) for replicas in (0, 1)]
        for elements in ELEMENTS:
            for _ in range(rounds):
                for each in both:
                    each.turn(elements, seconds)
        columns = ("least", "lowest tenth", "median", "client's processor", "primary's", "backup's")
        print_table("update", columns, [each.row(elements) for elements in ELEMENTS for each in both])


# -- steps --------------------------------------------------------------------------------------------


class _Sink:
    """Takes all records, as a backup that needs no time."""

    name = "nothing"
    is_quick = True

    def write(self, records: Sequence[LoggedRecord]) -> None: ...

    def close(self) -> None: ...


def _core(state: LoggedState | None) -> ParameterServer:
    core = ParameterServer(cluster_spec=_CLUSTER, task_index=0, state=state)
    core.hello(_CLIENT, "worker:0", timeout_s=TIMEOUT_S)
    return core


class Steps:
    """Both sides of a pair without processes and sockets, each with a scalar."""

    def __init__(self) -> None:
        spec = VariableSpec(_NAME, np.dtype(np.float32), (1,))
        declare = Declare(spec, InitializerSpec(ConstantKind(0.0)))
        self._operation = Update(_NAME, UpdateRule.ASSIGN_ADD, np.ones(1, np.float32))
        logged = LoggedState(StateParts(_CLUSTER, 0))
        logged.start([_Sink()], on_fatal=_fail)
        self._cores = {"in memory": _core(None), "logged": _core(logged)}
        self._numbers = dict.fromkeys(self._cores, 0)
        for name, core in self._cores.items():
            core.exchange(self._batch(name, declare), timeout_s=TIMEOUT_S)
        self._backup = LoggedState(StateParts(_CLUSTER, 0))
        self._follower = Follower(self._backup, task="ps:0", process=uuid4(), on_broken=_fail)
        self._stream = FollowStream(self._follower)
        attachment = replication_pb2.Attachment(
            task="ps:0", process=uuid4().bytes, store_incarnation=uuid4().bytes, epoch=1
        )
        self._stream.take(replication_pb2.FollowFrame(attachment=attachment), memoryview(b""))
        self._follower.restore(self._stream, StateImage(0, (), ()))
        self._backup.replay(LoggedRecord(1, ClientJoined(_CLIENT, "worker:0")))
        self._backup.replay(LoggedRecord(2, Declared(declare)))
        self._position, self._sequence = 2, 0

    def _batch(self, name: str, operation: Update | Declare) -> Batch:
        self._numbers[name] += 1
        return Batch(_CLIENT, self._cores[name].store_incarnation, self._numbers[name], (operation,))

    def _records(self) -> list[LoggedRecord]:
        """The next records of the stream."""
        records = []
        for _ in range(_STEPS_A_TURN):
            self._position += 1
            self._sequence += 1
            reply = BatchReply((Result(self._sequence, True),))
            batch = AppliedBatch(_CLIENT, self._sequence, (self._operation,), reply, self._sequence)
            records.append(LoggedRecord(self._position, batch))
        return records

    def turn(self) -> dict[str, float]:
        """Does all steps; returns the seconds of each."""
        taken: dict[str, float] = {}
        for name, core in self._cores.items():
            batches = [self._batch(name, self._operation) for _ in range(_STEPS_A_TURN)]
            exchange = functools.partial(core.exchange, timeout_s=TIMEOUT_S)
            taken[f"primary: a batch carried out {name}"] = _each_s(batches, exchange)
        records = self._records()
        frames: list[tuple[bytes, list[memoryview]]] = []
        taken["primary: the record written"] = _each_s(records, lambda record: frames.append(record_frame(record)))
        framing, prefixes = Framing(2), []
        taken["primary: the prefix of its frame"] = _each_s(
            frames,
            lambda frame: prefixes.append(framing.prefix(FrameKind.FOLLOW, frame[0], buffers=frame[1], buffer_bytes=4)),
        )
        headers = iter([header for header, _ in frames])

        def check(prefix: bytes) -> None:
            framing.parse(prefix)
            framing.check_header(next(headers))

        taken["backup: the frame checked"] = _each_s(prefixes, check)
        found: list[tuple[bytes, memoryview]] = []

        def find(frame: tuple[bytes, list[memoryview]]) -> None:
            record, _ = record_in(frame[0]) or (b"", 0)
            found.append((record, memoryview(b"".join(frame[1])).toreadonly()))

        taken["backup: the record found in it"] = _each_s(frames, find)
        taken["backup: the record read and carried out"] = _each_s(found, lambda each: self._stream.take_record(*each))
        return taken


def _fail(reason: object) -> None:
    raise AssertionError(reason)


def _each_s(arguments: Sequence[Any], call: Callable[[Any], object]) -> float:
    began_s = time.perf_counter()
    for each in arguments:
        call(each)
    return (time.perf_counter() - began_s) / len(arguments)


def steps(rounds: int) -> None:
    """Prints what each step of a small update takes."""
    taken: dict[str, list[float]] = {}
    all_steps = Steps()
    for _ in range(10 * rounds):
        for name, each_s in all_steps.turn().items():
            taken.setdefault(name, []).append(each_s)
    print_table("step", ("least", "median"), [(name, *spread(each)[::2]) for name, each in taken.items()])


# -- large ----------------------------------------------------------------------------------------------


def large(rounds: int) -> None:
    """Prints what moving and adding the bytes of a push take alone."""
    near, far = socket.create_server(("127.0.0.1", 0)), None
    with near:
        client = socket.create_connection(near.getsockname())
        far = near.accept()[0]
    for sock in (client, far):
        options.set_up(sock)
    receiver = SocketStream(far)
    taken: dict[str, list[float]] = {}
    with client, far:
        for elements in ELEMENTS[2:]:
            data, target, value = (np.ones(elements, np.float32) for _ in range(3))
            for _ in range(rounds):
                began_s = time.perf_counter()
                sender = threading.Thread(target=client.sendall, args=(data.data.cast("B"),))
                sender.start()
                receiver.read_into(target.data.cast("B"))
                sender.join()
                moved_s = time.perf_counter()
                np.add(value, target, out=value)
                added_s = time.perf_counter()
                taken.setdefault(f"{size(4 * elements)}, over a socket", []).append(moved_s - began_s)
                taken.setdefault(f"{size(4 * elements)}, added", []).append(added_s - moved_s)
    print_table("bytes", ("least", "lowest tenth", "median"), [(name, *spread(each)) for name, each in taken.items()])


TABLES: Final[dict[str, Callable[[int, float], None]]] = {
    "chain": bare_chains,
    "updates": updates,
    "steps": lambda rounds, _seconds: steps(rounds),
    "large": lambda rounds, _seconds: large(rounds),
}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", choices=(*TABLES, []), help="(default: all)")
    parser.add_argument("--rounds", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each turn (default: %(default)s)")
    given = parser.parse_args()
    for name in given.tables or TABLES:
        TABLES[name](given.rounds, given.seconds)


if __name__ == "__main__":
    main()
