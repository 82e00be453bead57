"""Makes sessions whose variables have values: restores or initialises them, or waits until another process has."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from ps_protocol.errors import DeadlineExceededError, FailedPreconditionError
from ps_protocol.tensorflow_files.state_file import CheckpointState
from worker_client.checkpoints.state import get_checkpoint_state
from worker_client.connection.retry import Reports
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.graph import Graph
from worker_client.sessions.session import Session
from worker_client.training.monitored.log import LOG
from worker_client.training.savers.saver import Saver

MAX_WAIT_S: Final = 7200.0
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 1.0
_LONGEST_REPORT: Final = 200


class SessionManager:
    """Makes sessions that are ready to train.

    Args:
        local_init_op: Run in each new session.
        ready_op: Its value are the names of variables without a value; None for always ready.
        ready_for_local_init_op: The same before ``local_init_op`` is run.
        graph: To run; the default graph if not given.
        recovery_wait_secs: How often it is logged that a session is not ready yet, in seconds. It is looked at more
            often.
        local_init_run_options: ``RunOptions`` for ``local_init_op``.
        local_init_feed_dict: What is fed to it.

    Raises:
        ValueError: ``ready_for_local_init_op`` is given without ``local_init_op``.
    """

    def __init__(
        self,
        local_init_op: Any = None,
        ready_op: Any = None,
        ready_for_local_init_op: Any = None,
        graph: Graph | None = None,
        recovery_wait_secs: float = 30,
        local_init_run_options: Any = None,
        local_init_feed_dict: Mapping[Any, Any] | None = None,
    ):
        if ready_for_local_init_op is not None and local_init_op is None:
            raise ValueError(
                f"If you pass a ready_for_local_init_op you must also pass a local_init_op , ready_for_local_init_op "
                f"[{ready_for_local_init_op}]"
            )
        self._local_init_op = local_init_op
        self._ready_op = ready_op
        self._ready_for_local_init_op = ready_for_local_init_op
        self._graph = graph or get_default_graph()
        self._recovery_wait_s = recovery_wait_secs
        self._local_init_run_options = local_init_run_options
        self._local_init_feed_dict = local_init_feed_dict

    def prepare_session(
        self,
        master: Any,
        init_op: Any = None,
        saver: Saver | None = None,
        checkpoint_dir: str | None = None,
        checkpoint_filename_with_path: str | None = None,
        wait_for_checkpoint: bool = False,
        max_wait_secs: float = MAX_WAIT_S,
        config: Any = None,
        init_feed_dict: Mapping[Any, Any] | None = None,
        init_fn: Callable[[Any], Any] | None = None,
    ) -> Session:
        """Returns a session in which everything is restored from a checkpoint, or else initialised.

        Args:
            master: As ``Session``'s target.
            init_op: Run first, unless there was a checkpoint.
            saver: Restores; nothing is restored without one.
            checkpoint_dir: Where the newest checkpoint is restored, if there is one.
            checkpoint_filename_with_path: Or which one is.
            wait_for_checkpoint: Whether to wait until there is one in ``checkpoint_dir``.
            max_wait_secs: For how long, in seconds.
            config: As ``Session``'s.
            init_feed_dict: What is fed to ``init_op``.
            init_fn: Called with the session then.

        Raises:
            RuntimeError: There is nothing that could initialise the model, or it is not ready then.
            ValueError: Both a directory and a checkpoint are given, or the checkpoint is not there.
            NotFoundError: A variable is not in the checkpoint; errors as of ``Saver.restore``.
        """
        with self._closed_on_error(master, config) as session:
            wait_s = max_wait_secs if wait_for_checkpoint else 0.0
            if not self._restore(session, saver, checkpoint_dir, checkpoint_filename_with_path, wait_s):
                if init_op is None and not init_fn and self._local_init_op is None:
                    raise RuntimeError("Model is not initialized and no init_op or init_fn or local_init_op was given")
                if init_op is not None:
                    session.run(init_op, feed_dict=init_feed_dict)
                if init_fn:
                    init_fn(session)
            made = f"Init op: {_name_of(init_op)}, init fn: {init_fn}"
            lacking = self._why_no_local_init(session)
            if lacking:
                raise RuntimeError(
                    f"Init operations did not make model ready for local_init.  {made}, error: {lacking}"
                )
            lacking = why_not_ready(self._ready_op, session)
            if lacking:
                raise RuntimeError(
                    f"Init operations did not make model ready.  {made}, local_init_op: {self._local_init_op}, error: "
                    f"{lacking}"
                )
            return session

    def find_ready_session(self, master: Any, config: Any = None) -> Session | None:
        """Returns a session if the model is ready as it is, None if it must be initialised. Arguments as before."""
        with self._closed_on_error(master, config) as session:
            if self._why_no_local_init(session) is None and why_not_ready(self._ready_op, session) is None:
                return session
        session.close()
        return None

    def recover_session(
        self,
        master: Any,
        saver: Saver | None = None,
        checkpoint_dir: str | None = None,
        checkpoint_filename_with_path: str | None = None,
        wait_for_checkpoint: bool = False,
        max_wait_secs: float = MAX_WAIT_S,
        config: Any = None,
    ) -> tuple[Session, bool]:
        """Returns a session, and whether it was restored from a checkpoint. Arguments as ``prepare_session``."""
        with self._closed_on_error(master, config) as session:
            wait_s = max_wait_secs if wait_for_checkpoint else 0.0
            is_restored = self._restore(session, saver, checkpoint_dir, checkpoint_filename_with_path, wait_s)
            lacking = self._why_no_local_init(session)
            if not is_restored:
                return session, False
            source = checkpoint_dir or checkpoint_filename_with_path
            lacking = lacking or why_not_ready(self._ready_op, session)
            if lacking:
                LOG.info("Restoring model from %s did not make model ready: %s", source, lacking)
            else:
                LOG.info("Restored model from %s", source)
            return session, not lacking

    def wait_for_session(self, master: Any, config: Any = None, max_wait_secs: float | None = MAX_WAIT_S) -> Session:
        """Returns a session as soon as the model is ready, which another process makes it.

        Args:
            master: As ``Session``'s target.
            config: As ``Session``'s.
            max_wait_secs: Bound on waiting, in seconds; none if None.

        Raises:
            DeadlineExceededError: It was not ready in time; the message says what was lacking.
        """
        bound_s = math.inf if max_wait_secs is None else max_wait_secs
        start_s = time.monotonic()
        reported_s, pause_s = -math.inf, _FIRST_PAUSE_S
        reports = Reports()
        with self._closed_on_error(master, config) as session:
            while True:
                before_local = self._why_no_local_init(session)
                lacking = before_local or why_not_ready(self._ready_op, session)
                if not lacking:
                    return session
                now_s = time.monotonic()
                if reports.is_due(
                    now_s - start_s
                ):  # TensorFlow's lines below are shown to those alone who ask for them
                    bound = f" of up to {bound_s:.0f} s" if math.isfinite(bound_s) else ""
                    why = textwrap.shorten(lacking, _LONGEST_REPORT, placeholder=" ...")
                    LOG.warning("waiting for the chief, %.0f s%s: %s", now_s - start_s, bound, why)
                if now_s - start_s >= bound_s:
                    raise DeadlineExceededError(
                        f"Session was not ready after waiting {bound_s:.0f} secs. {lacking}; make sure that the chief "
                        f"runs, and initialises them"
                    )
                if now_s - reported_s >= self._recovery_wait_s:
                    reported_s = now_s
                    LOG.info(
                        "Waiting for model to be ready.  Ready_for_local_init_op:  %s, ready: %s",
                        before_local,
                        None if before_local else lacking,
                    )
                time.sleep(min(pause_s, max(0.0, start_s + bound_s - now_s)))
                pause_s = min(1.5 * pause_s, _LONGEST_PAUSE_S)

    def _restore(
        self,
        session: Session,
        saver: Saver | None,
        checkpoint_dir: str | None,
        checkpoint_path: str | None,
        wait_s: float,
    ) -> bool:
        """Restores a checkpoint; returns whether there was one."""
        if checkpoint_dir and checkpoint_path:
            raise ValueError("Can not provide both checkpoint_dir and checkpoint_filename_with_path.")
        if saver is None:
            return False
        if checkpoint_path:
            saver.restore(session, checkpoint_path)
            return True
        state = self._newest_checkpoint(checkpoint_dir, wait_s) if checkpoint_dir else None
        if state is None:
            return False
        saver.restore(session, state.model_checkpoint_path)
        saver.recover_last_checkpoints(state.all_model_checkpoint_paths)
        return True

    def _newest_checkpoint(self, directory: str, wait_s: float) -> CheckpointState | None:
        """Returns what a directory says of its checkpoints; None if it says nothing even after waiting."""
        end_s, reported_s, pause_s = time.monotonic() + wait_s, -math.inf, _FIRST_PAUSE_S
        while (state := get_checkpoint_state(directory)) is None:
            now_s = time.monotonic()
            if now_s >= end_s:
                return None
            if now_s - reported_s >= self._recovery_wait_s:
                reported_s = now_s
                LOG.info("Waiting for checkpoint to be available.")
            time.sleep(min(pause_s, end_s - now_s))
            pause_s = min(1.5 * pause_s, _LONGEST_PAUSE_S)
        return state

    @contextmanager
    def _closed_on_error(self, master: Any, config: Any) -> Iterator[Session]:
        """Makes a session, which is left open unless the block fails."""
        session = Session(master, self._graph, config)
        try:
            yield session
        except BaseException:
            session.close()
            raise

    def _why_no_local_init(self, session: Session) -> str | None:
        """Runs ``local_init_op`` if it can be run; returns what is lacking, None if nothing is."""
        if self._local_init_op is None:
            return None
        lacking = why_not_ready(self._ready_for_local_init_op, session)
        if lacking is None:
            LOG.info("Running local_init_op.")
            session.run(self._local_init_op, feed_dict=self._local_init_feed_dict, options=self._local_init_run_options)
            LOG.info("Done running local_init_op.")
        return lacking


def why_not_ready(ready_op: Any, session: Session) -> str | None:
    """Returns why a model is not ready, None if it is."""
    if ready_op is None:
        return None
    try:
        value = session.run(ready_op)
    except FailedPreconditionError as error:
        if type(error) is not FailedPreconditionError:  # as StateLostError, which waiting does not help
            raise
        return error.message
    if value is None or value.dtype == np.int32 or value.size == 0:
        return None
    return "Variables not initialized: " + ", ".join(each.decode() for each in np.ravel(value))


def _name_of(element: Any) -> str:
    if element is None:
        return "None"
    return str(getattr(element, "name", f"<no name for {type(element)}>"))
