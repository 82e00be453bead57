"""Where typed code ends and a gRPC call begins: deadlines in, errors out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeVar

import grpc
from google.protobuf.message import Message

from ps_protocol.errors import ResourceExhaustedError, ShardscopeError
from ps_protocol.grpc_edge import status
from ps_server.batches.defects import internal_error

WITHOUT_DEADLINE_S: Final = 60.0
"""How long a call without a deadline may wait."""

_FOR_EVER_S: Final = 1e9

_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")


class _Servicer(Protocol):
    """What ``unary`` needs of the object: the ps task, as "ps:0", for errors that do not name one."""

    @property
    def task(self) -> str: ...


_ServicerT = TypeVar("_ServicerT", bound=_Servicer)


def remaining_s(context: grpc.ServicerContext) -> float | None:
    """Seconds until the deadline of a call; None if it has none."""
    # Of a call without deadline gRPC's documentation says that this is None, but its library gives those to a moment
    # that never comes.
    remaining_s = context.time_remaining()
    return None if remaining_s is None or remaining_s > _FOR_EVER_S else remaining_s


def timeout_s(context: grpc.ServicerContext) -> float:
    """Seconds that a call may still take."""
    found_s = remaining_s(context)
    return WITHOUT_DEADLINE_S if found_s is None else found_s


@contextmanager
def errors_as_status(context: grpc.ServicerContext, task: str) -> Iterator[None]:
    """Ends the call with the status of an error that is raised inside.

    An error that is no ``ShardscopeError`` is a defect: its traceback is logged under a number, which the client gets.
    A stream that the client has left raises ``grpc.RpcError``; gRPC handles that itself.

    Args:
        context: Of the call.
        task: The ps task, as "ps:0", for errors that do not name one.
    """
    try:
        yield
    except grpc.RpcError:
        raise
    except ShardscopeError as error:
        error.task = error.task or task
        status.abort(context, error)
    except MemoryError:
        status.abort(
            context,
            ResourceExhaustedError("there is not enough memory for this call; try again later", task=task),
        )
    except Exception as defect:  # noqa: BLE001 - nothing stands above that could handle it
        status.abort(context, internal_error(defect, task))


def unary(
    method: Callable[[_ServicerT, _Request, float], _Reply],
) -> Callable[[_ServicerT, _Request, grpc.ServicerContext], _Reply]:
    """Makes a method of (request, seconds left) into one that gRPC can call."""

    @functools.wraps(method)
    def call(self: _ServicerT, request: _Request, context: grpc.ServicerContext) -> _Reply:
        with errors_as_status(context, self.task):
            return method(self, request, timeout_s(context))

    return call


def message_handler(
    method: Callable[[Any, grpc.ServicerContext], Any], request: type[Message], reply: type[Message]
) -> grpc.RpcMethodHandler[Any, Any]:
    """Returns gRPC's handler for a unary method with these messages."""
    return grpc.unary_unary_rpc_method_handler(
        method, request_deserializer=request.FromString, response_serializer=reply.SerializeToString
    )
