"""A graph: what a connection, or a program of deferred operations, has named so far.

It gives out names, knows the open scopes of each thread, and keeps the operations and the collections. It moves no
values: the graph's variable factory decides what a variable is. By default variables are deferred, as is everything
else in a graph that is not a connection's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias, TypeVar

from ps_protocol.not_copied import NotCopied
from worker_client.graph import defaults
from worker_client.graph.collections import Collections
from worker_client.graph.device import DeviceLike
from worker_client.graph.device_scopes import DeviceScopes, PlacementScopes
from worker_client.graph.name_scopes import NameScopes, OpenNameScope
from worker_client.graph.naming import check_operation_name
from worker_client.graph.operation import Computation, Operation, OperationTable, OutputSpec, Tensor, operation_of
from worker_client.values.left_out import SaysWhatIsLeftOut

VariableCreator: TypeAlias = Callable[..., Any]
"""Makes a variable, usually by calling its first argument, the next creator, with changed keyword arguments."""


VariableFactory: TypeAlias = Callable[[Any], Any]
"""Makes the variable that a ``VariableDefinition`` describes, of the kind that the owner of the graph wants.

It is called with the variable's name scope open, on the thread that asked for the variable and without any lock. If it
raises, the graph keeps no variable of that name, but the name stays used.
"""

_T = TypeVar("_T")


class _Controller:
    """An open ``control_dependencies`` statement.

    Attributes:
        waited_for: What it makes others wait for.
        made: What has been made inside, and so waits already.
    """

    __slots__ = ("made", "waited_for")

    def __init__(self, waited_for: tuple[Operation, ...]):
        self.waited_for = waited_for
        self.made: set[Operation] = set()


class _ThreadState(threading.local):
    """The scopes that one thread has open in one graph."""

    def __init__(self) -> None:
        self.creators: tuple[tuple[int, VariableCreator], ...] = ()
        self.control_inputs: tuple[Operation, ...] = ()
        self.controllers: tuple[_Controller, ...] = ()
        self.placement: PlacementScopes | None = None


class Graph(SaysWhatIsLeftOut, NotCopied, bound_to="this process", instead="build it again in the other process"):
    """Names, scopes, operations, collections and variables. Thread-safe.

    Name scopes, variable scopes and variable creator scopes belong to the thread that opens them, and a new thread
    starts at the root. Device and colocation scopes of a deferred graph are shared by all threads, as in TensorFlow 1;
    ``switch_to_thread_local`` separates them. In a graph that is not deferred they are separate from the start.

    Args:
        variable_factory: Makes the variables; by default they are deferred ones, which a session runs.
        deferred: Whether operations only describe what a session will do. By default they do if no factory is given.

    Attributes:
        variable_factory: Makes the variables; None for deferred ones.
        deferred: Whether this is a graph of deferred operations; if not, everything happens at once.
        container_name: Of the innermost ``container`` statement.
        collections: Named lists of what was made.
        seed: What random operations that are made from now on follow from; see ``ops.random_ops``. None if nothing.
    """

    public_name = "Graph"

    def __init__(self, variable_factory: VariableFactory | None = None, *, deferred: bool | None = None):
        self.variable_factory = variable_factory
        self.deferred = variable_factory is None if deferred is None else deferred
        self.container_name = ""
        self.collections = Collections()
        self.seed: int | None = None
        self._slots: dict[Callable[[Graph], Any], Any] = {}
        self._names = NameScopes(forgets_unused=not self.deferred)
        self._operations = OperationTable()
        self._finalized = False
        self._shared_placement = PlacementScopes()
        self._shares_placement = self.deferred
        self._thread = _ThreadState()

    def emptied(self) -> Graph:
        """Returns a new, empty graph that makes variables in the same way."""
        return Graph(self.variable_factory, deferred=self.deferred)

    def slot(self, make: Callable[[Graph], _T]) -> _T:
        """Returns what ``make`` has made for this graph, now or before; higher modules keep what is theirs here.

        Args:
            make: A class or function. It is called with the graph. If two threads come first at the same time it is
                called twice, and one result is dropped.
        """
        found: _T | None = self._slots.get(make)
        return self._slots.setdefault(make, make(self)) if found is None else found

    def as_default(self) -> AbstractContextManager[Graph]:
        """Makes this the graph that the module-level functions use, on this thread, inside the block."""
        return defaults.graph_as_default(self)

    # -- names --------------------------------------------------------------------------------

    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """Returns the full name of ``name`` in the current name scope, numbered if it was given out before.

        Args:
            name: Name within the current name scope.
            mark_as_used: Whether it counts as given out from now on.
        """
        return self._names.unique(name, mark_as_used=mark_as_used)

    def get_name_scope(self) -> str:
        """Returns the current name scope, without a slash at its end; "" at the root."""
        return self._names.current

    def name_scope(self, name: str | bytes | None) -> OpenNameScope:
        """Opens a name scope: what is made inside has its name as a prefix.

        Args:
            name: A name, which is made unique; with a slash at its end, a full name that is entered exactly as it is;
                None or "" for the root.

        Returns:
            A context manager that gives the full name of the scope with a slash at its end, "" at the root.

        Raises:
            ValueError: On entering, if the name is not valid.
        """
        return self._names.open(name)

    # -- operations ---------------------------------------------------------------------------

    def create_op(
        self,
        op_type: str,
        inputs: Sequence[Tensor] = (),
        outputs: Sequence[OutputSpec] = (),
        *,
        name: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        computation: Computation | None = None,
        references: Sequence[Tensor] = (),
    ) -> Operation:
        """Names and places an operation. It computes nothing.

        Args:
            op_type: What it does, such as "Add".
            inputs: What it reads.
            outputs: What it makes.
            name: Name within the current name scope, made unique; with a slash at its end, the full name as it is.
                ``op_type`` if not given.
            attributes: What else its type needs to know.
            computation: How it gets its output when a session runs it.
            references: Of what accesses a variable: the tensors that stand for that, which come before the inputs.

        Raises:
            RuntimeError: The graph is finalized.
            ValueError: The name is not valid, or an exact name is taken; or an input belongs to another graph.
        """
        self._require_not_finalized()
        strangers = [each for each in (*inputs, *references) if each.graph is not self]
        if strangers:
            raise ValueError(f"{strangers[0].name} belongs to another graph than what uses it; make both in one graph")
        self._names.mark_current_as_used()
        name = name or op_type
        full_name = name[:-1] if name.endswith("/") else self.unique_name(name)
        check_operation_name(full_name)
        operation = Operation(
            self,
            op_type,
            full_name,
            inputs=inputs,
            outputs=outputs,
            attributes=attributes,
            computation=computation,
            references=references,
            waits_for=self._thread.control_inputs,
            control_inputs=_listed_control_inputs(self._thread.controllers, inputs),
        )
        self._operations.add(operation)
        for controller in self._thread.controllers:
            controller.made.add(operation)
        self._placement.place(operation)
        return operation

    def withdraw_op(self, operation: Operation) -> None:
        """Removes an operation that came to nothing and frees its name, so that it can be tried again."""
        self._operations.remove(operation)
        self._names.give_back(operation.name)

    @contextmanager
    def control_dependencies(self, control_inputs: Iterable[Any] | None) -> Iterator[None]:
        """Makes what is built inside the block, on this thread, run after other operations.

        Args:
            control_inputs: Operations, tensors or variables, in addition to those of the blocks around; None to forget
                those instead.

        Raises:
            ValueError: One belongs to another graph.
        """
        outer, outer_controllers = self._thread.control_inputs, self._thread.controllers
        added = tuple(operation_of(each) for each in control_inputs or ())
        for operation in added:
            if operation.graph is not self:
                raise ValueError(f"{operation.name} belongs to another graph and cannot be waited for in this one")
        if control_inputs is None:
            self._thread.control_inputs, self._thread.controllers = (), ()
        else:
            self._thread.control_inputs = tuple(dict.fromkeys([*outer, *added]))
            self._thread.controllers = (*outer_controllers, _Controller(added))
        try:
            yield
        finally:
            self._thread.control_inputs, self._thread.controllers = outer, outer_controllers

    @property
    def control_inputs(self) -> tuple[Operation, ...]:
        """What must have run before that which is built now, on this thread."""
        return self._thread.control_inputs

    @property
    def is_empty(self) -> bool:
        """Whether it has no operations."""
        return self._operations.is_empty

    def get_operations(self) -> list[Operation]:
        """Returns all operations in the order in which they were made."""
        return self._operations.all()

    def get_operation_by_name(self, name: str) -> Operation:
        """Returns an operation by its full name.

        Raises:
            TypeError: The name is no string.
            ValueError: It is the name of a tensor.
            KeyError: There is no such operation.
        """
        return self._operations.operation(name)

    def get_tensor_by_name(self, name: str) -> Tensor:
        """Returns a tensor by its name, such as "scope/add:0".

        Raises:
            TypeError: The name is no string.
            ValueError: The name is not of that form.
            KeyError: There is no such operation, or it has no such output.
        """
        return self._operations.tensor(name)

    def finalize(self) -> None:
        """Allows no more operations and no more members of collections."""
        self._finalized = True

    def reopen(self) -> None:
        """Undoes ``finalize``, for what has finalized the graph only for a while."""
        self._finalized = False

    @property
    def finalized(self) -> bool:
        """Whether ``finalize`` was called."""
        return self._finalized

    def _require_not_finalized(self) -> None:
        if self._finalized:
            raise RuntimeError(
                "the graph is finalized: nothing can be added to it any more; build all of it before the session that "
                "runs it, since monitored sessions and supervisors finalize it"
            )

    # -- places -------------------------------------------------------------------------------

    def device(self, device_name_or_function: DeviceLike) -> AbstractContextManager[None]:
        """Places what is made inside the block.

        Args:
            device_name_or_function: A device such as "/job:ps/task:1", which fills in what inner scopes leave open; a
                function of the operation that returns such a string; or None, to ignore the scopes around.

        Raises:
            ValueError: On entering, if the device is malformed.
            RuntimeError: On leaving, if a device scope that was opened inside is still open.
        """
        return self._placement.device(device_name_or_function)

    def colocate_with(self, op: Any, ignore_existing: bool = False) -> AbstractContextManager[None]:
        """Places what is made inside the block where ``op`` is, whatever the device scopes around it say.

        Args:
            op: An operation, a tensor or a variable.
            ignore_existing: Whether to forget the colocation scopes around; with it ``op`` may be None.
        """
        leader = None if op is None else operation_of(op)
        return self._placement.colocate_with(leader, ignore_existing=ignore_existing)

    @property
    def device_scopes(self) -> DeviceScopes:
        """The device scopes that count for what is made now."""
        return self._placement.devices

    def places_of_a_variable(self) -> AbstractContextManager[None]:
        """Places what is made inside the block as the operation of a variable, which TensorFlow lifts out of scopes.

        Where ``colocate_with`` has hidden all device scopes, those count that did when the graph was last made the
        default one, by ``as_default()`` or by entering a variable scope. The variable still goes where its leader is,
        but takes its turn with a placement strategy.
        """
        return self._placement.unless_open(defaults.entered_devices())

    @contextmanager
    def container(self, container_name: str) -> Iterator[str]:
        """Notes a container, a name for a group of state, on the variables made inside the block."""
        outer, self.container_name = self.container_name, container_name
        try:
            yield container_name
        finally:
            self.container_name = outer

    def switch_to_thread_local(self) -> None:
        """Gives each thread device and colocation scopes of its own; it starts with those that are open now."""
        self._shares_placement = False

    @property
    def _placement(self) -> PlacementScopes:
        if self._shares_placement:
            return self._shared_placement
        if self._thread.placement is None:
            self._thread.placement = PlacementScopes(self._shared_placement)
        return self._thread.placement

    # -- variables ----------------------------------------------------------------------------

    @property
    def variable_creators(self) -> list[VariableCreator]:
        """The creators of this thread's ``variable_creator_scope`` statements, the one that is called last first."""
        return [creator for _, creator in self._thread.creators]

    @contextmanager
    def variable_creator_scope(self, variable_creator: VariableCreator, priority: int = 100) -> Iterator[None]:
        """Makes variables through a creator inside the block.

        Args:
            variable_creator: Called with the next creator and keyword arguments only, as in ``Variable(...)``.
            priority: Of creators on one thread those with a higher priority are called first; of equals the inner one.

        Raises:
            RuntimeError: A creator scope that was opened inside is still open at the end.
        """
        outer = self._thread.creators
        inner = tuple(sorted([*outer, (priority, variable_creator)], key=lambda creator: creator[0]))
        self._thread.creators = inner
        try:
            yield
        finally:
            if self._thread.creators is not inner:
                raise RuntimeError("a variable creator scope is left while another one is innermost")
            self._thread.creators = outer

    # -- collections --------------------------------------------------------------------------

    def add_to_collection(self, name: Hashable, value: Any) -> None:
        """Adds a value to a collection; ``name`` may be whatever can be a key of a dictionary."""
        self._require_not_finalized()
        self.collections.add((name,), value)

    def add_to_collections(self, names: str | Iterable[Hashable], value: Any) -> None:
        """Adds a value to several collections, to each of them once."""
        self._require_not_finalized()
        self.collections.add(names, value)

    def get_collection(self, name: Hashable, scope: str | None = None) -> list[Any]:
        """Returns a new list of the members of a collection; see ``Collections.get``."""
        return self.collections.get(name, scope)

    def get_collection_ref(self, name: Hashable) -> list[Any]:
        """Returns the list of a collection itself."""
        return self.collections.reference(name)

    def get_all_collection_keys(self) -> list[Any]:
        """Returns the keys of all collections."""
        return self.collections.keys()

    def clear_collection(self, name: Hashable) -> None:
        """Removes all members of a collection."""
        self.collections.clear(name)


def _listed_control_inputs(controllers: Sequence[_Controller], inputs: Iterable[Tensor]) -> list[Operation]:
    """Returns what TensorFlow lists of what an operation waits for.

    Nothing of a statement inside which an input was made, and nothing that is an input itself.
    """
    if not controllers:
        return []
    sources = {tensor.op for tensor in inputs}
    listed: dict[Operation, None] = {}
    for controller in controllers:
        if controller.made.isdisjoint(sources):
            listed.update(dict.fromkeys(each for each in controller.waited_for if each not in sources))
    return list(listed)
