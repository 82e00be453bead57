"""The one engine under the models of all libraries: arrays of this process that a cluster keeps, trained by steps."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from ps_protocol.dtype_traits import TRAINABLE_DTYPES, dtype_category
from ps_protocol.errors import DTypeMismatchError, FailedPreconditionError, InvalidArgumentError, ShardscopeError
from ps_protocol.not_copied import NotCopied
from ps_protocol.operations import Array
from ps_protocol.optimizer_schedules import ScheduleSpec
from ps_protocol.optimizer_schedules import learning_rate as rate_at
from worker_client.adapters.declared import Initializers, declare, scope_of
from worker_client.adapters.registry import SHARED_MODELS
from worker_client.client import Client
from worker_client.objects.training_report import TrainingReport
from worker_client.optimizers.optimizer import Optimizer
from worker_client.optimizers.outcomes import Applied
from worker_client.optimizers.policies import give_policy
from worker_client.values.conversion import IndexedSlices
from worker_client.variables.partitioners import Partitioner
from worker_client.variables.parts import EagerVariable

Update = Array | IndexedSlices
"""A gradient, or a delta: an array of the variable's shape, or some of its rows."""


class SharedArrays(
    NotCopied,
    bound_to="a connection of this process",
    instead="connect in the other process, make the model there and share it under the same name",
):
    """Arrays of this process, each of which is a variable of the cluster.

    One thread at a time may use it. As a context manager it is closed at the end.

    Args:
        client: The connection.
        name: Of the model: a scope below the current variable scope, under which the variables are.
        arrays: By the names of the parameters, as ``conv/weight``: the memory that values are read into, writable. It
            stays the caller's, and is written by every pull. What is there is what a variable begins with.
        optimizer: Changes the variables by gradients, on their ps tasks. None: what is pushed are deltas.
        sync: How the workers train together, as if the optimizer had been made with it.
        untrained: Likewise, but none of these has a gradient; they are pulled with the others.
        initializer: What variables begin with instead, computed by the ps: one for all, or some by name.
        partitioner: Cuts the variables into parts.
        overlap: Whether ``push`` returns at once, and a thread sends and reads meanwhile; at most one push is under
            way. The arrays change at any time between a push and the end of the next pull.
        tables: Variables besides, that the optimizer trains with these and that are not pulled; each push has an update
            of each.
        what: What errors call an array.

    Attributes:
        client: The connection.
        name: Full name of the scope.
        arrays: As given, the untrained ones behind.
        variables: The variables by the names of their arrays.
        optimizer: As given.
        is_closed: Whether ``close`` was called.

    Raises:
        InvalidArgumentError: The cluster has another model under the name, the process shares one under it or trains
            another one by the optimizer, the optimizer has another ``sync``, or an array cannot be written.
        DTypeMismatchError: An array is not one of floats, and has an optimizer; or no variable can be of its kind.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        arrays: Mapping[str, Array],
        *,
        optimizer: Optimizer | None,
        sync: str | None = None,
        untrained: Mapping[str, Array] | None = None,
        initializer: Initializers = None,
        partitioner: Partitioner | None = None,
        overlap: bool = False,
        tables: Sequence[EagerVariable] = (),
        what: str = "parameter",
    ):
        if not isinstance(client, Client):
            raise InvalidArgumentError(
                f"client= takes a connection, as ss.connect() returns it, not {type(client).__name__}"
            )
        self.client = client
        self.optimizer = _checked_optimizer(optimizer, sync)
        self.name = scope_of(client, name)
        self.arrays: Final = {**arrays, **(untrained or {})}
        if not self.arrays and not tables:
            raise InvalidArgumentError(f"{self.name} has no {what} that could be shared")
        _check_arrays(self.name, self.arrays, what, trained=arrays if optimizer else ())
        self._what = what
        SHARED_MODELS.enter(self, client)
        beside = [each.whole_spec.name for each in tables]
        try:
            self.variables: Final = declare(
                client, name, self.arrays, initializer=initializer, partitioner=partitioner, beside=beside
            )
            if optimizer is not None and sync is not None:
                give_policy(optimizer, sync)
            self._mirror = client.mirror(self.variables, out=self.arrays)
        except BaseException:
            SHARED_MODELS.leave(self, client)
            raise
        self._trained: Final = [(each, self.variables[each]) for each in arrays]
        self._trained_names: Final = frozenset(arrays)
        self._tables: Final = tuple(tables)
        self._zeros: Final[dict[str, Array]] = {}
        self._in_rounds = optimizer is not None and optimizer.sync is not None
        self._in_local_steps = optimizer is not None and optimizer.outer is not None
        self._has_joined = not self._in_rounds
        self._is_pulled = False  # whether the newest push has brought what the next pull is to read
        self.is_closed = False
        self._thread = ThreadPoolExecutor(1, f"push-{self.name}") if overlap else None
        self._under_way: Future[list[Applied]] | None = None

    # -- the two halves of a step -------------------------------------------------------------

    def pull(self, *, fresh: bool = False) -> bool:
        """Reads what has changed into the arrays: one exchange for each ps task.

        After a push that has read behind itself there is nothing left to read, so that it costs nothing. Under
        ``sync`` the first pull enters the rounds; later ones leave the values of the round that the next gradient will
        be counted by.

        Args:
            fresh: Whether to read in any case, as after a pause. Of no effect with "local(H)", whose values are this
                worker's own.

        Returns:
            Whether the arrays may have changed since the last push or pull has returned.

        Raises:
            ShardscopeError: As of ``Mirror.pull`` and ``Optimizer.join``; with ``overlap`` that of the last push.
        """
        self.make_ready()
        is_pulled, self._is_pulled = self._is_pulled, False
        if not self._has_joined and self.optimizer is not None:
            self.optimizer.join([*[variable for _, variable in self._trained], *self._tables], pull=self._mirror)
            self._has_joined = True
        elif not is_pulled or (fresh and not self._in_local_steps):
            self._mirror.pull()
        else:
            return self._thread is not None
        return True

    def put_at(self, arrays: Mapping[str, Array]) -> None:
        """Takes other arrays in the place of those there are, as after these have moved; the next pull reads all.

        Args:
            arrays: By their names, of the same shapes and dtypes.

        Raises:
            InvalidArgumentError: Nothing can be read into one; nothing has changed then.
        """
        self.wait()
        _check_arrays(self.name, arrays, self._what, trained=())
        self._mirror = self.client.mirror(self.variables, out={**self.arrays, **arrays})
        self.arrays.update(arrays)
        self._is_pulled = False

    def push(
        self,
        updates: Mapping[str, Update | None],
        *,
        tables: Sequence[tuple[Update, EagerVariable]] = (),
        learning_rate: float | None = None,
        pull: bool = True,
        completes: Any = None,
    ) -> list[Applied]:
        """Changes the variables by gradients, or by deltas if there is no optimizer: one exchange for each ps task.

        Args:
            updates: By the names of the arrays. One that is left out or None does not change its variable; in rounds,
                where each step has a gradient of each variable, zeros stand for it. With ``overlap`` they belong to the
                thread that sends them, until the next pull has returned.
            tables: Pairs of a gradient and one of the tables, which go with them.
            learning_rate: For this step, instead of the optimizer's.
            pull: Whether the arrays get the values behind the step, in the same exchange where they are small.
            completes: A shard of ``ss.data.Shards``, as in ``Optimizer.apply_gradients``.

        Returns:
            What became of each gradient, in the order of the arrays; nothing with ``overlap``, or for deltas.

        Raises:
            InvalidArgumentError: A name is not one of a trained array, or there is no update at all.
            FailedPreconditionError: A learning rate is given, and there is no optimizer.
            ShardscopeError: As of ``Optimizer.apply_gradients`` and ``Client.assign_add_all``.
        """
        self._check_open()
        if not self._trained_names >= updates.keys():
            raise self._not_trained(min(updates.keys() - self._trained_names))
        if learning_rate is not None:
            self._with_optimizer("learning_rate")
        pairs = [*self._pairs(updates), *tables]
        if not pairs:
            raise InvalidArgumentError(f"{self.name}: there is nothing to push; give updates of {self._some}")
        self.wait()
        self._is_pulled = False
        if self._thread is None:
            return self._push(pairs, learning_rate, completes, pull=pull)
        self._under_way = self._thread.submit(self._push, pairs, learning_rate, completes, pull=pull)
        return []

    def wait(self) -> None:
        """With ``overlap``, waits until the last push is through; raises what it has failed with, once."""
        under_way = self._under_way
        if under_way is None:
            return
        try:
            under_way.result()
        finally:
            if under_way.done():  # which it is not where Ctrl-C has ended the wait
                self._under_way = None

    def make_ready(self) -> None:
        """Makes sure that the next push or pull can begin: this is open, and no push is under way any more.

        Raises:
            FailedPreconditionError: It is closed.
            ShardscopeError: With ``overlap`` that of the last push.
        """
        self._check_open()
        self.wait()

    def _push(
        self, pairs: Sequence[tuple[Any, EagerVariable]], learning_rate: float | None, completes: Any, *, pull: bool
    ) -> list[Applied]:
        made: list[Applied] = []
        if self.optimizer is None:
            self.client.assign_add_all([(variable, delta) for delta, variable in pairs], completes=completes)
            if pull:
                self._mirror.pull()
        else:
            self._has_joined = not self._in_rounds  # until it is known how that has ended
            behind = self._mirror if pull or self._in_rounds else None
            made = self.optimizer.apply_gradients(pairs, learning_rate=learning_rate, pull=behind, completes=completes)
            self._has_joined = True
        self._is_pulled = pull or self._in_rounds
        return made

    def _pairs(self, updates: Mapping[str, Update | None]) -> list[tuple[Any, EagerVariable]]:
        pairs: list[tuple[Any, EagerVariable]] = []
        for name, variable in self._trained:
            update = updates.get(name)
            if update is not None:
                pairs.append((update, variable))
            elif self._in_rounds:
                pairs.append((self._zeros_for(name), variable))
        return pairs

    def _zeros_for(self, name: str) -> Array:
        """Zeros that stand for a gradient that is not there, the same ones each time."""
        zeros = self._zeros.get(name)
        if zeros is None:
            spec = self.variables[name].whole_spec
            zeros = self._zeros[name] = np.zeros(spec.shape, spec.dtype)
        return zeros

    @property
    def _some(self) -> str:
        names = [name for name, _ in self._trained]
        return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")

    def _not_trained(self, name: object) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"{self.name} has no {self._what} {name} that is trained; there are {self._some}", variable=f"{name}"
        )

    # -- what there is ------------------------------------------------------------------------

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step; that of a schedule follows from the count of steps, which is read.

        A number may be set at any time, as ``Optimizer.learning_rate``.

        Raises:
            FailedPreconditionError: There is no optimizer.
        """
        optimizer = self._with_optimizer("learning_rate")
        if not isinstance(optimizer.learning_rate, ScheduleSpec):
            return float(optimizer.learning_rate)
        first = next(iter([*[variable for _, variable in self._trained], *self._tables]))
        step = optimizer.slots(first)["step"].read_value()
        return rate_at(optimizer.learning_rate, int(step))

    @learning_rate.setter
    def learning_rate(self, learning_rate: float) -> None:
        self._with_optimizer("learning_rate").learning_rate = learning_rate

    def training_report(self) -> TrainingReport:
        """How the workers train together, as ``Optimizer.training_report``."""
        return self._with_optimizer("training_report").training_report()

    def finish(self) -> None:
        """Tells the workers that train together that this one makes no more steps, as ``Optimizer.finish``."""
        self.wait()
        self._with_optimizer("finish").finish()
        self._has_joined = not self._in_rounds

    def _with_optimizer(self, asked: str) -> Optimizer:
        if self.optimizer is None:
            raise FailedPreconditionError(
                f"{self.name} is shared without an optimizer, and so has no {asked}; give one to share()"
            )
        return self.optimizer

    # -- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Waits for a push that is under way and lets the name and the optimizer go. May be repeated.

        The workers that train together no longer wait for this one. The variables stay on their ps tasks, and the
        arrays as they are.
        """
        self._close(finishes=True)

    def _close(self, *, finishes: bool) -> None:
        is_closed, self.is_closed = self.is_closed, True
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown(wait=False)
            SHARED_MODELS.leave(self, self.client)
        if finishes and not is_closed and self._in_rounds and self.optimizer is not None:
            with contextlib.suppress(ShardscopeError):  # the connection is closed, say, or another process's
                self.optimizer.finish_later()

    def _check_open(self) -> None:
        self.client.fanout.handle(0).check_not_copy()
        if self.is_closed:
            raise FailedPreconditionError(f"{self.name} is closed; share the model again")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(finishes=error is None)  # of a program that has failed the end of the connection tells

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else f"{len(self.arrays)} arrays"
        return f"<{type(self).__name__} {self.name!r}: {state}>"


def _checked_optimizer(optimizer: object, sync: str | None) -> Optimizer | None:
    if optimizer is None:
        if sync is not None:
            raise InvalidArgumentError(
                f"sync={sync!r} says how an optimizer's workers train together, and there is none; give optimizer="
            )
        return None
    if not isinstance(optimizer, Optimizer):
        kind = optimizer if isinstance(optimizer, type) else type(optimizer)
        raise InvalidArgumentError(
            f"optimizer= takes one of ss.train, as ss.train.Adam(1e-3), whose steps the ps tasks make, not "
            f"{'the class ' if kind is optimizer else ''}{kind.__module__}.{kind.__name__}"
        )
    return optimizer


def _check_arrays(
    name: str, arrays: Mapping[str, object], what: str, trained: Mapping[str, Array] | Sequence[str]
) -> None:
    for path, array in arrays.items():
        if not isinstance(array, np.ndarray) or not array.flags.writeable:
            kind = "a read-only array" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
            raise InvalidArgumentError(
                f"{name}: {what} {path} is {kind}, into which nothing can be read; give a NumPy array that can be "
                f"written, as np.array(value)"
            )
        if not _is_of_variables(array):
            raise DTypeMismatchError(
                f"{name}: {what} {path} is {_label(array)}, which no variable can be; convert it, as with "
                f"np.array(value, 'float32')"
            )
        if path in trained and array.dtype not in TRAINABLE_DTYPES:
            trainable = ", ".join([each.name for each in TRAINABLE_DTYPES])
            raise DTypeMismatchError(
                f"{name}: {what} {path} holds {array.dtype}, and an optimizer changes {trainable}; leave it out, "
                f"convert it, or share with optimizer=None and push deltas"
            )


def _is_of_variables(array: Array) -> bool:
    try:
        dtype_category(array.dtype)
    except InvalidArgumentError:  # text, dates, Python objects
        return False
    return array.dtype.isnative and not isinstance(array, np.ma.MaskedArray)


def _label(array: Array) -> str:
    if isinstance(array, np.ma.MaskedArray):
        return "a masked array"
    return f"an array of {array.dtype.name}" + ("" if array.dtype.isnative else " in foreign byte order")
