"""Losses of variables and where they are collected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.worker_client.naming_fakes import deferred_graph, eager_graph
from worker_client.graph.keys import GraphKeys
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.initializers import Constant
from worker_client.scopes.pure_scope import ScopeStores
from worker_client.scopes.variable_scope import AUTO_REUSE, get_variable, variable_scope
from worker_client.values.shapes import TensorShape

SCALAR = OutputSpec(np.dtype(np.float32), TensorShape([]))


def test_an_eager_loss_is_of_the_present_value() -> None:
    with eager_graph().as_default() as graph:
        with variable_scope("a", regularizer=np.sum):
            variable = get_variable("v", [3], initializer=Constant(2.0))
        (loss,) = graph.get_collection(GraphKeys.REGULARIZATION_LOSSES)
        assert (loss.name, loss.variable, float(loss)) == ("a/v/Regularizer", variable, 6.0)
        variable.assign_add(1)
        assert [float(loss()), int(np.asarray(loss, np.int32)), float(2 * loss + loss)] == [9.0, 9, 27.0]
        with pytest.raises(ValueError, match="copy"):
            np.array(loss, copy=False)


def test_an_eager_regularizer_is_not_called_before_it_is_asked() -> None:
    def regularizer(_: Any) -> None:
        calls.append(1)

    calls: list[int] = []
    with eager_graph().as_default() as graph:
        get_variable("v", [3], regularizer=regularizer)
        assert not calls
        (loss,) = graph.get_collection(GraphKeys.REGULARIZATION_LOSSES)
        assert float(loss) == 0.0


def test_a_deferred_loss_is_named_and_placed_beside_its_variable() -> None:
    def regularizer(_: Any) -> Tensor:
        return graph.create_op("Sum", outputs=[SCALAR], name="penalty").outputs[0]

    with deferred_graph().as_default() as graph, graph.name_scope("ignored"), graph.device("/job:worker"):
        with graph.device("/job:ps/task:1"):
            get_variable("a/v", [3], regularizer=regularizer)
        (loss,) = graph.get_collection(GraphKeys.REGULARIZATION_LOSSES)
    assert (loss.name, loss.device) == ("a/v/Regularizer/penalty:0", "/job:ps/task:1")
    assert [each.name for each in graph.get_operations() if each.type == "Sum"] == [
        "penalty",
        "a/v/Regularizer/penalty",
    ]


def test_a_deferred_regularizer_may_make_no_loss() -> None:
    with deferred_graph().as_default() as graph:
        get_variable("v", [3], regularizer=lambda _: None)
        assert graph.get_collection(GraphKeys.REGULARIZATION_LOSSES) == []


def test_sharing_adds_no_loss() -> None:
    with eager_graph().as_default() as graph:
        for _ in range(2):
            with variable_scope("a", reuse=AUTO_REUSE):
                get_variable("v", [3], regularizer=np.sum)
        assert len(graph.get_collection(GraphKeys.REGULARIZATION_LOSSES)) == 1


def test_a_regularizer_that_fails_leaves_the_variable() -> None:
    with deferred_graph().as_default() as graph:
        with pytest.raises(ZeroDivisionError):
            get_variable("v", [3], regularizer=lambda _: 1 / 0)
        graph.slot(ScopeStores).here.current.reuse_variables()
        assert get_variable("v").name == "v:0"
