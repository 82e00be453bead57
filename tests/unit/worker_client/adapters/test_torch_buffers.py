"""Buffers, as the statistics of batch normalisation: what workers share of them by each policy."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import worker_client as ss
from ps_protocol.errors import InvalidArgumentError, UnavailableError
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client import torch as ss_torch
from worker_client.client import Client


class Net(nn.Module):
    """A layer with statistics, a buffer that is not saved, and one that each pass makes anew."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2, momentum=0.5)
        self.register_buffer("cache", torch.zeros(3), persistent=False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))
        self.seen: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = self.seen + len(x)
        return self.norm(x)


def share(client: Client, policy: str, **more: Any) -> ss_torch.SharedModule:
    with client.as_default():
        return ss_torch.share(Net(), "net", optimizer=ss.train.GradientDescent(0.1), buffers=policy, **more)  # type: ignore[arg-type]


def step(shared: ss_torch.SharedModule, value: float) -> None:
    """One with inputs of a mean of ``value``."""
    shared.pull()
    shared.module(torch.tensor([[value - 1.0] * 2, [value + 1.0] * 2])).square().mean().backward()
    shared.step()


def step_and_pull(shared: ss_torch.SharedModule) -> None:
    shared.step()
    shared.pull()


def means(shared: ss_torch.SharedModule) -> list[float]:
    state = shared.module.state_dict()
    return [
        round(state["norm.running_mean"][0].item(), 6),
        state["norm.num_batches_tracked"].item(),
        state["seen"].item(),
    ]


def test_local_ones_are_not_shared(client: Client, cluster: InProcessCluster) -> None:
    one, other = share(client, "local"), share(cluster.client(1), "local")
    assert set(one.variables) == {"norm/weight", "norm/bias"}
    step(one, 4.0)
    other.pull(fresh=True)
    assert (means(one), means(other)) == ([2.0, 1, 2], [0.0, 0, 0])


def test_those_that_are_saved_are_variables_beside_the_parameters(client: Client) -> None:
    shared = share(client, "mean")
    assert set(shared.variables) == {
        "norm/weight",
        "norm/bias",
        "norm/running_mean",
        "norm/running_var",
        "norm/num_batches_tracked",
        "seen",
    }
    assert shared.variables["norm/num_batches_tracked"].dtype == np.int64


def test_the_mean_is_of_what_all_have_changed(client: Client, cluster: InProcessCluster) -> None:
    one, other = share(client, "mean"), share(cluster.client(1), "mean")
    step(one, 4.0)  # from 0 to 2, of which one of two workers counts for a half; integers are the chief's
    assert means(one) == [1.0, 1, 1]
    other.pull(fresh=True)
    assert means(other) == [1.0, 1, 1]
    step(other, 4.0)  # from 1 to 2.5
    assert means(other) == [1.75, 1, 2]
    one.pull(fresh=True)
    assert means(one) == [1.75, 1, 2]


def test_those_of_the_chief_are_everybodys(client: Client, cluster: InProcessCluster) -> None:
    chief, other = share(client, "chief"), share(cluster.client(1), "chief")
    step(chief, 4.0)
    assert means(chief) == [2.0, 1, 2]
    step(other, 8.0)  # its own change is dropped
    assert means(other) == [2.0, 1, 2]
    step(other, 8.0)  # though nobody has changed them since
    assert means(other) == [2.0, 1, 2]
    step(chief, 4.0)
    other.pull(fresh=True)
    assert means(other) == means(chief) == [3.0, 2, 4]


@pytest.mark.parametrize("policy", ["mean", "chief"])
def test_the_buffers_of_the_first_worker_count(client: Client, cluster: InProcessCluster, policy: str) -> None:
    first = share(client, policy)
    step(first, 4.0)
    assert means(share(cluster.client(1), policy)) == means(first)


@pytest.mark.parametrize("policy", ["mean", "chief"])
def test_they_travel_together(client: Client, cluster: InProcessCluster, policy: Any) -> None:
    model = nn.Sequential(*[nn.BatchNorm1d(2) for _ in range(20)])
    with client.as_default():
        shared = ss_torch.share(model, "net", optimizer=ss.train.GradientDescent(0.1), buffers=policy)
    for _ in range(2):
        before = cluster.batches()
        shared.pull()
        model(torch.randn(3, 2)).square().mean().backward()
        shared.step()
    # There are 60 of them.
    assert max(after - old for after, old in zip(cluster.batches(), before, strict=True)) <= 3


@pytest.mark.parametrize("overlap", [False, True])
def test_the_error_of_sending_them_is_raised(client: Client, overlap: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with share(client, "chief", overlap=overlap) as shared:
        shared.pull()
        shared.module(torch.ones(2, 2)).square().mean().backward()
        failed: Future[None] = Future()
        failed.set_exception(UnavailableError("ps:0 is away"))
        with monkeypatch.context() as patched:
            patched.setattr(client, "assign_all", lambda *_, **__: failed)
            with pytest.raises(UnavailableError, match="ps:0 is away"):
                step_and_pull(shared)
        shared.pull()


def test_a_buffer_that_is_taken_away_is_named(client: Client) -> None:
    shared = share(client, "chief")
    shared.module(torch.ones(2, 2)).sum().backward()
    shared.module.seen = None
    with pytest.raises(InvalidArgumentError, match="the buffer seen was taken out of the model"):
        shared.step()


def test_another_policy_is_refused(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match='net: buffers is \'all\'; it should be "local", "mean" or "chief"'):
        share(client, "all")
