"""Entering variable scopes; the guide's examples and what the recorded programs do not reach."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

from tests.unit.worker_client.naming_fakes import deferred_graph, eager_graph
from worker_client.graph.blocks import name_scope
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.initializers import constant_initializer
from worker_client.scopes.creation import new_variable
from worker_client.scopes.variable_scope import (
    AUTO_REUSE,
    VariableScope,
    get_local_variable,
    get_variable,
    get_variable_scope,
    no_regularizer,
    variable_op_scope,
    variable_scope,
)
from worker_client.values.dtypes import float32
from worker_client.variables.partitioners import fixed_size_partitioner


@pytest.fixture(params=[eager_graph, deferred_graph], ids=["eager", "deferred"], autouse=True)
def graph(request: pytest.FixtureRequest) -> Iterator[Graph]:
    with cast(Graph, request.param()).as_default() as made:
        yield made


def op_name(name: str = "op") -> str:
    return get_default_graph().create_op(name).name


# -- names ------------------------------------------------------------------------------------


def test_scopes_prefix_names() -> None:
    with variable_scope("foo"), variable_scope("bar"):
        assert get_variable("v", [1]).name == "foo/bar/v:0"


def test_name_scopes_prefix_variable_but_not_get_variable() -> None:
    with name_scope("cltdevelop"):
        assert [new_variable(1.0, name="var_1").name for _ in range(3)] == [
            "cltdevelop/var_1:0",
            "cltdevelop/var_1_1:0",
            "cltdevelop/var_1_2:0",
        ]
        assert get_variable("var_2", [1]).name == "var_2:0"
    with variable_scope("aaa"):
        assert new_variable(1.0, name="var_3").name == "aaa/var_3:0"
        assert get_variable("var_4", [1]).name == "aaa/var_4:0"


def test_operations_get_the_scopes_name_scope() -> None:
    with variable_scope("foo"):
        assert op_name("add") == "foo/add"
        with name_scope("bar"):
            assert op_name("add") == "foo/bar/add"
            assert get_variable("v", [1]).name == "foo/v:0"


def test_default_names_are_numbered_until_the_scope_around_is_left() -> None:
    names = []
    with variable_scope("foo"):
        for variable in ("a", "b"):
            with variable_scope(None, "bar"):
                names.append(get_variable(variable, [1]).name)
    with variable_scope("foo"), variable_scope(None, "bar"):
        names.append(get_variable("c", [1]).name)
    assert names == ["foo/bar/a:0", "foo/bar_1/b:0", "foo/bar/c:0"]


def test_a_name_taken_by_an_operation_numbers_the_variable_but_not_its_key() -> None:
    op_name("w")
    variable = get_variable("w", [1])
    assert (variable.name, variable.definition.key) == ("w_1:0", "w")
    with variable_scope("", reuse=True):
        assert get_variable("w", [1]) is variable


def test_a_premade_scope_opens_a_new_name_scope_unless_told_not_to() -> None:
    with variable_scope("foo") as foo:
        pass
    with variable_scope(foo) as again:
        assert (again.name, again.original_name_scope, op_name()) == ("foo", "foo/", "foo_1/op")
        with name_scope(again.original_name_scope):
            assert op_name() == "foo/op"
    with variable_scope(foo, auxiliary_name_scope=False):
        assert op_name("add") == "add"
        assert get_variable("v", [1]).name == "foo/v:0"


def test_entering_one_object_again_keeps_the_variable_scope() -> None:
    scope = variable_scope(None, "a")
    for name in ("a/op", "a_1/op"):
        with scope as entered:
            assert (entered.name, entered.original_name_scope, op_name()) == ("a", "a/", name)
    with variable_scope("outer"), scope as entered:
        assert entered.name == "outer/a"
    with scope as entered, scope as inner:
        assert (entered.name, inner.name) == ("a", "a/a")
    assert get_variable_scope().name == ""


def test_variable_op_scope_has_its_values_first() -> None:
    with variable_op_scope([], None, "d", reuse=None) as scope:
        assert scope.name == "d"


def test_a_scope_belongs_to_the_graph_of_its_values(graph: Graph) -> None:
    with deferred_graph().as_default() as other:
        value = other.create_op("Const")
    with variable_scope("a", values=[value]):
        assert get_default_graph() is other
        assert get_variable("v", [1]).graph is other
    assert get_default_graph() is graph


# -- reuse ------------------------------------------------------------------------------------


def test_sharing_is_asked_for_or_refused() -> None:
    with variable_scope("foo"):
        variable = get_variable("v", [1])
        with pytest.raises(ValueError, match=r"foo/v already exists.*AUTO_REUSE"):
            get_variable("v", [1])
    with variable_scope("foo", reuse=True) as scope:
        assert get_variable("v", [1]) is variable
        with pytest.raises(ValueError, match=r"foo/w does not exist"):
            get_variable("w", [1])
        assert scope.reuse is True


def test_auto_reuse_does_either() -> None:
    with variable_scope("foo", reuse=AUTO_REUSE):
        assert get_variable("v", [1]) is get_variable("v", [1])


def test_reuse_is_inherited_and_cannot_be_undone() -> None:
    with variable_scope("root", reuse=True), variable_scope("inner", reuse=False) as scope:
        assert scope.reuse is True
    with variable_scope("root") as scope:
        assert scope.reuse is False
        scope.reuse_variables()
        with variable_scope("inner") as inner:
            assert inner.reuse is True


def test_a_captured_scope_has_the_reuse_it_was_captured_with() -> None:
    with variable_scope("a") as captured:
        variable = get_variable("v", [1])
    with variable_scope("b", reuse=True), variable_scope(captured) as entered:
        assert entered.reuse is False
    with variable_scope(captured, reuse=True):
        assert get_variable("v", [1]) is variable


def test_reuse_needs_a_name() -> None:
    with pytest.raises(ValueError, match="another name each time"), variable_scope(None, "d", reuse=True):
        pass
    assert get_default_graph().unique_name("d") == "d"


@pytest.mark.parametrize(
    ("wanted", "message"), [({"shape": [2]}, r"\[2\].*\[1\]"), ({"dtype": "int32"}, "int32.*float32")]
)
def test_what_is_shared_must_agree(wanted: dict[str, Any], message: str) -> None:
    get_variable("v", [1])
    with variable_scope("", reuse=True), pytest.raises(ValueError, match=f"cannot share variable v.*{message}"):
        get_variable("v", **{"shape": [1], **wanted})


# -- defaults ---------------------------------------------------------------------------------


def test_defaults_are_inherited_and_overridden() -> None:
    four, three = constant_initializer(4), constant_initializer(3)
    with variable_scope("a", initializer=four, dtype="float64") as outer:
        assert get_variable("v", [1]).array.tolist() == [4.0]
        assert get_variable("w", [1], initializer=three).dtype == np.float64
        with variable_scope("b", initializer=three) as inner:
            assert get_variable("v", [1]).array.tolist() == [3.0]
            assert (inner.initializer, inner.dtype.name) == (three, "float64")
        assert outer.initializer is four


def test_the_constraint_is_not_inherited() -> None:
    constraint = abs
    with variable_scope("a", constraint=constraint) as outer:
        assert get_variable("v", [1]).definition.constraint is constraint
        with variable_scope("b") as inner, variable_scope(outer) as again:
            assert (inner.constraint, again.constraint) == (None, None)


def test_every_default_can_be_set_and_asked_for() -> None:
    scope = VariableScope(reuse=None)
    assert (scope.name, scope.original_name_scope, scope.reuse, scope.dtype) == ("", "", None, float32)
    partitioner, getter, regularizer = fixed_size_partitioner(2), (lambda getter, **_: getter), (lambda _: None)
    scope.set_initializer(1)
    scope.set_regularizer(regularizer)
    scope.set_caching_device("/cpu:0")
    scope.set_partitioner(partitioner)
    scope.set_custom_getter(getter)
    scope.set_dtype("int32")
    scope.set_use_resource(True)
    with variable_scope(scope) as entered:
        assert (entered.initializer, entered.regularizer, entered.caching_device) == (1, regularizer, "/cpu:0")
        assert (entered.partitioner, entered.custom_getter, entered.dtype.name) == (partitioner, getter, "int32")
        assert entered.use_resource is True


def test_a_scope_can_set_every_default() -> None:
    def getter(getter: Any, name: str, **keywords: Any) -> Any:
        return getter(name, **keywords)

    with variable_scope(
        "a", caching_device="/cpu:0", use_resource=True, partitioner=None, custom_getter=getter
    ) as scope:
        assert (scope.caching_device, scope.use_resource, scope.custom_getter) == ("/cpu:0", True, getter)


def test_an_array_as_default_initializer() -> None:
    with variable_scope("a", initializer=np.ones(3)):
        assert get_variable("v").shape == (3,)


def test_the_regularizer_can_be_left_out() -> None:
    with variable_scope("a", regularizer=lambda _: np.float32(1)):
        get_variable("v", [1], regularizer=no_regularizer)
    losses = get_default_graph().get_collection(GraphKeys.REGULARIZATION_LOSSES)
    assert [float(loss()) for loss in losses] in ([], [0.0])


# -- getters ----------------------------------------------------------------------------------


def test_getters_are_called_from_the_inside_out_with_keywords_only() -> None:
    calls: list[tuple[str, str, tuple[Any, ...]]] = []

    def making(label: str) -> Any:
        def custom_getter(getter: Any, name: str, *args: Any, **keywords: Any) -> Any:
            calls.append((label, name, args))
            return getter(f"{name}_{label}", *args, **keywords)

        return custom_getter

    with variable_scope("a", custom_getter=making("outer")), variable_scope("b", custom_getter=making("inner")):
        assert get_variable("v", [1]).name == "a/b/v_inner_outer:0"
    assert calls == [("inner", "a/b/v", ()), ("outer", "a/b/v_inner", ())]


def test_a_getter_given_to_get_variable_replaces_the_scopes() -> None:
    def scopes(getter: Any, name: str, **keywords: Any) -> Any:
        pytest.fail("replaced")

    def own(getter: Any, name: str, **keywords: Any) -> Any:
        return getter(f"{name}_own", **keywords)

    with variable_scope("a", custom_getter=scopes):
        assert get_variable("v", [1], custom_getter=own).name == "a/v_own:0"


def test_a_getter_sees_the_defaults_filled_in() -> None:
    seen: dict[str, Any] = {}

    def custom_getter(getter: Any, **keywords: Any) -> Any:
        seen.update(keywords)
        return getter(**keywords)

    with variable_scope("a", dtype="float64", reuse=AUTO_REUSE):
        get_variable("v", [1], custom_getter=custom_getter)
    assert (seen["name"], seen["shape"], seen["reuse"], seen["trainable"]) == ("a/v", [1], AUTO_REUSE, True)
    assert seen["dtype"].base_dtype.name == "float64"
    assert {"constraint", "collections", "regularizer", "partitioner", "use_resource"} <= seen.keys()


def test_a_getter_without_a_constraint_is_not_given_one() -> None:
    def custom_getter(  # the arguments that getters had before there were constraints
        getter: Any,
        name: Any,
        shape: Any,
        dtype: Any,
        initializer: Any,
        regularizer: Any,
        reuse: Any,
        trainable: Any,
        collections: Any,
        caching_device: Any,
        partitioner: Any,
        validate_shape: Any,
        use_resource: Any,
        synchronization: Any,
        aggregation: Any,
    ) -> Any:
        return getter(name, shape)

    assert get_variable("v", [1], custom_getter=custom_getter, constraint=abs).definition.constraint is None

    @functools.wraps(custom_getter)
    def decorated(*args: Any, **keywords: Any) -> Any:
        return custom_getter(*args, **keywords)

    assert get_variable("w", [1], custom_getter=decorated, constraint=abs).definition.constraint is None


def test_a_getter_must_be_a_function() -> None:
    with pytest.raises(ValueError, match="custom_getter"):
        get_variable("v", [1], custom_getter=cast(Any, 3))


# -- collections ------------------------------------------------------------------------------


def test_variables_are_collected() -> None:
    graph = get_default_graph()
    with variable_scope("a") as scope:
        kept, fixed = get_variable("v", [1]), get_variable("w", [1], trainable=False)
        local = get_local_variable("l", [1])
        own = get_variable("o", [1], collections=["own"])
    outside = get_variable("ab", [1])
    assert graph.get_collection(GraphKeys.GLOBAL_VARIABLES) == [kept, fixed, outside]
    assert graph.get_collection(GraphKeys.TRAINABLE_VARIABLES) == [kept, own, outside]
    assert graph.get_collection("own") == [own]
    assert scope.global_variables() == [kept, fixed]
    assert scope.trainable_variables() == [kept, own]
    assert scope.local_variables() == [local]
    assert get_variable_scope().global_variables() == [kept, fixed, outside]


def test_collections_of_a_local_variable_are_added_to() -> None:
    own = ["own"]
    local = get_local_variable("l", [1], collections=own, trainable=True)
    graph = get_default_graph()
    assert own == ["own", GraphKeys.LOCAL_VARIABLES]  # as in TensorFlow 1, to the list itself
    assert [graph.get_collection(key) for key in ("own", GraphKeys.LOCAL_VARIABLES)] == [[local], [local]]
    assert graph.get_collection(GraphKeys.TRAINABLE_VARIABLES) == []
    for name, given in (("none", []), ("nor", ()), ("any", None)):
        get_local_variable(name, [1], collections=given)
        assert not given


def test_the_name_of_a_scope_is_a_regular_expression_in_its_own_collections() -> None:
    with variable_scope("a.b") as scope:
        inside = get_variable("v", [1])
    with variable_scope("axb"):
        alike = get_variable("v", [1])
    with variable_scope("aaxb"):
        get_variable("v", [1])
    assert scope.global_variables() == [inside, alike]


# -- threads and errors -----------------------------------------------------------------------


def test_threads_have_scopes_of_their_own_and_can_be_given_one(graph: Graph) -> None:
    names: list[str] = []

    def run(captured: VariableScope) -> None:
        with graph.as_default():
            names.append(get_variable_scope().name)
            with variable_scope(captured):
                names.append(get_variable("v", [1]).name)

    with variable_scope("main") as scope:
        thread = threading.Thread(target=run, args=(scope,))
        thread.start()
        thread.join()
    assert names == ["", "main/v:0"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name_or_scope": None}, TypeError),
        ({"name_or_scope": "a", "reuse": 3}, ValueError),
        ({"name_or_scope": "a", "auxiliary_name_scope": 1}, TypeError),
    ],
)
def test_arguments_are_checked_at_once(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        variable_scope(**arguments)


@pytest.mark.parametrize(("name", "error"), [(3, TypeError), (b"a", TypeError), ("bad name", ValueError)])
def test_a_name_is_checked_on_entering(name: Any, error: type[Exception]) -> None:
    with pytest.raises(error), variable_scope(name):
        pytest.fail("the block was entered")
    assert (get_variable_scope().name, get_default_graph().get_name_scope()) == ("", "")


def test_scopes_left_out_of_order_are_an_error() -> None:
    outer, inner = variable_scope("a"), variable_scope("b")
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(RuntimeError, match="'a' is left while 'a/b'"):
        outer.__exit__(None, None, None)
    assert get_variable_scope().name == "a/b"
    inner.__exit__(None, None, None)
    outer.__exit__(None, None, None)


@pytest.mark.parametrize("by_object", [False, True], ids=["name", "scope"])
def test_a_scope_whose_leaving_was_refused_can_be_left_in_its_turn(by_object: bool) -> None:
    with variable_scope("a") as captured:
        pass
    scopes = [variable_scope(captured if by_object else "a"), variable_scope("b"), variable_scope("c")]
    for each in scopes:
        each.__enter__()
    for outer in [scopes[0], scopes[1], scopes[0]]:
        with pytest.raises(RuntimeError, match="is left while 'a/b/c'"):
            outer.__exit__(None, None, None)
    for each in reversed(scopes):
        each.__exit__(None, None, None)
    assert (get_variable_scope().name, get_default_graph().get_name_scope()) == ("", "")
    assert get_variable("v", [1]).name.startswith("v")


def test_a_scope_that_is_not_open_cannot_be_left() -> None:
    scope = variable_scope("a")
    with scope:
        pass
    for each in (scope, variable_scope("b")):
        with pytest.raises(RuntimeError, match="not open"):
            each.__exit__(None, None, None)


# -- messages ---------------------------------------------------------------------------------


def test_messages_hold_the_phrases_of_tensorflow() -> None:
    get_variable("x", [1])
    get_variable("p", [4], partitioner=fixed_size_partitioner(2))
    phrase = "already exists, disallowed. Did you mean to set reuse=True or reuse=tf.AUTO_REUSE in VarScope?"
    with pytest.raises(ValueError, match=re.escape(f"Variable x {phrase}")):
        get_variable("x", [1])
    with pytest.raises(ValueError, match=re.escape(f"variable p {phrase}")):
        get_variable("p", [4], partitioner=fixed_size_partitioner(2))
    with pytest.raises(
        ValueError, match=r"It is float32 \[1\]; for it again, .* variable_scope\(\.\.\., reuse=AUTO_REUSE\)"
    ):
        get_variable("x", [1])
    with pytest.raises(
        ValueError, match="do not specify shape; 'zeros' is a text, and no initializer such as zeros_in"
    ):
        get_variable("z", [1], initializer="zeros")
    with variable_scope("", reuse=True):
        for name, partitioner in [("y", None), ("q", fixed_size_partitioner(2))]:
            missing = (
                rf"(?i)variable {name} does not exist, or was not created with tf\.get_variable\(\)\. Did you mean"
            )
            with pytest.raises(ValueError, match=missing):
                get_variable(name, [4], partitioner=partitioner)


@pytest.mark.parametrize("name", ["a b", "/a", "_a", "a:0"])
def test_a_bad_name_of_a_variable_is_called_that(name: str) -> None:
    message = f"'{name}' is not a valid name of a variable; use only letters"
    with pytest.raises(ValueError, match=message):
        get_variable(name, [1])
    with pytest.raises(ValueError, match=message):
        new_variable([1.0], name=name)
    with name_scope("s"), pytest.raises(ValueError, match="'a b' is not a valid name of a variable"):
        new_variable([1.0], name="a b")


def test_leaving_through_an_error_goes_back() -> None:
    with pytest.raises(KeyError), variable_scope("a"), name_scope("b"):
        raise KeyError
    assert (get_variable_scope().name, get_default_graph().get_name_scope()) == ("", "")
