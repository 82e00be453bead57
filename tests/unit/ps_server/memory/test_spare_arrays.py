from __future__ import annotations

import numpy as np

from ps_protocol.operations import Array, VariableSpec
from ps_server.memory.lent_arrays import LendableArray
from ps_server.memory.spare_arrays import SpareArrays, prepared_array


def spec(num_elements: int, dtype: type = np.float32) -> VariableSpec:
    return VariableSpec("w", np.dtype(dtype), (num_elements,))


def kept(spares: SpareArrays, num_elements: int, dtype: type = np.float32) -> Array:
    array: Array = np.empty(num_elements, dtype)
    spares.keep(LendableArray(array))
    return array


def test_a_spare_is_given_out_once() -> None:
    spares = SpareArrays(100)
    array = kept(spares, 5)
    assert spares.used_bytes == 20
    assert spares.take(spec(5)) is array
    assert spares.used_bytes == 0
    assert spares.take(spec(5)) is not array


def test_a_spare_fits_in_dtype_and_shape() -> None:
    spares = SpareArrays(100)
    array = kept(spares, 5)
    for each in (spec(4), spec(5, np.int32)):
        other = spares.take(each)
        assert other is not array
        assert (other.dtype, other.shape) == (each.dtype, each.shape)


def test_a_spare_that_is_lent_is_not_given_out_before_it_comes_back() -> None:
    spares = SpareArrays(100)
    lent, free = LendableArray(np.zeros(5, np.float32)), LendableArray(np.zeros(5, np.float32))
    view = lent.lend()
    spares.keep(lent)
    assert spares.take(spec(5)) is not lent.array
    spares.keep(free)
    assert spares.take(spec(5)) is free.array
    del view
    assert spares.take(spec(5)) is lent.array


def test_the_oldest_kinds_give_way_to_new_ones() -> None:
    spares = SpareArrays(50)
    oldest, old = kept(spares, 5), kept(spares, 5)
    new = kept(spares, 6)
    assert spares.used_bytes == 44
    assert spares.take(spec(5)) is old
    assert spares.take(spec(6)) is new
    assert spares.take(spec(5)) is not oldest


def test_a_kind_of_which_all_spares_were_taken_can_give_way_to_nothing() -> None:
    spares = SpareArrays(50)
    kept(spares, 5)
    spares.take(spec(5))
    kept(spares, 6)
    array = kept(spares, 7)
    assert spares.used_bytes == 28
    assert spares.take(spec(7)) is array


def test_what_is_larger_than_the_limit_is_not_kept_and_drives_nothing_out() -> None:
    spares = SpareArrays(50)
    array = kept(spares, 5)
    kept(spares, 13)
    assert spares.used_bytes == 20
    assert spares.take(spec(5)) is array


def test_a_prepared_array_has_the_shape_and_dtype_asked_for() -> None:
    for shape in [(), (0, 3), (100_000, 2)]:
        array = prepared_array(shape, np.dtype(np.float32))
        assert (array.shape, array.dtype) == (shape, np.dtype(np.float32))
        assert array.flags.c_contiguous
        assert array.flags.writeable
