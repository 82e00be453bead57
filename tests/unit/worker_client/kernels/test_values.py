"""Convolutions and pools are what a loop over all places and taps says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.unit.worker_client.kernels.test_derivatives import SLIDES, images, values
from worker_client.kernels import convolution, normalization, pooling, windows
from worker_client.kernels.windows import Windows


def shown(image: Any, taps: tuple[int, int], windows: Windows) -> Iterator[tuple[tuple[int, int], Any]]:
    """Yields for each place of a window what it shows of an image ``[height, width, channels]``; nan in the margins."""
    margins = windows.margins(image.shape[:2], taps)
    padded = np.pad(image, [*margins, (0, 0)], constant_values=np.nan)
    down, across = windows.places(image.shape[:2], taps)
    for row, column in itertools.product(range(down), range(across)):
        rows = row * windows.strides[0] + np.arange(taps[0]) * windows.dilations[0]
        columns = column * windows.strides[1] + np.arange(taps[1]) * windows.dilations[1]
        yield (row, column), padded[np.ix_(rows, columns)]


def looped(given: Any, taps: tuple[int, int], windows: Windows, channels: int, function: Any) -> Any:
    last = windows.images(given)
    result = np.zeros((last.shape[0], *windows.places(last.shape[1:3], taps), channels))
    for number, image in enumerate(last):
        for place, window in shown(image, taps, windows):
            result[(number, *place)] = function(window)
    return np.moveaxis(result, -1, 1) if windows.channels_first else result


@pytest.mark.parametrize("windows", SLIDES, ids=str)
def test_a_convolution(windows: Windows) -> None:
    given, filters = images(windows), values(3, 2, 2, 5, seed=8)
    expected = looped(given, (3, 2), windows, 5, lambda x: np.einsum("hwc,hwco->o", np.nan_to_num(x), filters))
    np.testing.assert_allclose(convolution.conv2d(given, filters, windows), expected, atol=1e-12)


@pytest.mark.parametrize("windows", SLIDES, ids=str)
def test_a_convolution_of_each_channel(windows: Windows) -> None:
    given, filters = images(windows), values(3, 2, 2, 3, seed=8)
    expected = looped(
        given, (3, 2), windows, 6, lambda x: np.einsum("hwc,hwcm->cm", np.nan_to_num(x), filters).reshape(-1)
    )
    np.testing.assert_allclose(convolution.depthwise_conv2d(given, filters, windows), expected, atol=1e-12)


@pytest.mark.parametrize("windows", [each for each in SLIDES if isinstance(each.padding, str)], ids=str)
def test_pools(windows: Windows) -> None:
    given = images(windows)
    greatest = looped(given, (3, 2), windows, 2, lambda x: np.nanmax(x, axis=(0, 1)))
    np.testing.assert_array_equal(pooling.max_pool(given, (3, 2), windows), greatest)
    if windows.dilations == (1, 1):
        means = looped(given, (3, 2), windows, 2, lambda x: np.nanmean(x, axis=(0, 1)))
        np.testing.assert_allclose(pooling.avg_pool(given, (3, 2), windows), means, atol=1e-12)


def test_the_gradient_of_a_maximum_goes_to_the_first_of_equal_elements() -> None:
    flat = np.ones((1, 2, 2, 1), np.float32)
    sent = pooling.sent_to_greatest(np.full((1, 1, 1, 1), 5, np.float32), flat, (2, 2), Windows())
    assert sent.tolist() == [[[[5.0], [0.0]], [[0.0], [0.0]]]]


def test_kernels_keep_single_precision_and_their_arguments() -> None:
    given, filters = values(2, 5, 6, 2).astype(np.float32), values(3, 2, 2, 5).astype(np.float32)
    copies = given.copy(), filters.copy()
    windows = Windows(padding="SAME")
    made = convolution.conv2d(given, filters, windows)
    results = [
        made,
        convolution.conv2d_of_gradient(given.shape, filters, made, windows),
        convolution.conv2d_of_filters(given, filters.shape, made, windows),
        pooling.max_pool(given, (2, 2), windows),
        pooling.avg_pool(given, (2, 2), windows),
        normalization.batch_norm(given, filters[0, 0, :, 0], filters[0, 0, :, 1], 1e-3, False),
        normalization.local_response_normalization(given, 1, 1.0, 0.1, 0.5),
    ]
    assert {each.dtype for each in results} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(given, copies[0])
    np.testing.assert_array_equal(filters, copies[1])


def test_places_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"has \[5, 5\] places on images of the shape \[1, 9, 9, 1\], not \[3, 3\]"):
        convolution.conv2d_of_gradient((1, 9, 9, 1), values(2, 2, 1, 1), values(1, 3, 3, 1), Windows((2, 2), "SAME"))


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1)])
@pytest.mark.parametrize("outputs", [2, 9])
def test_large_convolutions_go_block_by_block(
    monkeypatch: pytest.MonkeyPatch, channels_first: bool, strides: tuple[int, int], outputs: int
) -> None:
    way = Windows(strides, "SAME", channels_first=channels_first)
    given = values(5, 2, 6, 5) if channels_first else values(5, 6, 5, 2)
    filters = values(3, 2, 2, outputs)

    def all_three() -> list[Any]:
        made = convolution.conv2d(given, filters, way)
        by_images = convolution.conv2d_of_gradient(given.shape, filters, made, way)
        return [made, by_images, convolution.conv2d_of_filters(given, filters.shape, made, way)]

    at_once = all_three()
    sizes: list[int] = []
    columns = Windows.columns

    def counted(self: Windows, images: Any, taps: tuple[int, int]) -> Any:
        sizes.append(images.shape[0])
        return columns(self, images, taps)

    monkeypatch.setattr(windows, "BLOCK_BYTES", 2 * 30 * 12 * 8)
    monkeypatch.setattr(Windows, "columns", counted)
    for one, other in zip(at_once, all_three(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert max(sizes) < 5


def test_no_images_make_no_images() -> None:
    made = convolution.conv2d(np.zeros((0, 6, 5, 2), np.float32), values(3, 2, 2, 4), Windows())
    assert made.shape == (0, 4, 4, 4)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_short_floats_stay_short(dtype: Any) -> None:
    given, filters = values(2, 5, 6, 2).astype(dtype), values(3, 2, 2, 4).astype(dtype)
    way = Windows(padding="SAME")
    made, own = convolution.conv2d(given, filters, way), convolution.depthwise_conv2d(given, filters, way)
    results = [
        made,
        own,
        convolution.conv2d_of_gradient(given.shape, filters, made, way),
        convolution.conv2d_of_filters(given, filters.shape, made, way),
        convolution.depthwise_of_gradient(given.shape, filters, own, way),
        convolution.depthwise_of_filters(given, filters.shape, own, way),
        pooling.avg_pool(given, (2, 2), way),
        pooling.max_pool(given, (2, 2), way),
    ]
    assert {each.dtype for each in results} == {np.dtype(dtype)}
    wide = convolution.conv2d(given.astype(np.float64), filters.astype(np.float64), way)
    np.testing.assert_allclose(made.astype(np.float64), wide, atol=0.1)
