"""``Supervisor``: makes sessions that are ready, and stops the threads of a training loop."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from ps_protocol.errors import AbortedError
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.ops.collections import global_variables
from worker_client.ops.initialization import global_variables_initializer, report_uninitialized_variables
from worker_client.sessions.session import Session
from worker_client.summaries.file_writer import FileWriter
from worker_client.summaries.ops import merge_all
from worker_client.summaries.protos import session_log
from worker_client.training.global_step import get_global_step, global_step
from worker_client.training.monitored.coordinator import Coordinator, ExceptionInfo, LooperThread
from worker_client.training.monitored.log import LOG
from worker_client.training.monitored.queue_runners import started
from worker_client.training.monitored.scaffold import Scaffold
from worker_client.training.monitored.session_manager import MAX_WAIT_S, SessionManager
from worker_client.training.monitored.supervisor_threads import CheckpointThread, StepCounterThread, SummaryThread
from worker_client.training.savers.saver import Saver

_USE_DEFAULT: Final = 0


class Supervisor:
    """Makes sessions that are ready, and ends what runs beside the training loop. Finishes the graph.

    Where an argument may be left to the supervisor it is ``USE_DEFAULT``: what a collection holds, or what is made.

    Args:
        graph: The default graph if not given.
        ready_op: Its value are the names of variables that have no value.
        ready_for_local_init_op: The same of those that ``local_init_op`` needs; None if not in a collection.
        is_chief: Whether this process initialises the variables; if not, it waits until that is done.
        init_op: Gives variables their initial values.
        init_feed_dict: What is fed to it.
        local_init_op: Gives local variables their initial values.
        logdir: Where the chief writes summaries and checkpoints, and restores the newest checkpoint from.
        summary_op: What it writes; None for only what the program computes itself.
        saver: Saves and restores; one of all global variables if it is left to the supervisor, None for nothing.
        global_step: Counts the steps; None if nothing does.
        save_summaries_secs: Seconds between two summaries; 0 for none.
        save_model_secs: Seconds between two checkpoints; 0 for none.
        recovery_wait_secs: As ``SessionManager``'s.
        stop_grace_secs: Time that threads have to end, in seconds.
        checkpoint_basename: What the files of checkpoints are called, in front of the step.
        session_manager: Makes the sessions; a default one if not given.
        summary_writer: Writes the summaries; None for none.
        init_fn: Called with the session after ``init_op``.
        local_init_run_options: As ``SessionManager``'s.

    Raises:
        RuntimeError: In the graph everything happens at once.
    """

    USE_DEFAULT: Final = _USE_DEFAULT

    def __init__(
        self,
        graph: Graph | None = None,
        ready_op: Any = _USE_DEFAULT,
        ready_for_local_init_op: Any = _USE_DEFAULT,
        is_chief: bool = True,
        init_op: Any = _USE_DEFAULT,
        init_feed_dict: Mapping[Any, Any] | None = None,
        local_init_op: Any = _USE_DEFAULT,
        logdir: str | None = None,
        summary_op: Any = _USE_DEFAULT,
        saver: Any = _USE_DEFAULT,
        global_step: Any = _USE_DEFAULT,
        save_summaries_secs: float = 120,
        save_model_secs: float = 600,
        recovery_wait_secs: float = 30,
        stop_grace_secs: float = 120,
        checkpoint_basename: str = "model.ckpt",
        session_manager: SessionManager | None = None,
        summary_writer: Any = _USE_DEFAULT,
        init_fn: Callable[[Any], Any] | None = None,
        local_init_run_options: Any = None,
    ):
        graph = graph or get_default_graph()
        if not graph.deferred:
            raise RuntimeError("Supervisors need a deferred graph; build in `with Graph().as_default():`")
        with graph.as_default():
            self._ready_op = _found(ready_op, GraphKeys.READY_OP, report_uninitialized_variables)
            self._ready_for_local_init_op = _found(ready_for_local_init_op, GraphKeys.READY_FOR_LOCAL_INIT_OP)
            self._init_op = _found(init_op, GraphKeys.INIT_OP, global_variables_initializer)
            self._local_init_op = _found(local_init_op, GraphKeys.LOCAL_INIT_OP, Scaffold.default_local_init_op)
            self._saver = _found(saver, GraphKeys.SAVERS, lambda: Saver() if global_variables() else None)
            self._summary_op = _found(summary_op, GraphKeys.SUMMARY_OP, merge_all)
            self._global_step = get_global_step(graph) if global_step is _USE_DEFAULT else global_step
        self._graph = graph
        self._is_chief = is_chief
        self._coord = Coordinator()
        self._stop_grace_secs = stop_grace_secs
        self._init_feed_dict = init_feed_dict
        self._init_fn = init_fn
        self._logdir = logdir if is_chief else None
        self._save_summaries_secs = save_summaries_secs if is_chief else None
        self._save_model_secs = save_model_secs if is_chief else None
        self._save_path = os.path.join(self._logdir, checkpoint_basename) if self._logdir else None  # noqa: PTH118
        self._writer: Any = None
        if is_chief and summary_writer is not _USE_DEFAULT:
            self._writer = summary_writer
        elif self._logdir:
            self._writer = FileWriter(self._logdir)
        self._graph_is_written = False
        self._manager = session_manager or SessionManager(
            local_init_op=self._local_init_op,
            ready_op=self._ready_op,
            ready_for_local_init_op=self._ready_for_local_init_op,
            graph=graph,
            recovery_wait_secs=recovery_wait_secs,
            local_init_run_options=local_init_run_options,
        )
        graph.finalize()

    # -- what it uses ---------------------------------------------------------------------------

    @property
    def is_chief(self) -> bool:
        return self._is_chief

    @property
    def session_manager(self) -> SessionManager:
        return self._manager

    @property
    def coord(self) -> Coordinator:
        return self._coord

    @property
    def init_op(self) -> Any:
        return self._init_op

    @property
    def init_feed_dict(self) -> Mapping[Any, Any] | None:
        return self._init_feed_dict

    @property
    def ready_op(self) -> Any:
        return self._ready_op

    @property
    def ready_for_local_init_op(self) -> Any:
        return self._ready_for_local_init_op

    @property
    def summary_writer(self) -> Any:
        return self._writer

    @property
    def summary_op(self) -> Any:
        return self._summary_op

    @property
    def save_summaries_secs(self) -> float | None:
        return self._save_summaries_secs

    @property
    def global_step(self) -> Any:
        return self._global_step

    @property
    def saver(self) -> Any:
        return self._saver

    @property
    def save_model_secs(self) -> float | None:
        return self._save_model_secs

    @property
    def save_path(self) -> str | None:
        """The name of checkpoints without the step; None without ``logdir``, and on all workers but the chief."""
        return self._save_path

    # -- sessions -------------------------------------------------------------------------------

    def prepare_or_wait_for_session(
        self,
        master: Any = "",
        config: Any = None,
        wait_for_checkpoint: bool = False,
        max_wait_secs: float = MAX_WAIT_S,
        start_standard_services: bool = True,
    ) -> Session:
        """Returns a session that is ready.

        The chief restores the variables from the newest checkpoint, or else initialises them; others wait for that.

        Args:
            master: As ``Session``'s target.
            config: As ``Session``'s.
            wait_for_checkpoint: Whether the chief waits until there is a checkpoint.
            max_wait_secs: Bound on waiting for the chief, or for a checkpoint, in seconds.
            start_standard_services: Whether the chief writes summaries and checkpoints beside.

        Raises:
            DeadlineExceededError: The chief has not initialised everything in time.
            RuntimeError: The chief's model is not ready after it was initialised.
        """
        self._coord.clear_stop()
        if self._writer:
            self._writer.reopen()
        if not self._is_chief:
            session = self._manager.wait_for_session(master, config=config, max_wait_secs=max_wait_secs)
            self.start_queue_runners(session)
            return session
        session = self._manager.prepare_session(
            master,
            self._init_op,
            saver=self._saver,
            checkpoint_dir=self._logdir,
            wait_for_checkpoint=wait_for_checkpoint,
            max_wait_secs=max_wait_secs,
            config=config,
            init_feed_dict=self._init_feed_dict,
            init_fn=self._init_fn,
        )
        if self._writer and not self._graph_is_written:
            self._writer.add_graph(self._graph)
            self._graph_is_written = True
        if start_standard_services:
            LOG.info("Starting standard services.")
            self.start_standard_services(session)
        self.start_queue_runners(session)
        return session

    @contextlib.contextmanager
    def managed_session(
        self,
        master: Any = "",
        config: Any = None,
        start_standard_services: bool = True,
        close_summary_writer: bool = True,
    ) -> Iterator[Session]:
        """Gives a session that is ready, as ``prepare_or_wait_for_session``; ends everything behind the block.

        An ``OutOfRangeError`` that leaves the block ends it well. Any other error is raised behind it.
        """
        session: Session | None = None
        try:
            session = self.prepare_or_wait_for_session(master, config, start_standard_services=start_standard_services)
            yield session
        except Exception as error:  # noqa: BLE001 - stop() raises it
            self.request_stop(error)
        finally:
            try:
                self.stop(close_summary_writer=close_summary_writer)
            finally:
                if session is not None:
                    session.close()

    # -- what runs beside -----------------------------------------------------------------------

    def start_standard_services(self, sess: Session) -> list[threading.Thread] | None:
        """Starts the threads that write summaries, how fast it goes, and checkpoints.

        Returns:
            The threads; None without ``logdir``.

        Raises:
            RuntimeError: This is not the chief.
        """
        if not self._is_chief:
            raise RuntimeError(
                "Only chief supervisor can start standard services. Because only chief supervisors can write events."
            )
        if not self._logdir:
            LOG.warning("Standard services need a 'logdir' passed to the SessionManager")
            return None
        if self._global_step is not None and self._writer:
            self._writer.add_session_log(session_log("START"), global_step(sess, self._global_step))
        threads: list[threading.Thread] = []
        if self._save_summaries_secs and self._writer:
            if self._summary_op is not None:
                threads.append(SummaryThread(self, sess))
            if self._global_step is not None:
                threads.append(StepCounterThread(self, sess))
        if self._saver is not None and self._save_model_secs:
            threads.append(CheckpointThread(self, sess))
        for thread in threads:
            thread.start()
        return threads

    def start_queue_runners(self, sess: Session, queue_runners: Iterable[Any] | None = None) -> list[threading.Thread]:
        """Starts queue runners, by default all of the graph, and returns their threads; this has been done already.

        Args:
            sess: Runs them.
            queue_runners: Which ones.
        """
        runners = self._graph.get_collection(GraphKeys.QUEUE_RUNNERS) if queue_runners is None else queue_runners
        return started(runners, sess, self._coord)

    def loop(
        self,
        timer_interval_secs: float | None,
        target: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> LooperThread:
        """Starts a thread that calls a function over and over until the stop; returns it."""
        return LooperThread.loop(self._coord, timer_interval_secs, target, args, kwargs)

    def summary_computed(self, sess: Session, summary: Any, global_step: Any = None) -> None:
        """Writes a summary that the program has computed.

        Args:
            sess: Reads the global step.
            summary: Its bytes.
            global_step: At which step; the present one if not given.

        Raises:
            RuntimeError: There is no summary writer.
        """
        if not self._writer:
            raise RuntimeError("Writing a summary requires a summary writer.")
        if global_step is None and self._global_step is not None:
            global_step = sess.run(self._global_step)
        self._writer.add_summary(summary, global_step)

    # -- the end --------------------------------------------------------------------------------

    def stop(
        self,
        threads: Iterable[threading.Thread] | None = None,
        close_summary_writer: bool = True,
        ignore_live_threads: bool = False,
    ) -> None:
        """Asks all threads to stop, and waits for them; raises as ``Coordinator.join``."""
        self._coord.request_stop()
        try:
            self._coord.join(threads, self._stop_grace_secs, ignore_live_threads)
        finally:
            if close_summary_writer and self._writer:
                self._writer.add_session_log(session_log("STOP"))
                self._writer.close()
                self._graph_is_written = False

    def request_stop(self, ex: BaseException | ExceptionInfo | None = None) -> None:
        """Asks all threads to stop; see ``Coordinator.request_stop``."""
        self._coord.request_stop(ex)

    def should_stop(self) -> bool:
        """Whether the loop should end."""
        return self._coord.should_stop()

    def stop_on_exception(self) -> contextlib.AbstractContextManager[None]:
        """Requests a stop if the block raises an exception, which goes no further."""
        return self._coord.stop_on_exception()

    def wait_for_stop(self) -> None:
        """Waits, for as long as the loop runs, until a stop is requested."""
        self._coord.wait_for_stop()

    PrepareSession = prepare_or_wait_for_session
    StartQueueRunners = start_queue_runners
    StartStandardServices = start_standard_services
    Stop = stop
    RequestStop = request_stop
    Loop = loop
    ShouldStop = should_stop
    StopOnException = stop_on_exception
    WaitForStop = wait_for_stop
    SummaryComputed = summary_computed


def _found(given: Any, key: str, make: Callable[[], Any] = lambda: None) -> Any:
    """Returns what is given; or the first member of a collection of the default graph, made if there is none."""
    if given is not _USE_DEFAULT:
        return given
    graph = get_default_graph()
    members = graph.get_collection(key)
    if len(members) > 1:
        LOG.info("Found %d %s operations. Returning the first one.", len(members), key)
    if members:
        return members[0]
    made = make()
    if made is not None:
        graph.add_to_collection(key, made)
    return made


def basic_train_loop(
    supervisor: Supervisor,
    train_step_fn: Callable[..., Any],
    args: Iterable[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    master: Any = "",
) -> None:
    """Calls a function with a session until the supervisor says stop; begins again with another when a task is lost.

    Args:
        supervisor: Makes the sessions.
        train_step_fn: Is given the session, ``args`` and ``kwargs``.
        args: See there.
        kwargs: See there.
        master: As ``Session``'s target.
    """
    arguments, keywords = tuple(args or ()), dict(kwargs or {})
    while True:
        try:
            with supervisor.managed_session(master) as session:
                while not supervisor.should_stop():
                    train_step_fn(session, *arguments, **keywords)
        except AbortedError as error:
            if not error.retryable:
                raise
        else:
            return
