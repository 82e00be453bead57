"""Versions as a reader names them: numbers that know which store counted them."""

from __future__ import annotations

import copy
import pickle
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from ps_protocol.errors import InvalidArgumentError
from worker_client.values.versions import Version, unless_version

STORE, ANOTHER = uuid4(), uuid4()


def test_a_version_is_a_number_of_one_store() -> None:
    version = Version(5, STORE)
    assert version == 5
    assert (version.store, repr(version)) == (STORE, "5")
    for same in (copy.copy(version), pickle.loads(pickle.dumps(version))):
        assert (same, same.store) == (5, STORE)


def test_a_version_of_another_store_is_not_named() -> None:
    assert unless_version(Version(5, STORE), STORE, "v") == 5
    assert unless_version(Version(5, STORE), ANOTHER, "v") is None
    assert unless_version(None, STORE, "v") is None


def test_plain_numbers_will_do() -> None:
    named = unless_version(np.int64(5), STORE, "v")
    assert type(named) is int
    assert type(unless_version(Version(5, STORE), STORE, "v")) is int


@pytest.mark.parametrize("version", [-1, 2**64, 1.5, "1", (1,)])
def test_what_is_no_version_is_refused(version: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"scope/v has no version .*None to read always"):
        unless_version(version, STORE, "scope/v")
