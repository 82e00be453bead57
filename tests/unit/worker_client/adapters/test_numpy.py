"""Nested arrays of NumPy that workers share: in place, in every kind of container, and errors."""

from __future__ import annotations

import pickle
import types
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import shardscope as ss
from ps_protocol.errors import DTypeMismatchError, FailedPreconditionError, InvalidArgumentError
from tests.unit.worker_client.adapters.trees import (
    RATE,
    STEPS,
    TIMEOUT_S,
    Array,
    Block,
    FrozenBlock,
    Layer,
    assert_close,
    descended,
    descent,
    gradients,
    params,
)
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from worker_client.adapters.parameter_trees import ParameterTree


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: SmallCluster) -> ss.Client:
    return cluster.client()


def w() -> Array:
    return np.arange(6, dtype=np.float32).reshape(2, 3)


def b() -> Array:
    return np.ones(3, np.float32)


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        ({"dense": {"w": w(), "b": b()}}, ["dense/w", "dense/b"]),
        (OrderedDict(b=b(), a=w()), ["b", "a"]),
        ([w(), (b(), None, w())], ["0", "1/0", "1/2"]),
        (Layer(w(), Layer(w(), b())), ["w", "b/w", "b/b"]),
        (Block(w(), [b()]), ["first", "second/0"]),
        ({"k": FrozenBlock(w())}, ["k/first"]),
        ({3: w(), "b/c": b()}, ["3", "b/c"]),
        ({"value": w(), "other": b()}, ["value", "other"]),
        (w(), ["value"]),
    ],
    ids=lambda each: type(each).__name__,
)
def test_the_callers_own_arrays_hold_what_is_shared(client: ss.Client, tree: Any, names: list[str]) -> None:
    leaves = ParameterTree(tree, "params").leaves
    before = [leaf.copy() for leaf in leaves]
    shared = ss.numpy.share(tree, "net", optimizer=descent(), client=client)
    assert list(shared.variables) == names
    assert {each.whole_spec.name for each in shared.variables.values()} == {f"net/{name}" for name in names}
    assert shared.pull() is tree
    shared.push(ParameterTree(tree, "params").rebuilt([np.ones_like(leaf) for leaf in leaves]))
    assert shared.pull() is tree
    for leaf, value in zip(leaves, before, strict=True):
        np.testing.assert_array_equal(leaf, value - RATE)


@pytest.mark.parametrize(
    "tree",
    [
        {"a": 1, "b": [2, (3, None)]},
        OrderedDict(a=1),
        defaultdict(int, a=1),
        types.MappingProxyType({"a": 1}),
        Layer(1, [2]),
        Block(1, Layer(2, 3)),
        FrozenBlock([1]),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_structure_is_built_again_of_the_same_kinds(tree: Any) -> None:
    found, before = ParameterTree(tree, "params"), repr(tree)
    assert found.rebuilt(found.leaves) == tree
    assert type(found.rebuilt(found.leaves)) is type(tree)
    tens = found.rebuilt([10 * leaf for leaf in found.leaves])
    assert ParameterTree(tens, "params").leaves == tuple(10 * leaf for leaf in found.leaves)
    assert repr(tree) == before


def test_steps_are_those_of_gradient_descent(client: ss.Client) -> None:
    shared = ss.numpy.share(params(), "net", optimizer=descent(), client=client)
    for step in range(STEPS):
        shared.push(gradients(0, step))
    assert_close(shared.pull(), descended(1, RATE))


def test_without_an_optimizer_deltas_are_added(client: ss.Client) -> None:
    mine = {"w": w(), "count": np.zeros(2, np.int64)}
    shared = ss.numpy.share(mine, "net", client=client)
    assert shared.push({"w": np.full([2, 3], 0.25, np.float32), "count": np.array([1, 2])}) == []
    shared.pull()
    np.testing.assert_array_equal(mine["w"], w() + 0.25)
    np.testing.assert_array_equal(mine["count"], [1, 2])


def test_what_has_no_gradient_does_not_change(client: ss.Client) -> None:
    mine = {"a": w(), "b": [b(), b()]}
    shared = ss.numpy.share(mine, "net", optimizer=descent(), client=client)
    shared.push({"a": None, "b": [b(), None]})
    shared.pull()
    np.testing.assert_array_equal(mine["a"], w())
    np.testing.assert_array_equal(mine["b"], [b() - RATE, b()])


@pytest.mark.parametrize(
    ("tree", "error", "message"),
    [
        ({}, InvalidArgumentError, "params hold no arrays: there is nothing to share"),
        ({"a": None}, InvalidArgumentError, "params hold no arrays"),
        ({"a": {"b c": w()}}, InvalidArgumentError, "params have the key 'b c' on the way to 'a/b c'"),
        ({"a": {"": w()}}, InvalidArgumentError, "no empty keys"),
        ({"": w()}, InvalidArgumentError, "no empty keys"),
        ({"a/b": w(), "a": {"b": b()}}, InvalidArgumentError, "two leaves that are called a/b; rename one"),
        ({"a": {"b": 1.5}}, InvalidArgumentError, "parameter a/b is a float, into which nothing can be read"),
        ({"a": [1, 2]}, InvalidArgumentError, "parameter a/0 is a int"),
        ({"a": np.broadcast_to(b(), [2, 3])}, InvalidArgumentError, "parameter a is a read-only array"),
        ({"a": np.arange(3)}, DTypeMismatchError, "parameter a holds int64, and an optimizer changes float16"),
        ({"a": b() * 1j}, DTypeMismatchError, "parameter a holds complex64"),
    ],
    ids=lambda each: str(type(each).__name__),
)
def test_what_cannot_be_shared_is_refused_by_its_name(
    client: ss.Client, tree: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ss.numpy.share(tree, "net", optimizer=descent(), client=client)
    assert client.variables() == []
    ss.numpy.share({"a": w()}, "net", optimizer=descent(), client=client)  # the name is free


@pytest.mark.parametrize("optimizer", [None, descent()])
@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.ones(3, ">f4"), "an array of float32 in foreign byte order"),
        (np.ma.ones(3), "a masked array"),
        (np.array([1.0, None]), "an array of object"),
        (np.array(["a"]), "an array of str32"),
        (np.array(["2020-01-01"], "M8[D]"), r"an array of datetime64\[D\]"),
    ],
)
def test_what_no_variable_can_be_is_refused_before_any_is_made(
    client: ss.Client, optimizer: Any, array: Array, what: str
) -> None:
    with pytest.raises(DTypeMismatchError, match=f"net: parameter a is {what}, which no variable can be; convert it"):
        ss.numpy.share({"w": w(), "a": array}, "net", optimizer=optimizer, client=client)
    assert client.variables() == []


def test_a_scope_that_cuts_variables_cuts_those_of_a_model(client: ss.Client) -> None:
    mine = {"w": w(), "scale": np.array(2.0), "none": np.zeros([0, 2])}
    with client.as_default(), ss.variable_scope("team", partitioner=ss.fixed_size_partitioner(2)):
        shared = ss.numpy.share(mine, "net", client=client)
    assert [isinstance(each, ss.PartitionedVariable) for each in shared.variables.values()] == [True, False, False]
    shared.push({"w": np.ones_like(w()), "scale": 1.0, "none": None})
    shared.pull()
    np.testing.assert_array_equal(mine["w"], w() + 1)
    assert mine["scale"] == 3.0


def test_deltas_have_no_learning_rate(client: ss.Client) -> None:
    shared = ss.numpy.share({"w": w()}, "net", client=client)
    with pytest.raises(FailedPreconditionError, match="shared without an optimizer, and so has no learning_rate"):
        shared.push({"w": w()}, learning_rate=0.1)
    np.testing.assert_array_equal(shared.pull(fresh=True)["w"], w())


def test_a_tree_that_holds_itself_is_refused(client: ss.Client) -> None:
    tree: dict[str, Any] = {"w": w()}
    tree["again"] = tree
    with pytest.raises(InvalidArgumentError, match="params are nested too deeply, or hold themselves"):
        ss.numpy.share(tree, "net", optimizer=descent(), client=client)
    shared = ss.numpy.share({"w": w()}, "net", optimizer=descent(), client=client)
    with pytest.raises(InvalidArgumentError, match="the gradients of net are nested too deeply"):
        shared.push(tree)


def test_one_array_in_two_places_is_refused(client: ss.Client) -> None:
    tied = w()
    with pytest.raises(InvalidArgumentError, match=r"net/a.*net/b"):
        ss.numpy.share({"a": tied, "b": tied}, "net", optimizer=descent(), client=client)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"a": w(), "b": [b()]}, "the gradients of net lack b/1; give one for each of the 3 parameters"),
        ({"a": w(), "b": [b(), b()], "z": {"q": b()}}, "the gradients of net have z/q besides"),
        ({"a": w().T, "b": [b(), b()]}, r"the gradient of variable net/a .* has the shape \[3, 2\]"),
        ({"a": np.full([2, 3], np.nan), "b": [b(), b()]}, "net/a"),
        (w(), "the gradients of net lack a, b/0, b/1 and have value besides"),
        ({"a": w(), "b": [b(), b()], "b/0": b()}, "the gradients of net have two leaves that are called b/0; rename"),
    ],
)
def test_gradients_that_do_not_fit_change_nothing(client: ss.Client, wrong: Any, message: str) -> None:
    mine = {"a": w(), "b": [b(), b()]}
    shared = ss.numpy.share(mine, "net", optimizer=descent(on_nonfinite="refuse"), client=client)
    with pytest.raises(ss.errors.ShardscopeError, match=message):
        shared.push(wrong)
    shared.pull(fresh=True)
    np.testing.assert_array_equal(mine["a"], w())


@pytest.mark.parametrize("path", ["w", "rest", "rest/0", "rest/1/first"])
def test_arrays_that_others_have_taken_the_place_of_are_noticed(client: ss.Client, path: str) -> None:
    mine: Any = {"w": w(), "rest": [b(), Block(w(), None)]}
    shared = ss.numpy.share(mine, "net", optimizer=descent(), client=client)
    shared.push({"w": w(), "rest": [b(), Block(w(), None)]})
    shared.pull()
    if path in mine:
        mine[path] = 2 * mine[path]
    elif path == "rest/0":
        mine["rest"][0] = b()
    else:
        mine["rest"][1].first = w()
    with pytest.raises(FailedPreconditionError, match=f"net: {path} is no longer what was shared.*write into the"):
        shared.pull()


def test_a_late_worker_begins_where_the_others_are(cluster: SmallCluster) -> None:
    first = ss.numpy.share({"w": w()}, "net", optimizer=descent(), client=cluster.client(0))
    first.push({"w": np.ones_like(w())})
    mine = {"w": w() * 100}
    ss.numpy.share(mine, "net", optimizer=descent(), client=cluster.client(1))
    np.testing.assert_array_equal(mine["w"], w() - RATE)


def test_a_model_that_does_not_match_is_told_all_that_differs(cluster: SmallCluster) -> None:
    ss.numpy.share({"a": w(), "b": b(), "c": b()}, "net", optimizer=descent(), client=cluster.client(0))
    other = cluster.client(1)
    with pytest.raises(
        InvalidArgumentError,
        match=r"only in the cluster: c \(float32 \[3\]\); only in this model: d \(float32 \[3\]\); different: "
        r"a is float32 \[3, 2\] here and float32 \[2, 3\] there; nothing was declared",
    ):
        ss.numpy.share({"a": w().T.copy(), "b": b(), "d": b()}, "net", optimizer=descent(), client=other)
    assert {each.name for each in other.variables()} == {"net/a", "net/b", "net/c"}


def test_in_rounds_three_workers_are_one_with_all_batches(cluster: SmallCluster) -> None:
    def work(index: int) -> Any:
        shared = ss.numpy.share(params(), "net", optimizer=descent(), sync="bsp(total=3)", client=cluster.client(index))
        for step in range(STEPS):
            shared.pull()
            shared.push(gradients(index, step))
        return shared.pull()

    with ThreadPoolExecutor(3) as pool:
        for each in [pool.submit(work, index) for index in range(3)]:
            assert_close(each.result(TIMEOUT_S), descended(3, RATE))


def test_with_overlap_the_next_pull_shows_the_step(client: ss.Client) -> None:
    mine = {"w": w()}
    with ss.numpy.share(mine, "net", optimizer=descent(), overlap=True, client=client) as shared:
        for number in range(1, 4):
            assert shared.push({"w": np.ones_like(w())}) == []
            shared.pull()
            np.testing.assert_array_equal(mine["w"], w() - number * RATE)
        shared.push({"w": np.full([2, 3], np.inf)})
        with pytest.raises(InvalidArgumentError, match="net/w"):
            shared.pull()
        shared.pull()
        np.testing.assert_array_equal(mine["w"], w() - 3 * RATE)


def test_a_model_is_bound_to_its_process_and_to_its_block(client: ss.Client) -> None:
    with ss.numpy.share({"w": w()}, "net", optimizer=descent(), client=client) as shared:
        with pytest.raises(TypeError, match="SharedTree"):
            pickle.dumps(shared)
        with pytest.raises(InvalidArgumentError, match="shares a model called net already"):
            ss.numpy.share({"w": w()}, "net", optimizer=descent(), client=client)
    with pytest.raises(FailedPreconditionError, match="net is closed"):
        shared.push({"w": w()})


def test_weights_and_biases_are_spread_over_the_ps_tasks_by_their_bytes(client: ss.Client) -> None:
    layers = [{"w": np.zeros([16, 16], np.float32), "b": np.zeros(16, np.float32)} for _ in range(4)]
    shared = ss.numpy.share(layers, "net", optimizer=descent(), client=client)
    of_each = dict.fromkeys(["/job:ps/task:0", "/job:ps/task:1"], 0)
    for variable in shared.variables.values():
        assert isinstance(variable, ss.Variable)
        of_each[variable.device] += variable.nbytes
    assert of_each["/job:ps/task:0"] == of_each["/job:ps/task:1"]
    assert list(shared.variables) == [f"{number}/{key}" for number in range(4) for key in "wb"]
