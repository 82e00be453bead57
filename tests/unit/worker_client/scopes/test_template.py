"""Templates share the variables of their function."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, cast

import pytest

from tests.unit.worker_client.naming_fakes import deferred_graph
from worker_client.graph.default_graph import get_default_graph
from worker_client.scopes.creation import new_variable
from worker_client.scopes.template import make_template
from worker_client.scopes.variable_scope import get_local_variable, get_variable, get_variable_scope, variable_scope
from worker_client.values.dtypes import float32


@pytest.fixture(autouse=True)
def _graph() -> Iterator[None]:
    with deferred_graph().as_default():
        yield


def layer() -> tuple[str, str]:
    return get_variable("v", [1]).name, get_default_graph().create_op("op").name


def test_all_calls_share_the_variables_in_name_scopes_of_their_own() -> None:
    template, other = make_template("t", layer), make_template("t", layer)
    assert [template(), template(), other()] == [("t/v:0", "t/op"), ("t/v:0", "t_1/op"), ("t_1/v:0", "t_2/op")]
    with variable_scope("outer"):
        assert template() == ("t/v:0", "outer/t/op")
        assert make_template("t", layer)()[0] == "outer/t/v:0"


def test_the_scope_can_be_fixed_when_the_template_is_made() -> None:
    with variable_scope("outer", dtype="float64"):
        template = make_template("t", layer, create_scope_now_=True)
    assert (template.variable_scope_name, template()[0]) == ("outer/t/", "outer/t/v:0")
    scope = template.variable_scope
    assert scope is not None
    assert (scope.original_name_scope, scope.dtype) == ("t", float32)


def test_a_unique_name_is_taken_as_it_is() -> None:
    template, other = (make_template("t", layer, unique_name_="fixed") for _ in range(2))
    assert template()[0] == "fixed/v:0"
    with pytest.raises(ValueError, match="fixed/v already exists"):
        other()


def test_arguments_and_the_getter_are_passed_on() -> None:
    def getter(getter: Any, name: str, **keywords: Any) -> Any:
        return getter(f"{name}_x", **keywords)

    template = make_template("t", lambda x, y: (get_variable("v", [1]).name, x, y), custom_getter_=getter, y=5)
    assert [template(1), template(2)] == [("t/v_x:0", 1, 5), ("t/v_x:0", 2, 5)]


def test_what_a_template_knows() -> None:
    def function() -> None:
        get_variable("v", [1])
        get_variable("w", [1], trainable=False)
        get_local_variable("l", [1])

    template = make_template("t", function)
    assert (template.variable_scope, template.variable_scope_name, template.variables) == (None, None, [])
    template()
    assert (template.name, template.func, template.variable_scope_name) == ("t", function, "t/")
    assert template.var_scope is template.variable_scope
    assert [variable.name for variable in template.variables] == ["t/v:0", "t/w:0", "t/l:0"]
    assert [variable.name for variable in template.trainable_variables] == ["t/v:0"]
    assert [variable.name for variable in template.global_variables] == ["t/v:0", "t/w:0"]
    assert [variable.name for variable in template.local_variables] == ["t/l:0"]


def test_a_trainable_variable_of_a_later_call_is_an_error() -> None:
    template = make_template("t", lambda: new_variable(1.0).name)
    assert template() == "t/Variable:0"
    with pytest.raises(ValueError, match="t_1/Variable:0; get them with get_variable"):
        template()


def test_another_variable_of_a_later_call_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    template = make_template("t", lambda: new_variable(1.0, trainable=False))
    with caplog.at_level(logging.INFO):
        template()
        assert not caplog.records
        template()
    assert "'t'" in caplog.text


def test_a_first_call_that_failed_has_made_what_it_made() -> None:
    calls: list[int] = []

    def function() -> None:
        get_variable("v", [1])
        calls.append(1)
        if len(calls) == 1:
            raise KeyError("first")

    template = make_template("t", function)
    with pytest.raises(KeyError) as caught:
        template()
    assert any("template 't'" in note for note in caught.value.__notes__)
    with pytest.raises(ValueError, match="t/v already exists"):
        template()
    assert get_variable_scope().name == ""


@pytest.mark.parametrize("name", [None, ""])
def test_a_template_needs_a_name(name: Any) -> None:
    with pytest.raises(ValueError, match="name"):
        make_template(cast(str, name), layer)
