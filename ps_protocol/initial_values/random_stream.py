"""Random numbers that are addressed by element, the same on every machine and in every release.

Element ``i`` of a variable is a function of word ``i`` of a stream of 64-bit words, and of nothing else, so any part
of a variable can be computed by itself. The words are those of Philox4x64-10 (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", 2011), a counter-based generator: NumPy promises that stream for good, which it does not
for its distributions. From the words on, only operations are used that IEEE 754 defines to the last bit (add,
multiply, divide, square root, comparison); even the logarithm is made of them, since libraries and instruction sets
disagree about its last digit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Words: TypeAlias = npt.NDArray[np.uint64]
Doubles: TypeAlias = npt.NDArray[np.float64]

LARGEST_NORMAL = 8.21
"""No standard normal number drawn here is farther from zero."""

_WORDS_PER_COUNT = 4
_EMPTY_BUFFER = np.zeros(_WORDS_PER_COUNT, dtype=np.uint64)


class WordStream:
    """The 64-bit random words of one variable. Not thread-safe.

    The key is BLAKE2b-128 of the name, salted with the seed; word ``i`` is word ``i % 4`` of the block that Philox
    makes of the counter ``i // 4 + 1``. Its highest 64 bits number the layers: streams of their own for words that
    have to be drawn again.

    Args:
        full_name: Full name of the whole variable, or "" where the words follow from the seed alone.
        seed: Any integer of 64 bits.
    """

    def __init__(self, full_name: str, seed: int):
        digest = hashlib.blake2b(
            full_name.encode(),
            digest_size=16,
            salt=seed.to_bytes(16, "little", signed=True),
            person=b"shardscope/init1",
        ).digest()
        self._key = np.frombuffer(digest, dtype="<u8").astype(np.uint64)
        self._philox = np.random.Philox(key=self._key)
        self._next = (0, 0)

    def words(self, start: int, count: int, layer: int = 0) -> Words:
        """Returns ``count`` words from word ``start`` of a layer on, as a new array; fast where the last call ended."""
        if (layer, start) == self._next:
            words = self._philox.random_raw(count)
        else:
            self._seek(start // _WORDS_PER_COUNT, layer)
            skipped = start % _WORDS_PER_COUNT
            words = self._philox.random_raw(skipped + count)[skipped:]
        self._next = (layer, start + count)
        return words

    def _seek(self, count: int, layer: int) -> None:
        # A new generator would take six times as long: it asks the system for entropy that is not used.
        self._philox.state = {
            "bit_generator": "Philox",
            "state": {"counter": np.array([count, 0, 0, layer], dtype=np.uint64), "key": self._key},
            "buffer": _EMPTY_BUFFER,
            "buffer_pos": _WORDS_PER_COUNT,
            "has_uint32": 0,
            "uinteger": 0,
        }


def unit_interval(words: Words) -> Doubles:
    """Returns numbers uniform in [0, 1), multiples of 2**-53. Overwrites ``words``."""
    np.right_shift(words, np.uint64(11), out=words)
    numbers = words.astype(np.float64)
    numbers *= 2.0**-53
    return numbers


def standard_normal(words: Words) -> Doubles:
    """Returns normal numbers of mean 0 and standard deviation 1. Overwrites ``words``."""
    return _normal_quantile(_centred_probability(words))


def truncated_standard_normal(words: Words) -> Doubles:
    """Returns standard normal numbers given that they lie within (-2, 2). Overwrites ``words``.

    The distribution is that of drawing again whatever lies outside, without the drawing.
    """
    centred = _centred_probability(words)
    centred *= _PROBABILITY_WITHIN_TWO
    return _normal_quantile(centred)


_PROBABILITY_WITHIN_TWO = 0.9544997361036416  # erf(sqrt(2))


def _centred_probability(words: Words) -> Doubles:
    """Returns numbers uniform in (-1/2, 1/2): odd multiples of 2**-53, so that neither end is reached."""
    np.right_shift(words, np.uint64(12), out=words)
    numbers = words.astype(np.float64)
    numbers -= 2.0**51 - 0.5
    numbers *= 2.0**-52
    return numbers


# Algorithm AS 241, PPND16 (Wichura, "The percentage points of the normal distribution", 1988): quotients of
# polynomials, the highest power first, for the centre, the tails and the far tails; about 16 digits.
_CENTRE = 0.425
_CENTRE_NUMERATOR = (
    2509.0809287301226727,
    33430.575583588128105,
    67265.770927008700853,
    45921.953931549871457,
    13731.693765509461125,
    1971.5909503065514427,
    133.14166789178437745,
    3.387132872796366608,
)
_CENTRE_DENOMINATOR = (
    5226.495278852854561,
    28729.085735721942674,
    39307.89580009271061,
    21213.794301586595867,
    5394.1960214247511077,
    687.1870074920579083,
    42.313330701600911252,
    1.0,
)
_TAIL_NUMERATOR = (
    7.7454501427834140764e-4,
    0.0227238449892691845833,
    0.24178072517745061177,
    1.27045825245236838258,
    3.64784832476320460504,
    5.7694972214606914055,
    4.6303378461565452959,
    1.42343711074968357734,
)
_TAIL_DENOMINATOR = (
    1.05075007164441684324e-9,
    5.475938084995344946e-4,
    0.0151986665636164571966,
    0.14810397642748007459,
    0.68976733498510000455,
    1.6763848301838038494,
    2.05319162663775882187,
    1.0,
)
_FAR_TAIL_NUMERATOR = (
    2.01033439929228813265e-7,
    2.71155556874348757815e-5,
    0.0012426609473880784386,
    0.026532189526576123093,
    0.29656057182850489123,
    1.7848265399172913358,
    5.4637849111641143699,
    6.6579046435011037772,
)
_FAR_TAIL_DENOMINATOR = (
    2.04426310338993978564e-15,
    1.4215117583164458887e-7,
    1.8463183175100546818e-5,
    7.868691311456132591e-4,
    0.0148753612908506148525,
    0.13692988092273580531,
    0.59983220655588793769,
    1.0,
)


def _normal_quantile(centred: Doubles) -> Doubles:
    """Returns the normal numbers below which a share of ``centred + 1/2`` of all lies."""
    square = centred * centred
    # The quotient is finite in the tails too, where it is of no use and is replaced.
    numbers = _quotient(_CENTRE * _CENTRE - square, _CENTRE_NUMERATOR, _CENTRE_DENOMINATOR)
    numbers *= centred
    tails = np.flatnonzero(square > _CENTRE * _CENTRE)
    in_tails = centred[tails]
    numbers[tails] = np.copysign(_upper_quantile(0.5 - np.abs(in_tails)), in_tails)
    return numbers


def _upper_quantile(share: Doubles) -> Doubles:
    """Returns the positive normal numbers above which a ``share`` of less than 0.075 lies."""
    root = np.sqrt(-_logarithm(share))
    numbers = _quotient(root - 1.6, _TAIL_NUMERATOR, _TAIL_DENOMINATOR)
    far = np.flatnonzero(root > 5.0)
    if far.size:
        numbers[far] = _quotient(root[far] - 5.0, _FAR_TAIL_NUMERATOR, _FAR_TAIL_DENOMINATOR)
    return numbers


_SQRT_HALF = 0.7071067811865476
_LN_2 = 0.6931471805599453
_ARTANH_SERIES = tuple(1.0 / power for power in range(21, 0, -2))


def _logarithm(numbers: Doubles) -> Doubles:
    """Returns natural logarithms of positive numbers.

    With x = m * 2**e and m in [sqrt(1/2), sqrt(2)): log(x) = e * log(2) + 2 artanh((m - 1) / (m + 1)), where the
    argument is at most 0.172 and eleven terms of the series give all digits.
    """
    mantissa, exponent = np.frexp(numbers)
    low = mantissa < _SQRT_HALF
    mantissa[low] *= 2.0
    exponent[low] -= 1
    argument = (mantissa - 1.0) / (mantissa + 1.0)
    return exponent * _LN_2 + 2.0 * argument * _polynomial(argument * argument, _ARTANH_SERIES)


def _quotient(numbers: Doubles, numerator: Sequence[float], denominator: Sequence[float]) -> Doubles:
    values = _polynomial(numbers, numerator)
    values /= _polynomial(numbers, denominator)
    return values


def _polynomial(numbers: Doubles, coefficients: Sequence[float]) -> Doubles:
    """Returns the values of a polynomial, its coefficients given with the highest power first."""
    values = numbers * coefficients[0]
    values += coefficients[1]
    for coefficient in coefficients[2:]:
        values *= numbers
        values += coefficient
    return values
