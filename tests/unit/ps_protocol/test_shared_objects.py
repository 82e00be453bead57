"""JSON objects as bytes, and back."""

from __future__ import annotations

import math
from typing import Any, Final

import pytest

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.shared_objects import Json, decode_json, encode_json

DEEP: Final = 100_000


@pytest.mark.parametrize("content", [{}, {"a": [1, 2.5, None, True], "\u00e4": {"b": "\x00\n"}}], ids=str)
def test_content_arrives_as_it_left(content: Json) -> None:
    encoded = encode_json(content)
    assert encoded.ndim == 1
    assert max(encoded) < 128
    for data in (encoded, encoded.tobytes(), encoded.data):
        assert decode_json(data, "it") == content


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"3",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1' + b"0" * 5000 + b"}",
        b'{"a": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^the event is (not JSON|no JSON object)"):
        decode_json(data, "the event")


@pytest.mark.parametrize("value", [math.inf, b"bytes", {1}], ids=str)
def test_what_json_has_not_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be written as JSON"):
        encode_json({"a": value})
