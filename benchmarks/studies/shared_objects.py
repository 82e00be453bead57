"""What happens to a shared object costs, and how soon workers meet: ``python -m benchmarks.studies.shared_objects``.

Two tables:

- *calls*: an event on a barrier, a question to it, and beside them an addition to a scalar, with states of some sizes:
  by the core alone, in one thread that waits for no other, and by one client of a ps process over a socket;
- *meetings*: from the moment at which the last of some workers, each a thread with a connection of its own, calls
  ``barrier`` until all have returned.

Printed are lowest tenths and medians of many, in rounds that take turns.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import uuid4

import numpy as np

import worker_client as ss
from benchmarks.harness.tables import auto_duration
from ps_cluster import LocalCluster
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Batch, Declare, PsOperation, Read, Result, Update, UpdateRule, VariableSpec, mutates
from ps_protocol.shared_objects import OBJECT_DTYPE, Act, Json, Look, encode_json
from ps_server.core.parameter_server import ParameterServer

TIMEOUT_S: Final = 60.0
NAME: Final = "barrier/calls"
SCALAR: Final = VariableSpec("scalar", np.dtype(np.int64), ())
ZERO: Final = InitializerSpec(ConstantKind(0.0))
CALLS: Final = 200

Run = Callable[[PsOperation], Result]


def act(event: Json) -> Act:
    return Act(NAME, "barrier", encode_json(event))


def arrival(index: int, call: int) -> Act:
    identity = "0123456789abcdef" * 2
    return act({"do": "arrive", "by": f"worker:{index}", "id": identity, "call": call, "count": 10_000, "store": "s"})


def prepared(run: Run, num_arrived: int) -> int:
    """Makes a scalar, and a barrier at which some have arrived; returns the bytes of its state."""
    run(Declare(SCALAR, ZERO))
    run(Declare(VariableSpec(NAME, OBJECT_DTYPE, (), object_kind="barrier")))
    run(act({"open": {}, "by": "worker:0"}))
    for index in range(num_arrived):
        run(arrival(index, 1))
    tensor = run(Read(NAME)).tensor
    assert tensor is not None
    return tensor.nbytes


def timed(run: Run, number: int) -> dict[str, float]:
    """Seconds of one event, one question and one addition, by the means of some."""
    question = encode_json({"by": "worker:1", "id": "0123456789abcdef" * 2, "call": 1, "meeting": 1})
    kinds: dict[str, Callable[[int], PsOperation]] = {
        "event": lambda call: arrival(0, 2 + number * CALLS + call),
        "question": lambda _call: Look(NAME, "barrier", question),
        "addition": lambda _call: Update(SCALAR.name, UpdateRule.ASSIGN_ADD, np.array(1)),
    }
    seconds = {}
    for kind, make in kinds.items():
        operations = [make(call) for call in range(CALLS)]
        started_s = time.perf_counter()
        for operation in operations:
            run(operation)
        seconds[kind] = (time.perf_counter() - started_s) / CALLS
    return seconds


def of_core() -> Run:
    """Runs operations by a core of its own."""
    core = ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0)
    client, sequence = uuid4(), 0
    core.hello(client, "worker:0", timeout_s=TIMEOUT_S)

    def run(operation: PsOperation) -> Result:
        nonlocal sequence
        changes = mutates((operation,))
        sequence += changes
        batch = Batch(client, core.store_incarnation, sequence if changes else 0, (operation,))
        return _result(core.exchange(batch, timeout_s=TIMEOUT_S).replies)

    return run


def of_client(client: ss.Client) -> Run:
    """Runs operations by a client's handle of ps task 0."""
    handle = client.fanout.handle(0)
    return lambda operation: _result(handle.exchange((operation,), expected_reply_bytes=4096))


def _result(replies: Sequence[Any]) -> Result:
    (reply,) = replies
    if isinstance(reply, Exception):
        raise reply
    result: Result = reply
    return result


def show_calls(rounds: int) -> None:
    """Prints the first table."""
    for num_arrived in (0, 38, 200):
        with LocalCluster(num_ps=1, num_workers=1) as cluster, ss.connect(cluster.cluster_spec) as client:
            ways = {"core": of_core(), "client": of_client(client)}
            state_bytes = max([prepared(run, num_arrived) for run in ways.values()])
            found: dict[tuple[str, str], list[float]] = {}
            for number in range(rounds):
                for way, run in ways.items():
                    for kind, seconds in timed(run, number).items():
                        found.setdefault((way, kind), []).append(seconds)
        for (way, kind), each in found.items():
            print(f"state of {state_bytes:>6,} B  {way:<7} {kind:<9} {_spread(each)}")


def show_meetings(rounds: int) -> None:
    """Prints the second table."""
    for num_workers in (2, 4, 8):
        with LocalCluster(num_ps=1, num_workers=num_workers) as cluster:
            clients = [ss.connect(cluster.cluster_spec, task_index=index) for index in range(num_workers)]
            try:
                found = [_meeting_s(clients) for _ in range(5 * rounds)]
            finally:
                for client in clients:
                    client.close()
        print(f"{num_workers} workers meet {_spread(found)}")


def _meeting_s(clients: Sequence[ss.Client]) -> float:
    ends_s: list[float] = []

    def wait(client: ss.Client) -> None:
        client.barrier("meeting", TIMEOUT_S)
        ends_s.append(time.perf_counter())

    early = [threading.Thread(target=wait, args=(client,)) for client in clients[1:]]
    for thread in early:
        thread.start()
    time.sleep(0.02)  # so that they wait there
    started_s = time.perf_counter()
    wait(clients[0])
    for thread in early:
        thread.join(TIMEOUT_S)
    return max(ends_s) - started_s


def _spread(seconds: Sequence[float]) -> str:
    lowest = statistics.quantiles(seconds, n=10)[0] if len(seconds) > 1 else seconds[0]
    return f"{auto_duration(lowest):>9}  median {auto_duration(statistics.median(seconds)):>9}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    show_calls(rounds)
    show_meetings(rounds)


if __name__ == "__main__":
    main()
