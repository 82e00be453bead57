"""Where a ps task is now: the others are asked, briefly, and what they know is put in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast
from uuid import UUID

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import UnavailableError
from ps_protocol.ps_service import ClusterService
from ps_protocol.service_types import PsAddress
from ps_protocol.task_id import TaskId
from worker_client.connection.address_lookup import AddressLookup

MISSING = TaskId("ps", 1)
SPEC = ClusterSpec({"ps": ["old:9", "old:1"]})
PAIRS = ClusterSpec({"ps": ["old:9", "old:1"], "backup": ["other:9", "other:1"]})


class Other:
    """A ps task that knows some addresses, or does not answer."""

    def __init__(self, *known: PsAddress, is_away: bool = False):
        self._known = list(known)
        self._is_away = is_away
        self.calls = 0

    def list_addresses(self, *, timeout_s: float) -> list[PsAddress]:
        assert 0 < timeout_s <= 1
        self.calls += 1
        if self._is_away:
            raise UnavailableError("away")
        return self._known


def at(address: str, *, task: str = "ps:1", epoch: int = 0) -> PsAddress:
    return PsAddress(task, address, UUID(int=1), epoch)


def found(*others: Other, known: str = "old:1", spec: ClusterSpec = SPEC) -> list[str]:
    services = cast(Sequence[ClusterService], others)
    return AddressLookup(lambda: services, spec).find(MISSING, known)


def test_the_newest_epoch_comes_first_and_each_address_once() -> None:
    others = Other(at("b:2"), at("x:9", task="ps:0")), Other(), Other(at("c:3", epoch=2), at("b:2"))
    assert found(*others) == ["c:3", "b:2"]
    assert [each.calls for each in others] == [1, 1, 1]


def test_the_address_that_is_known_is_no_answer() -> None:
    assert found(Other(at("old:1")), Other()) == []


def test_others_that_are_away_are_passed_over() -> None:
    assert found(Other(is_away=True), Other(), Other(at("b:2"))) == ["b:2"]


def test_with_one_ps_task_there_is_nobody_to_ask() -> None:
    assert AddressLookup(lambda: cast(Sequence[ClusterService], [Other()]), SPEC).find(TaskId("ps", 0), "old:1") == []


def test_of_many_only_a_few_are_asked() -> None:
    others = [Other(is_away=True) for _ in range(40)]
    assert found(*others) == []
    assert sum(each.calls for each in others) == 4 + 1


def test_each_time_others_are_asked_until_one_knows() -> None:
    others = [Other(is_away=True) for _ in range(12)]
    others[11] = Other(at("b:2"))
    lookup = AddressLookup(lambda: cast(Sequence[ClusterService], others), SPEC)
    assert [lookup.find(MISSING, "old:1") for _ in range(3)] == [[], [], ["b:2"]]
    assert sum(each.calls for each in others) == 3 * (4 + 1)


def test_of_a_replicated_task_both_places_are_tried_at_last() -> None:
    assert found(Other(is_away=True), Other(is_away=True), spec=PAIRS) == ["other:1"]
    assert found(Other(at("b:2", epoch=3)), Other(), spec=PAIRS, known="other:1") == ["b:2", "old:1"]


def test_the_process_in_its_place_may_be_the_backup_that_knows_the_primary() -> None:
    assert found(Other(is_away=True), Other(at("b:2", epoch=3)), spec=PAIRS) == ["b:2", "other:1"]
    assert found(Other(is_away=True), Other(at("b:2", epoch=3))) == ["b:2"]
