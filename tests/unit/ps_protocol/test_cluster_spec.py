"""Cluster specs, task names and ``TF_CONFIG``, beyond what the recorded traces of TensorFlow cover."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from ps_protocol.cluster_spec import ClusterSpec, ClusterSpecLike, TaskId, TfConfig, as_cluster_spec
from ps_protocol.task_id import MAX_TASK_INDEX

DENSE: ClusterSpecLike = {"ps": ["a:1", "b:2"], "worker": ["c:3"]}
SPARSE: ClusterSpecLike = {"ps": ["a:1"], "worker": {1: "b:2", 3: "c:3"}}


class TestTaskId:
    def test_reads_and_writes_job_and_index(self) -> None:
        assert TaskId.parse("ps:12") == TaskId("ps", 12)
        assert str(TaskId("ps", 12)) == "ps:12"

    def test_orders_by_job_then_by_number(self) -> None:
        tasks = [TaskId("worker", 0), TaskId("ps", 10), TaskId("ps", 9)]
        assert sorted(tasks) == [TaskId("ps", 9), TaskId("ps", 10), TaskId("worker", 0)]

    @pytest.mark.parametrize(
        "text",
        ["", "ps", "ps:", ":0", "ps:-1", "ps:x", "ps:0:1", "ps :0", "ps:00", "ps:٣", "ps:9999999", "ps:0\n", "p/s:0"],
    )
    def test_refuses_what_is_no_task(self, text: str) -> None:
        with pytest.raises(ValueError, match="task"):
            TaskId.parse(text)

    @pytest.mark.parametrize("index", [-1, MAX_TASK_INDEX + 1])
    def test_refuses_an_index_out_of_range(self, index: int) -> None:
        with pytest.raises(ValueError, match=str(index)):
            TaskId("ps", index)

    @pytest.mark.parametrize("index", [True, 1.0, None])
    def test_refuses_an_index_that_is_no_integer(self, index: Any) -> None:
        with pytest.raises(TypeError, match="whole number"):
            TaskId("ps", index)

    def test_survives_pickling(self) -> None:
        assert pickle.loads(pickle.dumps(TaskId("ps", 3))) == TaskId("ps", 3)


class TestClusterSpec:
    def test_equals_one_that_says_the_same_in_another_form(self) -> None:
        spec = ClusterSpec(DENSE)
        same = ClusterSpec({"worker": {"0": "c:3"}, "ps": {1: "b:2", 0: "a:1"}})
        assert spec == same
        assert hash(spec) == hash(same)
        assert spec == ClusterSpec(spec)

    def test_differs_in_address_index_or_job(self) -> None:
        assert ClusterSpec({"ps": ["a:1"]}) != ClusterSpec({"ps": ["a:2"]})
        assert ClusterSpec({"ps": ["a:1"]}) != ClusterSpec({"ps": {1: "a:1"}})
        assert ClusterSpec({"ps": ["a:1"]}) != ClusterSpec({"worker": ["a:1"]})
        assert ClusterSpec({"ps": ["a:1"]}) != {"ps": ["a:1"]}

    def test_is_true_if_it_has_jobs(self) -> None:
        assert not ClusterSpec({})
        assert ClusterSpec({"ps": []})

    def test_does_not_change_with_what_it_was_made_from(self) -> None:
        addresses = ["a:1"]
        spec = ClusterSpec({"ps": addresses})
        addresses.append("b:2")
        assert spec.num_tasks("ps") == 1

    def test_does_not_change_with_what_it_returned(self) -> None:
        spec = ClusterSpec(SPARSE)
        sparse = spec.as_dict()["worker"]
        assert isinstance(sparse, dict)
        sparse.clear()
        assert spec.num_tasks("worker") == 2

    def test_shows_its_jobs(self) -> None:
        assert repr(ClusterSpec(DENSE)) == "ClusterSpec({'ps': ['a:1', 'b:2'], 'worker': ['c:3']})"

    def test_survives_pickling(self) -> None:
        spec = ClusterSpec(SPARSE)
        assert pickle.loads(pickle.dumps(spec)) == spec

    def test_names_the_tasks_there_are_if_asked_for_another(self) -> None:
        with pytest.raises(ValueError, match=r"worker:2.*1, 3"):
            ClusterSpec(SPARSE).task_address("worker", 2)
        with pytest.raises(ValueError, match=r"'chief'.*'ps', 'worker'"):
            ClusterSpec(SPARSE).num_tasks("chief")

    @pytest.mark.parametrize(
        "address", ["host:2222", "10.0.0.1:1", "[::1]:65535", "[fe80::1%eth0]:80", "ps-0.ps.svc:2222"]
    )
    def test_accepts_addresses_that_can_be_dialled(self, address: str) -> None:
        assert ClusterSpec({"ps": [address]}).task_address("ps", 0) == address

    @pytest.mark.parametrize(
        ("address", "reason"),
        [
            ("host", "no port"),
            ("", "no port"),
            (":2222", "no host"),
            ("host:", "not in 1..65535"),
            ("host:0", "not in 1..65535"),
            ("host:65536", "not in 1..65535"),
            ("host:-1", "not in 1..65535"),
            ("host:http", "not in 1..65535"),
            ("host:٢٢٢٢", "not in 1..65535"),
            ("host:02222", "not in 1..65535"),
            ("::1:2222", "brackets"),
            ("::1", "brackets"),
            ("[::1]", "has more than one colon"),
            ("[host]:2222", "no IPv6 address"),
            ("ho st:2222", "no host name"),
            ("http://host:2222", "colon"),
            ("user@host:2222", "no host name"),
            (" host:2222", "no host name"),
        ],
    )
    def test_refuses_an_address_that_cannot_be_dialled(self, address: str, reason: str) -> None:
        with pytest.raises(ValueError, match=reason) as caught:
            ClusterSpec({"ps": ["a:1"], "worker": ["b:1", address]})
        assert repr(address) in str(caught.value)
        assert "worker:1" in str(caught.value)
        assert "host:2222" in str(caught.value)

    @pytest.mark.parametrize("second", ["Host:1", "host:1"])
    def test_refuses_two_tasks_at_one_address(self, second: str) -> None:
        with pytest.raises(ValueError, match=r"ps:0 and worker:0"):
            ClusterSpec({"ps": ["host:1"], "worker": [second]})

    @pytest.mark.parametrize(
        ("cluster", "error"),
        [
            (None, TypeError),
            ("ps=a:1", TypeError),
            (["a:1"], TypeError),
            ({"ps": "a:1"}, TypeError),
            ({"ps": b"a:1"}, TypeError),
            ({"ps": 1}, TypeError),
            ({"ps": [1]}, TypeError),
            ({"ps": [None]}, TypeError),
            ({"ps": {None: "a:1"}}, TypeError),
            ({"ps": {True: "a:1"}}, TypeError),
            ({"ps": {"x": "a:1"}}, ValueError),
            ({"ps": {-1: "a:1"}}, ValueError),
            ({"ps": {2**40: "a:1"}}, ValueError),
            ({"ps": {1: "a:1", "1": "b:2"}}, ValueError),
            ({"": ["a:1"]}, ValueError),
            ({"p:s": ["a:1"]}, ValueError),
            ({0: ["a:1"]}, ValueError),
        ],
    )
    def test_refuses_what_is_no_cluster(self, cluster: Any, error: type[Exception]) -> None:
        with pytest.raises(error):
            ClusterSpec(cluster)


class TestFlag:
    @pytest.mark.parametrize("cluster", [{}, DENSE, SPARSE, {"ps": []}, {"worker": {7: "[::1]:1"}, "ps": {}}])
    def test_is_read_back(self, cluster: Any) -> None:
        spec = ClusterSpec(cluster)
        assert ClusterSpec.parse(spec.to_flag()) == spec

    def test_has_the_form_of_the_command_line(self) -> None:
        assert ClusterSpec(DENSE).to_flag() == "ps=a:1,b:2;worker=c:3"
        assert ClusterSpec(SPARSE).to_flag() == "ps=a:1;worker=1@b:2,3@c:3"

    def test_may_have_spaces_and_an_end(self) -> None:
        assert ClusterSpec.parse(" ps = a:1 , b:2 ; worker=c:3 ; ") == ClusterSpec(DENSE)

    @pytest.mark.parametrize(
        ("flag", "reason"),
        [
            ("a:1,b:2", "no '='"),
            ("ps=a:1;ps=b:2", "twice"),
            ("ps=a:1,", "no port"),
            ("ps=0@a:1,b:2", "no task index"),
            ("ps=1@a:1,1@b:2", "twice"),
            ("ps=x@a:1", "whole number"),
            ("ps=@a:1", "whole number"),
            ("=a:1", "name of a job"),
        ],
    )
    def test_is_refused_if_malformed(self, flag: str, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            ClusterSpec.parse(flag)


class TestPsTasks:
    def test_are_given_in_order(self) -> None:
        assert ClusterSpec({"ps": {1: "b:2", 0: "a:1"}}).ps_addresses() == ["a:1", "b:2"]

    @pytest.mark.parametrize("cluster", [{}, {"ps": []}, {"worker": ["a:1", "b:2"]}])
    def test_are_required(self, cluster: Any) -> None:
        with pytest.raises(ValueError, match="no ps tasks") as caught:
            ClusterSpec(cluster).require_ps()
        for way in ("ClusterSpec(", "--cluster", "TF_CONFIG"):
            assert way in str(caught.value)

    def test_a_program_that_was_started_alone_is_told_how_to_start_it(self) -> None:
        with pytest.raises(
            ValueError, match=r"^No cluster is given, and TF_CONFIG has none.*`shardscope up -- .*LocalC"
        ):
            TfConfig.from_env({}).cluster.ps_addresses()

    def test_are_numbered_without_gaps(self) -> None:
        with pytest.raises(ValueError, match=r"no task ps:1, but has ps:0, ps:2"):
            ClusterSpec({"ps": {0: "a:1", 2: "b:2"}}).ps_addresses()
        with pytest.raises(ValueError, match=r"no task ps:0"):
            ClusterSpec({"ps": {1: "a:1"}}).require_ps()


class TestTfConfig:
    @pytest.mark.parametrize(
        "config",
        [
            TfConfig(),
            TfConfig(ClusterSpec(DENSE), TaskId("worker", 0), "cloud"),
            TfConfig(ClusterSpec(SPARSE), TaskId("evaluator", 0)),
            TfConfig(ClusterSpec({"ps": []})),
        ],
    )
    def test_is_read_back(self, config: TfConfig) -> None:
        assert TfConfig.from_json(config.to_json()) == config

    def test_writes_the_form_of_tensorflow(self) -> None:
        config = TfConfig(ClusterSpec(DENSE), TaskId("worker", 0), "cloud")
        assert json.loads(config.to_json()) == {
            "cluster": DENSE,
            "task": {"type": "worker", "index": 0},
            "environment": "cloud",
        }

    @pytest.mark.parametrize("environ", [{}, {"TF_CONFIG": ""}, {"TF_CONFIG": " \n"}, {"TF_CONFIG": "{}"}])
    def test_without_content_tells_nothing(self, environ: dict[str, str]) -> None:
        assert TfConfig.from_env(environ) == TfConfig(ClusterSpec({}), None, "")

    def test_is_found_in_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TF_CONFIG", '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}')
        assert TfConfig.from_env() == TfConfig(ClusterSpec({"ps": ["a:1"]}), TaskId("ps", 0))

    @pytest.mark.parametrize("index", ["2", 2])
    def test_takes_the_index_as_number_or_string(self, index: object) -> None:
        text = json.dumps({"task": {"type": "worker", "index": index}})
        assert TfConfig.from_json(text).task == TaskId("worker", 2)

    @pytest.mark.parametrize(
        "text", ['{"cluster": null, "task": null, "environment": null}', '{"task": {}}', '{"rpc_layer": 1}']
    )
    def test_parts_may_be_missing(self, text: str) -> None:
        assert TfConfig.from_json(text) == TfConfig()

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("{", "not valid JSON"),
            ("[" * 100_000, "not valid JSON"),
            ("[]", "the whole"),
            ('"ps"', "the whole"),
            ('{"cluster": []}', "'cluster'"),
            ('{"cluster": {"ps": "a:1"}}', "'cluster'"),
            ('{"cluster": {"ps": ["a"]}}', "'cluster'"),
            ('{"cluster": {"ps": [1]}}', "'cluster'"),
            ('{"cluster": {"ps": {"a": "a:1"}}}', "'cluster'"),
            ('{"task": []}', "'task'"),
            ('{"task": {"type": "ps"}}', "'task'"),
            ('{"task": {"index": 0}}', "'task'"),
            ('{"task": {"type": 3, "index": 0}}', "'task'"),
            ('{"task": {"type": "ps", "index": "x"}}', "'task'"),
            ('{"task": {"type": "ps", "index": 1.5}}', "'task'"),
            ('{"task": {"type": "ps", "index": -1}}', "'task'"),
            ('{"task": {"type": "ps", "index": true}}', "'task'"),
            ('{"environment": 1}', "'environment'"),
        ],
    )
    def test_names_the_part_that_is_wrong(self, text: str, part: str) -> None:
        with pytest.raises(ValueError, match="TF_CONFIG") as caught:
            TfConfig.from_env({"TF_CONFIG": text})
        assert part in str(caught.value)

    @pytest.mark.parametrize(
        ("jobs", "task", "is_chief"),
        [
            (["ps", "worker"], "worker:0", True),
            (["ps", "worker"], "worker:1", False),
            (["ps", "worker"], "ps:0", False),
            (["ps", "worker", "chief"], "chief:0", True),
            (["ps", "worker", "chief"], "worker:0", False),
            (["ps", "worker", "master"], "master:0", True),
            (["ps", "worker", "master"], "worker:0", False),
            (["ps", "worker"], "evaluator:0", False),
        ],
    )
    def test_knows_the_chief(self, jobs: list[str], task: str, is_chief: bool) -> None:
        cluster = ClusterSpec({job: [f"{job}{index}:1" for index in range(2)] for job in jobs})
        assert TfConfig(cluster, TaskId.parse(task)).is_chief is is_chief

    def test_a_process_on_its_own_is_its_chief(self) -> None:
        assert TfConfig().is_chief


@pytest.mark.parametrize(
    ("jobs", "task"),
    [
        ({"ps": ["p:1"]}, "worker:0"),
        ({"ps": ["p:1"], "backup": ["b:1"]}, "worker:7"),
        ({"ps": ["p:1"], "worker": ["w:1"]}, "worker:0"),
        ({"ps": ["p:1"], "worker": ["w:1"]}, "evaluator:0"),
    ],
    ids=["ps alone", "ps and backups", "a worker", "an evaluator"],
)
def test_tasks_that_may_connect(jobs: dict[str, list[str]], task: str) -> None:
    ClusterSpec(jobs).check_takes_part(TaskId.parse(task))


def test_a_text_is_read_where_a_caller_gives_one_and_a_spec_says_how() -> None:
    text = "ps=host:1,host:2;backup=host:3,host:4"
    assert as_cluster_spec(text) == as_cluster_spec(ClusterSpec.parse(text)) == ClusterSpec.parse(text)
    with pytest.raises(ValueError, match="has no '='"):
        as_cluster_spec("host:1")
    with pytest.raises(TypeError, match=r"ClusterSpec.parse\('ps=host:1.*'\) reads a text"):
        ClusterSpec(text)  # type: ignore[arg-type]  # that is what is tested
