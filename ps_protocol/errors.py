"""The errors that Shardscope raises, on both sides of the wire.

    ShardscopeError
    ├── UnknownError
    ├── CancelledError
    ├── InvalidArgumentError
    │   ├── ShapeMismatchError      (also a ValueError)
    │   ├── DTypeMismatchError      (also a TypeError)
    │   └── InvalidValueError       (also a ValueError)
    │       └── ValueRangeError
    ├── DeadlineExceededError       (also a TimeoutError)
    ├── NotFoundError
    ├── AlreadyExistsError
    ├── PermissionDeniedError
    ├── UnauthenticatedError
    ├── ResourceExhaustedError      retryable
    ├── FailedPreconditionError
    │   └── StateLostError
    ├── AbortedError                retryable
    ├── OutOfRangeError
    ├── UnimplementedError
    ├── InternalError
    ├── DataLossError
    └── UnavailableError            retryable

    ValueError
    └── SettingError
    RuntimeError
    └── ClusterStartError

Each says what happened, to which variable, on which task, and what to do. Errors of
Python's own kind (``ValueError``, ``TypeError``, ``RuntimeError``) are raised where
TensorFlow 1 raises those: for a misuse that is found locally, before anything is sent.
"""

from __future__ import annotations

import enum
import functools
from typing import Any, ClassVar


class ErrorCode(enum.IntEnum):
    """The codes of ``errors.proto``; the numbers are the contract's."""

    UNKNOWN = 1
    CANCELLED = 2
    INVALID_ARGUMENT = 3
    SHAPE_MISMATCH = 4
    DTYPE_MISMATCH = 5
    DEADLINE_EXCEEDED = 6
    NOT_FOUND = 7
    ALREADY_EXISTS = 8
    PERMISSION_DENIED = 9
    UNAUTHENTICATED = 10
    RESOURCE_EXHAUSTED = 11
    FAILED_PRECONDITION = 12
    ABORTED = 13
    OUT_OF_RANGE = 14
    UNIMPLEMENTED = 15
    INTERNAL = 16
    UNAVAILABLE = 17
    STATE_LOST = 18
    DATA_LOSS = 19


_STATUS_NUMBERS: dict[ErrorCode, int] = {
    ErrorCode.CANCELLED: 1,
    ErrorCode.UNKNOWN: 2,
    ErrorCode.INVALID_ARGUMENT: 3,
    ErrorCode.SHAPE_MISMATCH: 3,
    ErrorCode.DTYPE_MISMATCH: 3,
    ErrorCode.DEADLINE_EXCEEDED: 4,
    ErrorCode.NOT_FOUND: 5,
    ErrorCode.ALREADY_EXISTS: 6,
    ErrorCode.PERMISSION_DENIED: 7,
    ErrorCode.RESOURCE_EXHAUSTED: 8,
    ErrorCode.FAILED_PRECONDITION: 9,
    ErrorCode.STATE_LOST: 9,
    ErrorCode.ABORTED: 10,
    ErrorCode.OUT_OF_RANGE: 11,
    ErrorCode.UNIMPLEMENTED: 12,
    ErrorCode.INTERNAL: 13,
    ErrorCode.UNAVAILABLE: 14,
    ErrorCode.DATA_LOSS: 15,
    ErrorCode.UNAUTHENTICATED: 16,
}


class ShardscopeError(Exception):
    """Base of every error that a ps or a client reports.

    Attributes:
        code: The error's code in the contract.
        message: What happened and what to do, without the task.
        variable: Full name of the variable concerned, or "".
        task: The task that found the error, as "ps:0", or "".
        retryable: Whether the same request may succeed if sent again unchanged.
        retry_after_s: With a retryable error, seconds to wait first; 0 leaves it to the client.
        op: The operation of a graph that a session could not carry out, None if there is none.

    Args:
        node_def: What happened; or, as TensorFlow's programs make errors, None, None and then what happened.
        op: See the attributes.
        message: See the attributes.
        error_code: Of an error of this very class, its number; of others, as TensorFlow's programs make them, ignored.
        variable: See the attributes.
        task: See the attributes.
        retryable: See the attributes; that of the class if not given.
        retry_after_s: See the attributes.
    """

    code: ClassVar[ErrorCode] = ErrorCode.UNKNOWN
    retryable_by_default: ClassVar[bool] = False

    def __init__(
        self,
        node_def: Any = None,
        op: Any = None,
        message: str | None = None,
        error_code: Any = None,
        *,
        variable: str = "",
        task: str = "",
        retryable: bool | None = None,
        retry_after_s: float = 0.0,
    ):
        self.message: str = message if message is not None else "" if node_def is None else node_def
        super().__init__(self.message)
        self.op = op
        self._error_code = error_code if type(self) is ShardscopeError and isinstance(error_code, int) else None
        self.variable = variable
        self.task = task
        self.retryable = self.retryable_by_default if retryable is None else retryable
        self.retry_after_s = retry_after_s

    @property
    def error_code(self) -> int:
        """TensorFlow's number of the kind of error, which is gRPC's as well."""
        return _STATUS_NUMBERS[self.code] if self._error_code is None else self._error_code

    @property
    def node_def(self) -> Any:
        """The definition of ``op``, None if there is none."""
        return None if self.op is None else self.op.node_def

    def __str__(self) -> str:
        return f"[{self.task}] {self.message}" if self.task else self.message

    def __reduce__(self) -> tuple[object, ...]:
        details = {name: getattr(self, name) for name in ("variable", "task", "retryable", "retry_after_s")}
        return functools.partial(type(self), self.message, **details), ()


class UnknownError(ShardscopeError):
    """An error of a kind that this version does not know."""

    code = ErrorCode.UNKNOWN


class CancelledError(ShardscopeError):
    """The caller gave up the call."""

    code = ErrorCode.CANCELLED


class InvalidArgumentError(ShardscopeError):
    """The request can never succeed as it is."""

    code = ErrorCode.INVALID_ARGUMENT


class ShapeMismatchError(InvalidArgumentError, ValueError):
    """A tensor or a declaration has another shape than the variable."""

    code = ErrorCode.SHAPE_MISMATCH


class DTypeMismatchError(InvalidArgumentError, TypeError):
    """A tensor or a declaration has another dtype than the variable."""

    code = ErrorCode.DTYPE_MISMATCH


class InvalidValueError(InvalidArgumentError, ValueError):
    """A value can never do, which is found before anything is sent."""


class ValueRangeError(InvalidValueError):
    """An element lies beyond the numbers that a dtype can hold."""


class DeadlineExceededError(ShardscopeError, TimeoutError):
    """Time ran out. An update may or may not have been applied; a retry counts it once.

    Attributes:
        last_failure: Why the last of several tries failed; None if there was none.
    """

    code = ErrorCode.DEADLINE_EXCEEDED
    last_failure: ShardscopeError | None = None


class NotFoundError(ShardscopeError):
    """No variable, task or service of that name."""

    code = ErrorCode.NOT_FOUND


class AlreadyExistsError(ShardscopeError):
    """The name is taken."""

    code = ErrorCode.ALREADY_EXISTS


class PermissionDeniedError(ShardscopeError):
    """The caller is known but may not do this."""

    code = ErrorCode.PERMISSION_DENIED


class UnauthenticatedError(ShardscopeError):
    """The caller has not shown who it is."""

    code = ErrorCode.UNAUTHENTICATED


class ResourceExhaustedError(ShardscopeError):
    """A limit was reached: memory, a queue, a message size."""

    code = ErrorCode.RESOURCE_EXHAUSTED
    retryable_by_default = True


class FailedPreconditionError(ShardscopeError):
    """Something must be done first, such as initialising the variable."""

    code = ErrorCode.FAILED_PRECONDITION


class StateLostError(FailedPreconditionError):
    """The ps was started again and no longer has the variables that it held."""

    code = ErrorCode.STATE_LOST


class AbortedError(ShardscopeError):
    """The operation lost a race and may be tried again."""

    code = ErrorCode.ABORTED
    retryable_by_default = True


class OutOfRangeError(ShardscopeError):
    """A position or a count lies beyond its limit."""

    code = ErrorCode.OUT_OF_RANGE


class UnimplementedError(ShardscopeError):
    """The other side does not offer this."""

    code = ErrorCode.UNIMPLEMENTED


class InternalError(ShardscopeError):
    """A defect of Shardscope itself."""

    code = ErrorCode.INTERNAL


class DataLossError(ShardscopeError):
    """A file is damaged, or ends too early: what it held cannot be read."""

    code = ErrorCode.DATA_LOSS


class UnavailableError(ShardscopeError):
    """The task cannot be reached, or is draining."""

    code = ErrorCode.UNAVAILABLE
    retryable_by_default = True


class SettingError(ValueError):
    """A setting is missing, malformed or contradicts another; the message says in one line what to change."""


class ClusterStartError(RuntimeError):
    """A ps process did not come up; the message ends with the last lines that it printed.

    Attributes:
        what: The message without them.

    Args:
        what: Which process, and what it did.
        printed: What it has printed last.
    """

    def __init__(self, what: str, printed: str = ""):
        self.what = what
        super().__init__(f"{what}; {printed}" if printed else what)


def _tree(root: type[ShardscopeError]) -> list[type[ShardscopeError]]:
    return [root, *(found for child in root.__subclasses__() for found in _tree(child))]


ERROR_TYPES: dict[int, type[ShardscopeError]] = {
    error_type.code: error_type
    for error_type in _tree(ShardscopeError)
    if error_type is not ShardscopeError and "code" in vars(error_type)
}
"""The class that stands for each code; every code has one."""


def error_for(code: int, message: str, **details: Any) -> ShardscopeError:
    """Returns (does not raise) the error of a code; of a code that is not known, an ``UnknownError``.

    Args:
        code: In the contract.
        message: What happened and what to do.
        details: As ``ShardscopeError`` takes them.
    """
    return ERROR_TYPES.get(code, UnknownError)(message, **details)


__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "CancelledError",
    "ClusterStartError",
    "DTypeMismatchError",
    "DataLossError",
    "DeadlineExceededError",
    "ErrorCode",
    "FailedPreconditionError",
    "InternalError",
    "InvalidArgumentError",
    "InvalidValueError",
    "NotFoundError",
    "OutOfRangeError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "SettingError",
    "ShapeMismatchError",
    "ShardscopeError",
    "StateLostError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UnknownError",
    "ValueRangeError",
]


def __dir__() -> list[str]:
    return __all__
