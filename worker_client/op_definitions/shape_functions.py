"""Works out the shapes of outputs, as TensorFlow does: as far as they are known, and an error where shapes do not fit.

Each function is given what is known about the inputs, and returns the shape of the output, or a list of those. A size
that is not known is None, and fits every other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, TypeAlias

import numpy as np

from ps_protocol.operations import Array
from worker_client.graph.operation import Tensor
from worker_client.op_definitions.static_values import constant_value, known_sizes
from worker_client.values.shapes import TensorShape


class Known:
    """What is known about the inputs of an operation, and its attributes.

    Args:
        inputs: Those of lists one after the other.
        attributes: Of the operation.

    Attributes:
        shapes: Those of the inputs.
    """

    def __init__(self, inputs: Sequence[Tensor], attributes: Mapping[str, Any]):
        self.inputs = inputs
        self.attributes = attributes
        self.shapes = [tensor.shape for tensor in inputs]

    def value(self, index: int) -> Array | None:
        """Returns the value of an input, None if it is not known."""
        return constant_value(self.inputs[index])

    def number(self, index: int) -> int | None:
        """Returns the value of an input that must be one integer, None if it is not known."""
        self.check_rank(index, 0)
        value = self.value(index)
        return None if value is None else int(value)

    def sizes(self, index: int) -> TensorShape:
        """Returns the sizes that an input consists of, as far as they are known."""
        self.check_rank(index, 1)
        return known_sizes(self.inputs[index])

    def check_rank(self, index: int, ndims: int) -> None:
        """ValueError if an input cannot have this number of dimensions."""
        if self.shapes[index].ndims not in (None, ndims):
            raise ValueError(f"input {index} has the shape {self.shapes[index]}; its rank should be {ndims}")


Size: TypeAlias = int | None
ShapeFunction: TypeAlias = Callable[[Known], TensorShape | list[TensorShape]]

UNKNOWN = TensorShape(None)
SCALAR = TensorShape([])


def of_rank(ndims: int | None) -> TensorShape:
    """Returns the shape of which no more is known than the number of dimensions, if that is."""
    return TensorShape(None if ndims is None else [None] * ndims)


def dimension(axis: int, shape: TensorShape, number: int | None = None) -> int:
    """Returns the place of a dimension, counted from the first one."""
    ndims = len(shape) if number is None else number
    if not -ndims <= axis < ndims:
        raise ValueError(f"axis {axis} is not in [{-ndims}, {ndims}), the dimensions of the shape {shape}")
    return axis % ndims


def same_size(one: Size, two: Size, where: str) -> Size:
    """Returns a size that two are, as far as it is known; ValueError if they differ."""
    if one is None or two is None or one == two:
        return two if one is None else one
    raise ValueError(f"the sizes {one} and {two} should be the same, {where}")


# -- element by element -----------------------------------------------------------------------------


def same(known: Known) -> TensorShape:
    """The shape of the first input."""
    return known.shapes[0]


def scalar(known: Known) -> TensorShape:  # noqa: ARG001 - whatever the inputs are
    """No dimensions."""
    return SCALAR


def broadcast(known: Known) -> TensorShape:
    """The shape to which two inputs are broadcast."""
    return broadcast_shapes(*known.shapes)


def broadcast_shapes(one: TensorShape, two: TensorShape) -> TensorShape:
    """Returns the shape to which two are broadcast; ValueError if they do not fit each other."""
    if one.is_fully_defined() and two.is_fully_defined() and one == two:
        return one
    if one.ndims is None or two.ndims is None:
        return UNKNOWN
    sizes = [_broadcast_size(*pair, one, two) for pair in zip_longest([*one][::-1], [*two][::-1], fillvalue=1)]
    return TensorShape(sizes[::-1])


def _broadcast_size(first: Size, second: Size, one: TensorShape, two: TensorShape) -> Size:
    if first == 1 or second == 1:
        return second if first == 1 else first
    if first is None or second is None or first == second:
        return second if first is None else first
    raise ValueError(f"the shapes {one} and {two} do not fit each other")


def broadcast_all(known: Known) -> TensorShape:
    """The shape to which all inputs are broadcast."""
    first, *others = known.shapes
    for each in others:
        first = broadcast_shapes(first, each)
    return first


def same_of_a_dimension_or_more(known: Known) -> TensorShape:
    """The shape of the first input, which is no scalar."""
    if known.shapes[0].ndims == 0:
        raise ValueError("a scalar has no last dimension")
    return known.shapes[0]


def cross_product(known: Known) -> TensorShape:
    """The shape that both inputs have, whose last dimension has the size 3."""
    shape = merged(known.shapes)
    if shape.ndims is not None and (not shape.ndims or shape.size(-1) not in (None, 3)):
        raise ValueError(f"vectors of three elements are needed in the last dimension, not the shape {shape}")
    return shape


def ensured(known: Known) -> TensorShape:
    """The shape that is asked for, as far as the input does not say more."""
    return merged([known.shapes[0], TensorShape(known.attributes["shape"])])


def all_the_same(known: Known) -> TensorShape:
    """The shape that all inputs have."""
    return merged(known.shapes)


def merged(shapes: Sequence[TensorShape]) -> TensorShape:
    """Returns what is known of a shape that several have; ValueError if they differ."""
    found = UNKNOWN
    for shape in shapes:
        if not found.is_compatible_with(shape):
            raise ValueError(f"the shapes {', '.join(map(format, shapes))} should be the same")
        found = found.merge_with(shape)
    return found


def selected(known: Known) -> TensorShape:
    """That of elements taken from two inputs; the condition has the same shape, or chooses rows, or all."""
    condition, *choices = known.shapes
    shape = merged(choices)
    if condition.ndims in (None, 0) or shape.ndims is None:
        return shape
    if condition.ndims == 1 and shape.ndims > 1:
        same_size(condition.size(0), shape.size(0), f"those of the condition {condition} and of the rows of {shape}")
        return shape
    return merged([shape, condition])


def default_of_placeholder(known: Known) -> TensorShape:
    """The shape that was asked for, which the default value must have."""
    wanted = TensorShape(known.attributes["shape"])
    if not wanted.is_compatible_with(known.shapes[0]):
        raise ValueError(f"the default has the shape {known.shapes[0]}, not {wanted}")
    return wanted


# -- matrices and reductions -------------------------------------------------------------------------


def matrix_product(known: Known) -> TensorShape:
    """Of matrices in the last two dimensions, either of which may have to be turned; the others are broadcast."""
    one, two = known.shapes
    for shape in (one, two):
        if shape.ndims is not None and shape.ndims < 2:
            raise ValueError(f"matrices have two dimensions or more, not the shape {shape}")
    if one.ndims is None or two.ndims is None:
        return UNKNOWN
    turned = [any(known.attributes.get(name) for name in names) for names in (_TURNED_FIRST, _TURNED_SECOND)]
    rows, inner = one[-2:][::-1] if turned[0] else one[-2:]
    other_inner, columns = two[-2:][::-1] if turned[1] else two[-2:]
    same_size(inner, other_inner, f"to multiply matrices of the shapes {one} and {two}")
    return TensorShape([*broadcast_shapes(one[:-2], two[:-2]), rows, columns])


_TURNED_FIRST = ("transpose_a", "adj_x")
_TURNED_SECOND = ("transpose_b", "adj_y")


def reduced(known: Known) -> TensorShape:
    """Without the dimensions that the second input lists, or with the size 1 for them."""
    shape, keeps = known.shapes[0], known.attributes["keep_dims"]
    axes = known.value(1)
    if shape.ndims is None or axes is None:
        return of_rank(shape.ndims) if keeps else UNKNOWN
    gone = {dimension(int(axis), shape) for axis in np.ravel(axes)}
    return TensorShape(1 if axis in gone else size for axis, size in enumerate(shape) if keeps or axis not in gone)


def without_dimension(known: Known) -> TensorShape:
    """Without the dimension that the second input says."""
    shape, axis = known.shapes[0], known.number(1)
    if shape.ndims is None:
        return UNKNOWN
    if axis is None:
        return of_rank(max(0, shape.ndims - 1))
    if shape.ndims == 0:
        return SCALAR
    at = dimension(axis, shape)
    return TensorShape([*shape[:at], *shape[at + 1 :]])


# -- put together and taken apart ---------------------------------------------------------------------


def concatenated(known: Known) -> TensorShape:
    """One behind the other along the dimension that the last input says."""
    shapes = known.shapes[:-1]
    axis = known.number(len(shapes))
    ndims = next((shape.ndims for shape in shapes if shape.ndims is not None), None)
    if ndims is None:
        return UNKNOWN
    if any(shape.ndims not in (None, ndims) for shape in shapes) or not ndims:
        raise ValueError(f"tensors of the shapes {', '.join(map(format, shapes))} cannot be concatenated")
    if axis is None:
        return of_rank(ndims)
    at = dimension(axis, of_rank(ndims))
    sizes: list[Size] = [None] * ndims
    total: Size = 0
    for shape in (each if each.ndims is not None else of_rank(ndims) for each in shapes):
        along = shape.size(at)
        total = None if total is None or along is None else total + along
        for other in range(ndims):
            if other != at:
                sizes[other] = same_size(sizes[other], shape.size(other), f"to concatenate along dimension {at}")
    sizes[at] = total
    return TensorShape(sizes)


def packed(known: Known) -> TensorShape:
    """Beside each other along a new dimension."""
    shape = merged(known.shapes)
    if shape.ndims is None:
        return UNKNOWN
    at = dimension(known.attributes["axis"], shape, shape.ndims + 1)
    return TensorShape([*shape[:at], len(known.shapes), *shape[at:]])


def unpacked(known: Known) -> list[TensorShape]:
    """What lies beside each other along a dimension, without it."""
    (shape,), number = known.shapes, known.attributes["num"]
    if shape.ndims is None:
        return [UNKNOWN] * number
    at = dimension(known.attributes["axis"], shape)
    same_size(shape.size(at), number, f"to take the shape {shape} apart along dimension {at}")
    return [TensorShape([*shape[:at], *shape[at + 1 :]])] * number


def split_evenly(known: Known) -> list[TensorShape]:
    """Cut into parts of the same size along the dimension that the first input says."""
    axis, shape, number = known.number(0), known.shapes[1], known.attributes["num_split"]
    if shape.ndims == 0:
        raise ValueError("a scalar cannot be split")
    if shape.ndims is None or axis is None:
        return [of_rank(shape.ndims)] * number
    at = dimension(axis, shape)
    size = shape.size(at)
    if size is not None and size % number:
        raise ValueError(f"dimension {at} of the shape {shape} cannot be split into {number} equal parts")
    return [TensorShape([*shape[:at], None if size is None else size // number, *shape[at + 1 :]])] * number


def split_into_sizes(known: Known) -> list[TensorShape]:
    """Cut into parts of given sizes, one of which may be -1."""
    shape, given, axis, number = known.shapes[0], known.value(1), known.number(2), known.attributes["num_split"]
    if shape.ndims == 0:
        raise ValueError("a scalar cannot be split")
    if shape.ndims is None or axis is None:
        return [of_rank(shape.ndims)] * number
    at = dimension(axis, shape)
    sizes: list[Size] = [None] * number if given is None else [None if size < 0 else int(size) for size in given]
    length = shape.size(at)
    if given is not None and length is not None:
        rest = length - sum(size or 0 for size in sizes)
        if rest < 0 or sizes.count(None) > 1 or (rest and None not in sizes):
            raise ValueError(f"dimension {at} of the shape {shape} cannot be split into the sizes {given.tolist()}")
        sizes = [rest if size is None else size for size in sizes]
    return [TensorShape([*shape[:at], size, *shape[at + 1 :]]) for size in sizes]


# -- other shapes, and parts ----------------------------------------------------------------------


def shape(known: Known) -> TensorShape:
    """The shape of a shape."""
    return TensorShape([known.shapes[0].ndims])


def reshaped(known: Known) -> TensorShape:
    """The shape that the second input says, with a size that is left open worked out from the others."""
    before, after = known.shapes[0], known.sizes(1)
    elements = before.num_elements()
    if after.ndims is None or elements is None:
        return after
    product = math.prod(size for size in after if size is not None)
    open_sizes = list(after).count(None)
    if (not open_sizes and product != elements) or (open_sizes and product and elements % product):
        raise ValueError(f"the {elements} elements of the shape {before} cannot have the shape {after}")
    if open_sizes != 1 or not product:
        return after
    return TensorShape(elements // product if size is None else size for size in after)


def transposed(known: Known) -> TensorShape:
    """The dimensions in the order that the second input says."""
    (before, order), numbers = known.shapes, known.value(1)
    known.check_rank(1, 1)
    length = order.size(0)
    ndims = before.ndims if length is None else length
    if before.ndims not in (None, ndims):
        raise ValueError(f"the {before.ndims} dimensions of the shape {before} cannot be put in an order of {ndims}")
    if before.ndims is None or numbers is None:
        return of_rank(ndims)
    return TensorShape(before[dimension(int(each), before)] for each in numbers)


def expanded(known: Known) -> TensorShape:
    """With one more dimension, of size 1."""
    before, axis = known.shapes[0], known.value(1)
    if before.ndims is None or axis is None:
        return UNKNOWN
    at = dimension(int(axis), before, before.ndims + 1)
    return TensorShape([*before[:at], 1, *before[at:]])


def squeezed(known: Known) -> TensorShape:
    """Without dimensions of size 1."""
    (before,), dims = known.shapes, known.attributes["squeeze_dims"]
    if before.ndims is None:
        return UNKNOWN
    if not dims:
        return TensorShape(size for size in before if size != 1) if before.is_fully_defined() else UNKNOWN
    gone = {dimension(axis, before) for axis in dims}
    if any(before.size(axis) not in (None, 1) for axis in gone):
        raise ValueError(f"dimensions {sorted(gone)} of the shape {before} cannot be squeezed: not all have the size 1")
    return TensorShape(size for axis, size in enumerate(before) if axis not in gone)


def tiled(known: Known) -> TensorShape:
    """Repeated along each dimension."""
    before, times = known.shapes[0], known.sizes(1)
    if before.ndims is None or times.ndims is None:
        return of_rank(times.ndims if before.ndims is None else before.ndims)
    if before.ndims != times.ndims:
        raise ValueError(f"{times.ndims} multiples for the {before.ndims} dimensions of the shape {before}")
    pairs = zip(before, times, strict=True)
    return TensorShape(None if size is None or number is None else size * number for size, number in pairs)


def boxed(known: Known) -> TensorShape:
    """A box of the sizes that the third input says, of which -1 is what is left."""
    begin, size = known.value(1), known.value(2)
    known.check_rank(1, 1)
    sizes = known.sizes(2)
    lengths = [known.shapes[0].ndims, *(each.size(0) if each.ndims else None for each in known.shapes[1:]), sizes.ndims]
    ndims = next((length for length in lengths if length is not None), None)
    if any(length not in (None, ndims) for length in lengths):
        raise ValueError(f"begin and size need one number for each dimension of the shape {known.shapes[0]}")
    if sizes.ndims is None or size is None or known.shapes[0].ndims is None:
        return of_rank(ndims) if sizes.ndims is None else sizes
    starts = [None] * sizes.ndims if begin is None else [int(each) for each in begin]
    return TensorShape(
        (None if length is None or start is None else max(0, length - start)) if number < 0 else int(number)
        for length, start, number in zip(known.shapes[0], starts, size, strict=True)
    )


def strided(known: Known) -> TensorShape:
    """Elements and slices, as indexing says by the numbers in the inputs and the masks in the attributes."""
    before = known.shapes[0]
    if before.ndims is None:
        return UNKNOWN
    begin, end, strides = (known.value(index) for index in (1, 2, 3))
    masks = {name: known.attributes[name] for name in _MASKS}
    number = next((each.size(0) for each in known.shapes[1:] if each.ndims), None)
    if number is None:
        return UNKNOWN
    sizes: list[Size] = []
    at = 0
    explicit = number - sum(bool(masks[name] >> place & 1) for place in range(number) for name in _MASKS[2:4])
    for place in range(number):
        bit = 1 << place
        if masks["ellipsis_mask"] & bit:
            following = before.ndims - explicit
            sizes.extend(before[at : at + max(0, following)])
            at += max(0, following)
            continue
        if masks["new_axis_mask"] & bit:
            sizes.append(1)
            continue
        if at >= before.ndims:
            raise ValueError(f"{explicit} indices for the {before.ndims} dimensions of the shape {before}")
        length = before.size(at)
        at += 1
        start = None if begin is None else int(begin[place])
        if masks["shrink_axis_mask"] & bit:
            if length is not None and start is not None and not -length <= start < length:
                raise ValueError(f"index {start} is not in [{-length}, {length}), dimension {at - 1} of {before}")
            continue
        bounds = [
            None if masks["begin_mask"] & bit else begin,
            None if masks["end_mask"] & bit else end,
            strides,
        ]
        is_open = strides is None or (not masks["begin_mask"] & bit and begin is None)
        if is_open or (not masks["end_mask"] & bit and end is None):
            whole = masks["begin_mask"] & bit and masks["end_mask"] & bit and strides is not None
            sizes.append(length if whole and int(strides[place]) == 1 else None)  # type: ignore[index]
            continue
        key = slice(*(None if bound is None else int(bound[place]) for bound in bounds))
        if key.step == 0:
            raise ValueError("the step of a slice should not be 0")
        sizes.append(None if length is None else len(range(*key.indices(length))))
    return TensorShape([*sizes, *before[at:]])


_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


def gathered(known: Known) -> TensorShape:
    """With the shape of the indices instead of the dimension that the third input says."""
    before, indices = known.shapes[:2]
    if before.ndims == 0:
        raise ValueError("nothing can be gathered from a scalar")
    axis = known.number(2)
    if before.ndims is None or indices.ndims is None:
        return UNKNOWN
    if axis is None:
        return of_rank(before.ndims - 1 + indices.ndims)
    at = dimension(axis, before)
    batches = known.attributes.get("batch_dims", 0) % (indices.ndims + 1)
    if batches > at:
        raise ValueError(f"{batches} batch dimensions are more than those before dimension {at} of the shape {before}")
    outer = merged([before[:batches], indices[:batches]])
    return TensorShape([*outer, *before[batches:at], *indices[batches:], *before[at + 1 :]])


def gathered_nd(known: Known) -> TensorShape:
    """Of what indices name whose last dimension says how deep."""
    before, indices = known.shapes
    if indices.ndims == 0:
        raise ValueError("indices of places should have at least one dimension")
    depth = indices.size(-1)
    if before.ndims is None or depth is None:
        return UNKNOWN
    if depth > before.ndims:
        raise ValueError(f"indices of {depth} numbers for the {before.ndims} dimensions of the shape {before}")
    return TensorShape([*indices[:-1], *before[depth:]])


def places(known: Known) -> TensorShape:
    """Places of elements in a tensor, of which the number is not known."""
    return TensorShape([None, known.shapes[0].ndims])


# -- made from sizes --------------------------------------------------------------------------------


def filled(known: Known) -> TensorShape:
    """The shape that the first input says, filled with one element."""
    known.check_rank(1, 0)
    sizes = known.value(0)
    if sizes is not None and np.any(np.asarray(sizes) < 0):
        raise ValueError(f"a shape to fill should have no negative sizes, as {sizes.tolist()} has")
    return known.sizes(0)


def counted(known: Known) -> TensorShape:
    """As many numbers as there are from the first input up to the second, by steps of the third."""
    for index in range(3):
        known.check_rank(index, 0)
    start, limit, delta = (known.value(index) for index in range(3))
    if start is None or limit is None or delta is None:
        return of_rank(1)
    first, last, step = start.item(), limit.item(), delta.item()
    if step == 0 or (last - first) * step < 0:
        raise ValueError(f"{last} is not reached from {first} by steps of {step}")
    return TensorShape(
        [math.ceil((last - first) / step) if isinstance(first, float) else len(range(first, last, step))]
    )


def one_hot(known: Known) -> TensorShape:
    """With one more dimension, of the size that the second input says."""
    indices, depth, axis = known.shapes[0], known.number(1), known.attributes["axis"]
    if depth is not None and depth < 0:
        raise ValueError(f"the depth should not be negative, as {depth} is")
    for index in (2, 3):
        known.check_rank(index, 0)
    if indices.ndims is None:
        return UNKNOWN
    at = dimension(axis, indices, indices.ndims + 1)
    return TensorShape([*indices[:at], depth, *indices[at:]])
