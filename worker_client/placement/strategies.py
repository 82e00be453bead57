"""Strategies that choose a ps task for each variable, for ``replica_device_setter`` and for ``connect``.

A strategy is called with the operation of a variable that is about to be made and returns the index of a ps task. The
operation's first output has the variable's shape and dtype.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeAlias

from ps_protocol.forks import new_lock
from ps_protocol.not_copied import NotCopied
from worker_client.graph.operation import Operation

PsStrategy: TypeAlias = Callable[[Operation], int]
"""Chooses a ps task."""

LoadFunction: TypeAlias = Callable[[Operation], float]
"""Says how much of a task's capacity a variable takes."""


class RoundRobinStrategy(
    NotCopied, bound_to="what this process has placed so far", instead="make one for the other process"
):
    """One task after the other: as many variables on each. Thread-safe.

    Which task a variable gets depends on the order of creation, so workers that create variables in another order
    propose other tasks. The cluster's directory then decides.

    Args:
        num_tasks: Number of ps tasks.

    Raises:
        ValueError: ``num_tasks`` is not positive.
    """

    def __init__(self, num_tasks: int):
        self._num_tasks = _checked(num_tasks)
        self._lock = new_lock()  # guards: _next_task
        self._next_task = 0

    def __call__(self, op: Operation) -> int:  # noqa: ARG002 - all count alike
        with self._lock:
            task = self._next_task
            self._next_task = (task + 1) % self._num_tasks
        return task


class GreedyLoadBalancingStrategy(
    NotCopied, bound_to="what this process has placed so far", instead="make one for the other process"
):
    """Always the task with the least load, of equals the first. Thread-safe.

    Args:
        num_tasks: Number of ps tasks.
        load_fn: The load that a variable is, such as ``byte_size_load_fn``. Its errors are passed on.

    Raises:
        ValueError: ``num_tasks`` is not positive.
    """

    def __init__(self, num_tasks: int, load_fn: LoadFunction):
        self._lock = new_lock()  # guards: _loads
        self._loads = [0.0] * _checked(num_tasks)
        self._load_fn = load_fn

    def __call__(self, op: Operation) -> int:
        load = self._load_fn(op)
        with self._lock:
            task = min(range(len(self._loads)), key=self._loads.__getitem__)
            self._loads[task] += load
        return task


class RandomStrategy:
    """A task drawn from the variable's name and a seed, whatever the order of creation. Thread-safe.

    It is the one that ``contrib.training.RandomStrategy`` of TensorFlow 1 draws: MD5 of "name_seed".

    Args:
        num_tasks: Number of ps tasks.
        seed: Another seed, another distribution.

    Raises:
        ValueError: ``num_tasks`` is not positive.
    """

    def __init__(self, num_tasks: int, seed: int = 0):
        self._num_tasks = _checked(num_tasks)
        self._seed = seed

    def __call__(self, op: Operation) -> int:
        digest = hashlib.md5(f"{op.name}_{self._seed}".encode(), usedforsecurity=False).hexdigest()
        return int(digest, 16) % self._num_tasks


class HashStrategy:
    """A task computed from the variable's full name alone. Thread-safe.

    Every worker that knows the name proposes the same task, in whatever order it creates variables, and when a task is
    added only the variables that move to it change their place (rendezvous hashing: Thaler and Ravishankar, "A
    name-based mapping scheme for rendezvous", 1996).

    Args:
        num_tasks: Number of ps tasks.

    Raises:
        ValueError: ``num_tasks`` is not positive.
    """

    def __init__(self, num_tasks: int):
        self._num_tasks = _checked(num_tasks)

    def __call__(self, op: Operation) -> int:
        return max(range(self._num_tasks), key=lambda task: _stable_hash(f"{task}:{op.name}"))


def byte_size_load_fn(op: Operation) -> float:
    """The size of a variable in bytes, for ``GreedyLoadBalancingStrategy``.

    Raises:
        ValueError: The shape is not fully known.
    """
    output = op.outputs[0]
    elements = output.shape.num_elements()
    if elements is None:
        raise ValueError(f"variable {op.name} has the shape {output.shape}; its size in bytes is not known")
    return float(elements * output.dtype.itemsize)


def _stable_hash(text: str) -> int:
    """A hash that is the same in every process and version, unlike Python's own."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _checked(num_tasks: int) -> int:
    if num_tasks < 1:
        raise ValueError(f"a placement strategy needs at least one ps task, not {num_tasks}")
    return num_tasks
