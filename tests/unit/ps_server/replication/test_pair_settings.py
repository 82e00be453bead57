"""What both processes of a pair have to have in common, and what is said if they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ps_protocol.v1 import replication_pb2
from ps_server.replication.pair_settings import PairSettings

BACKUP = PairSettings("backup:0", "ps:0", 10.0, "journal", "team", 7, 1000, "team.rules")


def objection(**of_primary: Any) -> str:
    settings = replace(BACKUP, place="ps:0", other="backup:0", **of_primary).encode()
    return BACKUP.objection(replication_pb2.Attachment(task="ps:0", settings=settings))


def test_with_the_same_it_follows_and_a_primary_that_does_not_say_is_older() -> None:
    assert objection() == ""
    assert BACKUP.objection(replication_pb2.Attachment(task="ps:0")) == ""


@pytest.mark.parametrize(
    ("of_primary", "says"),
    [
        ({"durability": "none"}, "backup:0 has --durability journal, and ps:0 --durability none"),
        ({"lease_s": 2.5}, "backup:0 has --lease 10, and ps:0 --lease 2.5"),
        ({"cluster_name": "default"}, "backup:0 has --cluster-name team, and ps:0 --cluster-name default"),
        ({"job_seed": -3}, "backup:0 has --job-seed 7, and ps:0 --job-seed -3"),
        (
            {"lease_s": 2.5, "durability": "none"},
            "backup:0 has --durability journal, and ps:0 --durability none; backup:0 has --lease 10, and ps:0 --lease "
            "2.5",
        ),
    ],
)
def test_what_differs_is_named_with_who_has_what(of_primary: dict[str, Any], says: str) -> None:
    assert objection(**of_primary) == f"{says}: start both processes with the same"


def test_a_backup_may_have_more_memory_but_not_less() -> None:
    assert objection(memory_limit_bytes=999) == ""
    remedy = "start backup:0 with at least as much"
    assert objection(memory_limit_bytes=1001) == (
        f"backup:0 has --memory-limit 1000, and ps:0 --memory-limit 1001: {remedy}"
    )
    assert objection(memory_limit_bytes=0) == f"backup:0 has --memory-limit 1000, and ps:0 no limit: {remedy}"


def test_a_backup_may_have_functions_that_its_primary_lacks_but_not_lack_them() -> None:
    assert objection(functions="") == ""
    without = replace(BACKUP, functions="")
    settings = replace(BACKUP, place="ps:0", other="backup:0").encode()
    assert without.objection(replication_pb2.Attachment(settings=settings)) == (
        "backup:0 has no --functions, and ps:0 has team.rules: start both with the same"
    )
