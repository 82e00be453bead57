"""Text as in TensorFlow 1: elements of any length, in constants, placeholders, variables and what is fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf


@pytest.fixture(autouse=True)
def session() -> Iterator[tf.Session]:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def test_all_text_has_one_dtype() -> None:
    box = tf.placeholder(tf.string, [None])
    note = tf.Variable("abc")
    made = [tf.constant("a"), tf.constant(["bcd"]), box, tf.concat([["a"], tf.constant(["bcd"])], 0), note]
    assert all(each.dtype == tf.string for each in made)


def test_what_is_fetched_is_bytes(session: tf.Session) -> None:
    found = session.run(tf.constant(["abc", "d"]))
    assert (found.dtype, found.tolist()) == (np.dtype(object), [b"abc", b"d"])
    assert type(session.run(tf.constant("héllo"))) is bytes
    assert session.run(tf.constant([b"q\0"])).tolist() == [b"q\0"]
    assert session.run(tf.constant([b"q\0"])[0]) == b"q\0"


@pytest.mark.parametrize(
    "given",
    [["x", "yy"], [b"x", b"yy"], np.array(["x", "yy"]), np.array([b"x", b"yy"]), np.array(["x", b"yy"], object)],
)
def test_all_that_is_text_can_be_fed(session: tf.Session, given: Any) -> None:
    box = tf.placeholder(tf.string, [None])
    assert session.run(tf.identity(box), {box: given}).tolist() == [b"x", b"yy"]


def test_numbers_are_no_text(session: tf.Session) -> None:
    box = tf.placeholder(tf.string, [None])
    note = tf.Variable("abc")
    with pytest.raises(TypeError):
        session.run(tf.identity(box), {box: [1]})
    wrongs: tuple[Callable[[], Any], ...] = (
        lambda: tf.constant([1, "a"]),
        lambda: tf.constant(1, tf.string),
        lambda: tf.constant("a", tf.int32),
        lambda: note.assign(1),
        lambda: note.assign_add("x"),
        lambda: tf.concat([tf.constant(["a"]), tf.constant([1])], 0),
    )
    for wrong in wrongs:
        with pytest.raises(TypeError):
            wrong()


def test_functions_take_text_of_several_lengths(session: tf.Session) -> None:
    text = tf.constant(["a", "longer"])
    for tensor, expected in [
        (tf.concat([text, ["bcd"]], 0), [b"a", b"longer", b"bcd"]),
        (tf.stack([text, ["x", "y"]]), [[b"a", b"longer"], [b"x", b"y"]]),
        (tf.where([True, False], text, ["x", "much longer"]), [b"a", b"much longer"]),
        (tf.equal(text, ["a", "b"]), [True, False]),
        (tf.gather(text, [1]), [b"longer"]),
        (tf.reshape(text, [2, 1]), [[b"a"], [b"longer"]]),
        (tf.zeros([2], tf.string), [b"", b""]),
        (tf.zeros_like(text), [b"", b""]),
        (tf.fill([2], "ab"), [b"ab", b"ab"]),
        (tf.convert_to_tensor([text[0], "x"]), [b"a", b"x"]),
        (tf.constant("ab", shape=[2]), [b"ab", b"ab"]),
        (tf.split(text, 2)[1], [b"longer"]),
    ]:
        assert session.run(tensor).tolist() == expected


def test_a_variable_holds_text_of_any_length(session: tf.Session) -> None:
    empty = tf.get_variable("empty", [2], dtype=tf.string)
    given = tf.get_variable("given", initializer=["x", "yy"], dtype=tf.string)
    ending = tf.Variable([b"q\0", b"\x01", b"", b"z\x01"])
    constant = tf.get_variable("constant", [2], tf.string, tf.constant_initializer("abc"))
    copy = tf.Variable(given)
    session.run(tf.global_variables_initializer())
    assert [session.run(each).tolist() for each in (empty, given, ending, constant, copy)] == [
        [b"", b""],
        [b"x", b"yy"],
        [b"q\0", b"\x01", b"", b"z\x01"],
        [b"abc", b"abc"],
        [b"x", b"yy"],
    ]
    assert session.run(given.assign(["much longer than before", "b"])).tolist() == [b"much longer than before", b"b"]
    assert session.run(empty.assign(given)).tolist() == [b"much longer than before", b"b"]
    assert session.run(tf.scatter_update(given, [1], ["the longest of them all"])).tolist() == [
        b"much longer than before",
        b"the longest of them all",
    ]
    empty.load(["loaded", ""], session)
    assert session.run(tf.gather(empty, [1, 0])).tolist() == [b"", b"loaded"]
    session.run(tf.global_variables_initializer())
    assert session.run(given).tolist() == [b"x", b"yy"]


def test_a_shape_is_checked_as_of_numbers(session: tf.Session) -> None:
    box = tf.placeholder(tf.string)
    pair = tf.Variable(["a", "b"])
    session.run(pair.initializer)
    with pytest.raises(ValueError, match="shape"):
        pair.assign(["a"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="shape"):
        session.run(pair.assign(box), {box: ["a"]})
    assert session.run(tf.assign(pair, "alone", validate_shape=False)) == b"alone"


def test_parts_hold_text(session: tf.Session) -> None:
    whole = tf.get_variable("whole", [3], tf.string, partitioner=tf.fixed_size_partitioner(2))
    session.run(tf.global_variables_initializer())
    session.run(whole.assign(np.array(["longer", "b", "c"])))
    assert session.run(whole).tolist() == [b"longer", b"b", b"c"]


def test_names_of_variables_are_text(session: tf.Session) -> None:
    tf.Variable(1.0, name="late")
    found = session.run(tf.report_uninitialized_variables())
    assert (found.dtype, found.tolist()) == (np.dtype(object), [b"late"])
