"""What a client asks of a ps and what the ps answers, as plain Python values.

These types are the contract of ``batch.proto`` without its encoding: the store, the in-process
transport and the client's upper layers use them, and only the transports at the edge turn them into
a protobuf header with tensor buffers beside it (``message_codec``).

Arrays in a batch belong to the caller, who does not change them until the exchange has returned. Arrays in a reply
belong to the receiver. There are these exceptions, each only if asked for:

* The tensor of a read or gather with ``out`` is that array.
* The tensor of a read with ``view`` may be memory that the receiver does not own. It is read-only and does not change.
* Where an exchange with the core permits it, the core may lend what is read, as a view of the value that does not
  change, and may keep an array that it is given as the value (``ParameterServer.exchange``).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, TypeAlias, TypeVar, cast
from uuid import UUID

import numpy as np
import numpy.typing as npt

from ps_protocol.dtype_traits import dtype_name
from ps_protocol.errors import ShardscopeError
from ps_protocol.initializer_spec import InitializerSpec, ValueKind
from ps_protocol.optimizer_rules import RULES
from ps_protocol.optimizer_spec import OptimizerSpec
from ps_protocol.shared_objects import MAX_OBJECT_BYTES, MAX_SHORT_ANSWER_BYTES, Act, Look
from ps_protocol.training.round_operations import Commit, Stage

Array: TypeAlias = npt.NDArray[Any]

MAX_REDUCED_BYTES: Final = 1024 * 1024
"""The most bytes that a ``Reduce`` returns."""


@dataclass(frozen=True, slots=True)
class PartitionSlice:
    """Where a part of a partitioned variable lies in the whole.

    Attributes:
        full_name: Name of the whole.
        full_shape: Its shape.
        offset: Index of the part's first element along each dimension of the whole.
    """

    full_name: str
    full_shape: tuple[int, ...]
    offset: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VariableSpec:
    """What is fixed about a variable when its name is first declared.

    Attributes:
        name: Full name, scopes included, without ":0".
        dtype: NumPy or ml-dtypes type, in native byte order.
        shape: All sizes known.
        slice: Place in the whole, of a part of a partitioned variable.
        slot_of: Full name of the variable that this one is a slot of; empty for one that is no slot.
        optimizer: Of a variable that counts the steps of an optimizer, how these change the variable ``slot_of``.
        object_kind: Of a variable that holds the state of a shared object, of which kind that is; else empty.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    slice: PartitionSlice | None = None
    slot_of: str = ""
    optimizer: OptimizerSpec | None = None
    object_kind: str = ""

    @property
    def size_bytes(self) -> int:
        """Bytes of a value, computed without overflow."""
        size = self.dtype.itemsize
        for length in self.shape:
            size *= length
        return size

    def __str__(self) -> str:
        return f"{self.name} ({dtype_name(self.dtype)}{list(self.shape)})"


class UpdateRule(enum.IntEnum):
    """How a whole value is updated; numbers of ``Update.Rule``."""

    ASSIGN = 1
    ASSIGN_ADD = 2
    ASSIGN_SUB = 3


class WireDType(enum.IntEnum):
    """The form in which the elements of a float tensor travel; numbers of ``WireDType`` in ``tensor.proto``."""

    EXACT = 0
    BFLOAT16 = 1
    FLOAT16 = 2
    INT8 = 3


class ScatterRule(enum.IntEnum):
    """How rows are updated; numbers of ``Scatter.Rule``."""

    UPDATE = 1
    ADD = 2
    SUB = 3
    MUL = 4
    DIV = 5
    MIN = 6
    MAX = 7


class Verdict(enum.IntEnum):
    """What became of an update that was not refused; numbers of ``OperationReply.Verdict``.

    ``SKIPPED``: nothing changed, as the optimizer was declared to do with a gradient that is not finite.
    ``NOT_YET``: nothing changed, since a shared object cannot do it before something else has happened to it.
    """

    APPLIED = 0
    SKIPPED = 1
    NOT_YET = 2


@dataclass(frozen=True, slots=True)
class Declare:
    """Get-or-create; with an initializer, also initialises a variable that has no value yet."""

    spec: VariableSpec
    initializer: InitializerSpec | None = None

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(frozen=True, slots=True)
class Initialize:
    """Gives a declared variable its initial value; keeps an existing one unless ``overwrite``."""

    name: str
    initializer: InitializerSpec
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """The whole value, of one version.

    Attributes:
        unless_version: If the variable still has this version, the result holds it and no tensor.
        wire: The form in which the tensor travels, where it does.
        out: Where to put the tensor, which then is the one in the result: C-contiguous, writable, of the variable's
            dtype and shape. What it holds after a failure is not defined. Not sent.
        view: Whether the tensor in the result may be memory that is not the receiver's own, and then read-only. Not
            sent.
    """

    name: str
    unless_version: int | None = None
    wire: WireDType = WireDType.EXACT
    out: Array | None = field(default=None, compare=False, repr=False)
    view: bool = field(default=False, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Update:
    """Replaces, adds to or subtracts from the whole value.

    Attributes:
        value: The variable's dtype and shape; or, to add or subtract, a 0-d array of that dtype.
        wire: The form in which ``value`` travels, where it does.
        encoded: The bytes of ``value`` in a lossy form, if they have been made already.
    """

    name: str
    rule: UpdateRule
    value: Array
    wire: WireDType = WireDType.EXACT
    encoded: npt.NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Replace:
    """Replaces the whole value by one that may have another shape, or bytes of another length.

    The variable has the new value's layout from then on; ``Initialize`` goes back to the one that was declared.

    Attributes:
        value: The variable's dtype, or bytes of any length if it holds bytes.
        keeps_shape: Whether the shape must be the one that the variable has.
    """

    name: str
    value: Array
    keeps_shape: bool = False


@dataclass(frozen=True, slots=True)
class Scatter:
    """Updates rows.

    Attributes:
        indices: int32 or int64, any shape; rows may repeat.
        updates: The variable's dtype, shape ``[*indices.shape, *variable.shape[index_depth:]]``, or 0-d.
        index_depth: How many of the first dimensions, taken as one in C order, an index counts through.
        wire: The form in which ``updates`` travel, where they do.
    """

    name: str
    rule: ScatterRule
    indices: Array
    updates: Array
    index_depth: int = 1
    wire: WireDType = WireDType.EXACT


@dataclass(frozen=True, slots=True)
class CountUpTo:
    """Adds one to an integer scalar that is less than ``limit``; the reply has the value before."""

    name: str
    limit: int


@dataclass(frozen=True, slots=True)
class Apply:
    """Computes a variable and its slots anew by a function that the ps knows by name, such as a step of an optimizer.

    Attributes:
        function: Its name.
        slots: Full names of the variables that it computes with, in the function's order; on the same ps task.
        state: Full name of the variable that counts the steps, whose spec says how the optimizer was declared; empty
            if there is none, and ``numbers`` say all.
        operands: What the function takes; of an optimizer the gradient, or row indices (int32 or int64, ``[n]``) and
            the gradient of those rows, of the variable's dtype.
        numbers: float64, ``[k]``: the function's settings in its order. NaN stands for what was declared; if there are
            none at all, all are as declared.
        wire: The form in which the last operand travels, where it does.
    """

    name: str
    function: str
    slots: tuple[str, ...]
    state: str
    operands: tuple[Array, ...]
    numbers: Array
    wire: WireDType = WireDType.EXACT


@dataclass(frozen=True, slots=True)
class Reduce:
    """Something small that is computed from the value on its ps, by a function that the ps knows by name.

    Attributes:
        function: Its name.
        operands: What it takes besides the value.
        numbers: float64, ``[k]``: its settings.
    """

    name: str
    function: str
    operands: tuple[Array, ...]
    numbers: Array


@dataclass(frozen=True, slots=True)
class Gather:
    """Rows of the value.

    Attributes:
        indices: int32 or int64, any shape; the result is ``[*indices.shape, *variable.shape[index_depth:]]``.
        index_depth: How many of the first dimensions, taken as one in C order, an index counts through.
        wire: The form in which the rows travel, where they do.
        out: Where to put the rows, as for ``Read``.
        view: Never: the rows are the receiver's own.
    """

    view: ClassVar[bool] = False
    name: str
    indices: Array
    index_depth: int = 1
    wire: WireDType = WireDType.EXACT
    out: Array | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Describe:
    """Spec, version and state, without the value."""

    name: str


PsOperation: TypeAlias = (
    Declare
    | Initialize
    | Read
    | Update
    | Replace
    | Scatter
    | CountUpTo
    | Apply
    | Reduce
    | Gather
    | Act
    | Look
    | Stage
    | Commit
    | Describe
)

_Operation = TypeVar("_Operation", bound=PsOperation)

READS: Final = (Read, Gather)
"""Kinds with an ``out``, a ``view`` and a ``wire``. For ``isinstance``; a union would be slower there."""


class Logged(enum.Enum):
    """How an operation of a batch that mutates is written down, to be carried out again after a crash."""

    AS_ITSELF = enum.auto()
    """In the record of its batch."""
    BEFORE_ITS_BATCH = enum.auto()
    """In a record of its own: it declares a variable or gives it its first value, which is safe to repeat."""
    AS_A_LOOK = enum.auto()
    """In the record of its batch a ``Describe`` stands for it: there is nothing to carry out again."""


def _no_tensors(_operation: PsOperation) -> tuple[Array, ...]:
    return ()


def _no_operand(_operation: PsOperation) -> None:
    return None


def _unchanged(operation: PsOperation, _tensors: Sequence[Array]) -> PsOperation:
    return operation


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationKind:
    """All about a kind of operation, apart from its encoding and from what a ps does with it.

    Attributes:
        mutates: Whether it may change a variable.
        logged: How it is written down.
        may_merge: Whether it may share a batch with what others have submitted: it waits for nothing, and its reply is
            small.
        tensors: Returns the tensors that it carries, in the order in which they travel.
        with_tensors: Returns an operation with other tensors in their place, which travel exactly.
        operand: Returns the tensor that is only computed with, if there is one: should its elements change later, no
            more than this update is spoiled, whatever they were when they were looked at.
        reply_bytes: Returns the most bytes of the tensor in its reply, on a variable of that spec. None if there is no
            tensor.
        others: Returns the names of the variables that it works on besides the one that it is about.
    """

    mutates: bool
    logged: Logged
    may_merge: bool = False
    tensors: Callable[[Any], tuple[Array, ...]] = _no_tensors
    with_tensors: Callable[[Any, Sequence[Array]], PsOperation] = _unchanged
    operand: Callable[[Any], Array | None] = _no_operand
    reply_bytes: Callable[[Any, VariableSpec], int] | None = None
    others: Callable[[Any], tuple[str, ...]] | None = None


def _initial_value(operation: Declare | Initialize) -> tuple[Array, ...]:
    kind = None if operation.initializer is None else operation.initializer.kind
    return (kind.array,) if isinstance(kind, ValueKind) else ()


def _with_initial_value(operation: Declare | Initialize, tensors: Sequence[Array]) -> PsOperation:
    if operation.initializer is None or not tensors:
        return operation
    return replace(operation, initializer=replace(operation.initializer, kind=ValueKind(tensors[0])))


def _tensors_of_apply(apply: Apply) -> tuple[Array, ...]:
    """Numbers that are not there need not travel."""
    return (*apply.operands, apply.numbers) if apply.numbers.size else apply.operands


def _gradient_of_apply(apply: Apply) -> Array | None:
    """Of an optimizer's step; what a function of a team does with its operands nobody knows."""
    return apply.operands[-1] if apply.function in RULES and apply.operands else None


def _apply_with_tensors(apply: Apply, tensors: Sequence[Array]) -> Apply:
    num_operands = len(apply.operands)
    numbers = tensors[num_operands] if len(tensors) > num_operands else apply.numbers
    return Apply(apply.name, apply.function, apply.slots, apply.state, tuple(tensors[:num_operands]), numbers)


def _rows_bytes(operation: Gather, spec: VariableSpec) -> int:
    if not spec.shape:
        return 0
    return operation.indices.size * math.prod(spec.shape[operation.index_depth :]) * spec.dtype.itemsize


def _answer_bytes(act: Act, spec: VariableSpec) -> int:
    """An object that holds tensors answers with no more than it holds, and JSON."""
    return MAX_SHORT_ANSWER_BYTES if act.tensors else max(MAX_OBJECT_BYTES, spec.size_bytes)


KINDS: Final[dict[type[Any], OperationKind]] = {
    Update: OperationKind(
        mutates=True,
        logged=Logged.AS_ITSELF,
        may_merge=True,
        tensors=lambda update: (update.value,),
        with_tensors=lambda update, tensors: Update(update.name, update.rule, tensors[0]),
        operand=lambda update: update.value,
    ),
    Replace: OperationKind(
        mutates=True,
        logged=Logged.AS_ITSELF,
        may_merge=True,
        tensors=lambda replace: (replace.value,),
        with_tensors=lambda replace, tensors: Replace(replace.name, tensors[0], replace.keeps_shape),
    ),
    Scatter: OperationKind(
        mutates=True,
        logged=Logged.AS_ITSELF,
        may_merge=True,
        tensors=lambda scatter: (scatter.indices, scatter.updates),
        with_tensors=lambda scatter, tensors: Scatter(
            scatter.name, scatter.rule, tensors[0], tensors[1], scatter.index_depth
        ),
        operand=lambda scatter: scatter.updates,
    ),
    CountUpTo: OperationKind(
        mutates=True, logged=Logged.AS_ITSELF, reply_bytes=lambda _count_up_to, spec: spec.size_bytes
    ),
    Apply: OperationKind(
        mutates=True,
        logged=Logged.AS_ITSELF,
        may_merge=True,
        tensors=_tensors_of_apply,
        with_tensors=_apply_with_tensors,
        operand=_gradient_of_apply,
        others=lambda apply: (*apply.slots, apply.state) if apply.state else apply.slots,
    ),
    Declare: OperationKind(
        mutates=True, logged=Logged.BEFORE_ITS_BATCH, tensors=_initial_value, with_tensors=_with_initial_value
    ),
    Initialize: OperationKind(
        mutates=True, logged=Logged.BEFORE_ITS_BATCH, tensors=_initial_value, with_tensors=_with_initial_value
    ),
    Read: OperationKind(mutates=False, logged=Logged.AS_A_LOOK, reply_bytes=lambda _read, spec: spec.size_bytes),
    Gather: OperationKind(
        mutates=False,
        logged=Logged.AS_A_LOOK,
        tensors=lambda gather: (gather.indices,),
        with_tensors=lambda gather, tensors: Gather(
            gather.name, tensors[0], gather.index_depth, gather.wire, gather.out
        ),
        reply_bytes=_rows_bytes,
    ),
    Reduce: OperationKind(
        mutates=False,
        logged=Logged.AS_A_LOOK,
        tensors=lambda reduce: (*reduce.operands, reduce.numbers),
        with_tensors=lambda reduce, tensors: Reduce(reduce.name, reduce.function, tuple(tensors[:-1]), tensors[-1]),
        reply_bytes=lambda _reduce, _spec: MAX_REDUCED_BYTES,
    ),
    Act: OperationKind(
        mutates=True,
        logged=Logged.AS_ITSELF,
        tensors=lambda act: (act.event, *act.tensors),
        with_tensors=lambda act, tensors: Act(act.name, act.kind, tensors[0], tuple(tensors[1:])),
        operand=lambda act: act.tensors[-1] if act.tensors else None,
        reply_bytes=_answer_bytes,
    ),
    Look: OperationKind(
        mutates=False,
        logged=Logged.AS_A_LOOK,
        tensors=lambda look: (look.question,),
        with_tensors=lambda look, tensors: Look(look.name, look.kind, tensors[0], look.wait_s),
        reply_bytes=lambda _look, _spec: MAX_OBJECT_BYTES,
    ),
    Stage: OperationKind(
        mutates=True,
        logged=Logged.AS_ITSELF,
        tensors=lambda stage: stage.tensors,
        with_tensors=lambda stage, tensors: stage.with_tensors(tensors),
        others=lambda stage: stage.others,
    ),
    Commit: OperationKind(mutates=True, logged=Logged.AS_ITSELF, others=lambda commit: commit.others),
    Describe: OperationKind(mutates=False, logged=Logged.AS_A_LOOK),
}
"""A row for each kind. Its messages are in ``operation_codec``, what a ps does with it in ``batch_handlers``."""

_READ_ONLY: Final = frozenset([kind for kind, row in KINDS.items() if not row.mutates])


def mutates(operations: Iterable[PsOperation]) -> bool:
    """Whether any of the operations may change a variable."""
    return not _READ_ONLY.issuperset(map(type, operations))


def names_of(operations: Iterable[PsOperation]) -> set[str]:
    """Names of all variables that operations work on."""
    names = set()
    for operation in operations:
        names.add(operation.name)
        others = KINDS[type(operation)].others
        if others is not None:
            names.update(others(operation))
    return names


def tensors_of(operation: PsOperation) -> tuple[Array, ...]:
    """The tensors that an operation carries, in the order in which they travel."""
    return KINDS[type(operation)].tensors(operation)


def tensor_bytes(operations: Iterable[PsOperation]) -> int:
    """Size of the tensors that operations carry."""
    size_bytes = 0
    for operation in operations:
        for tensor in KINDS[type(operation)].tensors(operation):
            size_bytes += tensor.nbytes
    return size_bytes


def map_tensors(operation: _Operation, change: Callable[[Array], Array]) -> _Operation:
    """Returns an operation with its tensors changed, which then travel exactly; itself if it carries none."""
    kind = KINDS[type(operation)]
    tensors = kind.tensors(operation)
    return cast(_Operation, kind.with_tensors(operation, [change(each) for each in tensors])) if tensors else operation


def reply_bytes(operation: PsOperation, spec: VariableSpec) -> int:
    """Most bytes of the tensor in the reply to an operation on a variable of that spec.

    A read with ``unless_version`` may be answered without a tensor.
    """
    size = KINDS[type(operation)].reply_bytes
    return 0 if size is None else size(operation, spec)


@dataclass(frozen=True, slots=True)
class Batch:
    """Operations for one ps task, carried out in order; see ``batch.proto`` for the guarantees.

    Attributes:
        client: Incarnation of the client.
        store: Incarnation of the store that the client means.
        sequence: Number of a mutating batch, from 1 upwards; 0 for one that only reads.
        expected_reply_bytes: Most bytes of tensors in the reply, if the client knows the specs; else None. Guides a
            transport's choice of path and is not sent.
        checksum: Of a mutating batch as it was received, to tell it from another one under its number; 0 if there is
            none. It is not sent.
    """

    client: UUID
    store: UUID
    sequence: int
    operations: tuple[PsOperation, ...]
    expected_reply_bytes: int | None = field(default=None, compare=False)
    checksum: int = field(default=0, compare=False, repr=False)

    @property
    def mutates(self) -> bool:
        """Whether any operation may change a variable, so that the batch must be applied only once."""
        return mutates(self.operations)


@dataclass(frozen=True, slots=True)
class Result:
    """The reply to an operation that succeeded.

    Attributes:
        version: Updates applied to the variable since it was initialised.
        initialized: Whether it has a value.
        tensor: Of read, gather and count up to, the result; None for a read whose ``unless_version`` is the variable's
            version. Of act and look the answer, uint8 ``[n]``; None with the verdict ``NOT_YET``.
        spec: Of declare and describe, what is recorded.
        verdict: What became of an update.
    """

    version: int
    initialized: bool
    tensor: Array | None = None
    spec: VariableSpec | None = None
    verdict: Verdict = Verdict.APPLIED


Reply: TypeAlias = Result | ShardscopeError
"""The answer to one operation; an error is a value here, since the others of its batch still count."""


@dataclass(frozen=True, slots=True)
class BatchReply:
    """One reply for each operation of a batch, in its order."""

    replies: tuple[Reply, ...]
