"""``tf.layers``: layers as classes and as functions."""

from worker_client.layers.base import Layer
from worker_client.layers.convolutional import Conv1D, Conv2D, Conv2DTranspose, SeparableConv2D
from worker_client.layers.core import Dense, Dropout, Flatten, dense, dropout, flatten
from worker_client.layers.functions import conv1d, conv2d, conv2d_transpose, separable_conv2d
from worker_client.layers.normalization import BatchNormalization, batch_normalization
from worker_client.layers.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    MaxPooling1D,
    MaxPooling2D,
    average_pooling1d,
    average_pooling2d,
    max_pooling1d,
    max_pooling2d,
)
from worker_client.values.left_out import getattr_of

__all__ = [
    "AveragePooling1D",
    "AveragePooling2D",
    "BatchNormalization",
    "Conv1D",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "MaxPooling1D",
    "MaxPooling2D",
    "SeparableConv2D",
    "average_pooling1d",
    "average_pooling2d",
    "batch_normalization",
    "conv1d",
    "conv2d",
    "conv2d_transpose",
    "dense",
    "dropout",
    "flatten",
    "max_pooling1d",
    "max_pooling2d",
    "separable_conv2d",
]

__getattr__ = getattr_of("layers")
