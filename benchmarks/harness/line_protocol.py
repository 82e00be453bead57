"""A contestant's end of the conversation: a line of JSON asks for work, a line of JSON answers. Needs NumPy only.

The contestant is a child process of the benchmark, with its own interpreter and libraries. It first says what it
offers,

    {"name": "torch", "versions": {"torch": "2.13.0"}, "cases": {"pull": [""], "push": [""]}}

then answers each request before the next one comes, and ends when its standard input does:

    {"do": "run", "workload": "pull", "variant": "", "warm": 1, "calls": 3}     {"seconds": [0.051, 0.049, 0.05]}
    {"do": "run", "workload": "add", "variant": "", "warm": 9, "for_s": 2.0}    {"seconds": [...]}
    {"do": "check"}                                                             {"expected": {...}, "observed": {...}}

A request that fails is answered with ``{"error": "..."}``. Whatever libraries print goes to standard error.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from benchmarks.harness.workloads import SCALES, Scale, expected_state

Call = Callable[[], object]


class Contestant(Protocol):
    """What a driver or a peer implements."""

    name: str
    versions: Mapping[str, str]

    def cases(self) -> Mapping[str, Mapping[str, Call]]:
        """Returns the calls to measure, by workload and variant; the variant is "" where there is only one."""
        ...

    def observed(self) -> Mapping[str, float]:
        """Returns what is held now, as ``workloads.observed_state``; empty if nothing is."""
        ...

    def close(self) -> None:
        """Ends what was started."""
        ...


def scale_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the option that says how large a contestant's data are."""
    parser.add_argument("--scale", choices=sorted(SCALES), default="full", help="size of the data")


def timed(call: Call, *, warm: int, calls: int | None = None, for_s: float | None = None) -> list[float]:
    """Returns the duration of each of ``calls`` calls, or of as many as fit in ``for_s`` seconds, in seconds.

    Garbage is collected before and not meanwhile. What a call returns is released before the clock stops.
    """
    for _ in range(warm):
        call()
    times: list[float] = []
    gc.collect()
    gc.disable()
    try:
        end_s = time.perf_counter() + (float("inf") if for_s is None else for_s)
        while (calls is None or len(times) < calls) and time.perf_counter() < end_s:
            start_s = time.perf_counter()
            call()
            times.append(time.perf_counter() - start_s)
    finally:
        gc.enable()
    return times


class Requests:
    """Carries out requests, and counts the calls so that the result can be checked."""

    def __init__(self, contestant: Contestant, scale: Scale):
        self._contestant = contestant
        self._scale = scale
        self._cases = contestant.cases()
        self._counts: dict[str, int] = {}

    def greeting(self) -> dict[str, Any]:
        return {
            "name": self._contestant.name,
            "versions": dict(self._contestant.versions),
            "cases": {workload: list(variants) for workload, variants in self._cases.items()},
        }

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if request["do"] == "check":
            observed = dict(self._contestant.observed())
            return {"observed": observed, "expected": expected_state(self._scale, self._counts) if observed else {}}
        if request["do"] == "run":
            workload, warm = request["workload"], request["warm"]
            call = self._cases[workload][request["variant"]]
            times = timed(call, warm=warm, calls=request.get("calls"), for_s=request.get("for_s"))
            self._counts[workload] = self._counts.get(workload, 0) + warm + len(times)
            return {"seconds": times}
        raise ValueError(f"unknown request {request!r}")


def serve(make: Callable[[], Contestant], scale: Scale) -> None:
    """Makes the contestant, announces it and answers requests until standard input ends.

    Args:
        make: Called once standard output is safe from what libraries print.
        scale: That of the contestant.
    """
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)
        sys.stdout = sys.stderr

        def reply(message: Mapping[str, Any]) -> None:
            replies.write(json.dumps(message) + "\n")
            replies.flush()

        try:
            contestant = make()
            requests = Requests(contestant, scale)
        except Exception as error:
            reply({"error": f"{type(error).__name__}: {error}"})
            raise
        try:
            reply(requests.greeting())
            for line in sys.stdin:
                try:
                    answer = requests.answer(json.loads(line))
                except Exception as error:  # noqa: BLE001  # the benchmark gets it, and decides
                    answer = {"error": f"{type(error).__name__}: {error}"}
                reply(answer)
        finally:
            contestant.close()


def end_with_parent() -> None:
    """Ends this process when its standard input does: the process that started it holds the other end."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
