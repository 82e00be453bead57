"""Regularizers, of deferred and of eager variables, and the losses that they leave in the collection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.worker_client.naming_fakes import eager_graph
from worker_client.graph.keys import GraphKeys
from worker_client.ops import regularizers as ops
from worker_client.ops.collections import add_to_collection, get_collection
from worker_client.ops.constant_ops import constant
from worker_client.scopes.variable_scope import get_variable, variable_scope
from worker_client.sessions.session import Session

VALUE = np.array([1.0, -2.0, 3.0], np.float32)


def weights(session: Session, **options: Any) -> Any:
    variable = get_variable("w", initializer=VALUE, **options)
    session.run(variable.initializer)
    return variable


@pytest.mark.parametrize(
    ("regularizer", "name", "value"),
    [
        (ops.l1_regularizer(0.5), "l1_regularizer", 3),
        (ops.l2_regularizer(0.5), "l2_regularizer", 3.5),
        (ops.l1_l2_regularizer(0.5, 0.5), "l1_l2_regularizer", 6.5),
        (ops.l1_l2_regularizer(0.0, 0.5), "l1_l2_regularizer", 3.5),
        (ops.l1_l2_regularizer(0.5, 0.0), "l1_l2_regularizer", 3),
        (ops.sum_regularizer([ops.l1_regularizer(0.5), None, ops.l2_regularizer(0.5)]), "sum_regularizer", 6.5),
        (ops.l2_regularizer(0.5, scope="mine"), "mine", 3.5),
    ],
)
def test_losses_and_names(session: Session, regularizer: Any, name: str, value: float) -> None:
    loss = regularizer(weights(session))
    assert (loss.op.name, loss.dtype, loss.shape) == (name, np.float32, [])
    assert session.run(loss) == value
    with eager_graph().as_default():
        assert regularizer(get_variable("w", initializer=VALUE)) == value


def test_a_scale_of_zero_makes_no_loss(session: Session) -> None:
    assert ops.l1_regularizer(0.0)(weights(session)) is None
    assert ops.sum_regularizer([]) is None
    nothing = ops.sum_regularizer([ops.l2_regularizer(0.0)])
    assert nothing is not None
    assert nothing(get_collection(GraphKeys.GLOBAL_VARIABLES)[0]) is None


@pytest.mark.parametrize("scale", [1, 0, True, -0.5, float("nan")])
@pytest.mark.parametrize("make", [ops.l1_regularizer, ops.l2_regularizer, ops.l1_l2_regularizer])
def test_bad_scales(make: Any, scale: Any) -> None:
    with pytest.raises(ValueError, match="the scale of l"):
        make(scale)


def test_a_scale_may_be_a_tensor(session: Session) -> None:
    assert session.run(ops.l2_regularizer(constant(0.5))(weights(session))) == 3.5


def test_losses_of_variables_are_collected(session: Session) -> None:
    with variable_scope("layer", regularizer=ops.l2_regularizer(0.5)):
        weights(session)
    get_variable("b", [2])
    (loss,) = ops.get_regularization_losses()
    assert loss.op.name == "layer/w/Regularizer/l2_regularizer"
    assert ops.get_regularization_losses("layer") == [loss]
    assert ops.get_regularization_losses("other") == []
    total = ops.get_regularization_loss()
    assert total.op.name == "total_regularization_loss"
    assert session.run([total, ops.get_regularization_loss("other")]) == [3.5, 0]


def test_eager_losses_follow_the_value() -> None:
    with eager_graph().as_default():
        assert ops.get_regularization_loss() == 0
        for name in "uv":
            get_variable(name, initializer=VALUE, regularizer=ops.l2_regularizer(0.5))
        assert ops.get_regularization_loss() == 7
        get_variable("w", [3], regularizer=ops.l1_regularizer(0.0))
        variable = get_collection(GraphKeys.GLOBAL_VARIABLES)[0]
        variable.assign([0, 0, 0])
        assert ops.get_regularization_loss() == 3.5
        assert ops.get_regularization_loss("u") == 0


def test_regularization_can_be_applied_later(session: Session) -> None:
    variable = weights(session)
    with pytest.raises(ValueError, match="no variables to regularize"):
        ops.apply_regularization(ops.l2_regularizer(0.5))
    add_to_collection(GraphKeys.WEIGHTS, variable)
    total = ops.apply_regularization(ops.l2_regularizer(0.5))
    assert total.op.name == "get_regularization_penalty"
    assert ops.get_regularization_losses() == [total]
    assert session.run(total) == 3.5
    with pytest.raises(ValueError, match=r"of w:0 should be a scalar"):
        ops.apply_regularization(lambda weights: weights * 2.0, [variable])
