"""Tables of embeddings in shared models: their gradients go with the model's step, their values into its state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import worker_client as ss
from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.client import Client
from worker_client.torch import ParameterServerEmbedding, load_state_dict, share, state_dict

START = np.random.default_rng(3).normal(size=(6, 3)).astype(np.float32)


def table(**more: Any) -> ParameterServerEmbedding:
    given: dict[str, Any] = {"initializer": START, "partitioner": ss.fixed_size_partitioner(2), **more}
    return ParameterServerEmbedding(6, 3, "words", **given)


class Model(torch.nn.Module):
    """A table, and a layer that begins with the same numbers each time."""

    def __init__(self, words: torch.nn.Module):
        super().__init__()
        self.words = words
        self.layer = torch.nn.Linear(3, 2)
        with torch.no_grad():
            self.layer.weight.copy_(torch.arange(6.0).reshape(2, 3) / 10)
            self.layer.bias.zero_()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(self.words(ids))
        return found


def plain_model() -> Model:
    return Model(torch.nn.Embedding.from_pretrained(torch.tensor(START), freeze=False))


BATCHES = [torch.tensor(each) for each in ([1, 2, 2], [5, 1, 0], [3, 3, 3])]


def loss_of(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = (model(ids) * torch.arange(1.0, 7.0).reshape(3, 2)).sum()
    return found


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("sync", [None, "bsp", "ssp(2)"])
@pytest.mark.parametrize("accumulated", [1, 3])
def test_the_steps_of_a_model_with_a_table_are_those_of_torch(sync: str | None, accumulated: int) -> None:
    ours, theirs = Model(table()), plain_model()
    sgd = torch.optim.SGD(theirs.parameters(), lr=0.1)
    with share(ours, "net", optimizer=ss.train.GradientDescent(0.1), sync=sync) as shared:
        for _ in range(2):
            shared.pull()
            for ids in BATCHES[:accumulated]:
                loss_of(ours, ids).backward()
                loss_of(theirs, ids).backward()
            shared.step()
            sgd.step()
            sgd.zero_grad()
            torch.testing.assert_close(ours.words.table(), theirs.words.weight.detach())
            torch.testing.assert_close(ours.layer.weight, theirs.layer.weight)
        [steps] = {
            int(ss.get_default_client().variable(f"words/weight/part_{each}/GradientDescent/step")) for each in (0, 1)
        }
        assert steps == 2


def test_they_go_in_the_exchange_of_the_step(client: Client, cluster: InProcessCluster) -> None:
    model = Model(table())
    with share(model, "net", optimizer=ss.train.Adam(0.1)) as shared:
        for count in range(3):
            shared.pull()
            loss = loss_of(model, BATCHES[1])
            before = cluster.batches()
            loss.backward()
            assert cluster.batches() == before
            shared.step()
            if count:  # the first one makes slots
                assert [now - then for now, then in zip(cluster.batches(), before, strict=True)] == [1, 1]
    assert {each.slot_of for each in client.variables() if each.slot_of} == {
        "words/weight",
        "net/layer/weight",
        "net/layer/bias",
    }


@pytest.mark.usefixtures("client")
def test_in_rounds_a_step_without_rows_counts_too() -> None:
    model = Model(table())
    with share(model, "net", optimizer=ss.train.GradientDescent(0.1), sync="bsp") as shared:
        for use in (True, False, True):
            model.words.requires_grad_(use)
            shared.pull()
            found = model(BATCHES[0]) if use else model.layer(torch.ones(3, 3))
            found.sum().backward()
            assert shared.step()
        assert shared.training_report().round == 3


@pytest.mark.usefixtures("client")
def test_without_rounds_a_step_leaves_out_what_was_not_used() -> None:
    model = Model(table())
    with share(model, "net", optimizer=ss.train.GradientDescent(0.1)) as shared:
        shared.pull()
        model.layer(torch.ones(1, 3)).sum().backward()
        assert len(shared.step()) == 2
        with pytest.raises(FailedPreconditionError, match=r"step\(\) without backward\(\)"):
            shared.step()
        model.words(torch.tensor([1])).sum().backward()
        assert len(shared.step()) == 1
        np.testing.assert_allclose(model.words.table()[1], START[1] - 0.1, rtol=1e-6)


@pytest.mark.usefixtures("client")
def test_what_is_collected_is_bounded_by_the_table() -> None:
    model = Model(table())
    with share(model, "net", optimizer=ss.train.GradientDescent(1.0)) as shared:
        shared.pull()
        words = model.words
        for _ in range(1500):
            words(torch.tensor([1, 2, 5])).sum().backward()
            words(torch.tensor([], dtype=torch.int64)).sum().backward()
            assert sum(len(rows) for rows, _ in words._pending) <= 4096 + 3 * 6
            assert all(len(rows) for rows, _ in words._pending)
        shared.step()
    np.testing.assert_allclose(words.table()[[0, 1, 5]], START[[0, 1, 5]] - [[0], [1500], [1500]], rtol=1e-5)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("sync", [None, "bsp"])
def test_a_table_with_an_optimizer_of_its_own_or_none_is_left_alone(sync: str | None) -> None:
    model = Model(table(optimizer=ss.train.GradientDescent(1.0, name="words", sync=sync)))
    with share(model, "net", optimizer=ss.train.GradientDescent(0.1), sync=sync) as shared:
        for _ in range(2):
            shared.pull()
            (model.words(torch.tensor([1])).sum() + model.layer(torch.ones(3)).sum()).backward()
            assert len(shared.step()) == 2
        np.testing.assert_allclose(model.words.table()[1], START[1] - 2, rtol=1e-6)
    frozen = Model(table().requires_grad_(False))
    with share(frozen, "other", optimizer=ss.train.GradientDescent(0.1, name="other"), sync=sync) as shared:
        for _ in range(2):
            shared.pull()
            frozen(torch.tensor([1])).sum().backward()
            assert len(shared.step()) == 2


def test_a_table_belongs_to_one_shared_model_that_is_open(client: Client) -> None:
    words = table()
    first = share(Model(words), "first", optimizer=ss.train.GradientDescent(1.0))
    with pytest.raises(
        InvalidArgumentError, match=r"table words/weight is in the shared model first already; close\(\)"
    ):
        share(Model(words), "second", optimizer=ss.train.GradientDescent(1.0))
    first.close()
    with pytest.raises(FailedPreconditionError, match="neither an optimizer nor a shared model"):
        words(torch.tensor([1])).sum().backward()
    with share(Model(words), "third", optimizer=ss.train.GradientDescent(1.0)) as third:
        third.pull()
        words(torch.tensor([1])).sum().backward()
        third.step()
    np.testing.assert_allclose(words.table()[1], START[1] - 1, rtol=1e-6)
    with (
        share(Model(words), "fourth", optimizer=ss.train.GradientDescent(1.0), sync="local(4)"),
        pytest.raises(InvalidArgumentError, match=r"table words/weight: .*local\(4\).*copy of the whole table"),
    ):
        words(torch.tensor([1]))
    assert client.is_chief


def test_a_model_and_its_table_are_of_one_connection(client: Client, cluster: InProcessCluster) -> None:
    model = Model(table())
    with (
        share(model, "net", optimizer=ss.train.GradientDescent(1.0), client=cluster.client(1)),
        pytest.raises(InvalidArgumentError, match=r"table words/weight is of the connection .*worker:0.*worker:1"),
    ):
        model(torch.tensor([1]))
    assert client.is_chief


@pytest.mark.usefixtures("client")
def test_a_state_has_the_whole_table() -> None:
    model, theirs = Model(table(padding_idx=2)), plain_model()
    with share(model, "net", optimizer=ss.train.GradientDescent(1.0)) as shared:
        expected = torch.tensor(START)
        expected[2] = 0
        for state in (model.state_dict(), state_dict(shared)):
            assert list(state) == ["words.weight", "layer.weight", "layer.bias"]
            assert torch.equal(state["words.weight"], expected)
            assert not state["words.weight"].requires_grad
        theirs.load_state_dict(state)
        other = {name: each + 1 for name, each in theirs.state_dict().items()}
        assert load_state_dict(shared, other) == ([], [])
        expected += 1
        expected[2] = 0
        assert torch.equal(model.words.table(), expected)
        assert torch.equal(state_dict(shared)["layer.bias"], other["layer.bias"])


@pytest.mark.usefixtures("client")
def test_a_state_that_does_not_fit_is_refused() -> None:
    model = Model(table())
    state = model.state_dict()
    for wrong, message in (
        ({**state, "words.weight": torch.ones(5, 3)}, r"size mismatch for words\.weight: .*\[5, 3\].*\[6, 3\]"),
        ({name: each for name, each in state.items() if name != "words.weight"}, r'Missing key.*"words\.weight"'),
        ({**state, "words.bias": torch.ones(5)}, r'Unexpected key.*"words\.bias"'),
    ):
        with pytest.raises(RuntimeError, match=message):
            model.load_state_dict(wrong)
    assert torch.equal(model.words.table(), torch.tensor(START))
    kept = {name: each for name, each in state.items() if name != "words.weight"}
    assert model.load_state_dict(kept, strict=False).missing_keys == ["words.weight"]
