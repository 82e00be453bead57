"""Second values beside a save are bounded; updates wait for the save, and the save is given up before they fail."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from ps_server.memory.second_values import SecondValues
from tests.conftest import Eventually

SAVE, OTHER = UUID(int=1), UUID(int=2)
TIMEOUT_S = 60.0
SIZES = {f"v{index}": 10 for index in range(32)}


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def opened(limit_bytes: int | None = None) -> SecondValues:
    values = SecondValues(limit_bytes)
    values.open(SAVE, SIZES, lambda: pytest.fail("the save was given up"))
    return values


def test_a_variable_takes_room_once_and_gives_it_back_when_it_is_written() -> None:
    values = opened()
    for _ in range(3):
        values.take({"v0"}, 0.0)
    assert values.taken_bytes == 10
    values.take({"v1", "small"}, 0.0)
    assert values.taken_bytes == 20  # a sixteenth of all
    values.wrote(OTHER, "v0")
    assert values.taken_bytes == 20
    values.wrote(SAVE, "v0")
    assert values.taken_bytes == 10
    values.take({"v0"}, 0.0)  # is updated in its place now
    assert values.taken_bytes == 10
    values.wrote(SAVE, "v9")
    assert values.taken_bytes == 10
    values.close(OTHER)
    assert values.is_open
    values.close(SAVE)
    assert not values.is_open
    assert values.taken_bytes == 0


def test_an_update_beyond_the_limit_waits_until_enough_is_written(
    pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    values = opened(25)
    assert values.wanted() is None
    values.take({"v3", "v4"}, 0.0)
    assert values.wanted() in {"v3", "v4"}
    waiting = pool.submit(values.take, {"v5"}, TIMEOUT_S)
    eventually(lambda: values.wanted() == "v5", timeout_s=TIMEOUT_S, message="the update waits")
    values.wrote(SAVE, "v6")  # that helps nobody
    assert not waiting.done()
    values.wrote(SAVE, "v3")
    waiting.result(TIMEOUT_S)
    assert values.taken_bytes == 20
    waiting = pool.submit(values.take, {"v7"}, TIMEOUT_S)
    eventually(lambda: values.wanted() == "v7", timeout_s=TIMEOUT_S, message="the update waits")
    values.wrote(SAVE, "v7")
    waiting.result(TIMEOUT_S)
    assert values.taken_bytes == 20


def test_one_value_always_has_room_and_many_of_one_batch_wait_for_each_other(
    pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    values = opened(0)
    waiting = pool.submit(values.take, {"v0", "v1", "v2"}, TIMEOUT_S)
    eventually(lambda: values.wanted() in {"v0", "v1", "v2"}, timeout_s=TIMEOUT_S, message="the batch waits")
    values.wrote(SAVE, "v1")
    assert not waiting.done()
    values.wrote(SAVE, "v2")
    waiting.result(TIMEOUT_S)
    assert values.taken_bytes == 10


def test_the_save_is_given_up_before_an_update_fails() -> None:
    given_up: list[bool] = []
    values = SecondValues(0)
    values.open(SAVE, SIZES, lambda: given_up.append(True))
    values.take({"v0", "v1"}, 0.0)
    assert given_up == [True]
    assert not values.is_open
    values.take(set(SIZES), 0.0)
    assert values.taken_bytes == 0


def test_all_may_go_on_when_the_save_ends(pool: ThreadPoolExecutor, eventually: Eventually) -> None:
    values = opened(0)
    waiting = pool.submit(values.take, set(SIZES), TIMEOUT_S)
    eventually(lambda: values.wanted() is not None, timeout_s=TIMEOUT_S, message="the batch waits")
    values.close(SAVE)
    waiting.result(TIMEOUT_S)


def test_a_batch_of_many_variables_is_not_looked_at_after_each_value_that_is_written(
    pool: ThreadPoolExecutor, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"v{index}" for index in range(500)]
    values, looks = SecondValues(100), list[int]()
    values.open(SAVE, dict.fromkeys(names, 10), lambda: pytest.fail("the save was given up"))
    missing_bytes = values._missing_bytes

    def counted(wanted: Collection[str]) -> int:
        looks.append(len(wanted))
        return missing_bytes(wanted)

    monkeypatch.setattr(values, "_missing_bytes", counted)
    waiting = pool.submit(values.take, names, TIMEOUT_S)
    eventually(lambda: values.wanted() is not None, timeout_s=TIMEOUT_S, message="the batch waits")
    for name in names[:489]:
        values.wrote(SAVE, name)
    assert not waiting.done()
    values.wrote(SAVE, names[489])
    waiting.result(TIMEOUT_S)
    assert values.taken_bytes == 100
    assert len(looks) < 10
