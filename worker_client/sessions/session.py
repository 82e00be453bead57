"""Sessions: run a graph's operations on the cluster, or without one on a store of their own."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, Self

from ps_protocol.errors import CancelledError, FailedPreconditionError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.not_copied import NotCopied
from ps_protocol.operations import PsOperation
from worker_client.client import Client
from worker_client.connection.fanout import Routed, succeeded
from worker_client.default_client import find_default_client
from worker_client.graph import runners as default_runner
from worker_client.graph.computation import AccessedVariable, TrainingHome
from worker_client.graph.default_graph import graph_to_run
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.sessions.evaluation import Evaluation
from worker_client.sessions.feeds import fed_values
from worker_client.sessions.fetches import Fetches, element_of_graph
from worker_client.sessions.plans import Plans
from worker_client.sessions.runtime import ClusterRuntime, PrivateRuntime, VariableRuntime
from worker_client.sessions.targets import client_of
from worker_client.sessions.waits import WAIT_S
from worker_client.values.left_out import SaysWhatIsLeftOut
from worker_client.variables.partitioned import PartitionedVariable


class Session(
    SaysWhatIsLeftOut, NotCopied, bound_to="a graph of this process", instead="make one in the other process"
):
    """Runs operations of one graph. Thread-safe.

    Without a client its variables live in a store of its own, in this process, and end with it. With one they live on
    the cluster's ps tasks, shared with everyone who uses their names.

    Args:
        target: A connection, or the target of a server, which has one; by default the connection that is the default,
            or none if there is none. "" stands for the default as well.
        graph: The graph to run; by default the default graph.
        config: Ignored; accepted for code that gives one.

    Raises:
        TypeError: ``target`` is neither a connection nor text, or ``graph`` is no graph.
        NotFoundError: No server of this process has this target.
        ValueError: The graph is a connection's own, in which everything happens at once.
    """

    public_name = "Session"

    def __init__(self, target: Client | str | bytes | None = None, graph: Graph | None = None, config: Any = None):
        del config
        if graph is not None and not isinstance(graph, Graph):
            raise TypeError(f"the graph of a session is a Graph, not {graph!r}")
        if isinstance(target, str | bytes) and target:
            target = client_of(target.decode() if isinstance(target, bytes) else target)
        if target and not isinstance(target, Client):
            raise TypeError(f"the target of a session is a connection, as connect() returns, not {target!r}")
        client = target if isinstance(target, Client) else find_default_client()
        self._graph = graph or graph_to_run()
        if not self._graph.deferred:
            raise ValueError(
                "the default graph here is a connection's own, in which everything happens at once and no session is "
                "needed; build in `with Graph().as_default():` and make the session there, or give it graph=..."
            )
        self._runtime: VariableRuntime = PrivateRuntime() if client is None else ClusterRuntime(client)
        self._runtime.session = weakref.proxy(self)
        self._plans = Plans()
        self._closed = False
        self._entered: list[ExitStack] = []

    @property
    def graph(self) -> Graph:
        return self._graph

    @property
    def home(self) -> TrainingHome:
        """Where its variables live, for workers that train together."""
        return self._runtime

    def run(
        self,
        fetches: Any,
        feed_dict: Mapping[Any, Any] | None = None,
        options: Any = None,
        run_metadata: Any = None,
    ) -> Any:
        """Runs what is asked for, everything that it needs included, each operation once.

        All reads of variables that do not wait for an update are made in one exchange with each ps task, all updates
        that do not wait for each other in another.

        Args:
            fetches: A tensor, a variable, an operation, a name of one, or a nested list, tuple or dict of those.
            feed_dict: Values to use instead of computing those tensors. That of a variable stands for every read of
                it; updates still change the variable itself. Values are converted as NumPy does.
            options: ``RunOptions``, of which ``timeout_in_ms`` bounds waits for accumulators and queues; all else is
                ignored.
            run_metadata: Ignored.

        Returns:
            Values in the structure of ``fetches``; None for an operation.

        Raises:
            RuntimeError: The session is closed, or there are no operations in the graph.
            ValueError: A fetch is not of this graph, or a fed value does not have the tensor's shape.
            TypeError: A fetch or feed is nothing that can be run or fed here, or a fed value is of another kind, or
                an integer that the tensor's dtype cannot hold.
            CancelledError: The session was closed while it ran, and its variables with it; or a queue is closed.
            DeadlineExceededError: An accumulator or a queue has been waited for too long.
            OutOfRangeError: A queue is closed, and has not what was to be taken.
            FailedPreconditionError: A variable that is read has not been initialised.
            InvalidArgumentError: A placeholder is not fed, or a value does not fit.
        """
        del run_metadata
        self._check_open()
        if self._graph.is_empty:
            raise RuntimeError("the graph of the session is empty; build something in it before running it")
        wanted = Fetches(self._graph, fetches)
        feeds = fed_values(self._graph, feed_dict) if feed_dict else {}
        timeout_s = getattr(options, "timeout_in_ms", 0) / 1000 or WAIT_S
        try:
            evaluation = Evaluation(self._runtime, feeds, self._plans, timeout_s)
            values = evaluation.run(wanted.operations, wanted.tensors)
        except FailedPreconditionError as error:
            raise_interrupt(error)
            if not self._closed:
                raise
            raise CancelledError("the session was closed while it ran; make a new one") from error
        return wanted.structured(values, feeds)

    def request(self, variable: AccessedVariable, operation: PsOperation) -> None:
        """Carries out one operation on a variable, outside the graph; raises its error."""
        self._check_open()
        self._runtime.place([variable])
        (reply,) = self._runtime.exchange([Routed(self._runtime.route(variable), operation)])
        succeeded(reply)

    def wait_until_initialized(self, variables: Iterable[Any] | None = None, timeout_s: float | None = None) -> None:
        """Waits until variables have values, as those have that another task initialises.

        ``run`` does so by itself on every task but the chief. This is for those who want to wait at one place, or for
        another time.

        Args:
            variables: Variables of this graph, partitioned ones included; by default all global ones.
            timeout_s: Bound on waiting, in seconds; by default the connection's ``connect_timeout_s``.

        Raises:
            FailedPreconditionError: One of them still had no value when time ran out.
            RuntimeError: The session is closed.
        """
        self._check_open()
        if variables is None:
            variables = self._graph.get_collection(GraphKeys.GLOBAL_VARIABLES)
        found = [part for each in variables for part in (each if isinstance(each, PartitionedVariable) else [each])]
        for variable in found:
            element_of_graph(self._graph, variable, "waited for")
        self._runtime.place(found)
        self._runtime.wait_until_initialized(found, timeout_s)

    def report_step(self, step: int) -> None:
        """Tells the cluster how many training steps this task has done; a monitored session does so itself."""
        self._runtime.report_step(step)

    def make_callable(
        self, fetches: Any, feed_list: Sequence[Any] | None = None, accept_options: bool = False
    ) -> Callable[..., Any]:
        """Returns a function that runs ``fetches`` with its arguments as values for ``feed_list``.

        Args:
            fetches: As for ``run``.
            feed_list: Tensors to be fed.
            accept_options: Whether the function takes ``options`` and ``run_metadata`` as well, and ignores them.
        """
        keys = list(feed_list or ())
        known = {"options", "run_metadata"} if accept_options else set()

        def call(*values: Any, **options: Any) -> Any:
            if not options.keys() <= known:
                raise TypeError(f"unexpected keyword arguments: {', '.join(sorted(options.keys() - known))}")
            if len(values) != len(keys):
                raise TypeError(f"{len(keys)} values are to be fed, {len(values)} are given")
            return self.run(fetches, dict(zip(keys, values, strict=True)))

        return call

    def as_default(self) -> AbstractContextManager[Session]:
        """Makes this the session that ``eval()`` and ``run()`` of tensors and operations use inside the block."""
        return default_runner.as_default(self)

    def close(self) -> None:
        """Ends the session. A store of its own ends with it; a connection stays open. May be repeated."""
        if not self._closed:
            self._closed = True
            self._runtime.close()

    def __enter__(self) -> Self:
        self._entered.append(ExitStack())
        self._entered[-1].enter_context(self._graph.as_default())
        self._entered[-1].enter_context(self.as_default())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.pop().close()
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the session is closed; make a new one")


class InteractiveSession(Session):
    """A session that is the default one, with its graph, from its making until it is closed."""

    def __init__(self, target: Client | str | bytes | None = None, graph: Graph | None = None, config: Any = None):
        super().__init__(target, graph, config)
        self._default = ExitStack()
        if graph is not None:
            self._default.enter_context(graph.as_default())
        self._default.enter_context(self.as_default())

    def close(self) -> None:
        self._default.close()
        super().close()


def get_default_session() -> Session | None:
    """Returns the innermost session that is the default on this thread, or None."""
    runner = default_runner.find_default_runner()
    return runner if isinstance(runner, Session) else None
