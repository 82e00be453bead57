"""Name scopes: how they nest, are numbered, are entered again and are kept apart by thread."""

from __future__ import annotations

import threading

import pytest

from worker_client.graph.name_scopes import NameScopes


def test_names_are_prefixed_and_scopes_numbered() -> None:
    scopes = NameScopes()
    with scopes.open("a") as first, scopes.open("b") as inner:
        assert (first, inner, scopes.current, scopes.unique("v")) == ("a/", "a/b/", "a/b", "a/b/v")
    with scopes.open("a") as second:
        assert second == "a_1/"
    assert scopes.current == ""


def test_operations_and_scopes_share_their_names() -> None:
    scopes = NameScopes()
    assert scopes.unique("a") == "a"
    with scopes.open("a") as scope:
        assert scope == "a_1/"


def test_a_slash_at_the_end_enters_exactly() -> None:
    scopes = NameScopes()
    with scopes.open("a"):
        scopes.unique("v")
    with scopes.open("other"), scopes.open("a/") as again:
        assert (again, scopes.unique("v")) == ("a/", "a/v_1")


@pytest.mark.parametrize("name", [None, ""])
def test_none_and_the_empty_name_go_to_the_root(name: str | None) -> None:
    scopes = NameScopes()
    with scopes.open("a"):
        with scopes.open(name) as root:
            assert (root, scopes.current, scopes.unique("v")) == ("", "", "v")
        assert scopes.current == "a"


def test_bytes_are_a_name_too() -> None:
    with NameScopes().open(b"a") as scope:
        assert scope == "a/"


def test_one_context_manager_opens_a_new_scope_each_time_even_inside_itself() -> None:
    scopes = NameScopes()
    scope = scopes.open("a")
    with scope as first, scope as inner:
        assert (first, inner) == ("a/", "a/a/")
    with scope as second:
        assert second == "a_1/"
    assert scopes.current == ""


def test_a_name_that_is_refused_changes_nothing() -> None:
    scopes = NameScopes()
    with scopes.open("a"):
        with pytest.raises(ValueError, match="b c"), scopes.open("b c"):
            pass
        assert scopes.current == "a"


def test_a_thread_starts_at_the_root_and_shares_the_names() -> None:
    scopes = NameScopes()
    seen: list[str] = []

    def run() -> None:
        seen.append(scopes.current)
        with scopes.open("a") as scope:
            seen.append(scope)

    with scopes.open("a"):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert scopes.current == "a"
    assert seen == ["", "a_1/"]


def test_entering_the_same_scopes_over_and_over_takes_no_more_memory() -> None:
    scopes = NameScopes(forgets_unused=True)
    sizes = set()
    for _ in range(20):
        with scopes.open("step"), scopes.open("layer"), scopes.open("weights"):
            pass
        sizes.add(len(scopes._table._next_number))
    assert sizes == {1}


def test_names_of_scopes_are_numbered_alike_whether_or_not_unused_ones_are_forgotten() -> None:
    given = []
    for forgets_unused in (False, True):
        scopes, names = NameScopes(forgets_unused=forgets_unused), []
        for _ in range(3):
            with scopes.open("a") as outer:
                for _ in range(2):
                    with scopes.open("b") as inner:
                        names += [outer, inner]
        given.append(names)
    assert given[0] == given[1]


def test_the_names_in_a_scope_where_something_was_made_are_kept() -> None:
    scopes = NameScopes(forgets_unused=True)
    with scopes.open("a"), scopes.open("b"):
        scopes.unique("v")
    with scopes.open("a/"), scopes.open("b") as again:
        assert again == "a/b_1/"


def test_an_exact_name_marks_the_scope_as_used() -> None:
    scopes = NameScopes(forgets_unused=True)
    with scopes.open("a"), scopes.open("v"):
        scopes.mark_current_as_used()
    with scopes.open("a/"), scopes.open("v") as again:
        assert again == "a/v_1/"


def test_scopes_opened_under_an_exact_name_are_kept() -> None:
    scopes = NameScopes(forgets_unused=True)
    with scopes.open("a/"), scopes.open("b") as first:
        pass
    with scopes.open("a/"), scopes.open("b") as second:
        pass
    assert (first, second) == ("a/b/", "a/b_1/")
