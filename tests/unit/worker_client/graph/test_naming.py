"""Which names are valid and how they are kept apart."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from worker_client.graph.naming import NameTable, check_operation_name, check_scope_name

INSIDE_ONLY = ["_a", "-a", "/a", "\\a", ">a"]
EVERYWHERE = ["a", "A.b", "0a", ".a", "a-b", "a\\b", "a>b", "a//b", "a/"]
NOWHERE = ["a b", "a:0", "é", "a+b", "a\n"]


@pytest.mark.parametrize("name", EVERYWHERE)
def test_names_that_are_valid_everywhere(name: str) -> None:
    check_scope_name(name, "")
    check_scope_name(name, "outer")
    check_operation_name(name)


@pytest.mark.parametrize("name", INSIDE_ONLY)
def test_the_first_character_matters_only_at_the_root(name: str) -> None:
    check_scope_name(name, "outer")
    with pytest.raises(ValueError, match="at the root"):
        check_scope_name(name, "")
    with pytest.raises(ValueError, match="begin it with"):
        check_operation_name(name)


@pytest.mark.parametrize("name", NOWHERE)
def test_other_characters_are_refused(name: str) -> None:
    for outer in ("", "outer"):
        with pytest.raises(ValueError, match="use only letters"):
            check_scope_name(name, outer)
    with pytest.raises(ValueError, match="use only letters"):
        check_operation_name(name)


def test_a_scope_name_that_is_no_string_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="3"):
        check_scope_name(3, "")


def test_names_are_numbered_in_order() -> None:
    table = NameTable()
    assert [table.unique("v") for _ in range(3)] == ["v", "v_1", "v_2"]


def test_case_does_not_tell_names_apart() -> None:
    table = NameTable()
    assert [table.unique(name) for name in ("Foo", "foo", "FOO")] == ["Foo", "foo_1", "FOO_2"]


def test_a_number_that_was_asked_for_by_name_is_skipped() -> None:
    table = NameTable()
    assert [table.unique(name) for name in ("v_1", "v", "v", "v")] == ["v_1", "v", "v_2", "v_3"]


def test_a_numbered_name_that_was_given_out_is_taken() -> None:
    table = NameTable()
    assert [table.unique(name) for name in ("v", "v", "v_1", "v_1", "v_01", "v_2")] == [
        "v",
        "v_1",
        "v_1_1",
        "v_1_2",
        "v_01",
        "v_2",
    ]


@pytest.mark.parametrize("name", ["_1", "x_01", "x_0", "x_1_", "1"])
def test_what_only_looks_like_a_numbered_name_is_free(name: str) -> None:
    table = NameTable()
    for given in ("x", "x", ""):
        table.unique(given)
    assert table.unique(name) == name


def test_a_name_can_be_looked_up_without_taking_it() -> None:
    table = NameTable()
    table.unique("v")
    assert [table.unique("v", mark_as_used=False), table.unique("v", mark_as_used=False)] == ["v_1", "v_1"]
    assert table.unique("v") == "v_1"


def test_a_family_of_names_takes_one_entry() -> None:
    table = NameTable()
    for _ in range(100):
        table.unique("step")
    assert len(table._next_number) == 1


def test_a_forgotten_name_is_free_again_and_others_are_not() -> None:
    table = NameTable()
    for name in ("a", "B", "b"):
        table.unique(name)
    table.forget(["B"])
    assert [table.unique("b"), table.unique("b_1"), table.unique("a")] == ["b", "b_1", "a_1"]


def test_threads_never_get_the_same_name() -> None:
    table = NameTable()
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda _: table.unique("v"), range(400)))
    assert len(set(names)) == 400
