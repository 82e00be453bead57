from __future__ import annotations

import hashlib
from statistics import NormalDist

import numpy as np
import pytest

from ps_protocol.initial_values.random_stream import (
    LARGEST_NORMAL,
    Words,
    WordStream,
    standard_normal,
    truncated_standard_normal,
    unit_interval,
)

_MASK = 2**64 - 1


def philox_block(counter: int, key: int) -> list[int]:
    """Philox4x64-10 as its paper has it."""
    words = [counter >> shift & _MASK for shift in (0, 64, 128, 192)]
    keys = [key & _MASK, key >> 64]
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * words[0], 0xCA5A826395121157 * words[2]
        words = [second >> 64 ^ words[1] ^ keys[0], second & _MASK, first >> 64 ^ words[3] ^ keys[1], first & _MASK]
        keys = [keys[0] + 0x9E3779B97F4A7C15 & _MASK, keys[1] + 0xBB67AE8584CAA73B & _MASK]
    return words


def expected_word(name: str, seed: int, index: int, layer: int = 0) -> int:
    salt = seed.to_bytes(16, "little", signed=True)
    digest = hashlib.blake2b(name.encode(), digest_size=16, salt=salt, person=b"shardscope/init1").digest()
    return philox_block((layer << 192) + index // 4 + 1, int.from_bytes(digest, "little"))[index % 4]


@pytest.mark.parametrize(("name", "seed"), [("conv1/weights", 42), ("", 0), ("größe", -(2**63)), ("v", 2**63 - 1)])
def test_words_are_philox_under_a_key_hashed_from_name_and_seed(name: str, seed: int) -> None:
    words = WordStream(name, seed).words(0, 9)
    assert words.tolist() == [expected_word(name, seed, index) for index in range(9)]


def test_any_stretch_of_words_can_be_read_in_any_order() -> None:
    whole = WordStream("w", 1).words(0, 60)
    stream = WordStream("w", 1)
    for start, count in [(3, 7), (10, 5), (15, 1), (1, 49), (0, 60), (17, 0), (17, 3)]:
        np.testing.assert_array_equal(stream.words(start, count), whole[start : start + count])


def test_words_far_out_need_not_be_counted_up_to() -> None:
    index = 2**62 + 5
    assert WordStream("w", 1).words(index, 1).tolist() == [expected_word("w", 1, index)]


def test_layers_are_streams_of_their_own() -> None:
    stream = WordStream("w", 1)
    stream.words(0, 8)
    assert stream.words(8, 2, layer=3).tolist() == [expected_word("w", 1, 8, 3), expected_word("w", 1, 9, 3)]
    assert stream.words(8, 2).tolist() == [expected_word("w", 1, 8), expected_word("w", 1, 9)]


def test_the_words_are_those_of_the_first_release() -> None:
    assert WordStream("conv1/weights", 42).words(0, 3).tolist() == GOLDEN_WORDS


def test_unit_interval_reaches_zero_but_never_one() -> None:
    assert unit_interval(words_of(0, 2**11 - 1, 2**11, _MASK)).tolist() == [0.0, 0.0, 2.0**-53, 1.0 - 2.0**-53]


def test_normal_numbers_follow_the_quantile_function() -> None:
    words = np.concatenate([WordStream("w", 1).words(0, 20_000), words_of(*(1 << bit for bit in range(12, 64)))])
    share = (words >> np.uint64(12)).astype(np.float64) * 2.0**-52 + 2.0**-53
    numbers = standard_normal(words.copy())
    # The reference loses digits near one, where the mirrored share is exact.
    lower = np.array([NormalDist().inv_cdf(min(each, 1.0 - each)) for each in share])
    np.testing.assert_allclose(numbers, np.where(share < 0.5, lower, -lower), rtol=4e-15, atol=1e-15)


def test_the_ends_of_the_normal_distribution_are_finite_and_symmetric() -> None:
    least, greatest = standard_normal(words_of(0, _MASK)).tolist()
    assert least == -greatest
    assert greatest == pytest.approx(-NormalDist().inv_cdf(2.0**-53), rel=1e-14)
    assert 8.2 < greatest <= LARGEST_NORMAL


def test_truncated_numbers_reach_two_standard_deviations_and_stop() -> None:
    least, greatest = truncated_standard_normal(words_of(0, _MASK)).tolist()
    assert least == -greatest
    assert 2.0 - 1e-14 < greatest < 2.0


def test_truncation_is_that_of_drawing_again() -> None:
    words = WordStream("w", 1).words(0, 100_000)
    normal = standard_normal(words.copy())
    accepted, truncated = np.sort(normal[np.abs(normal) <= 2.0]), np.sort(truncated_standard_normal(words))
    probabilities = np.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(
        np.quantile(truncated, probabilities), np.quantile(accepted, probabilities), rtol=0, atol=0.02
    )


def words_of(*words: int) -> Words:
    return np.array(words, dtype=np.uint64)


GOLDEN_WORDS = [3426650892182183480, 2110023965503002869, 4344359188424921172]
