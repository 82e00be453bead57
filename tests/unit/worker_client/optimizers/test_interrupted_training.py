"""Interrupts of workers that train together: no gradient counts twice, and the next step goes on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.shared_objects import Json
from tests.interrupted_places import CLIENT, Interrupt, interrupted_at
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from tests.unit.worker_client.optimizers.together import (
    Worker,
    gradients,
    mean_of,
)
from worker_client.objects.shared_object import Among, SharedObject

TIMEOUT_S = 60.0


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    """Two ps tasks, and four workers by the spec."""
    with SmallCluster(2) as cluster:
        yield cluster


def test_an_interrupt_anywhere_counts_no_gradient_twice(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    first, second = (
        Worker(cluster.client(index), ss.train.GradientDescent(0.25, sync="bsp(total=2)")) for index in range(2)
    )
    begun = pool.submit(second.step, gradients(1, 0))
    first.step(gradients(0, 0))
    begun.result(TIMEOUT_S)
    onlooker = cluster.client(observer=True)
    rounds, verdicts, number, was_interrupted = 1, set(), 1, True
    while was_interrupted:
        there = pool.submit(second.step, gradients(1, 0))
        was_interrupted = interrupted_at(number, lambda: first.step(gradients(0, 0)), CLIENT)
        rounds += 1
        if was_interrupted:
            counts = onlooker.training_report(first.optimizer.name).round == rounds
            if counts:  # and if only its return was missing, the next step is one of the next round
                assert there.result(TIMEOUT_S)[:3] == ("applied", rounds, rounds)
                there = pool.submit(second.step, gradients(1, 0))
            again = first.step(gradients(0, 0))
            verdicts.add(again.verdict)  # stale: the one that was interrupted counts
            if counts:
                if again.verdict == "stale":
                    assert again.version == rounds
                    again = first.step(gradients(0, 0))
                rounds += 1
            assert again.version == rounds
        assert there.result(TIMEOUT_S)[:3] == ("applied", rounds, rounds)
        number += 1 + number // 4
    assert verdicts == {"applied", "stale"}
    both = mean_of([gradients(0, 0), gradients(1, 0)])
    with SmallCluster(2) as other:
        worker = Worker(other.client(), ss.train.GradientDescent(0.25))
        for _ in range(rounds):
            worker.step(both)
        for found, expected in zip(first.values(), worker.values(), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_an_interrupt_anywhere_in_the_first_step_and_it_goes_on(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(), ss.train.GradientDescent(0.25))
    number, was_interrupted = 1, True
    while was_interrupted:
        worker.optimizer = ss.train.GradientDescent(0.25, name=f"sgd{number}", sync="ssp(1)")
        was_interrupted = interrupted_at(number, lambda: worker.step(gradients(0, 0)), CLIENT)
        assert worker.step(gradients(0, 0)).verdict == "applied"
        worker.optimizer.finish()
        number += 1 + number // 4


@pytest.mark.parametrize("has_come", [True, False], ids=["it had joined", "it had not"])
def test_who_is_interrupted_while_it_joins_can_finish(
    cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch, *, has_come: bool
) -> None:
    worker, act = Worker(cluster.client(), ss.train.Adam(0.25, sync="bsp")), SharedObject.act

    def interrupted(shared: SharedObject, event: Json) -> Json | None:
        if has_come:
            act(shared, event)
        raise Interrupt

    with monkeypatch.context() as patch:
        patch.setattr(SharedObject, "act", interrupted)
        with pytest.raises(Interrupt):
            worker.step(gradients(0, 0))
    assert worker.client.training_report("Adam").quorum == int(has_come)
    worker.optimizer.finish()
    assert worker.client.training_report("Adam").quorum == 0


def test_who_is_interrupted_at_its_hand_in_does_not_hand_in_for_that_round_again(
    cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, act_among = Worker(cluster.client(), ss.train.Adam(0.25, sync="bsp")), SharedObject.act_among
    worker.step(gradients(0, 0))

    def interrupted(*arguments: Any, **named: Any) -> Among:
        act_among(*arguments, **named)
        raise Interrupt

    with monkeypatch.context() as patch:
        patch.setattr(SharedObject, "act_among", interrupted)
        with pytest.raises(Interrupt):
            worker.step(gradients(0, 1))
    assert worker.step(gradients(0, 2))[:3] == ("stale", 2, 3)
    assert worker.step(gradients(0, 3))[:3] == ("applied", 3, 3)
