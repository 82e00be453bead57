from __future__ import annotations

import pytest

from ps_protocol.errors import ResourceExhaustedError
from ps_server.memory.byte_budget import ByteBudget
from ps_server.memory.staging import StagingRoom


def test_what_is_taken_is_given_back_in_the_end() -> None:
    budget = ByteBudget(100)
    with StagingRoom(budget) as room:
        room.take(30, "tensors")
        room.take(50, "tensors")
        room.give_back(30)
        assert budget.used_bytes == 50
    assert budget.used_bytes == 0


def test_it_is_given_back_after_an_error() -> None:
    budget = ByteBudget(100)

    def fail_in_the_room() -> None:
        with StagingRoom(budget) as room:
            room.take(30, "tensors")
            room.take(200, "tensors")

    with pytest.raises(ResourceExhaustedError):
        fail_in_the_room()
    assert budget.used_bytes == 0


def test_too_much_for_now_can_be_tried_again() -> None:
    budget = ByteBudget(100)
    with StagingRoom(budget) as other, StagingRoom(budget) as room:
        other.take(80, "tensors")
        with pytest.raises(ResourceExhaustedError, match=r"tensors need 30 bytes.*80 bytes are taken") as refused:
            room.take(30, "tensors")
        assert refused.value.retryable
        assert refused.value.retry_after_s > 0
        assert budget.used_bytes == 80


def test_too_much_for_ever_cannot() -> None:
    with StagingRoom(ByteBudget(100)) as room:
        room.take(80, "request tensors")
        with pytest.raises(ResourceExhaustedError, match="--staging-limit") as refused:
            room.take(30, "reply tensors")
        assert not refused.value.retryable


def test_without_limit_everything_fits() -> None:
    budget = ByteBudget()
    with StagingRoom(budget) as room:
        room.take(2**60, "tensors")
        assert budget.used_bytes == 2**60
