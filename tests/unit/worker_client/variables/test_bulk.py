"""Many variables at once: one exchange for each ps task; what does not fit together is refused before any."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, ShapeMismatchError
from tests.unit.worker_client.clusters import TIMEOUT_S, InProcessCluster
from worker_client.client import Client
from worker_client.graph.graph import Graph
from worker_client.initializers import zeros_initializer
from worker_client.scopes.variable_scope import get_local_variable, get_variable
from worker_client.values.conversion import IndexedSlices
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.partitioners import fixed_size_partitioner
from worker_client.variables.variable import Variable


@pytest.fixture
def variables(client: Client) -> list[Any]:
    """One on each ps task, and one that is cut over both."""
    zeros = zeros_initializer()
    cut: PartitionedVariable = get_variable("cut", [4, 2], initializer=zeros, partitioner=fixed_size_partitioner(2))
    whole: list[Variable] = [get_variable(name, [2], initializer=zeros) for name in ("a", "b")]
    return [*whole, cut]


def lists(values: Any) -> list[Any]:
    return [value.tolist() for value in values]


def test_each_ps_task_is_asked_once(client: Client, cluster: InProcessCluster, variables: list[Any]) -> None:
    before = cluster.batches()
    client.assign_add_all([(each, np.full(each.shape, index)) for index, each in enumerate(variables, 1)])
    assert lists(client.read_all(variables)) == [[1, 1], [2, 2], [[3, 3]] * 4]
    client.assign_all([(variables[1], [5, 6]), (variables[0], [7, 8])])
    assert lists(client.gather_all([(variables[0], [1]), (variables[1], [0, 0])])) == [[8], [5, 5]]
    assert [after - each for after, each in zip(cluster.batches(), before, strict=True)] == [4, 4]


def test_deltas_may_be_of_some_rows(client: Client, cluster: InProcessCluster, variables: list[Any]) -> None:
    before = cluster.batches()
    rows = IndexedSlices(np.ones([3, 2]), [3, 0, 3])
    client.assign_add_all([(variables[0], [1, 1]), (variables[1], IndexedSlices([2, 3], [1, 1])), (variables[2], rows)])
    assert [after - each for after, each in zip(cluster.batches(), before, strict=True)] == [1, 1]
    assert client.assign_add_all({variables[2]: rows}, wait=False).result(TIMEOUT_S) is None
    assert lists(client.read_all(variables)) == [[1, 1], [0, 5], [[2, 2], [0, 0], [0, 0], [4, 4]]]


@pytest.mark.parametrize(
    ("values", "indices"), [(np.ones([2, 2]), [0, 4]), (np.ones([2, 3]), [0, 1]), (np.ones([1, 2]), [-1])]
)
@pytest.mark.parametrize("name", ["cut", "whole"])
def test_rows_that_do_not_fit_change_nothing(
    client: Client, variables: list[Any], values: Any, indices: Any, name: str
) -> None:
    variable = variables[2] if name == "cut" else get_variable("whole", [4, 2], initializer=zeros_initializer())
    with pytest.raises(InvalidArgumentError, match=name):
        client.assign_add_all([(variables[0], [1, 1]), (variable, IndexedSlices(values, indices))])
    assert lists(client.read_all(variables)) == [[0, 0], [0, 0], [[0, 0]] * 4]


def test_what_cannot_be_added_is_refused_before_anything_is(client: Client, variables: list[Any]) -> None:
    done = get_variable("done", [2], np.bool_, initializer=zeros_initializer())
    for delta in ([True, True], IndexedSlices([True], [0])):
        with pytest.raises(InvalidArgumentError, match=r"variable done .*holds truth values, for which there is no"):
            client.assign_add_all([(variables[0], [1, 1]), (variables[1], [1, 1]), (done, delta)])
    assert lists(client.read_all(variables[:2])) == [[0, 0], [0, 0]]


def test_values_that_are_not_waited_for_come_before_what_is_sent_next(client: Client, variables: list[Any]) -> None:
    value = np.array([5.0, 6.0], np.float32)
    sent = client.assign_all([(variables[0], value), (variables[2], np.ones((4, 2)))], wait=False)
    value[...] = 0  # the caller's again
    variables[0].assign_add([1, 1])
    assert sent.result(TIMEOUT_S) is None
    assert lists(client.read_all([variables[0], variables[2]])) == [[6, 7], [[1, 1]] * 4]


def test_those_of_another_cluster_are_refused(client: Client, variables: list[Any]) -> None:
    """A cluster that has variables of the same names must not be read or changed instead."""
    with InProcessCluster() as other_cluster, other_cluster.client() as other:
        theirs = [get_variable("a", [2], initializer=zeros_initializer()), get_local_variable("own", [2])]
        for alien in theirs:
            for call in (
                lambda alien=alien: client.read_all([variables[0], alien]),
                lambda alien=alien: client.read_all_if_newer([alien], [None]),
                lambda alien=alien: client.gather_all({alien: [0]}),
                lambda alien=alien: client.assign_all({alien: [1, 1]}),
                lambda alien=alien: client.assign_add_all([(variables[1], 1), (alien, 1)], wait=False),
                lambda alien=alien: client.mirror([alien]),
            ):
                with pytest.raises(InvalidArgumentError, match=f"variable {alien.spec.name} is of another connection"):
                    call()
        other.assign_all({theirs[0]: [5, 5]})
        assert other.read_all(theirs[:1])[0].tolist() == [5, 5]
    assert lists(client.read_all(variables)) == [[0, 0], [0, 0], [[0, 0]] * 4]


def test_those_of_another_connection_to_the_same_cluster_are_taken(
    cluster: InProcessCluster, variables: list[Any]
) -> None:
    with cluster.client(1) as other:
        other.assign_add_all({each: np.ones(each.shape) for each in variables})
        assert lists(other.read_all(variables)) == [[1, 1], [1, 1], [[1, 1]] * 4]


def test_they_may_be_given_as_dictionaries(client: Client, cluster: InProcessCluster, variables: list[Any]) -> None:
    named = dict(zip("abc", variables, strict=True))
    before = cluster.batches()
    client.assign_add_all({variables[0]: [1, 2], variables[2]: np.ones((4, 2))})
    read = client.read_all(named)
    assert {name: value.tolist() for name, value in read.items()} == {"a": [1, 2], "b": [0, 0], "c": [[1, 1]] * 4}
    out = {name: np.empty_like(value) for name, value in reversed(read.items())}
    assert all(value is out[name] for name, value in client.read_all(named, out=out).items())
    assert out["a"].tolist() == [1, 2]
    rows = client.gather_all({variables[0]: [1], variables[2]: [0, 3]})
    assert list(rows) == [variables[0], variables[2]]
    assert lists(rows.values()) == [[2], [[1, 1], [1, 1]]]
    assert [after - each for after, each in zip(cluster.batches(), before, strict=True)] == [4, 4]
    with pytest.raises(InvalidArgumentError, match="`out` as one with the same keys"):
        client.read_all(named, out={"a": out["a"]})
    with pytest.raises(InvalidArgumentError, match="`out` takes a list"):
        client.read_all(variables, out=out)  # type: ignore[call-overload] # that is what is tested


def test_they_may_be_given_by_name(client: Client, cluster: InProcessCluster, variables: list[Any]) -> None:
    before = cluster.batches()
    deltas: dict[str, npt.ArrayLike] = {"a": [1, 2], "cut": np.ones((4, 2))}
    client.assign_add_all(deltas)
    client.assign_all([("b:0", [5, 6])])
    assert lists(client.read_all(["a", variables[1], "cut"])) == [[1, 2], [5, 6], [[1, 1]] * 4]
    assert {key: value.tolist() for key, value in client.read_all({"x": "a"}).items()} == {"x": [1, 2]}
    assert {key: value.tolist() for key, value in client.gather_all({"cut": [3], "b": [1]}).items()} == {
        "cut": [[1, 1]],
        "b": [6],
    }
    version = variables[0].version
    newer = client.read_all_if_newer({"x": "a", "y": "b"}, {"y": None, "x": version})
    assert newer["x"] is None
    assert newer["y"] is not None
    assert newer["y"].value.tolist() == [5, 6]
    assert {key: value.shape for key, value in client.push_buffers({"x": "cut"}).items()} == {"x": (4, 2)}
    assert lists(client.mirror({"x": "a"}).values) == [[1, 2]]
    assert sum(cluster.batches()) > sum(before)


def test_a_name_that_there_is_not_is_told_before_anything_is_sent(
    client: Client, cluster: InProcessCluster, variables: list[Any]
) -> None:
    before = cluster.batches()
    with pytest.raises(NotFoundError, match="no variable nope in the cluster"):
        client.assign_add_all({"a": [1, 1], "nope": [1, 1]})
    assert cluster.batches() == before


def test_rows_of_whole_and_partitioned_variables_come_together(
    client: Client, cluster: InProcessCluster, variables: list[Any]
) -> None:
    client.assign_all([(variables[0], [5, 6]), (variables[2], np.arange(8).reshape(4, 2))])
    out = [np.empty(1, np.float32), np.empty((3, 2), np.float32)]
    before = cluster.batches()
    found = client.gather_all([(variables[0], [1]), (variables[2], [3, 0, 2])], out=out)
    assert lists(found) == [[6], [[6, 7], [0, 1], [4, 5]]]
    assert [given is array for given, array in zip(found, out, strict=True)] == [True, True]
    assert [after - each for after, each in zip(cluster.batches(), before, strict=True)] == [1, 1]
    with pytest.raises(InvalidArgumentError, match=r"row 4 .*variable cut"):
        client.gather_all([(variables[0], [1]), (variables[2], [4])])
    memory = np.zeros(8, np.int64)
    with pytest.raises(InvalidArgumentError, match="overlaps the indices"):
        client.gather_all(
            [(variables[0], memory[:1]), (variables[2], [0])], out=[out[0], memory.view(np.float32)[:2].reshape(1, 2)]
        )


def test_what_is_wanted_is_said(client: Any, cluster: InProcessCluster, variables: list[Any]) -> None:
    whole, cut = variables[0], variables[2]
    before = cluster.batches()
    with Graph().as_default():
        deferred = get_variable("d", [2])
    calls: list[tuple[Callable[[], object], str]] = [
        *(
            (lambda each=each, read=read: read(each), r"takes a list of variables, not one: give \[(a:0|cut)\]")
            for each in (whole, cut)
            for read in (
                client.read_all,
                client.mirror,
                client.push_buffers,
                lambda v: client.read_all_if_newer(v, [None]),
            )
        ),
        (lambda: client.read_all(3), "read_all takes a list of variables .*not 3"),
        (lambda: client.read_all("a:0"), r"read_all takes a list of variables, not one: give \['a:0'\]"),
        (lambda: client.read_all([whole, 3]), "read_all takes variables of a connection, or their names, not 3"),
        (
            lambda: client.read_all([deferred]),
            r"takes variables of a connection, .*not <tf.Variable 'd:0'.*Session\.run",
        ),
        (lambda: client.read_all({"a": np.zeros(2)}), "read_all takes variables"),
        (
            lambda: client.assign_add_all(whole),
            "assign_add_all takes pairs of a variable of a connection, or its name, and its value",
        ),
        (
            lambda: client.assign_add_all(cut),
            "assign_add_all takes pairs of a variable of a connection, or its name, and its value",
        ),
        (lambda: client.assign_add_all((whole, [1, 1])), "takes pairs .*or as a dictionary"),
        (lambda: client.assign_all([whole]), "assign_all takes pairs"),
        (lambda: client.assign_all([(whole,)]), "assign_all takes pairs"),
        (lambda: client.assign_all({5: [1, 1]}), "assign_all takes variables .*not 5"),
        (lambda: client.read_all_if_newer({"x": whole}, [None]), "give `versions` as one with the same keys"),
        (lambda: client.gather_all({whole: [0]}, out=[np.zeros(1)]), "give `out` as one with the same keys"),
        (
            lambda: client.gather_all(cut),
            "gather_all takes pairs of a variable of a connection, or its name, and its indices",
        ),
    ]
    for call, message in calls:
        with pytest.raises(InvalidArgumentError, match=message):
            call()
    assert cluster.batches() == before


def test_one_that_does_not_fit_leaves_all_as_they_are(
    client: Client, cluster: InProcessCluster, variables: list[Any]
) -> None:
    before = cluster.batches()
    with pytest.raises(ShapeMismatchError, match="variable b"):
        client.assign_add_all([(variables[0], [1, 1]), (variables[1], [1, 1, 1])])
    with pytest.raises(InvalidArgumentError, match="3 variables, but 1 versions"):
        client.read_all_if_newer(variables, [None])
    with pytest.raises(InvalidArgumentError, match="3 variables, but 2 arrays"):
        client.read_all(variables, out=[np.empty(2, np.float32)] * 2)
    assert cluster.batches() == before
    assert lists(client.read_all(variables[:2])) == [[0, 0], [0, 0]]


@pytest.mark.parametrize("wire_dtype", ["exact", "int8"])
def test_an_update_that_was_queued_cannot_be_cancelled(client: Client, variables: list[Any], wire_dtype: Any) -> None:
    delta = np.full(2, 127, np.float32)
    futures: list[Future[Any]] = [
        variables[0].assign_add(delta, wait=False, wire_dtype=wire_dtype),
        variables[1].assign(delta, wait=False, wire_dtype=wire_dtype),
        client.assign_add_all([(each, delta) for each in variables[:2]], wait=False, wire_dtype=wire_dtype),
    ]
    cancelled = [future.cancel() for future in futures]
    assert cancelled == [False, False, False]
    for future in futures:
        future.result(TIMEOUT_S)
    assert lists(client.read_all(variables[:2])) == [[254, 254], [254, 254]]


def test_after_the_end_nothing_is_sent(cluster: InProcessCluster, variables: list[Any], client: Client) -> None:
    client.close()
    before = cluster.batches()
    for call in (lambda: client.read_all(variables), lambda: client.assign_all([(variables[0], [1, 1])])):
        with pytest.raises(FailedPreconditionError, match="closed"):
            call()
    assert cluster.batches() == before


def test_buffers_to_push_from_have_the_form_of_their_variables(client: Client, variables: list[Any]) -> None:
    buffers = client.push_buffers(variables)
    assert [each.shape for each in buffers] == [(2,), (2,), (4, 2)]
    assert all(each.dtype == np.float32 and each.flags.writeable for each in buffers)
