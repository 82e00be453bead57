"""Errors as messages of the contract, and back."""

from __future__ import annotations

import math

from ps_protocol.errors import ShardscopeError, error_for
from ps_protocol.v1 import errors_pb2


def encode_error(error: ShardscopeError) -> errors_pb2.Error:
    """Returns an error as a message; works for every error, even one with unprintable text."""
    return errors_pb2.Error(
        code=errors_pb2.ErrorCode.ValueType(error.code),
        message=_utf8(error.message),
        variable=_utf8(error.variable),
        task=_utf8(error.task),
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
    )


def decode_error(message: errors_pb2.Error) -> ShardscopeError:
    """Returns (does not raise) the error that a message stands for; never fails.

    A code that this version does not know becomes an ``UnknownError``. A pause that makes no sense becomes 0.
    """
    pause_s = message.retry_after_s
    return error_for(
        message.code,
        message.message,
        variable=message.variable,
        task=message.task,
        retryable=message.retryable,
        retry_after_s=pause_s if math.isfinite(pause_s) and pause_s > 0 else 0.0,
    )


def parse_error(header: bytes) -> ShardscopeError:
    """Returns the error that the bytes of a message hold; DecodeError if they are no message."""
    return decode_error(errors_pb2.Error.FromString(header))


def _utf8(text: str) -> str:
    # The text of an operating system's error may hold surrogates, which protobuf refuses.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
