"""Steps of optimizers, from the worker's side: what is sent where, and what it comes to."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from ps_protocol.errors import (
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    ShapeMismatchError,
    ShardscopeError,
)
from tests.unit.worker_client.clusters import TIMEOUT_S, InProcessCluster
from tests.unit.worker_client.optimizers.conftest import VALUE, variable_of
from worker_client import train
from worker_client.client import Client
from worker_client.initializers import Constant, zeros_initializer
from worker_client.scopes.variable_scope import get_variable
from worker_client.values.conversion import IndexedSlices

GRADIENT = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


def exchanges(cluster: InProcessCluster, before: list[int]) -> list[int]:
    return [after - old for after, old in zip(cluster.batches(), before, strict=True)]


class TestOneVariable:
    def test_a_dense_gradient(self, w: Any) -> None:
        optimizer = train.Momentum(0.5, 0.5)
        (first,), (second,) = (optimizer.apply_gradients([(GRADIENT, w)]) for _ in range(2))
        np.testing.assert_allclose(w.numpy(), VALUE - 0.5 * GRADIENT - 0.5 * 1.5 * GRADIENT, rtol=1e-6)
        assert (first.verdict, second.verdict) == ("applied", "applied")
        assert second.version == w.version

    def test_a_gradient_for_rows_that_come_again(self, w: Any) -> None:
        optimizer = train.Momentum(0.5, 0.5, sparse="lazy")
        optimizer.apply_gradients([(IndexedSlices(GRADIENT[:3], [2, 0, 2]), w)])
        whole = np.zeros_like(VALUE)
        np.add.at(whole, [2, 0, 2], GRADIENT[:3])
        np.testing.assert_allclose(w.numpy(), VALUE - 0.5 * whole, rtol=1e-6)
        np.testing.assert_allclose(optimizer.get_slot(w, "momentum").numpy(), whole, rtol=1e-6)

    def test_rows_of_one_part_are_a_step_of_all(self, w: Any) -> None:
        adam = train.Adam(0.5)
        for row in (0, 3):
            adam.apply_gradients([(IndexedSlices(GRADIENT[:1], [row]), w)])
        other = variable_of("whole", "dense")
        again = train.Adam(0.5)
        for row in (0, 3):
            again.apply_gradients([(np.where(np.arange(4)[:, np.newaxis] == row, GRADIENT[:1], 0), other)])
        np.testing.assert_allclose(w.numpy(), other.numpy(), rtol=1e-6)

    def test_without_waiting_gradients_are_copied(self, w: Any) -> None:
        optimizer, gradient = train.GradientDescent(1.0), GRADIENT.copy()
        rows, values = np.array([1]), np.ones((1, 3), np.float32)
        dense = optimizer.apply_gradients([(gradient, w)], wait=False)
        sparse = optimizer.apply_gradients([(IndexedSlices(values, rows), w)], wait=False)
        gradient[:], rows[:], values[:] = 99, 0, 99
        assert [each.result(TIMEOUT_S)[0].verdict for each in (dense, sparse)] == ["applied"] * 2
        np.testing.assert_allclose(w.numpy(), VALUE - GRADIENT - [[0], [1], [0], [0]], atol=1e-6)

    @pytest.mark.parametrize("wire_dtype", ["bfloat16", "float16", "int8"])
    def test_what_rounding_takes_from_one_gradient_is_added_to_the_next(self, w: Any, wire_dtype: Any) -> None:
        optimizer = train.GradientDescent(1.0)
        for _ in range(64):
            optimizer.apply_gradients([(GRADIENT, w)], wire_dtype=wire_dtype)
        rounding = {"bfloat16": 2**-7, "float16": 2**-10, "int8": 2**-6}[wire_dtype]
        np.testing.assert_allclose(w.numpy(), VALUE - 64 * GRADIENT, atol=2 * rounding + 1e-4)

    def test_a_refused_gradient_owes_nothing(self, w: Any) -> None:
        optimizer = train.GradientDescent(1.0)
        with pytest.raises(InvalidArgumentError, match="not finite"):
            optimizer.apply_gradients([(np.full_like(GRADIENT, np.inf), w)], wire_dtype="bfloat16")
        optimizer.apply_gradients([(GRADIENT, w)], wire_dtype="bfloat16")
        np.testing.assert_allclose(w.numpy(), VALUE - GRADIENT, atol=2**-7)

    @pytest.mark.usefixtures("client")
    def test_nor_does_a_skipped_one(self) -> None:
        w = variable_of("whole")
        optimizer = train.GradientDescent(1.0, on_nonfinite="skip")
        bad = np.where(GRADIENT[0, 0] == GRADIENT, np.nan, GRADIENT)
        assert optimizer.apply_gradients([(bad, w)], wire_dtype="bfloat16")[0].verdict == "skipped"
        optimizer.apply_gradients([(np.zeros_like(GRADIENT), w)], wire_dtype="bfloat16")
        np.testing.assert_array_equal(w.numpy(), VALUE)

    def test_rows_travel_rounded_too(self, w: Any) -> None:
        train.GradientDescent(1.0).apply_gradients([(IndexedSlices(GRADIENT[:2], [3, 1]), w)], wire_dtype="bfloat16")
        np.testing.assert_allclose(w.numpy()[[3, 1]], VALUE[[3, 1]] - GRADIENT[:2], atol=2**-6)

    def test_a_global_step_counts(self, w: Any, cluster: InProcessCluster) -> None:
        step = get_variable("step", [], np.int64, initializer=zeros_initializer())
        optimizer = train.GradientDescent(1.0)
        optimizer.apply_gradients([(GRADIENT, w)], global_step=step)
        before = cluster.batches()
        optimizer.apply_gradients([(GRADIENT, w)], global_step=step, wait=False).result(TIMEOUT_S)
        assert max(exchanges(cluster, before)) == 1
        assert step.numpy() == 2


class TestPull:
    def test_it_comes_back_with_the_step(self, w: Any, client: Client, cluster: InProcessCluster) -> None:
        optimizer, mirror = train.Momentum(0.5, 0.5), client.mirror([w])
        optimizer.apply_gradients([(GRADIENT, w)])
        before = cluster.batches()
        optimizer.apply_gradients([(GRADIENT, w)], pull=mirror)
        assert max(exchanges(cluster, before)) == 1
        np.testing.assert_array_equal(mirror.values[0], w.numpy())

    def test_a_gradient_that_is_refused(self, w: Any, client: Client) -> None:
        optimizer, mirror = train.GradientDescent(1.0), client.mirror([w])
        with pytest.raises(InvalidArgumentError, match="not finite"):
            optimizer.apply_gradients([(np.full_like(GRADIENT, np.inf), w)], pull=mirror)
        optimizer.apply_gradients([(GRADIENT, w)])
        mirror.pull()
        np.testing.assert_array_equal(mirror.values[0], VALUE - GRADIENT)

    def test_what_cannot_be_pulled(self, w: Any, client: Client) -> None:
        optimizer, unknown = train.GradientDescent(1.0), cast(Any, [w])
        with pytest.raises(InvalidArgumentError, match=r"takes a mirror, as client.mirror\(variables\) makes it"):
            optimizer.apply_gradients([(GRADIENT, w)], pull=unknown)
        with pytest.raises(InvalidArgumentError, match="give pull= without wait=False"):
            optimizer.apply_gradients(  # type: ignore[call-overload]  # that is what is tested
                [(GRADIENT, w)], pull=client.mirror([w]), wait=False
            )
        np.testing.assert_array_equal(w.numpy(), VALUE)

    def test_a_mirror_of_another_connection(self, w: Any, cluster: InProcessCluster) -> None:
        with cluster.client() as other:
            mirror = other.mirror([w.name.removesuffix(":0")])
            with pytest.raises(InvalidArgumentError, match="of another connection than the variables"):
                train.GradientDescent(1.0).apply_gradients([(GRADIENT, w)], pull=mirror)
        np.testing.assert_array_equal(w.numpy(), VALUE)


class TestWhatIsGivenWrongly:
    @pytest.mark.usefixtures("client")
    def test_pairs_the_wrong_way_round(self) -> None:
        w: Any = variable_of("whole")
        with pytest.raises(InvalidArgumentError, match=r"takes pairs \(gradient, variable\).*variable w first"):
            train.Adam().apply_gradients([(w, GRADIENT)])  # type: ignore[list-item]  # that is what is tested

    @pytest.mark.parametrize(("shape", "dtype"), [([2], np.int64), ([], np.float32)], ids=["vector", "float"])
    def test_a_global_step_is_a_scalar_of_integers(self, w: Any, shape: list[int], dtype: Any) -> None:
        step = get_variable("step", shape, dtype, initializer=zeros_initializer())
        with pytest.raises(InvalidArgumentError, match="scalar variable of integers, not variable step"):
            train.GradientDescent(1.0).apply_gradients([(GRADIENT, w)], global_step=step)
        np.testing.assert_array_equal(w.numpy(), VALUE)

    @pytest.mark.parametrize(
        ("argument", "told"),
        [
            ("lr", "'lr'; the learning rate is called learning_rate"),
            (
                "beta_1",
                "'beta_1'; it takes learning_rate, beta1, beta2, epsilon, amsgrad, name, sparse, slot_dtype, "
                "on_nonfinite, constraint, sync$",
            ),
        ],
    )
    def test_an_argument_that_there_is_not(self, argument: str, told: str) -> None:
        with pytest.raises(TypeError, match=rf"^Adam\(\) has no argument {told}"):
            train.Adam(**{argument: 0.1})  # type: ignore[arg-type]  # that is what is tested

    @pytest.mark.parametrize("name", ["lr", "beta1", "name", "spec"])
    def test_what_is_fixed_is_not_set(self, name: str) -> None:
        optimizer = train.Adam(0.25)
        with pytest.raises(AttributeError, match=rf"^{name} of <Adam .*> cannot be set: .* only learning_rate changes"):
            setattr(optimizer, name, 0.5)
        optimizer.learning_rate = 0.5
        assert optimizer.learning_rate == 0.5
        assert copy.copy(optimizer).name == "Adam"

    @pytest.mark.parametrize(
        ("name", "told"),
        [("minimize", "apply_gradients, or build a graph"), ("step", "apply_gradients makes"), ("lr", "learning_rate")],
    )
    def test_what_optimizers_of_other_libraries_have(self, name: str, told: str) -> None:
        with pytest.raises(AttributeError, match=rf"^'Adam' object has no attribute '{name}': .*{told}"):
            getattr(train.Adam(), name)
        assert not hasattr(train.Adam(), "no_such_thing")


@pytest.mark.parametrize(
    "copier",
    [lambda each: pickle.loads(pickle.dumps(each)), copy.deepcopy, copy.copy],
    ids=["pickle", "deepcopy", "copy"],
)
def test_a_copy_has_the_settings_and_finds_the_slots(w: Any, copier: Callable[[Any], Any]) -> None:
    optimizer = train.Adam(train.ExponentialDecay(0.5, 10, 0.9), beta1=0.8, constraint="non_negative")
    optimizer.apply_gradients([(GRADIENT, w)])
    other = copier(optimizer)
    assert repr((other.name, other.spec)) == repr((optimizer.name, optimizer.spec))  # there are NaNs in the spec
    assert other.learning_rate == optimizer.learning_rate
    other.apply_gradients([(GRADIENT, w)])
    assert optimizer.get_slot(w, "step").numpy() == 2
    assert other._lock is not optimizer._lock


class TestLearningRates:
    def test_it_may_change(self, w: Any) -> None:
        optimizer = train.GradientDescent(1.0)
        optimizer.apply_gradients([(GRADIENT, w)])
        optimizer.learning_rate = 0.5
        optimizer.apply_gradients([(GRADIENT, w)])
        optimizer.apply_gradients([(GRADIENT, w)], learning_rate=0.25)
        optimizer.apply_gradients([(GRADIENT, w)])
        np.testing.assert_allclose(w.numpy(), VALUE - 2.25 * GRADIENT, atol=1e-6)

    def test_a_schedule_goes_by_the_steps_of_the_variable(self, w: Any) -> None:
        optimizer = train.GradientDescent(train.ExponentialDecay(1.0, 1, 0.5))
        for _ in range(3):
            optimizer.apply_gradients([(GRADIENT, w)])
        optimizer.apply_gradients([(GRADIENT, w)], learning_rate=2.0)
        np.testing.assert_allclose(w.numpy(), VALUE - 3.75 * GRADIENT, atol=1e-6)

    def test_a_number_may_be_set_instead_of_a_schedule(self, w: Any) -> None:
        optimizer = train.GradientDescent(train.ExponentialDecay(1.0, 1, 0.5))
        optimizer.learning_rate = 4.0
        optimizer.apply_gradients([(GRADIENT, w)])
        np.testing.assert_allclose(w.numpy(), VALUE - 4 * GRADIENT, atol=1e-6)

    def test_a_schedule_is_not_set_later(self) -> None:
        optimizer = train.GradientDescent(1.0, name="Sgd")
        with pytest.raises(InvalidArgumentError, match="Sgd cannot get the schedule exponential now"):
            optimizer.learning_rate = train.ExponentialDecay(1.0, 1, 0.5)  # type: ignore[assignment]
        assert optimizer.learning_rate == 1.0

    @pytest.mark.parametrize("rate", [math.nan, math.inf, "fast", None])
    def test_it_is_a_finite_number(self, rate: Any) -> None:
        with pytest.raises(InvalidArgumentError, match="the learning rate is"):
            train.GradientDescent(rate)
        with pytest.raises(InvalidArgumentError, match="the learning rate is"):
            train.GradientDescent(1.0).learning_rate = rate


class TestMany:
    def test_it_is_one_exchange_for_each_ps_task(self, variables: list[Any], cluster: InProcessCluster) -> None:
        optimizer = train.Adam(0.1)
        before = cluster.batches()
        optimizer.apply_gradients([(GRADIENT, each) for each in variables])
        assert exchanges(cluster, before) == [3, 2], "one declares all, one carries all out; ps:0 is asked for rounds"
        before = cluster.batches()
        outcome = optimizer.apply_gradients([(GRADIENT, each) for each in variables])
        assert exchanges(cluster, before) == [1, 1]
        assert [each.version for each in outcome] == [2, 2, (2, 2), (2, 2)]
        optimizer.apply_gradients([(IndexedSlices(GRADIENT[:1], [0]), each) for each in variables])
        assert exchanges(cluster, before) == [2, 2]

    def test_they_may_come_as_a_dictionary(self, variables: list[Any]) -> None:
        train.GradientDescent(1.0).apply_gradients(dict.fromkeys(variables, GRADIENT))
        for each in variables:
            np.testing.assert_allclose(each.numpy(), VALUE - GRADIENT, atol=1e-6)

    def test_two_optimizers_have_two_names(self, variables: list[Any], client: Client) -> None:
        for name in ("first", "second"):
            train.Momentum(0.5, 0.5, name=name).apply_gradients([(GRADIENT, variables[0])])
        np.testing.assert_allclose(variables[0].numpy(), VALUE - GRADIENT, atol=1e-6)
        assert {each.name for each in client.variables() if each.slot_of == "a"} == {
            f"a/{name}/{slot}" for name in ("first", "second") for slot in ("momentum", "step")
        }

    def test_another_worker_goes_on_with_the_same_slots(self, variables: list[Any], cluster: InProcessCluster) -> None:
        other = cluster.client(1)
        train.Momentum(0.5, 0.5).apply_gradients([(GRADIENT, each) for each in variables])
        again = train.Momentum(0.5, 0.5)
        again.apply_gradients([(GRADIENT, other.variable(each.whole_spec.name)) for each in variables])
        for each in variables:
            np.testing.assert_allclose(each.numpy(), VALUE - 1.25 * GRADIENT, atol=1e-5)

    def test_settings_that_disagree_are_refused_naming_both(
        self, variables: list[Any], cluster: InProcessCluster
    ) -> None:
        train.Momentum(0.5, 0.5).apply_gradients([(GRADIENT, variables[0])])
        seen = cluster.client(1).variable("a")
        for other, told in (
            (train.Momentum(0.5, 0.75), r"momentum\(momentum=0\.5\) .* momentum\(momentum=0\.75\);.* name$"),
            (
                train.Momentum(0.25, 0.5),
                r"\(learning_rate=0\.5\) .*\(learning_rate=0\.25\);.* set on the optimizer later",
            ),
            (
                train.Momentum(train.CosineDecay(0.5, 10), 0.5),
                r"learning_rate=0\.5\) .*\(learning_rate=cosine\(learning_rate=0\.5, decay_steps=10\.0, alpha=0\.0\)\)",
            ),
            (train.Momentum(0.5, 0.5, on_nonfinite="skip"), r"\(on_nonfinite='refuse'\) .*\(on_nonfinite='skip'\)"),
            (train.Momentum(0.5, 0.5, constraint="non_negative"), r"\(constraint=None\) .*=non_negative\(\)\)"),
            (train.Adam(0.5, name="Momentum"), r"momentum\(learning_rate=0\.5, .* adam\(learning_rate=0\.5, .* name$"),
        ):
            with pytest.raises(InvalidArgumentError, match=rf"^variable a is already trained by .*{told}"):
                other.apply_gradients([(GRADIENT, seen)])
        assert seen.version == 1


class TestRefused:
    def test_none_is_no_gradient(self, w: Any) -> None:
        with pytest.raises(InvalidArgumentError, match=r"the gradient of variable w is None.*leave the variable out"):
            train.Adam().apply_gradients([(None, w)])  # type: ignore[list-item]

    @pytest.mark.parametrize(
        ("gradient", "error", "message"),
        [
            (GRADIENT[:2], ShapeMismatchError, r"variable w .*shape \[2, 3\]; it should have the variable's"),
            (np.array(1.0, np.float32), ShapeMismatchError, r"variable w .*shape \[\]"),
            (GRADIENT.astype(np.complex64), DTypeMismatchError, "w .*complex64"),
            (np.full((4, 3), "x"), ShardscopeError, "w"),
            (IndexedSlices(GRADIENT[:2], [0]), ShapeMismatchError, r"variable w .* 1 row indices and .*\[2, 3\]"),
            (IndexedSlices(GRADIENT[:1, :2], [0]), ShapeMismatchError, r"variable w .*should have the shape \[1, 3\]"),
            (IndexedSlices(GRADIENT[:1], [4]), InvalidArgumentError, r"row 4 .*variable w .*outside of \[0, 4\)"),
            (IndexedSlices(GRADIENT[:1], [-1]), InvalidArgumentError, r"row -1 .*variable w "),
            (IndexedSlices(GRADIENT[:1], [0.5]), DTypeMismatchError, "w"),
        ],
        ids=["rows", "scalar", "complex", "text", "too few rows", "width", "row", "negative", "half a row"],
    )
    def test_what_does_not_fit_changes_nothing(
        self, w: Any, client: Client, gradient: Any, error: type[Exception], message: str
    ) -> None:
        other = variable_of("whole", "other")
        with pytest.raises(error, match=message):
            train.Adam().apply_gradients([(GRADIENT, other), (gradient, w)])
        np.testing.assert_array_equal(other.numpy(), VALUE)
        assert not [each for each in client.variables() if each.slot_of], "nothing was declared"

    def test_what_is_no_float_is_not_trained(self, client: Client) -> None:
        count = get_variable("count", [3], np.int64, initializer=zeros_initializer())
        with pytest.raises(DTypeMismatchError, match=r"variable count .*cannot be trained"):
            train.Adam().apply_gradients([(np.ones(3), count)])
        assert len(client.variables()) == 1

    def test_a_scalar_has_no_rows(self, client: Client) -> None:
        del client
        scalar = variable_of("whole", "scalar", 1.0)
        with pytest.raises(ShapeMismatchError, match=r"variable scalar .*has no rows"):
            train.Adam().apply_gradients([(IndexedSlices([1.0], [0]), scalar)])
        train.GradientDescent(0.5).apply_gradients([(1.0, scalar)])
        assert scalar.numpy() == 0.5

    def test_what_is_given_in_another_way(self, w: Any, cluster: InProcessCluster) -> None:
        optimizer = train.Adam(name="Mine")
        with pytest.raises(InvalidArgumentError, match=r"Mine\.apply_gradients was given no gradients"):
            optimizer.apply_gradients([])
        with pytest.raises(
            InvalidArgumentError,
            match=r"Mine\.apply_gradients takes a list of pairs, .* an array of the shape \[4, 3\]$",
        ):
            optimizer.apply_gradients([GRADIENT])  # type: ignore[list-item]
        with pytest.raises(InvalidArgumentError, match=r"Mine\.apply_gradients takes pairs .*, not None"):
            optimizer.apply_gradients(None)  # type: ignore[call-overload]
        with pytest.raises(InvalidArgumentError, match=r"name 'w'; give the variable, as client\.variable\('w'\)"):
            optimizer.apply_gradients([(GRADIENT, "w")])  # type: ignore[list-item]
        with pytest.raises(ValueError, match="are of different connections"):
            optimizer.apply_gradients([(GRADIENT, w), (GRADIENT, cluster.client(1).variable("w"))])
        with pytest.raises(InvalidArgumentError, match="global step should be a variable of the same connection"):
            optimizer.apply_gradients([(GRADIENT, w)], global_step=cluster.client(1).variable("w"))

    def test_it_needs_a_value(self, cluster: InProcessCluster) -> None:
        with cluster.client(initialize=False):
            late = get_variable("late", [3], initializer=Constant(np.ones(3)))
            with pytest.raises(FailedPreconditionError, match=r"variable late .*has not been initialised"):
                train.Adam().apply_gradients([(np.ones(3), late)])

    def test_an_observer_declares_nothing(self, w: Any, cluster: InProcessCluster) -> None:
        observer = cluster.client(1, observer=True)
        with pytest.raises(PermissionDeniedError, match=r'w.* was not changed: .* observer="update"'):
            train.Adam().apply_gradients([(GRADIENT, observer.variable("w"))])
        assert not [each for each in observer.variables() if each.slot_of]
        assert set(np.ravel(w.version)) == {0}
        updating = cluster.client(1, observer="update")
        train.GradientDescent(1.0).apply_gradients([(GRADIENT, updating.variable("w"))])
        np.testing.assert_allclose(w.numpy(), VALUE - GRADIENT, atol=1e-6)


class TestNotFinite:
    BAD = np.where(np.arange(12).reshape(4, 3) == 11, np.nan, GRADIENT)
    BAD_ROWS = IndexedSlices(np.array([[1, 2, np.inf], [4, 5, 6]], np.float32), np.array([3, 2]))  # of one part

    def test_it_is_refused_and_others_are_applied(self, w: Any, cluster: InProcessCluster) -> None:
        other = variable_of("whole", "other")
        with pytest.raises(InvalidArgumentError, match=r"variable w.*1 of the .* not finite.*nothing was changed"):
            train.GradientDescent(1.0).apply_gradients([(self.BAD, w), (GRADIENT, other)])
        np.testing.assert_allclose(other.numpy(), VALUE - GRADIENT, atol=1e-6)
        statuses = [task.status(timeout_s=TIMEOUT_S) for task in cluster.tasks]
        assert sum(status.steps_refused for status in statuses) == np.size(w.version)

    def test_or_it_is_skipped(self, w: Any, cluster: InProcessCluster) -> None:
        other = variable_of("whole", "other")
        optimizer = train.GradientDescent(1.0, on_nonfinite="skip")
        outcome = optimizer.apply_gradients([(self.BAD, w), (GRADIENT, other)])
        assert [each.verdict for each in outcome] == ["skipped", "applied"]
        statuses = [task.status(timeout_s=TIMEOUT_S) for task in cluster.tasks]
        assert sum(status.steps_skipped for status in statuses) == np.size(w.version)
        (again,) = optimizer.apply_gradients([(GRADIENT, w)], wait=False).result(TIMEOUT_S)
        assert again.verdict == "applied"

    @pytest.mark.parametrize("bad", [BAD, BAD_ROWS], ids=["dense", "rows"])
    @pytest.mark.parametrize("wire_dtype", [None, "bfloat16"])
    @pytest.mark.parametrize("on_nonfinite", ["refuse", "skip"])
    def test_of_its_variable_no_part_is_changed(
        self, w: Any, bad: Any, wire_dtype: Any, on_nonfinite: Any, cluster: InProcessCluster
    ) -> None:
        optimizer = train.Momentum(1.0, 0.5, on_nonfinite=on_nonfinite)
        optimizer.apply_gradients([(GRADIENT, w)], wire_dtype=wire_dtype)
        before, slots = w.numpy(), optimizer.get_slot(w, "momentum").numpy()
        batches = cluster.batches()
        try:
            (outcome,) = optimizer.apply_gradients([(bad, w)], wire_dtype=wire_dtype)
        except InvalidArgumentError as error:
            assert on_nonfinite == "refuse"
            assert "1 of the" in error.message  # noqa: PT017 - of the part that has it
        else:
            assert outcome.verdict == "skipped"
        assert max(exchanges(cluster, batches)) == 1
        np.testing.assert_array_equal(w.numpy(), before)
        np.testing.assert_array_equal(optimizer.get_slot(w, "momentum").numpy(), slots)
        assert set(np.ravel(w.version)) == {1}

    def test_or_it_is_applied(self, w: Any) -> None:
        train.GradientDescent(1.0, on_nonfinite="apply").apply_gradients([(self.BAD, w)])
        np.testing.assert_allclose(w.numpy(), VALUE - self.BAD, atol=1e-6)
