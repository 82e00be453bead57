"""Errors as gRPC statuses and back: the only place that knows both.

An error travels whole, as ``Error`` of ``errors.proto`` in the details of the status (the form of
``google.rpc.Status`` that gRPC libraries of every language read). A status without such details comes from gRPC itself,
or from a server that is no ps. It becomes the error of its code, which says what to do about it.
"""

from __future__ import annotations

import re
from typing import NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import status_pb2  # type: ignore[import-untyped]  # googleapis-common-protos has no py.typed
from grpc_status import rpc_status

from ps_protocol.codec.error_codec import decode_error, encode_error
from ps_protocol.errors import ErrorCode, ShardscopeError, error_for
from ps_protocol.v1 import errors_pb2

MESSAGE_LIMIT_BYTES = 3_000
"""Most bytes of an error's message. A status travels in HTTP/2 trailers. gRPC takes 8 KiB of them and drops a larger
status. They hold the details in base64, and the summary again, percent-encoded."""

_SUMMARY_LIMIT_BYTES = 512
_NAME_LIMIT_BYTES = 1_000

_GRPC_CODES: dict[ErrorCode, grpc.StatusCode] = {
    ErrorCode.SHAPE_MISMATCH: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.DTYPE_MISMATCH: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.STATE_LOST: grpc.StatusCode.FAILED_PRECONDITION,
}
_GRPC_CODES |= {code: grpc.StatusCode[code.name] for code in ErrorCode if code not in _GRPC_CODES}


_IN_ITS_LOG = "Its log says more."
_ADDRESS_AND_VERSION = (
    "Check that the address is that of a ps task, not of another service, and that both sides run the same version."
)
_MEANINGS: dict[grpc.StatusCode, tuple[str, str]] = {
    grpc.StatusCode.UNAVAILABLE: (
        "cannot be reached",
        "Check that it is running, that the cluster spec has its address and port, and that no firewall lies between.",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        "did not answer in time",
        "It may be busy, stopped, or cut off; allow more time if the tensors are large.",
    ),
    grpc.StatusCode.CANCELLED: (
        "was not waited for",
        "The client was closed, or the call cancelled, before the answer came.",
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: ("has reached a limit", "Send less at a time, or wait before the next try."),
    grpc.StatusCode.UNIMPLEMENTED: ("does not offer this service", _ADDRESS_AND_VERSION),
    grpc.StatusCode.UNAUTHENTICATED: (
        "does not know who is calling",
        "Give the client the cluster's token or certificate.",
    ),
    grpc.StatusCode.PERMISSION_DENIED: ("does not allow this", "Use a token or certificate that may do it."),
    grpc.StatusCode.INTERNAL: ("failed to carry the call", _IN_ITS_LOG),
    grpc.StatusCode.UNKNOWN: ("failed without saying why", _IN_ITS_LOG),
    grpc.StatusCode.DATA_LOSS: ("lost part of the call", _IN_ITS_LOG),
    grpc.StatusCode.INVALID_ARGUMENT: ("does not understand the call", _ADDRESS_AND_VERSION),
    grpc.StatusCode.NOT_FOUND: ("does not know what was asked for", _ADDRESS_AND_VERSION),
    grpc.StatusCode.ALREADY_EXISTS: ("says that it exists already", _ADDRESS_AND_VERSION),
    grpc.StatusCode.FAILED_PRECONDITION: ("is not ready for the call", _ADDRESS_AND_VERSION),
    grpc.StatusCode.ABORTED: ("gave up the call", "Try it again."),
    grpc.StatusCode.OUT_OF_RANGE: ("was asked for something beyond a limit", _ADDRESS_AND_VERSION),
}
"""What the task did, and what to do about it, where a status has no details."""

_CONNECTING = re.compile(
    r"failed to connect to all addresses; last error: [A-Z]+: .*: Failed to connect to remote host: "
)
"""How gRPC begins a text that ends with the system's own word, such as "Connection refused"."""

_NO_GRPC = re.compile(r"Failed parsing HTTP/2|Trying to connect an http1\.x server")
"""What gRPC says when something has answered that does not speak its protocol."""
_NOT_GRPC = ("is no ps task: something else listens there", "Check the address and the port.")


def grpc_code(error: ShardscopeError) -> grpc.StatusCode:
    """Returns the gRPC code that comes nearest to an error."""
    return _GRPC_CODES[error.code]


def abort(context: grpc.ServicerContext, error: ShardscopeError) -> NoReturn:
    """Ends a call with an error, which the client's ``from_rpc_error`` gives back.

    A message beyond ``MESSAGE_LIMIT_BYTES`` loses its middle.
    """
    message = encode_error(error)
    message.message = _shortened(message.message, MESSAGE_LIMIT_BYTES)
    message.variable = _shortened(message.variable, _NAME_LIMIT_BYTES)
    details = any_pb2.Any()
    details.Pack(message)
    summary = _shortened(message.message, _SUMMARY_LIMIT_BYTES)
    # abort_with_status raises a bare Exception, which gRPC alone may catch.
    context.abort_with_status(
        rpc_status.to_status(status_pb2.Status(code=grpc_code(error).value[0], message=summary, details=[details]))
    )


def from_rpc_error(rpc_error: grpc.RpcError, *, task: str, address: str = "") -> ShardscopeError:
    """Returns (does not raise) the error that ended a call.

    Args:
        rpc_error: As a stub raises it.
        task: The task that was called, as "ps:0".
        address: Where it was called, as "host:port", for the message.
    """
    if not isinstance(rpc_error, grpc.Call):
        return _without_details(grpc.StatusCode.UNKNOWN, str(rpc_error), task, address)
    message = _details(rpc_error)
    if message is None:
        return _without_details(rpc_error.code(), rpc_error.details() or "", task, address)
    error = decode_error(message)
    error.task = error.task or task
    return error


def _details(call: grpc.Call) -> errors_pb2.Error | None:
    try:
        status = rpc_status.from_call(call)
        message = errors_pb2.Error()
        for details in status.details if status is not None else ():
            if details.Unpack(message):
                return message
    except (ValueError, DecodeError):
        # No ps sends details that contradict their status or are no message: the status itself counts.
        return None
    return None


def _without_details(status: grpc.StatusCode, details: str, task: str, address: str) -> ShardscopeError:
    where = f"the task at {address}" if address else "the task"
    if status not in _MEANINGS:
        status = grpc.StatusCode.UNKNOWN
    what, remedy = _NOT_GRPC if _NO_GRPC.search(details) else _MEANINGS[status]
    code = ErrorCode.INTERNAL if status is grpc.StatusCode.DATA_LOSS else ErrorCode[status.name]
    retryable = None
    if code is ErrorCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        # A message above the limit stays above it. gRPC gives no other sign than its text, which also stands for a
        # limit that passes, such as too many calls at once.
        retryable = False
    reason = _CONNECTING.sub("", details).rstrip(".") or "no details"
    return error_for(code, f"{where} {what} ({reason}). {remedy}", task=task, retryable=retryable)


def _shortened(text: str, limit_bytes: int) -> str:
    data = text.encode()
    if len(data) <= limit_bytes:
        return text
    # What happened stands at the start of a message, what to do at its end.
    half = (limit_bytes - len(" ... ")) // 2
    return f"{data[:half].decode(errors='ignore')} ... {data[-half:].decode(errors='ignore')}"
