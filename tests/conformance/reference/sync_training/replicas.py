"""Models that are trained synchronously, in one session or by several workers of a cluster in one process."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

WAIT_MS = 1500
"""How long a run over a cluster may take of which it is known that it waits for ever."""


class Replica:
    """One worker: its graph, with a vector or a table whose gradients are fed, and what it runs.

    Attributes:
        w: The trained variable: [2], or [4, 2] when gradients are of rows.
        step: The global step.
        optimizer: A ``SyncReplicasOptimizer``.
        train: What a worker runs: push, then wait for a token.
        round: What the chief's queue runner runs: take, apply, count, make tokens.
    """

    def __init__(self, tf: Any, notes: Any, optimizer: Any, aggregate: int, total: int | None = None, **options: Any) -> None:
        self._tf, self._notes, self.session = tf, notes, None
        self.label = options.pop("label", "")
        start, self._rows = options.pop("start", 0), options.pop("rows", False)
        self.step = tf.get_variable("global_step", [], options.pop("step_dtype", tf.int64), initializer=tf.constant_initializer(start), trainable=False)
        shape = [4, 2] if self._rows else [2]
        self.w = tf.get_variable("w", shape, initializer=tf.constant_initializer(1.0))
        self._value = tf.placeholder(tf.float32, [None, 2] if self._rows else [2], name="value")
        self._indices = tf.placeholder(tf.int32, [None], name="indices")
        gradient = tf.IndexedSlices(self._value, self._indices, tf.constant(shape)) if self._rows else self._value
        self.optimizer = tf.train.SyncReplicasOptimizer(optimizer, aggregate, total, **options)
        self.train = self.optimizer.apply_gradients([(gradient, self.w)], self.step)
        self.finish_building()

    def finish_building(self) -> None:
        """Makes what is run one by one: the parts of ``train``, and counts of what is pending."""
        tf = self._tf
        self.round = self.optimizer.get_chief_queue_runner().enqueue_ops[0]
        queue = self.optimizer.get_chief_queue_runner().queue
        self.local_step = tf.local_variables()[-1]
        self.pushes = list(self.train.op.inputs[1].op.control_inputs)
        with tf.device(self.step.device):
            self.token = tf.assign(self.local_step, queue.dequeue())
            self.tokens = queue.size()
        with tf.device(self.w.device):
            if self._rows:
                accumulator = tf.SparseConditionalAccumulator(tf.float32, shape=(), shared_name="w:0/grad_accum")
            else:
                accumulator = tf.ConditionalAccumulator(tf.float32, shape=self.w.shape, shared_name="w:0/grad_accum")
            self.pending = accumulator.num_accumulated()
        self.init = tf.global_variables_initializer()

    def fed(self, gradient: Any) -> Any:
        """Returns the feeds of a gradient: two numbers, or pairs of a row and a number."""
        if not self._rows:
            return {self._value: gradient}
        values = np.asarray([[value, value] for _, value in gradient], np.float32).reshape(-1, 2)
        return {self._indices: [row for row, _ in gradient], self._value: values}

    def start(self, tokens: int | None = 0, chief: bool = True) -> None:
        """Runs what a hook runs when a session is made; ``tokens`` None adds none and -1 the default."""
        if chief:
            init_tokens = self.optimizer.get_init_tokens_op(tokens) if tokens is not None else None
            self.session.run(self.init)
            self.session.run(self.optimizer.chief_init_op)
            if init_tokens is not None:
                self.session.run(init_tokens)
        else:
            self.session.run(self.optimizer.local_step_init_op)

    def run(self, name: str, fetches: Any, feeds: Any = None) -> Any:
        """Notes what a run gives."""
        return self._notes.run(self._labelled(name), fetches, feeds, self.session)

    def waits(self, name: str, fetches: Any, feeds: Any = None) -> None:
        """Notes the error of a run that waits for ever."""
        self._notes.waits(self._labelled(name), fetches, feeds, self.session, WAIT_MS)

    def _labelled(self, name: str) -> str:
        return f"{self.label}: {name}" if self.label else name

    def push(self, gradient: Any) -> None:
        """Pushes a gradient as ``train`` does, and does not wait for a token."""
        self.run(f"push {gradient}", self.pushes, self.fed(gradient))

    def take_token(self) -> None:
        """Takes a token as ``train`` does."""
        self.run("token", self.token)

    def state(self, name: str = "state") -> None:
        """Notes what is in the cluster, and the step of this worker."""
        fetches = {"w": self.w, "global_step": self.step, "local_step": self.local_step, "tokens": self.tokens, "pending": self.pending}
        self.run(name, fetches)


def replica(tf: Any, notes: Any, optimizer: Any, aggregate: int, total: int | None = None, tokens: int | None = 0, **options: Any) -> Replica:
    """Returns the only worker there is, in the program's graph and session, ready to train."""
    made = Replica(tf, notes, optimizer, aggregate, total, **options)
    made.session = notes.session
    made.start(tokens)
    return made


@contextlib.contextmanager
def free_addresses(number: int) -> Iterator[list[str]]:
    """Holds ports of this machine until servers listen there: others do not get them, and servers that share them do."""
    with contextlib.ExitStack() as held:
        addresses = []
        for _ in range(number):
            holder = held.enter_context(socket.socket())
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            holder.bind(("127.0.0.1", 0))
            addresses.append(f"localhost:{holder.getsockname()[1]}")
        yield addresses


class Replicas:
    """A ps task and workers, each with a server of this process, a graph of its own and a session of its own server.

    Attributes:
        workers: The workers; the first is the chief.
        tokens: How many tokens the chief adds at the start.
    """

    def __init__(self, tf: Any, notes: Any, number: int, optimizer: Any, aggregate: int, total: int | None = None, tokens: int | None = 0, **options: Any) -> None:
        self._notes = notes
        with free_addresses(number + 1) as addresses:
            spec = tf.train.ClusterSpec({"ps": addresses[:1], "worker": addresses[1:]})
            self.servers = [tf.train.Server(spec, job_name="ps", task_index=0)]
            self.servers += [tf.train.Server(spec, job_name="worker", task_index=task) for task in range(number)]
        self.workers = []
        for task in range(number):
            setter = tf.train.replica_device_setter(cluster=spec, worker_device=f"/job:worker/task:{task}")
            with tf.Graph().as_default() as graph, tf.device(setter):
                worker = Replica(tf, notes, optimizer(), aggregate, total, label=f"worker {task}", **options)
                worker.graph = graph
                self.workers.append(worker)
        for task, worker in enumerate(self.workers):
            worker.session = tf.Session(self.servers[task + 1].target, graph=worker.graph)
            with worker.graph.as_default():
                worker.start(tokens, chief=task == 0)

    def __enter__(self) -> list[Replica]:
        return self.workers

    def __exit__(self, *_: object) -> None:
        for each in self.workers:
            each.session.close()


def together(notes: Any, workers: list[Replica], gradients: list[Any]) -> None:
    """Runs ``train`` of all workers, each in a thread, and a round of the chief; notes the token that each took."""
    found: list[Any] = [None] * len(workers)

    def train(number: int) -> None:
        worker = workers[number]
        found[number] = worker.session.run(worker.train, worker.fed(gradients[number]))

    threads = [threading.Thread(target=train, args=(number,)) for number in range(len(workers))]
    for each in threads:
        each.start()
    workers[0].session.run(workers[0].round)
    for each in threads:
        each.join()
    notes.value("tokens taken", found)
