from __future__ import annotations

import logging
from typing import cast

import grpc
import pytest

from ps_protocol.errors import InternalError, NotFoundError, ResourceExhaustedError, ShardscopeError
from ps_server.transport.grpc.boundary import WITHOUT_DEADLINE_S, errors_as_status, timeout_s, unary


class Aborted(Exception):  # noqa: N818 - what abort raises is no error of ours
    def __init__(self, error: ShardscopeError):
        super().__init__(error)
        self.error = error


class Context:
    def __init__(self, remaining_s: float | None = 5.0):
        self.remaining_s = remaining_s

    def time_remaining(self) -> float | None:
        return self.remaining_s


def context(remaining_s: float | None = 5.0) -> grpc.ServicerContext:
    return cast(grpc.ServicerContext, Context(remaining_s))


@pytest.fixture(autouse=True)
def _aborting(monkeypatch: pytest.MonkeyPatch) -> None:
    def abort(_context: object, error: ShardscopeError) -> None:
        raise Aborted(error)

    monkeypatch.setattr("ps_protocol.grpc_edge.status.abort", abort)


def aborted_by(raised: BaseException) -> ShardscopeError:
    with pytest.raises(Aborted) as aborted, errors_as_status(context(), "ps:1"):
        raise raised
    return aborted.value.error


def test_the_deadline_of_the_call_is_its_timeout() -> None:
    assert timeout_s(context(2.5)) == 2.5
    assert timeout_s(context(None)) == WITHOUT_DEADLINE_S
    assert timeout_s(context(9.2e18)) == WITHOUT_DEADLINE_S  # which is what gRPC gives


def test_a_call_is_given_request_and_timeout() -> None:
    class Servicer:
        task = "ps:1"

        @unary
        def Call(self, request: str, seconds: float) -> tuple[str, float]:
            return request, seconds

    assert Servicer().Call("request", context(3.0)) == ("request", 3.0)


def test_our_errors_travel_with_the_task() -> None:
    error = NotFoundError("no such variable", variable="w")
    assert aborted_by(error) is error
    assert error.task == "ps:1"
    assert aborted_by(NotFoundError("elsewhere", task="ps:0")).task == "ps:0"


def test_a_defect_is_logged_under_a_number_that_the_client_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        error = aborted_by(ZeroDivisionError("a secret of the ps"))
    assert isinstance(error, InternalError)
    assert "secret" not in error.message
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.message.split()[1].rstrip(":") in error.message


def test_lack_of_memory_may_pass() -> None:
    error = aborted_by(MemoryError())
    assert isinstance(error, ResourceExhaustedError)
    assert (error.task, error.retryable) == ("ps:1", True)


@pytest.mark.parametrize("raised", [grpc.RpcError(), KeyboardInterrupt(), GeneratorExit()])
def test_what_is_not_for_the_client_passes(raised: BaseException) -> None:
    with pytest.raises(type(raised)) as passed, errors_as_status(context(), "ps:1"):
        raise raised
    assert passed.value is raised
