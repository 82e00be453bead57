"""Records what several clients see of one variable while ps tasks are killed and replies lost."""

from __future__ import annotations

import itertools
import random
import threading
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
from tests.chaos.linearizability import Call, Kind, State
from tests.chaos.patience import connect_impatiently

VARIABLE: Final = "register"
_CHOICES: Final = (Kind.READ, Kind.ASSIGN_ADD, Kind.ASSIGN_ADD, Kind.ASSIGN)


@dataclass(frozen=True, slots=True)
class Recording:
    """A history and what the variable was before it.

    Attributes:
        initial: Before the first operation.
        calls: All operations of all clients, and one read after them.
    """

    initial: State
    calls: list[Call]


_MOST_S = 90.0


class Progress:
    """How far the clients have come, for who makes trouble meanwhile.

    Attributes:
        may_go_on: Cleared while there is no use in trying: a client that has given up an operation then waits, or it
            would give up one after the other, and nobody could tell which of so many have taken effect.
    """

    def __init__(self, histories: Sequence[Sequence[Call]]):
        self._histories = histories
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def has_calls(self, number: int) -> bool:
        """Whether so many operations are over."""
        return sum(map(len, self._histories)) >= number

    @property
    def num_unanswered(self) -> int:
        """How many of them were given up."""
        return sum(call.returned is None for history in self._histories for call in history)

    def has_unanswered(self, number: int) -> bool:
        """Whether so many of them were given up."""
        return self.num_unanswered >= number


def record(
    cluster: LocalCluster,
    *,
    num_clients: int,
    calls_each: int,
    seed: int,
    meanwhile: Callable[[Progress], None],
    patience_s: float = 60.0,
) -> Recording:
    """Has clients of their own read, assign and add in as many threads, and writes down what each saw and when.

    Args:
        cluster: Where; the variable is placed on ps:0.
        num_clients: How many clients.
        calls_each: How many operations each makes.
        seed: What they do.
        meanwhile: Makes trouble, on this thread.
        patience_s: After this time a client gives an operation up, which then counts as never answered, and goes on.
    """
    with ExitStack() as connections:
        clients = [
            connections.enter_context(
                connect_impatiently(
                    cluster.cluster_spec, "observer", index, operation_timeout_s=patience_s, ps_grace_s=patience_s
                )
            )
            for index in range(num_clients)
        ]
        variables = [_declared(client) for client in clients]
        patient = _declared(connections.enter_context(connect_impatiently(cluster.cluster_spec, "patient")))
        before = _look(patient, "the first look")
        assert before.version is not None
        histories: list[list[Call]] = [[] for _ in clients]
        progress = Progress(histories)
        with ThreadPoolExecutor(num_clients) as threads:
            running = [
                threads.submit(_work, variable, history, calls_each, random.Random(f"{seed}-{index}"), index, progress)
                for index, (variable, history) in enumerate(zip(variables, histories, strict=True))
            ]
            meanwhile(progress)
            for each in running:
                each.result()
        last = _look(patient, "the last look")
    assert last.returned is not None
    return Recording(State(before.value, before.version), [*itertools.chain(*histories), last])


def _declared(client: ss.Client) -> ss.Variable:
    with client.as_default(), ss.device("/job:ps/task:0"):
        variable = ss.get_variable(VARIABLE, [], dtype="int64", initializer=ss.zeros_initializer())
    assert isinstance(variable, ss.Variable)
    return variable


def _work(
    variable: ss.Variable, history: list[Call], number: int, chance: random.Random, client: int, progress: Progress
) -> None:
    numbers = _distinct_numbers(client)
    name = f"client {client}"
    for _ in range(number):
        if history and history[-1].returned is None:
            assert progress.may_go_on.wait(_MOST_S), "whoever makes trouble does not end it"
        kind = chance.choice(_CHOICES)
        if kind is Kind.READ:
            history.append(_look(variable, name))
            continue
        value = next(numbers)
        invoked = time.monotonic_ns()
        try:
            (variable.assign if kind is Kind.ASSIGN else variable.assign_add)(np.int64(value))
            returned: int | None = time.monotonic_ns()
        except ShardscopeError:
            returned = None  # whatever the error says: that it has not been applied is for the history to show
        history.append(Call(kind, invoked, returned, value, client=name))


def _look(variable: ss.Variable, name: str) -> Call:
    invoked = time.monotonic_ns()
    try:
        seen = variable.read_if_newer(None)
    except ShardscopeError:
        return Call(Kind.READ, invoked, None, 0, client=name)
    assert seen is not None
    return Call(Kind.READ, invoked, time.monotonic_ns(), int(seen.value), int(seen.version), name)


def _distinct_numbers(client: int) -> Iterator[int]:
    """Numbers that no other client uses, so that a value says a lot about what is in it."""
    number = 1
    while True:
        yield number * 1_000 + client
        number += 1
