"""Records what several clients see of one variable while ps tasks are killed and replies lost."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
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


def record(
    cluster: LocalCluster,
    *,
    num_clients: int,
    calls_each: int,
    seed: int,
    meanwhile: Callable[[Callable[[], int]], None],
    operation_timeout_s: float = 60.0,
) -> Recording:
    """Has clients of their own read, assign and add in as many threads, and writes down what each saw and when.

    Args:
        cluster: Where; the variable is placed on ps:0.
        num_clients: How many clients.
        calls_each: How many operations each makes.
        seed: What they do.
        meanwhile: Makes trouble, on this thread; is given a function that tells how many operations have returned.
        operation_timeout_s: After this time an operation counts as never answered, and its client goes on.
    """
    with ExitStack() as connections:
        clients = [
            connections.enter_context(
                connect_impatiently(cluster.cluster_spec, "observer", index, operation_timeout_s=operation_timeout_s)
            )
            for index in range(num_clients)
        ]
        variables = [_declared(client) for client in clients]
        initial = _look(variables[0], "the first look")
        histories: list[list[Call]] = [[] for _ in clients]
        with ThreadPoolExecutor(num_clients) as threads:
            running = [
                threads.submit(_work, variable, history, calls_each, random.Random(f"{seed}-{index}"), index)
                for index, (variable, history) in enumerate(zip(variables, histories, strict=True))
            ]
            meanwhile(lambda: sum(map(len, histories)))
            for each in running:
                each.result()
        final = _look(variables[0], "the last look")
    assert initial.version is not None
    calls = [call for history in histories for call in history]
    return Recording(State(initial.value, initial.version), [*calls, final])


def _declared(client: ss.Client) -> ss.Variable:
    with client.as_default(), ss.device("/job:ps/task:0"):
        variable = ss.get_variable(VARIABLE, [], dtype="int64", initializer=ss.zeros_initializer())
    assert isinstance(variable, ss.Variable)
    return variable


def _work(variable: ss.Variable, history: list[Call], number: int, chance: random.Random, client: int) -> None:
    numbers = _distinct_numbers(client)
    name = f"client {client}"
    for _ in range(number):
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
    seen = variable.read_if_newer(None)
    assert seen is not None
    return Call(Kind.READ, invoked, time.monotonic_ns(), int(seen.value), int(seen.version), name)


def _distinct_numbers(client: int) -> Iterator[int]:
    """Numbers that no other client uses, so that a value says a lot about what is in it."""
    number = 1
    while True:
        yield number * 1_000 + client
        number += 1
