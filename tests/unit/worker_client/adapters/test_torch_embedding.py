"""``ParameterServerEmbedding`` is ``torch.nn.Embedding`` with its table on the ps tasks: same rows, same gradients."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import worker_client as ss
from ps_protocol.errors import (
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    ShapeMismatchError,
)
from tests.forked import in_child
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.client import Client
from worker_client.torch import ParameterServerEmbedding

START = np.random.default_rng(3).normal(size=(6, 3)).astype(np.float32)


def embedding(*, parts: int = 2, optimizer: Any = None, name: str = "words", **more: Any) -> ParameterServerEmbedding:
    given: dict[str, Any] = {"initializer": START, "partitioner": ss.fixed_size_partitioner(parts), **more}
    return ParameterServerEmbedding(6, 3, name, optimizer=optimizer or ss.train.GradientDescent(1.0), **given)


def reference(**more: Any) -> torch.nn.Embedding:
    table = torch.tensor(START)
    if more.get("padding_idx") is not None:
        table[more["padding_idx"]] = 0
    return torch.nn.Embedding.from_pretrained(table, freeze=False, **more)


def loss_of(found: torch.Tensor) -> torch.Tensor:
    """A loss whose gradient differs from element to element."""
    return (found * torch.arange(1.0, found.numel() + 1).reshape(found.shape)).sum()


IDS: dict[str, Any] = {
    "one": [4],
    "a scalar": 4,
    "repeated": [1, 5, 1, 1],
    "of three dimensions": [[[0, 1], [5, 0]], [[2, 2], [2, 1]]],
    "none": [],
    "none of two dimensions": [[], []],
    "of one part": [0, 1, 2],
}


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.parametrize("padding_idx", [None, 1, -1])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
def test_rows_and_steps_are_those_of_torch(ids: Any, parts: int, padding_idx: int | None, dtype: torch.dtype) -> None:
    ours, theirs = embedding(parts=parts, padding_idx=padding_idx), reference(padding_idx=padding_idx)
    sgd = torch.optim.SGD(theirs.parameters(), lr=1.0)
    for _ in range(2):
        of_ids = torch.tensor(ids, dtype=dtype)
        found, expected = ours(of_ids), theirs(of_ids)
        assert found.shape == expected.shape
        assert torch.equal(found, expected)
        loss_of(found).backward()
        sgd.zero_grad()
        loss_of(expected).backward()
        sgd.step()
        torch.testing.assert_close(ours.table(), theirs.weight.detach())


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_tables_of_other_floats(dtype: torch.dtype) -> None:
    start = torch.arange(18.0).reshape(6, 3).to(dtype)
    ours = ParameterServerEmbedding(
        6, 3, "words", optimizer=ss.train.GradientDescent(1.0), initializer=start, dtype=dtype
    )
    found = ours(torch.tensor([1, 5, 1]))
    assert found.dtype == dtype
    assert torch.equal(found, start[[1, 5, 1]])
    (found * 2).sum().backward()
    expected = start.clone()
    expected[1] -= 4
    expected[5] -= 2
    assert torch.equal(ours.table(), expected)


@pytest.mark.usefixtures("client")
def test_it_begins_with_normally_distributed_numbers_as_torch_does() -> None:
    table = ParameterServerEmbedding(200, 50, "words").table()
    assert abs(float(table.mean())) < 0.05
    assert abs(float(table.std()) - 1) < 0.05
    assert repr(ParameterServerEmbedding(200, 50, "words", padding_idx=-1)) == (
        "ParameterServerEmbedding(200, 50, 'words/weight', padding_idx=199)"
    )
    zeros = ParameterServerEmbedding(4, 2, "zeros", initializer=ss.zeros_initializer())
    assert not zeros.table().any()
    assert list(zeros.parameters()) == []


# -- exchanges ------------------------------------------------------------------------------------


def batches_of(cluster: InProcessCluster, call: Callable[[], object]) -> list[int]:
    before = cluster.batches()
    call()
    return [now - then for now, then in zip(cluster.batches(), before, strict=True)]


def test_a_batch_is_one_exchange_each_way_with_the_tasks_that_have_its_rows(
    client: Client, cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    adagrad = ss.train.Adagrad(0.1)
    words, tags = embedding(optimizer=adagrad), embedding(optimizer=adagrad, name="tags")
    (words(torch.tensor([0, 5])).sum() + tags(torch.tensor([0, 5])).sum()).backward()  # which makes slots
    ids = torch.tensor([0, 0, 5, 5, 5])
    asked: list[list[int]] = []
    gather = type(words.variable).gather

    def seen(variable: Any, rows: Any) -> Any:
        asked.append(rows.tolist())
        return gather(variable, rows)

    monkeypatch.setattr(type(words.variable), "gather", seen)
    assert batches_of(cluster, lambda: words(ids)) == [1, 1]
    assert asked == [[0, 5]]
    loss = words(ids).sum() + tags(ids).sum() + words(torch.tensor([1])).sum()
    assert batches_of(cluster, loss.backward) == [1, 1]  # of both tables together
    assert sorted(batches_of(cluster, lambda: words(torch.tensor([0])))) == [0, 1]
    assert batches_of(cluster, lambda: words(torch.tensor([], dtype=torch.int64)))[0] <= 1
    assert client.is_chief


@pytest.mark.usefixtures("client")
def test_a_table_that_is_used_twice_makes_one_step() -> None:
    ours, theirs = embedding(), reference()
    sgd = torch.optim.SGD(theirs.parameters(), lr=1.0)
    for _ in range(2):
        for table in (ours, theirs):
            loss_of(table(torch.tensor([1, 2])) * table(torch.tensor([[2, 2]]))).backward()
        sgd.step()
        sgd.zero_grad()
        torch.testing.assert_close(ours.table(), theirs.weight.detach())
    assert ours.optimizer is not None
    assert int(ours.optimizer.slots(ours.variable)["step"]) == 2


@pytest.mark.usefixtures("client")
def test_two_modules_of_one_name_have_one_table() -> None:
    optimizer = ss.train.GradientDescent(1.0)
    first, second = embedding(optimizer=optimizer), embedding(optimizer=optimizer, initializer=START + 1)
    assert torch.equal(first.table(), second.table())
    (first(torch.tensor([1])) + second(torch.tensor([1]))).sum().backward()
    np.testing.assert_allclose(second.table()[1], START[1] - 2, rtol=1e-6)
    assert int(optimizer.slots(first.variable)["step"]) == 1


# -- what trains, and what does not ---------------------------------------------------------------


@pytest.mark.parametrize("how", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_sent(client: Client, cluster: InProcessCluster, how: Callable[[], Any]) -> None:
    ours = embedding()
    with how():
        found = ours(torch.tensor([1, 2]))
        assert not found.requires_grad
    found = ours.eval()(torch.tensor([1, 2]))
    assert found.requires_grad  # as torch's
    [gradient] = torch.autograd.grad((found * 2).sum(), found)
    assert gradient.tolist() == [[2.0] * 3] * 2
    assert torch.equal(ours.table(), torch.tensor(START))
    ours.requires_grad_(False)
    assert not ours(torch.tensor([1])).requires_grad
    ours.requires_grad_()
    assert ours(torch.tensor([1])).requires_grad
    assert [each.name for each in client.variables()] == ["words/weight"]  # and no slots


@pytest.mark.usefixtures("client")
def test_a_backward_that_fails_leaves_nothing_behind() -> None:
    ours = embedding()
    other = torch.ones(3, requires_grad=True)

    def fail(gradient: torch.Tensor) -> None:
        raise ZeroDivisionError

    other.register_hook(fail)
    for _ in range(20):
        later = other * 1  # whose gradient comes behind that of the rows
        failing = ours(torch.tensor([1])) + later
        with pytest.raises(ZeroDivisionError):
            failing.sum().backward()
    assert ours._together is not None
    assert 1 <= len(ours._together._taken) <= 16
    ours(torch.tensor([2])).sum().backward()
    expected = START.copy()
    expected[2] -= 1
    np.testing.assert_allclose(ours.table(), expected, rtol=1e-6)


@pytest.mark.usefixtures("client")
def test_what_a_step_fails_with_comes_out_of_backward() -> None:
    ours = embedding()
    with pytest.raises(InvalidArgumentError, match=r"variable words/weight/part_0 .*of the gradient are not finite"):
        (ours(torch.tensor([1, 5])) * float("nan")).sum().backward()
    ours(torch.tensor([1])).sum().backward()
    np.testing.assert_allclose(ours.table()[1], START[1] - 1, rtol=1e-6)


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_under_checkpointing_each_gradient_counts_once(use_reentrant: bool) -> None:
    ours, theirs = embedding(), reference()
    again = torch.nn.Linear(3, 3)
    x = torch.ones(3, requires_grad=True)
    for table in (ours, theirs):
        found = checkpoint(lambda x, t=table: again(t(torch.tensor([1, 2])) * x), x, use_reentrant=use_reentrant)
        loss_of(found + table(torch.tensor([2, 3]))).backward()
    assert theirs.weight.grad is not None
    torch.testing.assert_close(ours.table(), theirs.weight.detach() - theirs.weight.grad)


@pytest.mark.usefixtures("client")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # of the compiler
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_the_reads_are_outside_of_what_is_compiled(backend: str) -> None:
    def model_of(table: Any) -> Any:
        return torch.nn.Sequential(table, torch.nn.Flatten(), torch.nn.Linear(6, 1))

    torch.manual_seed(0)
    plain = model_of(reference())
    compiled = model_of(embedding())
    compiled[2].load_state_dict(plain[2].state_dict())
    torch._dynamo.reset()
    for ids in ([[1, 2]], [[1, 1], [5, 0]]):
        expected = plain(torch.tensor(ids))
        found = torch.compile(compiled, backend=backend)(torch.tensor(ids))
        torch.testing.assert_close(found, expected)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(compiled[0].table(), plain[0].weight.detach() - plain[0].weight.grad)
    explained = torch._dynamo.explain(compiled)(torch.tensor([[1, 2]]))
    assert explained.graph_break_count <= 1


@pytest.mark.usefixtures("client")
def test_bags_are_made_of_what_it_returns() -> None:
    ours, theirs = embedding(), torch.nn.EmbeddingBag.from_pretrained(torch.tensor(START), freeze=False, mode="mean")
    ids, offsets = torch.tensor([1, 2, 2, 5, 0]), torch.tensor([0, 2, 2])
    found = torch.nn.functional.embedding_bag(torch.arange(5), ours(ids), offsets, mode="mean")
    expected = theirs(ids, offsets)
    torch.testing.assert_close(found, expected)
    loss_of(found).backward()
    loss_of(expected).backward()
    assert theirs.weight.grad is not None
    torch.testing.assert_close(ours.table(), theirs.weight.detach() - theirs.weight.grad)


@pytest.mark.usefixtures("client")
def test_a_default_device_is_none_of_its_business() -> None:
    """As a GPU, or as here none, on which a model may be made."""
    optimizer = ss.train.GradientDescent(1.0, sync="bsp")
    ids = torch.tensor([[1, 2], [2, 0]])
    with torch.device("meta"):
        ours, other = embedding(optimizer=optimizer, padding_idx=2), embedding(optimizer=optimizer, name="other")
        found = ours(ids) * ours(ids[:1])
        assert found.device.type == "cpu"
        found.sum().backward()
        assert torch.equal(other.table(), torch.tensor(START, device="cpu"))
        assert ours.table().device.type == "cpu"
    np.testing.assert_allclose(ours.table()[1], -START[1], rtol=1e-6)


# -- rounds ---------------------------------------------------------------------------------------


def test_in_rounds_the_first_gradient_is_of_the_newest_model(cluster: InProcessCluster) -> None:
    def on(index: int) -> ParameterServerEmbedding:
        return embedding(optimizer=ss.train.GradientDescent(1.0, sync="bsp"), client=cluster.client(index))

    first, second = on(0), on(1)
    for _ in range(3):
        first(torch.tensor([1])).sum().backward()
    assert first.optimizer is not None
    first.optimizer.finish()
    found = second(torch.tensor([1]))  # which enters them, so that it is known of which model it is
    assert second.optimizer is not None
    assert second.optimizer.training_report().round == 3
    found.sum().backward()
    np.testing.assert_allclose(second.table()[1], START[1] - 4, rtol=1e-6)
    assert second.optimizer.training_report().round == 4


@pytest.mark.usefixtures("client")
def test_in_rounds_all_tables_of_an_optimizer_have_a_gradient_each_time() -> None:
    optimizer = ss.train.GradientDescent(1.0, sync="bsp")
    words, tags = embedding(optimizer=optimizer), embedding(optimizer=optimizer, name="tags")
    for _ in range(2):
        words(torch.tensor([1])).sum().backward()
        (words(torch.tensor([1])) + tags(torch.tensor([2]))).sum().backward()
    np.testing.assert_allclose(words.table()[1], START[1] - 4, rtol=1e-6)
    np.testing.assert_allclose(tags.table()[2], START[2] - 2, rtol=1e-6)
    assert optimizer.training_report().round == 4
    assert torch.equal(embedding(optimizer=optimizer).table(), words.table())  # the same once more
    with pytest.raises(
        InvalidArgumentError,
        match=r"GradientDescent trains words/weight, tags/weight in rounds already, and cannot train more/weight",
    ):
        embedding(optimizer=optimizer, name="more")


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [[1, 6], [[-1]], [2, 600]])
def test_an_id_that_is_no_row_is_named_with_the_table(client: Client, cluster: InProcessCluster, ids: Any) -> None:
    ours = embedding()
    wrong = min(ids[0] if isinstance(ids[0], list) else ids, key=lambda each: 0 <= each < 6)

    def read() -> None:
        with pytest.raises(IndexError, match=rf"id {wrong} is out of range: table words/weight has the rows 0 to 5"):
            ours(torch.tensor(ids))

    with pytest.raises(IndexError):
        reference()(torch.tensor(ids))
    assert batches_of(cluster, read) == [0, 0]


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "max_norm": ({"max_norm": 1.0}, InvalidArgumentError, r'table words: max_norm.*constraint=\("max_norm", 1\.0, 1\)'),
    "no padding": ({"padding_idx": 1.5}, InvalidArgumentError, r"padding_idx is 1\.5; give a whole number, or None"),
    "padding": ({"padding_idx": 6}, InvalidArgumentError, "table words: padding_idx is 6, which is none of its 6 rows"),
    "integers": ({"dtype": torch.int64}, DTypeMismatchError, r"table words: dtype is torch\.int64.*holds floats"),
    "complex": ({"dtype": torch.complex64}, DTypeMismatchError, "holds floats"),
    "an initial value": (
        {"initializer": START[:5]},
        ShapeMismatchError,
        r"has the shape \[5, 3\]; it should be \[6, 3",
    ),
    "an optimizer of torch": (
        {"optimizer": torch.optim.SGD([torch.ones(1, requires_grad=True)], 0.1)},
        InvalidArgumentError,
        r"table words: optimizer= should be one of ss\.train.* not SGD",
    ),
    "copies": ({"optimizer": ss.train.Adam(0.1, sync="local(4)")}, InvalidArgumentError, r"local\(4\).*torch\.nn\.Emb"),
}


@pytest.mark.parametrize(("given", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_it_cannot_be_is_refused(
    client: Client, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        embedding(**given)
    assert client.variables() == []


def test_other_refusals(client: Client) -> None:
    for sizes in ((0, 3), (3, -1), (2.0, 3), (True, 3)):
        with pytest.raises(InvalidArgumentError, match=r"table words: the sizes are .*positive whole numbers"):
            ParameterServerEmbedding(sizes[0], sizes[1], "words")  # type: ignore[arg-type] # which is what is tested
    with pytest.raises(InvalidArgumentError, match="a table needs a name"):
        ParameterServerEmbedding(2, 3, "")
    ours = embedding()
    with pytest.raises(ValueError, match=r"words/weight.*\[7, 3\].*\[6, 3\]"):
        ParameterServerEmbedding(7, 3, "words", partitioner=ss.fixed_size_partitioner(2))
    for ids in (torch.ones(2), torch.tensor([True]), [1, 2]):
        with pytest.raises(
            DTypeMismatchError, match=r"table words/weight takes a tensor of ids of int64 or int32, not"
        ):
            ours(ids)
    for copied in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"'words/weight' is bound to a connection.*state_dict\(\)"):
            copied(ours)
    assert client.is_chief


@pytest.mark.usefixtures("client")
def test_a_forked_process_as_of_a_loader_cannot_read_it() -> None:
    ours = embedding()

    def read() -> str:
        with pytest.raises(FailedPreconditionError) as caught:
            ours(torch.tensor([1]))
        return str(caught.value)

    assert re.search(r"belongs to the process that opened it.*forked", in_child(read))


@pytest.mark.usefixtures("client")
def test_the_remedy_for_max_norm_keeps_it() -> None:
    ours = embedding(optimizer=ss.train.GradientDescent(1.0, constraint=("max_norm", 1.0, 1)))
    (ours(torch.tensor([1, 4])) * 10).sum().backward()
    norms = ours.table().norm(dim=1)
    assert norms[[1, 4]].tolist() == pytest.approx([1.0, 1.0], rel=1e-5)
    assert float(norms.max()) < 1.00001


@pytest.mark.usefixtures("client")
def test_without_an_optimizer_there_must_be_a_shared_model() -> None:
    ours = ParameterServerEmbedding(6, 3, "words")
    with pytest.raises(
        FailedPreconditionError, match=r"table words/weight has a gradient, but neither an optimizer nor"
    ):
        ours(torch.tensor([1])).sum().backward()
    ours.requires_grad_(False)
    dense = torch.nn.Linear(3, 1)
    dense(ours(torch.tensor([1]))).sum().backward()
    assert dense.weight.grad is not None
