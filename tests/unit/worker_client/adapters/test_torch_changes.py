"""Models that are changed after they were shared, and what lies in memory while a step is under way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError
from tests.unit.worker_client.adapters.test_torch_modules import Tied, assert_same, backward, net, share
from worker_client import torch as ss_torch
from worker_client.client import Client


class Later:
    """Runs what it is given when somebody waits for it, as a thread that is slow."""

    def submit(self, run: Callable[..., Any], *args: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        result = future.result

        def wait() -> Any:
            if not future.done():
                try:
                    future.set_result(run(*args, **more))
                except InvalidArgumentError as error:
                    future.set_exception(error)
            return result()

        future.result = wait  # type: ignore[method-assign, assignment]
        return future

    def shutdown(self, wait: bool = True) -> None:
        """Has no thread."""


def slowly(shared: ss_torch.SharedModule) -> ss_torch.SharedModule:
    assert shared._arrays._thread is not None
    shared._arrays._thread.shutdown()
    shared._arrays._thread = Later()  # type: ignore[assignment]
    return shared


class TestStructure:
    def test_a_layer_that_was_replaced_is_followed(self, client: Client) -> None:
        model, alone = net(), net()
        shared = share(model, client)
        for _ in range(2):
            model[0] = nn.Linear(3, 4)
            shared.pull()
            alone.load_state_dict(model.state_dict())
            backward(model)
            shared.step()
            shared.pull()
            assert shared.variables["0/bias"].read_value().tolist() == model.state_dict()["0.bias"].tolist()
            assert (model.state_dict()["0.bias"] != alone.state_dict()["0.bias"]).any()

    def test_the_buffers_of_a_layer_that_was_replaced_are_followed(self, client: Client) -> None:
        model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        shared = share(model, client, buffers="chief")
        model[1] = nn.BatchNorm1d(2)
        shared.pull()
        backward(model)
        shared.step()
        assert model[1].num_batches_tracked == shared.variables["1/num_batches_tracked"].read_value() == 1

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param(lambda model: model.append(nn.Linear(2, 2)), "has a parameter 3/weight that it did", id="new"),
            pytest.param(lambda model: model.pop(2), "parameter 2/(weight|bias) is gone", id="gone"),
            pytest.param(
                lambda model: model[0].register_parameter("more", nn.Parameter(torch.ones(2))), "0/more", id="more"
            ),
        ],
    )
    def test_another_structure_is_refused_each_time(
        self, client: Client, change: Callable[[Any], Any], message: str
    ) -> None:
        model = net()
        shared = share(model, client)
        change(model)
        for _ in range(2):
            with pytest.raises(InvalidArgumentError, match=message):
                shared.pull()

    def test_a_frozen_one_may_be_added(self, client: Client) -> None:
        model = net()
        shared = share(model, client)
        model.append(nn.Linear(2, 2).requires_grad_(False))
        shared.pull()
        model.requires_grad_(True)
        backward(model)
        with pytest.raises(InvalidArgumentError, match="parameter 3/weight has a gradient, but was frozen"):
            shared.step()

    def test_a_parameter_that_has_another_name_then_is_followed(self, client: Client) -> None:
        model = net()
        shared = share(model, client)
        model.insert(0, nn.Tanh())
        shared.pull()
        backward(model)
        shared.step()
        assert shared.variables["0/bias"].read_value().tolist() == model.state_dict()["1.bias"].tolist()

    def test_a_layer_may_be_compiled_afterwards(self, client: Client) -> None:
        model = net()
        shared = share(model, client)
        model[0] = torch.compile(model[0], backend="eager")
        shared.pull()
        backward(model)
        assert len(shared.step()) == 4

    def test_a_parameter_that_is_no_longer_tied_is_named(self, client: Client) -> None:
        model = Tied()
        shared = share(model, client)
        model.load_state_dict({name: each.clone() for name, each in model.state_dict().items()}, assign=True)
        with pytest.raises(InvalidArgumentError, match="has a parameter out/weight that it did not have"):
            shared.pull()
        model.out.weight = model.embed.weight
        shared.pull()
        assert_same(model, model)


class TestMemoryOfTwo:
    def test_it_is_refused_before_anything_is_declared(self, client: Client) -> None:
        memory = torch.zeros(6)
        model = nn.ParameterList([nn.Parameter(memory[:4]), nn.Parameter(memory[2:])])
        with pytest.raises(InvalidArgumentError, match=r"net: parameters 0 and 1 share memory.*tie them"):
            share(model, client)
        assert client.variables() == []
        share(nn.ParameterList([nn.Parameter(memory[:2]), nn.Parameter(memory[2:])]), client)

    def test_it_is_refused_afterwards_with_nothing_half_done(self, client: Client) -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        shared = share(model, client)
        own = model[1].weight
        model[1].weight = nn.Parameter(model[0].weight.data)
        for _ in range(2):
            with pytest.raises(InvalidArgumentError, match="parameters 0/weight and 1/weight share memory"):
                shared.pull()
        model[1].weight = own
        shared.variables["1/weight"].assign(np.full((2, 2), 7, np.float32))
        shared.pull(fresh=True)
        assert own.tolist() == [[7, 7]] * 2

    def test_two_with_one_name_are_refused(self, client: Client) -> None:
        model = nn.ParameterDict({"b/c": nn.Parameter(torch.zeros(1))})
        model.b = nn.ParameterDict({"c": nn.Parameter(torch.zeros(1))})
        with pytest.raises(InvalidArgumentError, match=r"b/c and b\.c would both be the variable net/b/c"):
            share(model, client)


class TestStepsUnderWay:
    def test_a_state_is_loaded_behind_it(self, client: Client) -> None:
        model = net()
        shared = slowly(share(model, client, overlap=True))
        shared.pull()
        backward(model)
        shared.step()
        ss_torch.load_state_dict(shared, {name: torch.full_like(each, 3) for name, each in model.state_dict().items()})
        shared.pull()
        assert all(bool((each == 3).all()) for each in model.parameters())

    def test_it_counts_in_the_state(self, client: Client) -> None:
        model = net()
        shared = slowly(share(model, client, overlap=True))
        shared.pull()
        before = copy.deepcopy(model.state_dict())
        backward(model)
        shared.step()
        assert (ss_torch.state_dict(shared)["0.bias"] != before["0.bias"]).any()

    def test_the_next_step_keeps_its_gradients_whole(self, client: Client) -> None:
        model = nn.ParameterList([nn.Parameter(torch.zeros(3, 2).t())])
        shared = slowly(share(model, client, overlap=True))
        shared.pull()
        for value in (1.0, 10.0):
            model[0].grad = torch.full((3, 2), value).t()  # copied to the same place each time
            shared.step()
        shared.pull()
        np.testing.assert_allclose(model[0].detach(), np.full((2, 3), -1.1), rtol=1e-6)

    def test_its_error_comes_before_anything_else_is_done(self, client: Client) -> None:
        model = net()
        shared = slowly(share(model, client, overlap=True))
        shared.pull()
        backward(model)
        model[0].bias.grad[0] = float("nan")
        shared.step()
        backward(model)
        with pytest.raises(InvalidArgumentError, match="net/0/bias"):
            shared.step()
        assert all(each.grad is not None for each in model.parameters())
        shared.step()
        shared.pull()

    def test_it_is_waited_for_again_after_ctrl_c(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        model = net()
        shared = slowly(share(model, client, overlap=True))
        shared.pull()
        backward(model)
        shared.step()
        under_way = shared._arrays._under_way
        assert under_way is not None

        def interrupted() -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(under_way, "result", interrupted)
            with pytest.raises(KeyboardInterrupt):
                shared.pull()
        shared.pull()
        assert under_way.done()


def test_a_step_of_a_closed_model_changes_nothing(client: Client) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    shared = share(model, client, buffers="chief")
    shared.close()
    backward(model)
    with pytest.raises(FailedPreconditionError, match="net is closed"):
        shared.step()
    assert all(each.grad is not None for each in model.parameters())
    assert shared.variables["1/num_batches_tracked"].read_value() == 0


def test_gradients_with_a_graph_are_clipped_outside_of_it(client: Client) -> None:
    model = nn.ParameterList([nn.Parameter(torch.ones(3))])
    shared = share(model, client)
    model[0].grad = (model[0] * 2).clone()  # as of backward(create_graph=True)
    node = model[0].grad.grad_fn
    shared.clip_grad_norm(1.0)
    assert model[0].grad.grad_fn is node
