"""How an operation of a graph gets its output when a session runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from ps_protocol import operations
from ps_protocol.errors import ShardscopeError
from ps_protocol.operations import Array, Reply, VariableSpec
from ps_protocol.shared_objects import Json
from worker_client.graph.operation import Computation, Operation, Tensor
from worker_client.values.out_arrays import tensor_of
from worker_client.values.text import taken


class AccessedVariable(Protocol):
    """A variable of a deferred graph, as far as running operations needs it."""

    spec: VariableSpec

    @property
    def op(self) -> Operation:
        """The operation that stands for it in the graph."""
        ...

    @property
    def snapshot(self) -> Tensor:
        """Its value as a run begins, which stands for the variable where it is fetched or fed."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether it belongs to this process, wherever device scopes place it."""
        ...

    def initialized_value(self) -> Tensor:
        """Returns the value, or while it has none its initial value."""
        ...


@dataclass(frozen=True, slots=True)
class Constant(Computation):
    """Is known from the start.

    Attributes:
        value: Which nobody changes.
    """

    value: Array


@dataclass(frozen=True, slots=True)
class Kernel(Computation):
    """Computes the outputs from the values of the inputs, in this process.

    Attributes:
        function: Is given the inputs' values in their order, and must not change them. Returns the output, or of
            several a tuple. It may have a method ``quietly``, which is called instead where NumPy gives no warnings.
        folds: Whether it may be called while the graph is built as well, since nothing but its inputs matters.
    """

    function: Callable[..., Array | tuple[Array, ...]]
    folds: bool = False


@dataclass(frozen=True, slots=True)
class SeededKernel(Computation):
    """Computes one output, which depends on the job's seed as well.

    Attributes:
        function: Is given the seed and then the inputs' values.
    """

    function: Callable[..., Array]


Seeds: TypeAlias = tuple[int, int] | tuple[None, None]
"""What a sequence of random numbers follows from; two None if from nothing."""


@dataclass(frozen=True, slots=True)
class DrawingKernel(Computation):
    """Computes the outputs from random numbers, others each time. Each session draws a sequence of its own.

    Attributes:
        function: Is given the session's generator for this operation and then the inputs' values. Returns the output,
            or of several a tuple.
        seeds: What the sequence follows from.
    """

    function: Callable[..., Array | tuple[Array, ...]]
    seeds: Seeds

    def generator(self) -> np.random.Generator:
        """Returns a generator at the beginning of the sequence."""
        entropy = None if self.seeds[0] is None else [seed % 2**64 for seed in self.seeds if seed is not None]
        return np.random.Generator(np.random.Philox(entropy))


def value_read(reply: Reply, inputs: Sequence[Array]) -> Array:
    """The output of what reads: the tensor of the reply; raises the error that the reply is."""
    del inputs
    if isinstance(reply, ShardscopeError):
        raise reply
    return taken(tensor_of(reply))


@dataclass(slots=True, eq=False)  # not frozen, which takes three times as long to make: every variable has three
class VariableAccess(Computation):
    """Reads or updates a variable on its ps task. Not changed once it is made.

    Attributes:
        variable: Which one.
        request: Makes the operation for the ps from the job's seed and the inputs' values.
        mutates: Whether it changes the variable. If its output is asked for, the value is read back in the same batch.
        answered: Of what mutates: whether the ps's answer itself holds the output, so that nothing is read back.
        needs_value: Whether the variable must have a value. Where another task gives variables their first one, the
            run waits for that.
        unless_fed: A tensor that is no input, since the ps can do without its value. In a run that is fed one,
            ``request`` is given it.
        beside: Other variables that it changes as well, on the same ps task.
        names_worker: Whether ``request`` is given the name of the worker instead of the seed; None without a cluster.
        joins: Of what mutates, and takes nothing from the updates that it waits for: whether it is made together with
            them, behind those on the same ps task.
        cached: Of what reads the whole value: whether the session keeps a copy, which is used while it is current.
        heard: Is given the session's ``TrainingHome`` and the reply, if that is no error.
        output: Makes the output from the ps's reply (or where the value is read back, from the reply to that) and the
            inputs' values; raises if the reply is an error that it does not expect.
    """

    variable: AccessedVariable
    request: Callable[..., operations.PsOperation]
    mutates: bool = False
    answered: bool = False
    needs_value: bool = True
    unless_fed: Tensor | None = None
    cached: bool = False
    beside: tuple[AccessedVariable, ...] = ()
    joins: bool = False
    names_worker: bool = False
    heard: Callable[[Any, Any], None] | None = None
    output: Callable[[Reply, Sequence[Array]], Array] = value_read


@dataclass(slots=True, eq=False)
class GraphObject:
    """An accumulator or a queue of a graph: what a session declares and opens when it first needs it.

    Attributes:
        op: The operation that stands for it in the graph.
        spec: Of the variable that holds its state.
        settings: What it is opened with.
        is_local: Whether it belongs to this process, wherever device scopes place it.
    """

    op: Operation
    spec: VariableSpec
    settings: Json
    is_local: bool

    @property
    def snapshot(self) -> Tensor:
        """The tensor that stands for it in the graph; it has no value."""
        return self.op.outputs[0]

    def initialized_value(self) -> Tensor:
        """As of variables; it has a value as soon as it is opened."""
        return self.snapshot


class PendingCall(Protocol):
    """Something that is done with a shared object as soon as that is possible."""

    @property
    def waits_for(self) -> str:
        """What is waited for, for the log and for errors, with what helps."""
        ...

    def attempt(self, shared: Any) -> tuple[Array, ...] | None:
        """Does it, or as much of it as is possible now; returns the outputs, None if there is more to do."""
        ...

    def question(self) -> Json:
        """What the object has an answer to when another attempt makes sense."""
        ...


class TogetherCall(PendingCall, Protocol):
    """Something that is done with several shared objects as soon as it is possible with all of them."""

    def begin(self, shared: Any) -> None:
        """Called once, before the first look at any of them."""
        ...


class UpdatesOnce(Protocol):
    """The updates of a run, each of which is carried out once, also if another run makes them again.

    Attributes:
        reads_again: Whether what was read so far may have changed.
    """

    reads_again: bool

    def guards(self, ps_tasks: Iterable[int | None], noted: Mapping[str, Array]) -> Sequence[Any]:
        """Returns what goes before those that are made now, as ``Routed`` operations: one for each ps task.

        Args:
            ps_tasks: Where they are made.
            noted: What was read of variables that are updated, by names of tensors.
        """
        ...

    def as_read_before(self, name: str, value: Array) -> Array:
        """Returns what another run, which has begun to make these updates, has read; else the value that is given."""
        ...

    def end(self, error: BaseException | None) -> None:
        """Called when the run has ended, and what it has failed of."""
        ...


class UpdatingCall(PendingCall, Protocol):
    """Something behind which a run makes updates that are to be carried out once."""

    def updates(self) -> UpdatesOnce | None:
        """Called when all is done that the run has waited for; None if nobody would make them again."""
        ...

    def give_up(self) -> None:
        """Called when the run has ended before all of that was done."""
        ...


class WatchfulCall(PendingCall, Protocol):
    """Something that is looked after while it waits."""

    def meanwhile(self, shared: Any) -> None:
        """Called again and again while it waits; may raise."""
        ...


@dataclass(frozen=True, slots=True)
class SharedCall(Computation):
    """Does something with a shared object, and waits until that is possible; the run does all else first.

    Attributes:
        shared: The object.
        begin: Is given the inputs' values; returns what is to be done.
        mutates: Whether it changes the object.
        at_home: Whether ``begin`` is given the session's ``TrainingHome`` before the inputs' values.
    """

    shared: GraphObject
    begin: Callable[..., PendingCall]
    mutates: bool = True
    at_home: bool = False


class TrainingHome(Protocol):
    """The place where a session's variables live, as far as workers that train together need it.

    Attributes:
        worker: Name of this task; None without a cluster.
        is_chief: Whether it is the one that initialises variables.
        workers: All workers of the cluster, as far as its spec names them.
        session: The session.
    """

    worker: str | None
    is_chief: bool
    workers: Sequence[str]
    session: Any

    def place(self, variables: Iterable[Any]) -> None:
        """Declares those variables and objects that are not declared yet."""
        ...

    def shared(self, placed: GraphObject) -> Any:
        """Returns the way to a placed object."""
        ...

    def route(self, variable: Any) -> int | None:
        """Returns the ps task of a placed variable or object, None for this process's own store."""
        ...

    def opened_on(self, ps_task: int | None, name: str, kind: str) -> Any:
        """Opens an object on a ps task, and returns the way to it."""
        ...

    def exchange_later(self, routed: Sequence[Any]) -> None:
        """Has ``Routed`` operations carried out soon, whatever comes of that."""
        ...

    def gone_workers(self) -> dict[str, str]:
        """Returns which workers have died or left since this one is there, and how."""
        ...

    def kept(self, key: object, make: Callable[[], Any]) -> Any:
        """Returns what is kept for the session under a key, made at the first call."""
        ...

    def at_close(self, call: Callable[[], None]) -> None:
        """Has something called when the session is closed."""
        ...


class VariableHome(Protocol):
    """Where the variables of a session live, as far as moving many of them at once needs it."""

    def place(self, variables: Iterable[AccessedVariable]) -> None:
        """Declares those variables that are not declared yet."""
        ...

    def route(self, variable: AccessedVariable) -> int | None:
        """Returns the ps task of a placed variable, None for this process's own store."""
        ...

    def exchange(self, routed: Sequence[Any]) -> list[Reply]:
        """Carries out ``Routed`` operations, one exchange for each ps task; an error is a reply."""
        ...

    def new_buffer(self, ps_task: int | None, size_bytes: int) -> Array | None:
        """Memory that is shared with a ps task, as a uint8 array, or None if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class BulkTransfer(Computation):
    """Moves the values of many variables, in as many exchanges as it takes to hold few of them at a time.

    It is carried out when what it waits for has run, also if it has no outputs.

    Attributes:
        function: Is given the session's ``VariableHome`` and then the inputs' values. Returns the outputs.
        mutates: Whether it changes variables.
        listed_inputs: What the graph lists as the operation's inputs.
    """

    function: Callable[..., tuple[Array, ...]]
    mutates: bool = False
    listed_inputs: tuple[Tensor, ...] | None = None
