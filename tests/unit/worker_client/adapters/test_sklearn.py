"""Estimators of scikit-learn that workers share: as good as one that has all samples, and errors."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, Perceptron, SGDClassifier, SGDRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor

import shardscope as ss
from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from worker_client.sklearn import SharedEstimator

WORKERS: Final = 3
BATCH: Final = 32
EPOCHS: Final = 4
HELD_OUT: Final = 400
TIMEOUT_S: Final = 120.0

Make = Callable[[], Any]
CLASSIFIERS: Final[dict[str, Make]] = {
    "SGDClassifier": lambda: SGDClassifier(random_state=0),
    "log loss": lambda: SGDClassifier("log_loss", random_state=0),
    "Perceptron": lambda: Perceptron(random_state=0),
    "MLPClassifier": lambda: MLPClassifier((32,), random_state=0, learning_rate_init=0.01),
    "MLPClassifier, sgd": lambda: MLPClassifier((32,), solver="sgd", random_state=0, learning_rate_init=0.1),
}


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: SmallCluster) -> ss.Client:
    return cluster.client()


def digits() -> tuple[Any, Any, Any, Any]:
    """Samples and targets to learn from, then held-out ones."""
    samples, targets = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(samples))
    samples, targets = samples[order] / 16, targets[order]
    return samples[HELD_OUT:], targets[HELD_OUT:], samples[:HELD_OUT], targets[:HELD_OUT]


def batches(samples: Any, targets: Any, index: int = 0, count: int = 1) -> Iterator[tuple[Any, Any]]:
    """Those of a worker, for all epochs."""
    samples, targets = samples[index::count], targets[index::count]
    for _ in range(EPOCHS):
        for begin in range(0, len(samples) - BATCH + 1, BATCH):
            yield samples[begin : begin + BATCH], targets[begin : begin + BATCH]


@pytest.mark.parametrize("make", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_workers_with_a_part_each_are_as_good_as_one_with_all(cluster: SmallCluster, make: Make) -> None:
    samples, targets, held_out, expected = digits()
    shared = [ss.sklearn.share(make(), "clf", client=cluster.client(index)) for index in range(WORKERS)]
    parts = [batches(samples, targets, index, WORKERS) for index in range(WORKERS)]
    for of_workers in zip(*parts, strict=True):
        for worker, (some, their_targets) in zip(shared, of_workers, strict=True):
            worker.partial_fit(some, their_targets, classes=np.arange(10))
    alone = make()
    for batch in batches(samples, targets):
        alone.partial_fit(*batch, classes=np.arange(10))
    scores = [worker.pull().score(held_out, expected) for worker in shared]
    assert len(set(scores)) == 1  # it is one model
    assert scores[0] > alone.score(held_out, expected) - 0.03
    one_part = make()
    for batch in batches(samples[: BATCH * 2], targets[: BATCH * 2]):
        one_part.partial_fit(*batch, classes=np.arange(10))
    assert scores[0] > one_part.score(held_out, expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGDRegressor(random_state=0),
        lambda: MLPRegressor(hidden_layer_sizes=(8,), random_state=0, learning_rate_init=0.01),
    ],
)
def test_regressors_are_shared_too(cluster: SmallCluster, make: Make) -> None:
    samples, targets = load_diabetes(return_X_y=True)
    samples, targets = samples / samples.std(axis=0), (targets - targets.mean()) / targets.std()
    shared = [ss.sklearn.share(make(), "reg", client=cluster.client(index)) for index in range(2)]
    for of_workers in zip(*[batches(samples, targets, index, 2) for index in range(2)], strict=True):
        for worker, batch in zip(shared, of_workers, strict=True):
            worker.partial_fit(*batch)
    assert shared[0].pull().score(samples, targets) > 0.25
    np.testing.assert_array_equal(shared[0].estimator.predict(samples), shared[1].pull().predict(samples))


@pytest.mark.parametrize("make", [*CLASSIFIERS.values()][:3], ids=[*CLASSIFIERS][:3])
def test_one_worker_learns_what_it_would_learn_alone(client: ss.Client, make: Make) -> None:
    samples, targets, *_ = digits()
    shared, alone = ss.sklearn.share(make(), "clf", client=client), make()
    for batch in [*batches(samples, targets)][:20]:
        assert shared.partial_fit(*batch, classes=np.arange(10)) is shared
        alone.partial_fit(*batch, classes=np.arange(10))
    close: dict[str, Any] = {
        "rtol": 1e-3,
        "atol": 1e-3,
    }  # a step or two of rounding, which the large first rates make larger
    np.testing.assert_allclose(shared.estimator.coef_, alone.coef_, **close)
    np.testing.assert_allclose(shared.variables["coef_"].numpy(), alone.coef_, **close)
    np.testing.assert_allclose(shared.variables["intercept_"].numpy(), alone.intercept_, **close)
    assert float(shared.variables["t_"]) == shared.estimator.t_ == alone.t_ == 1 + 20 * BATCH


def test_a_late_worker_begins_where_the_others_are(cluster: SmallCluster) -> None:
    samples, targets, held_out, expected = digits()
    first = ss.sklearn.share(SGDClassifier(random_state=0), "clf", client=cluster.client(0))
    for batch in batches(samples, targets):
        first.partial_fit(*batch, classes=np.arange(10))
    late = ss.sklearn.share(SGDClassifier(random_state=0), "clf", client=cluster.client(1))
    late.partial_fit(samples[:2], targets[:2], classes=np.arange(10))
    assert late.estimator.t_ == first.estimator.t_ + 2  # so that its rate is not that of a beginner
    assert late.pull().score(held_out, expected) > first.estimator.score(held_out, expected) - 0.05


def test_what_has_learned_already_is_what_all_begin_with(cluster: SmallCluster) -> None:
    samples, targets, *_ = digits()
    learned = SGDClassifier(random_state=0).fit(samples, targets)
    ss.sklearn.share(learned, "clf", client=cluster.client(0))
    other = ss.sklearn.share(
        SGDClassifier(random_state=0).fit(samples[:100], targets[:100]), "clf", client=cluster.client(1)
    )
    np.testing.assert_array_equal(other.pull().coef_, learned.coef_)
    np.testing.assert_array_equal(other.estimator.intercept_, learned.intercept_)


def test_in_rounds_the_mean_of_what_the_workers_learn_is_added(cluster: SmallCluster) -> None:
    samples, targets, *_ = digits()
    halves = [(samples[index : 64 + index : 2], targets[index : 64 + index : 2]) for index in range(2)]

    def work(index: int) -> SharedEstimator:
        shared = ss.sklearn.share(
            SGDClassifier(random_state=0), "clf", sync="bsp(total=2)", client=cluster.client(index)
        )
        for _ in range(3):
            shared.partial_fit(*halves[index], classes=np.arange(10))
        assert shared.training_report().round == 3
        return shared

    with ThreadPoolExecutor(2) as pool:
        workers = [each.result(TIMEOUT_S) for each in [pool.submit(work, index) for index in range(2)]]
    alone = [SGDClassifier(random_state=0) for _ in range(2)]
    for _ in range(3):
        for estimator, half in zip(alone, halves, strict=True):
            estimator.partial_fit(*half, classes=np.arange(10))
        for name in ("coef_", "intercept_"):
            mean = np.mean([getattr(estimator, name) for estimator in alone], axis=0)
            for estimator in alone:
                np.copyto(getattr(estimator, name), mean)
        assert alone[0].t_ == alone[1].t_  # as its mean then
    for worker in workers:
        np.testing.assert_allclose(worker.pull().coef_, alone[0].coef_, atol=1e-9)
        worker.finish()


def test_weights_of_samples_go_to_the_estimator(client: ss.Client) -> None:
    samples, targets, *_ = digits()
    shared, alone = ss.sklearn.share(SGDRegressor(random_state=0), "reg", client=client), SGDRegressor(random_state=0)
    weights = np.arange(9.0)
    shared.partial_fit(samples[:9], targets[:9], sample_weight=weights)
    alone.partial_fit(samples[:9], targets[:9], sample_weight=weights)
    np.testing.assert_allclose(shared.variables["coef_"].numpy(), alone.coef_)


def test_classes_may_be_text(client: ss.Client) -> None:
    samples, targets, *_ = digits()
    names = np.array([f"digit é{each}" for each in targets])
    shared = ss.sklearn.share(SGDClassifier(random_state=0), "clf", client=client)
    shared.partial_fit(samples[:50], names[:50], classes=np.unique(names))
    shared.partial_fit(samples[:50], names[:50])
    assert set(shared.pull().predict(samples)) <= set(names)


# -- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (LogisticRegression(), "clf: LogisticRegression has no partial_fit, .*; take one that has, as SGDClassifier"),
        (SGDClassifier, r"an estimator is shared, not its class; give SGDClassifier\(\)"),
        (SGDClassifier(average=True), r"SGDClassifier\(average=True\) keeps averages .*; make it with average=False"),
        ("clf", "clf: str has no partial_fit"),
    ],
    ids=["no partial_fit", "class", "average", "text"],
)
def test_what_cannot_be_shared_is_refused(client: ss.Client, estimator: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        ss.sklearn.share(estimator, "clf", client=client)


class Forgetful(BaseEstimator):
    """Learns nothing."""

    def partial_fit(self, *_: Any) -> Forgetful:
        return self


def test_what_learns_nothing_is_refused(client: ss.Client) -> None:
    with pytest.raises(InvalidArgumentError, match="clf: Forgetful has no coef_ after partial_fit"):
        ss.sklearn.share(Forgetful(), "clf", client=client).partial_fit([[1.0]], [0])


@pytest.mark.parametrize("make", [GaussianNB, lambda: MiniBatchKMeans(2, n_init=1)], ids=["GaussianNB", "KMeans"])
def test_what_learns_something_else_is_refused(client: ss.Client, make: Make) -> None:
    samples, targets, *_ = digits()
    shared = ss.sklearn.share(make(), "clf", client=client)
    more = {"classes": np.arange(10)} if make is GaussianNB else {}
    with pytest.raises(InvalidArgumentError, match=r"clf: .* learns .*_, and what is shared are coef_ and intercept_"):
        shared.partial_fit(samples[:20], targets[:20], **more)
    assert client.variables() == []


def test_the_first_call_of_a_classifier_needs_all_classes(client: ss.Client) -> None:
    samples, targets, *_ = digits()
    shared = ss.sklearn.share(SGDClassifier(), "clf", client=client)
    with pytest.raises(InvalidArgumentError, match="clf: the first partial_fit of a classifier needs classes="):
        shared.partial_fit(samples[:9], targets[:9])
    assert client.variables() == []
    with pytest.raises(FailedPreconditionError, match="clf has not learned yet; call partial_fit first"):
        shared.pull()


@pytest.mark.parametrize("names", [False, True])
def test_workers_with_other_classes_are_refused(cluster: SmallCluster, names: bool) -> None:
    samples, targets, *_ = digits()
    first, other = (
        np.array([f"{begin}{each}" if names else ord(begin) + each for each in range(10)]) for begin in "ab"
    )
    ss.sklearn.share(SGDClassifier(), "clf", client=cluster.client(0)).partial_fit(
        samples[:9], first[targets[:9]], first
    )
    late = ss.sklearn.share(SGDClassifier(), "clf", client=cluster.client(1))
    with pytest.raises(
        InvalidArgumentError, match=r"clf tells apart the classes \[.*\], and this one \[.*\]; give all"
    ):
        late.partial_fit(samples[:9], other[targets[:9]], other)
    with pytest.raises(
        InvalidArgumentError, match=r"different: coef_ is float64 \[11, 64\] here and float64 \[10, 64\]"
    ):
        late.partial_fit(samples[:9], np.arange(9), np.arange(11))  # what was refused has not been learned


def test_what_is_not_finite_is_not_shared(client: ss.Client) -> None:
    class Diverging(SGDRegressor):
        def partial_fit(self, *given: Any, **more: Any) -> Any:
            super().partial_fit(*given, **more)
            if self.t_ > 20:
                self.coef_[0] = np.inf
            return self

    samples, targets, *_ = digits()
    shared = ss.sklearn.share(Diverging(random_state=0), "reg", client=client)
    shared.partial_fit(samples[:9], targets[:9])
    before = shared.variables["coef_"].numpy()
    with pytest.raises(InvalidArgumentError, match="reg: partial_fit has made coef_ infinite or NaN, and nothing was"):
        shared.partial_fit(samples[:20], targets[:20])
    np.testing.assert_array_equal(shared.variables["coef_"].numpy(), before)
    np.testing.assert_array_equal(shared.pull().coef_, before)


def test_errors_of_the_estimator_change_nothing(client: ss.Client) -> None:
    samples, targets, *_ = digits()
    shared = ss.sklearn.share(SGDClassifier(random_state=0), "clf", client=client)
    shared.partial_fit(samples[:9], targets[:9], classes=np.arange(10))
    before = shared.variables["coef_"].numpy()
    with pytest.raises(ValueError, match="features"):
        shared.partial_fit(samples[:9, :5], targets[:9])
    np.testing.assert_array_equal(shared.variables["coef_"].numpy(), before)


def test_sparse_coefficients_are_refused(client: ss.Client) -> None:
    samples, targets, *_ = digits()
    shared = ss.sklearn.share(SGDClassifier(random_state=0), "clf", client=client)
    shared.partial_fit(samples[:9], targets[:9], classes=np.arange(10))
    shared.estimator.sparsify()
    with pytest.raises(FailedPreconditionError, match=r"coef_ is a csr_matrix|coef_ is a csr_array.*densify"):
        shared.partial_fit(samples[:9], targets[:9])
    shared.estimator.densify()
    shared.partial_fit(samples[:9], targets[:9])


@pytest.mark.parametrize("number", [5, 0])
def test_an_estimator_that_was_made_anew_is_refused(client: ss.Client, number: int) -> None:
    samples, targets, *_ = digits()
    shared = ss.sklearn.share(SGDClassifier(random_state=0), "clf", client=client)
    shared.partial_fit(samples[:9], targets[:9], classes=np.arange(10))
    shared.estimator = SGDClassifier()
    if number:
        shared.estimator.fit(samples[:99, :number], targets[:99])
    what = rf"coef_ is \[10, {number}\], not \[10, 64\]" if number else "it has no coef_"
    with pytest.raises(FailedPreconditionError, match=f"SGDClassifier is no longer like what is shared: {what}"):
        shared.pull()


def test_only_rounds_have_a_report_and_an_end(client: ss.Client) -> None:
    shared = ss.sklearn.share(SGDRegressor(), "reg", client=client)
    for asked in (shared.finish, shared.training_report):
        with pytest.raises(FailedPreconditionError, match=r"reg is shared without sync.*as sync='bsp'"):
            asked()


def test_an_estimator_is_bound_to_its_process_and_to_its_block(client: ss.Client) -> None:
    samples, targets, *_ = digits()
    with ss.sklearn.share(SGDRegressor(), "reg", client=client) as shared:
        assert shared.variables == {}
        shared.partial_fit(samples[:9], targets[:9])
        with pytest.raises(TypeError, match="SharedEstimator"):
            pickle.dumps(shared)
        with pytest.raises(InvalidArgumentError, match="shares a model called reg already"):
            ss.sklearn.share(SGDRegressor(), "reg", client=client).partial_fit(samples[:9], targets[:9])
    with pytest.raises(FailedPreconditionError, match="reg is closed"):
        shared.partial_fit(samples[:9], targets[:9])
