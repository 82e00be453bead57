"""The counters behind ``default_name``: against a plain model that copies and scans a dict, as TensorFlow does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker_client.scopes.counters import ScopeCounters

NAMES = ["a", "b", "a/b", "a/b/a", "a_1", "", "a/"]


class Model:
    """Counts in a dict; a copy copies it, clearing scans it."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def increment(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def clear_below(self, name: str) -> None:
        for other in self.counts:
            if other.startswith(f"{name}/"):
                self.counts[other] = 0

    def unique(self, scope: str, default_name: str) -> str:
        prefix = f"{scope}/{default_name}" if scope else default_name
        if not self.counts.get(prefix):
            return default_name
        number = 1
        while self.counts.get(f"{prefix}_{number}"):
            number += 1
        return f"{default_name}_{number}"


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["increment", "clear_below"]), st.sampled_from(NAMES)),
            st.tuples(st.sampled_from(["snapshot", "restore"]), st.just("")),
        ),
        max_size=40,
    )
)
def test_the_tree_counts_as_the_model(steps: list[tuple[str, str]]) -> None:
    model, counters = Model(), ScopeCounters()
    copies: list[tuple[object, object]] = []
    for step, name in steps:
        if step == "snapshot":
            copies.append((dict(model.counts), counters.snapshot()))
        elif step == "restore":
            if copies:
                model.counts, snapshot = copies.pop()  # type: ignore[assignment]  # one list for both kinds of copies
                counters.restore(snapshot)  # type: ignore[arg-type]  # as above
        else:
            getattr(model, step)(name)
            getattr(counters, step)(name)
        assert [counters.count(each) for each in NAMES] == [model.counts.get(each, 0) for each in NAMES]
        for scope in ("", "a", "a/b"):
            assert counters.unique(scope, "a") == model.unique(scope, "a")


def test_unique_names_fill_gaps_and_start_anew_when_cleared() -> None:
    counters = ScopeCounters()
    for name in ("x/a", "x/a_2"):
        counters.increment(name)
    assert counters.unique("x", "a") == "a_1"
    counters.increment("x/a_1")
    assert counters.unique("x", "a") == "a_3"
    counters.clear_below("x")
    assert counters.unique("x", "a") == "a"


def test_going_back_to_a_copy_forgets_which_numbers_were_tried() -> None:
    counters = ScopeCounters()
    counters.increment("a")
    copy = counters.snapshot()
    counters.increment("a_1")
    assert counters.unique("", "a") == "a_2"
    counters.restore(copy)
    assert counters.unique("", "a") == "a_1"


def test_many_numbered_scopes_do_not_make_the_next_one_slower() -> None:
    counters = ScopeCounters()
    counters.increment("a")
    for number in range(1, 2000):
        name = counters.unique("", "a")
        assert name == f"a_{number}"
        counters.increment(name)
