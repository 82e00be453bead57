"""Operations, places and collections of a graph."""

from __future__ import annotations

import threading
from typing import Any, cast

import numpy as np
import pytest

from tests.unit.worker_client.naming_fakes import deferred_graph, eager_graph
from worker_client.graph.device import DeviceSpec
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation, OutputSpec, operation_of
from worker_client.values.shapes import TensorShape

FLOAT = OutputSpec(np.dtype(np.float32), TensorShape([2]))


def device_of(graph: Graph, name: str | None = None) -> str:
    return graph.create_op("Const", name=name).device


# -- operations -------------------------------------------------------------------------------


def test_an_operation_is_named_after_its_type_in_the_name_scope() -> None:
    graph = deferred_graph()
    with graph.name_scope("a"):
        names = [graph.create_op("Add").name, graph.create_op("Add").name, graph.create_op("Add", name="sum").name]
    assert names == ["a/Add", "a/Add_1", "a/sum"]
    assert [each.name for each in graph.get_operations()] == names


def test_a_slash_at_the_end_names_exactly_and_only_once() -> None:
    graph = deferred_graph()
    with graph.name_scope("a"):
        assert graph.create_op("Add", name="b/").name == "b"
    with pytest.raises(ValueError, match=r"already has an operation 'b'"):
        graph.create_op("Add", name="b/")


def test_an_operation_name_is_checked() -> None:
    with pytest.raises(ValueError, match="bad name"):
        deferred_graph().create_op("Add", name="bad name")


def test_operations_and_tensors_are_found_by_name() -> None:
    graph = deferred_graph()
    operation = graph.create_op("Split", outputs=[FLOAT, FLOAT], name="a/split")
    assert graph.get_operation_by_name("a/split") is operation
    assert graph.get_tensor_by_name("a/split:1") is operation.outputs[1]
    assert operation.values() == tuple(operation.outputs)
    for name in ("a/split:2", "other:0"):
        with pytest.raises(KeyError):
            graph.get_tensor_by_name(name)
    with pytest.raises(KeyError, match="other"):
        graph.get_operation_by_name("other")
    for name in ("a/split", "a/split:x"):
        with pytest.raises(ValueError, match="not the name of a tensor"):
            graph.get_tensor_by_name(name)


def test_a_tensor_knows_where_it_comes_from() -> None:
    graph = deferred_graph()
    with graph.device("/cpu:0"):
        tensor = graph.create_op("Const", outputs=[FLOAT], name="c").outputs[0]
    assert (tensor.name, tensor.graph, tensor.device) == ("c:0", graph, "/device:CPU:0")
    assert (tensor.shape, tensor.get_shape(), tensor.dtype.name) == ((2,), (2,), "float32")
    assert operation_of(tensor) is tensor.op
    assert operation_of(tensor.op) is tensor.op


def test_more_can_be_learnt_about_a_shape_but_nothing_else() -> None:
    tensor = deferred_graph().create_op("P", outputs=[OutputSpec(np.dtype(np.float32))]).outputs[0]
    assert tensor.shape.ndims is None
    tensor.set_shape([None, 3])
    assert tensor.shape == (None, 3)
    with pytest.raises(ValueError, match="not compatible"):
        tensor.set_shape([2])


def test_an_operation_in_tensorflows_words() -> None:
    graph = deferred_graph()
    source = graph.create_op("Const", outputs=[FLOAT], name="c").outputs[0]
    operation = graph.create_op("Neg", [source], [FLOAT], attributes={"T": 1})
    node = operation.node_def
    assert (node.name, node.op, node.device, node.input, node.attr) == ("Neg", "Neg", "", ("c",), {"T": 1})
    assert operation.get_attr("T") == 1
    with pytest.raises(ValueError, match="it has: T"):
        operation.get_attr("U")


def test_only_what_has_an_operation_can_be_asked_for_one() -> None:
    with pytest.raises(TypeError, match="neither"):
        operation_of(3)


def test_a_finalized_graph_takes_nothing_more() -> None:
    graph = deferred_graph()
    graph.finalize()
    assert graph.finalized
    with pytest.raises(RuntimeError, match=r"finalized: .*; build all of it before the session"):
        graph.create_op("Add")
    with pytest.raises(RuntimeError, match="finalized"):
        graph.add_to_collection("k", 1)


def test_an_emptied_graph_is_new_and_of_the_same_kind() -> None:
    for graph in (deferred_graph(), eager_graph()):
        graph.create_op("Add")
        emptied = graph.emptied()
        assert (emptied.get_operations(), emptied.deferred) == ([], graph.deferred)
        assert emptied.variable_factory is graph.variable_factory
    assert Graph().deferred


# -- places -----------------------------------------------------------------------------------


def test_device_scopes_are_asked_from_the_inside_out() -> None:
    graph = deferred_graph()
    asked = []

    def choose(op: Operation) -> str:
        asked.append(op.device)
        return f"{op.device}/task:3"

    with graph.device("/job:ps/task:1/gpu:0"), graph.device(choose), graph.device(DeviceSpec(job="worker")):
        assert device_of(graph) == "/job:worker/task:3/device:GPU:0"
    assert asked == ["/job:worker"]
    assert device_of(graph) == ""


def test_none_hides_the_scopes_around() -> None:
    graph = deferred_graph()
    with graph.device("/job:ps"), graph.device(None):
        assert device_of(graph) == ""
        with graph.device("/cpu:0"):
            assert device_of(graph) == "/device:CPU:0"


def test_a_malformed_device_is_refused_on_entering() -> None:
    graph = deferred_graph()
    with pytest.raises(ValueError, match="nonsense"), graph.device("/nonsense"):
        pytest.fail("the block was entered")
    assert device_of(graph) == ""


@pytest.mark.parametrize("returned", [None, 3])
def test_a_device_function_must_return_a_device(returned: Any) -> None:
    graph = deferred_graph()
    with graph.device(lambda _: cast(str, returned)), pytest.raises(TypeError, match="lambda"):
        graph.create_op("Add")


def test_device_scopes_left_out_of_order_are_an_error() -> None:
    graph = deferred_graph()
    outer, inner = graph.device("/job:a"), graph.device("/job:b")
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(RuntimeError, match="/job:a"):
        outer.__exit__(None, None, None)


def test_colocation_beats_device_scopes() -> None:
    graph = deferred_graph()
    with graph.device("/job:ps/task:1"):
        leader = graph.create_op("Const", name="leader")
    with graph.device("/job:worker"), graph.colocate_with(leader):
        follower = graph.create_op("Const")
        with graph.device("/cpu:0"):
            assert device_of(graph) == "/job:ps/task:1"
    assert (follower.device, follower.colocation_groups()) == ("/job:ps/task:1", [b"loc:@leader"])
    assert leader.colocation_groups() == [b"loc:@leader"]
    assert device_of(graph) == ""


def test_colocation_nests_and_can_be_forgotten() -> None:
    graph = deferred_graph()
    first, second = graph.create_op("Const", name="first"), graph.create_op("Const", name="second")
    first.device, second.device = "/job:ps/task:0", "/job:ps/task:1"
    with graph.colocate_with(first):
        with graph.colocate_with(second):
            both = graph.create_op("Const")
        with graph.colocate_with(second, ignore_existing=True):
            one = graph.create_op("Const")
        with graph.colocate_with(None, ignore_existing=True):
            none = graph.create_op("Const", name="none")
    assert (both.device, both.colocation_groups()) == ("/job:ps/task:1", [b"loc:@first", b"loc:@second"])
    assert (one.device, one.colocation_groups()) == ("/job:ps/task:1", [b"loc:@second"])
    assert (none.device, none.colocation_groups()) == ("", [b"loc:@none"])


def test_colocating_with_nothing_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="ignore_existing"), deferred_graph().colocate_with(None):
        pass


def device_seen_by_a_thread(graph: Graph) -> str:
    devices: list[str] = []
    thread = threading.Thread(target=lambda: devices.append(device_of(graph)))
    thread.start()
    thread.join()
    return devices[0]


def test_threads_share_the_device_scopes_of_a_deferred_graph_only() -> None:
    for graph, seen in ((deferred_graph(), "/job:ps"), (eager_graph(), "")):
        with graph.device("/job:ps"):
            assert device_seen_by_a_thread(graph) == seen


def test_threads_of_a_graph_can_be_separated() -> None:
    graph = deferred_graph()
    with graph.device("/job:ps"):
        graph.switch_to_thread_local()
        assert device_seen_by_a_thread(graph) == "/job:ps"
        with graph.device("/task:1"):
            assert device_of(graph) == "/job:ps/task:1"
            assert device_seen_by_a_thread(graph) == "/job:ps"


def test_containers_nest() -> None:
    graph = deferred_graph()
    with graph.container("a") as name, graph.container("b"):
        assert (name, graph.container_name) == ("a", "b")
    assert graph.container_name == ""


# -- collections ------------------------------------------------------------------------------


class Named:
    def __init__(self, name: str):
        self.name = name


def test_collections_keep_order_and_repetitions() -> None:
    graph = deferred_graph()
    graph.add_to_collection("k", 1)
    graph.add_to_collections(["k", "l", "k"], 2)
    graph.add_to_collections("kl", 3)
    assert (graph.get_collection("k"), graph.get_collection("l"), graph.get_collection("kl")) == ([1, 2], [2], [3])
    assert graph.get_collection("none") == []
    assert graph.get_all_collection_keys() == ["k", "l", "kl"]


def test_a_collection_is_a_copy_and_its_reference_is_not() -> None:
    graph = deferred_graph()
    graph.add_to_collection("k", 1)
    graph.get_collection("k").append(2)
    assert graph.get_collection("k") == [1]
    graph.get_collection_ref("k").append(2)
    graph.get_collection_ref("new").append(3)
    assert (graph.get_collection("k"), graph.get_collection("new")) == ([1, 2], [3])
    graph.clear_collection("k")
    assert graph.get_collection("k") == []


def test_a_scope_filters_by_the_start_of_the_name_as_a_regular_expression() -> None:
    graph = deferred_graph()
    members = [Named("a/v:0"), Named("b/a/v:0"), Named("ab:0"), 3]
    for member in members:
        graph.add_to_collection("k", member)
    assert graph.get_collection("k", "a") == [members[0], members[2]]
    assert graph.get_collection("k", "a/") == [members[0]]
    assert graph.get_collection("k", ".*/v") == members[:2]
    with pytest.raises(ValueError, match="regular expression"):
        graph.get_collection("k", "(")


def test_a_value_can_be_taken_out_everywhere() -> None:
    graph = deferred_graph()
    first, second = Named("x"), Named("x")
    graph.add_to_collections(["k", "l"], first)
    graph.add_to_collection("k", second)
    graph.collections.remove(first)
    assert (graph.get_collection("k"), graph.get_collection("l")) == ([second], [])


def test_an_operation_takes_nothing_of_another_graph() -> None:
    graph = deferred_graph()
    strangers = deferred_graph().create_op("Const", outputs=[FLOAT]).outputs
    with pytest.raises(ValueError, match="Const:0 belongs to another graph than what uses it"):
        graph.create_op("Neg", strangers, [FLOAT])
    with pytest.raises(ValueError, match="Const:0 belongs to another graph than what uses it"):
        graph.create_op("Assign", [], [FLOAT], references=strangers)
    assert graph.is_empty
