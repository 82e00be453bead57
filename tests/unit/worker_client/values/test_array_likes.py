"""What users hold as arrays: each is either what it means to its own library, or refused by name with the remedy."""

from __future__ import annotations

import array
import collections
import decimal
from collections.abc import Callable
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from ps_protocol.errors import (
    DTypeMismatchError,
    InvalidArgumentError,
    ShapeMismatchError,
    UnavailableError,
    ValueRangeError,
)
from ps_protocol.operations import VariableSpec
from worker_client.initializers.arrays import array_value, called_value, part_value
from worker_client.values.array_likes import array_of
from worker_client.values.conversion import convert, row_indices

NUMBERS = np.array([1, 2, 3])


def spec(dtype: npt.DTypeLike = np.float32) -> VariableSpec:
    return VariableSpec("scope/v", np.dtype(dtype), (3,))


# -- stand-ins for other libraries ------------------------------------------------------------------


class OnlyDlpack:
    """As some tensors of other libraries."""

    def __init__(self, kept: Any):
        self._kept = kept

    def __dlpack__(self, **options: Any) -> Any:
        return self._kept.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._kept.__dlpack_device__()


class OnlyInterface:
    def __init__(self, kept: npt.NDArray[Any]):
        self._kept = kept
        self.__array_interface__ = kept.__array_interface__


class Converted:
    """Makes an array of itself, as a JAX array or a pandas series does."""

    def __init__(self, kept: npt.NDArray[Any]):
        self._kept = kept

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self._kept if dtype is None else self._kept.astype(dtype)


class DtypeWithNa:
    """As pandas' nullable dtypes, where what is missing is not NaN."""

    na_value = object()


class Nullable(Converted):
    """As a series or a frame of pandas."""

    def __init__(self, kept: Any, *, missing: Any, dtype: Any):
        super().__init__(np.asarray(kept))
        self._missing = missing
        self.ndim = np.ndim(missing)
        self.dtypes = self.dtype = dtype

    def isna(self) -> npt.NDArray[Any]:
        return np.array(self._missing)


class NullCount(Converted):
    """As an array of Arrow, or a series of Polars, where it is a method."""

    def __init__(self, kept: Any, null_count: Any):
        super().__init__(np.asarray(kept))
        self.null_count = null_count


class Table(Converted):
    """As a table of Arrow."""

    def itercolumns(self) -> Any:
        return iter([NullCount([1.0], 0), NullCount([np.nan], 1)])


class Failing:
    """A tensor that wants to be asked otherwise: one that has a gradient, or is on a GPU."""

    def __init__(self, error: Exception):
        self._error = error

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        raise self._error


class Sparse:
    """As those of SciPy, of which NumPy makes an array of one object."""

    def toarray(self) -> npt.NDArray[Any]:
        raise AssertionError("a sparse matrix may be too large to be made dense unasked")


class OnGpu:
    __cuda_array_interface__: ClassVar[Any] = {}  # what it has does not matter


def on_device() -> OnlyDlpack:
    class Elsewhere(OnlyDlpack):
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("cannot export a tensor of device cuda:0")

    return Elsewhere(NUMBERS)


def read_only(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    values.flags.writeable = False
    return values


# -- what is right ----------------------------------------------------------------------------------

RIGHT: dict[str, Callable[[], Any]] = {
    "a list": lambda: [1, 2, 3],
    "a list of arrays": lambda: [np.array(1), np.float64(2), 3],
    "a list of tensors": lambda: [Converted(np.array(1.0)), OnlyDlpack(np.array(2.0)), 3],
    "a tuple": lambda: (1.0, 2, True + 2),
    "a range": lambda: range(1, 4),
    "a deque": lambda: collections.deque([1, 2, 3]),
    "big-endian": lambda: np.array([1, 2, 3], ">f4"),
    "big-endian doubles": lambda: np.array([1, 2, 3], ">f8"),
    "big-endian integers": lambda: np.array([1, 2, 3], ">i2"),
    "read-only": lambda: read_only(np.array([1, 2, 3], np.float32)),
    "reversed": lambda: np.array([3, 2, 1], np.float32)[::-1],
    "unaligned": lambda: np.frombuffer(b"\0" + np.array([1, 2, 3], np.float32).tobytes(), np.uint8)[1:].view("f4"),
    "objects": lambda: np.array([1, 2.0, 3], object),
    "bfloat16": lambda: np.array([1, 2, 3], ml_dtypes.bfloat16),
    "int4": lambda: np.array([1, 2, 3], ml_dtypes.int4),
    "long doubles": lambda: np.array([1, 2, 3], np.longdouble),
    "a memoryview": lambda: memoryview(array.array("f", [1, 2, 3])),
    "an array.array": lambda: array.array("h", [1, 2, 3]),
    "a bytearray": lambda: bytearray([1, 2, 3]),
    "__array__": lambda: Converted(NUMBERS),
    "__array_interface__": lambda: OnlyInterface(np.array([1, 2, 3], np.float32)),
    "__dlpack__": lambda: OnlyDlpack(np.array([1, 2, 3], np.float64)),
    "integers that may be missing": lambda: Nullable([1, 2, 3], missing=[False] * 3, dtype=DtypeWithNa()),
    "a series of Polars": lambda: NullCount([1, 2, 3], lambda: 0),
    "a subclass": lambda: np.array([1, 2, 3], np.float32).view(np.recarray),
}


@pytest.mark.parametrize("make", RIGHT.values(), ids=RIGHT)
def test_it_has_the_numbers_that_it_means(make: Callable[[], Any]) -> None:
    for converted in (
        convert(make(), spec()),
        array_value(make(), spec()),
        called_value(lambda *_, **__: make(), spec()),
    ):
        assert type(converted) is np.ndarray
        assert converted.dtype == np.float32
        assert converted.dtype.isnative
        assert converted.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "indices",
    [
        [1, 2, 3],
        range(1, 4),
        np.array([1, 2, 3], ">i4"),
        np.array([1, 2, 3], np.uint64),
        np.array([1, 2, 3], object),
        array.array("q", [1, 2, 3]),
        np.array([1, 2, 3], ml_dtypes.int4),
        Converted(NUMBERS),
        OnlyDlpack(NUMBERS),
    ],
)
def test_indices_are_taken_from_the_same_things(indices: Any) -> None:
    rows = row_indices(indices, spec())
    assert type(rows) is np.ndarray
    assert rows.dtype in (np.dtype(np.int32), np.dtype(np.int64))
    assert rows.tolist() == [1, 2, 3]


@pytest.mark.parametrize("value", [np.ones((2, 2), np.float32, order="F"), np.broadcast_to(np.float32(1), (2, 2))])
def test_what_needs_no_conversion_is_passed_on_as_it_lies(value: Any) -> None:
    assert convert(value, spec()) is value
    assert convert(value, spec(), copy=True).flags.c_contiguous


def test_where_missing_is_nan_to_the_library_itself_it_is_nan_here() -> None:
    series = Nullable([1.0, np.nan], missing=[False, True], dtype=np.dtype(float))
    frame = Nullable([[1.0, np.nan]], missing=[[False, True]], dtype=[DtypeWithNa(), np.dtype(float)])
    for value in (series, frame):
        assert np.array_equal(convert(value, spec()), value, equal_nan=True)


def test_text_stays_text_also_as_objects() -> None:
    assert array_of(["a", "bc"], "here").tolist() == ["a", "bc"]
    assert array_of(np.array([b"a", "bc"], object), "here").tolist() == [b"a", "bc"]


# -- what is refused --------------------------------------------------------------------------------

MASKED = np.ma.array([1.0, 1e30, 3.0], mask=[False, True, False])
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "masked": (lambda: MASKED, "is masked.*fill it"),
    "masked without a mask": (lambda: np.ma.array([1.0, 2.0, 3.0]), "is masked.*fill it"),
    "masked integers": (lambda: np.ma.array([0, 1], mask=[False, True]), "is masked.*fill it"),
    "the masked element": (lambda: np.ma.masked, "is masked.*fill it"),
    "a list with a masked element": (lambda: [1.0, np.ma.masked], "is masked.*fill it"),
    "a list of masked arrays": (lambda: [[MASKED], [MASKED]], "is masked.*fill it"),
    "what makes a masked array of itself": (lambda: Converted(MASKED), "is masked.*fill it"),
    "a missing integer": (
        lambda: Nullable([1.0, np.nan], missing=[False, True], dtype=DtypeWithNa()),
        "missing elements.*fill",
    ),
    "a frame with a missing integer": (
        lambda: Nullable([[1.0, 0.0]], missing=[[False, True]], dtype=[np.dtype(float), DtypeWithNa()]),
        "missing elements.*fill",
    ),
    "a missing element of Arrow": (lambda: NullCount([1.0, np.nan], 1), "missing elements.*fill"),
    "a missing element of Polars": (lambda: NullCount([1.0, np.nan], lambda: 1), "missing elements.*fill"),
    "a table with a missing element": (lambda: Table(np.array([[1.0, np.nan]])), "missing elements.*fill"),
    "None": (lambda: None, "is None"),
    "a list with None": (lambda: [[1.0], [None]], "is None"),
    "objects with gaps": (lambda: np.array([1, None], object), r"Python objects \(NoneType\).*without gaps"),
    "numbers that NumPy does not know": (lambda: [decimal.Decimal(1)], "Decimal, of which NumPy makes no array"),
    "structured": (lambda: np.zeros(3, [("a", "f4"), ("b", "f4")]), "structured array.*fields: a, b"),
    "dates": (lambda: np.zeros(3, "M8[D]"), r"times \(datetime64\[D\]\).*astype"),
    "durations": (lambda: np.zeros(3, "m8[s]"), r"times \(timedelta64\[s\]\).*astype"),
    "raw memory": (lambda: np.zeros(3, "V2"), r"holds \|V2"),
    "a generator": (lambda: (each for each in [1, 2, 3]), "is a generator"),
    "a set": (lambda: {1, 2, 3}, "is a set"),
    "a dictionary": (lambda: {"a": 1}, "is a dictionary"),
    "text and numbers": (lambda: [1, "2", 3], "text and numbers"),
    "sparse": (Sparse, r"is a sparse Sparse.*value\.toarray\(\)"),
    "a tensor with a gradient": (
        lambda: Failing(RuntimeError("Can't call numpy() on Tensor that requires grad.\nUse tensor.detach().numpy()")),
        r"is a Failing .*requires grad\. Use tensor\.detach\(\).*make a NumPy array of it first",
    ),
    "a tensor on a GPU": (lambda: Failing(TypeError("can't convert cuda:0 device type tensor")), "cuda:0"),
    "DLPack on a GPU": (on_device, "cuda:0"),
    "memory on a GPU": (OnGpu, "OnGpu on a GPU.*host"),
    "a list of many dimensions": (lambda: nested(70), "more than 64 dimensions"),
}


def nested(depth: int) -> Any:
    value: Any = Converted(NUMBERS)
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_array_of_numbers_is_refused_by_name(make: Callable[[], Any], message: str) -> None:
    for take in (
        lambda: convert(make(), spec()),
        lambda: convert(make(), spec(), copy=True),
        lambda: array_value(make(), spec()),
        lambda: part_value(make(), spec()),
        lambda: called_value(lambda *_, **__: make(), spec()),
        lambda: row_indices(make(), spec()),
    ):
        with pytest.raises(DTypeMismatchError, match=rf"variable scope/v: .*{message}") as caught:
            take()  # type: ignore[no-untyped-call] # a lambda
        assert caught.value.variable == "scope/v"


@pytest.mark.parametrize("value", [[[1, 2], [3]], [np.ones(2), np.ones(3)], [1.0, [2.0]]])
def test_ragged_lists_are_refused_by_name(value: Any) -> None:
    for take in (convert, array_value, part_value, row_indices):
        with pytest.raises(ShapeMismatchError, match=r"variable scope/v: .*rows differ in length"):
            take(value, spec())


def test_errors_of_a_cluster_pass_through() -> None:
    """A variable of a ps that is away is a value like others, but its error says more than that it is no array."""
    with pytest.raises(UnavailableError, match=r"^away$"):
        convert(Failing(UnavailableError("away")), spec())


# -- ranges -----------------------------------------------------------------------------------------

BEYOND: list[tuple[Any, str]] = [
    ([2**40 + 5], "int32"),
    (np.array([2**40 + 5]), "int32"),
    (np.int64(2**40 + 5), "int32"),
    (np.array([1, -1]), "uint8"),
    (np.array([256], np.uint16), "uint8"),
    (np.array([128], np.uint8), "int8"),
    (np.uint64(2**63), "int64"),
    (2**63, "int64"),
    (2**70, "int64"),
    ([2**70, 1], "uint64"),
    ([2**64 - 1, -1], "uint64"),
    ([-(2**63) - 1], "int64"),
    (np.array([2**70, 0], object), "int64"),
    (Converted(np.array([300])), "int8"),
    (np.array([8]), "int4"),
    (1e39, "float32"),
    (np.array([1e300, np.inf]), "float32"),
    (np.array([1, 70_000]), "float16"),
    (np.array([1e39]), "bfloat16"),
    (np.array([3.4e38], np.float32), "bfloat16"),
    (np.array([np.inf]), "float8_e4m3fn"),
    (np.array([1e9]), "float8_e4m3fn"),
    (np.array([6.5]), "float4_e2m1fn"),
    (np.array([np.nan]), "float4_e2m1fn"),
    (1e39 + 1j, "complex64"),
    (2**2000, "float64"),
]


@pytest.mark.parametrize(("value", "dtype"), BEYOND)
def test_a_number_beyond_the_range_is_refused_wherever_it_comes_from(value: Any, dtype: str) -> None:
    variable = VariableSpec("scope/v", np.dtype(getattr(ml_dtypes, dtype, dtype)), (1,))
    for take in (convert, array_value):
        with pytest.raises(
            ValueRangeError, match=rf"scope/v.* out of its range: .* out of the range of {dtype}"
        ) as caught:
            take(value, variable)
        assert isinstance(caught.value, InvalidArgumentError)
        assert isinstance(caught.value, ValueError)
        assert caught.value.variable == "scope/v"


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (np.array([0, 255]), "uint8", [0, 255]),
        (np.array([2**63 - 1], np.uint64), "int64", [2**63 - 1]),
        ([2**64 - 1, 0], "uint64", [2**64 - 1, 0]),
        ([2**63], "float32", [2.0**63]),
        ([2**70, 1.5], "float64", [2.0**70, 1.5]),
        (np.array([True]), "int8", [1]),
        ([np.inf, -np.inf], "float32", [np.inf, -np.inf]),
        (np.array([np.inf]), "bfloat16", [np.inf]),
        (np.array([449.0]), "float8_e4m3fn", [448.0]),
        (np.array([6.0, -0.4]), "float4_e2m1fn", [6.0, -0.5]),
        ([], "int32", []),
        ([], "S4", []),
    ],
)
def test_what_is_within_the_range_is_kept(value: Any, dtype: str, expected: Any) -> None:
    variable = VariableSpec("scope/v", np.dtype(getattr(ml_dtypes, dtype, dtype)), (1,))
    for converted in (convert(value, variable), array_value(value, variable)):
        assert converted.dtype == variable.dtype
        assert converted.tolist() == expected


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
@pytest.mark.parametrize("value", [[np.nan], 1.5, np.array([1.0]), 1j])
def test_floats_are_no_integers_nan_least_of_all(value: Any, dtype: str) -> None:
    for take in (convert, array_value):
        with pytest.raises(DTypeMismatchError, match=f"scope/v holds {dtype}, .* is (float|complex)"):
            take(value, spec(dtype))


@pytest.mark.parametrize("indices", [np.array([2**64 - 1], np.uint64), [2**64 - 1, 0], 2**70])
def test_an_index_beyond_int64_is_called_by_its_number(indices: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"scope/v: the index .*{np.max(np.array(indices, object))}"):
        row_indices(indices, spec())


def test_without_a_dtype_integers_take_the_one_that_holds_them() -> None:
    assert array_of([2**64 - 1, 0], "here").dtype == np.uint64
    with pytest.raises(ValueRangeError, match="here: the value is out of its range"):
        array_of([2**64 - 1, -1], "here")
