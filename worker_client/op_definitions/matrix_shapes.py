"""Works out the shapes of what functions of matrices make, in the last two dimensions; see ``shape_functions``."""

from __future__ import annotations

from worker_client.op_definitions.shape_functions import UNKNOWN, Known, Size, broadcast_shapes, merged, same_size
from worker_client.values.shapes import TensorShape


def matrices(known: Known) -> TensorShape:
    """The same, matrices."""
    return _matrices(known.shapes[0])


def square(known: Known) -> TensorShape:
    """The same, square matrices."""
    shape = _matrices(known.shapes[0])
    if shape.ndims is None:
        return UNKNOWN
    size = same_size(shape.size(-2), shape.size(-1), f"those of square matrices, not of the shape {shape}")
    return TensorShape([*shape[:-2], size, size])


def of_each(known: Known) -> TensorShape:
    """One element for each square matrix."""
    shape = square(known)
    return UNKNOWN if shape.ndims is None else shape[:-2]


def solution(known: Known) -> TensorShape:
    """As many rows as square matrices, and columns as the second input has."""
    one, two = square(known), _matrices(known.shapes[1])
    if one.ndims is None or two.ndims is None:
        return UNKNOWN
    size = same_size(one.size(-1), two.size(-2), f"to solve matrices of the shapes {one} and {two}")
    return TensorShape([*merged([one[:-2], two[:-2]]), size, two.size(-1)])


def twice(known: Known) -> TensorShape:
    """The dimensions, and the same ones again."""
    shape = known.shapes[0]
    if shape.ndims == 0:
        raise ValueError("a scalar has no diagonal")
    return UNKNOWN if shape.ndims is None else TensorShape([*shape, *shape])


def half(known: Known) -> TensorShape:
    """The dimensions that come twice."""
    shape = known.shapes[0]
    if shape.ndims is None:
        return UNKNOWN
    if not shape.ndims or shape.ndims % 2:
        raise ValueError(f"the shape {shape} should be some dimensions and the same again")
    middle = shape.ndims // 2
    return merged([shape[:middle], shape[middle:]])


def with_diagonal(known: Known) -> TensorShape:
    """Matrices of so many rows and columns as the third and fourth input say, or square ones of the diagonals."""
    diagonal = known.shapes[0]
    if diagonal.ndims is None:
        return UNKNOWN
    if not diagonal.ndims:
        raise ValueError("a scalar is no diagonal")
    rows, columns = known.number(2), known.number(3)
    if rows is None or columns is None:
        return TensorShape([*diagonal[:-1], None, None])
    length = diagonal.size(-1)
    sizes: list[Size] = [rows, columns]
    if -1 in sizes:
        other = max(sizes, key=lambda size: size or 0)
        sizes = [length if other == -1 else other, length if other == -1 else other]
    return TensorShape([*diagonal[:-1], *sizes])


def diagonal(known: Known) -> TensorShape:
    """The diagonals of matrices."""
    shape = _matrices(known.shapes[0])
    if shape.ndims is None:
        return UNKNOWN
    rows, columns = shape[-2:]
    return TensorShape([*shape[:-2], None if rows is None or columns is None else min(rows, columns)])


def with_other_diagonal(known: Known) -> TensorShape:
    """The same, where the diagonals fit."""
    shape = _matrices(known.shapes[0])
    other = known.shapes[1]
    if shape.ndims is None or other.ndims is None:
        return shape
    rows, columns = shape[-2:]
    length = None if rows is None or columns is None else min(rows, columns)
    if not other.is_compatible_with([*shape[:-2], length]):
        raise ValueError(f"diagonals of the shape {other} do not fit matrices of the shape {shape}")
    return shape


def summed_products(known: Known) -> TensorShape:
    """What an equation says of the sizes of the inputs."""
    equation = known.attributes["equation"].decode().replace(" ", "")
    terms, arrow, result = equation.partition("->")
    names = terms.split(",")
    if len(names) != len(known.shapes):
        raise ValueError(f"the equation {equation!r} is for {len(names)} inputs, not for {len(known.shapes)}")
    if not arrow:
        letters = terms.replace(",", "").replace("...", "")
        result = "..." * ("..." in terms) + "".join(sorted(each for each in letters if letters.count(each) == 1))
    sizes: dict[str, Size] = {}
    spread = TensorShape([])
    for name, shape in zip(names, known.shapes, strict=True):
        if shape.ndims is None:
            spread = UNKNOWN if "..." in name else spread
            continue
        before, dots, behind = name.partition("...")
        middle = shape.ndims - len(before) - len(behind)
        if middle < 0 or (middle and not dots):
            raise ValueError(f"the equation {equation!r} does not fit the shape {shape}")
        ends = [*shape[: len(before)], *shape[shape.ndims - len(behind) :]]
        for letter, size in zip(before + behind, ends, strict=True):
            sizes[letter] = same_size(sizes.get(letter), size, f"those of {letter!r} in the equation {equation!r}")
        if dots:
            spread = broadcast_shapes(spread, shape[len(before) : len(before) + middle])
    before, dots, behind = result.partition("...")
    if dots and spread.ndims is None:
        return UNKNOWN
    around = [[sizes.get(letter) for letter in part] for part in (before, behind)]
    return TensorShape([*around[0], *(spread if dots else []), *around[1]])


def _matrices(shape: TensorShape) -> TensorShape:
    if shape.ndims is not None and shape.ndims < 2:
        raise ValueError(f"a matrix has two dimensions or more, not the shape {shape}")
    return shape
