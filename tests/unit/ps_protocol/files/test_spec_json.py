"""The bytes of manifests stay what they are: those of before must be read, and compared by their checksums."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest

from ps_protocol.files.spec_json import decode_checked, encode_checked


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"a": [], "b": {}, "c": [{}], "d": None},
        {"text\n with lines": ['\n  "x": \n', "é\u2028\r\n"], "nested": [1, [2.5, {"deep": [True, {"er": "\n"}]}]]},
    ],
)
def test_it_is_json_of_the_content_and_its_checksum(content: dict[str, Any]) -> None:
    crc = zlib.crc32(json.dumps(content, indent=1).encode())
    document = (json.dumps({"crc32": crc, "content": content}, indent=1) + "\n").encode()
    assert encode_checked(content) == document
    assert decode_checked(document).content == content
