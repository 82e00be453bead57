"""Works out the shapes of what orders, fills up and takes apart rows; see ``shape_functions``."""

from __future__ import annotations

import numpy as np

from worker_client.op_definitions.shape_functions import (
    UNKNOWN,
    Known,
    Size,
    broadcast_shapes,
    dimension,
    merged,
    of_rank,
    same_size,
)
from worker_client.values.shapes import TensorShape

_SOME = TensorShape([None])

# -- order and length -----------------------------------------------------------------------------


def padded(known: Known) -> TensorShape:
    """With so many elements more in each dimension as the second input says."""
    before, paddings = known.shapes[:2]
    known.check_rank(1, 2)
    if paddings.ndims is None:
        return of_rank(before.ndims)
    ndims, pair = paddings
    same_size(pair, 2, f"in paddings of the shape {paddings}, which should be [rank, 2]")
    if before.ndims is not None:
        same_size(ndims, before.ndims, f"to fill up the shape {before} by paddings of the shape {paddings}")
    numbers = known.value(1)
    if numbers is None:
        return of_rank(ndims if before.ndims is None else before.ndims)
    if np.any(np.asarray(numbers) < 0):
        raise ValueError(f"paddings should not be negative, as {numbers.tolist()} are")
    sizes = before if before.ndims is not None else [None] * len(numbers)
    return TensorShape(
        None if size is None else size + int(sum(each)) for size, each in zip(sizes, numbers, strict=True)
    )


def reversed_along(known: Known) -> TensorShape:
    """The same; the second input lists dimensions, each of them once."""
    before = known.shapes[0]
    known.check_rank(1, 1)
    if before.ndims is not None and before.ndims > 8:
        raise ValueError(f"at most 8 dimensions can be reversed, not those of the shape {before}")
    listed = known.value(1)
    if before.ndims is not None and listed is not None:
        places = [dimension(int(axis), before) for axis in listed]
        if len(set(places)) < len(places):
            raise ValueError(f"each dimension can be reversed once, and {listed.tolist()} lists one twice")
    return before


def along_dimensions(known: Known) -> TensorShape:
    """The same; steps and dimensions are scalars or vectors."""
    for index in (1, 2):
        if (known.shapes[index].ndims or 0) > 1:
            raise ValueError(f"input {index} should be a scalar or a vector, not of the shape {known.shapes[index]}")
    if known.shapes[0].ndims == 0:
        raise ValueError("a scalar has no dimension to roll along")
    return known.shapes[0]


def with_beginnings(known: Known) -> TensorShape:
    """The same, with one length for each row along a dimension."""
    shape, lengths = known.shapes
    known.check_rank(1, 1)
    if shape.ndims is None:
        return UNKNOWN
    rows, along = known.attributes["batch_dim"], known.attributes["seq_dim"]
    if not (0 <= rows < shape.ndims and 0 <= along < shape.ndims):
        raise ValueError(f"there are no dimensions {rows} and {along} in the shape {shape}")
    size = same_size(shape.size(rows), lengths.size(0) if lengths.ndims else None, "rows and lengths")
    return TensorShape([*shape[:rows], size, *shape[rows + 1 :]])


def vector(known: Known) -> TensorShape:
    """The same, a vector."""
    return merged([known.shapes[0], _SOME])


def best(known: Known) -> list[TensorShape]:
    """The greatest elements of each row and their places, as many as the second input says."""
    shape, number = known.shapes[0], known.number(1)
    if shape.ndims is None:
        return [UNKNOWN] * 2
    if not shape.ndims:
        raise ValueError("a scalar has no last dimension")
    if number is not None and number < 0:
        raise ValueError(f"{number} elements cannot be taken")
    length = shape.size(-1)
    if number is not None and length is not None and length < number:
        raise ValueError(f"the input should have at least {number} elements in its last dimension, not {shape}")
    return [TensorShape([*shape[:-1], number])] * 2


def among_best(known: Known) -> TensorShape:
    """One element for each row of the first input, and each number of the second."""
    rows, places, _ = known.shapes
    known.check_rank(0, 2)
    known.check_rank(1, 1)
    known.check_rank(2, 0)
    return TensorShape([same_size(rows.size(0) if rows.ndims else None, places.size(0) if places.ndims else None, "")])


def broadcast_to(known: Known) -> TensorShape:
    """The shape that the second input says, to which the first one can be broadcast."""
    before, after = known.shapes[0], known.sizes(1)
    if after.ndims is None:
        return UNKNOWN
    if before.ndims is None:
        return after
    if before.ndims > after.ndims:
        raise ValueError(f"the shape {before} cannot be broadcast to {after}, which has fewer dimensions")
    new = after.ndims - before.ndims
    sizes = list(after[:new])
    for size, wanted in zip(before, after[new:], strict=True):
        if None not in (size, wanted) and size not in (1, wanted):
            raise ValueError(f"the shape {before} cannot be broadcast to {after}")
        sizes.append(size if wanted is None and size != 1 else wanted)
    return TensorShape(sizes)


def common_shape(known: Known) -> TensorShape:
    """A shape, of as many dimensions as the longer of two."""
    for index in (0, 1):
        known.check_rank(index, 1)
    sizes = [each.size(0) if each.ndims else None for each in known.shapes]
    return TensorShape([None if None in sizes else max(size for size in sizes if size is not None)])


def biased(known: Known) -> TensorShape:
    """The same; the second input has one element for each channel."""
    shape, bias = known.shapes
    known.check_rank(1, 1)
    if shape.ndims is None:
        return UNKNOWN
    is_second = known.attributes["data_format"] == b"NCHW"
    if shape.ndims < (3 if is_second else 2):
        raise ValueError(f"a bias of the shape {bias} does not fit a value of the shape {shape}")
    at = 1 if is_second else shape.ndims - 1
    channels = bias.size(0) if bias.ndims else None
    size = same_size(shape.size(at), channels, f"that of a bias and the channels of a value of the shape {shape}")
    return TensorShape([*shape[:at], size, *shape[at + 1 :]])


def losses(known: Known) -> list[TensorShape]:
    """One for each row of logits and labels, and as many gradients as logits."""
    if any(shape.ndims not in (None, 2) for shape in known.shapes):
        raise ValueError(f"logits and labels are matrices, not of the shapes {known.shapes[0]} and {known.shapes[1]}")
    shape = broadcast_shapes(*known.shapes)
    if shape.ndims is None:
        return [_SOME, of_rank(2)]
    return [shape[:1], shape]


def losses_of_classes(known: Known) -> list[TensorShape]:
    """One for each row of logits and each label, and as many gradients as logits."""
    logits, labels = known.shapes
    known.check_rank(0, 2)
    known.check_rank(1, 1)
    rows = logits[:1] if logits.ndims else _SOME
    rows = merged([rows, labels])
    return [rows, TensorShape([rows.size(0), logits.size(1) if logits.ndims else None])]


def of_values(known: Known) -> TensorShape:
    """That of the second input: the values of a sparse tensor."""
    return known.shapes[1]


# -- segments, parts and places -------------------------------------------------------------------


def segments(known: Known) -> TensorShape:
    """As many rows as the third input says, of the shape that is left behind the dimensions of the second one."""
    (data, ids, _), number = known.shapes, known.number(2)
    if data.ndims is None or ids.ndims is None:
        return UNKNOWN
    merged([data[: ids.ndims], ids])
    return TensorShape([number, *data[ids.ndims :]])


def ordered_segments(known: Known) -> TensorShape:
    """Some rows, of the shape that those of the first input have; the second one has a number for each."""
    data = known.shapes[0]
    known.check_rank(1, 1)
    if data.ndims == 0:
        raise ValueError("a scalar has no rows")
    return UNKNOWN if data.ndims is None else TensorShape([None, *data[1:]])


def different(known: Known) -> list[TensorShape]:
    """Some elements of a vector, for each of its elements a place, and for each of those some a number."""
    return [_SOME, vector(known), _SOME]


def left_over(known: Known) -> list[TensorShape]:
    """Some elements of the first vector that are not in the second, and their places."""
    for index in (0, 1):
        known.check_rank(index, 1)
    return [_SOME, _SOME]


def partitions(known: Known) -> list[TensorShape]:
    """Some rows each, of the shape that is left behind the dimensions of the second input."""
    (data, numbers), count = known.shapes, known.attributes["num_partitions"]
    if numbers.ndims is None or data.ndims is None:
        return [UNKNOWN] * count
    merged([data[: numbers.ndims], numbers])
    return [TensorShape([None, *data[numbers.ndims :]])] * count


def stitched(known: Known) -> TensorShape:
    """Rows in the places that the first half of the inputs lists."""
    number = len(known.shapes) // 2
    values = [known.value(index) for index in range(number)]
    inner = UNKNOWN
    for places, rows in zip(known.shapes[:number], known.shapes[number:], strict=True):
        if places.ndims is not None and rows.ndims is not None:
            merged([rows[: places.ndims], places])
            inner = merged([inner, rows[places.ndims :]])
    if inner.ndims is None:
        return UNKNOWN
    size: Size = None
    if all(value is not None for value in values):
        size = max((int(np.max(value)) + 1 for value in values if value is not None and value.size), default=0)
    return TensorShape([size, *inner])


def scattered(known: Known) -> TensorShape:
    """The shape that the third input says."""
    after = known.sizes(2)
    _check_places(known.shapes[0], known.shapes[1], after)
    return after


def with_places(known: Known) -> TensorShape:
    """The same, with others in some places."""
    _check_places(known.shapes[1], known.shapes[2], known.shapes[0])
    return known.shapes[0]


def _check_places(places: TensorShape, values: TensorShape, whole: TensorShape) -> None:
    depth = places.size(-1) if places.ndims else None
    if depth is None or values.ndims is None or whole.ndims is None or depth > whole.ndims:
        return  # what is too deep is refused in the run
    if not values.is_compatible_with([*places[:-1], *whole[depth:]]):
        raise ValueError(f"values of the shape {values} do not fit places of the shape {places} in the shape {whole}")
