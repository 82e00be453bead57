"""Descriptors that no client gets."""

from __future__ import annotations

import resource

import pytest

from ps_server.transport.descriptors import DescriptorReserve


@pytest.mark.parametrize(
    ("soft", "descriptor", "is_held"),
    [(1000, 899, False), (1000, 900, True), (120, 59, False), (120, 60, True), (resource.RLIM_INFINITY, 10**6, False)],
)
def test_the_number_of_a_descriptor_says_whether_it_is_of_the_reserve(
    monkeypatch: pytest.MonkeyPatch, soft: int, descriptor: int, is_held: bool
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert DescriptorReserve(100).holds(descriptor) is is_held
