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


@pytest.mark.parametrize(
    ("soft", "share"), [(10_100, 4096), (1100, 500), (120, 30), (1, 1), (resource.RLIM_INFINITY, 4096)]
)
def test_grpc_gets_at_most_half_of_what_is_not_held_back(
    monkeypatch: pytest.MonkeyPatch, soft: int, share: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert DescriptorReserve(100).share(4096) == share
