"""``ss.train.TrainingSession``: the loop of one of the workers that train a model together."""

from __future__ import annotations

import contextlib
import importlib
import logging
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from ps_protocol.checkpoints.retention import Retention
from ps_protocol.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ShardscopeError,
    StateLostError,
)
from ps_protocol.interrupts import raise_interrupt, sheltered
from ps_protocol.settings import POSITIVE_SECONDS
from worker_client.checkpoints.periodic import PeriodicSaves
from worker_client.client import Client
from worker_client.client import connect as connect_by_environment
from worker_client.connection.ending import Ending
from worker_client.objects.training_report import MISSING, TrainingReport
from worker_client.optimizers.optimizer import Optimizer
from worker_client.optimizers.outcomes import Applied
from worker_client.training.monitored.hook import SessionRunArgs, SessionRunContext, SessionRunHook, SessionRunValues
from worker_client.training.together.start import is_ready, is_restored, say_ready, state_of, wait_until_ready

_LOG: Final = logging.getLogger(__name__)
_PROGRESS: Final = "worker_client.training.together.progress"
_LOOK_EVERY_S: Final = 2.0
_MOST_RECOVERIES: Final = 5
"""How often in a row, without a step in between."""


Build: TypeAlias = Callable[[Client], tuple[Sequence[Any], Optimizer]]
"""Names the variables of a model on a connection; returns those that are trained, and what trains them."""


class _NoCheckpointError(Exception):
    """What the ps tasks had is lost, and there is no checkpoint of it: ``lost`` says so."""

    def __init__(self, lost: StateLostError):
        self.lost: Final = lost


class TrainingSession:
    """The training loop of one worker among others, from a start to an end that all of them make together.

        def build(client):
            weights = ss.get_variable("weights", [64, 10])
            return [weights], ss.train.Adam(1e-3, sync="ssp(3)")

        with ss.train.TrainingSession(build, steps=1000, checkpoint="runs/digits") as session:
            while not session.should_stop():
                session.apply_gradients(gradients(session.parameters, next(batches)))

    The chief restores the newest checkpoint of the folder, or initialises the variables; the others wait for that. It
    saves there as it goes, and at the end. A ps task that comes back with its state, from a journal or a backup, is
    waited for. When one has lost it, all sessions connect again, the chief restores the newest checkpoint, and training
    goes on from there. At the end a worker with ``sync`` waits until the others have finished too.

    The steps are those of the model: with ``sync`` its rounds, else the updates of all workers. They are in its
    checkpoints. Not thread-safe.

    Args:
        build: Called with each connection; returns the variables to train, and the optimizer.
        steps: Where ``should_stop`` becomes true; None if only a hook says so.
        checkpoint: A folder of checkpoints, or its URL. Without it, lost state is an error.
        save_every: Seconds between two checkpoints.
        keep: How many of them stay, or a ``checkpoint.Retention``; 0 for all.
        hooks: Called around it all; each is a ``tf.train.SessionRunHook`` that returns nothing from ``before_run``. The
            session is this one, and the results are the ``Applied`` of the step.
        show_progress: Whether to show a bar on standard error, or a line now and then if that is no terminal.
        connect: Makes a connection; ``ss.connect`` by default.
        wait_timeout_s: How long to wait for the chief, in seconds.
        end_timeout_s: How long to wait for the others at the end, in seconds.

    Attributes:
        report: How the group of the optimizer was at the end; None without ``sync``.
    """

    def __init__(
        self,
        build: Build,
        *,
        steps: int | None = None,
        checkpoint: str | None = None,
        save_every: float = 60.0,
        keep: int | Retention = 5,
        hooks: Sequence[SessionRunHook] = (),
        show_progress: bool = True,
        connect: Callable[[], Client] = connect_by_environment,
        wait_timeout_s: float = 600.0,
        end_timeout_s: float = 60.0,
    ):
        if steps is not None and steps < 0:
            raise InvalidArgumentError(f"steps is {steps}; give how many steps the model is to make, or None")
        self.report: TrainingReport | None = None
        self._build = build
        self._steps = steps
        self._folder = checkpoint
        self._save_every_s = POSITIVE_SECONDS.check(save_every, "save_every")
        self._keep = keep
        self._hooks = tuple(hooks)
        self._shows_progress = show_progress
        self._connect = connect
        self._wait_timeout_s = POSITIVE_SECONDS.check(wait_timeout_s, "wait_timeout_s")
        self._end_timeout_s = POSITIVE_SECONDS.check(end_timeout_s, "end_timeout_s")
        self._client: Client | None = None
        self._saves: PeriodicSaves | None = None
        self._variables: Sequence[Any] = ()
        self._optimizer: Any = None
        self._mirror: Any = None
        self._state = 0
        self._is_over = False
        self._own_steps = 0
        self._recoveries = 0
        self._missing = ""
        self._look_at_s = 0.0
        self._progress: Any = None
        self._resources = contextlib.ExitStack()

    # -- what a program uses ------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._client is not None:
            raise FailedPreconditionError("this training session has begun already; make another one")
        try:
            for hook in self._hooks:
                hook.begin()
            try:
                self._begin()
            except StateLostError as error:
                self._recover(error, has_trained=False)
            if self._shows_progress:
                module = sheltered(importlib.import_module, _PROGRESS)
                made = module.SessionProgress(f"{self.client.task}", self._steps)
                self._progress = self._resources.enter_context(made)
            for hook in self._hooks:
                hook.after_create_session(self, None)
        except BaseException as error:
            self._end(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._end(error)
            return
        try:
            for hook in self._hooks:
                hook.end(self)
            if self._optimizer.sync is not None:
                self.report = self._finished_together()
        except BaseException as failure:
            self._end(failure)
            raise
        self._end(None)

    @property
    def client(self) -> Client:
        """The connection, another one after each recovery; FailedPreconditionError outside of the ``with`` block."""
        if self._client is None:
            raise FailedPreconditionError("the training session has no connection: use it in a with statement")
        return self._client

    @property
    def variables(self) -> Sequence[Any]:
        """What is trained, of the present connection."""
        return self._variables

    @property
    def optimizer(self) -> Optimizer:
        """What trains it."""
        found: Optimizer = self._optimizer
        return found

    @property
    def parameters(self) -> list[Any]:
        """An array for each variable: what the next gradients are computed on. After a recovery they are others."""
        return list(self._mirror.values[:-1])

    @property
    def step(self) -> int:
        """How many steps the model has made, as far as this worker knows."""
        return int(self._mirror.values[-1])

    def should_stop(self) -> bool:
        """Whether the model has made its steps, or a hook or ``request_stop`` has asked for the end."""
        return self._is_over or (self._steps is not None and self.step >= self._steps)

    def request_stop(self) -> None:
        """Makes ``should_stop`` true, for this worker."""
        self._is_over = True

    def apply_gradients(self, gradients: Sequence[Any], *, learning_rate: float | None = None) -> Applied:
        """Makes a step, and pulls the parameters behind it.

        Args:
            gradients: One for each variable.
            learning_rate: For this step.

        Returns:
            What became of the first one; with ``sync`` of all. "stale" if the ps tasks had lost their state, or the
            program has restored another one: the parameters are those of the checkpoint then, and the gradients are of
            no use.

        Raises:
            StateLostError: They had, and there is no checkpoint.
            ShardscopeError: As ``Optimizer.apply_gradients``.
        """
        context = SessionRunContext(SessionRunArgs(None), self)
        for hook in self._hooks:
            if hook.before_run(context) is not None:
                raise InvalidArgumentError(
                    f"{type(hook).__name__} asks for fetches, which there are only in graphs; return None from "
                    f"before_run, and look at run_context.session"
                )
        pairs = list(zip(gradients, self._variables, strict=True))
        try:
            applied: Applied = (
                self._restored()
                or self._optimizer.apply_gradients(pairs, pull=self._mirror, learning_rate=learning_rate)[0]
            )
        except StateLostError as error:
            self._recover(error)
            applied = Applied("stale", self.step)
        else:
            self._recoveries = 0
        self._own_steps += 1
        self.client.report_step(self._own_steps)
        self._show(applied)
        values = SessionRunValues(applied, None, None)
        for hook in self._hooks:
            hook.after_run(context, values)
        self._is_over = self._is_over or context.stop_requested
        return applied

    # -- coming and going ---------------------------------------------------------------------

    def _begin(self, lost: StateLostError | None = None) -> None:
        """Connects, and makes ready, or waits for that; ``lost`` is why it does so again."""
        client = self._connect()
        self._client = client
        if lost is not None and self._folder is None and not (is_restored(client) or is_ready(client)):
            message = f"{lost.message}; and the session has no checkpoint= to go on from"
            raise _NoCheckpointError(StateLostError(message, task=lost.task)) from lost
        if client.is_chief:
            self._make_ready(client, lost)
        else:
            client = self._client = wait_until_ready(client, self._connect, self._wait_timeout_s)
            self._name(client)
        if client.is_chief and self._folder is not None:
            self._saves = client.save(self._folder, every=self._save_every_s, step=lambda: self.step, keep=self._keep)

    def _make_ready(self, client: Client, lost: StateLostError | None) -> None:
        was_ready = is_ready(client)
        if not was_ready and is_restored(client):
            _LOG.warning("%s: going on from the checkpoint that the ps tasks were restored from", client.task)
        elif not was_ready and self._folder is not None:
            try:
                restored = client.restore(self._folder)
            except NotFoundError as error:
                if lost is not None:
                    message = (
                        f"ps tasks have lost their state, and there is no checkpoint in {self._folder} yet: start the "
                        f"program again, or save more often"
                    )
                    raise _NoCheckpointError(StateLostError(message)) from error
            else:
                level = logging.INFO if lost is None else logging.WARNING
                said = "%s: going on from the newest checkpoint, %s, of step %s"
                _LOG.log(level, said, client.task, restored.path, restored.step)
        self._name(client)
        if not was_ready:
            say_ready(client)

    def _restored(self) -> Applied | None:
        """Goes on from a checkpoint that the program has restored by the session's own connection, if it has."""
        state = state_of(self.client)
        if state == self._state:
            return None
        _LOG.warning("%s: going on from the checkpoint that it has restored", self.client.task)
        if self.client.is_chief:
            say_ready(self.client)
        if self._optimizer.sync is None:
            self._mirror.pull()
        else:
            self._optimizer.join(self._variables, pull=self._mirror)
        self._state = state
        return Applied("stale", self.step)

    def _name(self, client: Client) -> None:
        with client.as_default():
            self._variables, self._optimizer = self._build(client)
        if not self._variables:
            raise InvalidArgumentError("the function that builds the model has returned no variables to train")
        self._mirror = client.mirror([*self._variables, self._optimizer.get_slot(self._variables[0], "step")])
        self._mirror.pull()
        self._state = state_of(client)

    def _recover(self, error: StateLostError, *, has_trained: bool = True) -> None:
        """Goes on from the newest checkpoint, when ps tasks have lost their state; or from one that was restored.

        Args:
            error: Says so.
            has_trained: Whether something is lost if there is no checkpoint.
        """
        while True:
            self._recoveries += 1
            if self._recoveries > _MOST_RECOVERIES:
                raise error
            _LOG.warning("%s: %s; connecting again", self.client.task, error)
            self._leave(error)
            try:
                self._begin(error if has_trained else None)
            except _NoCheckpointError as nothing:
                raise nothing.lost from nothing.__cause__
            except StateLostError as again:
                if self._client is None:
                    raise
                error = again
            else:
                return

    def _leave(self, error: BaseException) -> None:
        """Ends the connection to a state that is lost."""
        client, self._client = self._client, None
        saves, self._saves = self._saves, None
        if client is None:
            return
        if saves is not None:
            saves.stop(save=False)
        try:
            if self._optimizer is not None and self._optimizer.sync is not None:
                self._optimizer.finish()  # others must not wait for it meanwhile
        except ShardscopeError as failure:
            raise_interrupt(failure)
        client.end(Ending.by(error))

    def _finished_together(self) -> TrainingReport | None:
        try:
            return self.client.finish_together(self._optimizer.name, self._end_timeout_s)
        except NotFoundError:  # it has made no step
            return None

    def _end(self, error: BaseException | None) -> None:
        client, self._client = self._client, None
        try:
            self._resources.close()
        finally:
            if client is not None:
                client.end(None if error is None else Ending.by(error))

    def _show(self, applied: Applied) -> None:
        if self._progress is None:
            return
        now_s = time.monotonic()
        if self._optimizer.sync is not None and now_s >= self._look_at_s:
            self._look_at_s = now_s + _LOOK_EVERY_S
            try:
                report = self.client.training_report(self._optimizer.name)
            except (NotFoundError, StateLostError) as error:
                raise_interrupt(error)  # else the ps tasks have lost it, now or before this step, and nobody has joined
            else:
                self._missing = ", ".join([each.worker for each in report.workers if each.status in MISSING])
        self._progress.update(self.step, applied.staleness, self._missing)
