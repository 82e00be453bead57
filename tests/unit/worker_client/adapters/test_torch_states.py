"""States of shared modules: as dictionaries of PyTorch's, and as files that from_pretrained reads."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

import worker_client as ss
from ps_protocol.errors import AlreadyExistsError, DataLossError, InvalidArgumentError, NotFoundError
from tests.unit.worker_client.adapters.test_torch_modules import KINDS, Tied, assert_same, backward
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client import torch as ss_torch
from worker_client.client import Client


class Net(nn.Module):
    """Something of every kind: frozen and trained, several dtypes, a tied weight, buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.body.to(memory_format=torch.channels_last)
        self.low = nn.Linear(3, 2, dtype=torch.bfloat16)
        self.tied = Tied()
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


class Counting(nn.Module):
    """Has something in its state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = [1]

    def get_extra_state(self) -> Any:
        return {"calls": self.calls}

    def set_extra_state(self, state: Any) -> None:
        self.calls = state["calls"]


def share(client: Client, model: nn.Module, **more: Any) -> ss_torch.SharedModule:
    with client.as_default():
        return ss_torch.share(model, "net", optimizer=ss.train.GradientDescent(0.1), **more)


def filled(model: nn.Module, value: float) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(each, value).clone() for name, each in model.state_dict().items()}


class TestStateDict:
    @pytest.mark.parametrize("buffers", ["local", "chief"])
    def test_it_has_torchs_names_and_the_values_of_the_cluster(self, client: Client, buffers: Any) -> None:
        model = Net()
        shared = share(client, model, buffers=buffers)
        expected = copy.deepcopy(model.state_dict())
        shared.variables["low/bias"].assign([7, 8])
        expected["low.bias"] = torch.tensor([7, 8], dtype=torch.bfloat16)
        state = ss_torch.state_dict(shared)
        assert list(state) == list(expected)
        for name, each in expected.items():
            torch.testing.assert_close(state[name], each, msg=name)
        assert model.low.bias.tolist() != [7, 8]  # only a pull changes the model
        assert state["tied.embed.weight"] is state["tied.out.weight"]

    def test_it_is_nobody_elses(self, client: Client) -> None:
        model = Net()
        shared = share(client, model)
        before = copy.deepcopy(model.state_dict())
        for each in ss_torch.state_dict(shared).values():
            each.zero_()
        shared.pull(fresh=True)
        for name, each in model.state_dict().items():
            torch.testing.assert_close(each, before[name], msg=name)

    def test_by_its_name_alone(self, client: Client, cluster: InProcessCluster) -> None:
        model = Net()
        shared = share(client, model, buffers="chief")
        backward(model.low, torch.ones(2, 3, dtype=torch.bfloat16))
        shared.step()
        state = ss_torch.state_dict("net", client=cluster.client(1))
        expected = ss_torch.state_dict(shared)
        assert set(expected) - set(state) == {"frozen.weight", "frozen.bias", "tied.out.weight"}
        for name, each in state.items():
            torch.testing.assert_close(each, expected[name], msg=name)

    def test_of_a_name_that_is_not_there(self, client: Client) -> None:
        with (
            client.as_default(),
            pytest.raises(NotFoundError, match=r"the cluster has no variables under nothing; .*ls"),
        ):
            ss_torch.state_dict("nothing")

    @pytest.mark.parametrize("kind", KINDS)
    def test_of_each_kind_of_parameter_there_and_back(self, client: Client, kind: str) -> None:
        make, batch = KINDS[kind]
        model = make()
        shared = share(client, model)
        backward(model, batch())
        shared.step()
        saved = ss_torch.state_dict(shared)
        backward(model, batch())
        shared.step()
        assert ss_torch.load_state_dict(shared, saved) == ([], [])
        shared.pull()
        alone = make()
        alone.load_state_dict(saved)
        assert_same(model, alone)
        again = ss_torch.state_dict(shared)
        for name, each in saved.items():
            torch.testing.assert_close(again[name], each, msg=name)


class TestLoading:
    @pytest.mark.parametrize("buffers", ["local", "mean", "chief"])
    def test_the_cluster_and_the_module_have_it(self, client: Client, cluster: InProcessCluster, buffers: Any) -> None:
        model, theirs = Net(), Net()
        shared, other = share(client, model, buffers=buffers), share(cluster.client(1), theirs, buffers=buffers)
        ss_torch.load_state_dict(shared, filled(model, 3.0))
        other.pull()
        shared.pull()
        for name, each in model.state_dict().items():
            assert bool((each == 3).all()), name
        follow = [name for name in other.variables if buffers != "local" or "running" not in name]
        for name in follow:
            assert bool((theirs.state_dict()[name.replace("/", ".")] == 3).all()), name
        assert not bool((theirs.frozen.weight == 3).all())  # nothing that is not shared

    def test_what_does_not_fit_is_listed_and_nothing_is_changed(self, client: Client) -> None:
        model = nn.Linear(3, 2)
        shared = share(client, model)
        before = copy.deepcopy(model)
        with pytest.raises(InvalidArgumentError) as caught:
            ss_torch.load_state_dict(shared, {"weight": torch.ones(2, 4), "more": torch.ones(1)})
        assert str(caught.value).startswith(
            'Error(s) in loading state_dict for net: Unexpected key(s) in state_dict: "more". Missing key(s) in '
            'state_dict: "bias". size mismatch for weight: the state has the shape [2, 4], the model [2, 3]. Nothing'
        )
        with pytest.raises(InvalidArgumentError, match="size mismatch for weight"):
            ss_torch.load_state_dict(shared, {"weight": torch.ones(2, 4), "bias": torch.ones(2)}, strict=False)
        assert_same(model, before)
        assert shared.variables["bias"].read_value().tolist() == before.bias.tolist()

    @pytest.mark.parametrize(
        ("bias", "message"),
        [
            ([1.0, 2.0], "bias is a list; it should be a tensor"),
            (None, "bias is a NoneType"),
            (torch.ones(2).numpy(), r"bias is a ndarray; it should be a tensor, as of torch\.as_tensor"),
            (torch.ones(2).to_sparse(), "bias is on the device cpu with the layout torch.sparse_coo"),
            (torch.ones(2, device="meta"), "bias is on the device meta"),
            (torch.ones(2, dtype=torch.complex64), r"bias is torch\.complex64, the model's torch\.float32"),
        ],
        ids=["list", "none", "array", "sparse", "meta", "complex"],
    )
    def test_what_is_no_tensor_that_fits_is_listed_and_nothing_is_changed(
        self, client: Client, bias: Any, message: str
    ) -> None:
        model = nn.Linear(3, 2)
        shared = share(client, model)
        before = copy.deepcopy(model)
        with pytest.raises(InvalidArgumentError, match=f"{message}.* Nothing changed"):
            ss_torch.load_state_dict(shared, {"weight": torch.ones(2, 3), "bias": bias})
        assert_same(model, before)

    @pytest.mark.parametrize("state", [5, {1: torch.ones(2)}, None])
    def test_what_is_no_state_is_refused(self, client: Client, state: Any) -> None:
        with pytest.raises(InvalidArgumentError, match="net: a state is a dictionary of tensors by the names"):
            ss_torch.load_state_dict(share(client, nn.Linear(3, 2)), state)

    def test_what_a_module_says_besides_goes_there_and_back(self, client: Client, tmp_path: Path) -> None:
        model = nn.Sequential(nn.Linear(3, 2), Counting())
        shared = share(client, model)
        state = ss_torch.state_dict(shared)
        assert state["1._extra_state"] == {"calls": [1]}
        model[1].calls.append(2)
        assert ss_torch.load_state_dict(shared, state) == ([], [])
        assert model[1].calls == [1]
        with pytest.raises(InvalidArgumentError, match=r"1\._extra_state is a dict.*torch\.save"):
            ss_torch.save_pretrained(shared, tmp_path)

    def test_not_strictly_it_says_what_was_left(self, client: Client) -> None:
        model = nn.Linear(3, 2)
        shared = share(client, model)
        keys = ss_torch.load_state_dict(shared, {"bias": torch.ones(2), "more": torch.ones(1)}, strict=False)
        assert (keys.missing_keys, keys.unexpected_keys) == (["weight"], ["more"])
        assert shared.variables["bias"].read_value().tolist() == model.bias.tolist() == [1, 1]

    def test_a_compiled_model_takes_names_with_and_without(self, client: Client) -> None:
        model = nn.Linear(3, 2)
        compiled: Any = torch.compile(model, backend="eager")
        shared = share(client, compiled)
        for state in (filled(compiled, 1.0), filled(model, 2.0)):
            assert ss_torch.load_state_dict(shared, state) == ([], [])
        assert model.bias.tolist() == [2, 2]

    def test_one_name_of_a_parameter_with_several_is_enough(self, client: Client) -> None:
        model = Tied()
        shared = share(client, model)
        assert ss_torch.load_state_dict(shared, {"out.weight": torch.ones(6, 4)}) == ([], [])
        assert bool((torch.from_numpy(shared.variables["embed/weight"].read_value()) == 1).all())


class TestFiles:
    def test_hugging_faces_library_reads_it(self, client: Client, tmp_path: Path) -> None:
        model = Net()
        shared = share(client, model)
        shared.variables["low/bias"].assign([7, 8])
        assert ss_torch.save_pretrained(shared, tmp_path / "new") == [tmp_path / "new" / "model.safetensors"]
        path = tmp_path / "new" / "model.safetensors"
        with safe_open(path, "pt") as opened:
            assert opened.metadata() == {"format": "pt"}
        other = Net()
        missing, unexpected = safetensors.torch.load_model(other, path)
        assert (missing, unexpected) == (set(), [])
        shared.pull(fresh=True)
        for name, each in other.state_dict().items():
            torch.testing.assert_close(each, model.state_dict()[name], msg=name)

    @pytest.mark.parametrize("where", ["folder", "file"])
    def test_what_hugging_faces_library_writes_is_read(self, client: Client, tmp_path: Path, where: str) -> None:
        model, other = Net(), Net()
        path = tmp_path / "model.safetensors"
        safetensors.torch.save_model(other, str(path))
        shared = share(client, model)
        assert ss_torch.load_pretrained(shared, path if where == "file" else tmp_path) == ([], [])
        shared.pull(fresh=True)
        for name, each in model.state_dict().items():
            torch.testing.assert_close(each, other.state_dict()[name], msg=name)

    def test_large_models_have_several_files_with_an_index(self, client: Client, tmp_path: Path) -> None:
        shared = share(client, Net())
        *files, index = ss_torch.save_pretrained(shared, tmp_path, shard_bytes=64)
        assert len(files) > 2
        assert index == tmp_path / "model.safetensors.index.json"
        assert set(json.loads(index.read_text())["weight_map"].values()) == {each.name for each in files}
        before = ss_torch.state_dict(shared)
        ss_torch.load_state_dict(shared, filled(shared.module, 2.0))
        ss_torch.load_pretrained(shared, tmp_path)
        for name, each in ss_torch.state_dict(shared).items():
            torch.testing.assert_close(each, before[name], msg=name)

    def test_the_configuration_of_a_model_saves_itself(self, client: Client, tmp_path: Path) -> None:
        class Config:
            def save_pretrained(self, folder: str) -> None:
                (Path(folder) / "config.json").write_text("{}")

        model = nn.Linear(3, 2)
        model.config = Config()
        ss_torch.save_pretrained(share(client, model), tmp_path)
        assert (tmp_path / "config.json").read_text() == "{}"

    def test_by_its_name_alone(self, client: Client, tmp_path: Path) -> None:
        model = nn.Linear(3, 2)
        share(client, model)
        ss_torch.save_pretrained("net", tmp_path, client=client)
        assert set(safetensors.torch.load_file(tmp_path / "model.safetensors")) == {"weight", "bias"}

    def test_what_is_there_is_replaced_only_if_that_is_said(self, client: Client, tmp_path: Path) -> None:
        shared = share(client, nn.Linear(3, 2))
        ss_torch.save_pretrained(shared, tmp_path)
        with pytest.raises(AlreadyExistsError):
            ss_torch.save_pretrained(shared, tmp_path)
        ss_torch.save_pretrained(shared, tmp_path, overwrite=True)

    @pytest.mark.parametrize(
        ("damage", "error"),
        [
            (lambda path: path.unlink(), NotFoundError),
            (lambda path: path.write_bytes(path.read_bytes()[:-4]), DataLossError),
        ],
        ids=["missing", "cut"],
    )
    def test_a_file_that_is_not_whole_changes_nothing(
        self, client: Client, tmp_path: Path, damage: Callable[[Path], Any], error: type[Exception]
    ) -> None:
        model = nn.Linear(3, 2)
        shared = share(client, model)
        before = copy.deepcopy(model)
        ss_torch.save_pretrained(shared, tmp_path)
        damage(tmp_path / "model.safetensors")
        with pytest.raises(error, match=r"model\.safetensors"):
            ss_torch.load_pretrained(shared, tmp_path)
        assert_same(model, before)
