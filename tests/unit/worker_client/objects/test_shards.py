"""Data shards as workers see them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import (
    AbortedError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
)
from tests.conftest import Eventually
from tests.interrupted_places import CLIENT, interrupted_at
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from worker_client.objects.departures import Unheard
from worker_client.objects.shards import _Watch

TIMEOUT_S = 60.0
AT_ONCE_S = 0.02


@pytest.fixture
def client(cluster: SmallCluster) -> Iterator[ss.Client]:
    client = cluster.client()
    with client.as_default():
        yield client


def counts(task: int = 0, name: str = "counts", size: int = 4) -> Any:
    with ss.device(f"/job:ps/task:{task}"):
        return ss.get_variable(name, [size], np.int64, initializer=ss.zeros_initializer())


def numbers(*values: int) -> Any:
    return np.array(values, np.int64)


def of(client: ss.Client, function: Callable[..., Any], *given: Any) -> Any:
    with client.as_default():
        return function(*given)


def first_of(client: ss.Client, *given: Any, **settings: Any) -> ss.data.Shard:
    with client.as_default():
        return next(iter(ss.data.Shards(*given, **settings)))


# -- epochs ---------------------------------------------------------------------------------------


def test_each_shard_comes_once_an_epoch_in_an_order_of_its_own(client: ss.Client) -> None:
    shards = ss.data.Shards("train", ["a", "b", "c", "d", "e"], 3, shuffle_seed=5)
    seen: list[list[str]] = [[], [], []]
    for shard in shards:
        assert shard.item == "abcde"[shard.index]
        assert shard.resume_at == 0
        seen[shard.epoch].append(shard.item)
        shard.hand_in()
        assert shard.is_complete
    assert [sorted(each) for each in seen] == [list("abcde")] * 3
    assert seen[0] != seen[1] != seen[2]
    progress = shards.progress()
    assert (progress.epoch, progress.is_complete, progress.handed_in) == (3, True, {"worker:0": 15})
    assert list(shards) == []


def test_without_a_seed_the_order_is_that_of_the_list(client: ss.Client) -> None:
    indices = []
    for shard in ss.data.Shards("train", 4, 2):
        indices.append(shard.item)
        shard.hand_in()
    assert indices == [0, 1, 2, 3] * 2


def test_all_workers_end_together(
    cluster: SmallCluster, client: ss.Client, pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    counts()
    mine = first_of(client, "train", 2)
    other = cluster.client(1)
    theirs = first_of(other, "train", 2)

    def rest() -> int:
        with other.as_default():
            return len(list(ss.data.Shards("train", 2)))

    ending: Future[int] = pool.submit(rest)
    theirs.hand_in()
    eventually(lambda: sum([task.num_waiting for task in cluster.tasks]) == 1)
    assert not ending.done()
    mine.hand_in()
    assert ending.result(TIMEOUT_S) == 0


def test_what_a_worker_that_has_left_had_goes_to_another_behind_what_was_applied(
    cluster: SmallCluster, client: ss.Client
) -> None:
    here, there = counts(0, "here"), counts(1, "there")
    leaving = cluster.client(1)
    shard = first_of(leaving, "train", 1)
    pairs = [(leaving.variable("here"), numbers(1, 1, 0, 0)), (leaving.variable("there"), numbers(1, 1, 0, 0))]
    leaving.assign_add_all(pairs, completes=shard.up_to(2))
    leaving.close()
    for again in ss.data.Shards("train", 1):
        assert (again.index, again.resume_at) == (0, 2)
        client.assign_add_all({here: numbers(0, 0, 1, 1), there: numbers(0, 0, 1, 1)}, completes=again)
    assert here.numpy().tolist() == there.numpy().tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("number", [1, 2])
def test_an_update_that_came_to_one_ps_task_only_is_completed_by_the_next_worker(
    cluster: SmallCluster, client: ss.Client, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The worker dies between the two exchanges of the update, or before both."""
    here, there = counts(0, "here"), counts(1, "there")
    leaving = cluster.client(1)
    shard = first_of(leaving, "train", 1)
    pairs = [(leaving.variable("here"), numbers(1, 1, 1, 1)), (leaving.variable("there"), numbers(1, 1, 1, 1))]
    die_at(monkeypatch, leaving, number)
    with pytest.raises(DeadError):
        leaving.assign_add_all(pairs, completes=shard)
    assert (here.numpy().tolist()[0], there.numpy().tolist()[0]) == (0, number - 1)
    leaving.close()
    for again in ss.data.Shards("train", 1):
        assert again.resume_at == 0
        client.assign_add_all({here: numbers(1, 1, 1, 1), there: numbers(1, 1, 1, 1)}, completes=again)
    assert here.numpy().tolist() == there.numpy().tolist() == [1, 1, 1, 1]


class DeadError(Exception):
    """The end of a worker."""


def die_at(monkeypatch: pytest.MonkeyPatch, client: ss.Client, number: int) -> None:
    """Has a worker die in place of an exchange, by its number."""
    exchange, calls = client.fanout.exchange_all, iter(range(1, number + 1))

    def dying(*given: Any) -> Any:
        if next(calls) == number:
            raise DeadError
        return exchange(*given)

    monkeypatch.setattr(client.fanout, "exchange_all", dying)


def test_who_was_silent_and_wakes_has_lost_its_shard(cluster: SmallCluster, client: ss.Client) -> None:
    counted = counts(1)
    silent = cluster.client(1)
    lost = first_of(silent, "train", 2)
    shards: Any = ss.data.Shards("train", 2)
    shards._taking.shared.act({"do": "gone", "gone": [silent_id(client, "worker:1")]})
    for shard in shards:
        counted.assign_add(1, completes=shard)
    with pytest.raises(AbortedError, match=r"worker:1 updates shard 0 of epoch 0, .* has lost"):
        silent.variable("counts").assign_add(1, completes=lost)
    assert counted.numpy().tolist() == [2, 2, 2, 2]
    assert of(silent, lambda: list(ss.data.Shards("train", 2))) == []  # it goes on without it


def test_a_worker_that_a_ps_has_not_heard_of_has_its_lease_to_tell_it(
    cluster: SmallCluster, client: ss.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_of(cluster.client(1), "train", 2)
    shards: Any = ss.data.Shards("train", 2)
    taking, watch = shards._taking, _Watch(shards)
    times = iter([0.0, 11.5, 13.5, 15.5, 17.5, 19.5, 21.0, 22.0])  # it was started once more, before the second one
    monkeypatch.setattr(taking, "unheard", Unheard(lambda: next(times)))
    monkeypatch.setattr(taking, "list_members", list)  # it has heard of nobody yet
    for _ in range(7):
        watch.look()
        assert [each.worker for each in shards.progress().held] == ["worker:1"]
    watch.look()
    assert shards.progress().returned == (0,)


def silent_id(client: ss.Client, task: str) -> str:
    members: Any = client._list_members()
    return next(str(each.incarnation) for each in members if each.task == task)


def test_an_answer_that_was_lost_is_asked_for_again(
    cluster: SmallCluster, client: ss.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program tries an update again of which it does not know whether it was applied."""
    here, there = counts(0, "here"), counts(1, "there")
    shard = next(iter(ss.data.Shards("train", 1)))
    both = {here: numbers(1, 1, 1, 1), there: numbers(1, 1, 1, 1)}
    with monkeypatch.context() as patch:
        die_at(patch, client, 2)
        with pytest.raises(DeadError):
            client.assign_add_all(both, completes=shard)
    client.assign_add_all(both, completes=shard)
    assert here.numpy().tolist() == there.numpy().tolist() == [1, 1, 1, 1]
    assert shard.is_complete


def test_an_interrupt_anywhere_loses_and_doubles_nothing(client: ss.Client) -> None:
    here, there = counts(0, "here"), counts(1, "there")

    def count(shards: ss.data.Shards) -> None:
        for shard in shards:
            for sample in range(shard.resume_at, 2):
                delta = np.zeros(4, np.int64)
                delta[2 * shard.index + sample] = 1
                piece = shard if sample else shard.up_to(1)
                client.assign_add_all({here: delta, there: delta}, completes=piece)

    number, rounds, was_interrupted = 1, 0, True
    while was_interrupted:
        shards = ss.data.Shards(f"train-{number}", 2)
        was_interrupted = interrupted_at(number, partial(count, shards), CLIENT)
        count(shards)
        rounds, number = rounds + 1, number + 1 + number // 9
    assert rounds > 20
    assert here.numpy().tolist() == there.numpy().tolist() == [rounds] * 4


# -- ways to update -------------------------------------------------------------------------------


def test_all_updates_take_completes(client: ss.Client) -> None:
    whole = ss.get_variable("whole", [4], np.float32, initializer=ss.zeros_initializer())
    parts = ss.get_variable(
        "parts", [4, 2], np.float32, initializer=ss.zeros_initializer(), partitioner=ss.fixed_size_partitioner(2)
    )
    step = ss.get_variable("step", [], np.int64, initializer=ss.zeros_initializer())
    assert isinstance(step, ss.Variable)
    sgd, mirror = ss.train.GradientDescent(1.0), client.mirror([whole, parts])
    ones = np.ones((4, 2), np.float32)
    updates: list[Callable[[Any], Any]] = [
        lambda shard: whole.assign_add(np.ones(4), completes=shard),
        lambda shard: whole.assign_add(1, wire_dtype="bfloat16", completes=shard),
        lambda shard: whole.assign_add(np.ones(4), wire_dtype="bfloat16", completes=shard),
        lambda shard: whole.scatter_add([0, 1, 2, 3], np.ones(4), completes=shard),
        lambda shard: whole.scatter_nd_add([[0], [1], [2], [3]], np.ones(4), completes=shard),
        lambda shard: parts.assign_add(ones, completes=shard),
        lambda shard: parts.scatter_add([0, 1, 2, 3], ones, completes=shard),
        lambda shard: parts.scatter_nd_add([[0], [1], [2], [3]], ones, completes=shard),
        lambda shard: client.assign_add_all({whole: np.ones(4), parts: ones}, completes=shard),
        lambda shard: ss.assign_add_all({whole: np.ones(4), parts: ones}, completes=shard),
        lambda shard: sgd.apply_gradients(
            [(-np.ones(4, np.float32), whole), (-ones, parts)], global_step=step, pull=mirror, completes=shard
        ),
    ]
    for shard in ss.data.Shards("train", len(updates)):
        updates[shard.index](shard)
        assert shard.is_complete
    assert whole.numpy().tolist() == [8.0] * 4
    assert parts.numpy().tolist() == [[6.0, 6.0]] * 4
    assert step.numpy() == 1
    assert mirror.values[0].tolist() == [8.0] * 4
    assert mirror.values[1].tolist() == [[6.0, 6.0]] * 4


def test_the_verdict_of_a_step_that_was_made_before_is_that_of_any(
    client: ss.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ss.device("/job:ps/task:1"):
        there = ss.get_variable("there", [2], np.float32, initializer=ss.zeros_initializer())
    with ss.device("/job:ps/task:0"):
        here = ss.get_variable("here", [2], np.float32, initializer=ss.zeros_initializer())
    sgd, ones = ss.train.GradientDescent(1.0), np.ones(2, np.float32)
    shard = next(iter(ss.data.Shards("train", 1)))
    sgd.apply_gradients([(ones, there), (ones, here)], completes=shard.up_to(1))
    with monkeypatch.context() as patch:
        die_at(patch, client, 2)
        with pytest.raises(DeadError):
            sgd.apply_gradients([(ones, there), (ones, here)], completes=shard)
    applied = sgd.apply_gradients([(ones, there), (ones, here)], completes=shard)
    assert [each.verdict for each in applied] == ["applied", "applied"]
    assert [each.version for each in applied] == [there.version, here.version]
    assert there.numpy().tolist() == here.numpy().tolist() == [-2.0, -2.0]


# -- what is refused ------------------------------------------------------------------------------


def test_a_shard_handed_in_twice_is_refused(client: ss.Client) -> None:
    counted = counts(1)
    shards = ss.data.Shards("train", 2)
    shard = next(iter(shards))
    counted.assign_add(1, completes=shard)
    with pytest.raises(FailedPreconditionError, match=r"worker:0 updates shard 0 of epoch 0 of train, .* handed in"):
        counted.assign_add(1, completes=shard)
    with pytest.raises(InvalidArgumentError, match="is complete"):
        shard.up_to(5)
    assert counted.numpy().tolist() == [1, 1, 1, 1]
    assert shards.progress().done == 1


def test_a_shard_that_was_not_handed_in_is_missed(client: ss.Client) -> None:
    shards = ss.data.Shards("train", 2)
    with pytest.raises(FailedPreconditionError, match="shard 0 of epoch 0 of 'train'> has not been handed in"):
        for _ in shards:
            pass
    again = next(iter(shards))  # whoever begins anew is given it again
    assert again.index == 0
    again.give_back()
    assert next(iter(shards)).index == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shards": 3}, "worker:0 has made it with count=2, but worker:1 gives count=3"),
        ({"epochs": 5}, "worker:0 has made it with epochs=1, but worker:1 gives epochs=5"),
        ({"shuffle_seed": 4}, "with shuffle_seed=null, but worker:1 gives shuffle_seed=4"),
        ({"shards": ["a", "c"]}, r"items=null, but worker:1 gives items=\"'a' to 'c' \("),
    ],
)
def test_other_arguments_than_those_of_the_others_are_refused(
    cluster: SmallCluster, client: ss.Client, given: Any, message: str
) -> None:
    ss.data.Shards("train", 2)
    with pytest.raises(InvalidArgumentError, match=message):
        of(cluster.client(1), lambda: ss.data.Shards("train", **{"shards": 2, **given}))
    assert ss.data.Shards("train", 2).progress().count == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shards": 0}, "number of shards is 0"),
        ({"shards": []}, "number of shards is 0"),
        ({"shards": "file"}, "a list of what they are, not 'file'"),
        ({"shards": 1.5}, "a list of what they are, not 1.5"),
        ({"shards": [object()]}, "is a object, of which other workers cannot be told"),
        ({"epochs": 0}, "number of epochs is 0"),
        ({"shuffle_seed": -1}, "shuffle_seed is -1"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"name": ""}, "the name of shards is ''"),
    ],
)
def test_impossible_arguments_are_refused(client: ss.Client, given: Any, message: str) -> None:
    with pytest.raises((InvalidArgumentError, ValueError), match=message):
        ss.data.Shards(**{"name": "train", "shards": 2, **given})


def test_items_may_be_paths_and_tuples(client: ss.Client) -> None:
    items = [(Path("a"), 3), (Path("b"), 4.5)]
    assert next(iter(ss.data.Shards("train", items))).item == (Path("a"), 3)


def test_what_cannot_complete_a_shard_is_refused(cluster: SmallCluster, client: ss.Client) -> None:
    counted, shard = counts(), next(iter(ss.data.Shards("train", 1)))
    with pytest.raises(InvalidArgumentError, match=r"completes= takes a shard of ss\.data\.Shards"):
        counted.assign_add(1, completes=3)
    with pytest.raises(InvalidArgumentError, match="without wait=False"):
        counted.assign_add(1, wait=False, completes=shard)
    with pytest.raises(InvalidArgumentError, match="without wait=False"):
        ss.assign_add_all({counted: 1}, wait=False, completes=shard)  # type: ignore[call-overload]
    with pytest.raises(InvalidArgumentError, match="another connection"):
        cluster.client(1).variable("counts").assign_add(1, completes=shard)
    own = ss.get_local_variable("own", [4], np.int64, initializer=ss.zeros_initializer())
    assert isinstance(own, ss.Variable)
    with pytest.raises(InvalidArgumentError, match="is this worker's own"):
        own.assign_add(1, completes=shard)
    with pytest.raises(InvalidArgumentError, match="a piece goes up to a whole number above 0, not to 'x'"):
        shard.up_to("x")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="has come to 0; a piece cannot go up to 0"):
        shard.up_to(0)
    assert counted.numpy().tolist() == [0, 0, 0, 0]
    assert not shard.is_complete


def test_a_gradient_that_is_not_finite_changes_nothing_on_any_ps_task(client: ss.Client) -> None:
    with ss.device("/job:ps/task:1"):
        there = ss.get_variable("there", [2], np.float32, initializer=ss.zeros_initializer())
    with ss.device("/job:ps/task:0"):
        here = ss.get_variable("here", [2], np.float32, initializer=ss.zeros_initializer())
    sgd, shard = ss.train.GradientDescent(1.0), next(iter(ss.data.Shards("train", 1)))
    ones = np.ones(2, np.float32)
    with pytest.raises(InvalidArgumentError, match="gradient of variable here is not finite; nothing was changed"):
        sgd.apply_gradients([(ones, there), (ones * np.nan, here)], completes=shard)
    assert there.numpy().tolist() == here.numpy().tolist() == [0, 0]
    assert not shard.is_complete


def test_an_observer_takes_no_shards(cluster: SmallCluster, client: ss.Client) -> None:
    ss.data.Shards("train", 2)
    with pytest.raises(PermissionDeniedError, match="an observer"):
        of(cluster.client(observer=True), lambda: ss.data.Shards("train", 2))


# -- waiting --------------------------------------------------------------------------------------


def test_a_wait_ends_with_who_has_the_last_shards_and_since_when(
    cluster: SmallCluster, client: ss.Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker_client.objects.shards._FIRST_REPORT_S", 0.0)
    first_of(cluster.client(1), "train", 2)
    shards = ss.data.Shards("train", 2, timeout_s=AT_ONCE_S)
    shard = next(iter(shards))
    shard.hand_in()
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(
            DeadlineExceededError,
            match=r"worker:0 has waited .* epoch 0, 1 of 2 handed in; worker:1 has shard 0 since "
            r"\d{4}-\d\d-\d\d .* UTC \(last seen",
        ),
    ):
        next(iter(shards))
    assert shards.progress().held[0].worker == "worker:1"


def test_a_new_connection_of_the_worker_goes_on_with_what_the_closed_one_had(cluster: SmallCluster) -> None:
    first = cluster.client(0)
    shard = first_of(first, "train", 1)
    of(first, counts)
    first.variable("counts").assign_add(1, completes=shard.up_to(3))
    first.close()
    again = first_of(cluster.client(0), "train", 1)
    assert (again.index, again.resume_at) == (0, 3)
