"""Data shards whose pieces are completed by gradients of rounds, as workers see them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import AbortedError, FailedPreconditionError, InvalidArgumentError
from ps_protocol.training import round_messages
from ps_protocol.training.round_messages import GivenUp, Silent
from tests.conftest import Eventually
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from tests.unit.worker_client.objects.test_shards import DeadError, silent_id
from worker_client.objects import group_watch
from worker_client.objects.shard_rounds import PendingPieces
from worker_client.objects.shared_object import ObjectConnection
from worker_client.objects.training_group import TAKING_PART, TrainingGroup

TIMEOUT_S = 60.0
SAMPLES = 12


class Counting:
    """A worker that counts samples: the gradient of one is -1, and no two of a round have the same.

    Args:
        client: Its connection.
        sync: How the workers train.
        count: How many shards there are.
        epochs: How many epochs there are.
    """

    def __init__(self, client: ss.Client, sync: str, count: int = 3, epochs: int = 1, **more: Any):
        self.client, self.count, self.verdicts = client, count, Counter[str]()
        with client.as_default():
            self.counted: Any = ss.get_variable(
                "samples", [SAMPLES], initializer=ss.zeros_initializer(), partitioner=ss.fixed_size_partitioner(2)
            )
            self.shards = ss.data.Shards("train", count, epochs, shuffle_seed=5, timeout_s=TIMEOUT_S)
        self.sgd = ss.train.GradientDescent(1.0, name="sgd", sync=sync, **more)
        self.mirror = client.mirror([self.counted])

    def take(self) -> ss.data.Shard:
        shard = self.shards.next_shard()
        assert shard is not None
        return shard

    def rows(self, shard: ss.data.Shard) -> Any:
        return np.arange(shard.index, SAMPLES, self.count)

    def hand_in(self, rows: Any, piece: Any, **more: Any) -> ss.train.Applied:
        """Of one gradient."""
        gradient = ss.IndexedSlices(np.full(len(rows), -1, np.float32), rows)
        applied: Any = self.sgd.apply_gradients(
            [(gradient, self.counted)], completes=piece, **{"pull": self.mirror, **more}
        )[0]
        self.verdicts[applied.verdict] += 1
        return applied  # type: ignore[no-any-return]

    def count_shard(self, shard: ss.data.Shard, batch: int = 2) -> None:
        own = self.rows(shard)
        for begin in range(shard.resume_at, len(own), batch):
            piece = shard if begin + batch >= len(own) else shard.up_to(begin + batch)
            while not self.hand_in(own[begin : begin + batch], piece).counts:
                pass

    def work(self) -> None:
        for shard in self.shards:
            try:
                self.count_shard(shard)
            except AbortedError:
                continue
        self.sgd.finish()

    def values(self) -> list[float]:
        return [float(each) for each in np.asarray(self.counted.read_value())]


def alone(*workers: Counting) -> list[float]:
    """Has workers count what is left, each in a thread of its own; returns the histogram."""
    with ThreadPoolExecutor(len(workers)) as pool:
        for each in [pool.submit(worker.work) for worker in workers]:
            each.result(TIMEOUT_S)
    return workers[0].values()


@pytest.fixture
def of(cluster: SmallCluster) -> Callable[..., Counting]:
    return lambda index, sync, **more: Counting(cluster.client(index), sync, **more)


@pytest.mark.parametrize(
    "sync",
    [
        "bsp(rows=present)",
        "bsp(total=3, rows=present)",
        "ssp(2, rows=present)",
        "sync(2, total=3, rows=present)",
        "async",
        "async(max_staleness=1)",
    ],
)
def test_each_sample_counts_once_an_epoch(of: Callable[..., Counting], sync: str) -> None:
    workers = [of(index, sync, count=5, epochs=3) for index in range(3)]
    assert alone(*workers) == [3.0] * SAMPLES
    progress = workers[0].shards.progress()
    assert progress.is_complete
    assert sum(progress.handed_in.values()) == 15


def test_steps_alone_end_with_the_piece_that_they_complete(of: Callable[..., Counting]) -> None:
    worker = of(0, "local(8, outer_learning_rate=1, outer_momentum=0)")
    shard = worker.take()
    own = worker.rows(shard)
    assert worker.hand_in(own[:1], None).verdict == "pending"
    assert worker.hand_in(own[1:2], shard.up_to(2)).verdict == "applied"
    assert worker.shards.progress().held[0].position == 2
    assert sum(worker.values()) == 2.0
    assert worker.hand_in(own[2:], shard).verdict == "applied"
    assert alone(worker) == [1.0] * SAMPLES


def test_a_piece_counts_whoever_decides_its_round(of: Callable[..., Counting], eventually: Eventually) -> None:
    """Who completes nothing has ps 0 carry out what it decides in that batch, which names no shards."""
    completing, other = [of(index, "bsp(total=2, rows=present)", count=1) for index in range(2)]
    nothing = np.arange(0)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(completing.hand_in, nothing, None)  # after that each knows the other's seat
        other.hand_in(nothing, None)
        first.result(TIMEOUT_S)
        shard = completing.take()
        handed_in = pool.submit(completing.hand_in, completing.rows(shard), shard)
        eventually(lambda: [each.waits for each in other.sgd.training_report().workers] == [True, False])
        assert other.hand_in(nothing, None).verdict == "applied"
        assert handed_in.result(TIMEOUT_S).counts
    assert completing.shards.progress().is_complete
    assert other.values() == [1.0] * SAMPLES


def test_a_gradient_that_comes_late_leaves_the_shard_as_it_was(of: Callable[..., Counting]) -> None:
    first, late = of(0, "sync(1, total=2, rows=present)"), of(1, "sync(1, total=2, rows=present)")
    for each in (first, late):
        each.sgd.join([each.counted])
    shards = first.take(), late.take()
    assert first.hand_in(first.rows(shards[0]), shards[0]).verdict == "applied"
    assert not late.hand_in(late.rows(shards[1]), shards[1]).counts
    assert late.verdicts == {"late": 1}
    progress = late.shards.progress()
    assert (progress.done, progress.held[0].position, shards[1].is_complete) == (1, 0, False)
    assert sum(late.values()) == len(first.rows(shards[0]))
    assert late.hand_in(late.rows(shards[1]), shards[1]).verdict == "applied"
    assert alone(first, late) == [1.0] * SAMPLES


def test_who_waits_for_data_is_not_waited_for(of: Callable[..., Counting]) -> None:
    workers = [of(index, "bsp(total=2, rows=present)", count=2, epochs=2) for index in range(2)]
    shards = [each.take() for each in workers]
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(workers[1].count_shard, shards[1], SAMPLES)  # all of it in one round
        workers[0].hand_in(workers[0].rows(shards[0])[:2], shards[0].up_to(2))
        other.result(TIMEOUT_S)
        waits = pool.submit(workers[1].take)  # until the epoch is over
        workers[0].hand_in(workers[0].rows(shards[0])[2:], shards[0])
        second = waits.result(TIMEOUT_S)
        assert second.epoch == 1
        second.give_back()
    assert alone(*workers) == [2.0] * SAMPLES
    assert workers[0].verdicts["applied"] + workers[1].verdicts["applied"] >= 7


def test_who_waits_for_data_reads_no_newer_model_by_that(of: Callable[..., Counting]) -> None:
    waits, other = of(0, "ssp(3, rows=present)"), of(1, "ssp(3, rows=present)")
    for each in (waits, other):
        each.sgd.join([each.counted], pull=each.mirror)
    shards = waits.take(), other.take()
    assert other.hand_in(other.rows(shards[1])[:2], shards[1].up_to(2)).verdict == "pending"
    (group,) = waits.sgd._joined()
    group.rest()  # with which round 1 commits
    assert sum(waits.values()) == 2.0
    assert not any(np.any(each) for each in waits.mirror.values)
    assert waits.hand_in(waits.rows(shards[0]), shards[0]).verdict == "pending"
    assert other.hand_in(other.rows(shards[1])[2:], shards[1]).verdict == "applied"
    assert other.sgd.training_report().workers[0].largest_staleness == 1
    other.sgd.finish()
    waits.work()
    assert waits.values() == [1.0] * SAMPLES


def test_who_waits_for_data_in_another_thread_than_it_has_trained_in_is_not_waited_for(
    of: Callable[..., Counting], eventually: Eventually
) -> None:
    workers = [of(index, "bsp(total=2, rows=present)") for index in range(2)]
    shards = [each.take() for each in workers]
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(workers[1].count_shard, shards[1], SAMPLES)
        workers[0].count_shard(shards[0], SAMPLES)
        other.result(TIMEOUT_S)
    last = workers[0].take()

    def does() -> dict[str, str]:
        return {each.worker: each.does for each in workers[0].sgd.training_report().workers}

    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(workers[1].shards.next_shard)
        try:
            eventually(lambda: does()["worker:1"] == "waits for data")
            workers[0].count_shard(last)
        finally:
            if not last.is_complete:
                last.hand_in()
        assert waits.result(TIMEOUT_S) is None
    assert workers[0].values() == [1.0] * SAMPLES


def test_a_ps_of_an_earlier_version_is_told_of_nobody_who_waits_for_data(
    of: Callable[..., Counting], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(round_messages.EVENTS, "rest")
    one, two = of(0, "bsp(rows=present)", count=1), of(1, "bsp(rows=present)", count=1)
    shard, rest, told = one.take(), TrainingGroup.rest, threading.Event()

    def rests(group: TrainingGroup) -> None:
        rest(group)
        told.set()

    monkeypatch.setattr(TrainingGroup, "rest", rests)

    def wait() -> ss.data.Shard | None:
        two.sgd.join([two.counted])
        return two.shards.next_shard()

    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(wait)
        waits.add_done_callback(lambda _: told.set())
        assert told.wait(TIMEOUT_S)
        shard.hand_in()
        assert waits.result(TIMEOUT_S) is None


# -- pieces that are pending ----------------------------------------------------------------------


def ahead(of: Callable[..., Counting], sync: str = "ssp(3, rows=present)", **more: Any) -> tuple[Counting, Counting]:
    """Two workers, of which the first one has handed in a shard, and the other one nothing yet."""
    workers = of(0, sync, **more), of(1, sync, **more)
    for each in workers:
        each.sgd.join([each.counted])
    shard = workers[0].take()
    own = workers[0].rows(shard)
    assert workers[0].hand_in(own[:2], shard.up_to(2)).verdict == "pending"
    assert workers[0].hand_in(own[2:], shard).verdict == "pending"
    assert shard.is_complete
    return workers


def act_in_group(worker: Counting, event: Any) -> None:
    (group,) = worker.sgd._joined()
    group._act(event)


def give_back(worker: Counting) -> None:
    taking: Any = worker.shards._taking
    taking.of_this_thread().give_back()


def told(worker: Counting) -> None:
    """Has a worker hear, with its next step, that its run is over."""
    shard = worker.take()
    with pytest.raises(FailedPreconditionError, match="training stopped after round 0"):
        worker.hand_in(worker.rows(shard), shard)
    shard.give_back()


def test_a_piece_that_is_pending_goes_to_nobody_else_and_counts_with_its_round(of: Callable[..., Counting]) -> None:
    one, two = ahead(of)
    assert sum(two.values()) == 0
    taking: Any = two.shards._taking
    taking.shared.act({"do": "gone", "gone": [silent_id(two.client, "worker:0")]})
    progress = two.shards.progress()
    assert (progress.done, progress.returned, [each.position for each in progress.held]) == (0, (), [0])
    assert len({two.take().index, one.take().index, progress.held[0].index}) == 3
    for each in (one, two):
        give_back(each)
    assert alone(two, one) == [1.0] * SAMPLES


def test_what_the_end_of_a_run_drops_is_made_again(of: Callable[..., Counting]) -> None:
    one, two = ahead(of, "ssp(3, rows=present, on_missing=fail)")
    act_in_group(one, Silent("worker:1", silent_id(one.client, "worker:1")))  # which ends the run
    shard = one.take()
    with pytest.raises(FailedPreconditionError, match="training stopped after round 0"):
        one.hand_in(one.rows(shard), shard)
    assert not shard.is_complete
    shard.give_back()
    assert one.shards.progress().done == 0
    told(two)
    assert alone(one, two) == [1.0] * SAMPLES


def test_who_goes_on_with_a_shard_of_which_a_piece_was_dropped_has_lost_it(of: Callable[..., Counting]) -> None:
    sync = "ssp(3, rows=present, on_missing=fail)"
    one, two = of(0, sync), of(1, sync)
    for each in (one, two):
        each.sgd.join([each.counted])
    shard = one.take()
    own = one.rows(shard)
    assert one.hand_in(own[:2], shard.up_to(2)).verdict == "pending"
    act_in_group(one, Silent("worker:1", silent_id(one.client, "worker:1")))
    with pytest.raises(FailedPreconditionError, match="training stopped"):
        one.hand_in(own[2:], shard)
    with pytest.raises(AbortedError, match=r"worker:0 updates shard \d of epoch 0, .* was dropped, and others are to"):
        one.hand_in(own[2:], shard)
    assert one.take().resume_at == 0
    give_back(one)
    told(two)
    assert alone(one, two) == [1.0] * SAMPLES


def test_a_decided_round_of_the_dead_is_brought_by_who_waits_for_its_shard(
    of: Callable[..., Counting], monkeypatch: pytest.MonkeyPatch
) -> None:
    dying, other = of(0, "bsp(rows=present)", count=1), of(1, "bsp(rows=present)", count=1)
    dying.sgd.join([dying.counted])
    shard = dying.take()
    (group,) = dying.sgd._joined()

    def die(*_: Any, **_more: Any) -> None:
        raise DeadError

    monkeypatch.setattr(group, "_bring", die)
    with pytest.raises(DeadError):
        dying.hand_in(dying.rows(shard), shard)
    assert sum(other.values()) == 0
    assert other.shards.next_shard() is None
    assert other.values() == [1.0] * SAMPLES


def test_a_hand_in_that_was_interrupted_counts_once(
    of: Callable[..., Counting], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = of(0, "bsp(rows=present)", count=1)
    worker.sgd.join([worker.counted])
    shard = worker.take()
    own, hand_in = worker.rows(shard), ObjectConnection.act_behind_all

    def dying(*given: Any) -> Any:
        hand_in(*given)
        raise DeadError

    for begin, piece in ((0, shard.up_to(2)), (2, shard)):
        rows = own[begin : begin + 2] if begin == 0 else own[begin:]
        with monkeypatch.context() as patched:
            patched.setattr(ObjectConnection, "act_behind_all", dying)
            with pytest.raises(DeadError):
                worker.hand_in(rows, piece)
        assert worker.hand_in(rows, piece).verdict == "duplicate"
    assert worker.values() == [1.0] * SAMPLES
    assert worker.shards.progress().is_complete


@pytest.mark.parametrize("num_ps", [1, 3])
def test_a_checkpoint_has_no_piece_that_is_pending(of: Callable[..., Counting], tmp_path: Path, num_ps: int) -> None:
    one, _two = ahead(of)
    with one.client.as_default():
        saved = ss.save(tmp_path / "saved").path
    with SmallCluster(num_ps) as other:
        again = Counting(other.client(), "bsp(rows=present)")
        with again.client.as_default():
            ss.restore(saved)
            again.shards = ss.data.Shards("train", again.count, shuffle_seed=5, timeout_s=TIMEOUT_S)
        assert sum(again.values()) == 0
        assert alone(again) == [1.0] * SAMPLES


# -- bad input --------------------------------------------------------------------------------------


def test_errors_say_who_has_the_shard(of: Callable[..., Counting]) -> None:
    one, two = of(0, "bsp(rows=present)"), of(1, "bsp(rows=present)")
    lost = two.take()
    taking: Any = one.shards._taking
    taking.shared.act({"do": "gone", "gone": [silent_id(one.client, "worker:1")]})
    shard = one.take()
    assert shard.index == lost.index
    with pytest.raises(AbortedError, match=r"worker:1 updates shard \d of epoch 0, .*lost.* worker:0 has it now"):
        two.hand_in(two.rows(lost), lost)
    two.sgd.finish()
    assert one.hand_in(one.rows(shard), shard).counts
    with pytest.raises(FailedPreconditionError, match=r"shard \d of epoch 0 of train, which it has handed in"):
        one.hand_in(one.rows(shard), shard)
    other = one.take()
    with pytest.raises(InvalidArgumentError, match="was taken by another connection"):
        two.hand_in(two.rows(other), other)
    with pytest.raises(InvalidArgumentError, match="takes no wait="):
        one.hand_in(one.rows(other), other, wait=False, pull=None)
    with pytest.raises(InvalidArgumentError, match="completes= takes a shard"):
        one.hand_in(one.rows(other), 7)
    assert one.hand_in(one.rows(other), other).verdict == "applied"


def test_pieces_that_wait_are_not_mixed_with_others(of: Callable[..., Counting]) -> None:
    one, two = of(0, "ssp(3, rows=present)"), of(1, "ssp(3, rows=present)")
    for each in (one, two):
        each.sgd.join([each.counted])
    shard = one.take()
    own = one.rows(shard)
    one.hand_in(own[:2], shard.up_to(2))
    with pytest.raises(FailedPreconditionError, match=r"from 2 to its end by itself, but .* waits for round 1 of sgd"):
        shard.hand_in()
    other = ss.train.GradientDescent(1.0, name="other", sync="bsp(rows=present)")
    gradient = ss.IndexedSlices(np.full(1, -1, np.float32), own[2:3])
    with pytest.raises(FailedPreconditionError, match=r"in a round of other, but .* waits for round 1 of sgd"):
        other.apply_gradients([(gradient, one.counted)], completes=shard)
    act_in_group(two, Silent("worker:1", silent_id(one.client, "worker:1")))
    act_in_group(two, GivenUp("worker:1"))
    other.finish()
    one.hand_in(own[2:], shard)
    assert one.values() == [float(each in own) for each in range(SAMPLES)]


def test_a_report_shows_who_waits_for_data(of: Callable[..., Counting], eventually: Eventually) -> None:
    one, two = of(0, "bsp(rows=present)", count=1), of(1, "bsp(rows=present)", count=1)
    shard = one.take()
    two.sgd.join([two.counted])
    with ThreadPoolExecutor(1) as pool:

        def wait() -> None:
            two.sgd.join([two.counted])
            assert two.shards.next_shard() is None

        waits = pool.submit(wait)
        eventually(lambda: [each.does for each in two.sgd.training_report().workers] == ["waits for data"])
        assert [each.status for each in two.sgd.training_report().workers] == ["live"]
        one.hand_in(one.rows(shard), shard)
        waits.result(TIMEOUT_S)


def test_who_waits_for_shards_says_that_one_of_them_waits_for_workers_to_join(
    of: Callable[..., Counting],
    eventually: Eventually,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It has not joined itself, and does not wait for that."""
    monkeypatch.setattr(group_watch, "_FIRST_REPORT_S", 0.0)
    one, two = of(0, "bsp(total=2, rows=present)", count=1), of(1, "bsp(total=2, rows=present)", count=1)
    shard = one.take()
    waits = pool.submit(one.hand_in, one.rows(shard), shard)
    taking: Any = two.shards._taking
    eventually(lambda: bool(PendingPieces(taking).settle(waits=True)))
    told = [
        each.getMessage() for each in caplog.records if each.getMessage().startswith("a shard of train waits in sgd")
    ]
    assert told[0].endswith("for 1 more worker to join before the first round")
    two.sgd.join([two.counted])
    two.sgd.finish()
    assert waits.result(TIMEOUT_S).verdict == "applied"


def test_after_a_wait_for_data_a_gradient_is_of_the_model_before(
    of: Callable[..., Counting], eventually: Eventually, pool: ThreadPoolExecutor
) -> None:
    """The worker brings the round that commits since it waits, but its program has not read the model of that."""
    one, two = of(0, "bsp(rows=present)", count=2), of(1, "bsp(rows=present)", count=2)
    for each in (one, two):
        each.sgd.join([each.counted], pull=each.mirror)
    shard, other = one.take(), two.take()
    waits = pool.submit(one.hand_in, one.rows(shard), shard)
    eventually(lambda: [each.waits for each in two.sgd.training_report().workers] == [True, False])
    part = TAKING_PART.get(two.client.fanout)
    assert part is not None
    part.groups[0].rest()
    assert waits.result(TIMEOUT_S)[:2] == ("applied", 1)
    one.sgd.finish()
    assert two.hand_in(two.rows(other), other).verdict == "stale"
    assert two.hand_in(two.rows(other), other)[:2] == ("applied", 2)
    assert two.values() == [1.0] * SAMPLES
