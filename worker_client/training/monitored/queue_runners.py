"""TensorFlow 1's queue runners: threads that put into a queue what operations give, until they have no more."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from ps_protocol.errors import CancelledError, OutOfRangeError, ShardscopeError
from ps_protocol.forks import new_lock
from ps_protocol.interrupts import is_interrupt, raise_interrupt
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.keys import GraphKeys
from worker_client.resources.queues import QueueBase
from worker_client.sessions.session import Session, get_default_session
from worker_client.training.monitored.coordinator import Coordinator
from worker_client.training.monitored.log import LOG
from worker_client.training.monitored.wrapped_sessions import is_loss


class QueueRunner:
    """Runs operations that put something into a queue, each in a thread of its own. Thread-safe.

    When all of them have ended by an error that is expected, the queue is closed. Any other error goes to the
    coordinator, or without one ends its thread, and is in ``exceptions_raised``.

    Args:
        queue: The queue.
        enqueue_ops: The operations, one for each thread; the same one may be there several times.
        close_op: Closes the queue; made if not given.
        cancel_op: Closes the queue, and cancels what waits for room; made if not given.
        queue_closed_exception_types: Errors that say that there is no more; ``OutOfRangeError`` if not given.
        queue_runner_def: Not supported.
        import_scope: Ignored.

    Raises:
        ValueError: There is no queue, or no operation.
        TypeError: The types are no tuple of types of errors of ``tf.errors``.
    """

    def __init__(
        self,
        queue: QueueBase | None = None,
        enqueue_ops: Sequence[Any] | None = None,
        close_op: Any = None,
        cancel_op: Any = None,
        queue_closed_exception_types: tuple[type[ShardscopeError], ...] | None = None,
        queue_runner_def: Any = None,
        import_scope: str | None = None,
    ):
        del import_scope
        if queue_runner_def is not None:
            if queue is not None or enqueue_ops is not None:
                raise ValueError("queue_runner_def and queue are mutually exclusive.")
            raise NotImplementedError("a queue runner is made from a queue and operations here, not from a message")
        if not queue or not enqueue_ops:
            raise ValueError("Must provide queue and enqueue_ops.")
        types = (OutOfRangeError,) if queue_closed_exception_types is None else queue_closed_exception_types
        if (
            not isinstance(types, tuple)
            or not types
            or [each for each in types if not (isinstance(each, type) and issubclass(each, ShardscopeError))]
        ):
            raise TypeError(
                f"queue_closed_exception_types, when provided, must be a tuple of tf.error types, but saw: {types}"
            )
        self._queue: Final = queue
        self._enqueue_ops: Final = enqueue_ops
        self._close_op: Final = queue.close() if close_op is None else close_op
        self._cancel_op: Final = queue.close(cancel_pending_enqueues=True) if cancel_op is None else cancel_op
        self._types: Final = types
        self._lock = new_lock()  # guards: _working, _raised
        self._working: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # threads that have not ended, by session
        self._raised: list[BaseException] = []

    @property
    def queue(self) -> QueueBase:
        """The queue."""
        return self._queue

    @property
    def enqueue_ops(self) -> Sequence[Any]:
        """The operations."""
        return self._enqueue_ops

    @property
    def close_op(self) -> Any:
        """Closes the queue when all operations have ended."""
        return self._close_op

    @property
    def cancel_op(self) -> Any:
        """Closes the queue when the coordinator stops, and cancels what waits for room."""
        return self._cancel_op

    @property
    def queue_closed_exception_types(self) -> tuple[type[ShardscopeError], ...]:
        """Errors that say that there is no more."""
        return self._types

    @property
    def exceptions_raised(self) -> list[BaseException]:
        """What has failed in the newest threads, as far as there was no coordinator to tell."""
        return self._raised

    @property
    def name(self) -> str:
        """That of the queue."""
        return self._queue.name

    def create_threads(
        self, sess: Session, coord: Coordinator | None = None, daemon: bool = False, start: bool = False
    ) -> list[threading.Thread]:
        """Makes a thread for each operation; with a coordinator one more, which closes the queue when that stops.

        Args:
            sess: Runs them.
            coord: Stops them, is told what fails, and waits for them.
            daemon: Whether the process may end before them.
            start: Whether to start them.

        Returns:
            The threads; none if those that were made for the session before have not ended.
        """
        with self._lock:
            if self._working.get(sess, 0) > 0:
                return []
            self._working[sess] = len(self._enqueue_ops)
            self._raised = []
        threads = [
            threading.Thread(
                target=self._run, args=(sess, each, coord), name=f"QueueRunnerThread-{self.name}-{each.name}"
            )
            for each in self._enqueue_ops
        ]
        if coord is not None:
            threads.append(
                threading.Thread(
                    target=self._close_on_stop, args=(sess, coord), name=f"QueueRunnerThread-{self.name}-close_on_stop"
                )
            )
        for thread in threads:
            if coord is not None:
                coord.register_thread(thread)
            thread.daemon = daemon
            if start:
                thread.start()
        return threads

    def _run(self, sess: Session, enqueue_op: Any, coord: Coordinator | None) -> None:
        """Runs an operation until it fails, or the coordinator stops."""
        is_counted = True
        try:
            while coord is None or not coord.should_stop():
                try:
                    sess.run(enqueue_op)
                except self._types as error:
                    raise_interrupt(error)
                    is_counted = False
                    if self._is_last(sess):
                        try:
                            sess.run(self._close_op)
                        except ShardscopeError as ignored:
                            raise_interrupt(ignored)
                            LOG.debug("Ignored exception: %s", ignored)
                    return
        except BaseException as error:
            if coord is None:
                LOG.error("Exception in QueueRunner: %s", error)
                with self._lock:
                    self._raised.append(error)
                if isinstance(error, ShardscopeError) and not is_interrupt(error):
                    self._queue.is_given_up_by(sess.home)
                raise
            if coord.should_stop() and isinstance(error, CancelledError):
                LOG.debug("Ended with the session: %s", error)  # what it waited for was called off
                return
            coord.request_stop(sys.exc_info())
        finally:
            if is_counted:
                self._is_last(sess)

    def _is_last(self, sess: Session) -> bool:
        """Counts a thread that has ended; returns whether it was the last one of the session."""
        with self._lock:
            self._working[sess] -= 1
            return not self._working[sess]

    def _close_on_stop(self, sess: Session, coord: Coordinator) -> None:
        coord.wait_for_stop()
        if is_loss(coord.failure) and self._queue.is_left_open_by(sess.home):
            return
        try:
            sess.run(self._cancel_op)
        except (ShardscopeError, RuntimeError) as error:  # the session may be closed
            raise_interrupt(error)
            LOG.debug("Ignored exception: %s", error)


def add_queue_runner(qr: QueueRunner, collection: str = GraphKeys.QUEUE_RUNNERS) -> None:
    """Adds a queue runner to a collection of the default graph, of which ``start_queue_runners`` starts all."""
    get_default_graph().add_to_collection(collection, qr)


def start_queue_runners(
    sess: Any = None,
    coord: Coordinator | None = None,
    daemon: bool = True,
    start: bool = True,
    collection: str = GraphKeys.QUEUE_RUNNERS,
) -> list[threading.Thread]:
    """Starts all queue runners of a collection, and returns their threads; a monitored session has done so already.

    Args:
        sess: Runs them; the default session if not given.
        coord: Stops them, and is told what fails.
        daemon: Whether the process may end before them.
        start: Whether to start them, or only to make their threads.
        collection: Which ones.

    Raises:
        ValueError: No session is given, and none is the default.
        TypeError: ``sess`` is no session.
    """
    session = get_default_session() if sess is None else sess
    if session is None:
        raise ValueError(
            "Cannot start queue runners: No default session is registered. Use `with sess.as_default()` or pass an "
            "explicit session to tf.start_queue_runners(sess=sess)"
        )
    if getattr(session, "starts_queue_runners", False):
        return []
    if not isinstance(session, Session):
        raise TypeError(f"sess must be a `tf.Session` object. Given class: {type(session)}")
    runners = session.graph.get_collection(collection)
    if not runners:
        LOG.warning(
            "`tf.train.start_queue_runners()` was called when no queue runners were defined. You can safely remove the "
            "call to this deprecated function."
        )
    return started(runners, session, coord, daemon=daemon, start=start)


def started(
    runners: Iterable[QueueRunner], sess: Session, coord: Coordinator | None, *, daemon: bool = True, start: bool = True
) -> list[threading.Thread]:
    """Starts queue runners, or only makes their threads; returns these."""
    threads: list[threading.Thread] = []
    for runner in runners:
        threads += runner.create_threads(sess, coord=coord, daemon=daemon, start=start)
    return threads
