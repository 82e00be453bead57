"""Arrays that a cluster keeps: pulls, pushes, rounds, a thread beside, and who may share what."""

from __future__ import annotations

import copy
import pickle
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ps_protocol.errors import (
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    ShapeMismatchError,
    UnavailableError,
)
from tests.forked import error_in_child
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client import train
from worker_client.adapters.shared_arrays import SharedArrays
from worker_client.client import Client
from worker_client.optimizers.arguments import parts_of
from worker_client.values.conversion import IndexedSlices
from worker_client.variables.partitioners import fixed_size_partitioner

Arrays = dict[str, npt.NDArray[Any]]


def model() -> Arrays:
    return {"w": np.zeros((4, 3), np.float32), "b": np.zeros(3, np.float32)}


def ones(*names: str) -> Arrays:
    return {name: np.ones_like(array) for name, array in model().items() if name in (names or ("w", "b"))}


def shared(client: Client, arrays: Arrays | None = None, **more: Any) -> SharedArrays:
    return SharedArrays(client, "net", model() if arrays is None else arrays, **{"optimizer": None, **more})


def with_sgd(client: Client, arrays: Arrays | None = None, **more: Any) -> SharedArrays:
    return shared(client, arrays, optimizer=train.GradientDescent(0.5), **more)


def failing(*_: Any, **__: Any) -> Any:
    raise UnavailableError("ps:0 is away")


class TestPulling:
    def test_values_are_read_into_the_arrays_themselves(self, client: Client, cluster: InProcessCluster) -> None:
        arrays, theirs = model(), ones()
        shared(cluster.client(1), theirs)
        mine = shared(client, arrays)
        np.testing.assert_array_equal(arrays["w"], np.ones((4, 3)))  # those of the first worker, already now
        mine.variables["w"].assign(np.full((4, 3), 7))
        mine.pull()
        np.testing.assert_array_equal(arrays["w"], np.full((4, 3), 7))
        assert mine.arrays["w"] is arrays["w"]

    def test_a_pull_after_a_push_costs_nothing_unless_it_is_to_be_fresh(
        self, client: Client, cluster: InProcessCluster
    ) -> None:
        mine = with_sgd(client)
        mine.pull()
        mine.push(ones())
        before = cluster.batches()
        assert mine.pull() is False
        assert cluster.batches() == before
        cluster.client(1).variable("net/w").assign(np.full((4, 3), 9))
        assert mine.pull() is True  # there was no push since
        np.testing.assert_array_equal(mine.arrays["w"], np.full((4, 3), 9))
        mine.push(ones())
        cluster.client(1).variable("net/w").assign(np.full((4, 3), 8))
        mine.pull(fresh=True)
        np.testing.assert_array_equal(mine.arrays["w"], np.full((4, 3), 8))

    def test_a_push_is_one_exchange_with_each_ps(self, client: Client, cluster: InProcessCluster) -> None:
        mine = with_sgd(client)
        mine.push(ones())
        before = cluster.batches()
        mine.push(ones())
        assert [after - old for after, old in zip(cluster.batches(), before, strict=True)] == [1, 1]
        np.testing.assert_array_equal(mine.arrays["b"], np.full(3, -1.0))

    def test_arrays_that_have_moved_are_read_into_where_they_are(self, client: Client) -> None:
        mine = with_sgd(client)
        mine.push(ones())
        elsewhere = np.empty((4, 3), np.float32)
        mine.put_at({"w": elsewhere})
        mine.pull()
        np.testing.assert_array_equal(elsewhere, np.full((4, 3), -0.5))
        assert mine.arrays["w"] is elsewhere


class TestPushing:
    def test_without_an_optimizer_deltas_are_added(self, client: Client) -> None:
        mine = shared(client)
        assert mine.push({"w": np.full((4, 3), 2, np.float32)}) == []
        mine.pull()
        np.testing.assert_array_equal(mine.arrays["w"], np.full((4, 3), 2))
        np.testing.assert_array_equal(mine.arrays["b"], np.zeros(3))

    def test_an_array_without_a_gradient_stays(self, client: Client) -> None:
        mine = with_sgd(client)
        assert [each.verdict for each in mine.push({"w": ones()["w"], "b": None})] == ["applied"]
        np.testing.assert_array_equal(mine.arrays["b"], np.zeros(3))

    def test_rows_have_gradients(self, client: Client) -> None:
        mine = with_sgd(client)
        mine.push({"w": IndexedSlices(np.ones((2, 3), np.float32), np.array([1, 1]))})
        np.testing.assert_array_equal(mine.arrays["w"][:, 0], [0, -1, 0, 0])

    def test_a_learning_rate_is_for_one_push(self, client: Client) -> None:
        mine = with_sgd(client)
        mine.push(ones("b"), learning_rate=2.0)
        np.testing.assert_array_equal(mine.arrays["b"], np.full(3, -2.0))
        assert mine.learning_rate == 0.5

    @pytest.mark.parametrize(
        ("updates", "message"),
        [
            pytest.param({"c": np.ones(3)}, "net has no parameter c that is trained; there are w, b", id="unknown"),
            pytest.param({"w": None}, "net: there is nothing to push; give updates of w, b", id="none"),
            pytest.param({}, "net: there is nothing to push", id="empty"),
        ],
    )
    def test_what_is_no_update_is_refused(self, client: Client, updates: Any, message: str) -> None:
        mine = with_sgd(client, untrained={"c": np.ones(3)})
        with pytest.raises(InvalidArgumentError, match=message):
            mine.push(updates)

    def test_nothing_is_changed_when_one_gradient_does_not_fit(self, client: Client) -> None:
        mine = with_sgd(client)
        with pytest.raises(ShapeMismatchError, match="net/b"):
            mine.push({"w": ones()["w"], "b": np.ones(4, np.float32)})
        mine.pull()
        np.testing.assert_array_equal(mine.arrays["w"], np.zeros((4, 3)))

    def test_a_step_allocates_nothing_of_the_size_of_parameters(self, client: Client) -> None:
        big = {"w": np.zeros((512, 1024), np.float32)}
        mine = with_sgd(client, big)
        gradient = {"w": np.ones((512, 1024), np.float32)}
        peaks = []
        for _ in range(6):  # whatever other threads of the process allocate meanwhile
            tracemalloc.start()
            try:
                mine.pull()
                mine.push(gradient)
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
        assert min(peaks) < big["w"].nbytes / 4


class TestRounds:
    def test_sync_is_that_of_the_optimizer(self, client: Client) -> None:
        optimizer = train.GradientDescent(0.5)
        shared(client, optimizer=optimizer, sync="ssp(3)")
        assert optimizer.sync == train.GradientDescent(0.5, sync="ssp(3)").sync

    def test_two_ways_to_train_together_are_refused(self, client: Client) -> None:
        with pytest.raises(InvalidArgumentError, match=r"made with sync='bsp', and sync='ssp\(3\)' is asked for here"):
            shared(client, optimizer=train.GradientDescent(0.5, sync="bsp"), sync="ssp(3)")
        shared(client, optimizer=train.GradientDescent(0.5, sync="bsp"), sync="bsp")  # and the name is free

    def test_sync_needs_an_optimizer(self, client: Client) -> None:
        with pytest.raises(InvalidArgumentError, match="sync='bsp' says how an optimizer's workers train together"):
            shared(client, sync="bsp")

    def test_local_steps_are_those_of_an_optimizer_that_was_made_so(
        self, client: Client, cluster: InProcessCluster
    ) -> None:
        mine = shared(client, optimizer=train.GradientDescent(0.5), sync="local(2)")
        mine.pull()
        assert [each.verdict for each in mine.push(ones())] == ["pending", "pending"]
        assert mine.variables["b"].read_value().tolist() == [0, 0, 0]
        cluster.client(1).variable("net/b").assign([7, 7, 7])
        mine.pull(fresh=True)
        np.testing.assert_array_equal(mine.arrays["b"], np.full(3, -0.5))  # this worker's own

    def test_a_round_is_the_average_of_all_workers(
        self, client: Client, cluster: InProcessCluster, pool: ThreadPoolExecutor
    ) -> None:
        both = [
            shared(each, optimizer=train.GradientDescent(0.5), sync="bsp(total=2)")
            for each in (client, cluster.client(1))
        ]
        list(pool.map(lambda each: each.pull(), both))
        # The first worker has no gradient of b: for the round that is one of zeros.
        made = list(pool.map(lambda each, updates: each.push(updates), both, [ones("w"), ones()]))
        assert [[each.verdict for each in applied] for applied in made] == [["applied", "applied"]] * 2
        for each in both:
            assert each.pull() is False
            np.testing.assert_array_equal(each.arrays["w"], np.full((4, 3), -0.5))
            np.testing.assert_array_equal(each.arrays["b"], np.full(3, -0.25))
        assert both[0].training_report().round == 1
        both[0].finish()

    def test_a_worker_that_comes_late_begins_with_the_newest_model(
        self, client: Client, cluster: InProcessCluster, pool: ThreadPoolExecutor
    ) -> None:
        first = shared(client, optimizer=train.GradientDescent(0.5), sync="ssp(3)")
        late = shared(cluster.client(1), optimizer=train.GradientDescent(0.5), sync="ssp(3)")
        first.pull()
        for _ in range(3):
            first.push(ones())
        late.pull()
        np.testing.assert_array_equal(late.arrays["b"], np.full(3, -1.5))
        made = list(pool.map(lambda each: each.push(ones()), [first, late]))
        assert [each.verdict for each in made[1]] in (["applied"] * 2, ["pending"] * 2)  # not stale

    def test_after_a_step_that_has_failed_the_next_pull_enters_the_rounds_anew(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = shared(client, optimizer=train.GradientDescent(0.5), sync="bsp")
        mine.pull()
        assert mine.optimizer is not None
        joins, join = [], mine.optimizer.join

        def counted(*given: Any, **more: Any) -> int:
            joins.append(1)
            return join(*given, **more)

        monkeypatch.setitem(mine.optimizer.__dict__, "join", counted)
        with monkeypatch.context() as patched:
            patched.setitem(mine.optimizer.__dict__, "apply_gradients", failing)
            with pytest.raises(UnavailableError, match="ps:0 is away"):
                mine.push(ones())
        mine.pull()
        assert joins == [1]
        assert {each.verdict for each in mine.push(ones())} == {"applied"}
        mine.pull()
        assert joins == [1]


class TestOverlap:
    def test_a_push_returns_at_once_and_the_next_pull_waits_for_it(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = with_sgd(client, overlap=True)
        optimizer, may_go_on = mine.optimizer, threading.Event()
        assert optimizer is not None
        apply, threads = optimizer.apply_gradients, []

        def slow(*arguments: Any, **more: Any) -> Any:
            threads.append(threading.current_thread())
            assert may_go_on.wait(30)
            return apply(*arguments, **more)

        monkeypatch.setitem(optimizer.__dict__, "apply_gradients", slow)
        assert mine.push(ones()) == []
        np.testing.assert_array_equal(mine.arrays["b"], np.zeros(3))
        may_go_on.set()
        assert mine.pull() is True
        np.testing.assert_array_equal(mine.arrays["b"], np.full(3, -0.5))
        assert threads == [threads[0]]
        assert threads[0] is not threading.current_thread()
        mine.close()

    @pytest.mark.parametrize("then", [SharedArrays.pull, lambda each: each.push(ones()), SharedArrays.close])
    def test_the_error_of_a_push_comes_with_the_next_call(
        self, client: Client, then: Callable[[SharedArrays], Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = with_sgd(client, overlap=True)
        mine.push(ones())
        mine.pull()
        assert mine.optimizer is not None
        with monkeypatch.context() as patched:
            patched.setitem(mine.optimizer.__dict__, "apply_gradients", failing)
            mine.push(ones())
            with pytest.raises(UnavailableError, match="ps:0 is away"):
                then(mine)
        mine.close()


class TestLearningRate:
    def test_a_number_may_be_set(self, client: Client) -> None:
        mine = with_sgd(client)
        mine.learning_rate = 2.0
        mine.push(ones())
        np.testing.assert_array_equal(mine.arrays["b"], np.full(3, -2.0))

    def test_a_schedule_is_evaluated_for_the_step_that_comes(self, client: Client) -> None:
        mine = shared(client, optimizer=train.GradientDescent(train.ExponentialDecay(1.0, 1, 0.5)))
        rates = []
        for _ in range(3):
            rates.append(mine.learning_rate)
            mine.push(ones())
        assert rates == [1.0, 0.5, 0.25]
        np.testing.assert_array_equal(mine.arrays["b"], np.full(3, -1.75))

    def test_there_is_none_without_an_optimizer(self, client: Client) -> None:
        mine = shared(client)
        with pytest.raises(
            FailedPreconditionError, match="net is shared without an optimizer, and so has no learning_rate"
        ):
            _ = mine.learning_rate
        with pytest.raises(FailedPreconditionError, match="has no finish"):
            mine.finish()


class TestTheEndOfRounds:
    @pytest.mark.parametrize("leave", [lambda each: each.close(), lambda each: each.__exit__(None, None, None)])
    def test_nobody_waits_for_who_has_closed_the_model(
        self, client: Client, cluster: InProcessCluster, leave: Callable[[SharedArrays], None]
    ) -> None:
        both = [with_sgd(each, sync="bsp") for each in (client, cluster.client(1))]
        for each in both:
            each.pull()
        leave(both[0])
        assert [both[1].push(ones())[0].verdict for _ in range(2)] == ["applied"] * 2

    def test_one_that_has_failed_is_waited_for_until_its_connection_ends(self, client: Client) -> None:
        mine = with_sgd(client, sync="bsp")
        mine.pull()
        mine.__exit__(ValueError, ValueError("of the program"), None)
        assert mine.is_closed
        assert mine.training_report().quorum == 1

    def test_a_model_may_be_closed_behind_its_connection(self, client: Client) -> None:
        mine = with_sgd(client, sync="bsp")
        mine.pull()
        client.close()
        mine.close()


class TestWhoMayShareWhat:
    def test_two_models_of_one_name_are_refused_until_one_is_closed(self, client: Client) -> None:
        mine = shared(client)
        with pytest.raises(
            InvalidArgumentError, match=r"shares a model called net already; .* under another name, or close"
        ):
            shared(client)
        mine.close()
        shared(client).pull()

    def test_a_model_that_nobody_holds_is_in_nobodys_way(self, client: Client) -> None:
        shared(client)
        shared(client).pull()

    def test_two_connections_may_share_a_model(self, client: Client, cluster: InProcessCluster) -> None:
        both = [shared(client), shared(cluster.client(1))]
        both[0].push(ones())
        both[1].pull()
        np.testing.assert_array_equal(both[1].arrays["b"], np.ones(3))

    def test_an_optimizer_trains_one_model(self, client: Client) -> None:
        sgd = train.GradientDescent(0.5)
        mine = SharedArrays(client, "first", model(), optimizer=sgd)
        with pytest.raises(
            InvalidArgumentError,
            match=r"GradientDescent trains the model first, and was given to second too; .*'GradientDescent_second'",
        ):
            SharedArrays(client, "second", model(), optimizer=sgd)
        mine.close()
        SharedArrays(client, "second", model(), optimizer=sgd)

    def test_in_rounds_two_models_need_two_names_of_optimizers(self, client: Client) -> None:
        first = SharedArrays(client, "first", model(), optimizer=train.Adam(0.5, sync="bsp"))
        with pytest.raises(InvalidArgumentError, match="an optimizer of the name Adam trains the model first"):
            SharedArrays(client, "second", model(), optimizer=train.Adam(0.5, sync="bsp"))
        second = SharedArrays(client, "second", model(), optimizer=train.Adam(0.5, sync="bsp", name="other"))
        third = SharedArrays(client, "third", model(), optimizer=train.Adam(0.5))  # alone: each has slots of its own
        assert [each.name for each in (first, second, third)] == ["first", "second", "third"]

    def test_what_is_no_optimizer_or_connection_is_named(self, client: Client) -> None:
        with pytest.raises(InvalidArgumentError, match=r"not the class worker_client.*Adam$"):
            shared(client, optimizer=train.Adam)
        with pytest.raises(
            InvalidArgumentError, match=r"client= takes a connection, as ss.connect\(\) returns it, not int"
        ):
            SharedArrays(5, "net", model(), optimizer=None)  # type: ignore[arg-type]

    def test_a_partitioner_leaves_scalars_whole(self, client: Client) -> None:
        arrays: Arrays = {"rows": np.ones((4, 2), np.float32), "count": np.array(3, np.int64)}
        mine = shared(client, arrays, partitioner=fixed_size_partitioner(2))
        assert [len(parts_of(mine.variables[each])) for each in arrays] == [2, 1]

    def test_a_model_that_is_refused_leaves_name_and_optimizer_free(self, client: Client) -> None:
        sgd = train.GradientDescent(0.5)
        shared(client).close()
        with pytest.raises(InvalidArgumentError, match="another model") as refused:
            shared(client, {"other": np.ones(1)}, optimizer=sgd)
        shared(client, optimizer=sgd)
        del refused  # which has held the model that was refused until now

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            pytest.param({"w": [1.0]}, "net: parameter w is a list, into which nothing can be read", id="list"),
            pytest.param({"w": np.broadcast_to(np.ones(1), (3,))}, "parameter w is a read-only array", id="read-only"),
            pytest.param({}, "net has no parameter that could be shared", id="nothing"),
        ],
    )
    def test_what_nothing_can_be_read_into_is_refused(self, client: Client, arrays: Any, message: str) -> None:
        with pytest.raises(InvalidArgumentError, match=message):
            shared(client, arrays)

    @pytest.mark.parametrize("dtype", [np.int32, np.complex64, np.bool_])
    def test_what_does_not_train_is_refused_with_an_optimizer(self, client: Client, dtype: Any) -> None:
        arrays = {"w": np.ones(2, np.float32), "ids": np.ones(2, dtype)}
        with pytest.raises(
            DTypeMismatchError, match=rf"net: parameter ids holds {np.dtype(dtype)}, and .*optimizer=None"
        ):
            with_sgd(client, arrays)
        shared(client, arrays)

    def test_arrays_that_share_memory_are_refused(self, client: Client) -> None:
        memory = np.zeros(4)
        with pytest.raises(InvalidArgumentError, match="net/a and net/b overlap in memory"):
            shared(client, {"a": memory[:3], "b": memory[1:]})

    def test_an_optimizer_of_another_library_is_refused(self, client: Client) -> None:
        with pytest.raises(
            InvalidArgumentError, match=r"one of ss\.train, as ss\.train\.Adam\(1e-3\), .* not builtins\.str"
        ):
            shared(client, optimizer="adam")


class TestTheEnd:
    def test_what_is_closed_is_refused(self, client: Client) -> None:
        with with_sgd(client) as mine:
            assert repr(mine) == "<SharedArrays 'net': 2 arrays>"
        for use in (mine.pull, lambda: mine.push(ones())):
            with pytest.raises(FailedPreconditionError, match="net is closed; share the model again"):
                use()
        assert repr(mine) == "<SharedArrays 'net': closed>"

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
    def test_it_is_not_copied(self, client: Client, copied: Callable[[Any], Any]) -> None:
        mine = shared(client)
        with pytest.raises(
            TypeError, match=r"SharedArrays 'net' is bound to a connection .* share it under the same name"
        ):
            copied(mine)

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_in_a_forked_child_it_says_whose_it_is(self, client: Client) -> None:
        mine = with_sgd(client)
        mine.push(ones())
        for use in (mine.pull, lambda: mine.push(ones())):
            assert "the connection belongs to the process that opened it" in str(error_in_child(use))
