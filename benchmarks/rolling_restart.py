"""What workers notice of a rolling restart: ``python -m benchmarks.rolling_restart [--ps 3] [--wait]``.

One thread for each ps task adds to a variable and waits for each answer, while every process of the tasks and their
backups is ended by SIGTERM and started again, one after the other: without a pause, or with ``--wait`` when all pairs
are complete again. Any error of an addition fails the run, and so does a sum that is not what was acknowledged.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np

import worker_client as ss
from benchmarks.harness import command
from benchmarks.harness.record import Record
from benchmarks.harness.tables import Table, auto_duration
from ps_cluster import LocalCluster
from ps_cluster.inspection.health_probe import check_health
from ps_cluster.inspection.queries import ps_processes
from ps_protocol.errors import ShardscopeError
from ps_protocol.liveness import READY
from worker_client.variables.variable import Variable

BENCHMARK = "rolling_restart"
_TIMEOUT_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.1


class Adding:
    """Adds to a variable until it is told to end.

    Args:
        variable: Of zeros.

    Attributes:
        acknowledged: How many additions were.
        longest_s: The longest that one took since this was set to 0.
        error: What an addition has raised.
    """

    def __init__(self, variable: Variable):
        self._variable = variable
        self.acknowledged = 0
        self.longest_s = 0.0
        self.error: BaseException | None = None
        self._is_over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        """Ends it, and makes sure that the variable has what was acknowledged."""
        self._is_over = True
        self._thread.join(_TIMEOUT_S)
        if self.error is not None:
            raise RuntimeError(f"an addition to {self._variable.name} has failed") from self.error
        found = self._variable.read_value()
        if not np.array_equal(found, np.full(found.shape, self.acknowledged)):
            raise RuntimeError(f"{self.acknowledged} additions were acknowledged, but {self._variable.name} is {found}")

    def _run(self) -> None:
        one = np.ones(self._variable.shape, np.float32)
        try:
            while not self._is_over:
                began_s = time.perf_counter()
                self._variable.assign_add(one)
                self.longest_s = max(self.longest_s, time.perf_counter() - began_s)
                self.acknowledged += 1
        except BaseException as error:  # noqa: BLE001 - ``end`` raises it
            self.error = error


def measure(transport: str, *, num_ps: int, waits: bool) -> list[dict[str, Any]]:
    """Returns for each process how long its end took, and the longest addition from then until the next one's end."""
    cases: list[dict[str, Any]] = []
    with LocalCluster(num_ps, replicas=1) as cluster:
        places = ps_processes(cluster.cluster_spec)
        _wait_until_ready(list(places.values()))
        with ss.connect(cluster.cluster_spec, transport=transport) as client:
            adding = [Adding(_variable(client, index)) for index in range(num_ps)]
            try:
                for task in places:
                    command.progress(f"{transport}: {task}")
                    for each in adding:
                        each.longest_s = 0.0
                    process, began_s = cluster.process(task), time.perf_counter()
                    process.send_signal(signal.SIGTERM)
                    if process.wait(_TIMEOUT_S) != 0:
                        raise RuntimeError(f"{task} has not ended well: {process.tail[-5:]}")
                    ended_s = time.perf_counter() - began_s
                    cluster.restart(task)
                    if waits:
                        _wait_until_ready(list(places.values()))
                    longest_s = max(each.longest_s for each in adding)
                    cases.append({"transport": transport, "task": str(task), "end_s": ended_s, "longest_s": longest_s})
            finally:
                for each in adding:
                    each.end()
    return cases


def _variable(client: ss.Client, index: int) -> Variable:
    with client.as_default(), ss.device(f"/job:ps/task:{index}"):
        variable = ss.get_variable(f"v{index}", [64], initializer=ss.zeros_initializer())
    if not isinstance(variable, Variable):
        raise TypeError("a variable that is not partitioned was asked for")
    return variable


def _wait_until_ready(addresses: Collection[str]) -> None:
    ends_s = time.monotonic() + _TIMEOUT_S
    while waiting := [each for each in addresses if not _is_ready(each)]:
        if time.monotonic() > ends_s:
            raise TimeoutError(f"not ready after {_TIMEOUT_S:.0f} s: {waiting}")
        time.sleep(_LOOK_EVERY_S)


def _is_ready(address: str) -> bool:
    try:
        return check_health(address, service=READY, timeout_s=_TIMEOUT_S) == "SERVING"
    except ShardscopeError:
        return False


def tables(record: Record) -> list[Table]:
    """Returns the figures as a table."""
    cases = record["results"]["cases"]
    rows: list[Sequence[str]] = [
        (each["transport"], each["task"], auto_duration(each["end_s"]), auto_duration(each["longest_s"]))
        for each in cases
    ]
    columns = ("transport", "process", "its end took", "longest addition meanwhile")
    longest = auto_duration(max(each["longest_s"] for each in cases))
    return [Table(f"A rolling restart: no addition failed, the longest took {longest}", columns, rows, labels=2)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and shows the figures; returns the exit code."""
    parser = command.parser(__doc__)
    parser.add_argument("--ps", type=command.positive, default=3, help="ps tasks (default: %(default)s)")
    parser.add_argument("--wait", action="store_true", help="wait until all pairs are complete before each next one")
    given = parser.parse_args(arguments)
    cases = [step for each in given.transport for step in measure(each, num_ps=given.ps, waits=given.wait)]
    results = {"cases": cases, "num_ps": given.ps, "waits": given.wait}
    command.finish(BENCHMARK, "benchmarks.rolling_restart", results, tables, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
