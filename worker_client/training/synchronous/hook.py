"""The hook of ``SyncReplicasOptimizer``: what a session has to do before its workers can train together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker_client.graph.computation import TrainingHome
from worker_client.training.monitored.hook import SessionRunHook
from worker_client.training.monitored.session_manager import why_not_ready
from worker_client.training.synchronous.crew import Crew


class SyncReplicasHook(SessionRunHook):
    """Prepares each new session of a worker to train, and makes the chief's take the gradients of all.

    Args:
        optimizer: The ``SyncReplicasOptimizer``.
        crew_in: Returns who trains together, in the session of a home.
        is_chief: Whether the session is the chief's.
        num_tokens: How many tokens the chief hands out at first.
    """

    def __init__(self, optimizer: Any, crew_in: Callable[[TrainingHome], Crew], is_chief: bool, num_tokens: int):
        self._optimizer = optimizer
        self._crew_in = crew_in
        self._is_chief = is_chief
        self._num_tokens = num_tokens
        self._init_op: Any = None
        self._tokens_op: Any = None

    def begin(self) -> None:
        """Adds the tokens of the chief to the graph; ValueError if there is no ``apply_gradients`` in it."""
        try:
            runner = self._optimizer.get_chief_queue_runner()
        except ValueError as error:
            raise ValueError("SyncReplicasOptimizer.apply_gradient should be called before using the hook.") from error
        optimizer = self._optimizer
        self._ready_op = optimizer.ready_for_local_init_op
        self._init_op = optimizer.chief_init_op if self._is_chief else optimizer.local_step_init_op
        self._runner = runner if self._is_chief else None
        self._tokens_op = optimizer.get_init_tokens_op(self._num_tokens) if self._is_chief else None

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Sets the local step to the global one; the chief also sets the accumulators', and starts to take.

        Raises:
            RuntimeError: A variable has no value.
        """
        lacking = why_not_ready(self._ready_op, session)
        if lacking is not None:
            raise RuntimeError(
                f"Init operations did not make model ready for SyncReplicasOptimizer local_init. Init op: "
                f"{self._init_op.name}, error: {lacking}"
            )
        crew = self._crew_in(session.home)
        if self._runner is not None:
            crew.lead()
        crew.join()  # now, since who comes late, when training has come to its end, has taken part in it
        session.run(self._init_op)
        if self._tokens_op is not None:
            session.run(self._tokens_op)
        if self._runner is not None:
            self._runner.create_threads(session, coord=coord, daemon=True, start=True)
