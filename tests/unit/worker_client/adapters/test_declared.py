"""What names a model has on the cluster, what it begins with, and what is said of one that does not match."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import worker_client as ss
from ps_protocol.errors import InvalidArgumentError
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.adapters import declared
from worker_client.adapters.declared import declare
from worker_client.client import Client

Arrays = dict[str, npt.NDArray[Any]]


def model() -> Arrays:
    return {
        "conv/w": np.full((2, 3), 5, np.float32),
        "conv/b": np.ones(3, np.float64),
        "scale": np.array(2, np.float16),
    }


def names(client: Client) -> set[str]:
    return {each.name for each in client.variables()}


def test_each_array_is_a_variable_below_the_current_scope(client: Client) -> None:
    with client.as_default(), ss.variable_scope("outer"):
        found = declare(client, "net", model())
    assert names(client) == {"outer/net/conv/w", "outer/net/conv/b", "outer/net/scale"}
    assert {path: variable.dtype for path, variable in found.items()} == {
        "conv/w": np.float32,
        "conv/b": np.float64,
        "scale": np.float16,
    }
    np.testing.assert_array_equal(found["conv/w"].read_value(), np.full((2, 3), 5))


def test_the_values_of_the_first_worker_count(client: Client, cluster: InProcessCluster) -> None:
    declare(client, "net", model())
    other = {path: np.zeros_like(array) for path, array in model().items()}
    found = declare(cluster.client(1), "net", other)
    np.testing.assert_array_equal(found["conv/w"].read_value(), model()["conv/w"])


def test_the_same_process_finds_its_variables_again(client: Client) -> None:
    first, second = (declare(client, "net", model()) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("initializer", "expected"),
    [
        pytest.param(ss.zeros_initializer(), {"conv/w": 0, "conv/b": 0}, id="one for all"),
        pytest.param({"conv/b": ss.constant_initializer(7)}, {"conv/w": 5, "conv/b": 7}, id="for some"),
    ],
)
def test_the_ps_computes_the_first_values_by_choice(client: Client, initializer: Any, expected: dict[str, int]) -> None:
    found = declare(client, "net", model(), initializer=initializer)
    for path, value in expected.items():
        assert (found[path].read_value() == value).all()


def test_an_initializer_for_no_parameter_is_refused(client: Client) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"^net: there is an initializer for conv/x, but no such parameter; .*conv/w"
    ):
        declare(client, "net", model(), initializer={"conv/x": ss.zeros_initializer()})
    assert names(client) == set()


def test_variables_may_be_cut_into_parts(client: Client) -> None:
    arrays = {"w": np.arange(12, dtype=np.float32).reshape(4, 3)}
    found = declare(client, "net", arrays, partitioner=ss.fixed_size_partitioner(2))["w"]
    assert isinstance(found, ss.PartitionedVariable)
    np.testing.assert_array_equal(found.read_value(), arrays["w"])


def test_what_has_nothing_to_cut_stays_whole(client: Client) -> None:
    arrays = {"w": np.ones([4, 3]), "scale": np.array(2.0), "none": np.zeros([0, 3])}
    found = declare(client, "net", arrays, partitioner=ss.fixed_size_partitioner(2))
    assert {name for name, each in found.items() if isinstance(each, ss.PartitionedVariable)} == {"w"}
    assert float(found["scale"]) == 2.0


def test_a_model_that_does_not_match_is_refused_with_all_differences(client: Client, cluster: InProcessCluster) -> None:
    declare(client, "net", model())
    other = {**model(), "conv/w": np.zeros((2, 4), np.float32), "scale": np.array(2, np.float32), "more": np.ones(1)}
    del other["conv/b"]
    with pytest.raises(InvalidArgumentError) as caught:
        declare(cluster.client(1), "net", other)
    assert str(caught.value).startswith(
        "the cluster has another model of the name net; only in the cluster: conv/b (float64 [3]); only in this model: "
        "more (float64 [1]); different: conv/w is float32 [2, 4] here and float32 [2, 3] there, scale is float32 [] "
        "here and float16 [] there; nothing was declared."
    )
    assert names(client) == {"net/conv/w", "net/conv/b", "net/scale"}


def test_a_model_that_has_grown_is_declared(client: Client, cluster: InProcessCluster) -> None:
    declare(client, "net", model())
    found = declare(cluster.client(1), "net", {**model(), "more": np.ones(1)})
    np.testing.assert_array_equal(found["more"].read_value(), [1])


def test_slots_averages_and_tables_beside_are_no_part_of_a_model(client: Client) -> None:
    found = declare(client, "net", model())
    with client.as_default():
        ss.train.Adam(0.1).apply_gradients([(np.ones(3), found["conv/b"])])
        ss.get_variable("net/conv/w/average", initializer=np.ones(1))
        ss.get_variable("net/table", initializer=np.ones(1))
    declare(client, "net", model(), beside=["net/table"])
    with pytest.raises(InvalidArgumentError, match=r"only in the cluster: table \(float64 \[1\]\); nothing"):
        declare(client, "net", model())


def test_another_worker_that_declares_at_the_same_time_is_noticed(
    client: Client, cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_variable, other = ss.get_variable, cluster.client(1)

    def and_another(path: str, *arguments: Any, **more: Any) -> Any:
        with other.as_default():
            ss.get_variable(f"net/of_other_{path}", initializer=np.ones(1))
        return get_variable(path, *arguments, **more)

    monkeypatch.setattr(declared, "get_variable", and_another)
    with pytest.raises(InvalidArgumentError, match=r"of_other_w .* another worker has declared them at the same time"):
        declare(client, "net", {"w": np.ones(2)})


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_model_needs_a_name(client: Client, name: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="a model is shared under a name, as 'net'"):
        declare(client, name, model())
