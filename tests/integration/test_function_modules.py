"""Functions that a team has written itself, in real ps processes: called, journalled, replicated and missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client
from ps_cluster import ClusterStartError, LocalCluster
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Apply, Declare, VariableSpec
from tests.integration.durable_ps import DurablePs, NumberingClient
from worker_client.initializers import zeros_initializer
from worker_client.scopes.variable_scope import get_variable

pytestmark = pytest.mark.integration

RULES = """
def doubled_and_added(value, slots, arguments):
    (sums,) = slots
    return 2 * value + arguments[0], [sums + value]

FUNCTIONS = {"doubled_and_added": doubled_and_added}
REDUCTIONS = {"span": lambda value, arguments: value.max() - value.min()}
"""
SHAPE = (4, 3)


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module in the working directory."""
    (tmp_path / "own_rules.py").write_text(RULES)
    monkeypatch.chdir(tmp_path)
    return "own_rules"


def called() -> tuple[Any, Any]:
    """Has made a variable and a slot on one ps task, and called the function three times."""
    v = get_variable("v", SHAPE, initializer=zeros_initializer())
    with worker_client.device(v.device):
        sums = get_variable("sums", SHAPE, initializer=zeros_initializer())
    for argument in (1, np.arange(12, dtype=np.float32).reshape(SHAPE), 0.5):
        v.apply("doubled_and_added", argument, slots=(sums,))
    return v, sums


def expected() -> tuple[Any, Any]:
    counted = np.arange(12, dtype=np.float32).reshape(SHAPE)
    return 2 * (2 + counted) + np.float32(0.5), 3 + counted


def assert_as_expected(v: Any, sums: Any) -> None:
    for variable, value in zip((v, sums), expected(), strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_journal_calls_them_again(rules: str) -> None:
    with (
        LocalCluster(num_ps=1, functions=rules, durability="journal") as cluster,
        worker_client.connect(cluster.cluster_spec),
    ):
        v, sums = called()
        assert_as_expected(v, sums)
        assert v.reduce("span") == 22
        cluster.kill_ps(0)
        cluster.restart_ps(0)
        assert_as_expected(v, sums)


def test_a_backup_calls_them_too(rules: str) -> None:
    with (
        LocalCluster(num_ps=2, replicas=1, functions=rules) as cluster,
        worker_client.connect(cluster.cluster_spec),
    ):
        v, sums = called()
        cluster.kill_ps(0)
        assert_as_expected(v, sums)


def test_a_ps_without_them_says_at_its_start_what_is_missing(rules: str, tmp_path: Path) -> None:
    arguments = ("--durability", "journal", "--data-dir", str(tmp_path / "data"))
    client = NumberingClient()
    with DurablePs(tmp_path, *arguments, "--functions", rules) as ps:
        client.hello(ps)
        zero = InitializerSpec(ConstantKind(0.0))
        client.change(ps, *(Declare(VariableSpec(name, np.dtype(np.float32), SHAPE), zero) for name in ("v", "sums")))
        call = Apply("v", "doubled_and_added", ("sums",), "", (np.array(1.0),), np.empty(0))
        assert not isinstance(client.change(ps, call).replies[0], Exception)
        ps.kill()
    with DurablePs(tmp_path, *arguments) as ps:
        assert ps.wait() == 1
        (error,) = [line for line in ps.log if line["level"] == "error"]
        assert "calls the function 'doubled_and_added' on variable v" in error["reason"]
        assert "start it with the --functions module that has it" in error["reason"]
    with DurablePs(tmp_path, *arguments, environ={"SHARDSCOPE_FUNCTIONS": rules}) as ps:
        client.hello(ps)
        np.testing.assert_array_equal(client.read(ps, "v")[0], np.ones(SHAPE))


def test_a_module_that_is_not_there_ends_the_start() -> None:
    with pytest.raises(
        ClusterStartError, match=r"(?s)exit code 1.*--functions module no_such_rules cannot be imported"
    ):
        LocalCluster(num_ps=1, functions="no_such_rules").start()


def test_a_name_that_is_none_is_refused_before_anything_starts() -> None:
    with pytest.raises(ValueError, match=r"functions is 'rules.py:f'; it should be the name of a Python module"):
        LocalCluster(num_ps=1, functions="rules.py:f")


def test_an_error_says_where_it_was_raised(rules: str) -> None:
    with LocalCluster(num_ps=1, functions=rules) as cluster, worker_client.connect(cluster.cluster_spec):
        v = get_variable("v", SHAPE, initializer=zeros_initializer())
        with pytest.raises(
            InvalidArgumentError,
            match=r"ps:0.*variable v .*'doubled_and_added' has raised ValueError: .*own_rules\.py, line 3",
        ):
            v.apply("doubled_and_added", 1)
        assert v.version == 0
