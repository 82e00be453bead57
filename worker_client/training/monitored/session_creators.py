"""Make the session of a monitored one: a chief's, which restores or initialises, and a worker's, which waits."""

from __future__ import annotations

import abc
from typing import Any, Final

from worker_client.graph.default_graph import get_default_graph
from worker_client.training.monitored.scaffold import Scaffold
from worker_client.training.monitored.session_manager import SessionManager

_MAX_WAIT_S: Final = 1800.0


class SessionCreator(abc.ABC):
    """Makes sessions."""

    @abc.abstractmethod
    def create_session(self) -> Any:
        """Returns a session that is ready to train."""


class ChiefSessionCreator(SessionCreator):
    """Makes sessions, and restores variables in them or initialises them.

    When a session was lost, variables that ps tasks have kept go on with their values; only if one has none are all
    restored or initialised again.

    Args:
        scaffold: With what; a default one if not given. It finishes the default graph.
        master: As ``Session``'s target.
        config: As ``Session``'s.
        checkpoint_dir: Where the newest checkpoint is that they restore, if there is one, instead of initialising.
        checkpoint_filename_with_path: Or which checkpoint.
    """

    def __init__(
        self,
        scaffold: Scaffold | None = None,
        master: Any = "",
        config: Any = None,
        checkpoint_dir: str | None = None,
        checkpoint_filename_with_path: str | None = None,
    ):
        self._scaffold = scaffold or Scaffold()
        self._master = master
        self._config = config
        self._checkpoint_dir = checkpoint_dir
        self._checkpoint_path = checkpoint_filename_with_path
        self._manager: SessionManager | None = None

    def create_session(self) -> Any:
        scaffold = self._scaffold.finalize()
        if self._manager is not None:
            kept = self._manager.find_ready_session(self._master, self._config)
            if kept is not None:
                return kept
        self._manager = self._manager or manager_of(scaffold)
        return self._manager.prepare_session(
            self._master,
            saver=scaffold.saver,
            checkpoint_dir=self._checkpoint_dir,
            checkpoint_filename_with_path=self._checkpoint_path,
            config=self._config,
            init_op=scaffold.init_op,
            init_feed_dict=scaffold.init_feed_dict,
            init_fn=scaffold.init_fn,
        )


class WorkerSessionCreator(SessionCreator):
    """Makes sessions, and waits until the chief has initialised the variables.

    Args:
        scaffold: What tells that they are; a default one if not given. It finishes the default graph.
        master: As ``Session``'s target.
        config: As ``Session``'s.
        max_wait_secs: Bound on waiting, in seconds.
    """

    def __init__(
        self,
        scaffold: Scaffold | None = None,
        master: Any = "",
        config: Any = None,
        max_wait_secs: float = _MAX_WAIT_S,
    ):
        self._scaffold = scaffold or Scaffold()
        self._master = master
        self._config = config
        self._max_wait_s = max_wait_secs
        self._manager: SessionManager | None = None

    def create_session(self) -> Any:
        scaffold = self._scaffold.finalize()
        self._manager = self._manager or manager_of(scaffold)
        return self._manager.wait_for_session(self._master, config=self._config, max_wait_secs=self._max_wait_s)


def manager_of(scaffold: Scaffold) -> SessionManager:
    """Returns a session manager with the operations of a scaffold."""
    return SessionManager(
        local_init_op=scaffold.local_init_op,
        local_init_feed_dict=scaffold.local_init_feed_dict,
        ready_op=scaffold.ready_op,
        ready_for_local_init_op=scaffold.ready_for_local_init_op,
        graph=get_default_graph(),
    )
