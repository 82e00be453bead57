"""What a session is fed: which values fit which dtypes, which keys are taken, and what stands for a variable."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from worker_client.connection.fanout import Fanout

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


@pytest.fixture(autouse=True)
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def fed(session: Any, dtype: str, value: Any) -> Any:
    tensor = tf.placeholder(dtype, name="p")
    result = session.run(tf.identity(tensor), {tensor: value})
    assert result.dtype == tensor.dtype
    return result.tolist()


# -- values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", INTEGERS)
def test_an_integer_that_does_not_fit_is_refused(session: Any, dtype: str) -> None:
    limits = np.iinfo(dtype)
    for least_and_greatest in (int(limits.min), int(limits.max)):
        assert fed(session, dtype, least_and_greatest) == least_and_greatest
        assert fed(session, dtype, [least_and_greatest]) == [least_and_greatest]
    for beyond in (int(limits.min) - 1, int(limits.max) + 1, 2**64, 10**400):
        for value in (beyond, [beyond], [[0, beyond]], (beyond,)):
            with pytest.raises(TypeError, match=rf"fed to p(_\d+)?:0 is out of its range: .*, needed is {dtype}"):
                fed(session, dtype, value)


def test_integers_of_numpy_wrap_around_as_in_tensorflow(session: Any) -> None:
    assert fed(session, "int16", np.int64(70000)) == 4464
    assert fed(session, "uint8", np.array([-1, 256])) == [255, 0]


@pytest.mark.parametrize("dtype", [*INTEGERS, "float16", "float32", "float64", "bfloat16", "complex64"])
@pytest.mark.parametrize(
    "value",
    [2, 2.0, True, [True, False], [1, 2.5], (1, 2), np.array([2.0]), np.float64(2), np.array([1, 2], object), range(3)],
    ids=repr,
)
def test_what_numpy_makes_of_a_value_is_taken(session: Any, dtype: str, value: Any) -> None:
    wanted = np.asarray(value).astype(tf.as_dtype(dtype).as_numpy_dtype)
    np.testing.assert_array_equal(fed(session, dtype, value), wanted.tolist())


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (1, True),
        (0, False),
        ([1, 0], [True, False]),
        ([2, 0], [True, False]),
        (3.5, True),
        (np.array(5), True),
        ([], []),
    ],
)
def test_truth_values(session: Any, value: Any, wanted: Any) -> None:
    assert fed(session, "bool", value) == wanted


@pytest.mark.parametrize("value", [2, -1, 2**63, 2**64])
def test_only_two_integers_are_truth_values(session: Any, value: int) -> None:
    with pytest.raises(TypeError, match="is not in"):
        fed(session, "bool", value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30, [1.0, np.nan], np.array([-np.inf])])
def test_what_no_integer_stands_for_is_refused(session: Any, value: Any) -> None:
    with pytest.raises(TypeError, match="out of its range"):
        fed(session, "int32", value)


@pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
@pytest.mark.parametrize(
    "value",
    [None, [None], 1j, np.array([1j]), {}, {1}, object(), np.datetime64("2020-01-01")],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_number_is_refused(session: Any, dtype: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"fed to p:0 (is|holds) .*, needed is {dtype}"):
        fed(session, dtype, value)


def test_text_is_a_number_if_it_reads_like_one(session: Any) -> None:
    assert fed(session, "float32", ["1.5", "2"]) == [1.5, 2]
    assert fed(session, "int32", b"3") == 3
    with pytest.raises(ValueError, match=r"fed to p_2:0 is no float32: .*abc"):
        fed(session, "float32", "abc")
    with pytest.raises(TypeError, match="needed is bool"):
        fed(session, "bool", "False")


def test_a_list_of_tensors_has_no_value_yet(session: Any) -> None:
    with pytest.raises(TypeError, match="no value before a session runs it"):
        fed(session, "float32", [tf.constant(1.0)])


# -- keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", [dict, OrderedDict, MappingProxyType])
def test_any_mapping_will_do(session: Any, mapping: Callable[[Any], Any]) -> None:
    one = tf.constant(1.0)
    assert session.run(one * 2.0, mapping({one: 5.0})) == 10


@pytest.mark.parametrize("nothing", [None, {}, [], ()])
def test_nothing_may_be_fed(session: Any, nothing: Any) -> None:
    assert session.run(tf.constant(1.0), nothing) == 1


def test_what_is_no_mapping_is_refused(session: Any) -> None:
    one = tf.constant(1.0)
    for wrong in ([one], [(one, 5.0)], "one", 7, {one: 5.0}.items()):
        with pytest.raises(TypeError, match="feed_dict should be a dictionary"):
            session.run(one, wrong)


@pytest.mark.parametrize(
    "key", ["missing:0", "missing", "one", "one:1", "one:x", "", 5, 1.0, None, tf.float32, b"missing:0"]
)
def test_a_key_that_is_no_tensor_is_refused(session: Any, key: Any) -> None:
    one = tf.constant(1.0, name="one")
    with pytest.raises(TypeError, match=r"cannot be fed|is not the name of a tensor"):
        session.run(one, {key: 1.0})
    assert session.run(one, {b"one:0": 5.0}) == session.run(b"one:0", {"one:0": 5.0}) == 5


def test_tensors_may_be_fed_together(session: Any) -> None:
    x, y = tf.placeholder(tf.float32), tf.placeholder(tf.float32)
    assert session.run(x - y, {(x, y): (5.0, 6.0)}) == -1
    assert session.run(x - y, {(x, (y,)): [5.0, [7.0]]}) == -2
    assert session.run(x - y, {(x, y): {"x": 5.0, "y": 6.0}}) == -1
    with pytest.raises(ValueError, match="1 values are fed to the 2 tensors"):
        session.run(x - y, {(x, y): (5.0,)})


def test_a_partitioned_variable_is_fed_by_its_parts(session: Any) -> None:
    whole = tf.get_variable("w", [4], initializer=tf.ones_initializer(), partitioner=tf.fixed_size_partitioner(2))
    session.run(tf.global_variables_initializer())
    total = tf.reduce_sum(whole)
    with pytest.raises(TypeError, match="partitioned variable w cannot be fed as a whole; feed its parts"):
        session.run(total, {whole: np.ones(4)})
    assert session.run(total, {next(iter(whole)): [5.0, 5.0]}) == 12


# -- variables ------------------------------------------------------------------------------------------

READS: dict[str, Callable[[Any], Any]] = {
    "arithmetic": lambda v: v * 1.0,
    "itself": lambda v: v,
    "by name": lambda v: tf.get_default_graph().get_tensor_by_name(v.name),
    "value": lambda v: v.value(),
    "read_value": lambda v: v.read_value(),
    "initialized_value": lambda v: v.initialized_value(),
    "gather": lambda v: tf.gather(v, [0, 1]),
    "gather_nd": lambda v: tf.stack([tf.gather_nd(v, [0, 0]), tf.gather_nd(v, [0, 1]), *tf.unstack(v[1])]),
    "embedding_lookup": lambda v: tf.nn.embedding_lookup(v, [0, 1]),
    "sparse_read": lambda v: v.sparse_read([0, 1]),
}


@pytest.mark.parametrize("key", ["variable", "value", "name", "read", "name of the read"])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_fed_variable_stands_for_every_read(session: Any, read: Callable[[Any], Any], key: str) -> None:
    v = tf.get_variable("v", initializer=np.zeros([2, 2], np.float32))
    session.run(v.initializer)
    wanted = np.array([[1, 2], [3, 4]], np.float32)
    with tf.control_dependencies([v.assign_add(np.ones([2, 2]))]):
        behind = read(v)
        later = v.value()
    keys = {"variable": v, "value": v.value(), "name": "v:0", "read": later, "name of the read": "v/read:0"}
    for fetch in (read(v), behind):
        value = session.run(fetch, {keys[key]: wanted})
        np.testing.assert_array_equal(value.ravel(), wanted.ravel())
    is_fed_itself = behind is keys[key] or read in (READS["itself"], READS["by name"])
    assert session.run(v).max() == (0 if is_fed_itself else 1)


def test_what_is_fed_needs_no_value_and_no_ps(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    v = tf.get_variable("v", [2], tf.float32)
    fetches = [v * 2.0, tf.gather(v, [1]), v.read_value()]

    def exchange_all(self: Fanout, routed: Any) -> Any:
        raise AssertionError(f"asked for {routed}")

    monkeypatch.setattr(Fanout, "exchange_all", exchange_all)
    assert [each.tolist() for each in session.run(fetches, {v: [3, 4]})] == [[6, 8], [4], [3, 4]]


def test_a_row_that_a_fed_value_does_not_have(session: Any) -> None:
    v = tf.get_variable("v", [2], tf.float32)
    rows = tf.placeholder(tf.int64)
    for wrong in (2, -1):
        with pytest.raises(tf.errors.InvalidArgumentError, match=rf"variable v: index {wrong} is not in \[0, 2\)"):
            session.run(tf.gather(v, rows), {v: [3, 4], rows: [0, wrong]})


def test_updates_change_the_variable_though_it_is_fed(session: Any) -> None:
    v = tf.get_variable("v", initializer=1.0)
    session.run(v.initializer)
    assert session.run([v.assign_add(1.0), v * 1.0], {v: 10.0}) == [2, 10]
    assert session.run([v.assign(v + 1.0), tf.is_variable_initialized(v)], {v: 10.0}) == [11, True]
    assert session.run(v) == 11
