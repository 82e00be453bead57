"""Pytrees of JAX that workers share: names, kinds of containers and dtypes, values that never change, and errors."""

from __future__ import annotations

import dataclasses
import pickle
import tracemalloc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shardscope as ss
from ps_protocol.errors import DTypeMismatchError, FailedPreconditionError, InvalidArgumentError, ValueRangeError
from tests.unit.worker_client.adapters.trees import (
    RATE,
    STEPS,
    TIMEOUT_S,
    Layer,
    assert_close,
    descended,
    descent,
    flat,
    gradients,
    params,
)
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from worker_client.adapters.jax_trees import JaxCopies, first_value, updates_of


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: SmallCluster) -> ss.Client:
    return cluster.client()


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Registered:
    """A dataclass that JAX knows."""

    kernel: Any
    bias: Any


@jax.tree_util.register_pytree_node_class
class Custom:
    """A node that says nothing of its keys, and has something that is no array."""

    def __init__(self, first: Any, second: Any, units: str):
        self.first, self.second, self.units = first, second, units

    def tree_flatten(self) -> Any:
        return (self.first, self.second), self.units

    @classmethod
    def tree_unflatten(cls, units: str, leaves: Any) -> Custom:
        first, second = leaves
        return cls(first, second, units)


class Keyed:
    """A node with keys of its own, as those of Flax."""

    def __init__(self, value: Any):
        self.value = value


jax.tree_util.register_pytree_with_keys(
    Keyed, lambda each: (((jax.tree_util.GetAttrKey("value"), each.value),), None), lambda _, leaves: Keyed(*leaves)
)

W: Final = np.arange(6, dtype=np.float32).reshape(2, 3)
B: Final = np.ones(3, np.float32)


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        ({"dense": {"w": W, "b": B}}, ["dense/b", "dense/w"]),  # JAX has dictionaries in the order of their keys
        ([W, (B, None, W)], ["0", "1/0", "1/2"]),
        (Layer(W, Layer(W, B)), ["w", "b/w", "b/b"]),
        (Registered(W, B), ["kernel", "bias"]),
        (Custom(W, B, "m"), ["0", "1"]),
        ({"k": Keyed(W)}, ["k/value"]),
        ({"mlp/~/linear_0": {"w": W}}, ["mlp/_/linear_0/w"]),  # Haiku's
        ({3: W, 20: B}, ["3", "20"]),
        ({"value": W, "other": B}, ["other", "value"]),
        (W, ["value"]),
    ],
    ids=lambda each: type(each).__name__,
)
def test_any_pytree_comes_back_as_it_was(client: ss.Client, tree: Any, names: list[str]) -> None:
    shared = ss.jax.share(tree, "net", optimizer=descent(), client=client)
    assert list(shared.variables) == names
    assert {each.whole_spec.name for each in shared.variables.values()} == {f"net/{name}" for name in names}
    pulled = shared.pull()
    assert jax.tree.structure(pulled) == jax.tree.structure(tree)
    assert type(pulled) is type(tree) or isinstance(tree, np.ndarray)
    for found, given in zip(jax.tree.leaves(pulled), jax.tree.leaves(tree), strict=True):
        assert isinstance(found, jax.Array)
        np.testing.assert_array_equal(found, given)
    shared.push(jax.tree.map(jnp.ones_like, pulled))
    for found, given in zip(jax.tree.leaves(shared.pull()), jax.tree.leaves(tree), strict=True):
        np.testing.assert_array_equal(found, given - RATE)


def test_a_scope_stands_before_the_names(client: ss.Client) -> None:
    with client.as_default(), ss.variable_scope("team"):
        shared = ss.jax.share({"w": W}, "net", optimizer=descent())
    assert shared.name == "team/net"
    assert [each.name for each in shared.variables.values()] == ["team/net/w:0"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_floats_of_every_size_are_trained_as_they_are(client: ss.Client, dtype: str) -> None:
    start = jnp.asarray([1.0, -2.5, 0.125], dtype)
    shared = ss.jax.share({"w": start}, "net", optimizer=descent(), client=client)
    gradient = jax.jit(jax.grad(lambda tree: jnp.sum(tree["w"] ** 2)))(shared.pull())
    assert gradient["w"].dtype == dtype
    shared.push(gradient)
    found = shared.pull()["w"]
    assert (found.dtype, found.weak_type) == (dtype, False)
    np.testing.assert_array_equal(found, start - RATE * 2 * start)
    assert shared.variables["w"].dtype == dtype


def test_doubles_are_doubles_where_jax_has_them(client: ss.Client) -> None:
    with jax.enable_x64(True):
        shared = ss.jax.share({"w": np.float64(1 / 3)}, "net", optimizer=descent(), client=client)
        assert shared.pull()["w"].dtype == np.float64
        assert float(shared.pull()["w"]) == 1 / 3


def test_doubles_are_not_pulled_as_something_less(client: ss.Client) -> None:
    with jax.enable_x64(True):
        shared = ss.jax.share({"count": 2**40, "w": np.float64(1 / 3)}, "net", client=client)
    with pytest.raises(FailedPreconditionError, match=r"parameters of int64, and JAX makes int32 .*jax_enable_x64"):
        shared.pull()
    with jax.enable_x64(True):
        assert int(shared.pull()["count"]) == 2**40


def test_numbers_are_of_the_dtype_that_jax_gives_them(client: ss.Client) -> None:
    shared = ss.jax.share({"a": 3.0, "b": np.float64(2)}, "net", optimizer=descent(), client=client)
    pulled = shared.pull()
    assert {name: (each.dtype, each.weak_type) for name, each in pulled.items()} == {
        "a": (np.float32, False),
        "b": (np.float32, False),
    }


@pytest.mark.parametrize(
    ("leaf", "error", "message"),
    [
        (jnp.arange(3), DTypeMismatchError, "parameter dense/w holds int32, and an optimizer changes .*; leave it out"),
        (True, DTypeMismatchError, "parameter dense/w holds bool"),
        (jnp.ones(2, "float8_e5m2"), DTypeMismatchError, "parameter dense/w holds float8_e5m2"),
        (jnp.ones(2, jnp.complex64), DTypeMismatchError, "parameter dense/w holds complex64.*real and imaginary"),
        (jax.random.key(0), DTypeMismatchError, "parameter dense/w holds key<fry>, which are no numbers; take it out"),
        (
            np.ones(2, ">f4"),
            DTypeMismatchError,
            "parameter dense/w is an array of >f4, of which JAX makes none",
        ),
        (np.ma.ones(2), DTypeMismatchError, "parameter dense/w is a masked array, and JAX has none; fill it"),
        (2**40, ValueRangeError, "parameter dense/w is 1099511627776, which is too large for JAX's integers"),
        ("relu", DTypeMismatchError, "parameter dense/w is a str, of which JAX makes no array; take it out"),
        (object(), DTypeMismatchError, "parameter dense/w is a object.*register its type"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_cannot_be_trained_is_refused_by_its_name(
    client: ss.Client, leaf: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ss.jax.share({"dense": {"b": B, "w": leaf}}, "net", optimizer=descent(), client=client)
    assert client.variables() == []
    ss.jax.share({"dense": {"b": B}}, "net", optimizer=descent(), client=client)  # the name is free


def test_trees_that_make_no_names_are_refused(client: ss.Client) -> None:
    for tree, message in [
        ({}, "params hold no arrays"),
        ({"": W}, "no empty keys"),
        ({"a": {"": W}}, "no empty keys"),
        ({"": W, "value": W}, "no empty keys"),
        ({"a/b": W, "a": {"b": B}}, "params have two leaves that are called a/b; rename one"),
        ({"a~": W, "a ": B}, "params have two leaves that are called a_"),
    ]:
        with pytest.raises(InvalidArgumentError, match=message):
            ss.jax.share(tree, "net", optimizer=descent(), client=client)


def test_a_tree_that_is_too_deep_for_jax_is_refused(client: ss.Client) -> None:
    tree: dict[str, Any] = {"w": W}
    for _ in range(5000):
        tree = {"k": tree}
    with pytest.raises(InvalidArgumentError, match="params are nested too deeply"):
        ss.jax.share(tree, "net", optimizer=descent(), client=client)
    shared = ss.jax.share({"w": W}, "net", optimizer=descent(), client=client)
    with pytest.raises(InvalidArgumentError, match="the gradients of net are nested too deeply"):
        shared.push(tree)


# -- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("size", [1, 16, 1000, 100_000])
def test_what_was_pulled_never_changes(client: ss.Client, size: int, overlap: bool) -> None:
    start = {"a": np.zeros(size, np.float32), "b": np.zeros([size, 2], np.float32)}
    with ss.jax.share(start, "net", optimizer=descent(), overlap=overlap, client=client) as shared:
        pulled, computed = [], []
        for _ in range(5):
            pulled.append(shared.pull())
            computed.append(jax.tree.map(lambda each: each + 1, pulled[-1]))  # which JAX computes when it likes
            shared.push(jax.tree.map(jnp.ones_like, pulled[-1]))
        for number, (found, more) in enumerate(zip(pulled, computed, strict=True)):
            for each, one_more in zip(jax.tree.leaves(found), jax.tree.leaves(more), strict=True):
                np.testing.assert_array_equal(each, -RATE * number)
                np.testing.assert_array_equal(one_more, 1 - RATE * number)


def test_copies_are_waited_for_since_the_memory_may_change_then(monkeypatch: pytest.MonkeyPatch) -> None:
    waited_for: list[Any] = []
    monkeypatch.setattr(jax, "block_until_ready", waited_for.append)
    memory = first_value(np.zeros(5, np.float32), "w")
    copies = JaxCopies([memory], [None]).take()
    assert waited_for == [copies]


def test_memory_lies_where_xla_takes_it_as_it_is() -> None:
    for size in range(1, 20):
        assert first_value(np.zeros(size, np.float32), "w").ctypes.data % 64 == 0


def test_a_guard_of_transfers_lets_shared_values_pass(client: ss.Client) -> None:
    shared = ss.jax.share({"w": W}, "net", optimizer=descent(), client=client)
    with jax.transfer_guard("disallow"):
        gradient = jax.jit(lambda tree: tree)(shared.pull())
        shared.push(gradient)
    np.testing.assert_array_equal(shared.pull()["w"], W - RATE * W)


def test_pulled_parameters_may_be_donated(client: ss.Client) -> None:
    shared = ss.jax.share({"w": W}, "net", optimizer=descent(), client=client)
    step = jax.jit(lambda tree: jax.tree.map(lambda each: each * 0, tree), donate_argnums=0)
    for _ in range(3):
        pulled = shared.pull()
        step(pulled)
        assert pulled["w"].is_deleted()
        np.testing.assert_array_equal(shared.pull(fresh=True)["w"], W)


def test_given_parameters_may_be_donated(client: ss.Client) -> None:
    given = {"w": jnp.asarray(W)}
    shared = ss.jax.share(given, "net", optimizer=descent(), client=client)
    given["w"].delete()
    np.testing.assert_array_equal(shared.pull()["w"], W)


def test_a_step_allocates_nothing_of_the_size_of_parameters(client: ss.Client) -> None:
    start = {f"p{number}": np.zeros(100_000, np.float32) for number in range(4)}
    shared = ss.jax.share(start, "net", optimizer=descent(), client=client)
    ones = jax.tree.map(jnp.ones_like, shared.pull())
    shared.push(ones)
    peaks = []
    for _ in range(6):  # whatever other threads of the process allocate meanwhile
        tracemalloc.start()
        try:
            kept = shared.pull(fresh=True)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert min(peaks) < 400_000 / 4
    np.testing.assert_array_equal(kept["p0"], -RATE)


# -- steps ---------------------------------------------------------------------------------------


def test_what_was_given_is_not_held(client: ss.Client) -> None:
    given = {"w": jnp.asarray(W)}
    gone = weakref.ref(given["w"])
    shared = ss.jax.share(given, "net", optimizer=descent(), client=client)
    del given
    assert gone() is None
    shared.pull()


def test_gradients_are_sent_out_of_the_memory_where_jax_has_them() -> None:
    for dtype in ("float32", "bfloat16", "float16"):
        gradient = jax.jit(lambda each: each * 2)(jnp.ones([5, 3], dtype))
        update = updates_of({"w": gradient}, "the gradient")["w"]
        assert update.dtype == dtype
        assert update.ctypes.data == gradient.unsafe_buffer_pointer()


def test_steps_are_those_of_gradient_descent(client: ss.Client) -> None:
    shared = ss.jax.share(params(), "net", optimizer=descent(), client=client)
    for step in range(STEPS):
        applied = shared.push(jax.tree.map(jnp.asarray, gradients(0, step)))
        assert {each.verdict for each in applied} == {"applied"}
        assert len(applied) == 5
    assert_close(shared.pull(), descended(1, RATE))


def test_optax_makes_the_steps_where_there_is_no_optimizer(client: ss.Client) -> None:
    adam = optax.adam(0.1)
    alone = jax.tree.map(jnp.asarray, params())
    shared = ss.jax.share(params(), "net", client=client)
    state, shared_state = adam.init(alone), adam.init(alone)
    for step in range(STEPS):
        gradient = jax.tree.map(jnp.asarray, gradients(0, step))
        deltas, state = adam.update(gradient, state, alone)
        alone = optax.apply_updates(alone, deltas)
        deltas, shared_state = adam.update(gradient, shared_state, shared.pull())
        assert shared.push(deltas) == []
    assert_close(shared.pull(), flat(alone))


def test_what_has_no_gradient_does_not_change(client: ss.Client) -> None:
    start = {"a": W, "b": [B, B], "c": {"unused": None}}
    shared = ss.jax.share(start, "net", optimizer=descent(), client=client)
    shared.push({"a": None, "b": [np.ones(3), None], "c": {"unused": None}})
    pulled = shared.pull()
    np.testing.assert_array_equal(pulled["a"], W)
    np.testing.assert_array_equal(pulled["b"], [B - RATE, B])


def test_rows_can_be_gradients(client: ss.Client) -> None:
    shared = ss.jax.share({"table": np.zeros([4, 2], np.float32)}, "net", optimizer=descent(), client=client)
    shared.push({"table": ss.IndexedSlices(np.ones([2, 2], np.float32), [1, 1])})
    np.testing.assert_array_equal(shared.pull()["table"][:, 0], [0, -2 * RATE, 0, 0])


def test_rows_can_be_deltas(client: ss.Client) -> None:
    shared = ss.jax.share({"table": np.zeros([4, 2], np.float32)}, "net", client=client)
    shared.push({"table": ss.IndexedSlices(jnp.ones([2, 2]), jnp.asarray([1, 1]))})
    np.testing.assert_array_equal(shared.pull()["table"][:, 0], [0, 2, 0, 0])


def test_integers_are_left_alone_by_their_gradients(client: ss.Client) -> None:
    def loss(tree: Any) -> Any:
        return jnp.sum(tree["w"] * tree["count"])

    start = {"w": jnp.ones(3), "count": jnp.asarray([1, 2, 3])}
    shared = ss.jax.share(start, "net", client=client)
    shared.push(jax.grad(loss, allow_int=True)(shared.pull()))
    pulled = shared.pull()
    np.testing.assert_array_equal(pulled["w"], [2.0, 3.0, 4.0])
    np.testing.assert_array_equal(pulled["count"], [1, 2, 3])
    shared.push({"w": None, "count": jnp.asarray([1, 0, 0])})
    np.testing.assert_array_equal(shared.pull()["count"], [2, 2, 3])


def test_parameters_are_cut_where_a_partitioner_says(client: ss.Client) -> None:
    halves = ss.fixed_size_partitioner(2)
    shared = ss.jax.share({"w": W}, "net", optimizer=descent(), partitioner=halves, client=client)
    assert isinstance(shared.variables["w"], ss.PartitionedVariable)
    shared.push({"w": np.ones_like(W)})
    np.testing.assert_array_equal(shared.pull()["w"], W - RATE)


def test_the_ps_may_compute_the_first_values(client: ss.Client) -> None:
    start = {"w": W, "b": B}
    shared = ss.jax.share(start, "net", optimizer=descent(), initializer={"b": ss.zeros_initializer()}, client=client)
    np.testing.assert_array_equal(shared.pull()["b"], np.zeros(3))
    np.testing.assert_array_equal(shared.pull()["w"], W)


# -- gradients that do not fit -------------------------------------------------------------------


class Other(NamedTuple):
    """Another model."""

    a: Any
    c: Any


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"a": W, "b": [B]}, r"the gradients of net lack b/1; give one for each of the 3 parameters"),
        (Other(W, B), r"the gradients of net lack b/0, b/1 and have c besides"),
        ({"a": W, "b": [B, B], "z": {"q": B}}, "the gradients of net have z/q besides"),
        (W, "the gradients of net lack a, b/0, b/1 and have value besides"),
        ({"a": W, "b": [B, B], "b/0": B}, "the gradients of net have two leaves that are called b/0; rename one"),
        ({"a": W.T, "b": [B, B]}, r"the gradient of variable net/a \(float32\[2, 3\]\) has the shape \[3, 2\]"),
        ({"a": W * 1j, "b": [B, B]}, "net/a"),
        ({"a": None, "b": [None, None]}, "net: there is nothing to push|net: there are no gradients"),
    ],
)
def test_gradients_that_do_not_fit_change_nothing(client: ss.Client, wrong: Any, message: str) -> None:
    shared = ss.jax.share({"a": W, "b": [B, B]}, "net", optimizer=descent(), client=client)
    with pytest.raises(ss.errors.ShardscopeError, match=message):
        shared.push(wrong)
    for found, given in zip(jax.tree.leaves(shared.pull(fresh=True)), [W, B, B], strict=True):
        np.testing.assert_array_equal(found, given)


def test_containers_of_another_kind_with_the_same_keys_will_do(client: ss.Client) -> None:
    shared = ss.jax.share({"a": W, "b": [B, B]}, "net", optimizer=descent(), client=client)
    shared.push({"a": np.ones_like(W), "b": (B, B)})
    np.testing.assert_array_equal(shared.pull()["a"], W - RATE)


def test_deltas_are_called_deltas(client: ss.Client) -> None:
    shared = ss.jax.share({"a": W}, "net", client=client)
    with pytest.raises(InvalidArgumentError, match="the deltas of net lack a and have b besides"):
        shared.push({"b": W})


def test_inside_jit_nothing_is_shared_pulled_or_pushed(client: ss.Client) -> None:
    shared = ss.jax.share({"w": W}, "net", optimizer=descent(), client=client)
    with pytest.raises(InvalidArgumentError, match=r"push\(\) is being traced: call it outside of jit"):
        jax.jit(shared.push)(shared.pull())
    with pytest.raises(InvalidArgumentError, match=r"pull\(\) is being traced: call it outside of jit"):
        jax.jit(lambda _: shared.pull())(0)
    with pytest.raises(InvalidArgumentError, match=r"share\(\) is being traced"):
        jax.grad(lambda tree: ss.jax.share(tree, "other", optimizer=descent(name="o"), client=client))({"w": W})
    assert [each.name for each in client.variables()] == ["net/w"]


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap], ids=["jit", "grad", "vmap"])
def test_constants_of_what_is_traced_are_not_pulled_or_pushed_either(client: ss.Client, transform: Any) -> None:
    """They hold no tracers: the call would be carried out once, while the function is compiled."""
    shared = ss.jax.share({"w": W}, "net", optimizer=descent(), client=client)
    rows = ss.IndexedSlices([[1.0, 1.0, 1.0]], [0])

    def pushed(x: Any) -> Any:
        shared.push({"w": rows})
        return jnp.sum(x)

    for function in (pushed, lambda x: jnp.sum(shared.pull()["w"]) * jnp.sum(x)):
        with pytest.raises(InvalidArgumentError, match=r"pu(ll|sh)\(\) is being traced: call it outside of jit"):
            transform(function)(1.0 if transform is not jax.vmap else jnp.ones(2))
    np.testing.assert_array_equal(shared.pull(fresh=True)["w"], W)


def test_a_callback_of_a_compiled_function_may_pull(client: ss.Client) -> None:
    shared = ss.jax.share({"w": W}, "net", optimizer=descent(), client=client)

    def pulled(_: Any) -> Any:
        return np.asarray(shared.pull()["w"])

    found = jax.jit(lambda x: jax.pure_callback(pulled, jax.ShapeDtypeStruct(W.shape, W.dtype), x))(1.0)
    np.testing.assert_array_equal(found, W)


def test_donated_gradients_are_refused_by_their_name(client: ss.Client) -> None:
    shared = ss.jax.share({"w": W, "b": B}, "net", optimizer=descent(), client=client)
    gone = jnp.ones(3)
    gone.delete()
    with pytest.raises(FailedPreconditionError, match="the gradient of b has been deleted, as by donate_argnums"):
        shared.push({"w": np.ones_like(W), "b": gone})
    np.testing.assert_array_equal(shared.pull(fresh=True)["w"], W)


# -- other workers -------------------------------------------------------------------------------


def test_the_first_worker_says_what_all_begin_with(cluster: SmallCluster) -> None:
    first = ss.jax.share({"w": W}, "net", optimizer=descent(), client=cluster.client(0))
    first.push({"w": np.ones_like(W)})
    late = ss.jax.share({"w": W * 100}, "net", optimizer=descent(), client=cluster.client(1))
    np.testing.assert_array_equal(late.pull()["w"], W - RATE)


def test_a_model_that_does_not_match_is_told_all_that_differs(cluster: SmallCluster) -> None:
    ss.jax.share({"a": W, "b": B, "c": B}, "net", optimizer=descent(), client=cluster.client(0))
    other = cluster.client(1)
    with pytest.raises(
        InvalidArgumentError,
        match=r"another model of the name net; only in the cluster: c \(float32 \[3\]\); only in this model: "
        r"d \(float32 \[3\]\); different: b is bfloat16 \[3\] here and float32 \[3\] there; nothing was declared",
    ):
        ss.jax.share({"a": W, "b": B.astype("bfloat16"), "d": B}, "net", optimizer=descent(), client=other)
    assert {each.name for each in other.variables()} == {"net/a", "net/b", "net/c"}


@pytest.mark.parametrize("sync", ["bsp(total=3)", "ssp(0, total=3)"])
def test_in_rounds_three_workers_are_one_with_all_batches(cluster: SmallCluster, sync: str) -> None:
    def work(index: int) -> Any:
        shared = ss.jax.share(params(), "net", optimizer=descent(), sync=sync, client=cluster.client(index))
        for step in range(STEPS):
            shared.pull()
            (verdict,) = {each[:2] for each in shared.push(jax.tree.map(jnp.asarray, gradients(index, step)))}
            assert verdict[0] == "applied"
        return shared.pull()

    with ThreadPoolExecutor(3) as pool:
        for each in [pool.submit(work, index) for index in range(3)]:
            assert_close(each.result(TIMEOUT_S), descended(3, RATE))


def test_a_model_is_bound_to_its_process_and_to_its_block(client: ss.Client) -> None:
    with ss.jax.share({"w": W}, "net", optimizer=descent(), client=client) as shared:
        with pytest.raises(TypeError, match="SharedTree"):
            pickle.dumps(shared)
        with pytest.raises(InvalidArgumentError, match="shares a model called net already"):
            ss.jax.share({"w": W}, "net", optimizer=descent(), client=client)
    with pytest.raises(FailedPreconditionError, match="net is closed"):
        shared.pull()
    ss.jax.share({"w": W}, "net", optimizer=descent(), client=client)
