"""Each layer's function takes what the layer takes, with the same defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from worker_client.compat.v1 import layers

PAIRS = [
    (layers.dense, layers.Dense),
    (layers.flatten, layers.Flatten),
    (layers.dropout, layers.Dropout),
    (layers.conv1d, layers.Conv1D),
    (layers.conv2d, layers.Conv2D),
    (layers.conv2d_transpose, layers.Conv2DTranspose),
    (layers.separable_conv2d, layers.SeparableConv2D),
    (layers.max_pooling1d, layers.MaxPooling1D),
    (layers.max_pooling2d, layers.MaxPooling2D),
    (layers.average_pooling1d, layers.AveragePooling1D),
    (layers.average_pooling2d, layers.AveragePooling2D),
    (layers.batch_normalization, layers.BatchNormalization),
]
OF_FUNCTIONS = {"inputs", "reuse", "training"}
OTHERWISE = {"strides", "dilation_rate", "data_format", "name"}  # one number for all dimensions, or None for a default


@pytest.mark.parametrize(("function", "layer"), PAIRS, ids=[layer.__name__ for _, layer in PAIRS])
def test_a_function_takes_what_its_layer_takes(function: Callable[..., Any], layer: type[layers.Layer]) -> None:
    of_function = dict(inspect.signature(function).parameters)
    of_layer = {name: each for name, each in inspect.signature(layer).parameters.items() if name != "kwargs"}
    assert set(of_function) - OF_FUNCTIONS == set(of_layer) | {"name"}
    for name in set(of_layer) - OTHERWISE:
        assert of_function[name].default == of_layer[name].default


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(TypeError, match=r"^dense\(\) missing 1 required positional argument: 'units'$"):
        layers.dense([[1.0]])  # type: ignore[call-arg]
