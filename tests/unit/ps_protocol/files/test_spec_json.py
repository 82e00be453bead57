"""The bytes of manifests stay what they are: those of before must be read, and compared by their checksums."""

from __future__ import annotations

import dataclasses
import json
import zlib
from typing import Any

import numpy as np
import pytest

from ps_protocol.files.json_fields import Fields
from ps_protocol.files.spec_json import decode_checked, decode_spec, encode_checked, encode_spec
from ps_protocol.operations import VariableSpec
from ps_protocol.shared_objects import OBJECT_DTYPE


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


def test_only_a_shared_object_says_what_it_is() -> None:
    declared = VariableSpec("meeting", OBJECT_DTYPE, (), object_kind="barrier")
    spec = dataclasses.replace(declared, dtype=np.dtype("S40"))
    assert decode_spec(Fields(encode_spec(spec, declared))) == (spec, declared)
    assert "object_kind" not in encode_spec(dataclasses.replace(spec, object_kind=""))
