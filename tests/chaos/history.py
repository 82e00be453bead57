"""Records what several clients see of one variable while ps tasks are killed and replies lost."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import numpy as np

import worker_client as ss
from ps_cluster import LocalCluster
from ps_protocol.errors import ShardscopeError
from ps_protocol.operations import Read, Update, UpdateRule
from tests.chaos.linearizability import Call, Kind, State
from tests.chaos.outage import Outage
from tests.chaos.patience import connect_impatiently

_VARIABLE: Final = "register"
_PS_TASK: Final = 0
_VALUE_BYTES: Final = 8
_CHOICES: Final = (Kind.READ, Kind.ASSIGN_ADD, Kind.ASSIGN_ADD, Kind.ASSIGN)
_RULES: Final = {Kind.ASSIGN: UpdateRule.ASSIGN, Kind.ASSIGN_ADD: UpdateRule.ASSIGN_ADD}
_SOON_S: Final = 0.3
"""After which an update that is to be given up is."""
_MOST_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Recording:
    """A history and what the variable was before it.

    Attributes:
        initial: Before the first operation.
        calls: All operations of all clients, and one read after them.
    """

    initial: State
    calls: list[Call]


class Progress:
    """How far the clients have come, for who makes trouble meanwhile."""

    def __init__(self, histories: Sequence[Sequence[Call]]):
        self._histories = histories

    def has_calls(self, number: int) -> bool:
        """Whether so many operations are over."""
        return sum(map(len, self._histories)) >= number


def record(
    cluster: LocalCluster,
    *,
    num_clients: int,
    calls_each: int,
    seed: int,
    meanwhile: Callable[[Progress], None],
    outages: Sequence[Outage] = (),
) -> Recording:
    """Has clients of their own read, assign and add in as many threads, and writes down what each saw and when.

    Args:
        cluster: Where; the variable is placed on ps:0.
        num_clients: How many clients.
        calls_each: How many operations each makes; all are answered.
        seed: What they do.
        meanwhile: Makes trouble, on this thread.
        outages: When who makes one update more, which it soon gives up, and one read after it. Each client may be in
            one outage before a call.
    """
    with ExitStack() as connections:
        onlooker = _Register(cluster, "onlooker", 0, connections)
        onlooker.declare()
        before = onlooker.look()
        clients = [_Client(cluster, index, seed, connections) for index in range(num_clients)]
        assert before.version is not None
        with ThreadPoolExecutor(num_clients) as threads:
            running = [threads.submit(client.work, calls_each, outages) for client in clients]
            meanwhile(Progress([client.history for client in clients]))
            for each in running:
                each.result()
        last = onlooker.look()
    calls = itertools.chain.from_iterable(client.history for client in clients)
    return Recording(State(before.value, before.version), [*calls, last])


class _Register:
    """The variable as one connection reaches it."""

    def __init__(
        self, cluster: LocalCluster, job: str, index: int, connections: ExitStack, *, patience_s: float = _MOST_S
    ):
        self._name = f"{job} {index}"
        self._client = connections.enter_context(
            connect_impatiently(
                cluster.cluster_spec,
                job,
                index,
                attempt_timeout_s=min(1.0, patience_s),
                operation_timeout_s=patience_s,
                ps_grace_s=patience_s,
            )
        )

    def declare(self) -> None:
        with self._client.as_default(), ss.device("/job:ps/task:0"):
            ss.get_variable(_VARIABLE, [], dtype="int64", initializer=ss.zeros_initializer())

    def look(self) -> Call:
        invoked = time.monotonic_ns()
        seen = self._client.fanout.run(_PS_TASK, Read(_VARIABLE), expected_reply_bytes=_VALUE_BYTES)
        returned = time.monotonic_ns()
        assert seen.tensor is not None
        return Call(Kind.READ, invoked, returned, int(seen.tensor), seen.version, self._name)

    def look_until_answered(self) -> Call:
        give_up_s = time.monotonic() + _MOST_S
        while True:
            try:
                return self.look()
            except ShardscopeError:  # a read that was not answered says nothing
                if time.monotonic() > give_up_s:
                    raise

    def update(self, kind: Kind, value: int) -> Call:
        invoked = time.monotonic_ns()
        update = Update(_VARIABLE, _RULES[kind], np.array(value, np.int64))
        version = self._client.fanout.run(_PS_TASK, update, expected_reply_bytes=0).version
        return Call(kind, invoked, time.monotonic_ns(), value, version, self._name)

    def try_to_update(self, kind: Kind, value: int) -> Call:
        invoked = time.monotonic_ns()
        try:
            return self.update(kind, value)
        except ShardscopeError:  # whatever it says: that it has not been applied is for the history to show
            return Call(kind, invoked, None, value, client=self._name)


class _Client:
    """What one thread does; it has a connection on which it waits for answers, and one on which it does not."""

    def __init__(self, cluster: LocalCluster, index: int, seed: int, connections: ExitStack):
        self.history: list[Call] = []
        self._index = index
        self._chance = random.Random(f"{seed}-{index}")
        self._numbers = _distinct_numbers(index)
        self._patient = _Register(cluster, "patient", index, connections)
        self._hasty = _Register(cluster, "hasty", index, connections, patience_s=_SOON_S)

    def work(self, num_calls: int, outages: Sequence[Outage]) -> None:
        mine = {outage.before_call: outage for outage in outages if self._index in outage.clients}
        for number in range(num_calls):
            if number in mine:
                self._take_part(mine[number])
            kind = self._chance.choice(_CHOICES)
            if kind is Kind.READ:
                self.history.append(self._patient.look())
            else:
                self.history.append(self._patient.update(kind, next(self._numbers)))

    def _take_part(self, outage: Outage) -> None:
        outage.wait_for_begin()
        kind = self._chance.choice((Kind.ASSIGN, Kind.ASSIGN_ADD))
        self.history.append(self._hasty.try_to_update(kind, next(self._numbers)))
        outage.wait_for_end()
        self.history.append(self._hasty.look_until_answered())


def _distinct_numbers(client: int) -> Iterator[int]:
    """Numbers that no other client uses, so that a value says a lot about what is in it."""
    return (number * 1_000 + client for number in itertools.count(1))
