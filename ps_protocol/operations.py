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
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeAlias
from uuid import UUID

import numpy as np
import numpy.typing as npt

from ps_protocol.dtype_traits import dtype_name
from ps_protocol.errors import ShardscopeError
from ps_protocol.initializer_spec import InitializerSpec
from ps_protocol.optimizer_spec import OptimizerSpec
from ps_protocol.shared_objects import Act, Look
from ps_protocol.training.round_operations import Commit, Stage

Array: TypeAlias = npt.NDArray[Any]


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

READS: Final = (Read, Gather)
"""Kinds with an ``out``, a ``view`` and a ``wire``. For ``isinstance``; a union would be slower there."""


READ_ONLY: Final = frozenset({Read, Gather, Reduce, Look, Describe})
"""Kinds that change nothing. All others a client numbers, a ledger applies once, and a log keeps."""


def mutates(operations: Iterable[PsOperation]) -> bool:
    """Whether any of the operations may change a variable."""
    return not READ_ONLY.issuperset(map(type, operations))


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
