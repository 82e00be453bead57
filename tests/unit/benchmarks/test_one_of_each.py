"""What is measured exists, and can be done without."""

from __future__ import annotations

from unittest import mock

import pytest

from benchmarks.harness.contestants import TRANSPORTS
from benchmarks.one_of_each import PARTS


@pytest.mark.parametrize("name", PARTS)
def test_each_part_can_be_done_without(name: str) -> None:
    part = PARTS[name]
    assert part.transport in (*TRANSPORTS, "core")
    assert part.without or part.transport_without in TRANSPORTS
    for target, value in part.without.items():
        with mock.patch(target, value):  # fails if there is no such name
            pass
