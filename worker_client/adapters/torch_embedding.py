"""An embedding whose table is on the ps tasks: a batch reads the rows that it needs, backward sends their gradients."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final

import torch

from ps_protocol.errors import DTypeMismatchError, FailedPreconditionError, InvalidArgumentError, ShapeMismatchError
from ps_protocol.not_copied import NotCopied
from ps_protocol.operations import Array
from ps_protocol.weak_table import WeakTable
from worker_client.adapters.shared_arrays import Update
from worker_client.adapters.torch_arrays import array_over, tensor_over
from worker_client.client import Client
from worker_client.default_client import get_default_client
from worker_client.initializers import random_normal_initializer
from worker_client.initializers.base import Initializer
from worker_client.optimizers.optimizer import Optimizer
from worker_client.scopes.arguments import AUTO_REUSE
from worker_client.scopes.variable_scope import get_variable, variable_scope
from worker_client.values.array_likes import array_of
from worker_client.values.conversion import IndexedSlices
from worker_client.variables.partitioners import Partitioner
from worker_client.variables.parts import EagerVariable

_DTYPES: Final = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_IDS: Final = (torch.int64, torch.int32)
_MOST_BACKWARDS: Final = 16
"""How many calls of ``backward`` may be within each other; more that have not ended have failed."""
_ROWS_UNMERGED: Final = 4096
"""How many more rows than there are may be collected before those of one id are added up."""

_Rows = tuple[torch.Tensor, torch.Tensor]
"""Ids ``[n]`` and their gradients ``[n, dim]``; ids may repeat."""


class ParameterServerEmbedding(
    NotCopied,
    torch.nn.Module,
    bound_to="a connection of this process",
    instead="save its state_dict(), or make one of the same name in the other process",
):
    """``torch.nn.Embedding`` with its table on the ps tasks, as the variable ``<name>/weight``; it has no parameters.

    ``forward`` reads the distinct rows of a batch, in one exchange with each ps task that has some; ``torch.compile``
    leaves that out of its graphs. ``backward`` adds up the gradients of each row, those of several uses of the table
    too, and then:

    * With an optimizer, the gradients go to it before ``backward`` returns, of all tables of that optimizer in one
      exchange. Each ``backward`` is a step. So the layers around may be trained by anything, DistributedDataParallel
      for one.
    * Without, they go with the next ``step()`` of the model that ``ss.torch.share`` has been given and that this is in,
      by its optimizer, in its exchange and its round.

    As with parameters, ``torch.autograd.grad`` trains nothing. One thread at a time may use it.

    Args:
        num_embeddings: Number of rows.
        embedding_dim: Size of each.
        name: Of the table, a scope below the current variable scope. Workers that give the same name have one table.
        optimizer: One of ``ss.train``; its ``sync`` says how workers train the table together.
        padding_idx: An id whose row is zeros and stays so; it is not read.
        partitioner: Cuts the table into parts, as ``ss.fixed_size_partitioner(2)``.
        initializer: What the table begins with: an initializer, which the ps tasks compute, or an array of its shape.
            By default normally distributed numbers, as in ``torch.nn.Embedding``.
        client: The connection; by default the default one.
        dtype: Of the table and of what is returned: float32, float64, float16 or bfloat16.
        max_norm: Refused, since a read changes no rows.

    Attributes:
        num_embeddings: As given.
        embedding_dim: As given.
        padding_idx: As given, from 0.
        optimizer: As given.
        variable: The table.

    Raises:
        InvalidArgumentError: A size is no positive number, ``padding_idx`` is no row, the optimizer is none of
            ``ss.train`` or trains by "local(H)", or ``max_norm`` is given.
        ShapeMismatchError, ValueError: The cluster, or this process, has another table of this name.
        DTypeMismatchError: Likewise; or it would hold no floats.
    """

    _found: ClassVar[Any] = None
    """``_rows_of`` outside of the graphs of ``torch.compile``."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        name: str,
        *,
        optimizer: Optimizer | None = None,
        padding_idx: int | None = None,
        partitioner: Partitioner | None = None,
        initializer: Initializer | Any = None,
        client: Client | None = None,
        dtype: torch.dtype = torch.float32,
        max_norm: float | None = None,
    ):
        super().__init__()
        if ParameterServerEmbedding._found is None:  # what that imports takes a second
            ParameterServerEmbedding._found = torch.compiler.disable(ParameterServerEmbedding._rows_of)
        _check_sizes(name, num_embeddings, embedding_dim)
        _check_optimizer(name, optimizer)
        if max_norm is not None:
            raise InvalidArgumentError(
                f"table {name}: max_norm is not kept by reads, which change no rows; have each step of the optimizer "
                f'keep it, as with ss.train.Adagrad(0.1, constraint=("max_norm", {max_norm}, 1))'
            )
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = _row_of(name, padding_idx, num_embeddings)
        self.optimizer = optimizer
        self._client = client or get_default_client()
        self._trains = True
        self.variable: EagerVariable = _table(
            self._client, name, (num_embeddings, embedding_dim), dtype, initializer, partitioner
        )
        self._together = None if optimizer is None else _tables_of(optimizer, self._client)
        if self._together is not None:
            self._together.enter(self)
        self._shared: Any = _gone
        self._is_checked = False
        self._pending: list[_Rows] = []
        self._pending_rows = self._merged_rows = 0

    @property
    def name(self) -> str:
        """Full name of the table."""
        return self.variable.whole_spec.name

    def extra_repr(self) -> str:
        """What ``repr`` says of it."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}, {self.name!r}{padding}"

    def requires_grad_(self, requires_grad: bool = True) -> ParameterServerEmbedding:
        """Says whether ``backward`` trains the table. Of the module around it this says nothing, nor that of this."""
        super().requires_grad_(requires_grad)
        self._trains = requires_grad
        return self

    # -- reading ------------------------------------------------------------------------------

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Returns the rows of some ids, on their device.

        Args:
            ids: int64 or int32, of any shape; they may repeat.

        Returns:
            Shape ``[*ids.shape, embedding_dim]``.

        Raises:
            IndexError: An id is no row, as with ``torch.nn.Embedding``.
            DTypeMismatchError: They are no integers.
            ShardscopeError: A ps task has failed.
        """
        found: torch.Tensor = self._found(ids)
        return found

    def _rows_of(self, ids: torch.Tensor) -> torch.Tensor:
        if not isinstance(ids, torch.Tensor) or ids.dtype not in _IDS:
            kind = ids.dtype if isinstance(ids, torch.Tensor) else type(ids).__name__
            raise DTypeMismatchError(
                f"table {self.name} takes a tensor of ids of int64 or int32, not {kind}", variable=self.name
            )
        rows, places = torch.unique(ids.detach().cpu(), return_inverse=True)
        self._check_ids(rows)
        trains = self._trains and torch.is_grad_enabled()
        if trains:
            self._begin()
        table, rows, read = self._read(rows, ids.device)
        if trains:
            table.requires_grad_()
            table.register_post_accumulate_grad_hook(partial(self._take, rows, read))
        found: torch.Tensor = torch.nn.functional.embedding(places.to(ids.device), table)
        return found

    def _check_ids(self, rows: torch.Tensor) -> None:
        """Checks distinct ids, which ascend."""
        wrong = [each for each in rows[[0, -1]].tolist() if not 0 <= each < self.num_embeddings] if len(rows) else []
        if wrong:
            raise IndexError(
                f"id {wrong[0]} is out of range: table {self.name} has the rows 0 to {self.num_embeddings - 1}"
            )

    def _read(self, rows: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Returns the values of distinct ids; those that were read; and where these are, if not all were."""
        if self.padding_idx is None:
            return self._gathered(rows).to(device), rows, None
        read = torch.nonzero(rows != self.padding_idx).reshape(-1)
        if len(read) == len(rows):
            return self._gathered(rows).to(device), rows, None
        found = self._gathered(rows[read])
        table = torch.zeros(len(rows), self.embedding_dim, dtype=found.dtype, device="cpu")
        table[read] = found
        return table.to(device), rows[read], read

    def _gathered(self, rows: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = tensor_over(self.variable.gather(rows.contiguous().numpy()))
        return found

    # -- gradients ----------------------------------------------------------------------------

    def _begin(self) -> None:
        """Makes sure that there is something for the gradients to go to, and enters rounds."""
        if self._together is not None:
            self._together.join()
        elif not self._is_checked and (shared := self._shared()) is not None:
            _check_whole_rows(self.name, shared.optimizer)
            if shared.client is not self._client:
                raise InvalidArgumentError(
                    f"table {self.name} is of the connection {self._client!r}, but the model {shared.name} that it is "
                    f"in is shared on {shared.client!r}; give both the same client",
                    variable=self.name,
                )
            self._is_checked = True

    def _take(self, rows: torch.Tensor, read: torch.Tensor | None, table: torch.Tensor) -> None:
        """Takes the gradient of what was read, in the middle of ``backward``."""
        gradient, table.grad = table.grad, None
        if gradient is None:  # it is known to be zero
            return
        gradient = gradient.detach().cpu()
        taken = rows, gradient if read is None else gradient[read]
        if self._together is not None:
            self._together.take(self, taken)
            return
        shared = self._shared()
        if shared is None or shared.is_closed:
            raise FailedPreconditionError(
                f"table {self.name} has a gradient, but neither an optimizer nor a shared model that it is in; give it "
                f"optimizer=, or give the model to ss.torch.share() before backward(), or call requires_grad_(False)",
                variable=self.name,
            )
        if not len(rows):
            return
        self._pending.append(taken)
        self._pending_rows += len(rows)
        if self._pending_rows > 2 * self._merged_rows + _ROWS_UNMERGED:
            self._pending = [_merged(self.variable, self._pending)]
            self._pending_rows = self._merged_rows = len(self._pending[0][0])

    def attach(self, shared: Any) -> Sequence[EagerVariable]:
        """Says that it is in a shared model, which then takes its gradients, unless it has an optimizer of its own.

        Returns:
            The variables of these gradients.

        Raises:
            InvalidArgumentError: It is in another model that is shared.
        """
        if self.optimizer is not None or not self._trains:
            return []
        other = self._shared()
        if other is not None and other is not shared and not getattr(other, "is_closed", True):
            raise InvalidArgumentError(
                f"table {self.name} is in the shared model {other.name} already; close() that, or make a table of the "
                f"same name for the other one",
                variable=self.name,
            )
        self._shared = weakref.ref(shared)
        self._is_checked = False
        self._forget()
        return [self.variable]

    def take_gradients(self) -> list[tuple[Update, EagerVariable]]:
        """Returns the gradients since the last time, added up; in rounds also if there are no rows."""
        shared = self._shared()
        in_rounds = shared is not None and shared.optimizer is not None and shared.optimizer.sync is not None
        if self.optimizer is not None or not (self._pending or in_rounds):
            return []
        pending = self._pending
        self._forget()
        return [(_slices(self.variable, pending), self.variable)]

    def _forget(self) -> None:
        self._pending = []
        self._pending_rows = self._merged_rows = 0

    # -- the whole table ----------------------------------------------------------------------

    def table(self) -> torch.Tensor:
        """Reads the whole table, ``[num_embeddings, embedding_dim]``, into a new tensor."""
        with torch.no_grad():
            whole: torch.Tensor = tensor_over(self._client.mirror([self.variable]).values[0])
            if self.padding_idx is not None:
                whole[self.padding_idx] = 0
        return whole

    def assign(self, table: torch.Tensor | Array) -> None:
        """Gives the table other values, for all workers.

        Raises:
            ShapeMismatchError, DTypeMismatchError: They do not fit.
        """
        self.variable.assign(table.detach() if isinstance(table, torch.Tensor) else table)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.table()

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        key = f"{prefix}weight"
        others = {name: each for name, each in state_dict.items() if name != key}
        super()._load_from_state_dict(others, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        if key not in state_dict:
            if strict:
                missing_keys.append(key)
            return
        table, shape = state_dict[key], (self.num_embeddings, self.embedding_dim)
        if tuple(table.shape) != shape:
            error_msgs.append(
                f"size mismatch for {key}: copying a table with shape {list(table.shape)} from checkpoint, the shape "
                f"in current model is {list(shape)}."
            )
            return
        self.assign(table)


def _slices(table: EagerVariable, taken: Sequence[_Rows]) -> IndexedSlices:
    """Returns gradients of a table added up as an update, perhaps of no rows."""
    rows, gradient = _merged(table, taken)
    return IndexedSlices(array_over(gradient.contiguous()), rows.contiguous().numpy(), table.whole_spec.shape)


def _merged(table: EagerVariable, taken: Sequence[_Rows]) -> _Rows:
    """Adds up the gradients of each id; ids ascend then."""
    if len(taken) == 1:
        return taken[0]  # of distinct ids already
    width, dtype = table.whole_spec.shape[1], getattr(torch, table.whole_spec.dtype.name)
    if not taken:
        return torch.empty(0, dtype=torch.int64, device="cpu"), torch.empty(0, width, dtype=dtype, device="cpu")
    distinct, places = torch.unique(torch.cat([rows.to(torch.int64) for rows, _ in taken]), return_inverse=True)
    total = torch.zeros(len(distinct), width, dtype=dtype, device="cpu")
    return distinct, total.index_add_(0, places, torch.cat([gradient for _, gradient in taken]))


class _TablesOfOptimizer:
    """The tables of one connection that an optimizer trains by itself: their gradients go in one exchange, and round.

    Args:
        optimizer: The optimizer.
    """

    def __init__(self, optimizer: Optimizer):
        self._optimizer = weakref.ref(optimizer)  # which keeps this
        self._members: list[weakref.ref[ParameterServerEmbedding]] = []
        self._taken: dict[int, dict[EagerVariable, list[_Rows]]] = {}
        self._has_joined = optimizer.sync is None

    def enter(self, table: ParameterServerEmbedding) -> None:
        """Takes a table up.

        Raises:
            InvalidArgumentError: The others are trained in rounds already, of which each has a gradient of every table.
        """
        there = self._variables()
        optimizer = self._optimizer()
        if self._has_joined and there and table.variable not in there and optimizer is not None and optimizer.sync:
            names = ", ".join([each.whole_spec.name for each in there])
            raise InvalidArgumentError(
                f"{optimizer.name} trains {names} in rounds already, and cannot train {table.name} besides; make all "
                f"tables of an optimizer before the first batch, or give this one an optimizer of another name",
                variable=table.name,
            )
        self._members.append(weakref.ref(table))

    def join(self) -> None:
        """Enters the rounds, if there are rounds and this has not, so that what is read next is the newest model."""
        optimizer = self._optimizer()
        if not self._has_joined and optimizer is not None:
            optimizer.join(self._variables())
            self._has_joined = True

    def take(self, table: ParameterServerEmbedding, taken: _Rows) -> None:
        """Keeps a gradient until ``backward`` is through; in the middle of that."""
        backward = torch._C._current_graph_task_id()
        if backward not in self._taken:
            while len(self._taken) >= _MOST_BACKWARDS:
                del self._taken[next(iter(self._taken))]
            self._taken[backward] = {}
            torch.autograd.Variable._execution_engine.queue_callback(partial(self._push, backward))
        self._taken[backward].setdefault(table.variable, []).append(taken)

    def _push(self, backward: int) -> None:
        taken, optimizer = self._taken.pop(backward, {}), self._optimizer()
        if optimizer is None:
            return
        in_rounds = optimizer.sync is not None
        trained = self._variables() if in_rounds else list(taken)
        self._has_joined = not in_rounds
        optimizer.apply_gradients([(_slices(each, taken.get(each, [])), each) for each in trained])
        self._has_joined = True

    def _variables(self) -> list[EagerVariable]:
        """The tables of the modules that are still there, each once."""
        living = [each() for each in self._members]
        return list(dict.fromkeys([table.variable for table in living if table is not None]))


_TABLES: Final[WeakTable[Optimizer, WeakTable[Client, _TablesOfOptimizer]]] = WeakTable()


def _tables_of(optimizer: Optimizer, client: Client) -> _TablesOfOptimizer:
    return _TABLES.setdefault(optimizer, WeakTable()).setdefault(client, _TablesOfOptimizer(optimizer))


def _gone() -> None:
    """A reference to nothing."""


def _table(
    client: Client,
    name: str,
    shape: tuple[int, int],
    dtype: torch.dtype,
    initializer: Any,
    partitioner: Partitioner | None,
) -> EagerVariable:
    """Returns the table of a name, made if the cluster has none."""
    if dtype not in _DTYPES:
        raise DTypeMismatchError(
            f"table {name}: dtype is {dtype}; an embedding holds floats, as one of {', '.join(map(str, _DTYPES))}"
        )
    elements = array_over(torch.empty(0, dtype=dtype, device="cpu")).dtype
    if initializer is None:
        initializer = random_normal_initializer(0.0, 1.0)
    elif not callable(initializer):
        initializer = array_of(initializer, f"table {name}", what="the initializer")
        if initializer.shape != shape:
            raise ShapeMismatchError(
                f"table {name}: the initializer has the shape {list(initializer.shape)}; it should be {list(shape)}"
            )
    with client.as_default(), variable_scope(name, reuse=AUTO_REUSE):
        variable: EagerVariable = get_variable(
            "weight",
            list(shape) if callable(initializer) or partitioner else None,
            dtype=elements,
            initializer=initializer,
            partitioner=partitioner,
        )
    return variable


def _check_sizes(name: object, *sizes: int) -> None:
    if not isinstance(name, str) or not name:
        raise InvalidArgumentError(f"a table needs a name, as 'users', not {name!r}")
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InvalidArgumentError(f"table {name}: the sizes are {list(sizes)}; give positive whole numbers")


def _check_optimizer(name: str, optimizer: object) -> None:
    if optimizer is None:
        return
    if not isinstance(optimizer, Optimizer):
        raise InvalidArgumentError(
            f"table {name}: optimizer= should be one of ss.train, as ss.train.Adagrad(0.1), whose steps the ps tasks "
            f"make, not {type(optimizer).__name__}"
        )
    _check_whole_rows(name, optimizer)


def _check_whole_rows(name: str, optimizer: Optimizer | None) -> None:
    if optimizer is not None and optimizer.outer is not None:
        raise InvalidArgumentError(
            f"table {name}: {optimizer.name} trains by {optimizer.sync}, for which each worker has a copy of the whole "
            f'table; give another sync, as "ssp(3)", or put a torch.nn.Embedding into the shared model',
            variable=name,
        )


def _row_of(name: str, padding_idx: int | None, num_embeddings: int) -> int | None:
    if padding_idx is None:
        return None
    if isinstance(padding_idx, bool) or not isinstance(padding_idx, int):
        raise InvalidArgumentError(f"table {name}: padding_idx is {padding_idx!r}; give a whole number, or None")
    if not -num_embeddings <= padding_idx < num_embeddings:
        raise InvalidArgumentError(
            f"table {name}: padding_idx is {padding_idx}, which is none of its {num_embeddings} rows"
        )
    return padding_idx % num_embeddings
