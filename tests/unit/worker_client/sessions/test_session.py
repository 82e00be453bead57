"""Sessions: feeding, defaults, their ends, and where variables live."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import CancelledError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.deferred.call import deferred_call
from worker_client.graph.graph import Graph
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.initializers import ones_initializer
from worker_client.ops.constant_ops import constant
from worker_client.ops.initialization import global_variables_initializer
from worker_client.scopes.creation import new_variable
from worker_client.scopes.variable_scope import get_local_variable, get_variable
from worker_client.sessions import plans
from worker_client.sessions.plans import Plans
from worker_client.sessions.session import InteractiveSession, Session, get_default_session
from worker_client.values.shapes import ShapeLike, TensorShape

pytestmark = pytest.mark.usefixtures("graph")


@pytest.fixture
def session(graph: Graph) -> Iterator[Session]:
    with Session(graph=graph) as session:
        yield session


def placeholder(graph: Graph, shape: ShapeLike = None, dtype: Any = np.float32, name: str = "x") -> Tensor:
    spec = OutputSpec(np.dtype(dtype), TensorShape(shape))
    return graph.create_op("Placeholder", [], [spec], name=name).outputs[0]


# -- running ----------------------------------------------------------------------------------------


def test_runs_nested_fetches_with_feeds(session: Session, graph: Graph) -> None:
    x = placeholder(graph, [None])
    doubled = x * 2
    result = session.run({"all": [doubled, (x,)], "name": "x:0", "op": doubled.op}, {x: [1, 2]})
    assert result["op"] is None
    assert (result["all"][0].tolist(), result["all"][1][0].tolist(), result["name"].tolist()) == (
        [2, 4],
        [1, 2],
        [1, 2],
    )


def test_names_may_be_fed(session: Session, graph: Graph) -> None:
    x = placeholder(graph, [])
    assert session.run(x + 1, {"x:0": 2}) == 3


@pytest.mark.parametrize("value", [[1.0], [[1.0, 2.0]], 3.0])
def test_a_fed_value_of_another_shape_is_refused(session: Session, graph: Graph, value: Any) -> None:
    x = placeholder(graph, [2], name="scope/x")
    with pytest.raises(ValueError, match=r"cannot feed a value of shape \[.*\] to scope/x:0, which has shape \[2\]"):
        session.run(x, {x: value})


@pytest.mark.parametrize("value", [1j, None, {}, np.datetime64("2020-01-01")])
def test_a_fed_value_of_another_kind_is_refused(session: Session, graph: Graph, value: Any) -> None:
    x = placeholder(graph, dtype=np.int32, name="scope/x")
    with pytest.raises(TypeError, match=r"fed to scope/x:0 (is|holds) .*, needed is int32"):
        session.run(x, {x: value})


def test_a_fed_number_is_converted(session: Session, graph: Graph) -> None:
    x = placeholder(graph)
    value = session.run(x, {x: [1, 2]})
    assert (value.dtype, value.tolist()) == (np.float32, [1, 2])


def test_what_is_fed_must_be_a_value_for_a_tensor_of_the_graph(session: Session, graph: Graph) -> None:
    x = placeholder(graph)
    with pytest.raises(TypeError, match="fed to x:0 is a deferred tensor"):
        session.run(x, {x: x + 1})
    with pytest.raises(TypeError, match="operation x cannot be fed"):
        session.run(x, {x.op: 1.0})
    with Graph().as_default() as other:
        stranger = placeholder(other, name="stranger")
    with pytest.raises(TypeError, match="stranger:0 cannot be fed: it belongs to another graph"):
        session.run(x, {x: 1.0, stranger: 1.0})
    with pytest.raises(InvalidArgumentError, match="placeholder x has no value"):
        session.run(x)


def test_bad_feeds_are_found_before_anything_is_done(session: Session, graph: Graph) -> None:
    v, x = new_variable(np.float32(1)), placeholder(graph, [2])
    session.run(v.initializer)
    with pytest.raises(ValueError, match="cannot feed"):
        session.run(v.assign_add(1), {x: [1]})
    with pytest.raises(TypeError, match="cannot be fetched"):
        session.run([v.assign_add(1), None])
    assert session.run(v) == 1


def test_a_value_that_turns_out_not_to_fit_changes_nothing(session: Session, graph: Graph) -> None:
    v, x = new_variable(np.zeros(2, np.float32), name="scope/v"), placeholder(graph)
    session.run(v.initializer)
    with pytest.raises(InvalidArgumentError, match="scope/v"):
        session.run(v.assign(x), {x: [1, 2, 3]})
    assert session.run(v).tolist() == [0, 0]
    with pytest.raises(InvalidArgumentError, match=r"operation sum_of \(add\) .*float32\[2\], float32\[3\]"):
        session.run(deferred_call(np.add, [v, x], op_type="add", name="sum_of"), {x: [1, 2, 3]})


def test_a_callable_takes_feeds_by_place(session: Session, graph: Graph) -> None:
    x, y = placeholder(graph, [], name="x"), placeholder(graph, [], name="y")
    subtract = session.make_callable(x - y, [x, y])
    assert (subtract(5, 3), session.make_callable(x * 0 + 1, ["x:0"])(9)) == (2, 1)
    with pytest.raises(TypeError, match="2 values are to be fed, 1 are given"):
        subtract(5)


def test_many_threads_may_run_one_session(session: Session) -> None:
    v = new_variable(np.int64(0))
    session.run(v.initializer)
    add = v.assign_add(1).op
    threads = [threading.Thread(target=lambda: [session.run(add) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert session.run(v) == 200


# -- beginning and end ------------------------------------------------------------------------------


def test_a_closed_session_runs_nothing(graph: Graph) -> None:
    v = new_variable(np.float32(1))
    session = Session(graph=graph)
    session.run(v.initializer)
    session.close()
    session.close()
    with pytest.raises(RuntimeError, match="the session is closed"):
        session.run(v)
    with pytest.raises(RuntimeError, match="the session is closed"):
        v.load(1, session)


def test_a_run_in_whose_midst_the_session_is_closed_says_so(graph: Graph) -> None:
    v = new_variable(np.float32(1))
    session = Session(graph=graph)
    session.run(v.initializer)

    def closing(value: Any) -> Any:
        session.close()
        return value

    update = v.assign_add(deferred_call(closing, [v.value()], op_type="Closing", output=OutputSpec(v.dtype, v.shape)))
    with pytest.raises(CancelledError, match="the session was closed while it ran; make a new one"):
        session.run(update)


def test_as_a_context_manager_it_makes_itself_and_its_graph_the_default_and_closes() -> None:
    graph = Graph()
    with Session(graph=graph) as session:
        assert session.graph is graph
        v = new_variable(np.float32(1))
        assert (v.graph, get_default_session()) == (graph, session)
        v.initializer.run()
        assert (v.eval(), v.value().eval(), (v + 1).eval()) == (1, 1, 2)
    assert get_default_session() is None
    with pytest.raises(RuntimeError, match="closed"):
        session.run(v)


def test_errors_of_a_session_without_a_cluster_name_no_task(session: Session) -> None:
    v = get_variable("v", [2])
    with pytest.raises(FailedPreconditionError, match=r"^variable v .*has not been initialised") as refused:
        session.run(v)
    assert refused.value.task == ""


def test_as_default_leaves_it_open(graph: Graph) -> None:
    x = placeholder(graph)
    session = Session(graph=graph)
    with session.as_default() as given:
        assert given is session
        assert x.eval({x: 2.0}) == 2
        x.op.run({x: 2.0})
    assert session.run(x, {x: 3.0}) == 3
    session.close()


def test_without_a_session_nothing_is_evaluated(graph: Graph) -> None:
    v = new_variable(np.float32(1), name="scope/v")
    for evaluate in (v.eval, v.value().eval, v.initializer.run):
        with pytest.raises(ValueError, match="no session to evaluate scope/v"):
            evaluate()
    with Session(graph=Graph()) as other, pytest.raises(ValueError, match=r"scope/v.* belongs to another graph"):
        v.eval(other)


def test_the_default_session_is_the_innermost_of_this_thread(graph: Graph) -> None:
    found: list[Any] = []
    with Session(graph=graph) as outer, Session(graph=graph) as inner:
        assert get_default_session() is inner
        with outer.as_default():
            assert get_default_session() is outer
        thread = threading.Thread(target=lambda: found.append(get_default_session()))
        thread.start()
        thread.join()
    assert found == [None]


def test_an_interactive_session_is_the_default_until_it_is_closed() -> None:
    graph = Graph()
    session = InteractiveSession(graph=graph)
    v = new_variable(np.float32(4))
    v.initializer.run()
    assert (v.graph, v.eval()) == (graph, 4)
    session.close()
    session.close()
    assert get_default_session() is None
    with pytest.raises(RuntimeError, match="closed"):
        session.run(v)


def test_a_target_is_a_connection_or_that_of_a_server() -> None:
    with pytest.raises(TypeError, match="the target of a session is a connection"):
        Session(3)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match="no server of this process has the target 'grpc://ps0:2222'"):
        Session("grpc://ps0:2222")


# -- on a cluster -----------------------------------------------------------------------------------


def test_variables_are_shared_by_the_sessions_of_a_cluster(cluster: InProcessCluster) -> None:
    graphs, variables, clients = [Graph(), Graph()], [], [cluster.client(0), cluster.client(1)]
    for graph in graphs:
        with graph.as_default():
            variables.append(new_variable(np.float32(1), name="v"))
    with Session(clients[0], graphs[0]) as one, Session(clients[1], graphs[1]) as other:
        one.run(variables[0].initializer)
        other.run(variables[1].assign_add(1).op)
        assert one.run(variables[0]) == 2
    with Session(clients[0], graphs[0]) as again:
        assert again.run(variables[0]) == 2


def test_the_default_connection_is_the_target(cluster: InProcessCluster, graph: Graph) -> None:
    v = new_variable(np.float32(1))
    with cluster.client(), Session(graph=graph) as one, Session("", graph=graph) as other:
        one.run(v.initializer)
        assert other.run(v) == 1


def test_a_step_is_one_exchange_for_reads_and_one_for_updates_with_each_task(
    cluster: InProcessCluster, graph: Graph
) -> None:
    variables = [new_variable(np.full(3, index, np.float32)) for index in range(20)]
    init = global_variables_initializer()
    total = sum(variables[1:], variables[0].value())
    updates = [each.assign_sub(total * 0.5) for each in variables]
    with Session(cluster.client(), graph) as session:
        session.run(init)
        before = cluster.batches()
        session.run([total, updates])
        assert [after - earlier for after, earlier in zip(cluster.batches(), before, strict=True)] == [2, 2]


def test_variables_are_declared_together_when_they_are_first_needed(cluster: InProcessCluster, graph: Graph) -> None:
    client = cluster.client()
    before = cluster.batches()
    for index in range(20):
        new_variable(np.float32(index))
    init = global_variables_initializer()
    assert cluster.batches() == before
    with Session(client, graph) as session:
        session.run(init)
        first = cluster.batches()
        session.run(init)
        again = cluster.batches()
    assert [after - earlier for after, earlier in zip(first, before, strict=True)] == [2, 2], "declared and initialised"
    assert [after - earlier for after, earlier in zip(again, first, strict=True)] == [1, 1]


def test_placement_is_that_of_the_device_scopes(cluster: InProcessCluster, graph: Graph) -> None:
    with graph.device("/job:ps/task:1"):
        v = new_variable(np.float32(1), name="v")
    with graph.device("/job:ps/task:5"):
        misplaced = new_variable(np.float32(1), name="misplaced")
    with Session(cluster.client(), graph) as session:
        session.run(v.initializer)
        assert [info.spec.name for info in cluster.tasks[1].list_variables(timeout_s=1)] == ["v"]
        with pytest.raises(InvalidArgumentError, match="variable misplaced is placed on ps task 5"):
            session.run(misplaced.initializer)


def test_local_variables_live_in_the_worker_without_a_warning(
    cluster: InProcessCluster, graph: Graph, caplog: pytest.LogCaptureFixture
) -> None:
    local = get_local_variable("local", initializer=np.float32(1))
    with graph.device("/job:ps/task:0"):
        pinned = get_local_variable("pinned", initializer=np.float32(1))
    clients = [cluster.client(0), cluster.client(1)]
    with caplog.at_level(logging.WARNING), Session(clients[0], graph) as one, Session(clients[1], graph) as other:
        one.run([local.initializer, pinned.initializer])
        assert one.run([local.assign_add(1), pinned]) == [2, 1]
        with pytest.raises(FailedPreconditionError, match="local"):
            other.run(local)
    with Session(clients[0], graph) as again:
        assert again.run(local) == 2
    assert [task.list_variables(timeout_s=1) for task in cluster.tasks] == [[], []]
    assert caplog.records == []


def test_a_variable_placed_on_the_worker_works_and_its_cost_is_told_once(
    cluster: InProcessCluster, graph: Graph, caplog: pytest.LogCaptureFixture
) -> None:
    with graph.device("/job:worker"):
        v = get_variable("scope/v", [5], initializer=ones_initializer())
    with graph.device("/job:worker/task:1"):
        elsewhere = get_variable("elsewhere", [5])
    client = cluster.client()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with Session(client, graph) as session:
                session.run(v.initializer)
                assert session.run(v).tolist() == [1] * 5
    (message,) = caplog.messages
    assert "variable scope/v is placed on this worker, worker:0" in message
    assert "20 bytes" in message
    assert [task.list_variables(timeout_s=1) for task in cluster.tasks] == [[], []]
    with Session(client, graph) as session, pytest.raises(InvalidArgumentError, match="elsewhere is placed on"):
        session.run(elsewhere.initializer)


def test_a_session_does_not_close_its_connection(cluster: InProcessCluster, graph: Graph) -> None:
    v = new_variable(np.float32(1))
    client = cluster.client()
    for _ in range(2):
        with Session(client, graph) as session:
            session.run(v.initializer)
    with client.graph.as_default():
        assert get_variable("eager", initializer=np.float32(2)).read_value() == 2


def test_a_fetched_value_belongs_to_the_caller(session: Session) -> None:
    v = new_variable(np.zeros(2, np.float32))
    fixed = constant([1.0, 1.0])
    session.run(v.initializer)
    for fetch in (v, v.assign_add([0, 0]), v + 0, fixed, fixed[:1]):
        session.run(fetch)[:] = 9
    assert session.run([v, fixed + 0])[0].tolist() == [0, 0]
    assert session.run(fixed).tolist() == [1, 1]


def test_a_run_is_planned_once_until_operations_wait_for_more(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[str] = []
    ordered = plans.ordered

    def watched(targets: Any, fed: Any) -> Any:
        planned.append(targets[0].name)
        return ordered(targets, fed)

    monkeypatch.setattr(plans, "ordered", watched)
    v = new_variable(np.float32(1), name="v")
    doubled, other = v * 2.0, v.assign_add(1.0)
    with Session(graph=graph) as session:
        session.run(v.initializer)
        planned.clear()
        assert [session.run(doubled) for _ in range(3)] == [2, 2, 2]
        assert [session.run(doubled, {v: float(value)}) for value in range(3)] == [0, 2, 4]
        assert len(planned) == 2
        doubled.op.add_control_inputs([other.op])
        session.run(doubled)
        assert len(planned) == 3
        assert session.run(v) == 2


def test_a_session_forgets_plans_when_there_are_many(graph: Graph) -> None:
    with Session(graph=graph) as session:
        for number in range(Plans.MOST + 5):
            assert session.run(constant(float(number)) + 1.0) == number + 1
        assert len(session._plans) <= Plans.MOST
