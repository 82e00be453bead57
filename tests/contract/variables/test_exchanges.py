"""Each ps task is asked once, whatever is done with a variable."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.contract.variables.kinds import (
    AT_ONCE,
    DEFERRED,
    EAGER,
    INITIAL,
    PARTITIONED,
    PARTITIONED_DEFERRED,
    Subject,
    kinds,
)
from worker_client.values.conversion import IndexedSlices


@kinds(AT_ONCE)
def test_each_ps_task_that_has_some_of_it_is_asked_once(subject: Subject) -> None:
    v = subject.variable()
    other, everywhere, here = subject.variable(name="other"), [1, 1], [1, 0]
    if subject.kind == EAGER:
        everywhere = here
    calls: list[tuple[Any, list[int]]] = [
        (v.read_value, everywhere),
        (lambda: v.read_if_newer(v.version), [2 * each for each in everywhere]),
        (lambda: v.assign(INITIAL), everywhere),
        (lambda: v.assign_add(1), everywhere),
        (lambda: v.assign_sub(INITIAL, wire_dtype="int8"), everywhere),
        (lambda: v.assign_add(INITIAL, wait=False).result(timeout=30), everywhere),
        (lambda: v.gather([0, 1, 2, 3]), everywhere),
        (lambda: v.gather([1, 0]), here),
        (lambda: v.gather([]), here),
        (lambda: v.gather_nd([[0, 1], [3, 1]]), everywhere),
        (lambda: v.scatter_add([0, 3], INITIAL[:2]), everywhere),
        (lambda: v.scatter_update([0], 0), here),
        (lambda: v.scatter_nd_add([[0, 0], [3, 1]], 1, wait=False).result(timeout=30), everywhere),
        (lambda: v.version, everywhere),
        (lambda: v.initialized, everywhere),
        (v.initialize, everywhere),
        (lambda: v + 1, everywhere),
        (lambda: np.asarray(v), everywhere),
        (v.push_buffer, [0, 0]),
        (lambda: (v.ndim, v.nbytes, v.shape), [0, 0]),
    ]
    del other
    for call, expected in calls:
        before = subject.cluster.batches()
        call()
        asked = [after - each for after, each in zip(subject.cluster.batches(), before, strict=True)]
        assert asked == expected, call


@kinds([PARTITIONED])
def test_another_of_the_same_cut_is_read_with_one_exchange(subject: Subject) -> None:
    v, other = subject.variable(), subject.variable(INITIAL * 2, "other")
    before = subject.cluster.batches()
    v.assign(other)
    asked = [after - each for after, each in zip(subject.cluster.batches(), before, strict=True)]
    assert asked == [2, 2]  # one to read, one to assign


@kinds([DEFERRED, PARTITIONED_DEFERRED])
def test_a_session_asks_each_ps_task_once(subject: Subject) -> None:
    v = subject.variable()
    session = subject.session
    assert session is not None
    for made in (v.gather([0, 3]), v.scatter_add(IndexedSlices(INITIAL[:2], [0, 3])).op, v.read_value()):
        session.run(made)
        before = subject.cluster.batches()
        session.run(made)
        asked = [after - each for after, each in zip(subject.cluster.batches(), before, strict=True)]
        assert max(asked) <= (1 if "Scatter" not in made.name else 2), made
