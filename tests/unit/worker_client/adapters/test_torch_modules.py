"""Modules of PyTorch that a cluster keeps: the loop, names, every kind of parameter, and what is refused."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import worker_client as ss
from ps_protocol.errors import DTypeMismatchError, FailedPreconditionError, InvalidArgumentError, ShapeMismatchError
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client import torch as ss_torch
from worker_client.client import Client

SharedModule = ss_torch.SharedModule


class Tied(nn.Module):
    """An embedding whose weights are those of the last layer, as in language models."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.out = nn.Linear(4, 6, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.embed(ids))


class Rows(nn.Module):
    """Gradients for rows only, beside a dense one."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4, sparse=True)
        self.out = nn.Linear(4, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.table(ids))


class Half(nn.Module):
    """A layer of another dtype in the middle."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 4, dtype=dtype)
        self.scale = nn.Parameter(torch.ones((), dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.inner(x.to(self.scale.dtype)) * self.scale).float()


def transposed() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(layer.weight.detach().t())
    assert not layer.weight.is_contiguous()
    return layer


def channels_last() -> nn.Module:
    net: nn.Module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3 * 4, 2))
    return net.to(memory_format=torch.channels_last)


def ids() -> torch.Tensor:
    return torch.randint(0, 6, (5,))


KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "dense": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), lambda: torch.randn(5, 3)),
    "tied": (Tied, ids),
    "rows": (Rows, ids),
    "transposed": (transposed, lambda: torch.randn(5, 4)),
    "channels last": (channels_last, lambda: torch.randn(5, 2, 4, 4)),
    "float64": (lambda: Half(torch.float64), lambda: torch.randn(5, 3)),
    "float16": (lambda: Half(torch.float16), lambda: torch.randn(5, 3)),
    "bfloat16": (lambda: Half(torch.bfloat16), lambda: torch.randn(5, 3)),
}


def net() -> nn.Module:
    return KINDS["dense"][0]()


def backward(model: Any, batch: torch.Tensor | None = None) -> None:
    model(torch.ones(2, 3) if batch is None else batch).square().mean().backward()


def share(model: nn.Module, client: Client, name: str = "net", **more: Any) -> SharedModule:
    with client.as_default():
        return ss_torch.share(model, name, **{"optimizer": ss.train.GradientDescent(0.1), **more})


def assert_same(one: nn.Module, other: nn.Module, tolerance: float = 1e-6) -> None:
    for (name, mine), theirs in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(
            mine, theirs, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: name + text
        )


class TestTheLoop:
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_trains_as_torch_does_alone(self, kind: str, client: Client) -> None:
        make, batch = KINDS[kind]
        model = make()
        alone = copy.deepcopy(model)
        sgd = torch.optim.SGD(alone.parameters(), 0.1)
        shared = share(model, client)
        for _ in range(4):
            x = batch()
            shared.pull()
            backward(model, x)
            shared.step()
            sgd.zero_grad()
            backward(alone, x)
            sgd.step()
        shared.pull()
        assert_same(model, alone, 1e-6 if kind not in ("float16", "bfloat16") else 1e-2)

    def test_values_and_gradients_are_not_copied(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        model = net()
        shared = share(model, client)
        backward(model)
        grads = {path: each.grad for path, each in zip(shared.variables, model.parameters(), strict=True)}
        sent: dict[str, Any] = {}
        push = shared._arrays.push
        monkeypatch.setattr(
            shared._arrays, "push", lambda updates, **more: [sent.update(updates), push(updates, **more)][1]
        )
        shared.step()
        for path, tensor in zip(shared.variables, model.parameters(), strict=True):
            assert shared._arrays.arrays[path].__array_interface__["data"][0] == tensor.data_ptr()
            grad = grads[path]
            assert grad is not None
            assert sent[path].__array_interface__["data"][0] == grad.data_ptr()

    def test_gradients_add_up_until_a_step_takes_them(self, client: Client) -> None:
        model = net()
        alone = copy.deepcopy(model)
        shared = share(model, client)
        for _ in range(3):
            backward(model)
            backward(alone)
        assert [each.verdict for each in shared.step()] == ["applied"] * 4
        assert [each.grad for each in model.parameters()] == [None] * 4
        torch.optim.SGD(alone.parameters(), 0.1).step()
        assert_same(model, alone)

    def test_a_step_is_one_exchange_with_each_ps(self, client: Client, cluster: InProcessCluster) -> None:
        model = net()
        shared = share(model, client)
        for _ in range(2):
            before = cluster.batches()
            shared.pull()
            backward(model)
            shared.step()
        assert [after - old for after, old in zip(cluster.batches(), before, strict=True)] == [1, 1]

    def test_a_parameter_that_the_loss_does_not_need_stays(self, client: Client) -> None:
        model = nn.ModuleDict({"used": nn.Linear(3, 2), "unused": nn.Linear(3, 2)})
        before = copy.deepcopy(model)
        shared = share(model, client, optimizer=ss.train.AdamW(0.1, weight_decay=0.5))
        backward(model["used"])
        assert len(shared.step()) == 2
        assert_same(model["unused"], before["unused"])

    def test_a_learning_rate_for_one_step(self, client: Client) -> None:
        model = net()
        alone = copy.deepcopy(model)
        shared = share(model, client)
        backward(model)
        backward(alone)
        shared.step(learning_rate=0.5)
        torch.optim.SGD(alone.parameters(), 0.5).step()
        assert_same(model, alone)

    def test_backward_through_values_that_were_pulled_over_is_noticed(self, client: Client) -> None:
        model = net()
        shared = share(model, client)
        backward(model)
        loss = model(torch.ones(2, 3)).square().mean()
        shared.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()

    def test_overlapped_steps_come_to_the_same(self, client: Client) -> None:
        model, alone = channels_last(), channels_last()
        alone.load_state_dict(model.state_dict())
        sgd = torch.optim.SGD(alone.parameters(), 0.1)
        with share(model, client, overlap=True) as shared:
            for _ in range(4):
                x = torch.randn(5, 2, 4, 4)
                shared.pull()
                backward(model, x)
                assert shared.step() == []
                sgd.zero_grad()
                backward(alone, x)
                sgd.step()
            shared.pull()
            assert_same(model, alone)

    @pytest.mark.parametrize("backend", ["eager", "aot_eager"])
    def test_compiled_models_have_the_names_that_they_have_without(self, client: Client, backend: str) -> None:
        model = net()
        alone = copy.deepcopy(model)
        compiled: Any = torch.compile(model, backend=backend)
        shared = share(compiled, client)
        sgd = torch.optim.SGD(alone.parameters(), 0.1)
        for _ in range(3):
            shared.pull()
            backward(compiled)
            shared.step()
            sgd.zero_grad()
            backward(alone)
            sgd.step()
        assert set(shared.variables) == {"0/weight", "0/bias", "2/weight", "2/bias"}
        assert_same(model, alone)
        torch._dynamo.reset()


class TestNames:
    def test_they_follow_the_model_below_the_current_scope(self, client: Client) -> None:
        with client.as_default(), ss.variable_scope("outer"):
            shared = share(KINDS["dense"][0](), client)
        assert shared.name == "outer/net"
        assert {each.name for each in client.variables()} == {
            f"outer/net/{layer}/{kind}" for layer in (0, 2) for kind in ("weight", "bias")
        }

    def test_a_parameter_with_two_names_is_one_variable(self, client: Client) -> None:
        assert list(share(Tied(), client).variables) == ["embed/weight"]

    def test_frozen_ones_are_not_shared(self, client: Client) -> None:
        model = net()
        model[0].requires_grad_(False)
        shared = share(model, client)
        assert list(shared.variables) == ["2/weight", "2/bias"]
        backward(model)
        shared.step()

    def test_the_ps_initialises_by_torchs_names(self, client: Client) -> None:
        model = net()
        shared = share(model, client, initializer={"0.bias": ss.constant_initializer(3.0)})
        assert shared.variables["0/bias"].read_value().tolist() == [3.0] * 4
        assert model.state_dict()["0.bias"].tolist() == [3.0] * 4

    def test_variables_may_be_cut(self, client: Client) -> None:
        model = net()
        before = copy.deepcopy(model)
        shared = share(model, client, partitioner=ss.fixed_size_partitioner(2))
        assert isinstance(shared.variables["0/weight"], ss.PartitionedVariable)
        assert_same(model, before)

    def test_two_models_on_two_connections_of_a_process(self, client: Client, cluster: InProcessCluster) -> None:
        models = [net(), nn.Linear(3, 2)]
        befores = [copy.deepcopy(each) for each in models]
        both = [share(models[0], client, "first"), share(models[1], cluster.client(1), "second")]
        backward(models[1])
        both[1].step()
        both[0].pull()
        assert_same(models[0], befores[0])
        assert (models[1].state_dict()["weight"] != befores[1].state_dict()["weight"]).any()


class TestMemoryThatMoves:
    def test_parameters_with_other_memory_are_followed(self, client: Client) -> None:
        model = net()
        shared = share(model, client)
        for each in model.parameters():
            each.data = torch.full_like(each, 9.0)
        shared.pull()
        shared.variables["0/bias"].assign(np.full(4, 5, np.float32))
        shared.pull()
        assert model.state_dict()["0.bias"].tolist() == [5] * 4
        assert (model.state_dict()["0.weight"] != 9).all()  # the cluster's values count

    def test_parameters_that_were_replaced_are_followed(self, client: Client) -> None:
        model = net()
        shared = share(model, client)
        model.load_state_dict({name: each.clone() for name, each in model.state_dict().items()}, assign=True)
        backward(model)
        shared.pull()
        shared.step()
        assert shared.variables["0/bias"].read_value().tolist() == model.state_dict()["0.bias"].tolist()
        assert all(each.grad is None for each in model.parameters())

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param(lambda model: model.double(), r"is torch\.float64 \[4, 3\] on cpu now", id="dtype"),
            pytest.param(lambda model: model.to("meta"), "on meta now|meta device", id="device"),
            pytest.param(lambda model: delattr(model[0], "weight"), "is gone", id="gone"),
            pytest.param(
                lambda model: setattr(model[0], "weight", nn.Parameter(torch.ones(2, 2))), r"\[2, 2\]", id="shape"
            ),
        ],
    )
    def test_those_that_were_changed_otherwise_are_refused(
        self, client: Client, change: Callable[[Any], Any], message: str
    ) -> None:
        model = net()
        shared = share(model, client)
        change(model)
        with pytest.raises(InvalidArgumentError, match=f"parameter 0/weight .*{message}|0/weight .*{message}"):
            shared.pull()


class TestClipping:
    @pytest.mark.parametrize("norm", [1.0, 2.0, float("inf")])
    @pytest.mark.parametrize("kind", ["dense", "transposed", "bfloat16"])
    def test_it_clips_as_torch_does(self, client: Client, kind: str, norm: float) -> None:
        make, batch = KINDS[kind]
        model, x = make(), batch()
        alone = copy.deepcopy(model)
        shared = share(model, client)
        for each in (model, alone):
            backward(each, x * 10)
        total = shared.clip_grad_norm(0.01, norm)
        torch.testing.assert_close(total, nn.utils.clip_grad_norm_(alone.parameters(), 0.01, norm))
        for mine, theirs in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad)

    def test_rows_that_come_twice_count_as_their_sum(self, client: Client) -> None:
        model = Rows()
        alone = copy.deepcopy(model)
        alone.table.sparse = False
        shared = share(model, client)
        for each in (model, alone):
            backward(each, torch.tensor([1, 2, 1]))
        total = shared.clip_grad_norm(0.01)
        torch.testing.assert_close(total, nn.utils.clip_grad_norm_(alone.parameters(), 0.01))
        assert model.table.weight.grad is not None
        torch.testing.assert_close(model.table.weight.grad.to_dense(), alone.table.weight.grad)
        shared.step()
        torch.optim.SGD(alone.parameters(), 0.1).step()
        assert_same(model, alone)

    def test_it_needs_gradients(self, client: Client) -> None:
        with pytest.raises(FailedPreconditionError, match="net: no parameter has a gradient to clip"):
            share(net(), client).clip_grad_norm(1.0)


class TestLoopsOfOthers:
    def test_a_module_that_holds_everything_itself_as_in_lightning(self, client: Client) -> None:
        """A loop that somebody else writes calls hooks of a module; nothing of it is global."""

        class Trained(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = net()

            def configure_optimizers(self) -> SharedModule:
                self.shared = share(self.inner, client)
                return self.shared

            def training_step(self, batch: torch.Tensor) -> torch.Tensor:
                self.shared.pull()
                loss: torch.Tensor = self.inner(batch).square().mean()
                return loss

            def optimizer_step(self, optimizer: SharedModule) -> None:
                optimizer.step()

        module = Trained()
        alone = copy.deepcopy(module.inner)
        optimizer, sgd = module.configure_optimizers(), torch.optim.SGD(alone.parameters(), 0.1)
        for _ in range(3):
            x = torch.randn(5, 3)
            module.training_step(x).backward()
            module.optimizer_step(optimizer)
            sgd.zero_grad()
            backward(alone, x)
            sgd.step()
        assert_same(module.inner, alone)
        optimizer.close()

    def test_who_only_pulls_needs_no_optimizer(self, client: Client, cluster: InProcessCluster) -> None:
        model, theirs = net(), net()
        training = share(model, client)
        with cluster.client(observer=True) as watching:
            shared = share(theirs, watching, optimizer=None)
            assert_same(theirs, model)
            backward(model)
            training.step()
            shared.pull()
            assert_same(theirs, model)
            with pytest.raises(FailedPreconditionError, match=r"shared without an optimizer.*one of ss\.train"):
                shared.step()


class TestBadInput:
    def test_a_step_without_backward(self, client: Client) -> None:
        shared = share(net(), client)
        with pytest.raises(
            FailedPreconditionError, match=r"net: step\(\) without backward\(\).*0/weight.*loss\.backward\(\)"
        ):
            shared.step()

    def test_a_parameter_that_was_frozen(self, client: Client) -> None:
        model = net()
        model[0].requires_grad_(False)
        shared = share(model, client)
        model[0].requires_grad_(True)
        before = copy.deepcopy(model)
        backward(model)
        with pytest.raises(
            InvalidArgumentError, match=r"parameter 0/weight has a gradient, but was frozen.*requires_grad"
        ):
            shared.step()
        assert_same(model, before)
        assert all(each.grad is not None for each in model.parameters())  # nothing was taken

    @pytest.mark.parametrize(
        ("optimizer", "twin"),
        [
            (lambda each: torch.optim.Adam(each, lr=0.02), r"ss\.train\.Adam\(0\.02\)"),
            (lambda each: torch.optim.SGD(each, lr=0.1), r"ss\.train\.GradientDescent\(0\.1\)"),
            (lambda each: torch.optim.SGD(each, lr=0.1, momentum=0.9), r"ss\.train\.Momentum\(0\.1, momentum=0\.9\)"),
            (torch.optim.RMSprop, r"ss\.train\.RMSProp\(0\.01\)"),
            (torch.optim.Rprop, r"give one of ss\.train"),
            (lambda _: torch.optim.AdamW, r"ss\.train\.AdamW\(0\.001\)"),
        ],
        ids=["Adam", "SGD", "momentum", "RMSprop", "Rprop", "class"],
    )
    def test_an_optimizer_of_torch(self, client: Client, optimizer: Callable[..., Any], twin: str) -> None:
        model = net()
        with pytest.raises(InvalidArgumentError, match=rf"optimizer= is torch\.optim\..*{twin}"):
            share(model, client, optimizer=optimizer(model.parameters()))
        assert client.variables() == []

    @pytest.mark.parametrize(
        ("model", "error", "message"),
        [
            (
                lambda: nn.Linear(3, 2, dtype=torch.complex64),
                DTypeMismatchError,
                r"net: parameter weight is torch\.complex64",
            ),
            (
                lambda: nn.Linear(3, 2, device="meta"),
                InvalidArgumentError,
                "net: parameter weight is on the meta device",
            ),
            (lambda: nn.LazyLinear(3), InvalidArgumentError, "net: parameter weight has no shape yet"),
            (nn.ReLU, InvalidArgumentError, "net: the model has no parameters that train$"),
            (
                lambda: nn.Linear(3, 2).requires_grad_(False),
                InvalidArgumentError,
                "no parameters that train: all 2 are frozen",
            ),
            (
                lambda: nn.ParameterDict({"a b": nn.Parameter(torch.ones(1))}),
                InvalidArgumentError,
                "have the key 'a b'",
            ),
            (lambda: [1.0], InvalidArgumentError, r"share\(\) takes a torch\.nn\.Module, not list"),
        ],
        ids=["complex", "meta", "lazy", "none", "frozen", "name", "no module"],
    )
    @pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
    def test_a_model_that_cannot_be_shared(
        self, client: Client, model: Callable[[], Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            share(model(), client)
        assert client.variables() == []

    def test_a_model_that_does_not_match(self, client: Client, cluster: InProcessCluster) -> None:
        share(net(), client)
        other = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.ModuleDict({"last": nn.Linear(5, 2)}))
        with pytest.raises(InvalidArgumentError) as caught:
            share(other, cluster.client(1))
        for each in (
            "only in the cluster: 2/bias (float32 [2]), 2/weight (float32 [2, 4])",
            "only in this model: 2/last/weight (float32 [2, 5]), 2/last/bias (float32 [2])",
            "0/weight is float32 [5, 3] here and float32 [4, 3] there",
        ):
            assert each in str(caught.value)

    def test_a_gradient_of_another_shape(self, client: Client) -> None:
        model = net()
        shared = share(model, client)
        backward(model)
        updates = {"0/weight": np.ones((2, 2), np.float32)}
        with pytest.raises(ShapeMismatchError, match="net/0/weight"):
            shared._arrays.push(updates)

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda each: torch.save(each, io.BytesIO())])
    def test_a_shared_model_is_not_copied_or_saved(self, client: Client, copied: Callable[[Any], Any]) -> None:
        shared = share(net(), client)
        with pytest.raises(
            TypeError, match=r"SharedModule 'net' is bound to a connection.*share it under the same name"
        ):
            copied(shared)
