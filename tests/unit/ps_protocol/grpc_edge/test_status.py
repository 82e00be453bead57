"""Errors as gRPC statuses and back, without a channel between."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, cast

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import status_pb2  # type: ignore[import-untyped]  # googleapis-common-protos has no py.typed
from grpc_status import rpc_status

from ps_protocol.errors import (
    ERROR_TYPES,
    CancelledError,
    DeadlineExceededError,
    ErrorCode,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    ShapeMismatchError,
    ShardscopeError,
    StateLostError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    UnknownError,
)
from ps_protocol.grpc_edge import status
from ps_protocol.v1 import errors_pb2, tensor_pb2

ERRORS = [*grpc.StatusCode]
ERRORS.remove(grpc.StatusCode.OK)


class AbortingContext:
    """Does what gRPC's context does with a status: keeps it and raises a bare Exception."""

    def __init__(self) -> None:
        self.status: Any = None

    def abort_with_status(self, given: Any) -> None:
        self.status = given
        raise Exception  # noqa: TRY002 - as gRPC does


class EndedCall(grpc.RpcError, grpc.Call):
    """A call that ended with an error, as a stub raises it."""

    def __init__(
        self, code: grpc.StatusCode, details: str | None = "", trailers: Sequence[tuple[str, bytes]] | None = ()
    ):
        self._code, self._details, self._trailers = code, details, trailers

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> Any:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailers

    def initial_metadata(self) -> Any:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Any) -> bool:
        return False


def aborted(error: ShardscopeError) -> EndedCall:
    """What a client sees after a ps has aborted a call with an error."""
    context = AbortingContext()
    with pytest.raises(Exception, match=r"^$"):
        status.abort(cast(grpc.ServicerContext, context), error)
    return EndedCall(context.status.code, context.status.details, context.status.trailing_metadata)


def with_details(code: grpc.StatusCode, details: Sequence[any_pb2.Any], message: str = "foreign") -> EndedCall:
    given: Any = rpc_status.to_status(status_pb2.Status(code=code.value[0], message=message, details=details))
    return EndedCall(code, message, given.trailing_metadata)


class TestErrorsOfAPs:
    @pytest.mark.parametrize("code", ErrorCode)
    def test_arrive_whole(self, code: ErrorCode) -> None:
        error = ERROR_TYPES[code]("was: geht\nnicht", variable="w/ü", task="ps:1", retryable=True, retry_after_s=0.25)
        arrived = status.from_rpc_error(aborted(error), task="ps:0")
        assert type(arrived) is ERROR_TYPES[code]
        assert vars(arrived) == vars(error)

    @pytest.mark.parametrize("code", ErrorCode)
    def test_have_a_grpc_code(self, code: ErrorCode) -> None:
        error = ERROR_TYPES[code]("x")
        assert aborted(error).code() is status.grpc_code(error) is not grpc.StatusCode.OK

    def test_of_a_base_class_have_a_grpc_code(self) -> None:
        assert status.grpc_code(ShardscopeError("x")) is grpc.StatusCode.UNKNOWN

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (ShapeMismatchError("x"), grpc.StatusCode.INVALID_ARGUMENT),
            (StateLostError("x"), grpc.StatusCode.FAILED_PRECONDITION),
            (NotFoundError("x"), grpc.StatusCode.NOT_FOUND),
        ],
    )
    def test_have_the_grpc_code_that_other_clients_understand(
        self, error: ShardscopeError, code: grpc.StatusCode
    ) -> None:
        assert status.grpc_code(error) is code

    def test_show_their_message_to_clients_that_know_no_details(self) -> None:
        assert aborted(NotFoundError("no variable w")).details() == "no variable w"

    def test_are_given_the_task_that_was_called_if_they_name_none(self) -> None:
        assert status.from_rpc_error(aborted(NotFoundError("x")), task="ps:3").task == "ps:3"

    @pytest.mark.parametrize("letter", ["a", "ü", "🎉", "%", "\n"])
    def test_fit_into_the_trailers_however_long(self, letter: str) -> None:
        error = InvalidArgumentError("start " + letter * 100_000 + " end", variable=letter * 100_000)
        call = aborted(error)
        percent_encoded = 3 * len(call.details().encode())
        in_base64 = sum(len(base64.b64encode(value)) for _, value in call.trailing_metadata())
        assert percent_encoded + in_base64 < 8 * 1024
        arrived = status.from_rpc_error(call, task="ps:0")
        assert type(arrived) is InvalidArgumentError
        assert arrived.message.startswith("start ")
        assert arrived.message.endswith(" end")

    def test_of_ordinary_length_lose_nothing(self) -> None:
        message = "x" * status.MESSAGE_LIMIT_BYTES
        assert status.from_rpc_error(aborted(NotFoundError(message)), task="ps:0").message == message

    def test_may_hold_text_that_is_no_unicode(self) -> None:
        assert status.from_rpc_error(aborted(NotFoundError("file \udcff")), task="ps:0").message == r"file \udcff"


class TestErrorsOfGrpc:
    @pytest.mark.parametrize("code", ERRORS)
    def test_have_a_class_and_a_remedy(self, code: grpc.StatusCode) -> None:
        error = status.from_rpc_error(EndedCall(code, "what gRPC says"), task="ps:2", address="host:2222")
        assert type(error) is not ShardscopeError
        assert error.task == "ps:2"
        assert str(error).startswith("[ps:2] ")
        assert "host:2222" in error.message
        assert "what gRPC says" in error.message
        assert error.message.endswith(".")

    @pytest.mark.parametrize(
        ("code", "details", "error_type", "retryable", "hint"),
        [
            (
                grpc.StatusCode.UNAVAILABLE,
                "failed to connect to all addresses; last error: Connection refused",
                UnavailableError,
                True,
                "is running",
            ),
            (grpc.StatusCode.UNAVAILABLE, "Ssl handshake failed", UnavailableError, True, "firewall"),
            (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", DeadlineExceededError, False, "more time"),
            (grpc.StatusCode.CANCELLED, "Channel closed!", CancelledError, False, "closed"),
            (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", UnimplementedError, False, "same version"),
            (grpc.StatusCode.UNAUTHENTICATED, "", UnauthenticatedError, False, "token"),
            (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "CLIENT: Received message larger than max (5 vs. 4)",
                ResourceExhaustedError,
                False,
                "less",
            ),
            (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "Concurrent RPC limit exceeded!",
                ResourceExhaustedError,
                True,
                "wait",
            ),
            (grpc.StatusCode.UNKNOWN, "Exception calling application: boom", UnknownError, False, "log"),
        ],
    )
    def test_say_what_to_do(
        self, code: grpc.StatusCode, details: str, error_type: type[ShardscopeError], retryable: bool, hint: str
    ) -> None:
        error = status.from_rpc_error(EndedCall(code, details), task="ps:0")
        assert type(error) is error_type
        assert error.retryable is retryable
        assert hint in error.message

    def test_may_lack_everything(self) -> None:
        error = status.from_rpc_error(EndedCall(grpc.StatusCode.UNAVAILABLE, None, None), task="ps:0")
        assert type(error) is UnavailableError
        assert "no details" in error.message

    def test_may_be_no_call_at_all(self) -> None:
        error = status.from_rpc_error(grpc.RpcError("boom"), task="ps:0")
        assert type(error) is UnknownError
        assert "boom" in error.message


class TestDetailsOfOthers:
    def test_of_another_kind_are_passed_over(self) -> None:
        foreign = any_pb2.Any()
        foreign.Pack(tensor_pb2.TensorHeader(dtype="float32"))
        ours = any_pb2.Any()
        ours.Pack(errors_pb2.Error(code=errors_pb2.ERROR_CODE_NOT_FOUND, message="ours"))
        both = status.from_rpc_error(with_details(grpc.StatusCode.ABORTED, [foreign, ours]), task="ps:0")
        assert type(both) is NotFoundError
        alone = status.from_rpc_error(with_details(grpc.StatusCode.UNAVAILABLE, [foreign]), task="ps:0")
        assert type(alone) is UnavailableError

    @pytest.mark.parametrize("data", [b"\xff\xff", b"", b"\x08\x05"])
    def test_that_are_broken_leave_the_status(self, data: bytes) -> None:
        call = EndedCall(grpc.StatusCode.UNAVAILABLE, "gone", [("grpc-status-details-bin", data)])
        assert type(status.from_rpc_error(call, task="ps:0")) is UnavailableError

    def test_that_hold_a_broken_error_leave_the_status(self) -> None:
        broken = any_pb2.Any(type_url="type.googleapis.com/ps_protocol.v1.Error", value=b"\xff")
        call = with_details(grpc.StatusCode.UNAVAILABLE, [broken])
        assert type(status.from_rpc_error(call, task="ps:0")) is UnavailableError


def test_the_contract_and_the_tree_have_the_same_codes() -> None:
    ours = {f"ERROR_CODE_{code.name}": code.value for code in ErrorCode}
    assert dict(errors_pb2.ErrorCode.items()) == ours | {"ERROR_CODE_UNSPECIFIED": 0}
